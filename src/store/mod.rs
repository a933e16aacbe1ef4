//! Where counts live: checks go in, verdicts come out.
//!
//! A store **decides**, it does not fetch: one call takes every [`Check`] of a
//! query and returns a [`Verdict`] for each. The counts never leave it, so
//! nobody can read one, think, and write back what has changed meanwhile.
//!
//! What any store promises
//! - All or nothing: a query that is denied has charged nobody, but where `denied_hits` says
//!   otherwise; refunds land all the same.
//! - A key that appears twice in a query is charged twice, and its two verdicts see consecutive
//!   counts.
//! - The clock is an argument; Redis reads its own.
//!
//! [`MemoryStore`] decides in this process; [`SharedStore`] has [`redis`] decide, where all replicas
//! count, and [`LocalStore`] by this replica's share of each limit while that cannot be asked.
//!
//! It does not match descriptors (`policy`) and does not turn verdicts into an answer (`limiter`).

mod breaker;
mod due;
mod local;
mod memory;
pub mod redis;
mod shared;

use std::sync::Arc;
use std::time::Duration;

pub use breaker::{Breaker, BreakerConfig};
pub use due::DeadlineConfig;
pub use local::{Fleet, LocalConfig, LocalStats, LocalStore, fallback};
pub use memory::{MemoryConfig, MemoryStats, MemoryStore, Swept};
pub use shared::{
    AlertReading, Asked, DomainReading, FleetConfig, FleetReading, FleetSource, Glance,
    GlanceError, Keeper, Lane, ReplicaReading, SharedConfig, SharedStore, Unasked, Unavailable,
};

use crate::clock::Timestamp;
use crate::model::{Check, Verdict};

/// Where this process counts.
#[derive(Clone, Debug)]
pub enum Store {
    /// In its own memory.
    Memory(Arc<MemoryStore>),
    /// In Redis, with all other replicas.
    Shared(Arc<SharedStore>),
}

impl Store {
    /// What is counted in this process: everything, or what is decided while Redis is away.
    #[must_use]
    pub fn memory(&self) -> &MemoryStore {
        match self {
            Self::Memory(memory) => memory,
            Self::Shared(shared) => shared.local().memory(),
        }
    }

    /// Drops what has expired in the next part of this process's counters, in turn; see
    /// [`MemoryStore::sweep_next`].
    pub fn sweep_next(&self, now: Timestamp) {
        match self {
            Self::Memory(memory) => {
                memory.sweep_next(now);
            }
            Self::Shared(shared) => shared.local().sweep_next(shared.earliest_now()),
        }
    }

    /// How many calls of [`Store::sweep_next`] see every counter.
    #[must_use]
    pub fn shards(&self) -> usize {
        match self {
            Self::Memory(memory) => memory.shards(),
            Self::Shared(shared) => shared.local().shards(),
        }
    }

    /// A core's way to a shared store, on its runtime; none where there is nowhere to go. Lanes
    /// have different numbers.
    #[must_use]
    pub fn open_lane(&self, number: usize) -> Option<Lane> {
        match self {
            Self::Memory(_) => None,
            Self::Shared(shared) => Some(Lane::open(shared, number)),
        }
    }

    /// What a query of this check alone would be answered; `lane` leads to a shared store. Charges
    /// nothing.
    pub async fn inspect(&self, lane: Option<&Lane>, check: &Check, now: Timestamp) -> Verdict {
        match lane {
            None => self.memory().inspect(check, now),
            Some(lane) => lane.inspect(check, BY_HAND).await,
        }
    }

    /// Starts the check's counter afresh; `lane` leads to a shared store.
    ///
    /// # Errors
    /// If that cannot be done.
    pub async fn forget(
        &self,
        lane: Option<&Lane>,
        check: &Check,
        now: Timestamp,
    ) -> Result<(), NotForgotten> {
        match lane {
            None if self.memory().forget(check, now) => Ok(()),
            None => Err(NotForgotten::Shared),
            Some(lane) => {
                let forgot = lane.forget(check, BY_HAND).await;
                forgot.map_err(NotForgotten::Failed)
            }
        }
    }
}

/// Why a counter was not dropped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotForgotten {
    /// The store that all replicas share did not do so.
    #[error("{0}")]
    Failed(redis::Failure),
    /// Other keys may be counted there too.
    #[error("other keys share a counter with it")]
    Shared,
}

/// How long people wait for the store.
const BY_HAND: Duration = Duration::from_secs(1);
