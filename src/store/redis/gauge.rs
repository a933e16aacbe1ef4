//! How full the queues in front of a store's links are.
//!
//! Each queue notes its length where others can read it without its lock; what is asked about them
//! all is added up here. The longest since somebody last looked is kept too, since a queue fills
//! and empties many times between two looks.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

/// How full the queues of a store are.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct QueueReading {
    /// Queries that wait now, for whichever server.
    pub length: usize,
    /// Queries that may wait.
    pub limit: usize,
    /// How full the fullest queue was in the second before the last [sample], from 0 to 1. One
    /// that refused a query was full.
    ///
    /// [sample]: super::RedisStore::sample
    pub utilization: f64,
}

/// How long one queue is. Only the queue writes to it, under its own lock.
#[derive(Debug)]
pub(super) struct Gauge {
    length: AtomicUsize,
    peak: AtomicUsize,
    limit: usize,
}

/// The gauges of all queues of a store.
#[derive(Debug, Default)]
pub(super) struct Gauges {
    all: Mutex<Vec<Weak<Gauge>>>,
    /// The bits of the utilization that was sampled last.
    utilization: AtomicU64,
}

impl Gauge {
    pub(super) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            length: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
            limit,
        })
    }

    /// So many wait now.
    pub(super) fn set(&self, length: usize) {
        self.length.store(length, Ordering::Relaxed);
        if length > self.peak.load(Ordering::Relaxed) {
            self.peak.store(length, Ordering::Relaxed);
        }
    }

    /// How full it was at most since this was asked last.
    fn take_utilization(&self) -> f64 {
        let length = self.length.load(Ordering::Relaxed);
        let peak = self.peak.swap(length, Ordering::Relaxed).max(length);
        ratio(peak, self.limit)
    }
}

impl Gauges {
    /// A link has a queue. It is forgotten when that goes.
    pub(super) fn add(&self, gauge: &Arc<Gauge>) {
        let mut all = self.all.lock();
        all.retain(|known| known.strong_count() > 0);
        all.push(Arc::downgrade(gauge));
    }

    /// Looks how full the fullest was since this was asked last, and remembers it.
    pub(super) fn sample(&self) {
        let fullest = self.live().fold(0.0, |fullest: f64, gauge| {
            fullest.max(gauge.take_utilization())
        });
        self.utilization.store(fullest.to_bits(), Ordering::Relaxed);
    }

    /// How full they are.
    pub(super) fn read(&self) -> QueueReading {
        let empty = QueueReading {
            utilization: f64::from_bits(self.utilization.load(Ordering::Relaxed)),
            ..QueueReading::default()
        };
        self.live().fold(empty, |sum, gauge| QueueReading {
            length: sum
                .length
                .saturating_add(gauge.length.load(Ordering::Relaxed)),
            limit: sum.limit.saturating_add(gauge.limit),
            ..sum
        })
    }

    fn live(&self) -> impl Iterator<Item = Arc<Gauge>> {
        let live: Vec<_> = self.all.lock().iter().filter_map(Weak::upgrade).collect();
        live.into_iter()
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
    fn the_fullest_queue_counts_and_a_peak_is_seen_once() {
        let gauges = Gauges::default();
        let (one, two) = (Gauge::new(10), Gauge::new(4));
        gauges.add(&one);
        gauges.add(&two);
        one.set(5);
        two.set(3);
        two.set(1);
        let reading = |length, limit, utilization| QueueReading {
            length,
            limit,
            utilization,
        };
        assert_eq!(gauges.read(), reading(6, 14, 0.0), "nobody looked");
        gauges.sample();
        assert_eq!(gauges.read(), reading(6, 14, 0.75));
        assert_eq!(gauges.read(), reading(6, 14, 0.75), "by everybody");
        gauges.sample();
        assert_eq!(gauges.read(), reading(6, 14, 0.5), "what waits still");
        // Work that is taken back may make it longer than it may be.
        two.set(5);
        gauges.sample();
        assert_eq!(gauges.read(), reading(10, 14, 1.0));
        drop(two);
        gauges.sample();
        assert_eq!(gauges.read(), reading(5, 10, 0.5), "gone");
    }
}
