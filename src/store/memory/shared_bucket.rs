//! A bucket that keys of a rule may share, also at different rates, without any of them gaining by it.

use crate::algorithm::{Counter, LONGEST_WAIT_MILLIS};
use crate::clock::Timestamp;
use crate::model::{Quota, SATURATED};

/// The time at which the bucket would be full again, in [`TICKS`] of a millisecond.
///
/// A hit under a quota of L per W takes W/L of time to come back; that time is what a charge adds,
/// rounded up. A key's own bucket would be full at some time F; every charge moves F and this
/// bucket's time by the same amount, and other keys only move the latter, so F never lies behind
/// it. Judged by any quota, at least the key's own hits are counted: sharing denies too early,
/// never too late, also under `debt` and when a limit changes.
///
/// Refunds are the store's to refuse.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SharedBucket {
    full_at: u64,
}

impl SharedBucket {
    /// One that is full at this time, in [`TICKS`] of a millisecond.
    pub(super) const fn full_at(ticks: u64) -> Self {
        Self { full_at: ticks }
    }

    /// When it is full, in [`TICKS`] of a millisecond.
    pub(super) const fn ticks_when_full(self) -> u64 {
        self.full_at
    }

    /// Ticks until it is full.
    fn missing(self, now: Timestamp) -> u64 {
        self.full_at.saturating_sub(ticks(now))
    }
}

impl Counter for SharedBucket {
    fn used(&self, quota: &Quota, now: Timestamp) -> u64 {
        let missing = self.missing(now);
        if missing > 0 && quota.limit() == 0 {
            // At this rate it would never come back.
            return SATURATED;
        }
        let window = u128::from(quota.window().millis()) * u128::from(TICKS);
        let hits = (u128::from(missing) * u128::from(quota.limit())).div_ceil(window);
        u64::try_from(hits).unwrap_or(u64::MAX)
    }

    fn charge(&mut self, quota: &Quota, hits: u64, now: Timestamp) {
        let window = u128::from(quota.window().millis()) * u128::from(TICKS);
        let hits = u128::from(hits.min(SATURATED));
        // Without a refill it would take for ever; no such charge lands.
        let limit = u128::from(quota.limit()).max(1);
        let cost = (hits * window).div_ceil(limit);
        self.full_at = self
            .full_at
            .max(ticks(now))
            .saturating_add(u64::try_from(cost).unwrap_or(u64::MAX));
    }

    /// Nothing: the hits may be another key's.
    fn refund(&mut self, _quota: &Quota, _hits: u64, _now: Timestamp) {}

    /// Nothing, likewise.
    fn give_back(&mut self, _quota: &Quota, _hits: u64, _at: Timestamp, _now: Timestamp) {}

    fn falls_to(&self, quota: &Quota, target: u64, now: Timestamp) -> Timestamp {
        if self.used(quota, now) <= target {
            return now;
        }
        let window = u128::from(quota.window().millis()) * u128::from(TICKS);
        let allowed = (u128::from(target) * window)
            .checked_div(u128::from(quota.limit()))
            .and_then(|ticks| u64::try_from(ticks).ok())
            .unwrap_or(0);
        let wait = self.missing(now).saturating_sub(allowed).div_ceil(TICKS);
        now + wait.min(LONGEST_WAIT_MILLIS)
    }
}

/// Ticks per millisecond: so fine that rounding a hit up to a whole tick matters only above a
/// million hits a second.
const TICKS: u64 = 1 << 16;

fn ticks(at: Timestamp) -> u64 {
    at.as_millis().saturating_mul(TICKS)
}
