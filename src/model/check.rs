//! The work that a query makes for the store, and what comes back.

use smallvec::SmallVec;

use super::{Key, OnStoreFailure, Quota, RuleId};
use crate::clock::Timestamp;

/// Where hits and counts stop growing: above every limit, and far below what overflows.
pub const SATURATED: u64 = 1 << 32;

/// What a check does to its counter. Counts lie in 1..=[`SATURATED`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hits {
    /// Takes so many.
    Charge(u64),
    /// Only asks: over iff one more hit would be.
    Peek,
    /// Gives so many back, at most what is charged and still counted.
    Refund(u64),
}

/// One counter to be asked, as the policy made it from a descriptor.
#[derive(Clone, Debug)]
pub struct Check {
    /// The counter's name.
    pub key: Key,
    /// The rule that it is made for.
    pub rule: RuleId,
    /// The numbers that it is judged by.
    pub quota: Quota,
    /// What it is to be charged.
    pub hits: Hits,
    /// What its verdict may do to the whole answer.
    pub role: Role,
    /// How it is decided when the store that all replicas share does not answer in time.
    pub on_store_failure: OnStoreFailure,
}

/// How far a check's verdict reaches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Role {
    /// Over the limit is only told, never enforced (`shadow_mode`, or a denial that
    /// `enforce_percent` spared).
    pub shadow: bool,
    /// `quota_mode`: denies only when every quota check of the query is over.
    pub quota: bool,
}

/// Whether checks with these roles, over the limit or not, deny the request together.
///
/// As envoyproxy/ratelimit folds: a plain check that is over denies; quota checks deny only when
/// there is at least one and all of them are over; a shadowed check counts as passing.
pub fn denies(checks: impl IntoIterator<Item = (Role, bool)>) -> bool {
    let (mut quotas, mut exhausted) = (0_usize, 0_usize);
    for (role, over) in checks {
        let over = over && !role.shadow;
        if role.quota {
            quotas = quotas.saturating_add(1);
            exhausted = exhausted.saturating_add(usize::from(over));
        } else if over {
            return true;
        }
    }
    quotas > 0 && quotas == exhausted
}

/// What the store says of one check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The hits did not fit.
    pub over: bool,
    /// Hits that are left once this query is done; 0 when over.
    pub remaining: u32,
    /// Hits that are counted against the limit once this query is done.
    pub counted: u64,
    /// Milliseconds until the reset that the algorithm promises: over, until the same hits pass if
    /// nobody else calls; else until everything has come back.
    pub reset_millis: u64,
    /// The hits are more than the limit ever holds: waiting does not help.
    pub never: bool,
    /// Who decided.
    pub source: Source,
    /// The time by which it was decided, on the clock of whoever did.
    pub at: Timestamp,
}

/// Verdicts in the order of their checks.
pub type Verdicts = SmallVec<[Verdict; 4]>;

/// What the store decided for a whole query.
#[derive(Clone, Debug)]
pub struct Decision {
    /// One for each check, in order.
    pub verdicts: Verdicts,
    /// Whether the checks deny together, see [`denies`]; then nobody was charged but those whose
    /// `denied_hits` says otherwise.
    pub denied: bool,
}

/// Where a verdict came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// Nobody counted: the shared store was away, and the rule lets pass or denies then.
    Fallback,
    /// This replica's share of the limit, counted in its memory while the shared store was away.
    Local,
    /// A counter of this key alone, in memory.
    Memory,
    /// A counter that new keys share since the table has no room for more of their rule; it may over-count.
    Overflow,
    /// A counter of this key alone, in the store that all replicas share.
    Store,
    /// The shared store holds a state of a version that is not known here; over until it expires.
    Unreadable,
}

impl Source {
    /// The name in metrics and explanations.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fallback => "fallback",
            Self::Local => "local",
            Self::Memory => "memory",
            Self::Overflow => "overflow",
            Self::Store => "store",
            Self::Unreadable => "unreadable",
        }
    }
}
