//! Tollgate behind a real Envoy: what a client of Envoy gets, end to end.
//!
//! Each test talks HTTP to an Envoy that asks a `tollgate serve` of its own; both are child
//! processes on free ports, ended by pid. Most tests share one pair ([`bed::shared`]) and keep apart
//! by users and routes. Those that break something start a pair of theirs.
//!
//! The binary comes from `scripts/get-envoy` (or `TOLLGATE_ENVOY`), which fetches it once. Where it
//! cannot be had these tests fail and say so: skipping them would hide the most.
//!
//! Limits are per day wherever a test counts, so that no window ends while it does.

pub(crate) mod bed;
pub(crate) mod client;
pub(crate) mod config;
mod hostile;
mod limits;
mod names;
mod readme;
mod stops;
mod streams;
