//! The policies in force as JSON, in the shape of the files that operators write: every descriptor,
//! those that exempt included, with every value that it has for want of another.

use serde::Serialize;
use serde_json::{Map, Value as Json};

use crate::model::{Algorithm, OnStoreFailure, Quota, Value};
use crate::pace::{self, PauseOnDrop};
use crate::policy::{DescriptorSpec, DomainSpec, Limit, Rule};

/// A domain.
#[derive(Debug, Serialize)]
pub(super) struct Domain<'p> {
    domain: &'p str,
    shadow_mode: bool,
    override_denied_hits: &'static str,
    override_on_store_failure: &'static str,
    descriptors: Vec<Descriptor<'p>>,
}

#[derive(Debug, Serialize)]
struct Descriptor<'p> {
    key: &'p str,
    value: Option<&'p str>,
    /// The rule's name in metrics, logs and `explain`.
    rule: Option<&'p str>,
    origin: Option<String>,
    rate_limit: Option<RateLimit<'p>>,
    shadow_mode: bool,
    quota_mode: bool,
    share_threshold: bool,
    detailed_metric: bool,
    value_to_metric: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Json>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    descriptors: Vec<Self>,
    #[serde(skip)]
    _pause: PauseOnDrop,
}

#[derive(Debug, Serialize)]
struct RateLimit<'p> {
    name: Option<&'p str>,
    #[serde(flatten)]
    limit: Numbers,
    enforce_percent: u8,
    replaces: &'p [String],
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Numbers {
    Unlimited {
        unlimited: bool,
    },
    Quota {
        requests_per_unit: u32,
        unit: &'static str,
        unit_multiplier: u32,
        algorithm: &'static str,
        /// Others have no bucket.
        #[serde(skip_serializing_if = "Option::is_none")]
        burst: Option<u32>,
        denied_hits: &'static str,
        on_store_failure: &'static str,
    },
}

impl<'p> Domain<'p> {
    pub(super) fn name(&self) -> &'p str {
        self.domain
    }
}

impl<'p> From<&'p DomainSpec> for Domain<'p> {
    fn from(spec: &'p DomainSpec) -> Self {
        Self {
            domain: &spec.name,
            shadow_mode: spec.shadow_mode,
            override_denied_hits: spec.override_denied_hits.name(),
            override_on_store_failure: spec.override_on_store_failure.name(),
            descriptors: pace::each(&spec.descriptors)
                .map(Descriptor::from)
                .collect(),
        }
    }
}

impl<'p> From<&'p DescriptorSpec> for Descriptor<'p> {
    fn from(spec: &'p DescriptorSpec) -> Self {
        let rule = spec.rule.as_ref();
        Self {
            key: &spec.key,
            value: spec.value.as_deref(),
            rule: rule.map(|rule| rule.path.as_str()),
            origin: rule.map(|rule| rule.origin.to_string()),
            rate_limit: rule.map(RateLimit::from),
            shadow_mode: rule.is_some_and(|rule| rule.shadow_mode),
            quota_mode: rule.is_some_and(|rule| rule.quota_mode),
            share_threshold: spec.share_threshold,
            detailed_metric: spec.detailed_metric,
            value_to_metric: spec.value_to_metric,
            metadata: rule.and_then(|rule| rule.metadata.as_ref()).map(json),
            descriptors: pace::each(&spec.descriptors).map(Self::from).collect(),
            _pause: PauseOnDrop,
        }
    }
}

impl<'p> From<&'p Rule> for RateLimit<'p> {
    fn from(rule: &'p Rule) -> Self {
        Self {
            name: rule.name.as_deref(),
            limit: match &rule.limit {
                Limit::Unlimited => Numbers::Unlimited { unlimited: true },
                Limit::Quota(quota) => Numbers::new(quota, rule.on_store_failure),
            },
            enforce_percent: rule.enforce_percent,
            replaces: &rule.replaces,
        }
    }
}

impl Numbers {
    fn new(quota: &Quota, on_store_failure: OnStoreFailure) -> Self {
        let has_bucket = quota.algorithm() == Algorithm::TokenBucket;
        Self::Quota {
            requests_per_unit: quota.limit(),
            unit: quota.window().unit().name(),
            unit_multiplier: quota.window().multiplier(),
            algorithm: quota.algorithm().name(),
            burst: has_bucket.then(|| quota.burst()),
            denied_hits: quota.denied_hits().name(),
            on_store_failure: on_store_failure.name(),
        }
    }
}

fn json(value: &Value) -> Json {
    match value {
        Value::Bool(on) => Json::Bool(*on),
        Value::List(items) => items.iter().map(json).collect(),
        Value::Map(fields) => Json::Object(
            fields
                .iter()
                .map(|(name, value)| (name.clone(), json(value)))
                .collect::<Map<_, _>>(),
        ),
        Value::Null => Json::Null,
        Value::Number(number) => (*number).into(),
        Value::String(text) => text.as_str().into(),
    }
}
