//! Tracks gRPC clients: their connections, and the memory that their calls hold.
//!
//! Each call reserves what it needs until its response has been written. A connection may hold at most
//! what is free in all, less what its client holds. So there is always room for others: alone, one
//! connection gets a third of the limit, and one client with many connections half of it; others
//! get the same parts of the rest. Shared-memory switches give each queue its threshold in the same way (A. Choudhury and E. Hahne, "Dynamic queue length thresholds for
//! shared-memory packet switches", IEEE/ACM Transactions on Networking 6(2), 1998).

use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
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
    is_evicted: AtomicBool,
    evicted: Notify,
}

impl Clients {
    /// No clients, which may hold `capacity` bytes.
    pub(super) fn new(capacity: usize) -> Arc<Self> {
        Arc::new(Self {
            capacity,
            reserved: AtomicUsize::new(0),
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
        Arc::new(ClientConnection {
            client,
            held: AtomicUsize::new(0),
            reserved: AtomicUsize::new(0),
            is_evicted: AtomicBool::new(false),
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

/// The connections that one thread accepts, limited in number.
#[derive(Debug)]
pub(super) struct OpenConnections {
    limit: usize,
    open: Vec<Weak<ClientConnection>>,
}

impl OpenConnections {
    pub(super) const fn new(limit: usize) -> Self {
        Self {
            limit,
            open: Vec::new(),
        }
    }

    /// Adds a connection. At the limit, one of the client with the most connections is evicted: the
    /// oldest without a call, or the oldest if all have calls. Returns `false` if the new connection has
    /// to be closed, because those that were evicted have not left yet.
    pub(super) fn insert(&mut self, connection: &Arc<ClientConnection>) -> bool {
        if self.open.len() >= self.limit {
            self.open.retain(|other| other.strong_count() > 0);
            if self.open.len() >= self.limit.saturating_add(self.limit.div_ceil(8)) {
                return false;
            }
            if self.open.len() >= self.limit {
                self.evict(connection);
            }
        }
        self.open.push(Arc::downgrade(connection));
        true
    }

    fn evict(&self, newest: &Arc<ClientConnection>) {
        let count = |connection: &ClientConnection| {
            let connections = &connection.client.connections;
            connections.load(Ordering::Relaxed)
        };
        let staying = || {
            let open = self.open.iter().filter_map(Weak::upgrade);
            open.filter(|other| !other.is_evicted.load(Ordering::Relaxed))
        };
        let most = staying().map(|other| count(&other)).max();
        let candidate = staying()
            .filter(|other| Some(count(other)) == most)
            .min_by_key(|other| other.held.load(Ordering::Relaxed) > 0);
        if let Some(candidate) = candidate
            && !Arc::ptr_eq(&candidate, newest)
        {
            candidate.is_evicted.store(true, Ordering::Relaxed);
            candidate.evicted.notify_one();
        }
    }
}

/// Bytes that a connection may hold without a reservation. Idle and slow connections, by far the
/// most, never need one.
const FREE_BYTES: usize = 16 * 1024;

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

    #[test]
    fn at_the_limit_the_client_with_the_most_connections_loses_an_idle_one() {
        let clients = Clients::new(CAPACITY);
        let mut open = OpenConnections::new(8);
        let greedy: Vec<_> = (0..6).map(|_| clients.connect(peer("10.0.0.1"))).collect();
        let modest = [(); 2].map(|()| clients.connect(peer("10.0.0.2")));
        for connection in greedy.iter().chain(&modest) {
            assert!(open.insert(connection));
        }
        greedy[0].hold(1);
        let newest = clients.connect(peer("10.0.0.3"));
        assert!(open.insert(&newest));
        let evicted =
            |connection: &Arc<ClientConnection>| connection.is_evicted.load(Ordering::Relaxed);
        let of_greedy: Vec<_> = greedy.iter().map(evicted).collect();
        assert_eq!(of_greedy, [false, true, false, false, false, false]);
        assert!(!modest.iter().any(evicted));
        // It has not left, and one more is all that is taken.
        assert!(!open.insert(&clients.connect(peer("10.0.0.3"))));
        drop(greedy);
        assert!(open.insert(&clients.connect(peer("10.0.0.3"))));
    }
}
