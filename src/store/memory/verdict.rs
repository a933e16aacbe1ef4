//! What the store says of a check, by the caller's clock.

use super::shard::Spot;
use super::state::State;
use crate::algorithm::{Counter, LONGEST_WAIT_MILLIS, passes_at, report};
use crate::clock::Timestamp;
use crate::model::{Check, Hits, Source, Verdict};

/// When a query is decided.
#[derive(Clone, Copy)]
pub(super) struct Moment {
    /// What the caller's clock reads.
    pub(super) asked: Timestamp,
    /// The time by which to decide, never earlier.
    pub(super) now: Timestamp,
}

/// What came of a check.
#[derive(Clone, Copy)]
pub(super) struct Judgement {
    pub(super) over: bool,
    /// The whole query is denied.
    pub(super) denied: bool,
    /// Hits of other checks on the same counter that are not charged since the query is denied, and
    /// that the same query needs room for.
    pub(super) beside: u64,
}

impl Moment {
    /// The report on the state that a check leaves behind, with the wait as the caller's clock
    /// will see it.
    pub(super) fn tell(
        self,
        check: &Check,
        spot: Spot,
        state: &State,
        judgement: Judgement,
    ) -> Verdict {
        let Judgement { over, beside, .. } = judgement;
        let verdict = report(state, check, over, beside, self.now);
        let lag = self.now.as_millis().saturating_sub(self.asked.as_millis());
        Verdict {
            reset_millis: match verdict.reset_millis {
                0 => 0,
                millis => millis + lag,
            },
            source: match spot {
                Spot::Entry(_) | Spot::Fresh => Source::Memory,
                Spot::Refused(_) | Spot::Shared(_) => Source::Overflow,
            },
            ..verdict
        }
    }

    /// Extends the wait of a check that is over to `shared_wait` milliseconds, if the key's own counter
    /// expires during its wait: from then on the key is judged by the shared counter again.
    pub(super) fn extend_wait(
        self,
        verdict: Verdict,
        check: &Check,
        own: &State,
        shared_wait: impl FnOnce() -> u64,
    ) -> Verdict {
        if !verdict.over || verdict.never {
            return verdict;
        }
        let (wait, shared) = (verdict.reset_millis, shared_wait());
        if shared <= wait || own.falls_to(&check.quota, 0, self.now) > self.asked + wait {
            return verdict;
        }
        Verdict {
            reset_millis: shared,
            ..verdict
        }
    }

    /// The verdict where nothing can be counted before `until`, not even in a shared counter.
    pub(super) fn refuse(self, check: &Check, until: Timestamp) -> Verdict {
        let never = passes_at(&check.quota, check.hits).is_none();
        let wait = until.as_millis().saturating_sub(self.asked.as_millis());
        Verdict {
            over: !matches!(check.hits, Hits::Refund(_)),
            remaining: 0,
            counted: 0,
            reset_millis: match never {
                true => check.quota.window().millis(),
                false => wait.clamp(1, LONGEST_WAIT_MILLIS),
            },
            never,
            source: Source::Overflow,
            at: self.now,
        }
    }
}
