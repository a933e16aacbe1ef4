//! Policies for tests of those who use them.

use super::{DescriptorSpec, DomainSpec, Limit, Origin, Policies, Rule};
use crate::event::Silence;
use crate::model::{Algorithm, DeniedHits, OnStoreFailure, Quota, RuleId, Unit, Window};

/// A rule of so many hits a minute for `path`: a key, or `key=value`.
pub(crate) fn per_minute(path: &str, limit: u32) -> Rule {
    let window = Window::try_new(Unit::Minute, 1).unwrap();
    let quota = Quota::try_new(limit, window, Algorithm::FixedWindow, DeniedHits::Free).unwrap();
    Rule {
        domain: "".into(),
        path: path.into(),
        name: None,
        limit: Limit::Quota(quota),
        replaces: Vec::new(),
        shadow_mode: false,
        quota_mode: false,
        enforce_percent: 100,
        on_store_failure: OnStoreFailure::Local,
        metadata: None,
        origin: Origin::default(),
        meter: 0,
        id: RuleId::default(),
    }
}

/// Policies with one domain, whose rules stand side by side.
pub(crate) fn policies(domain: &str, rules: Vec<Rule>) -> Policies {
    let descriptor = |rule: Rule| {
        let (key, value) = match rule.path.split_once('=') {
            Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
            None => (rule.path.clone(), None),
        };
        DescriptorSpec {
            key,
            value,
            rule: Some(Rule {
                domain: domain.into(),
                ..rule
            }),
            ..DescriptorSpec::default()
        }
    };
    let spec = DomainSpec {
        name: domain.into(),
        descriptors: rules.into_iter().map(descriptor).collect(),
        shadow_mode: false,
        override_denied_hits: DeniedHits::Free,
        override_on_store_failure: OnStoreFailure::Local,
        colocate_by: None,
    };
    Policies::new(vec![spec], &Silence)
}
