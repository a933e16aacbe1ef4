//! One counter, in a form that travels: JSON from the admin listener, text for people.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::explain::{no_domain, why_none};
use crate::limiter::{Applies, explain};
use crate::model::{Algorithm, Check, DescriptorText, Hits, Quota, Verdict, one_line};
use crate::policy::{OVERRIDE, Policies};

/// A counter and what it says.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct CounterReport {
    /// The domain asked.
    pub domain: String,
    /// The descriptor asked, as [`DescriptorText`] reads it.
    pub descriptor: String,
    /// The path of the rule that applies.
    pub rule: String,
    /// The counter's name in the store.
    pub key: String,
    /// Hits per window.
    pub limit: u32,
    /// The bucket's size, where the algorithm has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
    /// The window in milliseconds.
    pub window_ms: u64,
    /// How hits are counted, as policies name it.
    pub algorithm: String,
    /// What it said before it was reset; only the answer to a reset has this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Count>,
    /// What it says.
    pub now: Count,
}

/// What a counter said at one moment.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Count {
    /// Hits that are counted.
    pub counted: u64,
    /// Hits that are left.
    pub remaining: u32,
    /// Whether one more hit would be over the limit.
    pub over: bool,
    /// Milliseconds: if over, until one more hit passes; else until everything has come back.
    pub reset_ms: u64,
    /// Who counts, see [`Source`](crate::model::Source).
    pub source: String,
}

/// The counter of a descriptor, not yet asked. Holds no policies.
#[derive(Clone, Debug)]
pub(super) struct Counter {
    domain: String,
    descriptor: String,
    rule: String,
    /// Asks the counter and charges nothing.
    pub(super) check: Check,
}

/// A descriptor has no counter, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no counter: {0} (`tollgate explain` and /explain tell how the descriptor is matched)")]
pub(super) struct NoCounter(String);

impl Counter {
    /// The counter that `policies` have for `descriptor`.
    pub(super) fn find(
        policies: &Policies,
        domain: &str,
        descriptor: &DescriptorText,
    ) -> Result<Self, NoCounter> {
        let Some(rules) = policies.domain(domain.as_bytes()) else {
            return Err(NoCounter(no_domain(domain, policies)));
        };
        let explained = explain(rules, &descriptor.descriptor(), Hits::Peek)
            .map_err(|refusal| NoCounter(refusal.to_string()))?;
        match explained.applies {
            Applies::Limit { rule, check, .. } => Ok(Self {
                domain: domain.to_owned(),
                descriptor: descriptor.to_string(),
                rule: rule.map_or(OVERRIDE, |rule| &rule.path).to_owned(),
                check,
            }),
            Applies::Nothing(miss) => Err(NoCounter(why_none(miss))),
            Applies::Unlimited(rule) => Err(NoCounter(format!(
                "the rule {} is unlimited, so nothing is counted",
                rule.path
            ))),
        }
    }

    /// What the counter says, and where it was reset also what it said.
    pub(super) fn report(self, before: Option<&Verdict>, now: &Verdict) -> CounterReport {
        let quota = &self.check.quota;
        CounterReport {
            domain: self.domain,
            descriptor: self.descriptor,
            rule: self.rule,
            key: self.check.key.to_string(),
            limit: quota.limit(),
            burst: burst(quota),
            window_ms: quota.window().millis(),
            algorithm: quota.algorithm().name().to_owned(),
            before: before.map(Count::new),
            now: Count::new(now),
        }
    }
}

impl Count {
    fn new(verdict: &Verdict) -> Self {
        Self {
            counted: verdict.counted,
            remaining: verdict.remaining,
            over: verdict.over,
            reset_ms: verdict.reset_millis,
            source: verdict.source.name().to_owned(),
        }
    }
}

impl fmt::Display for CounterReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (domain, descriptor) = (one_line(&self.domain), one_line(&self.descriptor));
        writeln!(f, "{domain}  {descriptor}\n")?;
        writeln!(f, "rule     {}", one_line(&self.rule))?;
        let seconds = self.window_ms / 1000;
        write!(
            f,
            "limit    {} per {seconds} s ({}",
            self.limit, self.algorithm
        )?;
        if let Some(burst) = self.burst {
            write!(f, ", burst {burst}")?;
        }
        writeln!(f, ")\ncounter  {}", one_line(&self.key))?;
        if let Some(before) = &self.before {
            writeln!(f, "before   {before}")?;
        }
        writeln!(f, "now      {}", self.now)
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} counted, {} left, reset in {} s (by {})",
            self.counted,
            self.remaining,
            self.reset_ms.div_ceil(1000),
            self.source
        )
    }
}

fn burst(quota: &Quota) -> Option<u32> {
    match quota.algorithm() {
        Algorithm::TokenBucket => Some(quota.burst()),
        Algorithm::FixedWindow | Algorithm::SlidingLog | Algorithm::SlidingWindow => None,
    }
}
