//! What waits for a server, and what of it goes together: a pure state machine.
//!
//! Nothing waits while nothing is under way: the first query leaves at once. What comes meanwhile
//! forms the next round: when the one before it is answered, when there is a full batch, or when the
//! last one left a little while ago (a server far away must not make everybody wait twice). A round
//! is one call of the script, or in a Cluster one for each slot, written together.
//!
//! Bounded: one query more than may wait for the store (`gauge`) is refused at once, unless nothing waits
//! for its server. A query whose caller has gone, or
//! will not wait any longer, costs the server nothing.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::gauge::Gauge;
use super::{FailureClass, LateReply, Redirect};
use crate::clock::Timestamp;
use crate::model::{Check, Decision, TraceRef};
use crate::store::Unasked;

/// What is asked of a server.
#[derive(Clone, Debug)]
pub(crate) struct Work {
    /// What it is about.
    pub(crate) checks: Arc<[Check]>,
    /// What is to be done.
    pub(crate) task: Task,
    /// The Cluster slot of all its keys; 0 elsewhere.
    pub(crate) slot: u16,
    /// After this nobody waits for the answer.
    pub(crate) due: Instant,
    /// Where the answer goes if it comes later.
    pub(crate) late: Option<LateReply>,
}

/// What is to be done with checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    /// Judge them, and charge what lands.
    Decide {
        /// Whether anything is denied at all.
        enforce: bool,
        /// Where queries of its domain are counted.
        domain: u32,
        /// The call's span, if it is recorded.
        trace: Option<TraceRef>,
    },
    /// Take back what was charged then.
    GiveBack(Timestamp),
    /// Charge what was let pass without the server, whatever the count.
    Land(Timestamp),
    /// Judge them and charge nothing.
    Try,
}

impl Task {
    /// Whether it is for a caller, and for nothing if that has gone.
    pub(super) const fn has_caller(self) -> bool {
        matches!(self, Self::Decide { .. } | Self::Try)
    }
}

/// What became of it.
pub(super) type Outcome = Result<Decision, Missed>;

/// Why it was not done, as far as is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Missed {
    /// Its call failed.
    Failed(FailureClass),
    /// Another server has its keys.
    Moved(Redirect),
    /// It was not sent.
    Unsent(Unasked),
}

/// Work that waits, or is under way.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) work: Work,
    /// To be sent by itself: together with others it was refused, or its keys are on the move.
    pub(super) alone: bool,
    /// The server is only about to take its keys over, and wants to hear that we know.
    pub(super) asking: bool,
    pub(super) reply: oneshot::Sender<Outcome>,
}

impl Waiting {
    /// Says that its call failed.
    pub(super) fn fail(self, class: FailureClass) {
        let _gone = self.reply.send(Err(Missed::Failed(class)));
    }

    fn is_wanted(&self, now: Instant) -> bool {
        now < self.work.due && (!self.work.task.has_caller() || !self.reply.is_closed())
    }
}

/// Queries that wait for one server.
#[derive(Debug)]
pub(super) struct Queue {
    /// Checks that go in one call, unless one query alone has more.
    batch_size: usize,
    waiting: VecDeque<Waiting>,
    checks: usize,
    rounds: usize,
    last_left: Option<Instant>,
    /// The places that it shares with all others of its store.
    gauge: Arc<Gauge>,
}

impl Queue {
    pub(super) fn new(batch_size: usize, gauge: Arc<Gauge>) -> Self {
        Self {
            batch_size,
            waiting: VecDeque::new(),
            checks: 0,
            rounds: 0,
            last_left: None,
            gauge,
        }
    }

    /// Takes work in; gives it back if too much waits already. `most` is what a breaker on trial
    /// lets wait.
    pub(super) fn push(&mut self, waiting: Waiting, most: usize) -> Result<(), Waiting> {
        if self.waiting.len() >= most {
            return Err(waiting);
        }
        if !self.gauge.try_take() {
            // What waits for another server keeps no query from one that nothing waits for.
            if !self.waiting.is_empty() {
                return Err(waiting);
            }
            self.gauge.take();
        }
        self.checks = self.checks.saturating_add(waiting.work.checks.len());
        self.waiting.push_back(waiting);
        Ok(())
    }

    /// Takes work back in that was sent, and refused without being done. It goes first.
    pub(super) fn push_back(&mut self, waiting: Waiting) {
        self.checks = self.checks.saturating_add(waiting.work.checks.len());
        self.waiting.push_front(waiting);
        self.gauge.take();
    }

    /// How long to wait before the next round leaves; none if that depends on what happens.
    pub(super) fn wait(&self, most_rounds: usize, now: Instant) -> Option<Duration> {
        if self.waiting.is_empty() || self.rounds >= most_rounds {
            return None;
        }
        match self.last_left {
            Some(left) if self.rounds > 0 && self.checks < self.batch_size => {
                Some((left + PACE).saturating_duration_since(now))
            }
            _ => Some(Duration::ZERO),
        }
    }

    /// The next round, each call's work apart. Empty if nobody wanted what waited.
    pub(super) fn take(&mut self, now: Instant) -> Vec<Vec<Waiting>> {
        let mut calls: Vec<Vec<Waiting>> = Vec::new();
        let (mut checks, before) = (0_usize, self.waiting.len());
        while let Some(next) = self.waiting.front() {
            let size = next.work.checks.len();
            if checks > 0 && checks.saturating_add(size) > self.batch_size {
                break;
            }
            let Some(next) = self.waiting.pop_front() else {
                break;
            };
            self.checks = self.checks.saturating_sub(size);
            if !next.is_wanted(now) {
                continue;
            }
            checks = checks.saturating_add(size);
            let shares = |call: &&mut Vec<Waiting>| {
                call.first()
                    .is_some_and(|first| first.work.slot == next.work.slot && !first.alone)
            };
            match calls.iter_mut().find(shares) {
                Some(call) if !next.alone => call.push(next),
                _ => calls.push(vec![next]),
            }
        }
        self.gauge
            .give_back(before.saturating_sub(self.waiting.len()));
        if !calls.is_empty() {
            self.rounds = self.rounds.saturating_add(1);
            self.last_left = Some(now);
        }
        calls
    }

    /// A round has been answered, or has failed.
    pub(super) fn round_ended(&mut self) {
        self.rounds = self.rounds.saturating_sub(1);
    }

    /// Gives out all that waits: nothing more is sent.
    pub(super) fn drain(&mut self) -> VecDeque<Waiting> {
        self.checks = 0;
        self.gauge.give_back(self.waiting.len());
        std::mem::take(&mut self.waiting)
    }

    /// Forgets the rounds under way, and gives out all that waits: the server is gone.
    pub(super) fn clear(&mut self) -> VecDeque<Waiting> {
        self.rounds = 0;
        self.last_left = None;
        self.drain()
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        drop(self.drain());
    }
}

/// A round leaves at the latest so long after the one before it.
const PACE: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algorithm::tests::check;
    use crate::model::{DeniedHits, Hits, Quota, Unit, Window};

    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    fn start() -> (Queue, Instant) {
        (Queue::new(3, Arc::new(Gauge::new(4))), Instant::now())
    }

    fn work(checks: usize, slot: u16, due: Instant) -> (Waiting, oneshot::Receiver<Outcome>) {
        let window = Window::try_new(Unit::Minute, 1).unwrap();
        let one = check(Quota::fixed(1, window, DeniedHits::Free), Hits::Charge(1));
        let (reply, receiver) = oneshot::channel();
        let work = Work {
            checks: vec![one; checks].into(),
            task: Task::Decide {
                enforce: true,
                domain: 0,
                trace: None,
            },
            slot,
            due,
            late: None,
        };
        let waiting = Waiting {
            work,
            alone: false,
            asking: false,
            reply,
        };
        (waiting, receiver)
    }

    const LATER: Duration = Duration::from_secs(9);

    /// How many queries each call of a round has.
    fn sizes(round: &[Vec<Waiting>]) -> Vec<usize> {
        round.iter().map(Vec::len).collect()
    }

    #[test]
    fn nothing_waits_while_nothing_is_under_way() {
        let (mut queue, now) = start();
        assert_eq!(queue.wait(8, now), None);
        let (one, _caller) = work(1, 0, now + LATER);
        queue.push(one, 9).unwrap();
        assert_eq!(queue.wait(8, now), Some(Duration::ZERO));
        assert_eq!(sizes(&queue.take(now)), [1]);
    }

    #[test]
    fn what_comes_meanwhile_goes_together() {
        let (mut queue, now) = start();
        let mut callers = Vec::new();
        let mut push = |queue: &mut Queue| {
            let (one, caller) = work(1, 0, now + LATER);
            callers.push(caller);
            queue.push(one, 9).is_ok()
        };
        assert!(push(&mut queue));
        let _first = queue.take(now);
        assert!(push(&mut queue) && push(&mut queue));
        assert_eq!(queue.wait(8, now), Some(PACE), "unless the answer comes");
        assert_eq!(queue.wait(1, now), None, "on trial, one at a time");
        assert!(push(&mut queue));
        assert_eq!(queue.wait(8, now), Some(Duration::ZERO), "a full batch");
        assert!(push(&mut queue));
        assert!(!push(&mut queue), "enough wait");
        assert_eq!(sizes(&queue.take(now)), [3]);
        queue.round_ended();
        queue.round_ended();
        assert_eq!(queue.wait(8, now), Some(Duration::ZERO));
    }

    #[test]
    fn each_slot_has_a_call_of_its_own() {
        let (mut queue, now) = start();
        let mut callers = Vec::new();
        for slot in [7, 9, 7] {
            let (one, caller) = work(1, slot, now + LATER);
            callers.push(caller);
            queue.push(one, 9).unwrap();
        }
        assert_eq!(sizes(&queue.take(now)), [2, 1]);
    }

    #[test]
    fn what_was_refused_together_goes_alone() {
        let (mut queue, now) = start();
        let mut callers = Vec::new();
        for alone in [true, false, true] {
            let (mut one, caller) = work(1, 7, now + LATER);
            one.alone = alone;
            callers.push(caller);
            queue.push_back(one);
        }
        assert_eq!(sizes(&queue.take(now)), [1, 1, 1]);
    }

    #[test]
    fn a_large_query_goes_all_the_same() {
        let (mut queue, now) = start();
        let mut callers = Vec::new();
        for checks in [100, 1] {
            let (one, caller) = work(checks, 0, now + LATER);
            callers.push(caller);
            queue.push(one, 9).unwrap();
        }
        assert_eq!(sizes(&queue.take(now)), [1]);
        assert_eq!(sizes(&queue.take(now)), [1]);
    }

    #[test]
    fn what_nobody_waits_for_is_not_sent() {
        let (mut queue, now) = start();
        let (gone, caller) = work(1, 0, now + LATER);
        drop(caller);
        let (late, _caller) = work(1, 0, now);
        let (mut given_back, caller) = work(1, 0, now + LATER);
        drop(caller);
        given_back.work.task = Task::GiveBack(Timestamp::default());
        for waiting in [gone, late, given_back] {
            queue.push(waiting, 9).unwrap();
        }
        let round = queue.take(now);
        assert_eq!(sizes(&round), [1]);
        assert!(matches!(round[0][0].work.task, Task::GiveBack(_)));
        assert_eq!((queue.waiting.len(), queue.checks), (0, 0));
        assert!(queue.take(now).is_empty());
    }
}
