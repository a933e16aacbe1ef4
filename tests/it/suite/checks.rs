//! Checks that do not depend on how long a test runs, and what is told of them.

use std::num::NonZeroU32;

use tollgate::clock::Clock;
use tollgate::model::{
    Algorithm, Check, DeniedHits, Hits, KeyBuilder, OnStoreFailure, Quota, Role, Unit, Verdict,
    Window,
};
use tollgate::store::{MemoryConfig, MemoryStore};

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

/// A window so long that nothing of it comes back while a test runs: no cell of it ends within an
/// hour. In days, or in as many seconds, which a store for limits per second counts.
pub(super) fn long_window(unit: Unit) -> Window {
    let (now, day, hour) = (
        Clock::system().now().as_millis(),
        Unit::Day.millis(),
        Unit::Hour.millis(),
    );
    let far_from_an_edge = |days: &u64| {
        let cell = days * day / 10;
        let left = cell - now % cell;
        left > hour
    };
    let days = (100..).find(far_from_an_edge).expect("a number of days");
    // A second longer, or it would be the same key in another store.
    let more = u64::from(unit == Unit::Second);
    let multiplier = days * day / unit.millis() + more;
    Window::try_new(unit, u32::try_from(multiplier).unwrap()).unwrap()
}

/// So many in such a window.
pub(super) fn long(algorithm: Algorithm, limit: u32, unit: Unit) -> Quota {
    Quota::try_new(limit, long_window(unit), algorithm, DeniedHits::Free).unwrap()
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
