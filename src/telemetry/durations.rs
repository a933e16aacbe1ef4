//! Histograms of durations, and of the sizes of calls. Those of durations are there once for each
//! shard, so that no lock is shared by all cores; `/metrics` sums over them.

use std::sync::OnceLock;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{BoundHistogram, Histogram, Meter};

use super::instruments::{
    DB_DURATION, DECISION_DURATION, Instrument, RPC_DURATION, SHARD, STORE_BATCH_SIZE,
};
use super::shard;
use super::words::Words;
use crate::event::{CallEnd, Code, Operation, StoreCalled, StoreName};

/// A histogram, and its series bound once for each shard.
pub(super) struct Durations<const N: usize> {
    histogram: Histogram<f64>,
    bound: Box<[[OnceLock<BoundHistogram<f64>>; N]]>,
}

impl<const N: usize> Durations<N> {
    fn new(meter: &Meter, shards: usize, of: Instrument) -> Self {
        let histogram = meter
            .f64_histogram(of.name)
            .with_unit(of.unit)
            .with_description(of.help)
            .with_boundaries(DURATION_BOUNDS.to_vec())
            .build();
        let none = |_| std::array::from_fn(|_| OnceLock::new());
        Self {
            histogram,
            bound: (0..shards).map(none).collect(),
        }
    }

    /// Adds to one of the series, which `attributes` names.
    fn record(
        &self,
        series: usize,
        duration: Duration,
        attributes: impl FnOnce() -> Vec<KeyValue>,
    ) {
        let shard = shard::of_this_thread(self.bound.len());
        if let Some(slot) = self.bound.get(shard).and_then(|bound| bound.get(series)) {
            let bind = || self.bind(shard, attributes());
            slot.get_or_init(bind).record(duration.as_secs_f64());
        }
    }

    fn bind(&self, shard: usize, mut attributes: Vec<KeyValue>) -> BoundHistogram<f64> {
        let shard = i64::try_from(shard).unwrap_or(i64::MAX);
        attributes.push(KeyValue::new(SHARD, shard));
        self.histogram.bind(&attributes)
    }
}

/// How many checks calls to the shared stores carried: per call, so one cell serves all cores.
pub(super) struct BatchSizes {
    histogram: Histogram<u64>,
    bound: [OnceLock<BoundHistogram<u64>>; STORES],
}

impl BatchSizes {
    pub(super) fn new(meter: &Meter) -> Self {
        let histogram = meter
            .u64_histogram(STORE_BATCH_SIZE.name)
            .with_unit(STORE_BATCH_SIZE.unit)
            .with_description(STORE_BATCH_SIZE.help)
            .with_boundaries(SIZE_BOUNDS.to_vec())
            .build();
        Self {
            histogram,
            bound: std::array::from_fn(|_| OnceLock::new()),
        }
    }

    pub(super) fn record(&self, event: StoreCalled<'_>) {
        if let Some(slot) = self.bound.get(event.store.index()) {
            let store = || KeyValue::new("store", event.store.name());
            slot.get_or_init(|| self.histogram.bind(&[store()]))
                .record(u64::try_from(event.checks).unwrap_or(u64::MAX));
        }
    }
}

/// How long decisions took.
pub(super) struct DecisionDurations(Durations<1>);

impl DecisionDurations {
    pub(super) fn new(meter: &Meter, shards: usize) -> Self {
        let durations = Durations::new(meter, shards, DECISION_DURATION);
        // The series exists from the start, so that a rate over it has something to start from.
        if let Some([slot]) = durations.bound.first() {
            slot.get_or_init(|| durations.bind(0, Vec::new()));
        }
        Self(durations)
    }

    pub(super) fn record(&self, duration: Duration) {
        self.0.record(0, duration, Vec::new);
    }
}

/// How long calls of the rate limit service took.
pub(super) struct RpcDurations(Durations<{ Code::ALL.len() + 2 }>);

impl RpcDurations {
    pub(super) fn new(meter: &Meter, shards: usize) -> Self {
        Self(Durations::new(meter, shards, RPC_DURATION))
    }

    pub(super) fn record(&self, duration: Duration, ended: CallEnd) {
        let (series, code) = match ended {
            CallEnd::Answered => (0, "OK"),
            CallEnd::Abandoned => (1, "CANCELLED"),
            CallEnd::Refused(code) => (code.index().saturating_add(2), code.name()),
        };
        self.0.record(series, duration, || {
            let mut attributes = vec![
                KeyValue::new("rpc.system.name", "grpc"),
                KeyValue::new("rpc.method", RPC_METHOD),
                KeyValue::new("rpc.status_code", code),
            ];
            if ended != CallEnd::Answered {
                attributes.push(KeyValue::new("error.type", code));
            }
            attributes
        });
    }
}

/// How long calls to the shared stores took.
pub(super) struct CallDurations {
    durations: Durations<{ MAX_WORDS * OPERATIONS * STORES }>,
    results: Words<MAX_WORDS>,
}

impl CallDurations {
    pub(super) fn new(meter: &Meter, shards: usize) -> Self {
        Self {
            durations: Durations::new(meter, shards, DB_DURATION),
            results: Words::default(),
        }
    }

    pub(super) fn record(&self, event: StoreCalled<'_>) {
        let (word, result) = self.results.place(event.result);
        let series = (word * OPERATIONS + event.operation.index()) * STORES + event.store.index();
        self.durations.record(series, event.duration, || {
            let mut attributes = vec![
                KeyValue::new("db.system.name", "redis"),
                KeyValue::new("store", event.store.name()),
            ];
            if event.operation == Operation::Connect {
                attributes.push(KeyValue::new("db.operation.name", "HELLO"));
            } else {
                let script = event.operation.name();
                attributes.push(KeyValue::new("db.operation.name", "EVALSHA"));
                attributes.push(KeyValue::new("db.stored_procedure.name", script));
            }
            if result != "ok" {
                attributes.push(KeyValue::new("error.type", result));
            }
            attributes
        });
    }
}

/// The call, as OpenTelemetry names it.
pub(super) const RPC_METHOD: &str = "envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";

const OPERATIONS: usize = Operation::ALL.len();

const STORES: usize = StoreName::ALL.len();

/// Ways for a call to end that are told apart.
const MAX_WORDS: usize = 24;

/// Bucket bounds in seconds: 25 us to 1 s. A decision in memory takes some microseconds, Envoy
/// gives up after 20 ms by default; both ends of that must be told apart. Alerts ask whether a
/// percentile is above 100 ms or 500 ms, which is exact only where a bucket ends there.
const DURATION_BOUNDS: [f64; 18] = [
    0.000_025, 0.000_05, 0.000_1, 0.000_2, 0.000_3, 0.000_5, 0.001, 0.002, 0.003, 0.005, 0.01,
    0.015, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0,
];

/// Bucket bounds in checks: a call of up to 128 is usual, one of a single large query may have more.
const SIZE_BOUNDS: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 1_024.0];
