//! What happens, as plain data, for those who count and log it.
//!
//! Decisions are made by code that tells of them and never asks: nothing that listens can change,
//! delay or fail a decision. `telemetry` listens in the service; tests listen too.

mod store;

use std::fmt;
use std::time::Duration;

pub use store::{
    BreakerState, FallbackReason, FellBack, Reconciled, StoreCalled, StoreChanged, StoreName,
};

/// Somebody who is told what happens. Called on the request path: must not block or allocate for
/// the usual [`Decided`].
pub trait Events: fmt::Debug + Send + Sync {
    /// One descriptor was decided.
    fn decided(&self, event: Decided<'_>);

    /// A whole call was answered.
    fn answered(&self, event: Answered);

    /// A call was not answered but refused.
    fn refused(&self, event: Refused);

    /// Policies were read again, or for the first time.
    fn reloaded(&self, event: Reloaded);

    /// A call to the shared store ended.
    fn store_called(&self, event: StoreCalled);

    /// The breaker of one of the shared store's nodes changed.
    fn store_changed(&self, event: StoreChanged<'_>);

    /// Checks were decided without the shared store.
    fn fell_back(&self, event: FellBack);

    /// The shared store was told of hits that were admitted without it.
    fn reconciled(&self, event: Reconciled);
}

/// One descriptor of a query was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decided<'a> {
    /// Where to count it, as [`Meters::meter`] numbered the rule.
    pub meter: u32,
    /// Values that the rule wants in its metric (`detailed_metric`, `value_to_metric`); unbounded,
    /// so whoever counts caps them.
    pub label: Option<&'a str>,
    /// How it ended.
    pub outcome: Outcome,
}

/// How a descriptor fared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Its hits fit.
    Allowed,
    /// They did not.
    Denied,
    /// It was only asked, and one more hit would fit.
    Peeked,
    /// Its hits were given back.
    Refunded,
    /// Another rule of the request took its place.
    Replaced,
    /// Its hits did not fit, and the rule only tells.
    Shadowed,
    /// Its rule has no bound.
    Unlimited,
    /// No rule matched it.
    Unmatched,
}

impl Outcome {
    /// Every outcome, in the order of [`Outcome::index`].
    pub const ALL: [Self; 8] = [
        Self::Allowed,
        Self::Denied,
        Self::Peeked,
        Self::Refunded,
        Self::Replaced,
        Self::Shadowed,
        Self::Unlimited,
        Self::Unmatched,
    ];

    /// The name in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::Peeked => "peeked",
            Self::Refunded => "refunded",
            Self::Replaced => "replaced",
            Self::Shadowed => "shadowed",
            Self::Unlimited => "unlimited",
            Self::Unmatched => "unmatched",
        }
    }

    /// Its place in [`Outcome::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::Allowed => 0,
            Self::Denied => 1,
            Self::Peeked => 2,
            Self::Refunded => 3,
            Self::Replaced => 4,
            Self::Shadowed => 5,
            Self::Unlimited => 6,
            Self::Unmatched => 7,
        }
    }
}

/// A call was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answered {
    /// From the decoded request to the encoded answer.
    pub duration: Duration,
}

/// A call was refused: to Envoy the rate limit service is away, and unless told otherwise it lets the
/// request pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// What the caller was told.
    pub code: Code,
}

/// How a call fails: the codes of gRPC that are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// The message did not come in time.
    DeadlineExceeded,
    /// Whoever set up the caller made a mistake.
    InvalidArgument,
    /// Too much at once.
    ResourceExhausted,
    /// The store cannot be asked, and a rule wants that to be an error.
    Unavailable,
    /// Nothing like that is served.
    Unimplemented,
}

impl Code {
    /// Every code, in the order of [`Code::index`].
    pub const ALL: [Self; 5] = [
        Self::DeadlineExceeded,
        Self::InvalidArgument,
        Self::ResourceExhausted,
        Self::Unavailable,
        Self::Unimplemented,
    ];

    /// gRPC's name, as metrics have it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Self::InvalidArgument => "INVALID_ARGUMENT",
            Self::ResourceExhausted => "RESOURCE_EXHAUSTED",
            Self::Unavailable => "UNAVAILABLE",
            Self::Unimplemented => "UNIMPLEMENTED",
        }
    }

    /// gRPC's number.
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            Self::DeadlineExceeded => 4,
            Self::InvalidArgument => 3,
            Self::ResourceExhausted => 8,
            Self::Unavailable => 14,
            Self::Unimplemented => 12,
        }
    }

    /// Its place in [`Code::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::DeadlineExceeded => 0,
            Self::InvalidArgument => 1,
            Self::ResourceExhausted => 2,
            Self::Unavailable => 3,
            Self::Unimplemented => 4,
        }
    }
}

/// Policies were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reloaded {
    /// Whether they took effect; if not, the ones before stay.
    pub accepted: bool,
}

/// Gives numbers to rules, so that counting a decision is an index and not a look-up.
pub trait Meters {
    /// The number for decisions of `rule` (a rule's path) in `domain`. The same pair has the same
    /// number for as long as the process runs.
    fn meter(&self, domain: &str, rule: &str) -> u32;
}

/// Nobody listens: for tools that decide nothing for real.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silence;

impl Events for Silence {
    fn decided(&self, _: Decided<'_>) {}
    fn answered(&self, _: Answered) {}
    fn refused(&self, _: Refused) {}
    fn reloaded(&self, _: Reloaded) {}
    fn store_called(&self, _: StoreCalled) {}
    fn store_changed(&self, _: StoreChanged<'_>) {}
    fn fell_back(&self, _: FellBack) {}
    fn reconciled(&self, _: Reconciled) {}
}

impl Meters for Silence {
    fn meter(&self, _: &str, _: &str) -> u32 {
        0
    }
}
