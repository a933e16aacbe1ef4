//! The algorithms against a list of charges, and their promises acted on.
#![expect(
    clippy::arithmetic_side_effects,
    clippy::integer_division,
    reason = "the reference says plainly what is meant; in a test an overflow panics"
)]

mod cases;
mod give_back;
mod properties;
pub(crate) mod reference;

use super::{Counter, apply, is_over, lands, report};
use crate::clock::Timestamp;
use crate::model::{
    Algorithm, Check, DeniedHits, Hits, KeyBuilder, OnStoreFailure, Quota, Role, RuleId, Unit,
    Verdict, Window,
};

/// A quota that is valid, or a bug in a test.
pub(crate) fn quota(
    algorithm: Algorithm,
    limit: u32,
    (multiplier, unit): (u32, Unit),
    denied_hits: DeniedHits,
) -> Quota {
    let window = Window::try_new(unit, multiplier).unwrap();
    Quota::try_new(limit, window, algorithm, denied_hits).unwrap()
}

/// A check of the only key there is.
pub(crate) fn check(quota: Quota, hits: Hits) -> Check {
    check_of("anybody", quota, hits)
}

/// A check of a user's key.
pub(crate) fn check_of(user: &str, quota: Quota, hits: Hits) -> Check {
    let mut key = KeyBuilder::new(b"d");
    key.entry((b"user", false), (user.as_bytes(), false));
    Check {
        key: key.finish(&quota),
        rule: RuleId::default(),
        quota,
        hits,
        role: Role::default(),
        on_store_failure: OnStoreFailure::Local,
    }
}

/// Asks one counter, as a query of a single check does.
fn ask(counter: &mut dyn Counter, quota: Quota, hits: Hits, now: Timestamp) -> Verdict {
    let over = is_over(&quota, hits, counter.used(&quota, now));
    if lands(&quota, hits, over, over) {
        apply(counter, &quota, hits, now);
    }
    report(counter, &check(quota, hits), over, 0, now)
}

/// Milliseconds since the epoch.
pub(crate) fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}
