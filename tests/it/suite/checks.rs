//! Checks that do not depend on how long a test runs, and what is told of them.

use std::num::NonZeroU32;

use tollgate::model::{
    Check, Hits, KeyBuilder, OnStoreFailure, Quota, Role, RuleId, Unit, Verdict,
};
use tollgate::store::{MemoryConfig, MemoryStore};

pub(super) use crate::window::{long, long_window};

/// One that decides as the servers do, key by key.
pub(super) fn memory() -> MemoryStore {
    MemoryStore::new(MemoryConfig {
        max_keys: NonZeroU32::new(4_000).unwrap(),
    })
}

pub(super) fn check(user: &str, quota: Quota, hits: Hits) -> Check {
    let mut key = KeyBuilder::new(b"suite");
    key.entry((b"user", false), (user.as_bytes(), false));
    Check {
        rule: RuleId::default(),
        key: key.finish(&quota),
        quota,
        hits,
        role: Role::default(),
        on_store_failure: OnStoreFailure::Local,
    }
}

pub(super) fn charge(user: &str, quota: Quota) -> Check {
    check(user, quota, Hits::Charge(1))
}

/// Days and seconds by turns.
pub(super) fn unit_of(number: usize) -> Unit {
    [Unit::Day, Unit::Second][number % 2]
}

/// The hits that a query charges for a key.
pub(super) fn hits_for(checks: &[Check], of: &Check) -> u64 {
    let same = checks.iter().filter(|check| check.key == of.key);
    same.map(|check| match check.hits {
        Hits::Charge(hits) => hits,
        Hits::Peek | Hits::Refund(_) => 0,
    })
    .sum()
}

/// What is told besides who decided, and when.
pub(super) fn told(verdict: &Verdict) -> (bool, u32, u64, bool) {
    let Verdict {
        over,
        remaining,
        counted,
        never,
        ..
    } = *verdict;
    (over, remaining, counted, never)
}
