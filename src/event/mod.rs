//! What happens, as plain data, for those who count and log it.
//!
//! Decisions are made by code that tells of them and never asks: nothing that listens can change,
//! delay or fail a decision. `telemetry` listens in the service; tests listen too.

mod admin;
mod fleet;
mod outcome;
mod protocol;
mod sample;
mod store;
mod trace;
mod unread;

use std::fmt;
use std::time::Duration;

pub use admin::AdminRefusal;
pub use fleet::{AlertChanged, AlertState, DomainTotals, Total, Totals};
pub use outcome::{DecidedBy, Outcome, QueryResult};
pub use protocol::ProtocolError;
pub use sample::{DecisionSample, TooManyDomains};
pub use store::{
    BreakerState, FallbackReason, FellBack, Operation, Reconciled, StoreCalled, StoreChanged,
    StoreName,
};
pub use trace::{
    CallTrace, MAX_DESCRIPTORS, MAX_TEXT, TracedDecision, TracedDescriptor, TracedQueries, Written,
    WrittenDescriptor, WrittenRuling,
};
pub use unread::DeniedUnread;

/// Somebody who is told what happens. Called on the request path: must not block or allocate for
/// the usual [`Decided`].
pub trait Events: fmt::Debug + Send + Sync {
    /// One descriptor was decided.
    fn decided(&self, event: Decided<'_>);

    /// A query was answered, or could not be.
    fn queried(&self, event: Queried);

    /// A query came for a domain that no policy has; told beside [`Events::queried`].
    fn unknown_domain(&self) {}

    /// A whole call was answered.
    fn answered(&self, event: Answered);

    /// A call is over: its answer has left, or its caller has.
    fn served(&self, event: Served);

    /// A call was not answered but refused.
    fn refused(&self, event: Refused);

    /// A client broke HTTP/2 on the gRPC port, or does not speak it.
    fn protocol_error(&self, _: ProtocolError) {}

    /// A call was answered `OVER_LIMIT` before its message was read.
    fn denied_unread(&self, _: DeniedUnread) {}

    /// The admin listener refused a request.
    fn admin_refused(&self, _: AdminRefusal) {}

    /// Policies were read again, or for the first time.
    fn reloaded(&self, event: Reloaded);

    /// A call to the shared store ended.
    fn store_called(&self, event: StoreCalled<'_>);

    /// The breaker of one of the shared store's nodes changed.
    fn store_changed(&self, event: StoreChanged<'_>);

    /// Checks were decided without the shared store.
    fn fell_back(&self, event: FellBack);

    /// The shared store was told of hits that were admitted without it.
    fn reconciled(&self, event: Reconciled);

    /// A recorded call is over.
    fn traced(&self, call: CallTrace) {
        drop(call);
    }

    /// A query was decided that is to be written down.
    fn written(&self, _: Written<'_>) {}
}

/// One descriptor of a query was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decided<'a> {
    /// Where to count it, as [`Meters::rule`] numbered the rule.
    pub meter: u32,
    /// Values that the rule wants in its metric (`detailed_metric`, `value_to_metric`); unbounded,
    /// so whoever counts caps them.
    pub label: Option<&'a str>,
    /// How it ended.
    pub outcome: Outcome,
    /// Who said so.
    pub by: DecidedBy,
    /// The hits, if they were let pass and left less than a fifth of the limit; else 0.
    pub near_limit: u64,
    /// The counter's name, if its limit was exceeded. From a request, so whoever keeps it caps it.
    pub exceeded: Option<&'a [u8]>,
}

/// A query was answered, or was not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queried {
    /// Where to count it, as [`Meters::domain`] numbered the domain.
    pub domain: u32,
    /// How it ended.
    pub result: QueryResult,
}

/// A call was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answered {
    /// From the decoded request to the encoded answer.
    pub duration: Duration,
}

/// A call of the rate limit service is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Served {
    /// From the first byte of the request until the last of the response was handed to the
    /// connection, or until the caller had gone.
    pub duration: Duration,
    /// How it ended.
    pub ended: CallEnd,
}

/// How a call of the rate limit service ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CallEnd {
    /// The caller had gone before the whole answer was out.
    Abandoned,
    /// It was answered, be it over the limit or not.
    Answered,
    /// It was refused.
    Refused(Code),
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
    /// The caller has gone.
    Cancelled,
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
    pub const ALL: [Self; 6] = [
        Self::Cancelled,
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
            Self::Cancelled => "CANCELLED",
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
            Self::Cancelled => 1,
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
            Self::Cancelled => 0,
            Self::DeadlineExceeded => 1,
            Self::InvalidArgument => 2,
            Self::ResourceExhausted => 3,
            Self::Unavailable => 4,
            Self::Unimplemented => 5,
        }
    }
}

/// Policies were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reloaded {
    /// Whether they took effect; if not, the ones before stay.
    pub accepted: bool,
}

/// Gives numbers to domains and rules, so that counting is an index and not a look-up. The same name
/// has the same number for as long as the process runs.
pub trait Meters {
    /// The number for queries of `domain`.
    fn domain(&self, domain: &str) -> u32;

    /// The number for decisions of `rule` (a rule's path) in `domain`.
    fn rule(&self, domain: &str, rule: &str) -> u32;
}

/// Nobody listens: for tools that decide nothing for real.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silence;

impl Events for Silence {
    fn decided(&self, _: Decided<'_>) {}
    fn queried(&self, _: Queried) {}
    fn answered(&self, _: Answered) {}
    fn served(&self, _: Served) {}
    fn refused(&self, _: Refused) {}
    fn reloaded(&self, _: Reloaded) {}
    fn store_called(&self, _: StoreCalled<'_>) {}
    fn store_changed(&self, _: StoreChanged<'_>) {}
    fn fell_back(&self, _: FellBack) {}
    fn reconciled(&self, _: Reconciled) {}
}

impl Meters for Silence {
    fn domain(&self, _: &str) -> u32 {
        0
    }

    fn rule(&self, _: &str, _: &str) -> u32 {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever counts keeps an array of the length of `ALL`, and counts at `index`.
    #[test]
    fn everything_that_is_counted_by_its_place_has_one_of_its_own() {
        fn in_order<const N: usize>(places: [usize; N]) {
            assert_eq!(places, std::array::from_fn(|place| place));
        }
        in_order(AdminRefusal::ALL.map(AdminRefusal::index));
        in_order(BreakerState::ALL.map(BreakerState::index));
        in_order(DeniedUnread::ALL.map(DeniedUnread::index));
        in_order(Code::ALL.map(Code::index));
        in_order(DecidedBy::ALL.map(DecidedBy::index));
        in_order(FallbackReason::ALL.map(FallbackReason::index));
        in_order(Operation::ALL.map(Operation::index));
        in_order(Outcome::ALL.map(Outcome::index));
        in_order(ProtocolError::ALL.map(ProtocolError::index));
        in_order(QueryResult::ALL.map(QueryResult::index));
        in_order(StoreName::ALL.map(StoreName::index));
        in_order(Total::ALL.map(Total::index));
    }
}
