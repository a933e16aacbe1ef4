//! Tracks the open connections of an HTTP listener and chooses which one to close at a limit.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::model::Peer;

/// Limits of an HTTP listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpLimits {
    /// Open connections.
    pub connections: usize,
    /// Bytes of all bodies that were received and not yet handled.
    pub body_bytes: usize,
    /// Bytes of one body.
    pub max_body: usize,
    /// Time limits.
    pub timeouts: HttpTimeouts,
}

/// Time limits of an HTTP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpTimeouts {
    /// From the end of a response, or from the connect, to the end of the next request's header.
    pub header: Duration,
    /// From the end of a request's header to the end of its body.
    pub body: Duration,
    /// From the handler's return until the client has read the response.
    pub response: Duration,
}

impl Default for HttpTimeouts {
    fn default() -> Self {
        Self {
            header: Duration::from_secs(30),
            body: Duration::from_secs(10),
            response: Duration::from_secs(60),
        }
    }
}

/// The open connections of a listener.
#[derive(Debug)]
pub(super) struct ConnectionTable {
    limits: HttpLimits,
    open: Mutex<Vec<Arc<TrackedConnection>>>,
    body_bytes: AtomicUsize,
}

/// The state of one connection, shared between its task and the table.
#[derive(Debug)]
struct TrackedConnection {
    peer: Peer,
    evicted: Notify,
    phase: Mutex<Phase>,
    body_bytes: AtomicUsize,
}

/// What a connection is doing, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// A handler runs: the server is not waiting for the client.
    Handling { since: Instant },
    /// The server waits for a request, or for the rest of one.
    Receiving { since: Instant },
    /// The client has to read the response by the deadline. Lasts until the next request.
    Sending { since: Instant, deadline: Instant },
}

impl Phase {
    const fn since(self) -> Instant {
        match self {
            Self::Handling { since } | Self::Receiving { since } | Self::Sending { since, .. } => {
                since
            }
        }
    }

    const fn is_handling(self) -> bool {
        matches!(self, Self::Handling { .. })
    }
}

/// An entry of the [`ConnectionTable`], removed on drop.
#[derive(Debug)]
pub(super) struct TableEntry {
    table: Arc<ConnectionTable>,
    connection: Arc<TrackedConnection>,
}

/// A body's share of the listener's body bytes, released on drop.
#[derive(Debug)]
pub(super) struct BodyReservation<'a> {
    entry: &'a TableEntry,
    bytes: usize,
}

impl ConnectionTable {
    pub(super) fn new(limits: HttpLimits) -> Self {
        Self {
            limits,
            open: Mutex::default(),
            body_bytes: AtomicUsize::new(0),
        }
    }

    /// Adds a connection. At the limit, it evicts one of the client with the most connections first
    /// ([`eviction_candidate`]). Returns `None` if the new connection is the one to refuse.
    pub(super) fn insert(self: &Arc<Self>, peer: Peer, now: Instant) -> Option<TableEntry> {
        let connection = Arc::new(TrackedConnection {
            peer,
            evicted: Notify::new(),
            phase: Mutex::new(Phase::Receiving { since: now }),
            body_bytes: AtomicUsize::new(0),
        });
        let mut open = self.open.lock();
        if open.len() >= self.limits.connections {
            let candidate = eviction_candidate(&open, peer)?;
            open.swap_remove(candidate).evicted.notify_one();
        }
        open.push(Arc::clone(&connection));
        drop(open);
        Some(TableEntry {
            table: Arc::clone(self),
            connection,
        })
    }

    /// Evicts another connection whose unfinished body is at least as large as that of `requester`.
    /// Returns `false` if there is none.
    fn evict_larger_body(&self, requester: &Arc<TrackedConnection>) -> bool {
        let own = requester.body_bytes.load(Ordering::Relaxed);
        let mut open = self.open.lock();
        let largest = open
            .iter()
            .enumerate()
            .filter(|(_, other)| !Arc::ptr_eq(other, requester))
            .filter(|(_, other)| !other.phase.lock().is_handling())
            .map(|(index, other)| (index, other.body_bytes.load(Ordering::Relaxed)))
            .filter(|(_, bytes)| *bytes >= own)
            .max_by_key(|(_, bytes)| *bytes);
        let Some((index, _)) = largest else {
            return false;
        };
        open.swap_remove(index).evicted.notify_one();
        true
    }

    #[cfg(test)]
    pub(super) fn body_bytes(&self) -> usize {
        self.body_bytes.load(Ordering::Relaxed)
    }
}

/// Returns the index of the connection to evict for a new one of `peer`: of the client with the most
/// connections, the one that has been waiting longest. If that client has only requests being
/// handled, the oldest of them, unless the client is `peer` itself: then `None`.
fn eviction_candidate(open: &[Arc<TrackedConnection>], peer: Peer) -> Option<usize> {
    let mut counts: HashMap<Option<IpAddr>, usize> = HashMap::new();
    for connection in open {
        let count = counts.entry(connection.peer.client()).or_default();
        *count = count.saturating_add(1);
    }
    let most = counts.values().copied().max()?;
    let of_greediest = open.iter().enumerate().filter_map(|(index, connection)| {
        let client = connection.peer.client();
        (counts.get(&client) == Some(&most)).then(|| (index, client, *connection.phase.lock()))
    });
    let (index, greediest, phase) =
        of_greediest.min_by_key(|(.., phase)| (phase.is_handling(), phase.since()))?;
    (!phase.is_handling() || greediest != peer.client()).then_some(index)
}

impl TableEntry {
    pub(super) fn peer(&self) -> Peer {
        self.connection.peer
    }

    pub(super) fn limits(&self) -> HttpLimits {
        self.table.limits
    }

    /// Completes when this connection has been evicted.
    pub(super) async fn evicted(&self) {
        self.connection.evicted.notified().await;
    }

    /// Records that the server waits for the client to send.
    pub(super) fn set_receiving(&self, now: Instant) {
        *self.connection.phase.lock() = Phase::Receiving { since: now };
    }

    /// Records that a handler runs.
    pub(super) fn set_handling(&self, now: Instant) {
        *self.connection.phase.lock() = Phase::Handling { since: now };
    }

    /// Records that the client has to read a response within the timeout.
    pub(super) fn set_sending(&self, now: Instant) {
        *self.connection.phase.lock() = Phase::Sending {
            since: now,
            deadline: now + self.limits().timeouts.response,
        };
    }

    /// Returns when to check [`Self::is_overdue`] next.
    pub(super) fn next_check(&self, now: Instant) -> Instant {
        match *self.connection.phase.lock() {
            Phase::Sending { deadline, .. } => deadline,
            // No response that starts later is overdue before that.
            Phase::Handling { .. } | Phase::Receiving { .. } => {
                now + self.limits().timeouts.response
            }
        }
    }

    /// Returns whether the client has not read the response in time.
    pub(super) fn is_overdue(&self, now: Instant) -> bool {
        matches!(*self.connection.phase.lock(), Phase::Sending { deadline, .. } if deadline <= now)
    }

    /// Starts a reservation of zero bytes.
    pub(super) fn reserve(&self) -> BodyReservation<'_> {
        BodyReservation {
            entry: self,
            bytes: 0,
        }
    }
}

impl Drop for TableEntry {
    fn drop(&mut self) {
        let mut open = self.table.open.lock();
        let own = open
            .iter()
            .position(|other| Arc::ptr_eq(other, &self.connection));
        if let Some(index) = own {
            open.swap_remove(index);
        }
    }
}

impl BodyReservation<'_> {
    /// Adds bytes. Over the listener's limit, it evicts the connection with the largest unfinished body;
    /// returns `false` if this one is larger than all others.
    pub(super) fn grow(&mut self, bytes: usize) -> bool {
        let TableEntry { table, connection } = self.entry;
        self.bytes = self.bytes.saturating_add(bytes);
        connection.body_bytes.store(self.bytes, Ordering::Relaxed);
        let before = table.body_bytes.fetch_add(bytes, Ordering::Relaxed);
        before.saturating_add(bytes) <= table.limits.body_bytes
            || table.evict_larger_body(connection)
    }
}

impl Drop for BodyReservation<'_> {
    fn drop(&mut self) {
        let TableEntry { table, connection } = self.entry;
        table.body_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        connection.body_bytes.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: HttpLimits = HttpLimits {
        connections: 4,
        body_bytes: 100,
        max_body: 100,
        timeouts: HttpTimeouts {
            header: Duration::from_secs(1),
            body: Duration::from_secs(1),
            response: Duration::from_secs(1),
        },
    };

    /// A table, and the time in seconds.
    struct Listener {
        table: Arc<ConnectionTable>,
        start: Instant,
    }

    impl Listener {
        fn new() -> Self {
            Self {
                table: Arc::new(ConnectionTable::new(LIMITS)),
                start: Instant::now(),
            }
        }

        fn at(&self, seconds: u64) -> Instant {
            self.start + Duration::from_secs(seconds)
        }

        fn connect(&self, ip: &str, seconds: u64) -> Option<TableEntry> {
            let peer = Peer::Tcp((ip.parse::<IpAddr>().unwrap(), 1).into());
            self.table.insert(peer, self.at(seconds))
        }

        fn is_open(&self, entry: &TableEntry) -> bool {
            let open = self.table.open.lock();
            open.iter()
                .any(|other| Arc::ptr_eq(other, &entry.connection))
        }

        fn open(&self, entries: &[Option<TableEntry>]) -> Vec<bool> {
            let is_open = |entry: &Option<TableEntry>| self.is_open(entry.as_ref().unwrap());
            entries.iter().map(is_open).collect()
        }
    }

    #[test]
    fn the_client_with_the_most_connections_loses_one() {
        for (one, other) in [("10.0.0.1", "10.0.0.2"), ("2001:db8::1", "2001:db8:0:1::1")] {
            let listener = Listener::new();
            let entries = [
                listener.connect(one, 0),
                listener.connect(other, 1),
                listener.connect(other, 2),
                listener.connect(other, 3),
            ];
            let new = listener.connect(one, 4).unwrap();
            assert!(listener.is_open(&new));
            assert_eq!(listener.open(&entries), [true, false, true, true]);
        }
    }

    #[test]
    fn addresses_of_one_ipv6_network_are_one_client() {
        let listener = Listener::new();
        let entries = [
            listener.connect("10.0.0.1", 0),
            listener.connect("2001:db8::1", 1),
            listener.connect("2001:db8::2", 2),
            listener.connect("2001:db8::3", 3),
        ];
        let _new = listener.connect("10.0.0.1", 4).unwrap();
        assert_eq!(listener.open(&entries), [true, false, true, true]);
    }

    #[test]
    fn an_idle_connection_is_evicted_by_the_end_of_its_last_response() {
        let listener = Listener::new();
        let entries = [0, 1, 2, 3].map(|second| listener.connect("10.0.0.1", second));
        entries[0].as_ref().unwrap().set_sending(listener.at(4));
        let _new = listener.connect("10.0.0.1", 5).unwrap();
        assert_eq!(listener.open(&entries), [true, false, true, true]);
        entries[2].as_ref().unwrap().set_receiving(listener.at(6));
        entries[3].as_ref().unwrap().set_receiving(listener.at(6));
        let _newer = listener.connect("10.0.0.1", 7).unwrap();
        assert_eq!(listener.open(&entries), [false, false, true, true]);
    }

    #[test]
    fn requests_in_progress_do_not_lock_other_clients_out() {
        let listener = Listener::new();
        let entries = [0, 1, 2, 3].map(|second| listener.connect("10.0.0.1", second));
        for entry in entries.iter().flatten() {
            entry.set_handling(listener.at(4));
        }
        // They are spared for their own client.
        assert!(listener.connect("10.0.0.1", 5).is_none());
        assert_eq!(listener.open(&entries), [true; 4]);
        let other = listener.connect("10.0.0.2", 5).unwrap();
        assert!(listener.is_open(&other));
        assert_eq!(
            listener.open(&entries).iter().filter(|open| **open).count(),
            3
        );
        // The greedy client gets its place back from itself, if at all.
        assert!(listener.connect("10.0.0.1", 6).is_none());
        assert!(listener.is_open(&other));
    }

    #[test]
    fn over_the_limit_the_largest_unfinished_body_is_evicted() {
        let listener = Listener::new();
        let entries = [0, 1, 2, 3].map(|second| listener.connect("10.0.0.1", second));
        let [first, second, third, _] = entries.each_ref().map(|entry| entry.as_ref().unwrap());
        let (mut large, mut larger) = (first.reserve(), second.reserve());
        assert!(large.grow(40) && larger.grow(50));
        let mut small = third.reserve();
        assert!(
            small.grow(10) && small.grow(10),
            "the larger one is evicted"
        );
        assert_eq!(listener.open(&entries), [true, false, true, true]);
        drop(larger);
        assert_eq!(listener.table.body_bytes(), 60);
        // The largest of all is refused itself.
        assert!(!large.grow(50));
        drop((large, small));
        assert_eq!(listener.table.body_bytes(), 0);
    }

    #[test]
    fn a_body_that_is_being_handled_is_not_evicted() {
        let listener = Listener::new();
        let entries = [0, 1].map(|second| listener.connect("10.0.0.1", second));
        let [first, second] = entries.each_ref().map(|entry| entry.as_ref().unwrap());
        let mut handled = first.reserve();
        assert!(handled.grow(90));
        first.set_handling(listener.at(2));
        assert!(!second.reserve().grow(20));
        assert_eq!(listener.open(&entries), [true, true]);
    }
}
