//! Liveness, readiness and metrics.
//!
//! | path | answers |
//! |---|---|
//! | `/livez` | 200 as long as the process can answer |
//! | `/readyz` | 200 while traffic is wanted, else 503; its body tells whether the last policies or settings were refused |
//! | `/healthcheck` | 200 `OK` or 500, as envoyproxy/ratelimit has it |
//! | `/metrics` | Prometheus' text format |

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::AdminState;
use super::scrape::Scrapes;

/// The routes of the `http` listener; `metrics` says whether `/metrics` is among them.
pub fn routes(state: AdminState, metrics: bool) -> Router {
    let router = Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/healthcheck", get(healthcheck));
    let router = if metrics {
        let scrapes = Scrapes::default();
        let scrape =
            async move |State(state): State<AdminState>| scrapes.answer(state.metrics).await;
        router.route("/metrics", get(scrape))
    } else {
        router
    };
    router.with_state(state)
}

async fn readyz(State(state): State<AdminState>) -> Response {
    let ready = state.status.is_serving();
    let policies = state.status.policies();
    let mut body = String::from(if ready { "ready\n" } else { "draining\n" });
    body.push_str(&format!(
        "policies: {} rules in {} domains, hash {}\n",
        policies.rules, policies.domains, policies.hash
    ));
    // Any pod may ask, and what is wrong can quote any file that a policy links to: that is shown on
    // the admin listener only.
    let refused = [
        ("policies", policies.refused.is_some(), policies.refused_at),
        ("settings", state.status.are_settings_refused(), None),
    ];
    for (what, is_refused, place) in refused {
        if is_refused {
            body.push_str(&format!(
                "{what} refused: the last change did not take effect; why: /config_dump on the admin \
                 listener\n"
            ));
        }
        if let Some(place) = place {
            body.push_str(&format!("{place}\n"));
        }
    }
    let code = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (code, body).into_response()
}

async fn healthcheck(State(state): State<AdminState>) -> Response {
    if state.status.is_serving() {
        "OK".into_response()
    } else {
        StatusCode::INTERNAL_SERVER_ERROR.into_response()
    }
}
