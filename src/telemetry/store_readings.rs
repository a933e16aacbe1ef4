//! What a shared store's keeper knows of it now: read when it is collected.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;

use super::State;
use super::instruments::{
    Instrument, QUEUE_LENGTH, QUEUE_LIMIT, QUEUE_UTILIZATION, STORE_LOCAL_TIME, STORE_STATE,
};
use crate::event::{BreakerState, StoreName};

/// Numbers of a shared store, as they are now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StoreReading {
    /// Whether it is asked.
    pub state: BreakerState,
    /// Queries that wait to be sent.
    pub queue_length: u64,
    /// Most of them.
    pub queue_limit: u64,
    /// How full the queue was at most in the last second, from 0 to 1.
    pub queue_utilization: f64,
    /// For how long it was not asked, ever.
    pub local_time: Duration,
}

/// Makes every instrument that reads a [`StoreReading`] when it is collected.
pub(super) fn register(meter: &Meter, state: &Arc<State>) {
    gauge(meter, state, QUEUE_LENGTH, |store| store.queue_length);
    gauge(meter, state, QUEUE_LIMIT, |store| store.queue_limit);
    let stores = Arc::clone(state);
    meter
        .f64_observable_gauge(QUEUE_UTILIZATION.name)
        .with_unit(QUEUE_UTILIZATION.unit)
        .with_description(QUEUE_UTILIZATION.help)
        .with_callback(move |observer| {
            for (name, store) in stores.each_store() {
                observer.observe(store.queue_utilization, &[name]);
            }
        })
        .build();
    let stores = Arc::clone(state);
    meter
        .f64_observable_counter(STORE_LOCAL_TIME.name)
        .with_unit(STORE_LOCAL_TIME.unit)
        .with_description(STORE_LOCAL_TIME.help)
        .with_callback(move |observer| {
            for (name, store) in stores.each_store() {
                observer.observe(store.local_time.as_secs_f64(), &[name]);
            }
        })
        .build();
    let stores = Arc::clone(state);
    meter
        .u64_observable_gauge(STORE_STATE.name)
        .with_unit(STORE_STATE.unit)
        .with_description(STORE_STATE.help)
        .with_callback(move |observer| {
            for (name, store) in stores.each_store() {
                for state in BreakerState::ALL {
                    let is_it = u64::from(state == store.state);
                    observer.observe(is_it, &[KeyValue::new("state", state.name()), name.clone()]);
                }
            }
        })
        .build();
}

fn gauge(meter: &Meter, state: &Arc<State>, of: Instrument, pick: fn(&StoreReading) -> u64) {
    let stores = Arc::clone(state);
    meter
        .u64_observable_gauge(of.name)
        .with_unit(of.unit)
        .with_description(of.help)
        .with_callback(move |observer| {
            for (name, store) in stores.each_store() {
                observer.observe(pick(&store), &[name]);
            }
        })
        .build();
}

impl State {
    /// The shared stores that there are, as far as they can be read.
    fn each_store(&self) -> impl Iterator<Item = (KeyValue, StoreReading)> {
        let stores = self.readings().unwrap_or_default().stores;
        let named = StoreName::ALL.into_iter().zip(stores);
        named.filter_map(|(name, store)| Some((KeyValue::new("store", name.name()), store?)))
    }
}
