//! `/json` over HTTP.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;

use super::Service;
use super::json::{Json, JsonAnswer, JsonError};
use crate::store::Lane;

/// `/json`: any method, any content type. 200 when the request passes, 429 when it is over its
/// limit, both with the response message; 400 when the call makes no sense, 503 when too many are
/// under way or a rule wants an error while the store is away. The listener limits the body, to [`MAX_BODY`] at most.
///
/// # Errors
/// If the compiled-in descriptors are broken.
pub fn routes(service: Arc<Service>, lane: Option<Lane>) -> Result<Router, JsonError> {
    let json = Arc::new(Json::new()?);
    Ok(Router::new()
        .route("/json", any(answer))
        .with_state(JsonState {
            service,
            json,
            lane,
        }))
}

#[derive(Clone, Debug)]
struct JsonState {
    service: Arc<Service>,
    json: Arc<Json>,
    /// The way to the store, if it is not in this process.
    lane: Option<Lane>,
}

async fn answer(State(state): State<JsonState>, body: Bytes) -> Response {
    let text = |code: StatusCode, why: String| (code, format!("{why}\n")).into_response();
    let JsonState {
        service,
        json,
        lane,
    } = state;
    let answer = json.answer(&service, lane.as_ref(), body).await;
    match answer {
        JsonAnswer::Response { denied, body } => {
            let code = if denied {
                StatusCode::TOO_MANY_REQUESTS
            } else {
                StatusCode::OK
            };
            (code, [(header::CONTENT_TYPE, "application/json")], body).into_response()
        }
        JsonAnswer::BadRequest(why) => text(StatusCode::BAD_REQUEST, why),
        JsonAnswer::Failed(why) => text(StatusCode::INTERNAL_SERVER_ERROR, why),
        JsonAnswer::Overloaded(why) | JsonAnswer::Unavailable(why) => {
            text(StatusCode::SERVICE_UNAVAILABLE, why)
        }
    }
}

/// The most bytes of a body. A request of 16 descriptors with values of 60 KiB fits in.
pub const MAX_BODY: usize = 1024 * 1024;
