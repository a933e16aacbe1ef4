//! Rules as `config` hands them over: checked, in file order, not yet indexed.

use std::fmt;
use std::sync::Arc;

use crate::model::{DeniedHits, OnStoreFailure, Quota, RuleId, Value};
use crate::pace::PauseOnDrop;

/// All rules of one domain.
#[derive(Clone, Debug)]
pub struct DomainSpec {
    /// The domain's name, never empty.
    pub name: String,
    /// First level of descriptors, in the order of the files.
    pub descriptors: Vec<DescriptorSpec>,
    /// Over limit is told in the statuses but the request passes (`defaults` or `domains` in the
    /// settings).
    pub shadow_mode: bool,
    /// What denied hits cost under a limit that comes with a request.
    pub override_denied_hits: DeniedHits,
    /// How a limit that comes with a request is decided without the shared store.
    pub override_on_store_failure: OnStoreFailure,
    /// Keys of counters begin with the value of this entry, if they are its own, so that a Redis
    /// Cluster keeps them in one slot.
    pub colocate_by: Option<Arc<[u8]>>,
}

/// One descriptor of a policy file with what is nested in it.
#[derive(Clone, Debug, Default)]
pub struct DescriptorSpec {
    /// Key, which may contain `*`.
    pub key: String,
    /// Value, which may contain `*`; none matches any value.
    pub value: Option<String>,
    /// One counter for everything that the pattern matches.
    pub share_threshold: bool,
    /// The metric of the rule carries the values of every entry.
    pub detailed_metric: bool,
    /// The metric of the rules below carries this entry's value.
    pub value_to_metric: bool,
    /// The limit, if this descriptor has one. Without, it exempts what it matches.
    pub rule: Option<Rule>,
    /// The next level.
    pub descriptors: Vec<Self>,
    /// To drop 100,000 of these takes long.
    pub pause: PauseOnDrop,
}

/// What the operator wrote for one descriptor: a `rate_limit` and the flags beside it.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The domain it belongs to.
    pub domain: Arc<str>,
    /// Its descriptor's path, for people: `plan=gold,user_id`. Unique in its domain.
    pub path: String,
    /// The operator's name for it; need not be unique. Envoy shows it in `x-ratelimit-limit`.
    pub name: Option<String>,
    /// What it allows.
    pub limit: Limit,
    /// Names of rules that do not count when this one matches.
    pub replaces: Vec<String>,
    /// Over limit is told, not enforced.
    pub shadow_mode: bool,
    /// Denies only when every quota rule of the request is over.
    pub quota_mode: bool,
    /// Percentage of denials that are enforced, 0..=100.
    pub enforce_percent: u8,
    /// How it is decided without the shared store.
    pub on_store_failure: OnStoreFailure,
    /// Free-form data, returned in dynamic metadata when the descriptor passes.
    pub metadata: Option<Value>,
    /// Where it was written.
    pub origin: Origin,
    /// Where its decisions are counted; given by `telemetry` before the rules take effect.
    pub meter: u32,
    /// Its number in the store; given when the rules are indexed.
    pub id: RuleId,
}

/// What a rule allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// So much.
    Quota(Quota),
    /// Everything, uncounted.
    Unlimited,
}

/// The place of a rule in a file, counted from 1.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The file.
    pub file: Arc<str>,
    /// The line.
    pub line: u32,
    /// The column.
    pub column: u32,
}

/// As compilers write it: `file:line:column`.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}
