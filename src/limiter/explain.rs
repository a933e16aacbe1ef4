//! Why a descriptor is answered as it is.

use super::Refusal;
use crate::model::{Check, Descriptor, Hits, Quota, Role, denies};
use crate::policy::{Domain, ExplainedLevel, Matched, Miss, Rule};

/// How one descriptor is matched, and which counter it asks.
#[derive(Debug)]
pub struct Explanation<'p> {
    /// What each entry met.
    pub levels: Vec<ExplainedLevel>,
    /// What applies.
    pub applies: Applies<'p>,
}

/// What applies to an explained descriptor.
#[derive(Debug)]
pub enum Applies<'p> {
    /// A limit, with the check that a real request would make.
    Limit {
        /// The operator's rule; none for a limit that came with the request.
        rule: Option<&'p Rule>,
        /// The numbers.
        quota: Quota,
        /// What the store would be asked.
        check: Check,
    },
    /// Nothing limits it.
    Nothing(Miss),
    /// A rule lets everything pass.
    Unlimited(&'p Rule),
}

/// How requests of one descriptor are answered whose hits are over its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OverLimit {
    /// Of 100 such requests, how many are denied.
    pub denied_percent: u8,
    /// Of 100 such requests, how many have a status that says over limit.
    pub status_over_percent: u8,
}

impl OverLimit {
    /// What `rule` and `domain` make of hits over the limit. Without a rule, the limit came with
    /// the request.
    #[must_use]
    pub fn new(domain: &Domain, rule: Option<&Rule>) -> Self {
        let enforced = rule.map_or(100, |rule| rule.enforce_percent.min(100));
        let role = |spared: bool| Role {
            shadow: spared || rule.is_some_and(|rule| rule.shadow_mode),
            quota: rule.is_some_and(|rule| rule.quota_mode),
        };
        let percent = |is_so: &dyn Fn(Role) -> bool| {
            let if_enforced = if is_so(role(false)) { enforced } else { 0 };
            let if_spared = if is_so(role(true)) { 100 - enforced } else { 0 };
            if_enforced + if_spared
        };
        Self {
            denied_percent: percent(&|role| !domain.shadow_mode() && denies([(role, true)])),
            status_over_percent: percent(&|role| !role.shadow),
        }
    }
}

/// Explains `descriptor` alone, as if it cost `hits`. What other descriptors of a request might
/// replace is not seen here.
///
/// # Errors
/// If the descriptor brings a limit that means nothing.
pub fn explain<'p>(
    domain: &'p Domain,
    descriptor: &Descriptor<'_>,
    hits: Hits,
) -> Result<Explanation<'p>, Refusal> {
    let trace = domain
        .trace(descriptor)
        .map_err(|error| Refusal::Override {
            descriptor: 0,
            error,
        })?;
    let applies = match trace.matched {
        Matched::Nothing(miss) => Applies::Nothing(miss),
        Matched::Unlimited(rule) | Matched::Replaced(rule) => Applies::Unlimited(rule),
        Matched::Override(quota) => {
            let key = domain.override_key(descriptor, &quota);
            let check = Check {
                key,
                rule: domain.override_id(),
                quota,
                hits,
                role: Role::default(),
                on_store_failure: domain.override_on_store_failure(),
            };
            Applies::Limit {
                rule: None,
                quota,
                check,
            }
        }
        Matched::Limited(rule, quota, path) => {
            let key = domain.key(descriptor, &path, &quota);
            let role = Role {
                shadow: rule.shadow_mode,
                quota: rule.quota_mode,
            };
            Applies::Limit {
                rule: Some(rule),
                quota,
                check: Check {
                    key,
                    rule: rule.id,
                    quota,
                    hits,
                    role,
                    on_store_failure: rule.on_store_failure,
                },
            }
        }
    };
    Ok(Explanation {
        levels: trace.levels,
        applies,
    })
}
