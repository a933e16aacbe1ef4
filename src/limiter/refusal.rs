//! Queries that cannot be answered, whoever asks. All are the fault of how Envoy was set up: what
//! a client controls never leads here.

use crate::policy::OverrideError;

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
