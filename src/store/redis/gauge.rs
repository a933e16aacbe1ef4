//! How many queries may wait for a store, on whichever core and for whichever of its servers.
//!
//! One bound for the process: a burst comes over one connection, so on one core, and needs all of it.
//! A query that is to wait takes a place, and gives it back when it is sent or answered. The most places
//! taken since the last sample are kept too, since a queue fills and empties many times between two of
//! them.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// How full the queues of a store are.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct QueueReading {
    /// Queries that wait now, for whichever server.
    pub length: usize,
    /// Queries that may wait.
    pub limit: usize,
    /// How full it was at most in the second before the last [sample], from 0 to 1. If a query was
    /// refused it was full.
    ///
    /// [sample]: super::RedisStore::sample
    pub utilization: f64,
}

/// The places of a store's queues.
#[derive(Debug)]
pub(super) struct Gauge {
    taken: AtomicUsize,
    peak: AtomicUsize,
    limit: usize,
    /// The bits of the utilization that was sampled last.
    utilization: AtomicU64,
}

impl Gauge {
    /// So many places.
    pub(super) const fn new(limit: usize) -> Self {
        Self {
            taken: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
            limit,
            utilization: AtomicU64::new(0),
        }
    }

    /// Takes a place, if there is one.
    pub(super) fn try_take(&self) -> bool {
        let before = self.taken.fetch_add(1, Ordering::Relaxed);
        if before < self.limit {
            self.raise_peak(before.saturating_add(1));
            return true;
        }
        self.taken.fetch_sub(1, Ordering::Relaxed);
        self.raise_peak(self.limit);
        false
    }

    /// Takes a place for work that had one before, though there may be none.
    pub(super) fn take(&self) {
        let before = self.taken.fetch_add(1, Ordering::Relaxed);
        self.raise_peak(before.saturating_add(1));
    }

    /// Gives so many places back.
    pub(super) fn give_back(&self, places: usize) {
        if places > 0 {
            self.taken.fetch_sub(places, Ordering::Relaxed);
        }
    }

    /// Looks how full it was at most since this was called last, and remembers it.
    pub(super) fn sample(&self) {
        let taken = self.taken.load(Ordering::Relaxed);
        let peak = self.peak.swap(taken, Ordering::Relaxed).max(taken);
        let utilization = ratio(peak, self.limit);
        self.utilization
            .store(utilization.to_bits(), Ordering::Relaxed);
    }

    /// How full it is.
    pub(super) fn read(&self) -> QueueReading {
        QueueReading {
            length: self.taken.load(Ordering::Relaxed),
            limit: self.limit,
            utilization: f64::from_bits(self.utilization.load(Ordering::Relaxed)),
        }
    }

    fn raise_peak(&self, taken: usize) {
        if taken > self.peak.load(Ordering::Relaxed) {
            self.peak.fetch_max(taken, Ordering::Relaxed);
        }
    }
}

/// How much `part` is of `whole`, at most 1.
fn ratio(part: usize, whole: usize) -> f64 {
    // Queues are far shorter than what a u32 counts to.
    let number = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    match whole {
        0 => 0.0,
        _ => (number(part) / number(whole)).min(1.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_is_seen_once_and_no_place_is_taken_twice() {
        let gauge = Gauge::new(4);
        let reading = |length, utilization| QueueReading {
            length,
            limit: 4,
            utilization,
        };
        for _ in 0..3 {
            assert!(gauge.try_take());
        }
        gauge.give_back(2);
        assert_eq!(gauge.read(), reading(1, 0.0), "not sampled yet");
        gauge.sample();
        assert_eq!(gauge.read(), reading(1, 0.75));
        assert_eq!(gauge.read(), reading(1, 0.75), "as often as it is read");
        gauge.sample();
        assert_eq!(gauge.read(), reading(1, 0.25), "what waits still");
        let taken = std::iter::repeat_with(|| gauge.try_take()).take(9);
        assert_eq!(taken.filter(|&taken| taken).count(), 3);
        gauge.sample();
        assert_eq!(gauge.read(), reading(4, 1.0));
        // Work that is taken back may exceed it.
        gauge.take();
        assert!(!gauge.try_take());
        gauge.sample();
        assert_eq!(gauge.read(), reading(5, 1.0));
        gauge.give_back(5);
        assert!(gauge.try_take());
    }
}
