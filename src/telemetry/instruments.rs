//! The public list of metrics: every name, unit and help text stands here and nowhere else.
//!
//! Names follow OpenTelemetry: dots between words that nest, no unit and no `total` in the name.
//! The Prometheus exporter maps them: dots become underscores, the unit is appended (`s` to
//! `_seconds`; one in braces only annotates), a counter gets `_total`. Attributes are bounded:
//! domains and rules as operators wrote them, never what a client sent, save where a rule asks for
//! it (`detailed_metric`, `value_to_metric`), and then capped.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Histogram, Meter};
use opentelemetry_sdk::metrics::{self as sdk, Stream};

use super::decisions::MAX_SERIES;
use super::{Readings, State, stores};
use crate::event::{Code, Outcome};

/// A metric, as `/metrics` and the documentation name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instrument {
    /// Its OpenTelemetry name.
    pub name: &'static str,
    /// Its unit in UCUM; in braces, what is counted.
    pub unit: &'static str,
    /// What it tells, for people.
    pub help: &'static str,
}

/// Every metric that exists, by name.
pub const ALL: [Instrument; 25] = [
    BUILD_INFO,
    DECISION_DURATION,
    DECISIONS,
    SERIES_OVERFLOW,
    POLICY_LOADED,
    POLICY_REFUSED,
    POLICY_RELOADS,
    POLICY_RULES,
    IN_FLIGHT,
    REFUSED,
    SETTINGS_REFUSED,
    STORE_CALL_CHECKS,
    STORE_CALL_DURATION,
    STORE_CALL_QUERIES,
    STORE_CALLS,
    STORE_EXPIRED,
    STORE_FALLBACKS,
    STORE_KEY_LIMIT,
    STORE_KEYS,
    STORE_LOG_OVERFLOWS,
    STORE_OVERFLOW_DECISIONS,
    STORE_OVERFLOW_REFUNDS,
    STORE_OVERFLOW_REFUSED,
    STORE_RECONCILED,
    STORE_TRANSITIONS,
];

const BUILD_INFO: Instrument = Instrument {
    name: "tollgate.build.info",
    unit: "",
    help: "Always 1; its attributes tell which build runs",
};
const DECISION_DURATION: Instrument = Instrument {
    name: "tollgate.decision.duration",
    unit: "s",
    help: "Time from the decoded request to the encoded answer",
};
const DECISIONS: Instrument = Instrument {
    name: "tollgate.decisions",
    unit: "{decision}",
    help: "Decided descriptors by domain, rule and outcome",
};
const SERIES_OVERFLOW: Instrument = Instrument {
    name: "tollgate.metric.series.overflow",
    unit: "{decision}",
    help: "Decisions that were counted under a coarser rule label, since a cap on series was reached",
};
const POLICY_LOADED: Instrument = Instrument {
    name: "tollgate.policy.loaded.timestamp",
    unit: "s",
    help: "When the policies that are in force were read, as a Unix time; 0 before the first",
};
const POLICY_REFUSED: Instrument = Instrument {
    name: "tollgate.policy.refused",
    unit: "",
    help: "1 while the policies as they were read last are refused, so that older ones are in force; else 0",
};
const POLICY_RELOADS: Instrument = Instrument {
    name: "tollgate.policy.reloads",
    unit: "{reload}",
    help: "Times that policies were read, the first included, by result",
};
const POLICY_RULES: Instrument = Instrument {
    name: "tollgate.policy.rules",
    unit: "{rule}",
    help: "Rules in force",
};
const IN_FLIGHT: Instrument = Instrument {
    name: "tollgate.requests.in_flight",
    unit: "{request}",
    help: "Calls that have not been answered yet",
};
const REFUSED: Instrument = Instrument {
    name: "tollgate.requests.refused",
    unit: "{request}",
    help: "Calls that were answered with an error, by its gRPC code: Envoy lets such requests pass unless told otherwise",
};
const SETTINGS_REFUSED: Instrument = Instrument {
    name: "tollgate.settings.refused",
    unit: "",
    help: "1 while the settings as they were read last are refused, so that older ones are in force; else 0",
};
pub(super) const STORE_CALL_CHECKS: Instrument = Instrument {
    name: "tollgate.store.call.checks",
    unit: "{check}",
    help: "Checks that calls to a shared store carried: by calls, the size of a batch",
};
pub(super) const STORE_CALL_DURATION: Instrument = Instrument {
    name: "tollgate.store.call.duration",
    unit: "s",
    help: "Time that calls to a shared store took, failed ones included",
};
pub(super) const STORE_CALL_QUERIES: Instrument = Instrument {
    name: "tollgate.store.call.queries",
    unit: "{query}",
    help: "Queries whose checks calls to a shared store carried: by calls, how many shared a round trip",
};
pub(super) const STORE_CALLS: Instrument = Instrument {
    name: "tollgate.store.calls",
    unit: "{call}",
    help: "Calls to a shared store by result: ok, or why they failed",
};
const STORE_EXPIRED: Instrument = Instrument {
    name: "tollgate.store.expired",
    unit: "{key}",
    help: "Keys that were removed since nothing in them counted any more",
};
pub(super) const STORE_FALLBACKS: Instrument = Instrument {
    name: "tollgate.store.fallbacks",
    unit: "{check}",
    help: "Checks that were decided without the shared store, by reason",
};
const STORE_KEY_LIMIT: Instrument = Instrument {
    name: "tollgate.store.key_limit",
    unit: "{key}",
    help: "Most keys with a counter of their own",
};
const STORE_KEYS: Instrument = Instrument {
    name: "tollgate.store.keys",
    unit: "{key}",
    help: "Keys with a counter of their own",
};
const STORE_LOG_OVERFLOWS: Instrument = Instrument {
    name: "tollgate.store.log.overflows",
    unit: "{charge}",
    help: "Charges to a sliding_log that count for longer than a window since the memory for logs is spent",
};
const STORE_OVERFLOW_DECISIONS: Instrument = Instrument {
    name: "tollgate.store.overflow.decisions",
    unit: "{decision}",
    help: "Checks that were decided by shared counters, since the table of keys was full",
};
const STORE_OVERFLOW_REFUSED: Instrument = Instrument {
    name: "tollgate.store.overflow.refused",
    unit: "{decision}",
    help: "Checks denied since the table was full and not even a shared counter was free",
};
const STORE_OVERFLOW_REFUNDS: Instrument = Instrument {
    name: "tollgate.store.overflow.refunds",
    unit: "{refund}",
    help: "Refunds that were ignored, since their key shares a counter with others",
};
pub(super) const STORE_RECONCILED: Instrument = Instrument {
    name: "tollgate.store.reconciled",
    unit: "{hit}",
    help: "Hits that were admitted without the shared store, by whether it was told afterwards",
};
pub(super) const STORE_TRANSITIONS: Instrument = Instrument {
    name: "tollgate.store.transitions",
    unit: "{transition}",
    help: "Times that the breaker of a shared store's node changed, by its new state",
};

/// The attribute that keeps each shard's histogram apart; `/metrics` sums over it.
pub(super) const SHARD: &str = "shard";

/// Makes every instrument that reads `state` when it is collected, and returns the histogram of
/// decision durations, which is written to instead.
pub(super) fn register(meter: &Meter, state: &Arc<State>) -> Histogram<f64> {
    decisions(meter, state);
    policies(meter, state);
    build_info(meter);

    gauge(meter, state, IN_FLIGHT, |r| r.in_flight);
    refused(meter, state);
    gauge(meter, state, POLICY_REFUSED, |r| {
        u64::from(r.policies_refused)
    });
    gauge(meter, state, POLICY_RULES, |r| r.rules);
    gauge(meter, state, SETTINGS_REFUSED, |r| {
        u64::from(r.settings_refused)
    });
    gauge(meter, state, STORE_KEYS, |r| r.live_keys);
    gauge(meter, state, STORE_KEY_LIMIT, |r| r.key_limit);
    counter(meter, state, STORE_EXPIRED, |r| r.expired);
    counter(meter, state, STORE_OVERFLOW_DECISIONS, |r| {
        r.overflow_decisions
    });
    counter(meter, state, STORE_OVERFLOW_REFUNDS, |r| r.overflow_refunds);
    counter(meter, state, STORE_OVERFLOW_REFUSED, |r| r.overflow_refused);
    counter(meter, state, STORE_LOG_OVERFLOWS, |r| r.log_overflows);
    stores::register(meter, &state.stores);

    histogram(meter, DECISION_DURATION)
}

/// A histogram of durations.
pub(super) fn histogram(meter: &Meter, of: Instrument) -> Histogram<f64> {
    meter
        .f64_histogram(of.name)
        .with_unit(of.unit)
        .with_description(of.help)
        .with_boundaries(DURATION_BOUNDS.to_vec())
        .build()
}

/// How many series the SDK keeps for an instrument. Ours come capped; the SDK's own overflow would
/// keep the last value written to it instead of the sum, so it must never be reached.
pub(super) fn view(instrument: &sdk::Instrument) -> Option<Stream> {
    let series = if instrument.name() == DECISIONS.name {
        MAX_SERIES.saturating_add(Outcome::ALL.len())
    } else {
        MAX_SERIES_ELSEWHERE
    };
    Stream::builder()
        .with_cardinality_limit(series)
        .build()
        .ok()
}

fn decisions(meter: &Meter, state: &Arc<State>) {
    let counts = Arc::clone(state);
    meter
        .u64_observable_counter(DECISIONS.name)
        .with_unit(DECISIONS.unit)
        .with_description(DECISIONS.help)
        .with_callback(move |observer| {
            counts.decisions.visit(|series| {
                observer.observe(
                    series.count,
                    &[
                        KeyValue::new("domain", Arc::clone(series.domain)),
                        KeyValue::new("outcome", series.outcome.name()),
                        KeyValue::new("rule", Arc::clone(series.rule)),
                    ],
                );
            });
        })
        .build();
    let counts = Arc::clone(state);
    meter
        .u64_observable_counter(SERIES_OVERFLOW.name)
        .with_unit(SERIES_OVERFLOW.unit)
        .with_description(SERIES_OVERFLOW.help)
        .with_callback(move |observer| observer.observe(counts.decisions.overflowed(), &[]))
        .build();
}

fn refused(meter: &Meter, state: &Arc<State>) {
    let calls = Arc::clone(state);
    meter
        .u64_observable_counter(REFUSED.name)
        .with_unit(REFUSED.unit)
        .with_description(REFUSED.help)
        .with_callback(move |observer| {
            for (code, count) in Code::ALL.iter().zip(&calls.refused_calls) {
                let count = count.load(Ordering::Relaxed);
                observer.observe(count, &[KeyValue::new("code", code.name())]);
            }
        })
        .build();
}

fn policies(meter: &Meter, state: &Arc<State>) {
    let reloads = Arc::clone(state);
    meter
        .u64_observable_counter(POLICY_RELOADS.name)
        .with_unit(POLICY_RELOADS.unit)
        .with_description(POLICY_RELOADS.help)
        .with_callback(move |observer| {
            for (result, count) in [
                ("accepted", &reloads.accepted),
                ("refused", &reloads.refused),
            ] {
                let count = count.load(Ordering::Relaxed);
                observer.observe(count, &[KeyValue::new("result", result)]);
            }
        })
        .build();
    let loaded = Arc::clone(state);
    meter
        .f64_observable_gauge(POLICY_LOADED.name)
        .with_unit(POLICY_LOADED.unit)
        .with_description(POLICY_LOADED.help)
        .with_callback(move |observer| {
            let at = Duration::from_millis(loaded.loaded_millis.load(Ordering::Relaxed));
            observer.observe(at.as_secs_f64(), &[]);
        })
        .build();
}

fn build_info(meter: &Meter) {
    meter
        .u64_observable_gauge(BUILD_INFO.name)
        .with_description(BUILD_INFO.help)
        .with_callback(|observer| {
            let profile = if cfg!(debug_assertions) {
                "debug"
            } else {
                "release"
            };
            observer.observe(
                1,
                &[
                    KeyValue::new("version", env!("CARGO_PKG_VERSION")),
                    KeyValue::new("profile", profile),
                    KeyValue::new("os", std::env::consts::OS),
                    KeyValue::new("arch", std::env::consts::ARCH),
                ],
            );
        })
        .build();
}

/// A number of the [`Readings`] that goes up and down. Not exported until they can be read.
fn gauge(meter: &Meter, state: &Arc<State>, of: Instrument, pick: fn(&Readings) -> u64) {
    let state = Arc::clone(state);
    meter
        .u64_observable_gauge(of.name)
        .with_unit(of.unit)
        .with_description(of.help)
        .with_callback(move |observer| {
            if let Some(readings) = state.readings() {
                observer.observe(pick(&readings), &[]);
            }
        })
        .build();
}

/// A number of the [`Readings`] that only grows. Not exported until they can be read.
fn counter(meter: &Meter, state: &Arc<State>, of: Instrument, pick: fn(&Readings) -> u64) {
    let state = Arc::clone(state);
    meter
        .u64_observable_counter(of.name)
        .with_unit(of.unit)
        .with_description(of.help)
        .with_callback(move |observer| {
            if let Some(readings) = state.readings() {
                observer.observe(pick(&readings), &[]);
            }
        })
        .build();
}

/// Bucket bounds in seconds: 25 us to 1 s. A decision in memory takes some microseconds, Envoy
/// gives up after 20 ms by default; both ends of that must be told apart.
const DURATION_BOUNDS: [f64; 16] = [
    0.000_025, 0.000_05, 0.000_1, 0.000_2, 0.000_3, 0.000_5, 0.001, 0.002, 0.003, 0.005, 0.01,
    0.015, 0.02, 0.05, 0.2, 1.0,
];

/// Series of any other instrument: a histogram per shard and store is the most, 64 of each of 2.
const MAX_SERIES_ELSEWHERE: usize = 256;
