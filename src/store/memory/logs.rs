//! Memory for sliding logs, which is the one kind of counter that grows.
//!
//! All logs together have room for [`MEMBERS_PER_KEY`] members for each key that the store may
//! hold (and for one log of the largest size in any case). A log doubles its room when it is full,
//! up to as many members as its limit, for it needs no more to judge (see `SlidingLog`). When the
//! budget is spent it stays as it is, and its oldest hits count for longer than a window, never
//! for less. The first few members are granted to every log, so a spent budget never keeps a key
//! from being counted.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::algorithm::SlidingLog;
use crate::clock::Timestamp;
use crate::model::Quota;

/// Counts the members that all logs have memory for.
#[derive(Debug)]
pub(super) struct LogBudget {
    allocated: AtomicUsize,
    most: usize,
    refusals: AtomicU64,
}

impl LogBudget {
    pub(super) fn new(max_keys: usize) -> Self {
        let members = max_keys.saturating_mul(MEMBERS_PER_KEY);
        Self::with_members(members.max(SlidingLog::MAX_MEMBERS))
    }

    /// Room for so many members altogether.
    pub(super) fn with_members(most: usize) -> Self {
        Self {
            allocated: AtomicUsize::new(0),
            most,
            refusals: AtomicU64::new(0),
        }
    }

    /// Makes room in a log for one more charge, if the budget and the log's limit allow.
    pub(super) fn make_room(&self, log: &mut SlidingLog, quota: &Quota, now: Timestamp) {
        log.trim(quota, now);
        let had = log.allocated();
        let limit = usize::try_from(quota.limit()).unwrap_or(usize::MAX);
        let most = limit.clamp(FEW, SlidingLog::MAX_MEMBERS);
        let wanted = if log.members() >= had {
            (had * 2).clamp(GRANTED, most).max(had)
        } else if log.members() < had / 4 {
            (had / 2).max(GRANTED)
        } else {
            had
        };
        let more = wanted.saturating_sub(had);
        let refused = more > 0 && had > 0 && self.allocated() + more > self.most;
        if refused {
            self.refusals.fetch_add(1, Ordering::Relaxed);
        }
        // Racing logs may pass the budget by one doubling each; the next ones are refused.
        log.set_room(if refused { had } else { wanted });
        if log.allocated() != had {
            self.take(log.allocated());
            self.give_back(had);
        }
    }

    /// Takes note of a log with memory for so many members.
    pub(super) fn take(&self, members: usize) {
        if members > 0 {
            self.allocated.fetch_add(members, Ordering::Relaxed);
        }
    }

    /// Takes note that logs with memory for so many members are gone.
    pub(super) fn give_back(&self, members: usize) {
        if members > 0 {
            self.allocated.fetch_sub(members, Ordering::Relaxed);
        }
    }

    /// Members that all logs have memory for now.
    pub(super) fn allocated(&self) -> usize {
        self.allocated.load(Ordering::Relaxed)
    }

    /// Charges that found their log full and the budget spent.
    pub(super) fn refusals(&self) -> u64 {
        self.refusals.load(Ordering::Relaxed)
    }
}

/// A member is 16 bytes, so all logs' members take about as much memory as the table.
const MEMBERS_PER_KEY: usize = 4;

/// Room that every log gets.
const GRANTED: usize = 4;

/// Room that a log gets however low its limit is, so that counts told under `debt` stay exact
/// for a while.
const FEW: usize = 64;
