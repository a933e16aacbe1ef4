//! What the store counts about itself, readable without a lock.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// The store at a glance. Totals count since the process started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryStats {
    /// Keys with a counter of their own now.
    pub live_keys: u64,
    /// The most keys that may have one.
    pub max_keys: u64,
    /// Counters removed since they had expired, in total.
    pub expired: u64,
    /// Verdicts from shared counters since the table had no room for more keys of their rule, in total.
    pub overflow_decisions: u64,
    /// Of those, verdicts that were over since not even a shared counter was free, in total.
    pub overflow_refused: u64,
    /// Refunds that a shared counter ignored, in total.
    pub overflow_refunds_ignored: u64,
    /// Charges that sliding logs have memory for now.
    pub log_members: u64,
    /// Charges to a sliding log that count for longer than they should since the logs' memory was
    /// spent, in total.
    pub log_overflows: u64,
    /// Memory of the tables, logs and shared counters now, estimated.
    pub bytes: u64,
}

/// One shard's part of it. Written by whoever holds the shard's lock, read by anybody.
#[derive(Debug, Default)]
pub(super) struct Gauges {
    pub(super) live: AtomicUsize,
    pub(super) bytes: AtomicUsize,
    pub(super) expired: AtomicU64,
    pub(super) overflow_decisions: AtomicU64,
    pub(super) overflow_refused: AtomicU64,
    pub(super) overflow_refunds_ignored: AtomicU64,
}

impl Gauges {
    /// Adds this shard to the whole.
    pub(super) fn add_to(&self, stats: &mut MemoryStats) {
        let size =
            |gauge: &AtomicUsize| u64::try_from(gauge.load(Ordering::Relaxed)).unwrap_or(u64::MAX);
        let total = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        stats.live_keys += size(&self.live);
        stats.bytes += size(&self.bytes);
        stats.expired += total(&self.expired);
        stats.overflow_decisions += total(&self.overflow_decisions);
        stats.overflow_refused += total(&self.overflow_refused);
        stats.overflow_refunds_ignored += total(&self.overflow_refunds_ignored);
    }
}

/// Counts one more.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
