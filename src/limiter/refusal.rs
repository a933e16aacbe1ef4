//! Queries that are not answered. Whoever set up Envoy, or wrote a rule that says
//! `on_store_failure: error`, wants it so: what a client controls never leads here.

use crate::policy::OverrideError;
use crate::store::Unavailable;

/// Why a query is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No domain. The text is envoyproxy/ratelimit's.
    #[error("rate limit domain must not be empty")]
    EmptyDomain,
    /// No descriptors. The text is envoyproxy/ratelimit's.
    #[error("rate limit descriptor list must not be empty")]
    NoDescriptors,
    /// A descriptor brought a limit that means nothing.
    #[error("descriptors[{descriptor}]: {error}")]
    Override {
        /// Which, from 0.
        descriptor: usize,
        /// What is wrong with it.
        error: OverrideError,
    },
    /// The store cannot be asked, and a rule wants that to be an error.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// More descriptors than the settings allow.
    #[error(
        "{count} descriptors in one request, at most {limit} are answered (limits.descriptors)"
    )]
    TooManyDescriptors {
        /// How many came.
        count: usize,
        /// How many may.
        limit: usize,
    },
    /// A descriptor with more entries than the settings allow.
    #[error(
        "descriptors[{descriptor}]: {count} entries, at most {limit} are matched (limits.entries)"
    )]
    TooManyEntries {
        /// Which descriptor, from 0.
        descriptor: usize,
        /// How many entries it has.
        count: usize,
        /// How many it may have.
        limit: usize,
    },
}
