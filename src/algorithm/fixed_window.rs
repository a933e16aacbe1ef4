//! At most the limit in each window, windows aligned to the epoch.

use super::Counter;
use super::arithmetic::div;
use crate::clock::Timestamp;
use crate::model::{Quota, SATURATED};

/// The number of the window that was charged last, and what was charged in it.
///
/// Bound: the limit in each aligned window, so up to twice the limit around an edge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FixedWindow {
    id: u64,
    count: u64,
}

impl FixedWindow {
    /// What was charged in the window with this number, which is the one that was charged last.
    pub(crate) const fn of(number: u64, count: u64) -> Self {
        Self { id: number, count }
    }

    /// The number of the window that was charged last.
    pub(crate) const fn number(self) -> u64 {
        self.id
    }

    /// What was charged in it.
    pub(crate) const fn count(self) -> u64 {
        self.count
    }

    /// The state at `now`: if the clock stepped back, the window that was charged last.
    fn at(self, quota: &Quota, now: Timestamp) -> Self {
        let id = div(now.as_millis(), quota.window().millis());
        if id > self.id {
            Self { id, count: 0 }
        } else {
            self
        }
    }

    fn end(self, quota: &Quota) -> Timestamp {
        let next = self.id.saturating_add(1);
        Timestamp::from_millis(next.saturating_mul(quota.window().millis()))
    }
}

impl Counter for FixedWindow {
    fn used(&self, quota: &Quota, now: Timestamp) -> u64 {
        self.at(quota, now).count
    }

    fn charge(&mut self, quota: &Quota, hits: u64, now: Timestamp) {
        *self = self.at(quota, now);
        self.count = self.count.saturating_add(hits).min(SATURATED);
    }

    fn refund(&mut self, quota: &Quota, hits: u64, now: Timestamp) {
        if self.used(quota, now) > 0 {
            self.count = self.count.saturating_sub(hits);
        }
    }

    fn give_back(&mut self, quota: &Quota, hits: u64, at: Timestamp, now: Timestamp) {
        let charged_in = div(at.as_millis(), quota.window().millis());
        if charged_in == self.id && (1..SATURATED).contains(&self.used(quota, now)) {
            self.count = self.count.saturating_sub(hits);
        }
    }

    fn falls_to(&self, quota: &Quota, target: u64, now: Timestamp) -> Timestamp {
        if self.used(quota, now) > target {
            self.end(quota)
        } else {
            now
        }
    }

    /// The window's end, also when nothing is counted in it.
    fn resets_at(&self, quota: &Quota, now: Timestamp) -> Timestamp {
        self.at(quota, now).end(quota)
    }

    /// The end of the current window, as envoyproxy/ratelimit reports it.
    fn window_passes_at(&self, quota: &Quota, now: Timestamp) -> Timestamp {
        self.resets_at(quota, now)
    }
}
