//! `/alerts` of the admin listener: what fires, how far all others are from it, what happened lately.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::AdminState;
use crate::alert::{Overview, Phase, Reading, Transition};
use crate::clock::Timestamp;

/// Answers with the [`AlertsReport`].
pub(super) async fn show(State(state): State<AdminState>) -> Response {
    Json(AlertsReport::new(&(state.alerts)())).into_response()
}

/// How alerts stand. Values and thresholds are in `unit`.
#[derive(Debug, Serialize)]
struct AlertsReport {
    /// When they were looked at last; that is done each second.
    evaluated_ms: u64,
    /// The names of those that fire.
    active: Vec<&'static str>,
    alerts: Vec<Standing>,
    /// The newest first.
    history: Vec<Change>,
}

#[derive(Debug, Serialize)]
struct Standing {
    alert: &'static str,
    /// What it is called in Alertmanager and Prometheus.
    alertname: &'static str,
    severity: &'static str,
    /// `ok`, `pending`, `firing` or `off`.
    state: &'static str,
    /// Nothing while there is too little to measure.
    value: Option<f64>,
    /// Nothing if it is switched off.
    threshold: Option<f64>,
    unit: &'static str,
    /// When it fired, if it does.
    since_ms: Option<u64>,
    summary: &'static str,
}

#[derive(Debug, Serialize)]
struct Change {
    alert: &'static str,
    severity: &'static str,
    /// `firing` or `resolved`.
    state: &'static str,
    value: f64,
    threshold: f64,
    unit: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    store: Option<&'static str>,
    at_ms: u64,
}

impl AlertsReport {
    fn new(overview: &Overview) -> Self {
        let firing = |reading: &&Reading| reading.phase == Phase::Firing;
        let active = overview.readings.iter().filter(firing);
        Self {
            evaluated_ms: overview.at.as_millis(),
            active: active.map(|reading| reading.alert.name()).collect(),
            alerts: overview.readings.iter().map(Standing::from).collect(),
            history: overview.history.iter().map(Change::from).collect(),
        }
    }
}

impl From<&Reading> for Standing {
    fn from(reading: &Reading) -> Self {
        let alert = reading.alert;
        Self {
            alert: alert.name(),
            alertname: alert.alertname(),
            severity: alert.severity().name(),
            state: reading.phase.name(),
            value: reading.value,
            threshold: reading.threshold,
            unit: alert.unit(),
            since_ms: reading.since.map(Timestamp::as_millis),
            summary: alert.summary(),
        }
    }
}

impl From<&Transition> for Change {
    fn from(transition: &Transition) -> Self {
        let alert = transition.alert;
        Self {
            alert: alert.name(),
            severity: alert.severity().name(),
            state: transition.state.name(),
            value: transition.value,
            threshold: transition.threshold,
            unit: alert.unit(),
            store: transition.store.map(|store| store.name()),
            at_ms: transition.at.as_millis(),
        }
    }
}
