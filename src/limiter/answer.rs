//! What is answered, before it takes the form of a protocol.

use smallvec::SmallVec;

use crate::event::{DecidedBy, Outcome};
use crate::model::{Check, Hits, Quota, Source, Verdict};
use crate::policy::{Domain, Matched, Rule};

/// The answer to a query.
#[derive(Debug)]
pub struct Answer<'p> {
    /// The domain, if it is configured.
    pub domain: Option<&'p Domain>,
    /// One for each descriptor, in order.
    pub statuses: SmallVec<[Status<'p>; 2]>,
    /// Whether the request is over the limit as a whole.
    pub denied: bool,
}

/// What became of one descriptor.
#[derive(Debug)]
pub struct Status<'p> {
    /// What applied to it.
    pub matched: Matched<'p>,
    /// How its limit ruled, if it had one.
    pub ruling: Option<Ruling>,
}

/// How one limit ruled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ruling {
    /// The numbers it was judged by.
    pub quota: Quota,
    /// What the hits were.
    pub hits: Hits,
    /// What the store said.
    pub verdict: Verdict,
    /// The rule only tells (`shadow_mode`, or spared by `enforce_percent`).
    pub shadow: bool,
}

impl<'p> Status<'p> {
    pub(super) fn new(matched: Matched<'p>, verdict: Option<(&Check, &Verdict)>) -> Self {
        let ruling = verdict.map(|(check, verdict)| Ruling {
            quota: check.quota,
            hits: check.hits,
            verdict: *verdict,
            shadow: check.role.shadow,
        });
        Self { matched, ruling }
    }

    /// A descriptor that nothing applies to.
    pub(crate) fn unmatched(miss: crate::policy::Miss) -> Self {
        Self {
            matched: Matched::Nothing(miss),
            ruling: None,
        }
    }

    /// Whether the status says over limit. A rule in shadow mode never does.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.ruling
            .is_some_and(|ruling| ruling.verdict.over && !ruling.shadow)
    }

    /// Whether this is a member of the quota tally.
    #[must_use]
    pub fn is_quota(&self) -> bool {
        self.rule().is_some_and(|rule| rule.quota_mode)
    }

    /// The operator's rule that applied.
    #[must_use]
    pub fn rule(&self) -> Option<&'p Rule> {
        self.matched.rule()
    }

    /// Who said how it fared.
    #[must_use]
    pub fn decided_by(&self) -> DecidedBy {
        match (&self.matched, &self.ruling) {
            (Matched::Nothing(_), _) => DecidedBy::Unmatched,
            (Matched::Replaced(_), _) => DecidedBy::Replaced,
            (Matched::Unlimited(_), _) => DecidedBy::Unlimited,
            (_, Some(ruling)) => match ruling.verdict.source {
                Source::Fallback => DecidedBy::Fallback,
                Source::Local => DecidedBy::Local,
                Source::Memory => DecidedBy::Memory,
                Source::Overflow => DecidedBy::Overflow,
                Source::Store => DecidedBy::Store,
                Source::Unreadable => DecidedBy::Unreadable,
            },
            (_, None) => DecidedBy::Fallback,
        }
    }

    /// How to count it. `enforced` is false while the whole domain only tells.
    #[must_use]
    pub fn outcome(&self, enforced: bool) -> Outcome {
        match (&self.matched, &self.ruling) {
            (Matched::Nothing(_) | Matched::Replaced(_) | Matched::Unlimited(_), _) => {
                Outcome::Allowed
            }
            (_, Some(ruling)) if ruling.verdict.over => {
                if ruling.shadow || !enforced {
                    Outcome::Shadowed
                } else {
                    Outcome::Denied
                }
            }
            (_, Some(ruling)) => match ruling.hits {
                Hits::Charge(_) => Outcome::Allowed,
                Hits::Peek => Outcome::Peeked,
                Hits::Refund(_) => Outcome::Refunded,
            },
            (_, None) => Outcome::Allowed,
        }
    }
}

impl Ruling {
    /// The hits, if they were let pass and left less than a fifth of what the limit holds; else 0.
    #[must_use]
    pub fn near_limit(&self) -> u64 {
        let Hits::Charge(hits) = self.hits else {
            return 0;
        };
        let holds = u64::from(self.quota.burst());
        let left = u64::from(self.verdict.remaining);
        match !self.verdict.over && left.saturating_mul(NEAR) < holds {
            true => hits,
            false => 0,
        }
    }

    /// Whole seconds until the reset, rounded up: Envoy cuts fractions off, and a client that
    /// comes back too early is denied again.
    #[must_use]
    pub fn reset_seconds(&self) -> u64 {
        self.verdict.reset_millis.div_ceil(1000)
    }

    /// Hits that are left. A limit that is only told as exceeded has none.
    #[must_use]
    pub fn remaining(&self) -> u32 {
        if self.verdict.over {
            0
        } else {
            self.verdict.remaining
        }
    }
}

/// A limit is near when less than one part in so many is left: envoyproxy/ratelimit's
/// `near_limit_ratio` of 0.8.
const NEAR: u64 = 5;
