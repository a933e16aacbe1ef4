//! Verdicts where nobody counts.

use crate::algorithm::{capacity, passes_at};
use crate::clock::Timestamp;
use crate::model::{Check, Hits, OnStoreFailure, Source, Verdict};

/// The verdict of a check whose rule lets pass (`allow`) or denies (`deny`) while the shared store
/// is away. Charges nobody.
///
/// `allow` lets pass what could pass if nothing were counted: a limit of 0 stays closed. Any other
/// way than `allow` is told as `deny`; `local` is [`LocalStore`](super::LocalStore)'s to decide, and
/// for `error` the whole call fails. A refund is never over.
#[must_use]
pub fn fallback(check: &Check, now: Timestamp) -> Verdict {
    let never = passes_at(&check.quota, check.hits).is_none();
    let over = match (check.hits, check.on_store_failure) {
        (Hits::Refund(_), _) => false,
        (Hits::Charge(_) | Hits::Peek, OnStoreFailure::Allow) => never,
        (
            Hits::Charge(_) | Hits::Peek,
            OnStoreFailure::Deny | OnStoreFailure::Error | OnStoreFailure::Local,
        ) => true,
    };
    let is_allowed = check.on_store_failure == OnStoreFailure::Allow && !over;
    Verdict {
        over,
        remaining: match is_allowed {
            true => u32::try_from(capacity(&check.quota)).unwrap_or(u32::MAX),
            false => 0,
        },
        counted: 0,
        reset_millis: match is_allowed {
            true => 0,
            false => check.quota.window().millis(),
        },
        never: over && never,
        source: Source::Fallback,
        at: now,
    }
}
