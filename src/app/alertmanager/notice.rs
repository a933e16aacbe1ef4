//! An alert as Alertmanager takes it (`POST /api/v2/alerts`).

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::outbox::LAPSE;
use crate::alert::{Alert, State, Transition};
use crate::clock::Timestamp;

/// One alert. By its labels Alertmanager knows it again, so they are the same while it fires and
/// when it is over.
#[derive(Debug, Serialize)]
pub(super) struct Notice<'a> {
    labels: BTreeMap<&'static str, &'a str>,
    annotations: BTreeMap<&'static str, String>,
    #[serde(rename = "startsAt")]
    starts_at: String,
    #[serde(rename = "endsAt")]
    ends_at: String,
}

impl<'a> Notice<'a> {
    /// `began` is when it began to fire; `now` says how long it lasts if nothing more is heard.
    pub(super) fn new(
        transition: &Transition,
        began: Timestamp,
        instance: &'a str,
        now: Timestamp,
    ) -> Self {
        let alert = transition.alert;
        let mut labels = BTreeMap::from([
            ("alert", alert.name()),
            ("alertname", alert.alertname()),
            ("instance", instance),
            ("service", "tollgate"),
            ("severity", alert.severity().name()),
        ]);
        labels.extend(transition.store.map(|store| ("store", store.name())));
        let ends_at = match transition.state {
            State::Firing => now + u64::try_from(LAPSE.as_millis()).unwrap_or(u64::MAX),
            State::Resolved => transition.at,
        };
        Self {
            labels,
            annotations: BTreeMap::from([
                ("description", description(transition)),
                ("runbook", alert.hint().to_owned()),
                ("summary", alert.summary().to_owned()),
            ]),
            starts_at: rfc3339(began),
            // It must not end before it began, whatever the clock did meanwhile.
            ends_at: rfc3339(ends_at.max(began)),
        }
    }
}

fn description(transition: &Transition) -> String {
    let Transition {
        alert,
        value,
        threshold,
        ..
    } = *transition;
    let store = transition.store.map(|store| store.name());
    let store = store.map_or(String::new(), |name| format!(" (store {name})"));
    format!(
        "{} {}, threshold {}{store}",
        alert.measured(),
        text(alert, value),
        text(alert, threshold)
    )
}

/// A value with its unit.
fn text(alert: Alert, value: f64) -> String {
    match alert.unit() {
        "s" => {
            let whole = Duration::try_from_secs_f64(value).unwrap_or_default();
            let millis = u64::try_from(whole.as_millis()).unwrap_or(u64::MAX);
            humantime::format_duration(Duration::from_millis(millis)).to_string()
        }
        "" => format!("{value:.0}"),
        unit => format!("{value:.1} {unit}"),
    }
}

fn rfc3339(at: Timestamp) -> String {
    // Beyond that year there is no such text.
    let at = at.as_millis().min(END_OF_9999);
    let since = Duration::from_millis(at);
    humantime::format_rfc3339_millis(SystemTime::UNIX_EPOCH + since).to_string()
}

const END_OF_9999: u64 = 253_402_300_799_999;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::event::StoreName;

    const NOON: Timestamp = Timestamp::from_millis(1_795_521_600_000);

    fn fired(alert: Alert, value: f64, threshold: f64) -> Transition {
        Transition {
            alert,
            state: State::Firing,
            value,
            threshold,
            store: None,
            at: NOON,
        }
    }

    #[test]
    fn it_is_what_alertmanager_takes() {
        let transition = Transition {
            store: Some(StoreName::PerSecond),
            ..fired(Alert::StoreDown, 11.234, 10.0)
        };
        let now = NOON + 1_500;
        let told = serde_json::to_value(Notice::new(&transition, NOON, "h:8080", now)).unwrap();
        let expected = json!({
            "labels": {
                "alert": "store_down",
                "alertname": "TollgateStoreDown",
                "instance": "h:8080",
                "service": "tollgate",
                "severity": "critical",
                "store": "per_second",
            },
            "annotations": {
                "description": "not asked for 11s 234ms, threshold 10s (store per_second)",
                "runbook": Alert::StoreDown.hint(),
                "summary": Alert::StoreDown.summary(),
            },
            "startsAt": "2026-11-24T12:00:00.000Z",
            "endsAt": "2026-11-24T12:03:01.500Z",
        });
        assert_eq!(told, expected);
    }

    #[test]
    fn what_is_over_ends_when_it_ended_and_never_before_it_began() {
        let over = Transition {
            state: State::Resolved,
            at: NOON + 2_000,
            ..fired(Alert::ErrorRate, 0.0, 5.0)
        };
        let ends = |began| Notice::new(&over, began, "h", NOON + 9_000).ends_at;
        assert_eq!(ends(NOON), "2026-11-24T12:00:02.000Z");
        assert_eq!(ends(NOON + 3_000), "2026-11-24T12:00:03.000Z");
        assert_eq!(
            rfc3339(Timestamp::from_millis(u64::MAX)),
            "9999-12-31T23:59:59.999Z"
        );
    }

    #[test]
    fn values_have_their_units() {
        for (transition, expected) in [
            (
                fired(Alert::ErrorRate, 12.345, 5.0),
                "calls refused 12.3 %, threshold 5.0 %",
            ),
            (
                fired(Alert::CircuitTrips, 4.0, 3.0),
                "trips in the window 4, threshold 3",
            ),
            (
                fired(Alert::RedisLatency, 0.2504, 0.1),
                "99th percentile 250ms, threshold 100ms",
            ),
        ] {
            assert_eq!(description(&transition), expected);
        }
    }
}
