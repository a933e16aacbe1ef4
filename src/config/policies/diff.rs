//! What a new set of policies changes: one line per change, for the log of a reload.
//!
//! Domains and descriptors are matched by name and path. Where a changed algorithm, window or
//! sharing gives a rule another counter, its line says that counting starts afresh; a changed
//! number keeps the count.

use std::collections::{HashMap, HashSet};
use std::fmt;

use super::rule_path;
use crate::model::OnStoreFailure;
use crate::pace::{self, PauseOnDrop};
use crate::policy::{DescriptorSpec, DomainSpec, Limit, Rule};

/// The changes, domain by domain in the order of the new policies; what is gone comes last.
#[must_use]
pub fn diff(old: &[DomainSpec], new: &[DomainSpec]) -> Vec<Change> {
    let mut changes = Vec::new();
    let before: HashMap<&str, &DomainSpec> = old.iter().map(|d| (d.name.as_str(), d)).collect();
    let after: HashSet<&str> = new.iter().map(|d| d.name.as_str()).collect();
    for domain in new {
        match before.get(domain.name.as_str()) {
            Some(was) => compare(was, domain, &mut changes),
            None => changes.push(whole(domain, Kind::Added)),
        }
    }
    let gone = old.iter().filter(|d| !after.contains(d.name.as_str()));
    changes.extend(gone.map(|domain| whole(domain, Kind::Removed)));
    changes
}

/// One change of a domain or of a descriptor in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The domain.
    pub domain: String,
    /// The descriptor's path, `plan=gold,user_id`; none for the domain itself.
    pub path: Option<String>,
    /// What happened to it.
    pub kind: Kind,
    /// The same in words.
    pub detail: String,
    /// The counters that there were no longer count.
    pub starts_afresh: bool,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It is new.
    Added,
    /// It is another.
    Changed,
    /// It is gone.
    Removed,
}

/// `shop: plan=gold,user_id: changed: 5 per day (fixed_window) -> 7 per day (fixed_window)`
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.domain)?;
        if let Some(path) = &self.path {
            write!(f, "{path}: ")?;
        }
        f.write_str(match self.kind {
            Kind::Added => "added",
            Kind::Changed => "changed",
            Kind::Removed => "removed",
        })?;
        write!(f, ": {}", self.detail)?;
        if self.starts_afresh {
            f.write_str("; counting starts afresh")?;
        }
        Ok(())
    }
}

fn whole(domain: &DomainSpec, kind: Kind) -> Change {
    Change {
        domain: domain.name.clone(),
        path: None,
        kind,
        detail: match rules(&domain.descriptors) {
            1 => "1 rule".to_owned(),
            count => format!("{count} rules"),
        },
        starts_afresh: false,
    }
}

fn rules(descriptors: &[DescriptorSpec]) -> usize {
    pace::each(descriptors)
        .map(|spec| usize::from(spec.rule.is_some()) + rules(&spec.descriptors))
        .sum()
}

fn compare(old: &DomainSpec, new: &DomainSpec, changes: &mut Vec<Change>) {
    let mut push = |path: Option<String>, kind, detail, starts_afresh| {
        changes.push(Change {
            domain: new.name.clone(),
            path,
            kind,
            detail,
            starts_afresh,
        });
    };
    if old.shadow_mode != new.shadow_mode {
        let detail = switched("shadow_mode", new.shadow_mode);
        push(None, Kind::Changed, detail, false);
    }
    let (before, after) = (flat(&old.descriptors), flat(&new.descriptors));
    let mut old_by_path = HashMap::with_capacity(before.len());
    old_by_path.extend(pace::each(&before).map(|flat| (flat.path.as_str(), flat.spec)));
    let mut new_paths = HashSet::with_capacity(after.len());
    new_paths.extend(pace::each(&after).map(|flat| flat.path.as_str()));

    if reordered("", &old.descriptors, &new.descriptors) {
        push(None, Kind::Changed, REORDERED.to_owned(), false);
    }
    for Flat { path, spec, .. } in pace::each(&after) {
        let Some(was) = old_by_path.get(path.as_str()) else {
            if shows(spec) {
                push(Some(path.clone()), Kind::Added, describe(spec), false);
            }
            continue;
        };
        let (mut details, starts_afresh) = differences(was, spec);
        if reordered(path, &was.descriptors, &spec.descriptors) {
            details.push(REORDERED.to_owned());
        }
        if !details.is_empty() {
            let detail = details.join(", ");
            push(Some(path.clone()), Kind::Changed, detail, starts_afresh);
        }
    }
    for Flat { path, spec, .. } in pace::each(&before) {
        if !new_paths.contains(path.as_str()) && shows(spec) {
            push(Some(path.clone()), Kind::Removed, describe(spec), false);
        }
    }
}

/// Whether a descriptor does something of its own, rather than only hold others.
fn shows(spec: &DescriptorSpec) -> bool {
    spec.rule.is_some() || spec.descriptors.is_empty()
}

/// A descriptor with its path.
struct Flat<'s> {
    path: String,
    spec: &'s DescriptorSpec,
    _pause: PauseOnDrop,
}

/// All descriptors of a domain.
fn flat(descriptors: &[DescriptorSpec]) -> Vec<Flat<'_>> {
    let mut all = Vec::with_capacity(count(descriptors));
    flatten("", descriptors, &mut all);
    all
}

fn count(descriptors: &[DescriptorSpec]) -> usize {
    pace::each(descriptors)
        .map(|spec| count(&spec.descriptors).saturating_add(1))
        .sum()
}

fn flatten<'s>(parent: &str, descriptors: &'s [DescriptorSpec], into: &mut Vec<Flat<'s>>) {
    for spec in pace::each(descriptors) {
        let path = path_of(parent, spec);
        into.push(Flat {
            path: path.clone(),
            spec,
            _pause: PauseOnDrop,
        });
        flatten(&path, &spec.descriptors, into);
    }
}

fn path_of(parent: &str, spec: &DescriptorSpec) -> String {
    rule_path::extend(parent, &spec.key, spec.value.as_deref().unwrap_or_default())
}

/// Whether the patterns that both have stand in another order, so that another may match first.
fn reordered(parent: &str, old: &[DescriptorSpec], new: &[DescriptorSpec]) -> bool {
    let patterns = |specs: &[DescriptorSpec]| -> Vec<String> {
        let has_star = |spec: &&DescriptorSpec| {
            spec.key.contains('*') || spec.value.as_deref().is_some_and(|v| v.contains('*'))
        };
        pace::each(specs)
            .filter(has_star)
            .map(|spec| path_of(parent, spec))
            .collect()
    };
    let (mut before, mut after) = (patterns(old), patterns(new));
    let (had, has): (HashSet<String>, HashSet<String>) = (
        before.iter().cloned().collect(),
        after.iter().cloned().collect(),
    );
    before.retain(|path| has.contains(path));
    after.retain(|path| had.contains(path));
    before != after
}

/// What differs in words, and whether the counters are others.
fn differences(old: &DescriptorSpec, new: &DescriptorSpec) -> (Vec<String>, bool) {
    let mut details = Vec::new();
    let (was, is) = (describe(old), describe(new));
    if was != is {
        details.push(format!("{was} -> {is}"));
    }
    let flags = [
        ("share_threshold", old.share_threshold, new.share_threshold),
        ("detailed_metric", old.detailed_metric, new.detailed_metric),
        ("value_to_metric", old.value_to_metric, new.value_to_metric),
    ];
    for (name, was, is) in flags {
        if was != is {
            details.push(switched(name, is));
        }
    }
    let mut starts_afresh = old.share_threshold != new.share_threshold;
    if let (Some(old), Some(new)) = (&old.rule, &new.rule) {
        rule_differences(old, new, &mut details);
        if let (Limit::Quota(old), Limit::Quota(new)) = (old.limit, new.limit) {
            starts_afresh |= old.algorithm() != new.algorithm() || old.window() != new.window();
        }
    }
    (details, starts_afresh)
}

fn rule_differences(old: &Rule, new: &Rule, details: &mut Vec<String>) {
    for (name, was, is) in [
        ("shadow_mode", old.shadow_mode, new.shadow_mode),
        ("quota_mode", old.quota_mode, new.quota_mode),
    ] {
        if was != is {
            details.push(switched(name, is));
        }
    }
    let (was, is) = (enforced(old), enforced(new));
    if was != is {
        details.push(format!("enforce_percent {was} -> {is}"));
    }
    if let (Some(was), Some(is)) = (without_store(old), without_store(new))
        && was != is
    {
        details.push(format!("on_store_failure {was} -> {is}"));
    }
    if old.name != new.name {
        let shown = |name: &Option<String>| name.clone().unwrap_or_else(|| "none".to_owned());
        details.push(format!("name {} -> {}", shown(&old.name), shown(&new.name)));
    }
    if old.replaces != new.replaces {
        details.push("replaces".to_owned());
    }
    if old.metadata != new.metadata {
        details.push("metadata".to_owned());
    }
}

/// The percentage that is enforced: of a rule that never denies, all of nothing.
fn enforced(rule: &Rule) -> u8 {
    match rule.limit {
        Limit::Quota(_) => rule.enforce_percent,
        Limit::Unlimited => 100,
    }
}

/// How the rule is decided without the shared store, if it ever asks it.
fn without_store(rule: &Rule) -> Option<OnStoreFailure> {
    matches!(rule.limit, Limit::Quota(_)).then_some(rule.on_store_failure)
}

fn describe(spec: &DescriptorSpec) -> String {
    match spec.rule.as_ref().map(|rule| rule.limit) {
        None => "no limit".to_owned(),
        Some(Limit::Unlimited) => "unlimited".to_owned(),
        Some(Limit::Quota(quota)) => quota.to_string(),
    }
}

fn switched(name: &str, on: bool) -> String {
    format!("{name} {}", if on { "on" } else { "off" })
}

const REORDERED: &str = "the order of its patterns";

#[cfg(test)]
mod tests {
    use super::super::{PolicyDefaults, Source, load};
    use super::*;

    #[test]
    fn the_same_policies_are_no_change() {
        let text = "{key: a, rate_limit: {unit: day, requests_per_unit: 1}}, {key: b*}, {key: c*}";
        assert_eq!(lines(text, text), [""; 0]);
    }

    #[test]
    fn a_changed_number_keeps_the_count_and_a_changed_window_does_not() {
        let rule = |fields: &str| format!("{{key: a, rate_limit: {{{fields}}}}}");
        assert_eq!(
            lines(
                &rule("unit: day, requests_per_unit: 5"),
                &rule("unit: day, requests_per_unit: 7, enforce_percent: 50"),
            ),
            [
                "d: a: changed: 5 per day (fixed_window) -> 7 per day (fixed_window), enforce_percent \
              100 -> 50"
            ]
        );
        assert_eq!(
            lines(
                &rule("unit: day, requests_per_unit: 5"),
                &rule("unit: hour, requests_per_unit: 5, algorithm: sliding_window"),
            ),
            [
                "d: a: changed: 5 per day (fixed_window) -> 5 per hour (sliding_window); counting \
              starts afresh"
            ]
        );
        assert_eq!(
            lines("{key: a*}", "{key: a*, share_threshold: true}"),
            ["d: a*: changed: share_threshold on; counting starts afresh"]
        );
    }

    #[test]
    fn what_comes_and_what_goes_is_told() {
        assert_eq!(
            lines(
                "{key: a, rate_limit: {unlimited: true}}, {key: p, descriptors: [{key: x}]}",
                "{key: b, value: c}, {key: p, descriptors: [{key: x}, {key: y}]}",
            ),
            [
                "d: b=c: added: no limit",
                "d: p,y: added: no limit",
                "d: a: removed: unlimited",
            ]
        );
    }

    #[test]
    fn another_order_of_patterns_may_match_otherwise() {
        assert_eq!(
            lines(
                "{key: a*}, {key: x}, {key: b*}, {key: p, descriptors: [{key: c*}, {key: d*}]}",
                "{key: b*}, {key: n*}, {key: a*}, {key: x}, {key: p, descriptors: [{key: d*}, {key: c*}]}",
            ),
            [
                "d: changed: the order of its patterns",
                "d: n*: added: no limit",
                "d: p: changed: the order of its patterns",
            ]
        );
    }

    #[test]
    fn domains_are_told_as_a_whole() {
        let (one, two) = (
            domains("one", "{key: a, rate_limit: {unlimited: yes}}"),
            domains("two", ""),
        );
        let told: Vec<String> = diff(&one, &two).iter().map(Change::to_string).collect();
        assert_eq!(told, ["two: added: 0 rules", "one: removed: 1 rule"]);
        let mut shadowed = one.clone();
        shadowed[0].shadow_mode = true;
        assert_eq!(
            diff(&one, &shadowed)[0].to_string(),
            "one: changed: shadow_mode on"
        );
    }

    #[test]
    fn every_part_of_a_rule_counts() {
        let with = |more: &str| format!("{{key: a, rate_limit: {{unlimited: true}}{more}}}");
        for (more, told) in [
            (", shadow_mode: true", "shadow_mode on"),
            (", quota_mode: true", "quota_mode on"),
            (", detailed_metric: true", "detailed_metric on"),
            (", value_to_metric: true", "value_to_metric on"),
            (", metadata: {a: b}", "metadata"),
        ] {
            assert_eq!(
                lines(&with(""), &with(more)),
                [format!("d: a: changed: {told}")]
            );
        }
        assert_eq!(
            lines(
                "{key: a, rate_limit: {unlimited: true}}",
                "{key: a, rate_limit: {unlimited: true, name: n, replaces: [{name: m}]}}",
            ),
            ["d: a: changed: name none -> n, replaces"]
        );
    }

    #[test]
    fn what_holds_without_the_store_counts_where_the_store_is_asked() {
        let rule = |more: &str| {
            format!("{{key: a, rate_limit: {{unit: day, requests_per_unit: 5{more}}}}}")
        };
        assert_eq!(
            lines(&rule(""), &rule(", on_store_failure: deny")),
            ["d: a: changed: on_store_failure local -> deny"]
        );
        assert_eq!(
            lines(&rule(""), &rule(", on_store_failure: local")),
            [""; 0]
        );
        let errors = PolicyDefaults {
            on_store_failure: OnStoreFailure::Error,
            ..PolicyDefaults::default()
        };
        let text = format!("{}, {{key: b, rate_limit: {{unlimited: true}}}}", rule(""));
        let told = diff(&domains("d", &text), &domains_with("d", &text, &errors));
        let told: Vec<String> = told.iter().map(Change::to_string).collect();
        assert_eq!(told, ["d: a: changed: on_store_failure local -> error"]);
    }

    #[test]
    fn an_unlimited_rule_enforces_nothing_whatever_the_defaults() {
        let unlimited = "{key: a, rate_limit: {unlimited: true}}";
        let limited = "{key: a, rate_limit: {unit: day, requests_per_unit: 5}}";
        let zero = PolicyDefaults {
            enforce_percent: 0,
            ..PolicyDefaults::default()
        };
        let told = |old: &str, new: &str| -> Vec<String> {
            let new = domains_with("d", new, &zero);
            diff(&domains("d", old), &new)
                .iter()
                .map(Change::to_string)
                .collect()
        };
        assert_eq!(told(unlimited, unlimited), [""; 0]);
        assert_eq!(
            told(limited, limited),
            ["d: a: changed: enforce_percent 100 -> 0"]
        );
        assert_eq!(
            told(unlimited, limited),
            ["d: a: changed: unlimited -> 5 per day (fixed_window), enforce_percent 100 -> 0"]
        );
    }

    fn lines(old: &str, new: &str) -> Vec<String> {
        diff(&domains("d", old), &domains("d", new))
            .iter()
            .map(Change::to_string)
            .collect()
    }

    fn domains(name: &str, descriptors: &str) -> Vec<DomainSpec> {
        domains_with(name, descriptors, &PolicyDefaults::default())
    }

    fn domains_with(name: &str, descriptors: &str, defaults: &PolicyDefaults) -> Vec<DomainSpec> {
        let text = format!("domain: {name}\ndescriptors: [{descriptors}]");
        let source = Source {
            name: "p",
            text: text.as_bytes(),
        };
        load(&[source], defaults).unwrap().domains
    }
}
