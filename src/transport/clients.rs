//! Tracks gRPC clients: their connections, and the memory that their calls hold.
//!
//! Each call reserves what it needs until its response has been written. A connection may hold at most
//! what is free in all, less what its client holds. So there is always room for others: alone, one
//! connection gets a third of the limit, and one client with many connections half of it; others
//! get the same parts of the rest. Shared-memory switches give each queue its threshold in the same
//! way (A. Choudhury and E. Hahne, "Dynamic queue length thresholds for shared-memory packet
//! switches", IEEE/ACM Transactions on Networking 6(2), 1998).

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::model::Peer;

/// The clients that are connected, and the memory that they hold together.
#[derive(Debug)]
pub(super) struct Clients {
    /// Bytes that all clients together may hold.
    capacity: usize,
    /// Bytes reserved.
    reserved: AtomicUsize,
    connections: AtomicUsize,
    connected: Mutex<HashMap<Option<IpAddr>, Weak<Client>>>,
}

/// What all connections of one address hold.
#[derive(Debug)]
struct Client {
    address: Option<IpAddr>,
    clients: Arc<Clients>,
    reserved: AtomicUsize,
    connections: AtomicUsize,
}

/// A connection, and what its calls hold.
#[derive(Debug)]
pub(super) struct ClientConnection {
    client: Arc<Client>,
    /// Bytes that its calls hold.
    held: AtomicUsize,
    /// Bytes reserved for them: [`FREE_BYTES`] less, and in steps of [`RESERVATION_STEP`], so that
    /// few calls touch the counters that all cores share.
    reserved: AtomicUsize,
    /// Denials beyond the limit that the client has not read.
    denied: AtomicUsize,
    evicted: Notify,
}

impl Clients {
    /// No clients, which may hold `capacity` bytes.
    pub(super) fn new(capacity: usize) -> Arc<Self> {
        Arc::new(Self {
            capacity,
            reserved: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            connected: Mutex::default(),
        })
    }

    /// Adds a connection; it is removed on drop.
    pub(super) fn connect(self: &Arc<Self>, peer: Peer) -> Arc<ClientConnection> {
        let address = peer.client();
        let mut connected = self.connected.lock();
        let known = connected.get(&address).and_then(Weak::upgrade);
        let client = known.unwrap_or_else(|| {
            let client = Arc::new(Client {
                address,
                clients: Arc::clone(self),
                reserved: AtomicUsize::new(0),
                connections: AtomicUsize::new(0),
            });
            connected.insert(address, Arc::downgrade(&client));
            client
        });
        drop(connected);
        client.connections.fetch_add(1, Ordering::Relaxed);
        self.connections.fetch_add(1, Ordering::Relaxed);
        Arc::new(ClientConnection {
            client,
            denied: AtomicUsize::new(0),
            held: AtomicUsize::new(0),
            reserved: AtomicUsize::new(0),
            evicted: Notify::new(),
        })
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let mut connected = self.clients.connected.lock();
        // Another of this address may have connected meanwhile.
        if connected
            .get(&self.address)
            .is_some_and(|client| client.strong_count() == 0)
        {
            connected.remove(&self.address);
        }
    }
}

impl Drop for ClientConnection {
    fn drop(&mut self) {
        self.client.connections.fetch_sub(1, Ordering::Relaxed);
        let clients = &self.client.clients;
        clients.connections.fetch_sub(1, Ordering::Relaxed);
        self.unreserve(self.reserved.load(Ordering::Relaxed));
    }
}

impl ClientConnection {
    /// Adds to what the connection holds. Returns `false`, and adds nothing, if that is too much.
    pub(super) fn hold(&self, bytes: usize) -> bool {
        let before = self.held.fetch_add(bytes, Ordering::Relaxed);
        let held = before.saturating_add(bytes);
        let reserved = self.reserved.load(Ordering::Relaxed);
        if held <= reserved.saturating_add(FREE_BYTES) || self.reserve(held, reserved) {
            return true;
        }
        self.held.fetch_sub(bytes, Ordering::Relaxed);
        false
    }

    /// Takes off what [`Self::hold`] added.
    pub(super) fn release(&self, bytes: usize) {
        let before = self.held.fetch_sub(bytes, Ordering::Relaxed);
        let reserved = self.reserved.load(Ordering::Relaxed);
        if reserved > 0 {
            let held = before.saturating_sub(bytes);
            // One step more is kept, unless nothing is held any more.
            let kept = match held {
                0 => 0,
                _ => steps(held).saturating_add(RESERVATION_STEP),
            };
            if reserved > kept {
                let surplus = reserved.saturating_sub(kept);
                self.reserved.fetch_sub(surplus, Ordering::Relaxed);
                self.unreserve(surplus);
            }
        }
    }

    /// Reserves what `held` bytes need, if the limit allows it.
    #[cold]
    fn reserve(&self, held: usize, reserved: usize) -> bool {
        let wanted = steps(held);
        let Client {
            clients,
            reserved: of_client,
            ..
        } = &*self.client;
        let taken = clients.reserved.load(Ordering::Relaxed);
        let threshold = clients
            .capacity
            .saturating_sub(taken)
            .saturating_sub(of_client.load(Ordering::Relaxed));
        if wanted > threshold {
            return false;
        }
        let more = wanted.saturating_sub(reserved);
        self.reserved.fetch_add(more, Ordering::Relaxed);
        of_client.fetch_add(more, Ordering::Relaxed);
        clients.reserved.fetch_add(more, Ordering::Relaxed);
        true
    }

    fn unreserve(&self, bytes: usize) {
        self.client.reserved.fetch_sub(bytes, Ordering::Relaxed);
        let clients = &self.client.clients;
        clients.reserved.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Counts a denial for which no memory could be reserved, until what this returns is dropped.
    /// `None` if the client has too many of them unread.
    pub(super) fn hold_denial(self: &Arc<Self>) -> Option<HeldDenial> {
        let before = self.denied.fetch_add(1, Ordering::Relaxed);
        let held = HeldDenial(Arc::clone(self));
        (before < MAX_UNREAD_DENIALS).then_some(held)
    }

    /// The client's address; none if it is connected by a unix socket.
    pub(super) fn address(&self) -> Option<IpAddr> {
        self.client.address
    }

    /// Whether a call of it is unfinished.
    fn is_busy(&self) -> bool {
        self.held.load(Ordering::Relaxed) > 0
    }

    /// Completes when this connection has been evicted.
    pub(super) async fn evicted(&self) {
        self.evicted.notified().await;
    }
}

/// Bytes to reserve for `held` bytes.
const fn steps(held: usize) -> usize {
    held.saturating_sub(FREE_BYTES)
        .next_multiple_of(RESERVATION_STEP)
}

/// Memory that is held until it is dropped.
#[derive(Debug)]
pub(super) struct Held<C: Deref<Target = ClientConnection>> {
    connection: C,
    bytes: usize,
}

impl<C: Deref<Target = ClientConnection>> Held<C> {
    /// Holds nothing yet.
    pub(super) const fn nothing(connection: C) -> Self {
        Self {
            connection,
            bytes: 0,
        }
    }

    /// Gives back `bytes` from now on that the connection holds already.
    pub(super) const fn take_over(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// How many bytes are held.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Holds `bytes` from now on. Returns `false`, and changes nothing, if that is too much.
    pub(super) fn resize(&mut self, bytes: usize) -> bool {
        match bytes.checked_sub(self.bytes) {
            Some(more) if !self.connection.hold(more) => return false,
            Some(_) => {}
            None => self.connection.release(self.bytes.saturating_sub(bytes)),
        }
        self.bytes = bytes;
        true
    }
}

impl<C: Deref<Target = ClientConnection>> Drop for Held<C> {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.connection.release(self.bytes);
        }
    }
}

/// An unread denial, see [`ClientConnection::hold_denial`].
#[derive(Debug)]
pub(super) struct HeldDenial(Arc<ClientConnection>);

impl Drop for HeldDenial {
    fn drop(&mut self) {
        self.0.denied.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The connections that one thread accepts, limited in number.
#[derive(Debug)]
pub(super) struct OpenConnections {
    clients: Arc<Clients>,
    limit: usize,
    /// The oldest first. Also those that have been closed since they were last removed.
    by_client: HashMap<Option<IpAddr>, VecDeque<Weak<ClientConnection>>>,
    /// Connections that were added since then.
    added: usize,
}

impl OpenConnections {
    pub(super) fn new(clients: Arc<Clients>, limit: usize) -> Self {
        Self {
            clients,
            limit,
            by_client: HashMap::new(),
            added: 0,
        }
    }

    /// Adds a connection. At the limit, one of the client with the most connections is evicted.
    /// Returns `false` if the new connection has to be closed: it is of that client, and those that
    /// were evicted are still open.
    pub(super) fn insert(&mut self, connection: &Arc<ClientConnection>) -> bool {
        let open = self.clients.connections.load(Ordering::Relaxed);
        if open > self.limit {
            let most = self
                .by_client
                .iter()
                .map(|(client, own)| (alive(own), *client))
                .max_by_key(|(count, _)| *count);
            if let Some((most, greediest)) = most {
                let own = connection.client.connections.load(Ordering::Relaxed);
                let limit = self.limit.saturating_add(self.limit.div_ceil(8));
                if open > limit && own >= most {
                    return false;
                }
                if let Some(candidates) = self.by_client.get_mut(&greediest) {
                    evict(candidates);
                }
            }
        }
        let own = self.by_client.entry(connection.client.address).or_default();
        own.push_back(Arc::downgrade(connection));
        self.added = self.added.saturating_add(1);
        if self.added >= self.limit {
            self.remove_closed();
        }
        true
    }

    /// Removes connections that have been closed, and clients without any. Called once in as many connections as
    /// may be open, so that it costs each of them little.
    fn remove_closed(&mut self) {
        self.added = 0;
        self.by_client.retain(|_, own| {
            own.retain(|other| other.strong_count() > 0);
            !own.is_empty()
        });
    }
}

/// How many connections the client of these has.
fn alive(own: &VecDeque<Weak<ClientConnection>>) -> usize {
    let any = own.iter().rev().find_map(Weak::upgrade);
    any.map_or(0, |any| any.client.connections.load(Ordering::Relaxed))
}

/// Evicts the first of the oldest connections that has no call, or else the oldest, and takes it out.
fn evict(own: &mut VecDeque<Weak<ClientConnection>>) {
    while own.front().is_some_and(|oldest| oldest.strong_count() == 0) {
        own.pop_front();
    }
    let idle = own
        .iter()
        .take(EVICTION_CANDIDATES)
        .position(|other| other.upgrade().is_some_and(|other| !other.is_busy()));
    if let Some(evicted) = own
        .remove(idle.unwrap_or(0))
        .and_then(|evicted| evicted.upgrade())
    {
        evicted.evicted.notify_one();
    }
}

/// Bytes that a connection may hold without a reservation. Idle and slow connections, by far the
/// most, never need one.
const FREE_BYTES: usize = 16 * 1024;

/// Denials beyond the limit that a client may leave unread on a connection. Further calls get an
/// error, which needs no window to be sent.
const MAX_UNREAD_DENIALS: usize = 64;

/// So many of the oldest connections are looked at for one without a call.
const EVICTION_CANDIDATES: usize = 64;

/// Bytes that are reserved at a time.
const RESERVATION_STEP: usize = 32 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const CAPACITY: usize = 64 << 20;

    fn peer(address: &str) -> Peer {
        Peer::Tcp((address.parse::<IpAddr>().unwrap(), 1).into())
    }

    /// Holds as much as it gets, in pieces of 4 KiB.
    fn fill(connection: &ClientConnection) -> usize {
        let mut held = 0;
        while connection.hold(4096) {
            held += 4096;
        }
        held
    }

    fn near(bytes: usize, part: usize) -> bool {
        let wanted = CAPACITY / part;
        bytes.abs_diff(wanted) <= 2 * RESERVATION_STEP + FREE_BYTES
    }

    #[test]
    fn a_connection_gets_a_third_and_leaves_room_for_others() {
        let clients = Clients::new(CAPACITY);
        let greedy = clients.connect(peer("10.0.0.1"));
        let held = fill(&greedy);
        assert!(near(held, 3), "{held}");
        let of_same_client = clients.connect(peer("10.0.0.1"));
        assert!(of_same_client.hold(CAPACITY / 8));
        let other = clients.connect(peer("10.0.0.2"));
        assert!(other.hold(CAPACITY / 4));
        drop((greedy, of_same_client, other));
        assert_eq!(clients.reserved.load(Ordering::Relaxed), 0);
        assert!(clients.connected.lock().is_empty());
    }

    #[test]
    fn many_connections_of_a_client_get_half_of_what_others_leave() {
        let clients = Clients::new(CAPACITY);
        let greedy: Vec<_> = (0..500)
            .map(|_| clients.connect(peer("10.0.0.1")))
            .collect();
        // In turns, so that all have the same chance.
        while greedy
            .iter()
            .filter(|connection| connection.hold(4096))
            .count()
            > 0
        {}
        let reserved = clients.reserved.load(Ordering::Relaxed);
        assert!(near(reserved, 2), "{reserved}");
        let other = clients.connect(peer("10.0.0.2"));
        let held = fill(&other);
        assert!(held > CAPACITY / 7, "{held}");
    }

    #[test]
    fn what_is_released_can_be_held_again() {
        let clients = Clients::new(CAPACITY);
        let connection = clients.connect(Peer::Unix);
        for _ in 0..3 {
            let mut held = Held::nothing(&*connection);
            let full = fill(&connection);
            assert!(!held.resize(RESERVATION_STEP));
            connection.release(full);
            assert!(held.resize(CAPACITY / 4));
            assert!(held.resize(1));
            assert!(held.resize(CAPACITY / 4));
        }
        assert_eq!(connection.held.load(Ordering::Relaxed), 0);
        assert_eq!(clients.reserved.load(Ordering::Relaxed), 0);
    }

    /// Whether a connection has been told to go.
    fn is_evicted(connection: &Arc<ClientConnection>) -> bool {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(async {
            tokio::select! {
                biased;
                () = connection.evicted() => {
                    // It stays so.
                    connection.evicted.notify_one();
                    true
                }
                () = std::future::ready(()) => false,
            }
        })
    }

    #[test]
    fn at_the_limit_the_client_with_the_most_connections_loses_an_idle_one() {
        let clients = Clients::new(CAPACITY);
        let mut open = OpenConnections::new(Arc::clone(&clients), 8);
        let mut connect = |address| {
            let connection = clients.connect(peer(address));
            open.insert(&connection).then_some(connection)
        };
        let greedy: Vec<_> = (0..6).map(|_| connect("10.0.0.1").unwrap()).collect();
        greedy[0].hold(1);
        let modest = [(); 2].map(|()| connect("10.0.0.2").unwrap());
        let newest = connect("10.0.0.3").unwrap();
        let of_greedy: Vec<_> = greedy.iter().map(is_evicted).collect();
        assert_eq!(of_greedy, [false, true, false, false, false, false]);
        assert!(!modest.iter().chain([&newest]).any(is_evicted));
        // It has not left. The greedy one gets no more, others do.
        assert!(connect("10.0.0.1").is_none());
        let another = connect("10.0.0.4").unwrap();
        let of_greedy: Vec<_> = greedy.iter().map(is_evicted).collect();
        assert_eq!(of_greedy, [false, true, true, false, false, false]);
        drop(greedy);
        assert!(connect("10.0.0.1").is_some());
        drop(another);
    }

    #[test]
    fn many_connections_one_after_the_other_leave_nothing_behind() {
        let clients = Clients::new(CAPACITY);
        let mut open = OpenConnections::new(Arc::clone(&clients), 100);
        for number in 0..10_000 {
            let address = format!("10.0.{}.{}", number / 256, number % 256);
            assert!(open.insert(&clients.connect(peer(&address))));
            assert!(open.insert(&clients.connect(peer("10.1.0.0"))));
            let known: usize = open.by_client.values().map(VecDeque::len).sum();
            assert!(known <= 100, "{known}");
        }
        assert_eq!(clients.connections.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn denials_that_are_not_read_are_limited() {
        let connection = Clients::new(0).connect(Peer::Unix);
        let held: Vec<_> = (0..100).map_while(|_| connection.hold_denial()).collect();
        assert_eq!(held.len(), MAX_UNREAD_DENIALS);
        drop(held);
        assert!(connection.hold_denial().is_some());
    }
}
