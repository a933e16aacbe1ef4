//! What a watch is told each second.

use std::time::Duration;

use super::Tail;
use crate::clock::Timestamp;
use crate::event::StoreName;

/// What was counted so far, ever. Numbers that only grow; if one is smaller than it was, counting
/// began anew.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Rate limit calls that were answered.
    pub answered: u64,
    /// Those that were answered with an error.
    pub refused: u64,
    /// Those whose caller had gone before.
    pub abandoned: u64,
    /// How long the slow ones of all these took.
    pub call_tail: Tail,
    /// Calls to the shared stores that carried queries.
    pub batches: u64,
    /// Those that failed.
    pub batch_failures: u64,
    /// Calls to the shared stores for whatever, failed and abandoned ones included.
    pub store_calls: u64,
    /// How long the slow ones of these took.
    pub store_tail: Tail,
    /// Times that a breaker opened.
    pub trips: u64,
    /// Queries for domains that no policy has.
    pub unknown_domains: u64,
    /// Verdicts from counters that keys share, since the table had no room for more keys of their rule.
    pub overflowed: u64,
}

impl Counts {
    /// All rate limit calls.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.answered
            .saturating_add(self.refused)
            .saturating_add(self.abandoned)
    }

    /// What was counted since `before`; where counting began anew, all of it.
    #[must_use]
    pub(super) fn since(&self, before: &Self) -> Self {
        self.zip(before, |now, before| now.checked_sub(before).unwrap_or(now))
    }

    /// Together with `more`.
    #[must_use]
    pub(super) fn plus(&self, more: &Self) -> Self {
        self.zip(more, u64::saturating_add)
    }

    fn zip(&self, other: &Self, each: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            answered: each(self.answered, other.answered),
            refused: each(self.refused, other.refused),
            abandoned: each(self.abandoned, other.abandoned),
            call_tail: self.call_tail.zip(&other.call_tail, &each),
            batches: each(self.batches, other.batches),
            batch_failures: each(self.batch_failures, other.batch_failures),
            store_calls: each(self.store_calls, other.store_calls),
            store_tail: self.store_tail.zip(&other.store_tail, &each),
            trips: each(self.trips, other.trips),
            unknown_domains: each(self.unknown_domains, other.unknown_domains),
            overflowed: each(self.overflowed, other.overflowed),
        }
    }
}

/// How things stand now.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Levels {
    /// How much of the queue to a shared store was used in the last second, at its fullest: 0 to 1. Of
    /// two stores that of the fuller one.
    pub queue: f64,
    /// For how long each shared store has not been asked, by [`StoreName::index`]; zero if it is.
    pub down: [Duration; StoreName::ALL.len()],
}

impl Levels {
    /// The store that has not been asked for longest, and for how long.
    pub(super) fn longest_down(&self) -> Option<(StoreName, Duration)> {
        let stores = StoreName::ALL.into_iter().zip(self.down);
        let down = stores.filter(|(_, time)| !time.is_zero());
        // The first of equals.
        down.rev().max_by_key(|(_, time)| *time)
    }
}

/// Counts and levels of one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    /// When, for people: stamped on what the sample brings about.
    pub at: Timestamp,
    /// What was counted so far.
    pub counts: Counts,
    /// How things stand.
    pub levels: Levels,
}
