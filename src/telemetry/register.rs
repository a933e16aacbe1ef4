//! The instruments that read what others count when they are collected.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;
use opentelemetry_sdk::metrics::{self as sdk, Stream};

use super::decisions::{MAX_SERIES, OTHER, Slot};
use super::domains::MAX_DOMAINS;
use super::instruments::{
    ADMIN_REFUSALS, BUILD_INFO, DECISIONS, DENIED_UNREAD, IN_FLIGHT, Instrument, NEAR_LIMIT,
    POLICY_INFO, POLICY_LOADED, POLICY_REFUSED, POLICY_RELOADS, POLICY_RULES, PROTOCOL_ERRORS,
    REFUSED, REQUESTS, RULE_ENFORCEMENT, SERIES_OVERFLOW, SETTINGS_REFUSED, STORE_EXPIRED,
    STORE_KEY_LIMIT, STORE_KEYS, STORE_LOG_OVERFLOWS, STORE_OVERFLOW_DECISIONS,
    STORE_OVERFLOW_REFUNDS, STORE_OVERFLOW_REFUSED,
};
use super::{Readings, State, store_readings, stores};
use crate::event::{AdminRefusal, Code, DeniedUnread, ProtocolError, QueryResult};

/// Makes every instrument that reads `state` when it is collected.
pub(super) fn register(meter: &Meter, state: &Arc<State>) {
    decisions(meter, state);
    policies(meter, state);
    build_info(meter);
    policy_info(meter, state);
    enforcement(meter, state);

    gauge(meter, state, IN_FLIGHT, |r| r.in_flight);
    refused(meter, state);
    protocol_errors(meter, state);
    admin_refusals(meter, state);
    denied_unread(meter, state);
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
    store_readings::register(meter, state);
}

/// How many series the SDK keeps for an instrument. Ours come capped; the SDK's own overflow would
/// keep the last value written to it instead of the sum, so it must never be reached.
pub(super) fn view(instrument: &sdk::Instrument) -> Option<Stream> {
    let name = instrument.name();
    let series = if [DECISIONS.name, NEAR_LIMIT.name].contains(&name) {
        MAX_SERIES.saturating_add(Slot::COUNT)
    } else if name == REQUESTS.name {
        MAX_DOMAINS.saturating_mul(QueryResult::ALL.len())
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
                if let Slot::Decided(outcome, by) = series.slot {
                    observer.observe(
                        series.count,
                        &[
                            KeyValue::new("domain", Arc::clone(series.domain)),
                            KeyValue::new("outcome", outcome.name()),
                            KeyValue::new("rule", Arc::clone(series.rule)),
                            KeyValue::new("source", by.name()),
                        ],
                    );
                }
            });
        })
        .build();
    let counts = Arc::clone(state);
    meter
        .u64_observable_counter(NEAR_LIMIT.name)
        .with_unit(NEAR_LIMIT.unit)
        .with_description(NEAR_LIMIT.help)
        .with_callback(move |observer| {
            counts.decisions.visit(|series| {
                if series.slot == Slot::NearLimit {
                    observer.observe(
                        series.count,
                        &[
                            KeyValue::new("domain", Arc::clone(series.domain)),
                            KeyValue::new("rule", Arc::clone(series.rule)),
                        ],
                    );
                }
            });
        })
        .build();
    let counts = Arc::clone(state);
    meter
        .u64_observable_counter(REQUESTS.name)
        .with_unit(REQUESTS.unit)
        .with_description(REQUESTS.help)
        .with_callback(move |observer| {
            for domain in counts.domains.counts() {
                for (result, count) in QueryResult::ALL.iter().zip(domain.queries) {
                    observer.observe(
                        count,
                        &[
                            KeyValue::new("domain", Arc::clone(&domain.domain)),
                            KeyValue::new("result", result.name()),
                        ],
                    );
                }
            }
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
    // A caller who has gone is refused nothing.
    let codes = Code::ALL.map(|code| (code != Code::Cancelled).then(|| code.name()));
    labelled(meter, state, REFUSED, codes, |state| &state.refused_calls);
}

fn protocol_errors(meter: &Meter, state: &Arc<State>) {
    let reasons = ProtocolError::ALL.map(|error| Some(error.name()));
    labelled(meter, state, PROTOCOL_ERRORS, reasons, |state| {
        &state.protocol_errors
    });
}

fn admin_refusals(meter: &Meter, state: &Arc<State>) {
    let reasons = AdminRefusal::ALL.map(|reason| Some(reason.name()));
    labelled(meter, state, ADMIN_REFUSALS, reasons, |state| {
        &state.admin_refusals
    });
}

fn denied_unread(meter: &Meter, state: &Arc<State>) {
    let reasons = DeniedUnread::ALL.map(|reason| Some(reason.name()));
    labelled(meter, state, DENIED_UNREAD, reasons, |state| {
        &state.denied_unread
    });
}

/// A counter with one attribute; `values` are those of it, in the order of the counts. Counts without a
/// value are left out.
fn labelled<const N: usize>(
    meter: &Meter,
    state: &Arc<State>,
    of: Instrument,
    values: [Option<&'static str>; N],
    counts: fn(&State) -> &[AtomicU64; N],
) {
    let state = Arc::clone(state);
    let attribute = of.attributes.first().copied().unwrap_or_default();
    meter
        .u64_observable_counter(of.name)
        .with_unit(of.unit)
        .with_description(of.help)
        .with_callback(move |observer| {
            for (value, count) in values.iter().zip(counts(&state)) {
                if let Some(value) = value {
                    let count = count.load(Ordering::Relaxed);
                    observer.observe(count, &[KeyValue::new(attribute, *value)]);
                }
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

fn policy_info(meter: &Meter, state: &Arc<State>) {
    let state = Arc::clone(state);
    meter
        .u64_observable_gauge(POLICY_INFO.name)
        .with_description(POLICY_INFO.help)
        .with_callback(move |observer| {
            let hash = state.source.get().map(|source| source.policy_hash());
            if let Some(hash) = hash.filter(|hash| !hash.is_empty()) {
                observer.observe(1, &[KeyValue::new("hash", hash)]);
            }
        })
        .build();
}

/// The first rules are shown by name, the least enforced of all others as one.
fn enforcement(meter: &Meter, state: &Arc<State>) {
    let state = Arc::clone(state);
    meter
        .f64_observable_gauge(RULE_ENFORCEMENT.name)
        .with_description(RULE_ENFORCEMENT.help)
        .with_callback(move |observer| {
            let Some(source) = state.source.get() else {
                return;
            };
            let (mut shown, mut least) = (0, f64::INFINITY);
            let show = |domain: &str, rule: &str, enforced: f64| {
                let attribute =
                    |name: &'static str, value: &str| KeyValue::new(name, value.to_owned());
                observer.observe(
                    enforced,
                    &[attribute("domain", domain), attribute("rule", rule)],
                );
            };
            source.enforcement(&mut |domain, rule, enforced| {
                if shown < MAX_RULES_SHOWN {
                    shown += 1;
                    show(domain, rule, enforced);
                } else {
                    least = least.min(enforced);
                }
            });
            if least.is_finite() {
                show(OTHER, OTHER, least);
            }
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

/// Series of any other instrument: a histogram per shard and way to end is the most, 64 of each of
/// some 30.
const MAX_SERIES_ELSEWHERE: usize = 4_096;

/// Most rules whose enforcement is shown by name: a gauge for each is dear to write and to keep.
const MAX_RULES_SHOWN: usize = 2_000;
