//! `/counters` of the admin listener: what is counted for one descriptor, and starting it afresh.
//!
//! A descriptor has one counter at most, for at most one limit applies to it. `GET` shows it and
//! charges nothing; `DELETE` drops its state, and changes
//! something, so it asks for a permit ([`permit`](super::permit)).
//!
//! Where the store is one that all replicas share, it is that one's counter.

use axum::Json;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use serde::Deserialize;
use tracing::info;

use super::AdminState;
use super::counter::{Counter, NoCounter};
use super::permit::Permitted;
use crate::model::{DescriptorText, DescriptorTextError};
use crate::store::NotForgotten;
use crate::store::redis::Failure;

/// What may be done to `/counters`.
pub(super) fn methods() -> MethodRouter<AdminState> {
    get(show)
        .delete(forget)
        .head(not_allowed)
        .fallback(not_allowed)
}

#[derive(Debug, Deserialize)]
struct Asked {
    domain: String,
    descriptor: String,
}

impl Asked {
    fn counter(&self, state: &AdminState) -> Result<Counter, Trouble> {
        let descriptor = DescriptorText::parse(&self.descriptor)?;
        let snapshot = state.pipeline.snapshot();
        Ok(Counter::find(
            snapshot.policies(),
            &self.domain,
            &descriptor,
        )?)
    }
}

async fn show(
    State(state): State<AdminState>,
    Query(asked): Query<Asked>,
) -> Result<Response, Trouble> {
    let counter = asked.counter(&state)?;
    let now = state.look(&counter.check).await;
    Ok(Json(counter.report(None, &now)).into_response())
}

async fn forget(
    Permitted(peer): Permitted,
    State(state): State<AdminState>,
    Query(asked): Query<Asked>,
) -> Result<Response, Trouble> {
    let counter = asked.counter(&state)?;
    let before = state.look(&counter.check).await;
    state.reset(&counter.check).await.map_err(|why| match why {
        NotForgotten::Shared => Trouble::Shared(counter.check.key.to_string()),
        NotForgotten::Failed(failure) => Trouble::Failed(failure),
    })?;
    let now = state.look(&counter.check).await;
    info!(key = %counter.check.key, counted = before.counted, %peer, "counter reset by an operator");
    Ok(Json(counter.report(Some(&before), &now)).into_response())
}

async fn not_allowed() -> Response {
    let allowed = [(header::ALLOW, "GET, DELETE")];
    let text = "GET shows a counter, DELETE resets it; nothing else can be done to one\n";
    (StatusCode::METHOD_NOT_ALLOWED, allowed, text).into_response()
}

/// Why a counter is not shown or not reset.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Descriptor(#[from] DescriptorTextError),
    #[error("nothing was reset: {0}")]
    Failed(Failure),
    #[error(transparent)]
    NoCounter(#[from] NoCounter),
    #[error(
        "{0} cannot be reset alone: the table of counters is full or was lately, and other keys share \
         a counter with it that would be reset too (it stops counting when its window is over; \
         store.memory.max_keys makes the table larger)"
    )]
    Shared(String),
}

impl IntoResponse for Trouble {
    fn into_response(self) -> Response {
        let status = match self {
            Self::Descriptor(_) => StatusCode::BAD_REQUEST,
            Self::NoCounter(_) => StatusCode::NOT_FOUND,
            Self::Shared(_) => StatusCode::CONFLICT,
            Self::Failed(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        (status, format!("{self}\n")).into_response()
    }
}

#[cfg(test)]
mod tests;
