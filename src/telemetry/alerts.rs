//! What is told of alerts, counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;

use super::instruments::{
    ALERT_ACTIVE, ALERT_NOTIFICATIONS, ALERT_TRANSITIONS, ALERT_VALUE, Instrument,
};
use crate::alert::{Alert, Phase, Reading, State, Transition};

/// How each alert stands, and what became of telling it. Until it is told nothing is exported but
/// counters that stand at zero.
#[derive(Debug, Default)]
pub struct Alerts {
    alerts: [Counted; Alert::ALL.len()],
    /// By [`Notified::index`].
    notified: [AtomicU64; Notified::ALL.len()],
}

#[derive(Debug, Default)]
struct Counted {
    /// It is on, and was looked at.
    seen: AtomicBool,
    firing: AtomicBool,
    /// The bits of a float.
    value: AtomicU64,
    /// By [`State::index`].
    transitions: [AtomicU64; State::ALL.len()],
}

/// What became of telling Alertmanager.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Notified {
    /// Nobody was told of a transition in time: the next one overtook it, or it was long over.
    Dropped,
    /// It was posted, and not accepted; it is tried again.
    Failed,
    /// It was posted and accepted.
    Ok,
}

impl Notified {
    /// Every one, in the order of [`Notified::index`].
    pub const ALL: [Self; 3] = [Self::Dropped, Self::Failed, Self::Ok];

    /// The name in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dropped => "dropped",
            Self::Failed => "failed",
            Self::Ok => "ok",
        }
    }

    /// Its place in [`Notified::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::Dropped => 0,
            Self::Failed => 1,
            Self::Ok => 2,
        }
    }
}

impl Alerts {
    /// This is how they stand.
    pub fn measured(&self, readings: &[Reading]) {
        for reading in readings {
            if let Some(counted) = self.alerts.get(reading.alert.index()) {
                let value = reading.value.unwrap_or_default().to_bits();
                counted.value.store(value, Ordering::Relaxed);
                let firing = reading.phase == Phase::Firing;
                counted.firing.store(firing, Ordering::Relaxed);
                let on = reading.phase != Phase::Off;
                counted.seen.store(on, Ordering::Relaxed);
            }
        }
    }

    /// One began or ended.
    pub fn changed(&self, transition: &Transition) {
        let counted = self.alerts.get(transition.alert.index());
        let count = counted.and_then(|one| one.transitions.get(transition.state.index()));
        if let Some(count) = count {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Alertmanager was told, or was not, so many times.
    pub fn notified(&self, result: Notified, times: u64) {
        if let Some(count) = self.notified.get(result.index()) {
            count.fetch_add(times, Ordering::Relaxed);
        }
    }

    fn seen(&self) -> impl Iterator<Item = (Alert, &Counted)> {
        let each = Alert::ALL.into_iter().zip(&self.alerts);
        each.filter(|(_, counted)| counted.seen.load(Ordering::Relaxed))
    }
}

/// Makes every instrument that reads `alerts` when it is collected.
pub(super) fn register(meter: &Meter, alerts: &Arc<Alerts>) {
    let told = Arc::clone(alerts);
    meter
        .u64_observable_gauge(ALERT_ACTIVE.name)
        .with_unit(ALERT_ACTIVE.unit)
        .with_description(ALERT_ACTIVE.help)
        .with_callback(move |observer| {
            for (alert, counted) in told.seen() {
                let severity = KeyValue::new("severity", alert.severity().name());
                let firing = counted.firing.load(Ordering::Relaxed);
                observer.observe(u64::from(firing), &[named(alert), severity]);
            }
        })
        .build();
    let told = Arc::clone(alerts);
    meter
        .f64_observable_gauge(ALERT_VALUE.name)
        .with_unit(ALERT_VALUE.unit)
        .with_description(ALERT_VALUE.help)
        .with_callback(move |observer| {
            for (alert, counted) in told.seen() {
                let value = f64::from_bits(counted.value.load(Ordering::Relaxed));
                observer.observe(value, &[named(alert)]);
            }
        })
        .build();
    counter(meter, alerts, ALERT_TRANSITIONS, |alerts, observe| {
        for (alert, counted) in Alert::ALL.into_iter().zip(&alerts.alerts) {
            for (state, count) in State::ALL.iter().zip(&counted.transitions) {
                let state = KeyValue::new("state", state.name());
                observe(count.load(Ordering::Relaxed), &[named(alert), state]);
            }
        }
    });
    counter(meter, alerts, ALERT_NOTIFICATIONS, |alerts, observe| {
        for (result, count) in Notified::ALL.iter().zip(&alerts.notified) {
            let result = KeyValue::new("result", result.name());
            observe(count.load(Ordering::Relaxed), &[result]);
        }
    });
}

/// Tells each series of a counter.
type Visit = fn(&Alerts, &mut dyn FnMut(u64, &[KeyValue]));

fn counter(meter: &Meter, alerts: &Arc<Alerts>, of: Instrument, visit: Visit) {
    let alerts = Arc::clone(alerts);
    meter
        .u64_observable_counter(of.name)
        .with_unit(of.unit)
        .with_description(of.help)
        .with_callback(move |observer| {
            visit(&alerts, &mut |count, attributes| {
                observer.observe(count, attributes);
            });
        })
        .build();
}

fn named(alert: Alert) -> KeyValue {
    KeyValue::new("alert", alert.name())
}
