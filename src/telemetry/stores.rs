//! Calls to the shared stores, counted: per call or rarer, so one cell serves all cores.
//!
//! Durations go to a histogram, once for each shard and store, as those of decisions do.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use opentelemetry::KeyValue;
use opentelemetry::metrics::{BoundHistogram, Histogram, Meter};

use super::instruments::{
    self, Instrument, SHARD, STORE_CALL_CHECKS, STORE_CALL_QUERIES, STORE_CALLS, STORE_FALLBACKS,
    STORE_RECONCILED, STORE_TRANSITIONS,
};
use super::shard;
use crate::event::{
    BreakerState, FallbackReason, FellBack, Reconciled, StoreCalled, StoreChanged, StoreName,
};

/// What was told of the shared stores.
#[derive(Debug, Default)]
pub(super) struct Stores {
    stores: [Store; StoreName::ALL.len()],
    /// By [`FallbackReason::index`].
    fallbacks: [AtomicU64; FallbackReason::ALL.len()],
    charged: AtomicU64,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct Store {
    calls: Results,
    checks: AtomicU64,
    queries: AtomicU64,
    /// By [`BreakerState::index`].
    transitions: [AtomicU64; BreakerState::ALL.len()],
}

impl Stores {
    pub(super) fn called(&self, event: StoreCalled) {
        if let Some(store) = self.stores.get(event.store.index()) {
            store.calls.count(event.result);
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

/// Counts by the few words that say how a call ended. They are not listed here, for they are the
/// store's; each takes the first free place when it is seen first, and keeps it.
#[derive(Debug, Default)]
struct Results {
    places: [(OnceLock<&'static str>, AtomicU64); MOST_RESULTS],
    /// All that found no place.
    others: AtomicU64,
}

impl Results {
    fn count(&self, result: &'static str) {
        let place = self
            .places
            .iter()
            .find(|(name, _)| *name.get_or_init(|| result) == result);
        add(place.map_or(&self.others, |(_, count)| count), 1);
    }

    /// Those that were seen.
    fn seen(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let named = self
            .places
            .iter()
            .map_while(|(name, count)| Some((*name.get()?, count)));
        let others = std::iter::once((OTHERS, &self.others))
            .filter(|(_, count)| count.load(Ordering::Relaxed) > 0);
        named
            .chain(others)
            .map(|(name, count)| (name, count.load(Ordering::Relaxed)))
    }
}

/// Durations of calls, for each shard and store.
pub(super) struct CallDurations {
    histogram: Histogram<f64>,
    bound: Box<[[OnceLock<BoundHistogram<f64>>; StoreName::ALL.len()]]>,
}

impl CallDurations {
    pub(super) fn new(meter: &Meter, shards: usize) -> Self {
        Self {
            histogram: instruments::histogram(meter, instruments::STORE_CALL_DURATION),
            bound: (0..shards).map(|_| Default::default()).collect(),
        }
    }

    pub(super) fn record(&self, event: StoreCalled) {
        let shard = shard::of_this_thread(self.bound.len());
        let bound = self.bound.get(shard);
        if let Some(slot) = bound.and_then(|stores| stores.get(event.store.index())) {
            let bind = || {
                let shard = i64::try_from(shard).unwrap_or(i64::MAX);
                let store = KeyValue::new("store", event.store.name());
                self.histogram.bind(&[KeyValue::new(SHARD, shard), store])
            };
            slot.get_or_init(bind).record(event.duration.as_secs_f64());
        }
    }
}

/// Makes every instrument that reads `stores` when it is collected.
pub(super) fn register(meter: &Meter, stores: &Arc<Stores>) {
    counter(meter, stores, STORE_CALLS, |stores, observe| {
        for (store, counts) in stores.named() {
            for (result, count) in counts.calls.seen() {
                observe(count, &[KeyValue::new("result", result), store.clone()]);
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

/// More words than the store has.
const MOST_RESULTS: usize = 32;

/// The result of calls that ended in too many ways to tell apart.
const OTHERS: &str = "(other)";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_take_places_as_they_come_and_the_rest_share_one() {
        let results = Results::default();
        let words: Vec<&'static str> = (0..40)
            .map(|n| &*Box::leak(format!("result{n}").into_boxed_str()))
            .collect();
        for _ in 0..2 {
            words.iter().for_each(|word| results.count(word));
        }
        let seen: Vec<(&str, u64)> = results.seen().collect();
        assert_eq!(seen.len(), MOST_RESULTS + 1);
        assert_eq!(seen[0], ("result0", 2));
        assert_eq!(seen[MOST_RESULTS - 1], ("result31", 2));
        assert_eq!(seen[MOST_RESULTS], (OTHERS, 16));
    }

    #[test]
    fn threads_that_see_a_result_first_at_the_same_time_agree_on_its_place() {
        let results = Results::default();
        std::thread::scope(|scope| {
            for start in 0..4 {
                let results = &results;
                scope.spawn(move || {
                    let words = ["ok", "timeout", "refused", "loading"];
                    for turn in 0..4_000 {
                        results.count(words[(start + turn) % 4]);
                    }
                });
            }
        });
        let mut seen: Vec<(&str, u64)> = results.seen().collect();
        seen.sort_unstable();
        let each = 4_000;
        assert_eq!(
            seen,
            [
                ("loading", each),
                ("ok", each),
                ("refused", each),
                ("timeout", each)
            ]
        );
    }
}
