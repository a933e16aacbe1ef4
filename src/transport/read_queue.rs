//! Lets the connections of a core that have much to read take turns.
//!
//! A connection reads what its client sends until its [`Turn`] is over; then it waits here. One connection goes
//! on each time the core has looked for news from all of its sockets. So a connection that has little to read waits for one turn of
//! all those that wait here, however many they are, and for what others have sent that do not wait: less than a turn,
//! or one read, for each. Clients take turns here, and so do the connections of each.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::clients::ClientConnection;

/// The connections of one core that have used up their turn.
#[derive(Debug, Default)]
pub(super) struct ReadQueue {
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    /// In the order of their turns; each has a connection that waits. No address: a unix socket.
    clients: VecDeque<(Option<IpAddr>, VecDeque<oneshot::Sender<()>>)>,
    /// Whether a task lets them go on.
    is_served: bool,
}

impl ReadQueue {
    /// Waits for the next turn of a connection of `client`. Has to be called on the core's runtime.
    fn join(self: &Arc<Self>, client: Option<IpAddr>) -> oneshot::Receiver<()> {
        let (grant, granted) = oneshot::channel();
        let mut waiting = self.waiting.lock();
        waiting.insert(client, grant);
        if !waiting.is_served {
            waiting.is_served = true;
            drop(waiting);
            let (queue, is_done) = (Arc::clone(self), false);
            tokio::spawn(Serving { queue, is_done }.run());
        }
        granted
    }
}

impl Waiting {
    fn insert(&mut self, client: Option<IpAddr>, grant: oneshot::Sender<()>) {
        let known = self.clients.iter_mut().find(|(known, _)| *known == client);
        match known {
            Some((_, connections)) => connections.push_back(grant),
            None => self.clients.push_back((client, VecDeque::from([grant]))),
        }
    }

    fn next(&mut self) -> Option<oneshot::Sender<()>> {
        let (client, mut connections) = self.clients.pop_front()?;
        let next = connections.pop_front();
        if !connections.is_empty() {
            self.clients.push_back((client, connections));
        }
        next
    }
}

/// Lets one connection after the other go on, until none waits.
#[derive(Debug)]
struct Serving {
    queue: Arc<ReadQueue>,
    is_done: bool,
}

impl Serving {
    async fn run(mut self) {
        loop {
            let next = {
                let mut waiting = self.queue.waiting.lock();
                let next = waiting.next();
                // Under the lock: a connection that joins from now on starts another task.
                waiting.is_served = next.is_some();
                next
            };
            let Some(next) = next else {
                self.is_done = true;
                return;
            };
            // Fails if the connection has been closed.
            if next.send(()).is_ok() {
                // The runtime looks at all sockets before it comes back here.
                tokio::task::yield_now().await;
            }
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // The runtime ends.
        if !self.is_done {
            self.queue.waiting.lock().is_served = false;
        }
    }
}

/// A connection's turns.
#[derive(Debug)]
pub(super) struct Turn {
    queue: Arc<ReadQueue>,
    client: Option<IpAddr>,
    /// What it has read in this turn, in bytes of header blocks.
    read: usize,
    next: Option<oneshot::Receiver<()>>,
}

impl Turn {
    /// Begins the first turn of a connection.
    pub(super) fn new(queue: Arc<ReadQueue>, connection: &ClientConnection) -> Self {
        Self {
            queue,
            client: connection.address(),
            read: 0,
            next: None,
        }
    }

    /// Adds what was read, in bytes of header blocks.
    pub(super) const fn add(&mut self, bytes: usize) {
        self.read = self.read.saturating_add(bytes);
    }

    /// Begins a new turn, unless this one is over: the client has sent nothing more so far.
    pub(super) const fn renew(&mut self) {
        if !self.is_over() {
            self.read = 0;
        }
    }

    /// Whether the connection has read so much that others come first.
    const fn is_over(&self) -> bool {
        self.read >= BYTES_PER_TURN
    }

    /// Waits for the next turn if this one is over. A read that was longer than a turn takes as many turns as it is long.
    pub(super) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while self.is_over() {
            let (queue, client) = (&self.queue, self.client);
            let next = self.next.get_or_insert_with(|| queue.join(client));
            // An error means that the runtime ends.
            let _granted = ready!(Pin::new(next).poll(context));
            self.next = None;
            self.read = self.read.saturating_sub(BYTES_PER_TURN);
        }
        Poll::Ready(())
    }
}

/// Bytes of encoded header blocks in a turn, 16 requests: under 1 ms of a core. Also bounds the memory that a turn can
/// take: each byte can stand for a field of the dynamic table, which takes some 110 bytes as the library keeps it.
const BYTES_PER_TURN: usize = 6 << 10;

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::net::Ipv4Addr;
    use std::rc::Rc;

    use super::*;

    fn on_one_core(test: impl Future<Output = ()>) {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, test);
    }

    /// Reads `turns` turns, and records the name before each but the first.
    async fn read(
        queue: Arc<ReadQueue>,
        client: u8,
        name: &'static str,
        turns: usize,
        order: Rc<RefCell<Vec<&'static str>>>,
    ) {
        let address = Ipv4Addr::new(10, 0, 0, client).into();
        let mut turn = Turn {
            queue,
            client: Some(address),
            read: 0,
            next: None,
        };
        for _ in 1..turns {
            turn.add(BYTES_PER_TURN);
            std::future::poll_fn(|context| turn.poll_next(context)).await;
            order.borrow_mut().push(name);
        }
    }

    #[test]
    fn clients_take_turns_and_so_do_the_connections_of_each() {
        on_one_core(async {
            let (queue, order) = (Arc::default(), Rc::<RefCell<Vec<_>>>::default());
            let mut readers = tokio::task::JoinSet::new();
            for (client, name) in [(1, "a1"), (1, "a2"), (1, "a3"), (2, "b")] {
                let queue = Arc::clone(&queue);
                readers.spawn_local(read(queue, client, name, 4, Rc::clone(&order)));
            }
            readers.join_all().await;
            let expected = [
                "a1", "b", "a2", "b", "a3", "b", "a1", "a2", "a3", "a1", "a2", "a3",
            ];
            assert_eq!(*order.borrow(), expected);
        });
    }

    #[test]
    fn a_connection_with_little_to_read_waits_for_one_turn_at_most() {
        on_one_core(async {
            let (queue, order) = (Arc::default(), Rc::<RefCell<Vec<_>>>::default());
            let mut readers = tokio::task::JoinSet::new();
            for _ in 0..40 {
                let queue = Arc::clone(&queue);
                readers.spawn_local(read(queue, 1, "much", 10, Rc::clone(&order)));
            }
            tokio::task::yield_now().await;
            for round in 1..40 {
                // As if a request had come.
                tokio::task::yield_now().await;
                let turns = order.borrow().len();
                assert!(turns <= 2 * round, "{turns} turns in {round} rounds");
            }
            readers.join_all().await;
            assert_eq!(order.borrow().len(), 40 * 9);
        });
    }

    #[test]
    fn a_read_of_several_turns_takes_several() {
        on_one_core(async {
            let queue = Arc::<ReadQueue>::default();
            let mut turn = Turn {
                queue: Arc::clone(&queue),
                client: None,
                read: 0,
                next: None,
            };
            turn.add(3 * BYTES_PER_TURN + 1);
            turn.renew();
            let mut turns = 0;
            while turn.is_over() {
                queue.join(None).await.unwrap();
                turns += 1;
                let poll = std::future::poll_fn(|context| Poll::Ready(turn.poll_next(context)));
                let _pending = poll.await;
            }
            assert!(turns >= 3, "{turns}");
        });
    }

    #[test]
    fn a_closed_connection_does_not_stop_the_others() {
        on_one_core(async {
            let queue = Arc::<ReadQueue>::default();
            drop(queue.join(None));
            queue.join(None).await.unwrap();
            // The task has ended, and another one begins.
            tokio::task::yield_now().await;
            queue.join(None).await.unwrap();
        });
    }
}
