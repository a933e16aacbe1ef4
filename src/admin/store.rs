//! `/store` of the admin listener: where counts are, and how that fares.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::AdminState;
use crate::clock::Timestamp;
use crate::store::Store;
use crate::store::redis::{LinkStatus, QueueReading, RedisStatus};

/// Answers with the [`StoreReport`].
pub(super) async fn show(State(state): State<AdminState>) -> Response {
    Json(StoreReport::new(&state)).into_response()
}

/// Where counts are, and how that fares.
#[derive(Debug, Serialize)]
pub(super) struct StoreReport {
    kind: &'static str,
    /// Keys that are counted in this process.
    keys: u64,
    /// The stores that all replicas share; none where each counts by itself.
    stores: Vec<StoreState>,
    /// Who shares the limits while a store is away.
    fleet: Option<FleetState>,
}

#[derive(Debug, Serialize)]
struct StoreState {
    name: &'static str,
    /// `closed` while decisions come from it.
    state: &'static str,
    since_ms: u64,
    /// For how long it was not asked by every core for every node, ever.
    local_ms: u64,
    queue: QueueState,
    /// Calls that were given up at the deadline, and to which an answer may still come.
    unanswered: usize,
    /// Why its servers cannot be found, if they cannot.
    unresolved: Option<String>,
    /// Each core's way to each server.
    links: Vec<LinkState>,
}

/// What waits to be sent.
#[derive(Debug, Serialize)]
struct QueueState {
    /// Queries that wait now, on all cores.
    length: usize,
    /// Most of them.
    limit: usize,
    /// How full it was at most in the last second, from 0 to 1.
    utilization: f64,
}

#[derive(Debug, Serialize)]
struct LinkState {
    node: String,
    state: &'static str,
    since_ms: u64,
    server: Option<String>,
    failure: Option<String>,
}

#[derive(Debug, Serialize)]
struct FleetState {
    /// This replica's name in the store.
    replica: String,
    /// How many replicas share the limits.
    replicas: u32,
    /// Queries that were decided by this replica's share, ever.
    decisions: u64,
    /// Keys with hits that the store has still to be told of.
    ledger_keys: u64,
    /// Hits that it will not be told of.
    forgotten: u64,
}

impl StoreReport {
    pub(super) fn new(state: &AdminState) -> Self {
        let store = state.pipeline.store();
        let keys = store.memory().stats().live_keys;
        let Store::Shared(shared) = store else {
            return Self {
                kind: "memory",
                keys,
                stores: Vec::new(),
                fleet: None,
            };
        };
        let local = shared.local().stats();
        Self {
            kind: "redis",
            keys,
            stores: shared.status().into_iter().map(StoreState::from).collect(),
            fleet: Some(FleetState {
                replica: shared.replica().to_owned(),
                replicas: local.replicas,
                decisions: local.decisions,
                ledger_keys: local.ledger_keys,
                forgotten: local.forgotten.saturating_add(local.faded),
            }),
        }
    }
}

impl From<RedisStatus> for StoreState {
    fn from(status: RedisStatus) -> Self {
        Self {
            name: status.name.name(),
            state: status.state.name(),
            since_ms: status.since.as_millis(),
            local_ms: u64::try_from(status.sample.away.as_millis()).unwrap_or(u64::MAX),
            queue: status.sample.queue.into(),
            unanswered: status.sample.unanswered,
            unresolved: status.unresolved,
            links: status.links.into_iter().map(LinkState::from).collect(),
        }
    }
}

impl From<QueueReading> for QueueState {
    fn from(queue: QueueReading) -> Self {
        Self {
            length: queue.length,
            limit: queue.limit,
            utilization: queue.utilization,
        }
    }
}

impl From<LinkStatus> for LinkState {
    fn from(status: LinkStatus) -> Self {
        Self {
            node: status.place,
            state: status.state.name(),
            since_ms: Timestamp::as_millis(status.since),
            server: status.server,
            failure: status.failure,
        }
    }
}
