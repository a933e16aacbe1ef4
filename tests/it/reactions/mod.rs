//! What the service does with each failure of a store in Redis: how it answers meanwhile, what it
//! tells, and that it comes back by itself. Real servers, broken on purpose.
//!
//! Most tests go by a [`Rig`](rig::Rig), which has no listeners; what callers and operators see
//! is asked of a whole Tollgate ([`service`], [`diagnosis`]).

mod afterwards;
mod breaker;
mod cluster;
mod connection;
mod diagnosis;
mod failover;
mod full_socket;
mod latency;
mod modes;
mod queue;
mod recorder;
mod refusals;
mod rig;
mod secrets;
mod service;
mod stalls;
mod undone;
mod views;

pub(crate) use self::rig::{Rig, Set};
