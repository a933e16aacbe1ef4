//! `alerts`: what is worth waking somebody, and who is told.

use serde::{Deserialize, Serialize};

use super::texts::unless_empty;
use super::thresholds::{AlertmanagerUrls, OrOff, Percent};
use super::values::{Number, Span};

/// `alerts`: when to alarm, and whom to tell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Alerts {
    /// The share of rate limit calls that are answered with an error.
    pub error_rate: OrOff<Percent>,
    /// How full the queue to the shared store is.
    pub queue_full: OrOff<Percent>,
    /// How often breakers open in a window.
    pub circuit_trips: OrOff<Number<0, { u32::MAX }>>,
    /// The time within which 99 of 100 rate limit calls end.
    pub response_time: OrOff<Span<1>>,
    /// The share of calls to the shared store that fail.
    pub batch_failures: OrOff<Percent>,
    /// The time within which 99 of 100 calls to the shared store end.
    pub redis_latency: OrOff<Span<1>>,
    /// How long a shared store is not asked.
    pub store_down: OrOff<Span<1000>>,
    /// How many queries of a window are for domains that no policy has.
    pub unknown_domains: OrOff<Number<0, { u32::MAX }>>,
    /// How many verdicts of a window come from counters that keys share.
    pub keys_full: OrOff<Number<0, { u32::MAX }>>,
    /// Shares, percentiles and trips are of this long.
    pub window: Span<1000>,
    /// A value must be above its threshold for so long.
    #[serde(rename = "for")]
    pub hold: Span<0>,
    /// A value must be well below its threshold for so long until the alert ends.
    pub keep_firing_for: Span<0>,
    /// Shares and percentiles of fewer calls in a window are not judged.
    pub min_calls: Number<1, { u32::MAX }>,
    /// Every Alertmanager of the cluster.
    #[serde(deserialize_with = "unless_empty")]
    pub alertmanager_url: Option<AlertmanagerUrls>,
}

impl Default for Alerts {
    fn default() -> Self {
        Self {
            error_rate: OrOff::At(Percent::clamped(5.0)),
            queue_full: OrOff::At(Percent::clamped(80.0)),
            circuit_trips: OrOff::At(Number::clamped(3)),
            response_time: OrOff::At(Span::from_millis(500)),
            batch_failures: OrOff::At(Percent::clamped(10.0)),
            redis_latency: OrOff::At(Span::from_millis(100)),
            store_down: OrOff::At(Span::from_secs(10)),
            // A fleet may be asked for domains that it leaves unlimited on purpose.
            unknown_domains: OrOff::Off,
            keys_full: OrOff::At(Number::clamped(0)),
            window: Span::from_secs(60),
            hold: Span::from_secs(5),
            keep_firing_for: Span::from_secs(30),
            min_calls: Number::clamped(20),
            alertmanager_url: None,
        }
    }
}
