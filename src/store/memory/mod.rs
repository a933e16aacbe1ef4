//! Counts in this process's memory: exact, bounded, and swept without pauses.
//!
//! Keys are kept as 128-bit hashes with a secret of the process, spread over shards of some 4,000
//! keys, each under one lock ([`shard`]). A query locks the shards of all its keys at once
//! ([`transaction`]), so it is decided as if it were alone.
//!
//! Promises
//! - Serializable and all or nothing, as `store` says.
//! - At most `max_keys` keys have a counter. Only what has expired or was never charged is ever
//!   dropped. When a shard has no room for more keys of a rule, these share counters of fixed size
//!   ([`overflow`]), a quarter of the table's memory at most: some may be denied too early, none too
//!   late, and nobody can flush a counter.
//! - Memory: 64 bytes a key and some 10 for the index; a `sliding_window` has 96 more, a
//!   `sliding_log` 56 and 16 for each charge that it has room for, at least 4. The logs together
//!   are bounded too ([`logs`]).
//! - A lock is held for one query, or for the sweep of one shard.
//!
//! It does not read the clock, does not sweep by itself (the app calls
//! [`MemoryStore::sweep_next`] now and then), and forgets everything when the process ends.

mod fingerprint;
mod logs;
mod overflow;
mod shard;
mod shared_bucket;
mod sketch;
mod slab;
mod state;
mod stats;
mod table;
#[cfg(test)]
mod tests;
mod transaction;
mod verdict;

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::{Mutex, MutexGuard};

use self::fingerprint::{Fingerprint, KeyHasher};
use self::logs::LogBudget;
use self::shard::Shard;
use self::stats::Gauges;
pub use self::stats::MemoryStats;
use self::transaction::{Prints, Transaction};
use self::verdict::{Judgement, Moment};
use crate::clock::Timestamp;
use crate::model::{Check, Decision, Key, Quota, RuleId, Verdict, Verdicts, denies};

/// How large the store may grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryConfig {
    /// The most keys that have a counter of their own.
    pub max_keys: NonZeroU32,
}

/// What another store counts for a key.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Seen<'a> {
    /// The counter's name.
    pub(in crate::store) key: &'a Key,
    /// Its rule.
    pub(in crate::store) rule: RuleId,
    /// The numbers to count with here.
    pub(in crate::store) quota: &'a Quota,
    /// Hits that stand against them.
    pub(in crate::store) used: u64,
    /// When that was so.
    pub(in crate::store) at: Timestamp,
}

/// What one step of sweeping did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Swept {
    /// Counters that had expired and are gone.
    pub expired: usize,
    /// Counters that the swept shard still holds.
    pub kept: usize,
}

/// The counters of this process.
pub struct MemoryStore {
    hasher: KeyHasher,
    /// A power of two of them.
    shards: Box<[ShardCell]>,
    /// The next shard to be swept.
    cursor: AtomicUsize,
    logs: Arc<LogBudget>,
    max_keys: NonZeroU32,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new(config: MemoryConfig) -> Self {
        let max_keys = usize::try_from(config.max_keys.get()).unwrap_or(usize::MAX);
        let count = (max_keys / KEYS_PER_SHARD)
            .next_power_of_two()
            .min(MOST_SHARDS);
        let logs = Arc::new(LogBudget::new(max_keys));
        let shards = (0..count)
            .map(|number| {
                // Not one key more than allowed: the first shards take what does not divide.
                let cap = max_keys / count + usize::from(number < max_keys % count);
                ShardCell::new(cap, &logs)
            })
            .collect();
        Self {
            hasher: KeyHasher::random(),
            shards,
            cursor: AtomicUsize::new(0),
            logs,
            max_keys: config.max_keys,
        }
    }

    /// Decides a query: judges every check, folds, and charges what lands.
    ///
    /// `enforce: false` is for a domain in shadow mode: nothing is denied, so what passes is
    /// charged even beside a check that is over.
    #[must_use]
    pub fn decide(&self, checks: &[Check], enforce: bool, now: Timestamp) -> Decision {
        if let [check] = checks {
            return self.decide_one(check, enforce, now);
        }
        let prints: Prints = checks
            .iter()
            .map(|check| self.hasher.fingerprint(&check.key))
            .collect();
        Transaction::begin(self, &prints, now).decide(checks, &prints, enforce)
    }

    /// The same for a single check, which most queries are: one lock, nothing to be undone.
    fn decide_one(&self, check: &Check, enforce: bool, asked: Timestamp) -> Decision {
        let print = self.hasher.fingerprint(&check.key);
        let mut shard = self.lock(print);
        let now = shard.not_before(asked);
        shard.make_room(1, now);
        let spot = shard.place(print, check, now);
        let over = shard.is_over(spot, check, now);
        let denied = enforce && denies([(check.role, over)]);
        let judgement = Judgement {
            over,
            denied,
            beside: 0,
        };
        let verdict = shard.settle(spot, check, judgement, Moment { asked, now });
        if shard.is_void(spot, now) {
            shard.forget(print, spot, now);
        }
        let mut verdicts = Verdicts::new();
        verdicts.push(verdict);
        Decision { verdicts, denied }
    }

    /// Gives back what these checks were charged at `at`, as their verdicts said, since a check that
    /// was decided elsewhere denies the request; see
    /// [`Counter::give_back`](crate::algorithm::Counter::give_back).
    ///
    /// For checks that passed; what stays whoever denies (`debt`, `charged`, refunds) stays. Shared
    /// counters give nothing back.
    pub fn give_back(&self, checks: &[Check], at: Timestamp, now: Timestamp) {
        for check in checks {
            let print = self.hasher.fingerprint(&check.key);
            self.lock(print).give_back(print, check, at, now);
        }
    }

    /// What [`MemoryStore::decide`] would answer to this check alone. Charges nothing.
    #[must_use]
    pub fn inspect(&self, check: &Check, asked: Timestamp) -> Verdict {
        let print = self.hasher.fingerprint(&check.key);
        let mut shard = self.lock(print);
        let now = shard.not_before(asked);
        shard.make_room(1, now);
        shard.inspect(print, check, Moment { asked, now })
    }

    /// Drops what is counted for this check's key, which is as good as new then. False, and nothing
    /// changes, while a counter that it shares with other keys may hold hits of it, since the table
    /// is full or was lately: that one cannot be dropped without giving the others theirs back.
    #[must_use = "a key that shares its counter is not forgotten"]
    pub fn forget(&self, check: &Check, asked: Timestamp) -> bool {
        let print = self.hasher.fingerprint(&check.key);
        let mut shard = self.lock(print);
        let now = shard.not_before(asked);
        shard.make_room(1, now);
        shard.reset(print, check, now)
    }

    /// Makes a key count what another store says of it. Costs one lock and one look-up.
    ///
    /// Where the count rises, the new hits count from then on; where it falls, fixed windows and
    /// buckets keep the older of theirs and sliding ones count what is left from then on. It falls
    /// only if `may_lower`, which is asked under the key's lock, so that no charge comes between.
    /// Nothing changes if a key has no counter of its own and the table no room for one, if it may
    /// have been charged to a shared counter, or if it has been charged in a later fixed window.
    pub(in crate::store) fn set(&self, seen: &Seen<'_>, may_lower: impl FnOnce() -> bool) {
        let print = self.hasher.fingerprint(seen.key);
        let mut shard = self.lock(print);
        shard.make_room(1, seen.at);
        shard.set(print, seen, may_lower);
    }

    /// Drops what has expired in the next shard, in turn. Holds that shard's lock for well under a
    /// millisecond, so call it once for each of [`MemoryStore::shards`] in every sweep interval,
    /// spread out evenly.
    pub fn sweep_next(&self, now: Timestamp) -> Swept {
        let next = self.cursor.fetch_add(1, Ordering::Relaxed);
        let mut shard = self.shards[next & (self.shards.len() - 1)].lock();
        let removed = shard.sweep(now);
        Swept {
            expired: removed.entries,
            kept: shard.len(),
        }
    }

    /// How many shards there are, so how many calls of [`MemoryStore::sweep_next`] see every key.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// Totals and sizes, read without a lock.
    #[must_use]
    pub fn stats(&self) -> MemoryStats {
        let mut stats = MemoryStats {
            max_keys: u64::from(self.max_keys.get()),
            log_members: u64::try_from(self.logs.allocated()).unwrap_or(u64::MAX),
            log_overflows: self.logs.refusals(),
            ..MemoryStats::default()
        };
        let own = size_of::<ShardCell>() * self.shards.len();
        stats.bytes = u64::try_from(own).unwrap_or(u64::MAX);
        for cell in &self.shards {
            cell.gauges.add_to(&mut stats);
        }
        stats
    }

    fn lock(&self, print: Fingerprint) -> MutexGuard<'_, Shard> {
        self.shards[self.shard_of(print)].lock()
    }

    /// The number of a key's shard. Never out of range: there is a power of two of shards, and the
    /// mask lies below it.
    fn shard_of(&self, print: Fingerprint) -> usize {
        usize::try_from(print.place & 0xffff_ffff).unwrap_or(0) & (self.shards.len() - 1)
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MemoryStore").field(&self.stats()).finish()
    }
}

/// A shard's lock, on cache lines of its own, and what may be read without it.
#[repr(align(64))]
struct ShardCell {
    shard: Mutex<Shard>,
    gauges: Arc<Gauges>,
}

impl ShardCell {
    fn new(cap: usize, logs: &Arc<LogBudget>) -> Self {
        let gauges = Arc::new(Gauges::default());
        Self {
            shard: Mutex::new(Shard::new(cap, Arc::clone(logs), Arc::clone(&gauges))),
            gauges,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shard> {
        self.shard.lock()
    }
}

/// So few that growing, rehashing or sweeping a shard takes well under a millisecond.
const KEYS_PER_SHARD: usize = 4096;

/// Beyond 16 million keys shards grow instead, since empty ones cost memory too.
const MOST_SHARDS: usize = 4096;
