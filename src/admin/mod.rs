//! What operators and their machines ask of a running Tollgate over HTTP.
//!
//! Two routers: [`health`] (for the `http` listener: liveness, readiness, metrics) and [`dump`]
//! (for the `admin` listener: the configuration in force, and why a descriptor is answered as it
//! is). They look and tell; one call changes something, the reset of a counter, and not everybody
//! may ([`Token`]). What they show is handed over by `app` as plain values and closures
//! ([`AdminState`]).

mod brief;
pub mod counter;
mod counters;
pub mod dump;
pub mod explain;
pub mod health;
mod permit;
mod rlconfig;
mod status;
mod written;

use std::fmt;
use std::sync::Arc;

pub(crate) use brief::brief;
pub use permit::{Token, TokenError};
pub use status::{PolicyStatus, Status};

use crate::pipeline::Pipeline;
use crate::policy::DomainSpec;

/// What the admin routes look at. Cheap to clone.
#[derive(Clone)]
pub struct AdminState {
    /// What decides.
    pub pipeline: Arc<Pipeline>,
    /// Whether traffic is wanted, and how the last reading of the policies went.
    pub status: Arc<Status>,
    /// The metrics as text; may take a while, so it is called off the request path.
    pub metrics: Arc<dyn Fn() -> Result<Vec<u8>, String> + Send + Sync>,
    /// The settings in force.
    pub settings: Arc<dyn Fn() -> serde_json::Value + Send + Sync>,
    /// The policies in force as they were written; compiles them, so it is called off the request
    /// path.
    pub written: Arc<dyn Fn() -> Result<Vec<DomainSpec>, String> + Send + Sync>,
    /// What callers must bring to change something; without, only those on this machine may.
    pub token: Option<Token>,
}

impl fmt::Debug for AdminState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminState")
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}
