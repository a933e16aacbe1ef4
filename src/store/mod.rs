//! Where counts live: checks go in, verdicts come out.
//!
//! A store **decides**, it does not fetch: one call takes every [`Check`](crate::model::Check) of a
//! query and returns a [`Verdict`](crate::model::Verdict) for each. The counts never leave it, so
//! nobody can read one, think, and write back what has changed meanwhile.
//!
//! What any store promises
//! - All or nothing: a query that is denied has charged nobody, but where `denied_hits` says
//!   otherwise; refunds land all the same.
//! - A key that appears twice in a query is charged twice, and its two verdicts see consecutive
//!   counts.
//! - The clock is an argument.
//!
//! [`MemoryStore`] counts in this process; [`redis`] where all replicas do; [`LocalStore`] enforces this
//! replica's share while those cannot be asked.
//!
//! It does not match descriptors (`policy`) and does not turn verdicts into an answer (`limiter`).

mod local;
mod memory;
pub mod redis;

pub use local::{Fleet, LocalConfig, LocalStats, LocalStore, fallback};
pub use memory::{MemoryConfig, MemoryStats, MemoryStore, Swept};
