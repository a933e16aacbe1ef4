//! Calls to the shared stores, counted: per call or rarer, so one cell serves all cores.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;

use super::instruments::{
    Instrument, STORE_CALL_CHECKS, STORE_CALL_QUERIES, STORE_CALLS, STORE_FALLBACKS,
    STORE_RECONCILED, STORE_TRANSITIONS,
};
use super::words::Words;
use crate::event::{
    BreakerState, FallbackReason, FellBack, Operation, Reconciled, StoreCalled, StoreChanged,
    StoreName,
};

/// What was told of the shared stores.
#[derive(Default)]
pub(super) struct Stores {
    stores: [Store; StoreName::ALL.len()],
    /// By [`FallbackReason::index`].
    fallbacks: [AtomicU64; FallbackReason::ALL.len()],
    charged: AtomicU64,
    dropped: AtomicU64,
}

#[derive(Default)]
struct Store {
    /// By [`Operation::index`].
    calls: [Results; Operation::ALL.len()],
    checks: AtomicU64,
    queries: AtomicU64,
    /// By [`BreakerState::index`].
    transitions: [AtomicU64; BreakerState::ALL.len()],
}

/// Calls by how they ended.
#[derive(Default)]
struct Results {
    words: Words<MAX_RESULTS>,
    counts: [AtomicU64; MAX_RESULTS],
}

impl Stores {
    pub(super) fn called(&self, event: StoreCalled<'_>) {
        if let Some(store) = self.stores.get(event.store.index()) {
            if let Some(results) = store.calls.get(event.operation.index()) {
                let (place, _) = results.words.place(event.result);
                if let Some(count) = results.counts.get(place) {
                    add(count, 1);
                }
            }
            add(&store.checks, event.checks);
            add(&store.queries, event.queries);
        }
    }

    pub(super) fn changed(&self, event: StoreChanged<'_>) {
        let store = self.stores.get(event.store.index());
        if let Some(count) = store.and_then(|store| store.transitions.get(event.state.index())) {
            add(count, 1);
        }
    }

    pub(super) fn fell_back(&self, event: FellBack) {
        if let Some(count) = self.fallbacks.get(event.reason.index()) {
            add(count, event.checks);
        }
    }

    pub(super) fn reconciled(&self, event: Reconciled) {
        self.charged.fetch_add(event.charged, Ordering::Relaxed);
        self.dropped.fetch_add(event.dropped, Ordering::Relaxed);
    }

    fn named(&self) -> impl Iterator<Item = (KeyValue, &Store)> {
        let attribute = |store: StoreName| KeyValue::new("store", store.name());
        StoreName::ALL.into_iter().map(attribute).zip(&self.stores)
    }
}

/// Makes every instrument that reads `stores` when it is collected.
pub(super) fn register(meter: &Meter, stores: &Arc<Stores>) {
    counter(meter, stores, STORE_CALLS, |stores, observe| {
        for (store, counts) in stores.named() {
            for (operation, results) in Operation::ALL.iter().zip(&counts.calls) {
                for (result, count) in results.words.known().zip(&results.counts) {
                    let count = count.load(Ordering::Relaxed);
                    if count > 0 {
                        let operation = KeyValue::new("operation", operation.name());
                        let result = KeyValue::new("result", result);
                        observe(count, &[operation, result, store.clone()]);
                    }
                }
            }
        }
    });
    counter(meter, stores, STORE_CALL_CHECKS, |stores, observe| {
        for (store, counts) in stores.named() {
            observe(counts.checks.load(Ordering::Relaxed), &[store]);
        }
    });
    counter(meter, stores, STORE_CALL_QUERIES, |stores, observe| {
        for (store, counts) in stores.named() {
            observe(counts.queries.load(Ordering::Relaxed), &[store]);
        }
    });
    counter(meter, stores, STORE_TRANSITIONS, |stores, observe| {
        for (store, counts) in stores.named() {
            for (state, count) in BreakerState::ALL.iter().zip(&counts.transitions) {
                let state = KeyValue::new("state", state.name());
                observe(count.load(Ordering::Relaxed), &[state, store.clone()]);
            }
        }
    });
    counter(meter, stores, STORE_FALLBACKS, |stores, observe| {
        for (reason, count) in FallbackReason::ALL.iter().zip(&stores.fallbacks) {
            let reason = KeyValue::new("reason", reason.name());
            observe(count.load(Ordering::Relaxed), &[reason]);
        }
    });
    counter(meter, stores, STORE_RECONCILED, |stores, observe| {
        for (result, count) in [("charged", &stores.charged), ("dropped", &stores.dropped)] {
            let count = count.load(Ordering::Relaxed);
            observe(count, &[KeyValue::new("result", result)]);
        }
    });
}

/// Tells each series of a counter.
type Visit = fn(&Stores, &mut dyn FnMut(u64, &[KeyValue]));

fn counter(meter: &Meter, stores: &Arc<Stores>, of: Instrument, visit: Visit) {
    let stores = Arc::clone(stores);
    meter
        .u64_observable_counter(of.name)
        .with_unit(of.unit)
        .with_description(of.help)
        .with_callback(move |observer| {
            visit(&stores, &mut |count, attributes| {
                observer.observe(count, attributes);
            });
        })
        .build();
}

fn add(count: &AtomicU64, many: usize) {
    let many = u64::try_from(many).unwrap_or(u64::MAX);
    count.fetch_add(many, Ordering::Relaxed);
}

/// Ways for a call to end that are told apart, and one for the rest.
const MAX_RESULTS: usize = 32;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::Clock;
    use crate::event::{DecidedBy, Events, TracedQueries};
    use crate::telemetry::Telemetry;

    #[test]
    fn calls_are_told_apart_by_what_they_are_for() {
        let telemetry = Telemetry::new(Clock::system(), DecidedBy::Store).unwrap();
        let all = [
            (Operation::Connect, "connect", 1),
            (Operation::Decide, "decide", 2),
            (Operation::Fleet, "fleet", 3),
            (Operation::Heartbeat, "heartbeat", 4),
            (Operation::Probe, "probe", 5),
        ];
        for (operation, _, times) in all {
            for result in ["ok", "timeout"] {
                for _ in 0..times {
                    telemetry.store_called(StoreCalled {
                        store: StoreName::Main,
                        operation,
                        result,
                        duration: Duration::from_millis(1),
                        queries: 0,
                        checks: 0,
                        domains: &[],
                        traced: TracedQueries::default(),
                    });
                }
            }
        }
        let text = String::from_utf8(telemetry.render().unwrap()).unwrap();
        for (_, name, times) in all {
            let as_database = match name {
                "connect" => "db_operation_name=\"HELLO\",".to_owned(),
                script => {
                    format!("db_operation_name=\"EVALSHA\",db_stored_procedure_name=\"{script}\",")
                }
            };
            for (result, error) in [("ok", ""), ("timeout", "error_type=\"timeout\",")] {
                for series in [
                    format!(
                        "tollgate_store_calls_total{{operation=\"{name}\",result=\"{result}\",\
                         store=\"main\"}}"
                    ),
                    format!(
                        "db_client_operation_duration_seconds_count{{{as_database}\
                         db_system_name=\"redis\",{error}store=\"main\"}}"
                    ),
                ] {
                    let line = format!("{series} {times}");
                    assert!(text.lines().any(|told| told == line), "{line}\n{text}");
                }
            }
        }
    }
}
