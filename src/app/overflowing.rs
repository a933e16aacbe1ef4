//! Warns of rules that have more keys than there is room for: their further new keys share counters,
//! so that some callers are denied too early.

use tracing::warn;

use crate::telemetry::Telemetry;

/// Logs the rules for which that has begun. Called every second; cheap if there are none.
pub(super) fn report(telemetry: &Telemetry) {
    let rules = telemetry.newly_overflowing();
    for name in rules.iter().take(MOST_NAMED) {
        warn!(
            domain = &*name.domain,
            rule = &*name.rule,
            "no room for more keys of this rule: its new keys share counters, and some are denied too \
             early; raise store.memory.max_keys, or limit by a key that clients cannot make up"
        );
    }
    if let Some(more @ 1..) = rules.len().checked_sub(MOST_NAMED) {
        warn!(
            more,
            "no room for more keys of these rules; /top names them"
        );
    }
}

/// Rules that are named at a time.
const MOST_NAMED: usize = 10;
