//! Counters of fixed size for any number of keys: a count-min sketch for each rule.
//!
//! A key has one cell in each of [`ROWS`] rows, and shares every one of them with other keys. Each of
//! its cells holds at least its own hits, so the least of them is never too little; it is too much
//! only where all of them are shared with keys that were charged a lot. (Cormode and Muthukrishnan,
//! "An improved data stream summary: the count-min sketch and its applications", 2005.)
//!
//! What the cells hold, and why they never count too little
//! - fixed windows: the hits of one window, which is the same for all keys of a rule. A charge raises a
//!   cell only as far as the key's new count ("conservative update": Estan and Varghese, "New directions
//!   in traffic measurement and accounting", 2002).
//! - token buckets of the same window: the time of a [`SharedBucket`], raised in the same way. A key's
//!   own time lies in none of its cells later than in the sketch.
//! - sliding windows and logs: the hits of each half of a window, for the last three halves. Any two
//!   charges within a window lie in two or three of them. Each half is a sketch by itself: the least of
//!   its cells is never too little, and is what a charge raises.

use super::fingerprint::Fingerprint;
use super::shared_bucket::SharedBucket;
use super::state::State;
use crate::algorithm::{Counter, FixedWindow, SlidingWindow};
use crate::clock::Timestamp;
use crate::model::{Algorithm, Quota, SATURATED};

/// What may be counted in one sketch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Buckets that refill per so many milliseconds.
    Bucket(u64),
    /// Windows of so many milliseconds.
    Fixed(u64),
    /// The same, sliding.
    Sliding(u64),
}

impl Kind {
    pub(super) fn of(quota: &Quota) -> Self {
        let window = quota.window().millis();
        match quota.algorithm() {
            Algorithm::FixedWindow => Self::Fixed(window),
            Algorithm::SlidingLog | Algorithm::SlidingWindow => Self::Sliding(window),
            Algorithm::TokenBucket => Self::Bucket(window),
        }
    }
}

/// The counts of one rule's keys.
#[derive(Debug)]
pub(super) struct Sketch {
    cells: Cells,
    /// Cells in each row.
    columns: usize,
    /// When it was charged last; a thread's clock may be a little behind that.
    latest: Timestamp,
}

/// Row after row.
#[derive(Debug)]
enum Cells {
    /// [`SharedBucket`]s.
    Bucket(Box<[u64]>),
    /// Hits of the window with this number.
    Fixed { window: u64, hits: Box<[u32]> },
    /// Hits of the half windows up to the one with this number, each at its number modulo [`HALVES`].
    Sliding {
        half: u64,
        hits: Box<[[u32; HALVES]]>,
    },
}

/// What became of a charge.
#[derive(Clone, Copy, Debug)]
pub(super) struct Charged {
    /// From then on nothing that the key's cells hold counts any more.
    pub(super) expires_at: Timestamp,
    /// Counts of other keys were dropped, since their windows are over.
    pub(super) dropped: bool,
}

impl Sketch {
    /// An empty one that takes about so many bytes.
    pub(super) fn new(kind: Kind, bytes: usize) -> Self {
        let columns = |cell: usize| (bytes / ROWS / cell).max(1);
        let (columns, cells) = match kind {
            Kind::Bucket(_) => {
                let columns = columns(size_of::<u64>());
                (columns, Cells::Bucket(vec![0; columns * ROWS].into()))
            }
            Kind::Fixed(_) => {
                let columns = columns(size_of::<u32>());
                let hits = vec![0; columns * ROWS].into();
                (columns, Cells::Fixed { window: 0, hits })
            }
            Kind::Sliding(_) => {
                let columns = columns(size_of::<[u32; HALVES]>());
                let hits = vec![[0; HALVES]; columns * ROWS].into();
                (columns, Cells::Sliding { half: 0, hits })
            }
        };
        Self {
            cells,
            columns,
            latest: Timestamp::default(),
        }
    }

    /// What an empty one says of any key.
    pub(super) fn empty(quota: &Quota, now: Timestamp) -> State {
        match Kind::of(quota) {
            Kind::Bucket(_) => State::SharedBucket(SharedBucket::default()),
            Kind::Fixed(_) => State::Fixed(FixedWindow::default()),
            Kind::Sliding(_) => {
                let now = SlidingWindow::half_at(quota, now);
                State::Sliding(Box::new(SlidingWindow::of_halves(now, [0; HALVES])))
            }
        }
    }

    /// What is counted for a key, and maybe more: a copy, to be looked at or to try charges on.
    pub(super) fn state(&self, print: Fingerprint, quota: &Quota, now: Timestamp) -> State {
        let key = self.cells_of(print);
        match &self.cells {
            Cells::Bucket(full_at) => {
                let full_at = key.map(|at| full_at.get(at).copied().unwrap_or(u64::MAX));
                State::SharedBucket(SharedBucket::full_at(least(full_at)))
            }
            Cells::Fixed { window, hits } => {
                let hits = key.map(|at| hits.get(at).copied().unwrap_or(u32::MAX));
                State::Fixed(FixedWindow::of(*window, widened(least(hits))))
            }
            Cells::Sliding { half, hits } => {
                let newest = (*half).max(SlidingWindow::half_at(quota, now));
                let hits = [0, 1, 2].map(|before| match newest.checked_sub(before) {
                    Some(number) if number <= *half => widened(least_of_half(hits, key, number)),
                    Some(_) | None => 0,
                });
                State::Sliding(Box::new(SlidingWindow::of_halves(newest, hits)))
            }
        }
    }

    /// Charges a key.
    pub(super) fn charge(
        &mut self,
        print: Fingerprint,
        quota: &Quota,
        hits: u64,
        now: Timestamp,
    ) -> Charged {
        let key = self.cells_of(print);
        let mut charged = self.state(print, quota, now);
        charged.charge(quota, hits, now);
        self.latest = self.latest.max(now);
        let mut dropped = false;
        match (&mut self.cells, &charged) {
            (Cells::Bucket(cells), State::SharedBucket(bucket)) => {
                for at in key {
                    if let Some(cell) = cells.get_mut(at) {
                        *cell = bucket.ticks_when_full().max(*cell);
                    }
                }
            }
            (Cells::Fixed { window, hits }, State::Fixed(state)) => {
                if state.number() != *window {
                    *window = state.number();
                    hits.fill(0);
                    dropped = true;
                }
                for at in key {
                    if let Some(cell) = hits.get_mut(at) {
                        *cell = narrowed(state.count()).max(*cell);
                    }
                }
            }
            (Cells::Sliding { half, hits: cells }, _) => {
                let newest = (*half).max(SlidingWindow::half_at(quota, now));
                if newest > *half {
                    for cell in &mut *cells {
                        for (at, count) in (0..).zip(cell) {
                            if number_at(at, newest) > *half {
                                *count = 0;
                            }
                        }
                    }
                    *half = newest;
                    dropped = true;
                }
                let before = widened(least_of_half(cells, key, newest));
                let after = narrowed(before.saturating_add(hits));
                for at in key {
                    let cell = cells.get_mut(at);
                    if let Some(count) = cell.and_then(|cell| cell.get_mut(slot_of(newest))) {
                        *count = after.max(*count);
                    }
                }
            }
            // A state is of the kind of the cells that it came from.
            (Cells::Bucket(_) | Cells::Fixed { .. }, _) => {}
        }
        Charged {
            expires_at: charged.falls_to(quota, 0, now),
            dropped,
        }
    }

    /// The latest time of a charge.
    pub(super) const fn latest(&self) -> Timestamp {
        self.latest
    }

    /// Where a key's cells lie, one in each row: each is chosen by 32 bits of the hash of their own.
    fn cells_of(&self, print: Fingerprint) -> [usize; ROWS] {
        let words = [
            print.place >> 32,
            print.table >> 32,
            print.table & 0xffff_ffff,
            // The lowest bits of this one chose the shard; the highest choose the cell.
            print.place & 0xffff_ffff,
        ];
        // A sketch has far fewer cells than 2^32.
        let columns = u64::try_from(self.columns).unwrap_or(u64::MAX);
        let mut row = 0;
        words.map(|word| {
            let first = row;
            row += self.columns;
            first + usize::try_from(word.saturating_mul(columns) >> 32).unwrap_or(0)
        })
    }
}

fn least<T: Ord + Copy>(cells: [T; ROWS]) -> T {
    let [first, rest @ ..] = cells;
    rest.into_iter().fold(first, T::min)
}

/// The least that a key's cells hold of a half window.
fn least_of_half(cells: &[[u32; HALVES]], key: [usize; ROWS], half: u64) -> u32 {
    least(key.map(|at| {
        let cell = cells.get(at);
        let count = cell.and_then(|cell| cell.get(slot_of(half)));
        count.copied().unwrap_or(u32::MAX)
    }))
}

/// Where in a cell the hits of this half window lie.
fn slot_of(half: u64) -> usize {
    usize::try_from(half % 3).unwrap_or(0)
}

/// Which of the half windows up to `newest` has its hits there.
fn number_at(slot: u64, newest: u64) -> u64 {
    newest.saturating_sub((newest + 3 - slot) % 3)
}

/// A count as a cell holds it.
fn narrowed(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// The count that a cell stands for; what does not fit is above every limit.
fn widened(cell: u32) -> u64 {
    match cell {
        u32::MAX => SATURATED,
        _ => u64::from(cell),
    }
}

/// Half windows in which a charge counts: its own, and two more.
const HALVES: usize = SlidingWindow::HALVES;

/// With so many rows a key's first request is denied only if all of its cells are crowded.
const ROWS: usize = 4;
