//! What a replica does while the store that all replicas share is away: enforce its share.
//!
//! Each replica lets pass its part of every limit ([`Fleet`]), counted in a [`MemoryStore`] of its
//! own. It begins with what it saw last: of c hits that the store counts, ceil(c/N) stand against
//! each of N shares, so that together they let pass no more than what was left.
//!
//! Promises, with L the limit (of a bucket: its size and refill) and N right
//! - In a window (for sliding rules any interval of one, for buckets any time) decided wholly here,
//!   the replicas let pass at most L together; L - c if all saw the count c before.
//! - Where some hits are decided here and others by the store, at most 2L. So hits that were let
//!   pass here count here for as long as they would anywhere, whatever the store says of the key
//!   meanwhile, and whether it has been told of them or not: its answers may raise such a key's
//!   count and never lower it ([`guards`]).
//! - What was let pass here can be charged in the store when it is back ([`LocalStore::take`]).
//! - Bounded: the memory store's keys, the ledger's entries, the guards.
//!
//! It reads no clock and talks to nobody: time is the caller's estimate of the shared store's clock,
//! and the caller says who the fleet is, when the store is away, and what it answered.

mod fallback;
mod fleet;
mod guards;
mod ledger;
#[cfg(test)]
mod tests;

use std::fmt;
use std::hash::BuildHasher;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use foldhash::fast::RandomState;
use smallvec::SmallVec;

pub use self::fallback::fallback;
pub use self::fleet::Fleet;
use self::fleet::Share;
use self::guards::{Guards, fades_by};
use self::ledger::Ledger;
use super::memory::Seen;
use super::{MemoryConfig, MemoryStats, MemoryStore};
use crate::algorithm::{lands, passes_at};
use crate::clock::Timestamp;
use crate::model::{
    Algorithm, Check, Decision, Hits, Key, OnStoreFailure, Quota, SATURATED, Source, Verdict,
};

/// How large it may grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalConfig {
    /// The most keys that have a counter of their own, seen or charged.
    pub max_keys: NonZeroU32,
    /// The most keys whose hits are remembered for the store.
    pub ledger_keys: NonZeroU32,
}

impl Default for LocalConfig {
    /// A million keys as in the memory store, and 100,000 in the ledger.
    fn default() -> Self {
        Self {
            max_keys: NonZeroU32::MIN.saturating_add(999_999),
            ledger_keys: NonZeroU32::MIN.saturating_add(99_999),
        }
    }
}

/// At a glance. Totals count since the process started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalStats {
    /// The counters.
    pub memory: MemoryStats,
    /// Queries decided here, in total.
    pub decisions: u64,
    /// Keys with hits that the shared store has not been told of, now.
    pub ledger_keys: u64,
    /// Hits that the shared store will not be told of since the ledger was full, in total.
    pub forgotten: u64,
    /// Hits that it will not be told of since they had stopped counting, in total.
    pub faded: u64,
    /// Replicas among which limits are divided now.
    pub replicas: u32,
}

/// This replica's share of every limit.
pub struct LocalStore {
    memory: MemoryStore,
    fleet: ArcSwap<Fleet>,
    guards: Guards,
    ledger: Ledger,
    /// For guards and ledger, with a secret of the process.
    hasher: RandomState,
    decisions: AtomicU64,
}

impl LocalStore {
    /// An empty one, of a replica that is alone until [`LocalStore::set_fleet`] says otherwise.
    #[must_use]
    pub fn new(config: LocalConfig) -> Self {
        let ledger_keys = usize::try_from(config.ledger_keys.get()).unwrap_or(usize::MAX);
        Self {
            memory: MemoryStore::new(MemoryConfig {
                max_keys: config.max_keys,
            }),
            fleet: ArcSwap::from_pointee(Fleet::alone()),
            guards: Guards::new(),
            ledger: Ledger::new(ledger_keys),
            hasher: RandomState::default(),
            decisions: AtomicU64::new(0),
        }
    }

    /// Divides limits among this fleet from now on; counts stay.
    pub fn set_fleet(&self, fleet: Fleet) {
        self.fleet.store(Arc::new(fleet));
    }

    /// The fleet among which limits are divided now.
    #[must_use]
    pub fn fleet(&self) -> Arc<Fleet> {
        self.fleet.load_full()
    }

    /// Takes note of what the shared store answered to these checks, in their order: what it has
    /// counted, at its time. Cheap, for it is called for every answer; only rules that are decided
    /// here when the store is away are noted, and only what that store itself counted.
    pub fn observe(&self, checks: &[Check], verdicts: &[Verdict]) {
        let fleet = self.fleet.load();
        for (check, verdict) in checks.iter().zip(verdicts) {
            if check.on_store_failure != OnStoreFailure::Local || verdict.source != Source::Store {
                continue;
            }
            let share = fleet.share(&check.key, &check.quota);
            if share.is_nothing() {
                continue;
            }
            let quota = check.quota.at_most(share.limit, share.burst);
            let seen = Seen {
                key: &check.key,
                rule: check.rule,
                quota: &quota,
                used: share.of_count(verdict.counted),
                at: verdict.at,
            };
            let may_lower = || !self.guards.is_held(self.hash(&check.key), verdict.at);
            self.memory.set(&seen, may_lower);
        }
    }

    /// Decides a query by this replica's shares, all or nothing over the checks given, as
    /// [`MemoryStore::decide`] does, and remembers what landed.
    ///
    /// The verdicts tell this replica's own hits: what it counts, and what it would still let pass.
    /// They come from [`Source::Local`], or from [`Source::Overflow`] if a key shares a counter.
    #[must_use]
    pub fn decide(&self, checks: &[Check], enforce: bool, now: Timestamp) -> Decision {
        self.decisions.fetch_add(1, Ordering::Relaxed);
        let fleet = self.fleet.load();
        let shares: Shares = checks
            .iter()
            .map(|check| fleet.share(&check.key, &check.quota))
            .collect();
        let own: Checks = checks
            .iter()
            .zip(&shares)
            .map(|(check, &share)| own(check, share, check.hits))
            .collect();
        // Before it counts, so that no answer of the store comes between.
        for check in &own {
            if let Hits::Charge(hits) = check.hits {
                let most = hits.saturating_add(check.quota.burst().into());
                self.guard(check, fades_by(&check.quota, most, now));
            }
        }
        let mut decision = self.memory.decide(&own, enforce, now);
        let denied = decision.denied;
        for (index, verdict) in decision.verdicts.iter_mut().enumerate() {
            let (Some(check), Some(own), Some(&share)) =
                (checks.get(index), own.get(index), shares.get(index))
            else {
                break;
            };
            // By the whole quota, for a debt lands whether or not this replica has a share.
            if lands(&check.quota, check.hits, verdict.over, denied) {
                let faded = fades_by(&own.quota, verdict.counted, verdict.at);
                self.guard(own, faded.max(now + verdict.reset_millis));
                self.remember(check, share, verdict.at);
            }
            tell(verdict, check, share);
            verdict.at = verdict.at.max(window_begins(&check.quota, verdict, now));
        }
        decision
    }

    /// Takes back what these checks were charged by [`LocalStore::decide`] at `at`, since their
    /// query was denied elsewhere. Anything but a charge is left alone.
    pub fn give_back(&self, checks: &[Check], at: Timestamp, now: Timestamp) {
        let fleet = self.fleet.load();
        let own: Checks = checks
            .iter()
            .map(|check| own(check, fleet.share(&check.key, &check.quota), check.hits))
            .collect();
        self.memory.give_back(&own, at, now);
        self.told(checks, at, now);
    }

    /// What a query of this check alone would be answered. Charges nothing.
    #[must_use]
    pub fn inspect(&self, check: &Check, now: Timestamp) -> Verdict {
        let share = self.fleet.load().share(&check.key, &check.quota);
        let mut verdict = self.memory.inspect(&own(check, share, check.hits), now);
        tell(&mut verdict, check, share);
        verdict
    }

    /// Whether this replica's share of the check's limit is 0: it is divided by more replicas than it allows hits.
    #[must_use]
    pub fn has_no_share(&self, check: &Check) -> bool {
        self.fleet
            .load()
            .share(&check.key, &check.quota)
            .is_nothing()
    }

    /// Drops what this check's key has been charged here, also what the store has not been told of;
    /// see [`MemoryStore::forget`].
    pub fn forget(&self, check: &Check, now: Timestamp) -> bool {
        let share = self.fleet.load().share(&check.key, &check.quota);
        self.ledger
            .refund(self.hash(&check.key), &check.key, SATURATED, now);
        self.memory.forget(&own(check, share, check.hits), now)
    }

    /// The counters, for those who want to know how many.
    #[must_use]
    pub fn memory(&self) -> &MemoryStore {
        &self.memory
    }

    /// Forgets to charge the shared store with what these checks were charged here at `at`.
    fn told(&self, checks: &[Check], at: Timestamp, now: Timestamp) {
        for check in checks {
            if let Hits::Charge(hits) = check.hits
                && still_counts(&check.quota, at, now)
            {
                let hash = self.hash(&check.key);
                self.ledger.refund(hash, &check.key, hits, now);
            }
        }
    }

    /// Hands out up to `most` keys whose hits the shared store does not know of, as checks that
    /// charge it with what still counts by its `clock`. Fewer than `most`: there are no more now.
    ///
    /// Each charge lands, whatever the limit says (the check's quota is one of `debt`), for these
    /// hits were let pass. Whoever cannot deliver them puts them back.
    #[must_use]
    pub fn take(&self, most: usize, clock: impl Fn(&Check) -> Timestamp) -> Vec<Check> {
        self.ledger.take(most, clock)
    }

    /// Whether there are keys with hits that the shared store does not know of.
    #[must_use]
    pub fn has_ledger(&self) -> bool {
        self.ledger.len() > 0
    }

    /// Remembers again what was taken at `taken` and could not be delivered.
    pub fn put_back(&self, checks: &[Check], taken: Timestamp) {
        let fleet = self.fleet.load();
        for check in checks {
            let share = fleet.share(&check.key, &check.quota);
            let hash = self.hash(&check.key);
            self.ledger.put_back(hash, (check, share), taken);
        }
    }

    /// Drops what has expired in the next shards, in turn; see [`MemoryStore::sweep_next`].
    pub fn sweep_next(&self, now: Timestamp) {
        self.memory.sweep_next(now);
        self.ledger.sweep_next(now);
    }

    /// How many calls of [`LocalStore::sweep_next`] see every key.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.memory.shards().max(self.ledger.shards())
    }

    /// Hits that the shared store will not be told of, in total: there was no room to remember
    /// them, or they had stopped counting.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.ledger.forgotten().saturating_add(self.ledger.faded())
    }

    /// Totals and sizes, read without a lock.
    #[must_use]
    pub fn stats(&self) -> LocalStats {
        LocalStats {
            memory: self.memory.stats(),
            decisions: self.decisions.load(Ordering::Relaxed),
            ledger_keys: u64::try_from(self.ledger.len()).unwrap_or(u64::MAX),
            forgotten: self.ledger.forgotten(),
            faded: self.ledger.faded(),
            replicas: self.fleet.load().replicas(),
        }
    }

    /// Keeps the store's answers from lowering a key's count before this time.
    fn guard(&self, own: &Check, until: Timestamp) {
        self.guards.hold(self.hash(&own.key), until);
    }

    fn remember(&self, check: &Check, share: Share, at: Timestamp) {
        let hash = self.hash(&check.key);
        match check.hits {
            Hits::Charge(hits) => self.ledger.charge(hash, (check, share), hits, at),
            Hits::Refund(hits) => self.ledger.refund(hash, &check.key, hits, at),
            Hits::Peek => {}
        }
    }

    fn hash(&self, key: &Key) -> u64 {
        self.hasher.hash_one(key.as_bytes())
    }
}

impl fmt::Debug for LocalStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LocalStore").field(&self.stats()).finish()
    }
}

/// Checks, or what goes with them, of the usual query without an allocation.
type Checks = SmallVec<[Check; 4]>;
type Shares = SmallVec<[Share; 4]>;

/// A check by this replica's share. Where that has gone, hits that were let pass before are given
/// back to the whole bucket: one that never refills has no state to give back to.
fn own(check: &Check, share: Share, hits: Hits) -> Check {
    let (limit, burst) = match hits {
        Hits::Refund(_) if share.is_nothing() => (1, u32::MAX),
        Hits::Charge(_) | Hits::Peek | Hits::Refund(_) => (share.limit, share.burst),
    };
    Check {
        quota: check.quota.at_most(limit, burst),
        hits,
        ..check.clone()
    }
}

/// Makes a verdict on the share one on the check.
fn tell(verdict: &mut Verdict, check: &Check, share: Share) {
    if verdict.source == Source::Memory {
        verdict.source = Source::Local;
    }
    // The share grows again when the store is back, so only what the whole quota says is for ever.
    verdict.never = verdict.over && passes_at(&check.quota, check.hits).is_none();
    if share.is_nothing() {
        verdict.remaining = 0;
    }
}

/// When the fixed window that a verdict is about began: the next one may have begun by another
/// thread's clock, and hits are then counted there.
fn window_begins(quota: &Quota, verdict: &Verdict, now: Timestamp) -> Timestamp {
    if quota.algorithm() != Algorithm::FixedWindow || verdict.reset_millis == 0 {
        return Timestamp::default();
    }
    let ends = now.as_millis().saturating_add(verdict.reset_millis);
    Timestamp::from_millis(ends.saturating_sub(quota.window().millis()))
}

/// Whether hits of a fixed window that were charged at `at` are still in the one of `now`. Other
/// counters give back no more than they still count.
fn still_counts(quota: &Quota, at: Timestamp, now: Timestamp) -> bool {
    let window = |time: Timestamp| time.as_millis().checked_div(quota.window().millis());
    quota.algorithm() != Algorithm::FixedWindow || window(at) == window(now)
}
