//! The admin listener: what is in force, why, and what is counted.
//!
//! | path | answers |
//! |---|---|
//! | `/` | this list |
//! | `/config_dump` | settings and policies in force, as JSON; and why those on disk are not |
//! | `/rlconfig` | the rules, a line each, as envoyproxy/ratelimit prints them |
//! | `/explain?domain=D&descriptor=k=v,k=v&hits=N` | why a descriptor is answered as it is, and what it would be answered now, as JSON; charges nothing |
//! | `/counters?domain=D&descriptor=k=v,k=v` | `GET`: what is counted for a descriptor, as JSON; `DELETE`: the same, and starts it afresh |
//! | `/log` | `GET`: the log's level; `POST /log?level=debug`: changes it until settings are read again |
//! | `/decision-log` | `GET`: whose decisions are written down; `POST /decision-log?domain=D&ratio=0.1`: changes that |
//! | `/alerts` | which alerts fire, values and thresholds of all, and what happened lately, as JSON |
//! | `/store` | where counts are and how that fares, as JSON: breakers, servers, replicas |
//! | `/top?domain=D&rule=R&limit=N` | the keys that exceeded their limits most often in the last one to two minutes, as JSON |

use std::io::{self, Write};
use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::task::{JoinError, spawn_blocking};

use super::explain::ExplainReport;
use super::store::{self, StoreReport};
use super::written::Domain;
use super::{AdminState, PolicyStatus, alerts, counters, hosts, log, rlconfig, top};
use crate::model::{Check, DescriptorText, Hits};
use crate::pace;

/// The routes of the `admin` listener.
pub fn routes(state: AdminState) -> Router {
    Router::new()
        .route("/", get(async || INDEX))
        .route("/config_dump", get(config_dump))
        .route("/rlconfig", get(rules))
        .route("/explain", get(explain))
        .route("/counters", counters::methods())
        .route("/log", log::level_methods())
        .route("/decision-log", log::decision_methods())
        .route("/alerts", get(alerts::show))
        .route("/store", get(store::show))
        .route("/top", get(top::show))
        .layer(from_fn_with_state(state.clone(), hosts::check))
        .with_state(state)
}

async fn config_dump(State(state): State<AdminState>) -> Response {
    blocking(move || dump(&state)).await
}

async fn rules(State(state): State<AdminState>) -> Response {
    blocking(move || rlconfig::text(state.pipeline.snapshot().policies()).into_response()).await
}

#[derive(Debug, Deserialize)]
struct Asked {
    domain: String,
    descriptor: String,
    #[serde(default = "one")]
    hits: u64,
}

const fn one() -> u64 {
    1
}

async fn explain(State(state): State<AdminState>, asked: Query<Asked>) -> Response {
    let descriptor = match DescriptorText::parse(&asked.descriptor) {
        Ok(descriptor) => descriptor,
        Err(error) => return (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    };
    let pipeline = Arc::clone(&state.pipeline);
    let caps = pipeline.caps();
    let explaining = beside(move || {
        let snapshot = pipeline.lasting_snapshot();
        ExplainReport::new(
            snapshot.policies(),
            caps,
            &asked.domain,
            &descriptor,
            asked.hits,
        )
    });
    let (mut report, check) = match explaining.await {
        Ok(Ok(explained)) => explained,
        Ok(Err(refusal)) => {
            return (StatusCode::BAD_REQUEST, format!("{refusal}\n")).into_response();
        }
        Err(error) => return broken(error.to_string()),
    };
    if let Some(check) = check {
        let verdict = state.look(&check).await;
        // The verdict's count has the hits in it; a peek adds none.
        let peek = Check {
            hits: Hits::Peek,
            ..check.clone()
        };
        let counted = state.look(&peek).await.counted;
        report.live(&check, &verdict, counted);
        if let Some(replicas) = state.replicas_without_share(&check) {
            report.note_no_share(replicas);
        }
    }
    Json(report).into_response()
}

/// Everything that is in force.
#[derive(Debug, Serialize)]
struct Dump<'p> {
    version: &'static str,
    settings: Value,
    /// Why the settings on disk are not in force, if so.
    settings_refused: Option<String>,
    policies: PolicyStatus,
    store: StoreReport,
    domains: Vec<Domain<'p>>,
}

fn dump(state: &AdminState) -> Response {
    let specs = match (state.written)() {
        Ok(specs) => specs,
        Err(error) => return broken(error),
    };
    let mut domains: Vec<Domain<'_>> = pace::each(&specs).map(Domain::from).collect();
    domains.sort_unstable_by_key(Domain::name);
    let policies = state.status.policies();
    let rules = policies.rules;
    let dump = Dump {
        version: env!("CARGO_PKG_VERSION"),
        settings: (state.settings)(),
        settings_refused: state.status.settings_problem(),
        policies,
        store: StoreReport::new(state),
        domains,
    };
    match pretty(&dump, rules) {
        Ok(mut text) => {
            text.push(b'\n');
            ([(header::CONTENT_TYPE, "application/json")], text).into_response()
        }
        Err(error) => broken(error.to_string()),
    }
}

/// JSON for people, written with a pause point for each piece, into room for so many rules: to move
/// megabytes takes long.
fn pretty(value: &impl Serialize, rules: usize) -> serde_json::Result<Vec<u8>> {
    let mut text = Vec::with_capacity(rules.saturating_mul(DUMPED_RULE));
    serde_json::to_writer_pretty(PacedWriter(&mut text), value)?;
    Ok(text)
}

struct PacedWriter<'t>(&'t mut Vec<u8>);

impl Write for PacedWriter<'_> {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        pace::step(1);
        self.0.write(piece)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn broken(error: String) -> Response {
    (StatusCode::INTERNAL_SERVER_ERROR, error).into_response()
}

/// Makes a response by work that may take long.
pub(super) async fn blocking(work: impl FnOnce() -> Response + Send + 'static) -> Response {
    beside(work)
        .await
        .unwrap_or_else(|error| broken(error.to_string()))
}

/// Runs what may take long (100,000 rules) beside the runtime that accepts connections, and in short
/// slices, so that queries do not wait for it.
async fn beside<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JoinError> {
    // Only closing the semaphore is an error.
    let permit = WORKERS.acquire().await;
    spawn_blocking(move || {
        // Also held if the client has disconnected: the work goes on.
        let _permit = permit;
        pace::in_slices("admin", work)
    })
    .await
}

/// Permits for such work: each may take a hundred megabytes, and half a core.
static WORKERS: Semaphore = Semaphore::const_new(2);

/// Bytes that a rule rarely exceeds as JSON.
const DUMPED_RULE: usize = 1024;

const INDEX: &str = "\
/config_dump  settings and policies in force, as JSON; and why those on disk are not
/rlconfig     the rules, a line each
/explain      ?domain=D&descriptor=key=value[,key=value][&hits=N]
              why a descriptor is answered as it is, and what it would be answered now; charges nothing
/counters     ?domain=D&descriptor=key=value[,key=value]
              GET: what is counted for a descriptor, as JSON; DELETE: the same, and starts it afresh
/log          GET: the log's level; POST ?level=debug: changes it until settings are read again
/decision-log GET: whose decisions are written to standard output, and which share of them;
              POST ?domain=D&ratio=0.1: changes that until settings are read again
/alerts       which alerts fire, values and thresholds of all, and what happened lately
/store        where counts are, and how that fares: breakers, servers, replicas
/top          [?domain=D][&rule=R][&limit=N]
              the keys that exceeded their limits most often in the last one to two minutes

To change something (POST, DELETE), ask from this machine with the header X-Requested-With, or bring the token.
";
