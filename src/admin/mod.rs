//! What operators and their machines ask of a running Tollgate over HTTP.
//!
//! Two routers: [`health`] (for the `http` listener: liveness, readiness, metrics) and [`dump`]
//! (for the `admin` listener: the configuration in force, and why a descriptor is answered as it
//! is). They look and tell; few calls change something (they reset a counter, or change how much is
//! logged), and not everybody may ([`Token`]). What they show is handed over by `app` as plain values and closures
//! ([`AdminState`]).

mod alerts;
mod brief;
pub mod counter;
mod counters;
pub mod dump;
mod expected;
pub mod explain;
pub mod health;
mod hosts;
mod log;
mod permit;
mod rlconfig;
mod scrape;
mod status;
mod store;
pub mod top;
mod written;

use std::fmt;
use std::sync::Arc;

pub(crate) use brief::brief;
pub use hosts::AllowedHosts;
pub use log::LogLevel;
pub use permit::{Token, TokenError};
pub use status::{PolicyStatus, Status};

use crate::alert::Overview;
use crate::event::AdminRefusal;
use crate::model::{Check, LogLimit, OnStoreFailure, Peer, Verdict};
use crate::pipeline::Pipeline;
use crate::policy::DomainSpec;
use crate::store::{Lane, NotForgotten, Store};
use top::{TopQuery, TopReport};
use tracing::warn;

/// What the admin routes look at. Cheap to clone.
#[derive(Clone)]
pub struct AdminState {
    /// What decides.
    pub pipeline: Arc<Pipeline>,
    /// The way to the store, if it is not in this process.
    pub lane: Option<Lane>,
    /// Whether traffic is wanted, and how the last reading of the policies went.
    pub status: Arc<Status>,
    /// The metrics as text; may take a while, so it is called off the request path.
    pub metrics: Arc<dyn Fn() -> Result<Vec<u8>, String> + Send + Sync>,
    /// How alerts stand.
    pub alerts: Arc<dyn Fn() -> Overview + Send + Sync>,
    /// The settings in force.
    pub settings: Arc<dyn Fn() -> serde_json::Value + Send + Sync>,
    /// The policies in force as they were written; compiles them, so it is called off the request
    /// path.
    pub written: Arc<dyn Fn() -> Result<Vec<DomainSpec>, String> + Send + Sync>,
    /// The keys that are limited most; may take a while, as `metrics`.
    pub top: Arc<dyn Fn(&TopQuery) -> TopReport + Send + Sync>,
    /// What callers must bring to change something; without, only those on this machine may.
    pub token: Option<Token>,
    /// The names that the admin listener is served under.
    pub allowed_hosts: AllowedHosts,
    /// Which refusals were logged lately.
    pub refusals: Arc<Refusals>,
    /// The log, if this process has one.
    pub log: Option<Arc<dyn LogLevel>>,
}

impl AdminState {
    /// What a query of this check alone would be answered. Charges nothing.
    async fn look(&self, check: &Check) -> Verdict {
        let now = self.pipeline.clock().now();
        let store = self.pipeline.store();
        store.inspect(self.lane.as_ref(), check, now).await
    }

    /// How many replicas the check's limit is divided by without the shared store, if this one's share is 0 and would decide.
    fn replicas_without_share(&self, check: &Check) -> Option<u32> {
        let Store::Shared(shared) = self.pipeline.store() else {
            return None;
        };
        let decides = check.on_store_failure == OnStoreFailure::Local;
        let local = shared.local();
        (decides && local.has_no_share(check)).then(|| local.fleet().replicas())
    }

    /// Counts that the admin listener refuses a request, and logs one of a kind each minute.
    fn refuse(&self, reason: AdminRefusal, peer: Option<Peer>) {
        self.pipeline.events().admin_refused(reason);
        let now = self.pipeline.clock().now().as_millis();
        if self.refusals.0.allows(reason.index(), now) {
            let peer = peer.map(|peer| peer.to_string());
            warn!(
                reason = reason.name(),
                peer,
                "admin request refused; further ones for this reason are only counted for a minute"
            );
        }
    }

    /// Drops the check's counter.
    async fn reset(&self, check: &Check) -> Result<(), NotForgotten> {
        let now = self.pipeline.clock().now();
        let store = self.pipeline.store();
        store.forget(self.lane.as_ref(), check, now).await
    }
}

/// Which reasons to refuse admin requests were logged in the last minute.
#[derive(Debug)]
pub struct Refusals(LogLimit<{ AdminRefusal::ALL.len() }>);

impl Default for Refusals {
    fn default() -> Self {
        Self(LogLimit::new(60_000))
    }
}

impl fmt::Debug for AdminState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminState")
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}
