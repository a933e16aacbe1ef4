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
//!   charges within a window lie in two or three of them. A charge adds to all of its cells: the sum
//!   over the halves may be least in a row whose newest cell is not, so raising only the least would
//!   count too little once the oldest half has passed.

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
    width: usize,
}

/// Row after row.
#[derive(Debug)]
enum Cells {
    /// [`SharedBucket`]s.
    Bucket(Box<[u64]>),
    /// Hits of the window with this number.
    Fixed { window: u64, hits: Counts },
    /// Hits of the half windows up to the one with this number: [`HALVES`] for each cell, each at its
    /// number modulo that.
    Sliding { half: u64, hits: Counts },
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
    pub(super) fn new(quota: &Quota, bytes: usize) -> Self {
        let width = |cell: usize| (bytes / ROWS / cell).max(1);
        let cell = Counts::cell_bytes(quota);
        let (width, cells) = match Kind::of(quota) {
            Kind::Bucket(_) => {
                let width = width(size_of::<u64>());
                (width, Cells::Bucket(vec![0; width * ROWS].into()))
            }
            Kind::Fixed(_) => {
                let width = width(cell);
                let hits = Counts::new(quota, width * ROWS);
                (width, Cells::Fixed { window: 0, hits })
            }
            Kind::Sliding(_) => {
                let width = width(cell * HALVES);
                let hits = Counts::new(quota, width * ROWS * HALVES);
                (width, Cells::Sliding { half: 0, hits })
            }
        };
        Self { cells, width }
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
        let places = self.places(print);
        match &self.cells {
            Cells::Bucket(full_at) => {
                let least = places.map(|at| full_at.get(at).copied().unwrap_or(u64::MAX));
                let least = least.into_iter().min().unwrap_or(u64::MAX);
                State::SharedBucket(SharedBucket::full_at(least))
            }
            Cells::Fixed { window, hits } => {
                let least = places.map(|at| hits.get(at)).into_iter().min();
                State::Fixed(FixedWindow::of(*window, least.unwrap_or(SATURATED)))
            }
            Cells::Sliding { half, hits } => {
                let newest = (*half).max(SlidingWindow::half_at(quota, now));
                let rows = places.map(|at| {
                    [0, 1, 2].map(|before| match newest.checked_sub(before) {
                        Some(number) if number <= *half => hits.get(place(at, number)),
                        Some(_) | None => 0,
                    })
                });
                let least = rows.into_iter().min_by_key(|row| row.iter().sum::<u64>());
                let state = SlidingWindow::of_halves(newest, least.unwrap_or_default());
                State::Sliding(Box::new(state))
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
        let places = self.places(print);
        let mut charged = self.state(print, quota, now);
        charged.charge(quota, hits, now);
        let mut dropped = false;
        match (&mut self.cells, &charged) {
            (Cells::Bucket(cells), State::SharedBucket(bucket)) => {
                for at in places {
                    if let Some(cell) = cells.get_mut(at) {
                        *cell = bucket.ticks_when_full().max(*cell);
                    }
                }
            }
            (Cells::Fixed { window, hits }, State::Fixed(state)) => {
                if state.number() != *window {
                    *window = state.number();
                    hits.clear(|_| true);
                    dropped = true;
                }
                for at in places {
                    hits.set(at, state.count().max(hits.get(at)));
                }
            }
            (Cells::Sliding { half, hits: counts }, _) => {
                let newest = (*half).max(SlidingWindow::half_at(quota, now));
                if newest > *half {
                    let before = *half;
                    counts.clear(|at| number_at(at, newest) > before);
                    *half = newest;
                    dropped = true;
                }
                for at in places {
                    let at = place(at, newest);
                    counts.set(at, counts.get(at).saturating_add(hits));
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

    /// Memory that it takes.
    pub(super) fn bytes(&self) -> usize {
        match &self.cells {
            Cells::Bucket(cells) => size_of_val(cells.as_ref()),
            Cells::Fixed { hits, .. } | Cells::Sliding { hits, .. } => hits.bytes(),
        }
    }

    /// Where a key's cells lie, one in each row: each is chosen by 32 bits of the hash of their own.
    fn places(&self, print: Fingerprint) -> [usize; ROWS] {
        let words = [
            print.place >> 32,
            print.table >> 32,
            print.table & 0xffff_ffff,
            // The lowest bits of this one chose the shard; the highest choose the cell.
            print.place & 0xffff_ffff,
        ];
        // A sketch has far fewer cells than 2^32.
        let width = u64::try_from(self.width).unwrap_or(u64::MAX);
        let mut row = 0;
        words.map(|word| {
            let first = row;
            row += self.width;
            first + usize::try_from(word.saturating_mul(width) >> 32).unwrap_or(0)
        })
    }
}

/// Where the hits of this half window lie, of the cell in this place.
fn place(cell: usize, half: u64) -> usize {
    cell * HALVES + usize::try_from(half % 3).unwrap_or(0)
}

/// Which of the half windows up to `newest` has its hits there.
fn number_at(place: usize, newest: u64) -> u64 {
    let place = u64::try_from(place % HALVES).unwrap_or(0);
    newest.saturating_sub((newest + 3 - place) % 3)
}

/// Hits, in as few bytes as the limit allows.
#[derive(Debug)]
enum Counts {
    /// For limits below the largest number, which stands for as many or more.
    Narrow(Box<[u16]>),
    /// Likewise.
    Wide(Box<[u32]>),
}

impl Counts {
    fn new(quota: &Quota, cells: usize) -> Self {
        match Self::cell_bytes(quota) {
            2 => Self::Narrow(vec![0; cells].into()),
            _ => Self::Wide(vec![0; cells].into()),
        }
    }

    /// A later, higher limit is denied at 2^16 - 1 hits until the sketch ends.
    const fn cell_bytes(quota: &Quota) -> usize {
        match quota.limit() < u16::MAX as u32 {
            true => size_of::<u16>(),
            false => size_of::<u32>(),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Narrow(cells) => size_of_val(cells.as_ref()),
            Self::Wide(cells) => size_of_val(cells.as_ref()),
        }
    }

    /// What is above every limit where a cell can hold no more.
    fn get(&self, at: usize) -> u64 {
        let hits = match self {
            Self::Narrow(cells) => cells
                .get(at)
                .filter(|hits| **hits < u16::MAX)
                .map(|hits| (*hits).into()),
            Self::Wide(cells) => cells
                .get(at)
                .filter(|hits| **hits < u32::MAX)
                .map(|hits| (*hits).into()),
        };
        hits.unwrap_or(SATURATED)
    }

    fn set(&mut self, at: usize, hits: u64) {
        match self {
            Self::Narrow(cells) => {
                if let Some(cell) = cells.get_mut(at) {
                    *cell = hits.try_into().unwrap_or(u16::MAX);
                }
            }
            Self::Wide(cells) => {
                if let Some(cell) = cells.get_mut(at) {
                    *cell = hits.try_into().unwrap_or(u32::MAX);
                }
            }
        }
    }

    /// Sets cells to 0.
    fn clear(&mut self, which: impl Fn(usize) -> bool) {
        match self {
            Self::Narrow(cells) => zero(cells, which),
            Self::Wide(cells) => zero(cells, which),
        }
    }
}

fn zero<T: Default>(cells: &mut [T], which: impl Fn(usize) -> bool) {
    for (at, cell) in cells.iter_mut().enumerate() {
        if which(at) {
            *cell = T::default();
        }
    }
}

/// Half windows in which a charge counts: its own, and two more.
const HALVES: usize = SlidingWindow::HALVES;

/// With so many rows a key's first request is denied only if all of its cells are crowded.
const ROWS: usize = 4;
