//! Statuses for tests of those who print them.

use super::{Ruling, Status};
use crate::clock::Timestamp;
use crate::model::{DeniedHits, Hits, Quota, Source, Unit, Verdict, Window};
use crate::policy::{Matched, Miss};

/// A descriptor that nothing limits.
pub(crate) fn unmatched_status() -> Status<'static> {
    Status::unmatched(Miss::NoEntries)
}

/// A descriptor with a limit per minute, so many hits left, 1.5 s before its reset.
pub(crate) fn limited_status(limit: u32, remaining: u32, over: bool) -> Status<'static> {
    let window = Window::try_new(Unit::Minute, 1).unwrap();
    let quota = Quota::fixed(limit, window, DeniedHits::Free);
    let verdict = Verdict {
        over,
        remaining,
        counted: u64::from(limit.saturating_sub(remaining)),
        reset_millis: 1500,
        never: false,
        source: Source::Memory,
        at: Timestamp::default(),
    };
    let ruling = Ruling {
        quota,
        hits: Hits::Charge(1),
        verdict,
        shadow: false,
    };
    Status {
        matched: Matched::Override(quota),
        ruling: Some(ruling),
    }
}
