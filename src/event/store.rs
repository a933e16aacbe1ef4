//! What happens between this replica and the store that all replicas share.

use std::time::Duration;

use super::TracedQueries;

/// A call to the shared store ended, well or not. One call carries the checks of many queries. One
/// that was given up is told of when its answer comes, not before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreCalled<'a> {
    /// Which store was called.
    pub store: StoreName,
    /// What for.
    pub operation: Operation,
    /// `ok`, or the name of a class of failures: one of a few words, never a text from outside.
    pub result: &'static str,
    /// From the call's first byte until its answer was read, whether or not anybody still waited for
    /// it; where none came, until the connection had ended, or until it was not worth waiting any
    /// more (some seconds).
    pub duration: Duration,
    /// Queries that it decided, or would have.
    pub queries: usize,
    /// Their checks.
    pub checks: usize,
    /// The domains that they are of, each once, as [`Meters::domain`](super::Meters::domain)
    /// numbered them.
    pub domains: &'a [u32],
    /// Those of its queries whose calls are recorded; usually none.
    pub traced: TracedQueries<'a>,
}

/// A node of the shared store is taken for healthy, or no longer. Told once, however many cores have
/// noticed: the state is that of the core that fares worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreChanged<'a> {
    /// Which store it belongs to.
    pub store: StoreName,
    /// The node's address, for logs; too many in a lifetime to be told apart in metrics.
    pub node: &'a str,
    /// What its worst breaker is from now on.
    pub state: BreakerState,
}

/// Checks were decided without the shared store, as their rules say (`on_store_failure`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FellBack {
    /// Why.
    pub reason: FallbackReason,
    /// How many.
    pub checks: usize,
}

/// Hits that were admitted without the shared store were told to it afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reconciled {
    /// Hits that it has charged now.
    pub charged: u64,
    /// Hits that it was not told, since their window was over or there were too many to remember.
    pub dropped: u64,
}

/// What a call to a shared store is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Reaching a server and getting to know it.
    Connect,
    /// Deciding queries.
    Decide,
    /// Adding to what the fleet tells of itself.
    Fleet,
    /// Saying that this replica lives.
    Heartbeat,
    /// Finding out whether the server is back.
    Probe,
}

impl Operation {
    /// Every operation, in the order of [`Operation::index`].
    pub const ALL: [Self; 5] = [
        Self::Connect,
        Self::Decide,
        Self::Fleet,
        Self::Heartbeat,
        Self::Probe,
    ];

    /// The name in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Decide => "decide",
            Self::Fleet => "fleet",
            Self::Heartbeat => "heartbeat",
            Self::Probe => "probe",
        }
    }

    /// Its place in [`Operation::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::Connect => 0,
            Self::Decide => 1,
            Self::Fleet => 2,
            Self::Heartbeat => 3,
            Self::Probe => 4,
        }
    }
}

/// Which of the shared stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StoreName {
    /// The one for every limit that has none of its own.
    Main,
    /// The one for limits per second, where there is one.
    PerSecond,
}

impl StoreName {
    /// Every store, in the order of [`StoreName::index`].
    pub const ALL: [Self; 2] = [Self::Main, Self::PerSecond];

    /// The name in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Main => "main",
            Self::PerSecond => "per_second",
        }
    }

    /// Its place in [`StoreName::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::Main => 0,
            Self::PerSecond => 1,
        }
    }
}

/// Whether a node is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BreakerState {
    /// It is.
    Closed,
    /// A few calls find out whether it is back.
    HalfOpen,
    /// It is not: it failed too often.
    Open,
}

impl BreakerState {
    /// Every state, in the order of [`BreakerState::index`].
    pub const ALL: [Self; 3] = [Self::Closed, Self::HalfOpen, Self::Open];

    /// The name in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half_open",
            Self::Open => "open",
        }
    }

    /// Its place in [`BreakerState::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::Closed => 0,
            Self::HalfOpen => 1,
            Self::Open => 2,
        }
    }
}

/// Why checks were decided without the shared store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FallbackReason {
    /// The node is not called for now.
    BreakerOpen,
    /// No answer came in time.
    Deadline,
    /// The call failed.
    Failed,
    /// There is no connection.
    Gone,
    /// Too many queries wait already.
    QueueFull,
}

impl FallbackReason {
    /// Every reason, in the order of [`FallbackReason::index`].
    pub const ALL: [Self; 5] = [
        Self::BreakerOpen,
        Self::Deadline,
        Self::Failed,
        Self::Gone,
        Self::QueueFull,
    ];

    /// The name in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::BreakerOpen => "breaker_open",
            Self::Deadline => "deadline",
            Self::Failed => "failed",
            Self::Gone => "gone",
            Self::QueueFull => "queue_full",
        }
    }

    /// Its place in [`FallbackReason::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::BreakerOpen => 0,
            Self::Deadline => 1,
            Self::Failed => 2,
            Self::Gone => 3,
            Self::QueueFull => 4,
        }
    }
}
