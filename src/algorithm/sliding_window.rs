//! At most the limit in any interval of one window, in a state of fixed size.
//!
//! For limits too large for a log of every charge. Never admits more than the log would; may give
//! a hit back up to a tenth of a window later.

use std::ops::RangeInclusive;

use super::Counter;
use super::arithmetic::div;
use crate::clock::Timestamp;
use crate::model::{Quota, SATURATED};

/// Eleven cells, each a tenth of the window.
///
/// What was charged in a cell counts in it and in the ten cells that follow. Two charges that lie
/// no more than one window apart lie no more than ten cells apart, so any interval of one window
/// is counted whole. The price: a hit comes back up to a tenth of a window late.
///
/// Each cell saturates alone, so a huge charge hides none of those that outlast it.
///
/// Windows are whole seconds, so a tenth is a whole number of milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlidingWindow {
    /// The number of the newest cell that was charged; cell 0 began at the epoch.
    newest: u64,
    /// Hits of the cells `newest - 10 ..= newest`, each at its number modulo 11.
    cells: [u64; CELLS],
}

impl SlidingWindow {
    /// In how many halves of a window a hit counts, of which [`Self::of_halves`] knows no more.
    pub(crate) const HALVES: usize = 3;

    /// The number of the half of a window that `now` lies in.
    pub(crate) fn half_at(quota: &Quota, now: Timestamp) -> u64 {
        div(
            div(now.as_millis(), Self::cell_millis(quota)),
            CELLS_PER_HALF,
        )
    }

    /// What is known to have been charged in the half of a window with the number `newest`, the one
    /// before it, and the one before that. Each hit counts as if it had been charged at the end of its
    /// half, and so until the end of the second half after it.
    pub(crate) fn of_halves(newest: u64, hits: [u64; Self::HALVES]) -> Self {
        let last_cell = |half: u64| {
            let next = half.saturating_add(1).saturating_mul(CELLS_PER_HALF);
            next.saturating_sub(1)
        };
        let mut window = Self {
            newest: last_cell(newest),
            ..Self::default()
        };
        for (before, hits) in (0..).zip(hits) {
            if let Some(half) = newest.checked_sub(before) {
                window.set(last_cell(half), hits);
            }
        }
        window
    }

    /// The same, of which nothing was charged after `latest`: the hits of the newest half of a window
    /// count from then on, and not from the end of their half.
    pub(crate) fn as_of(self, quota: &Quota, latest: Timestamp) -> Self {
        let mut window = self;
        let cell = div(latest.as_millis(), Self::cell_millis(quota));
        if cell < self.newest && div(cell, CELLS_PER_HALF) == div(self.newest, CELLS_PER_HALF) {
            let hits = window.cell(self.newest);
            window.set(self.newest, 0);
            window.newest = cell;
            window.set(cell, hits);
        }
        window
    }

    fn cell_millis(quota: &Quota) -> u64 {
        div(quota.window().millis(), CELLS_PER_WINDOW)
    }

    /// The cell of `now`: if the clock stepped back, the one that was charged last.
    fn cell_at(&self, quota: &Quota, now: Timestamp) -> u64 {
        div(now.as_millis(), Self::cell_millis(quota)).max(self.newest)
    }

    /// Numbers of the cells that count at `now` and may hold something, the oldest first.
    fn live(&self, quota: &Quota, now: Timestamp) -> RangeInclusive<u64> {
        let oldest = self.cell_at(quota, now).saturating_sub(CELLS_PER_WINDOW);
        oldest..=self.newest
    }

    fn sum(&self, quota: &Quota, now: Timestamp) -> u64 {
        self.live(quota, now)
            .fold(0, |sum, number| sum.saturating_add(self.cell(number)))
    }

    fn cell(&self, number: u64) -> u64 {
        self.cells.get(place(number)).copied().unwrap_or(0)
    }

    fn set(&mut self, number: u64, hits: u64) {
        if let Some(cell) = self.cells.get_mut(place(number)) {
            *cell = hits;
        }
    }
}

impl Counter for SlidingWindow {
    fn used(&self, quota: &Quota, now: Timestamp) -> u64 {
        self.sum(quota, now).min(SATURATED)
    }

    fn charge(&mut self, quota: &Quota, hits: u64, now: Timestamp) {
        let current = self.cell_at(quota, now);
        let first_stale = self.newest.saturating_add(1);
        let last_stale = current.min(first_stale.saturating_add(CELLS_PER_WINDOW));
        for number in first_stale..=last_stale {
            self.set(number, 0);
        }
        self.newest = current;
        let hits = self.cell(current).saturating_add(hits);
        self.set(current, hits.min(SATURATED));
    }

    fn refund(&mut self, quota: &Quota, hits: u64, now: Timestamp) {
        let mut left = hits;
        for number in self.live(quota, now).rev() {
            let back = self.cell(number).min(left);
            self.set(number, self.cell(number).saturating_sub(back));
            left = left.saturating_sub(back);
        }
    }

    fn give_back(&mut self, quota: &Quota, hits: u64, at: Timestamp, now: Timestamp) {
        let number = div(at.as_millis(), Self::cell_millis(quota));
        let charged = self.cell(number);
        if charged < SATURATED && self.live(quota, now).contains(&number) {
            self.set(number, charged.saturating_sub(hits));
        }
    }

    fn falls_to(&self, quota: &Quota, target: u64, now: Timestamp) -> Timestamp {
        let mut used = self.sum(quota, now);
        let mut at = now;
        for number in self.live(quota, now) {
            if used <= target {
                break;
            }
            used = used.saturating_sub(self.cell(number));
            let out = number.saturating_add(CELLS_PER_WINDOW).saturating_add(1);
            at = Timestamp::from_millis(out.saturating_mul(Self::cell_millis(quota)));
        }
        at
    }
}

/// Where the cell of this number lies in the ring.
fn place(number: u64) -> usize {
    usize::try_from(number % 11).unwrap_or(0)
}

const CELLS: usize = 11;
const CELLS_PER_WINDOW: u64 = 10;
const CELLS_PER_HALF: u64 = 5;
