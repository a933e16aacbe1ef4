//! A call from when it is sent until it is told of: how long the server really took for it, also
//! when nobody waited so long.
//!
//! Whoever asks gives up at the deadline, and fred forgets the call then (a second later if `late` waits for it): it is not written any more
//! if it was not yet, and nobody hears its answer. But fred keeps the call's arguments until the
//! answer to it was read, since answers come in order; or until it has found that it need not be
//! written, or the connection has ended. So one of the arguments is a [tag](Pending::tag): when it
//! is dropped, the call is over, and is told of with the time until then. Nothing more is sent for
//! this, and nothing is sent otherwise than without it.
//!
//! Promises
//! - Each call is told of once ([`StoreCalled`]), also if whoever asked was dropped.
//! - A call that was given up holds its connection until it is over, for [`LONGEST`] at most; so does
//!   no call while [`MOST`] are waited for in one store: those are told of at once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::sync::Notify;
use tokio::time::sleep_until;

use super::{Connection, FailureClass, RedisStore, now};
use crate::event::{Operation, StoreCalled, TracedQueries};
use crate::model::TraceRef;

/// A call that is under way. Dropped, it has been lost with its connection.
#[derive(Debug)]
pub(super) struct Pending(Arc<Shared>);

/// What a call carries.
#[derive(Clone, Debug, Default)]
pub(super) struct Carried {
    pub(super) queries: usize,
    pub(super) checks: usize,
    /// The domains of the queries, each once.
    pub(super) domains: SmallVec<[u32; 8]>,
    /// The spans of those of the queries whose calls are recorded; usually none.
    pub(super) spans: SmallVec<[TraceRef; 2]>,
    /// The server's address.
    pub(super) node: Arc<str>,
}

#[derive(Debug)]
struct Shared {
    store: Arc<RedisStore>,
    operation: Operation,
    carried: Carried,
    started: Instant,
    state: Mutex<State>,
    /// Told when a call that was given up has been told of.
    told: Notify,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    UnderWay,
    /// It was over then; whoever asked has not said yet how it ended.
    Over(Instant),
    /// Nobody waits any more; how it ended.
    GivenUp(&'static str),
    Told,
}

impl Pending {
    /// A call that is about to be sent.
    pub(super) fn start(store: &Arc<RedisStore>, operation: Operation, carried: Carried) -> Self {
        Self(Arc::new(Shared {
            store: Arc::clone(store),
            operation,
            carried,
            started: now(),
            state: Mutex::new(State::UnderWay),
            told: Notify::new(),
        }))
    }

    /// When it was sent.
    pub(super) fn started(&self) -> Instant {
        self.0.started
    }

    /// The argument `text`, to be sent with this call and no other.
    pub(super) fn tag(&self, text: &Bytes) -> Bytes {
        Bytes::from_owner(Tag {
            text: text.clone(),
            call: Arc::clone(&self.0),
        })
    }

    /// It ended so, by an answer or with its connection. How long it took.
    pub(super) fn end(self, result: &'static str) -> Duration {
        let before = std::mem::replace(&mut *self.0.state.lock(), State::Told);
        let end = match before {
            State::Over(at) => at,
            State::UnderWay | State::GivenUp(_) | State::Told => now(),
        };
        self.0.tell(result, end)
    }

    /// Nobody waits any more, but the server may still answer over this connection.
    pub(super) fn give_up(self, connection: &Arc<Connection>) {
        let call = Arc::clone(&self.0);
        if !call.give_up(FailureClass::Timeout.name()) {
            return;
        }
        let connection = Arc::clone(connection);
        let until = call.started + LONGEST;
        drop(tokio::spawn(async move {
            tokio::select! {
                () = call.told.notified() => {}
                () = sleep_until(until.into()) => call.over(),
            }
            drop(connection);
        }));
    }

    /// Tells how a call went that has failed with `class`: at once, or later if its time was over.
    pub(super) fn fail(self, class: FailureClass, connection: &Arc<Connection>) {
        match class {
            FailureClass::Timeout => self.give_up(connection),
            _ => {
                self.end(class.name());
            }
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.0.give_up(FailureClass::Reset.name());
    }
}

impl Shared {
    /// Takes note that nobody waits. Whether it is to be waited for.
    fn give_up(&self, result: &'static str) -> bool {
        let end = {
            let mut state = self.state.lock();
            match *state {
                State::GivenUp(_) | State::Told => return false,
                State::UnderWay if self.store.try_watch(MOST) => {
                    *state = State::GivenUp(result);
                    return true;
                }
                State::UnderWay => {
                    *state = State::Told;
                    now()
                }
                State::Over(at) => {
                    *state = State::Told;
                    at
                }
            }
        };
        self.tell(result, end);
        false
    }

    /// It is over, or has been waited for long enough.
    fn over(&self) {
        let result = {
            let mut state = self.state.lock();
            match *state {
                State::UnderWay => {
                    *state = State::Over(now());
                    return;
                }
                State::Over(_) | State::Told => return,
                State::GivenUp(result) => {
                    *state = State::Told;
                    result
                }
            }
        };
        self.store.unwatch();
        self.tell(result, now());
        self.told.notify_one();
    }

    fn tell(&self, result: &'static str, end: Instant) -> Duration {
        let duration = end.saturating_duration_since(self.started);
        self.store.note_call(StoreCalled {
            store: self.store.config().name,
            operation: self.operation,
            result,
            duration,
            queries: self.carried.queries,
            checks: self.carried.checks,
            domains: &self.carried.domains,
            traced: TracedQueries {
                spans: &self.carried.spans,
                node: &self.carried.node,
                started: Some(self.started),
            },
        });
        duration
    }
}

/// An argument that tells when fred lets go of it.
struct Tag {
    text: Bytes,
    call: Arc<Shared>,
}

impl AsRef<[u8]> for Tag {
    fn as_ref(&self) -> &[u8] {
        &self.text
    }
}

impl Drop for Tag {
    fn drop(&mut self) {
        self.call.over();
    }
}

/// So long is an answer waited for at most, from when the call was sent.
pub(super) const LONGEST: Duration = Duration::from_secs(5);

/// Calls of one store that are waited for at the same time.
const MOST: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::super::tests::recorder::Recorder;
    use super::super::{Access, RedisConfig, Site};
    use super::*;
    use crate::event::StoreName;
    use crate::store::BreakerConfig;

    /// A store that is nowhere.
    fn store() -> (Arc<RedisStore>, Arc<Recorder>) {
        let (recorder, clock) = Recorder::new();
        let second = Duration::from_secs(1);
        let config = RedisConfig {
            name: StoreName::Main,
            sites: vec![Site {
                address: "redis+unix:///nowhere/redis.sock".parse().unwrap(),
                access: Access::default(),
            }],
            replica: None,
            sentinel_access: Access::default(),
            key_prefix: "tollgate".into(),
            connect_timeout: second,
            deadline: second,
            breaker: BreakerConfig {
                threshold: 5,
                timeout: second,
            },
            probe_interval: second,
            queue_size: 1,
            batch_size: 1,
        };
        let events = Arc::clone(&recorder) as _;
        (RedisStore::start(config, clock, events), recorder)
    }

    #[tokio::test]
    async fn a_call_is_told_of_once_with_the_time_until_it_was_over() {
        let (store, recorder) = store();
        let start = || {
            let pending = Pending::start(&store, Operation::Decide, Carried::default());
            let tag = pending.tag(&Bytes::from_static(b"sha"));
            assert_eq!(tag, "sha");
            (pending, tag)
        };
        let told = |number: usize| {
            let calls = recorder.calls.lock();
            assert_eq!(calls.len(), number);
            calls.last().copied()
        };
        // Answered: it is over before whoever asked has read the answer.
        let (pending, tag) = start();
        drop(tag);
        let over = now();
        let started = pending.0.started;
        assert_eq!(told(0), None);
        let took = pending.end("ok");
        assert!(took <= over.saturating_duration_since(started));
        assert_eq!(told(1), Some(("ok", took)));
        // Refused without the library letting go of it.
        let (pending, tag) = start();
        let took = pending.end("no_script");
        drop(tag);
        assert_eq!(told(2), Some(("no_script", took)));
        // Lost with its round, and over later.
        let (pending, tag) = start();
        let started = pending.0.started;
        drop(pending);
        assert_eq!((told(2), store.last().unanswered), (told(2), 1));
        let before = now();
        drop(tag);
        let (result, took) = told(3).unwrap();
        assert_eq!((result, store.last().unanswered), ("reset", 0));
        assert!(took >= before.saturating_duration_since(started));
        // Over, and lost before that was read.
        let (pending, tag) = start();
        drop(tag);
        drop(pending);
        assert_eq!(told(4).map(|call| call.0), Some("reset"));
        assert_eq!(store.last().unanswered, 0);
    }

    #[tokio::test]
    async fn no_more_than_so_many_calls_are_waited_for() {
        let (store, recorder) = store();
        let mut tags = Vec::new();
        for _ in 0..MOST + 1 {
            let pending = Pending::start(&store, Operation::Decide, Carried::default());
            tags.push(pending.tag(&Bytes::new()));
        }
        assert_eq!(store.last().unanswered, MOST);
        assert_eq!(recorder.calls.lock().len(), 1, "told of at once");
        drop(tags);
        assert_eq!(store.last().unanswered, 0);
        assert_eq!(recorder.calls.lock().len(), MOST + 1);
    }
}
