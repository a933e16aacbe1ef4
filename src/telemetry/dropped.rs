//! What telemetry gave up, so that nobody waits for it and no memory grows.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;

use super::instruments::TELEMETRY_DROPPED;

/// What may be given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Lines of the decision log.
    Decisions,
    /// Pushes of the metrics; the next one that succeeds tells all that they would have told.
    Metrics,
    /// Spans.
    Spans,
}

/// How much was given up, ever.
#[derive(Debug, Default)]
pub(super) struct Dropped {
    decisions: AtomicU64,
    metrics: AtomicU64,
    spans: AtomicU64,
}

impl Dropped {
    pub(super) fn add(&self, kind: Kind, many: usize) {
        let many = u64::try_from(many).unwrap_or(u64::MAX);
        self.count(kind).fetch_add(many, Ordering::Relaxed);
    }

    pub(super) fn get(&self, kind: Kind) -> u64 {
        self.count(kind).load(Ordering::Relaxed)
    }

    const fn count(&self, kind: Kind) -> &AtomicU64 {
        match kind {
            Kind::Decisions => &self.decisions,
            Kind::Metrics => &self.metrics,
            Kind::Spans => &self.spans,
        }
    }
}

/// Makes the instrument that reads it.
pub(super) fn register(meter: &Meter, dropped: &Arc<Dropped>) {
    let dropped = Arc::clone(dropped);
    meter
        .u64_observable_counter(TELEMETRY_DROPPED.name)
        .with_unit(TELEMETRY_DROPPED.unit)
        .with_description(TELEMETRY_DROPPED.help)
        .with_callback(move |observer| {
            for (signal, kind) in [
                ("decisions", Kind::Decisions),
                ("metrics", Kind::Metrics),
                ("spans", Kind::Spans),
            ] {
                observer.observe(dropped.get(kind), &[KeyValue::new("signal", signal)]);
            }
        })
        .build();
}
