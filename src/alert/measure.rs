//! The value of each alert.

use std::time::Duration;

use super::{Alert, Counts, Levels, Tail};
use crate::event::StoreName;

/// A value in the unit of its alert; and of which store, where that is known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Measured {
    pub(super) value: f64,
    pub(super) store: Option<StoreName>,
}

/// What an alert's value is by the counts of the window; none if they are too few to say.
pub(super) fn measure(
    alert: Alert,
    counts: &Counts,
    levels: &Levels,
    min_calls: u64,
) -> Option<Measured> {
    let mut store = None;
    let value = match alert {
        Alert::ErrorRate => percent(counts.refused, counts.calls(), min_calls)?,
        // What is no number is no use.
        Alert::QueueFull if levels.queue > 0.0 => levels.queue.min(1.0) * 100.0,
        Alert::QueueFull => 0.0,
        Alert::CircuitTrips => float(counts.trips),
        Alert::UnknownDomains => float(counts.unknown_domains),
        Alert::KeysFull => float(counts.overflowed),
        Alert::ResponseTime => percentile(&counts.call_tail, counts.calls(), min_calls)?,
        Alert::BatchFailures => percent(counts.batch_failures, counts.batches, min_calls)?,
        Alert::RedisLatency => percentile(&counts.store_tail, counts.store_calls, min_calls)?,
        Alert::StoreDown => {
            let longest = levels.longest_down();
            store = longest.map(|(store, _)| store);
            longest
                .map_or(Duration::ZERO, |(_, time)| time)
                .as_secs_f64()
        }
    };
    Some(Measured { value, store })
}

fn percent(part: u64, all: u64, min_calls: u64) -> Option<f64> {
    let enough = all > 0 && all >= min_calls;
    enough.then(|| float(part.min(all)) / float(all) * 100.0)
}

/// The 99th percentile in seconds.
fn percentile(tail: &Tail, all: u64, min_calls: u64) -> Option<f64> {
    let enough = all > 0 && all >= min_calls;
    let slower = all.div_ceil(100).max(FEWEST_SLOW);
    enough.then(|| tail.slowest(slower).as_secs_f64())
}

/// Exact up to 2^32, above which a window does not get.
fn float(count: u64) -> f64 {
    u32::try_from(count).unwrap_or(u32::MAX).into()
}

/// As many calls must be as slow as a percentile says at least: of fewer than 100 calls the 99th
/// percentile would be the slowest, and one slow call at night would alarm.
const FEWEST_SLOW: u64 = 3;
