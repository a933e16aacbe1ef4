//! The rules in the form of envoyproxy/ratelimit's `/rlconfig`, for scripts that read it.

use std::fmt::Write;

use crate::model::one_line;
use crate::policy::{Limit, Policies};

/// Bytes that a line rarely exceeds.
const LINE: usize = 128;

/// A line for each rule with a limit. What only its domain says (shadow mode) is told of the rule.
pub(super) fn text(policies: &Policies) -> String {
    // At once, since to move megabytes takes long.
    let mut text = String::with_capacity(policies.rule_count().saturating_mul(LINE));
    policies.for_each_rule(|domain, rule| {
        let (unit, requests, multiplier) = match rule.limit {
            Limit::Unlimited => ("UNKNOWN".to_owned(), 0, 1),
            Limit::Quota(quota) => (
                quota.window().unit().name().to_ascii_uppercase(),
                quota.limit(),
                quota.window().multiplier(),
            ),
        };
        // What the reference does not have stands where its readers do not stumble.
        let multiplier = match multiplier {
            1 => String::new(),
            several => format!(" unit_multiplier={several}"),
        };
        let path = rule.path.replace(',', ".").replace('=', "_");
        let path = one_line(&path);
        // Writing to a string cannot fail.
        let _infallible = writeln!(
            text,
            "{}.{path}: unit={unit} requests_per_unit={requests}{multiplier}, shadow_mode: {}, quota_mode: {}",
            one_line(domain.name()),
            rule.shadow_mode || domain.shadow_mode(),
            rule.quota_mode,
        );
    });
    text
}
