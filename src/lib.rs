//! Tollgate: a rate limit service for Envoy.

pub mod admin;
pub mod algorithm;
pub mod clock;
pub mod config;
pub mod event;
pub mod limiter;
pub mod model;
pub mod pipeline;
pub mod policy;
pub mod provider;
pub mod store;
pub mod telemetry;
pub mod transport;
