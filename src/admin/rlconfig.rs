//! The rules in the form of envoyproxy/ratelimit's `/rlconfig`, for scripts that read it.

use std::fmt::Write;

use crate::policy::{Limit, Policies};

/// A line for each rule with a limit.
pub(super) fn text(policies: &Policies) -> String {
    let mut text = String::new();
    policies.for_each_rule(|domain, rule| {
        let (unit, requests) = match rule.limit {
            Limit::Unlimited => ("UNKNOWN".to_owned(), 0),
            Limit::Quota(quota) => (
                quota.window().unit().name().to_ascii_uppercase(),
                quota.limit(),
            ),
        };
        let path = rule.path.replace(',', ".").replace('=', "_");
        // Writing to a string cannot fail.
        let _infallible = writeln!(
            text,
            "{}.{path}: unit={unit} requests_per_unit={requests}, shadow_mode: {}, quota_mode: {}",
            domain.name(),
            rule.shadow_mode,
            rule.quota_mode,
        );
    });
    text
}
