//! The admin listener: what is in force, and why.
//!
//! | path | answers |
//! |---|---|
//! | `/` | this list |
//! | `/config_dump` | settings, policies and rules in force, as JSON |
//! | `/rlconfig` | the rules, a line each, as envoyproxy/ratelimit prints them |
//! | `/explain?domain=D&descriptor=k=v,k=v&hits=N` | why a descriptor is answered as it is, and what it would be answered now, as JSON; charges nothing |

use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::explain::ExplainReport;
use super::{AdminState, rlconfig};
use crate::model::DescriptorText;
use crate::policy::{Limit, Rule};

/// The routes of the `admin` listener.
pub fn routes(state: AdminState) -> Router {
    Router::new()
        .route("/", get(async || INDEX))
        .route("/config_dump", get(config_dump))
        .route("/rlconfig", get(rules))
        .route("/explain", get(explain))
        .with_state(state)
}

async fn config_dump(State(state): State<AdminState>) -> Response {
    blocking(move || pretty(&dump(&state))).await
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
    let snapshot = state.pipeline.snapshot();
    let store = Some((state.pipeline.store(), state.pipeline.clock().now()));
    let policies = snapshot.policies();
    match ExplainReport::new(policies, &asked.domain, &descriptor, asked.hits, store) {
        Ok(report) => Json(report).into_response(),
        Err(refusal) => (StatusCode::BAD_REQUEST, format!("{refusal}\n")).into_response(),
    }
}

/// Everything that is in force.
fn dump(state: &AdminState) -> Value {
    let snapshot = state.pipeline.snapshot();
    let mut domains: Vec<Value> = Vec::new();
    for name in snapshot.policies().domain_names() {
        let mut rules = Vec::new();
        let mut shadow_mode = false;
        snapshot.policies().for_each_rule(|domain, rule| {
            if domain.name() == name {
                shadow_mode = domain.shadow_mode();
                rules.push(rule_json(rule));
            }
        });
        domains.push(json!({ "domain": name, "shadow_mode": shadow_mode, "rules": rules }));
    }
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "settings": (state.settings)(),
        "settings_refused": state.status.settings_problem(),
        "policies": state.status.policies(),
        "domains": domains,
    })
}

fn rule_json(rule: &Rule) -> Value {
    let limit = match rule.limit {
        Limit::Unlimited => json!("unlimited"),
        Limit::Quota(quota) => json!({
            "requests_per_unit": quota.limit(),
            "unit": quota.window().unit().name(),
            "unit_multiplier": quota.window().multiplier(),
            "algorithm": quota.algorithm().name(),
            "burst": quota.burst(),
            "denied_hits": quota.denied_hits().name(),
        }),
    };
    json!({
        "descriptor": rule.path,
        "name": rule.name,
        "rate_limit": limit,
        "shadow_mode": rule.shadow_mode,
        "quota_mode": rule.quota_mode,
        "enforce_percent": rule.enforce_percent,
        "replaces": rule.replaces,
        "origin": rule.origin.to_string(),
    })
}

fn pretty(value: &Value) -> Response {
    match serde_json::to_vec_pretty(value) {
        Ok(mut text) => {
            text.push(b'\n');
            ([(header::CONTENT_TYPE, "application/json")], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// Runs what may take long (100,000 rules) beside the runtime that accepts connections.
async fn blocking(work: impl FnOnce() -> Response + Send + 'static) -> Response {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| {
            (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response()
        })
}

const INDEX: &str = "\
/config_dump  settings, policies and rules in force, as JSON
/rlconfig     the rules, a line each
/explain      ?domain=D&descriptor=key=value[,key=value][&hits=N]
              why a descriptor is answered as it is, and what it would be answered now; charges nothing
";
