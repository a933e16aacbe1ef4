//! From a query to the checks that the store is asked, and from its verdicts to the answer.
//!
//! [`Plan::new`] matches each descriptor and makes a check of every limit that applies;
//! [`Plan::fold`] lays the verdicts beside the descriptors again. In between the store decides.
//! Nothing here knows how a counter works, or how an answer looks on the wire.

mod answer;
mod explain;
mod log;
mod refusal;
mod unknown_domains;
mod written;

use smallvec::SmallVec;

pub use answer::{Answer, Ruling, Status};
pub use explain::{Applies, Explanation, OverLimit, explain};
pub use log::log_decision;
pub use refusal::Refusal;
pub use unknown_domains::UnknownDomains;
pub use written::written;

use crate::model::{Check, Decision, Query, Role};
use crate::policy::{Domain, Matched, Rule, apply_replaces};

/// A query, matched: what is to be asked of the store.
#[derive(Debug)]
pub struct Plan<'p> {
    domain: &'p Domain,
    /// One for each descriptor, in order.
    matched: SmallVec<[Matched<'p>; 2]>,
    /// One for each limit that applies, in the order of the descriptors.
    checks: Checks,
}

/// The checks of a query, in the order of the descriptors that they are for. Room for two without an
/// allocation, like whatever else there is one of for each descriptor: it is moved from step to step,
/// and room for more costs every query more than an allocation costs the few that need it.
pub type Checks = SmallVec<[Check; 2]>;

impl<'p> Plan<'p> {
    /// Matches every descriptor of `query` in `domain`.
    ///
    /// `spares` says whether a denial by a rule that enforces only so many percent is spared this
    /// time; it is asked once for each check of such a rule.
    ///
    /// # Errors
    /// If a descriptor brings a limit that means nothing.
    pub fn new(
        domain: &'p Domain,
        query: &Query<'_>,
        mut spares: impl FnMut(u8) -> bool,
    ) -> Result<Self, Refusal> {
        let mut matched = SmallVec::with_capacity(query.descriptors.len());
        for (index, descriptor) in query.descriptors.iter().enumerate() {
            let found = domain.find(descriptor).map_err(|error| Refusal::Override {
                descriptor: index,
                error,
            })?;
            matched.push(found);
        }
        if domain.has_replaces() {
            apply_replaces(&mut matched);
        }
        let mut checks = Checks::with_capacity(matched.len());
        for (descriptor, found) in query.descriptors.iter().zip(&matched) {
            let hits = descriptor.hits(query.hits_addend);
            match found {
                Matched::Limited(rule, quota, path) => checks.push(Check {
                    key: domain.key(descriptor, path, quota),
                    rule: rule.id,
                    quota: *quota,
                    hits,
                    role: role_of(rule, &mut spares),
                    on_store_failure: rule.on_store_failure,
                }),
                Matched::Override(quota) => checks.push(Check {
                    key: domain.override_key(descriptor, quota),
                    rule: domain.override_id(),
                    quota: *quota,
                    hits,
                    role: Role::default(),
                    on_store_failure: domain.override_on_store_failure(),
                }),
                Matched::Nothing(_) | Matched::Replaced(_) | Matched::Unlimited(_) => {}
            }
        }
        Ok(Self {
            domain,
            matched,
            checks,
        })
    }

    /// What to ask the store.
    #[must_use]
    pub fn checks(&self) -> &[Check] {
        &self.checks
    }

    /// Lays the store's verdicts beside the descriptors they are for. Once: the checks stay, what was
    /// matched goes with the answer.
    #[must_use]
    pub fn fold(&mut self, decision: &Decision) -> Answer<'p> {
        let mut verdicts = self.checks.iter().zip(&decision.verdicts);
        let statuses = self
            .matched
            .drain(..)
            .map(|matched| {
                let verdict = match matched {
                    Matched::Limited(..) | Matched::Override(_) => verdicts.next(),
                    Matched::Nothing(_) | Matched::Replaced(_) | Matched::Unlimited(_) => None,
                };
                Status::new(matched, verdict)
            })
            .collect();
        Answer {
            domain: Some(self.domain),
            statuses,
            denied: decision.denied,
        }
    }
}

fn role_of(rule: &Rule, spares: &mut impl FnMut(u8) -> bool) -> Role {
    let spared = rule.enforce_percent < 100 && spares(rule.enforce_percent);
    Role {
        shadow: rule.shadow_mode || spared,
        quota: rule.quota_mode,
    }
}

#[cfg(test)]
pub(crate) mod testing;
