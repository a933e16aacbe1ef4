//! `/top` of the admin listener: the keys that exceeded their limits most often lately.

use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use super::AdminState;

/// Which keys to tell.
#[derive(Clone, Debug, Deserialize)]
pub struct TopQuery {
    /// Those of this domain only.
    pub domain: Option<String>,
    /// Those of the rule of this path only.
    pub rule: Option<String>,
    /// So many.
    #[serde(default = "some")]
    pub limit: usize,
}

const fn some() -> usize {
    10
}

/// Keys that exceeded their limits in this process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopReport {
    /// Over so many seconds.
    pub seconds: u64,
    /// The keys, that which did so most often first.
    pub keys: Vec<TopEntry>,
    /// The rules that had more keys in this time than there is room for: their further new keys share
    /// counters, and some are denied too early.
    #[serde(default)]
    pub overflowing: Vec<TopRule>,
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TopRule {
    /// Its domain.
    pub domain: String,
    /// Its path.
    pub rule: String,
}

/// A key that exceeded its limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopEntry {
    /// The rule's domain.
    pub domain: String,
    /// The rule's path.
    pub rule: String,
    /// The counter's name, as `/counters` and `/explain` show it.
    pub key: String,
    /// How often its limit was exceeded, at most: many keys share few places. Where more than 1,000
    /// rules deny at once, some of it may stand under the rule `(other)`.
    pub times: u64,
    /// And at least.
    pub at_least: u64,
}

/// Answers with the [`TopReport`].
pub(super) async fn show(
    State(state): State<AdminState>,
    Query(asked): Query<TopQuery>,
) -> Response {
    if !(1..=MOST).contains(&asked.limit) {
        let why = format!("limit is 1 to {MOST}, not {}\n", asked.limit);
        return (StatusCode::BAD_REQUEST, why).into_response();
    }
    super::dump::blocking(move || Json((state.top)(&asked)).into_response()).await
}

/// Most keys that are told.
const MOST: usize = 1_000;
