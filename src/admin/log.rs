//! `/log` and `/decision-log` of the admin listener: how much is told while the service runs.
//!
//! `GET` shows, `POST` changes; to change something a permit is needed
//! ([`permit`](super::permit)). What is changed so holds until the settings are read again (SIGHUP)
//! or the service ends: then the settings hold.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use serde::{Deserialize, Serialize};
use tracing::info;

use super::AdminState;
use super::permit::Permitted;

/// What may be done to `/log`.
pub(super) fn level_methods() -> MethodRouter<AdminState> {
    get(show_level)
        .post(set_level)
        .head(not_allowed)
        .fallback(not_allowed)
}

/// What may be done to `/decision-log`.
pub(super) fn decision_methods() -> MethodRouter<AdminState> {
    get(show_decisions)
        .post(set_decisions)
        .head(not_allowed)
        .fallback(not_allowed)
}

/// The log's level, which may change.
pub trait LogLevel: Send + Sync {
    /// Its name.
    fn level(&self) -> &'static str;

    /// Logs from the level of that name up.
    ///
    /// # Errors
    /// If there is no such level, or no log; in words.
    fn set_level(&self, name: &str) -> Result<(), String>;
}

#[derive(Debug, Deserialize)]
struct Level {
    level: String,
}

#[derive(Debug, Serialize)]
struct LevelReport {
    level: &'static str,
}

async fn show_level(State(state): State<AdminState>) -> Response {
    match &state.log {
        Some(log) => Json(LevelReport { level: log.level() }).into_response(),
        None => no_log(),
    }
}

async fn set_level(
    Permitted(peer): Permitted,
    State(state): State<AdminState>,
    Query(Level { level }): Query<Level>,
) -> Response {
    let Some(log) = &state.log else {
        return no_log();
    };
    let before = log.level();
    if let Err(why) = log.set_level(&level) {
        return (StatusCode::BAD_REQUEST, format!("{why}\n")).into_response();
    }
    info!(before, level, %peer, "log level changed by an operator until settings are reloaded");
    show_level(State(state)).await
}

fn no_log() -> Response {
    let text = "this process has no log of its own\n";
    (StatusCode::CONFLICT, text).into_response()
}

#[derive(Debug, Deserialize)]
struct Share {
    domain: String,
    ratio: f64,
}

#[derive(Debug, Serialize)]
struct DecisionReport {
    /// The share of each domain's decisions that is written down.
    domains: BTreeMap<String, f64>,
}

async fn show_decisions(State(state): State<AdminState>) -> Response {
    let domains = state.pipeline.sample().shares();
    Json(DecisionReport { domains }).into_response()
}

async fn set_decisions(
    Permitted(peer): Permitted,
    State(state): State<AdminState>,
    Query(Share { domain, ratio }): Query<Share>,
) -> Response {
    let wrong = |why: String| (StatusCode::BAD_REQUEST, format!("{why}\n")).into_response();
    if domain.is_empty() {
        return wrong("which domain? (domain=NAME)".to_owned());
    }
    if !(0.0..=1.0).contains(&ratio) {
        return wrong(format!("{ratio} is no share from 0 to 1"));
    }
    if let Err(error) = state.pipeline.sample().set(&domain, ratio) {
        return wrong(error.to_string());
    }
    info!(domain, ratio, %peer, "decision log changed by an operator until settings are reloaded");
    show_decisions(State(state)).await
}

async fn not_allowed() -> Response {
    let allowed = [(header::ALLOW, "GET, POST")];
    let text = "GET shows it, POST changes it; nothing else can be done to it\n";
    (StatusCode::METHOD_NOT_ALLOWED, allowed, text).into_response()
}
