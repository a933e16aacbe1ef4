//! Which rule applies to a descriptor, and what its counter is called.
//!
//! [`Policies`] is what operators wrote, indexed: immutable, swapped whole on a reload. A request's
//! descriptor is walked down the tree of its domain ([`tree`], [`star_index`]); the rule of the node that
//! the last entry reaches is the one that counts, if that node has one. Nothing here counts or decides.

mod explain;
mod matched;
mod pattern;
mod radix;
mod replaces;
mod spec;
mod star_index;
mod tree;

use std::sync::Arc;

use hashbrown::HashMap;

pub use explain::{Candidate, ExplainedLevel, Fate, Trace};
pub use matched::{Matched, Miss, OverrideError, Path, Step};
pub use pattern::{MAX_TRIED_PATTERNS, is_indexed};
pub use replaces::apply_replaces;
pub use spec::{DescriptorSpec, DomainSpec, Limit, Origin, Rule};
pub use tree::{Kind, Node};

use crate::event::Meters;
use crate::model::{DeniedHits, Descriptor, Key, OnStoreFailure, Quota, RuleId, nearest, one_line};
use crate::pace;
use matched::Names;
use tree::Level;

/// Every rule that is in force.
#[derive(Debug, Default)]
pub struct Policies {
    domains: HashMap<Box<[u8]>, Domain, foldhash::fast::RandomState>,
    rules: usize,
    /// Where queries for domains that nobody configured are counted.
    unknown_domain: u32,
    /// Where their descriptors are.
    unknown_domain_meter: u32,
}

impl Policies {
    /// As [`Policies::of`], for a caller who has no further use for `specs`.
    #[must_use]
    pub fn new(specs: Vec<DomainSpec>, meters: &dyn Meters) -> Self {
        let policies = Self::of(&specs, meters);
        drop(specs);
        policies
    }

    /// Indexes what `config` checked; `meters` numbers the rules.
    #[must_use]
    pub fn of(specs: &[DomainSpec], meters: &dyn Meters) -> Self {
        let mut policies = Self {
            unknown_domain: meters.domain(UNKNOWN_DOMAIN),
            unknown_domain_meter: meters.rule(UNKNOWN_DOMAIN, UNMATCHED),
            ..Self::default()
        };
        for spec in specs {
            let name = spec.name.as_bytes().into();
            let domain = Domain::new(spec, meters, &mut policies.rules);
            policies.domains.insert(name, domain);
        }
        policies
    }

    /// The domain's rules, if it has any.
    #[must_use]
    pub fn domain(&self, name: &[u8]) -> Option<&Domain> {
        self.domains.get(name)
    }

    /// The domains' names, sorted.
    #[must_use]
    pub fn domain_names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.domains.values().map(Domain::name).collect();
        names.sort_unstable();
        names
    }

    /// Suggestions for a `domain` that does not exist: the nearest name, or some of the existing ones.
    /// For people, on one line.
    #[must_use]
    pub fn domain_hint(&self, domain: &str) -> String {
        let known = self.domain_names();
        if let Some(near) = nearest(domain, known.iter().copied()) {
            return format!("did you mean `{}`?", one_line(near));
        }
        if known.is_empty() {
            return "none is configured".to_owned();
        }
        let listed: Vec<_> = known
            .iter()
            .take(MOST_LISTED)
            .map(|name| one_line(name))
            .collect();
        let more = match known.len().saturating_sub(MOST_LISTED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        format!("configured: {}{more}", listed.join(", "))
    }

    /// Every rule with a limit, by domain, in file order.
    pub fn for_each_rule<'a>(&'a self, mut visit: impl FnMut(&'a Domain, &'a Rule)) {
        for name in self.domain_names() {
            if let Some(domain) = self.domain(name.as_bytes()) {
                for_each_rule(&domain.root, &mut |rule| visit(domain, rule));
            }
        }
    }

    /// How many rules have a limit.
    #[must_use]
    pub fn rule_count(&self) -> usize {
        self.rules
    }

    /// How many domains there are.
    #[must_use]
    pub fn domain_count(&self) -> usize {
        self.domains.len()
    }

    /// Where queries for unknown domains are counted.
    #[must_use]
    pub fn unknown_domain(&self) -> u32 {
        self.unknown_domain
    }

    /// Where descriptors of unknown domains are counted.
    #[must_use]
    pub fn unknown_domain_meter(&self) -> u32 {
        self.unknown_domain_meter
    }
}

/// One domain's rules.
#[derive(Debug)]
pub struct Domain {
    name: Box<str>,
    root: Level,
    shadow_mode: bool,
    has_replaces: bool,
    meter: u32,
    unmatched_meter: u32,
    override_meter: u32,
    override_id: RuleId,
    override_denied_hits: DeniedHits,
    override_on_store_failure: OnStoreFailure,
    colocate_by: Option<Arc<[u8]>>,
}

impl Domain {
    fn new(spec: &DomainSpec, meters: &dyn Meters, rules: &mut usize) -> Self {
        let mut root = Level::new(&spec.descriptors);
        let mut has_replaces = false;
        let name: Box<str> = spec.name.as_str().into();
        for_each_rule_mut(&mut root, &mut |rule| {
            *rules = rules.saturating_add(1);
            has_replaces |= !rule.replaces.is_empty();
            rule.meter = meters.rule(&name, &rule.path);
            rule.id = RuleId::new(&name, &rule.path);
        });
        Self {
            meter: meters.domain(&name),
            unmatched_meter: meters.rule(&name, UNMATCHED),
            override_meter: meters.rule(&name, OVERRIDE),
            override_id: RuleId::new(&name, OVERRIDE),
            name,
            root,
            shadow_mode: spec.shadow_mode,
            override_denied_hits: spec.override_denied_hits,
            override_on_store_failure: spec.override_on_store_failure,
            colocate_by: spec.colocate_by.clone(),
            has_replaces,
        }
    }

    /// The domain's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether over limit is told in this domain but not enforced.
    #[must_use]
    pub fn shadow_mode(&self) -> bool {
        self.shadow_mode
    }

    /// Whether any rule replaces another.
    #[must_use]
    pub fn has_replaces(&self) -> bool {
        self.has_replaces
    }

    /// Where its queries are counted.
    #[must_use]
    pub fn meter(&self) -> u32 {
        self.meter
    }

    /// Where descriptors that no rule matches are counted.
    #[must_use]
    pub fn unmatched_meter(&self) -> u32 {
        self.unmatched_meter
    }

    /// Where limits that came with the request are counted.
    #[must_use]
    pub fn override_meter(&self) -> u32 {
        self.override_meter
    }

    /// The rule that limits which came with the request stand for.
    #[must_use]
    pub fn override_id(&self) -> RuleId {
        self.override_id
    }

    /// How limits that come with a request are decided without the shared store.
    #[must_use]
    pub fn override_on_store_failure(&self) -> OnStoreFailure {
        self.override_on_store_failure
    }

    /// What applies to `descriptor`.
    ///
    /// # Errors
    /// If the descriptor brings a limit that means nothing.
    pub fn find<'p>(&'p self, descriptor: &Descriptor<'_>) -> Result<Matched<'p>, OverrideError> {
        matched::find(&self.root, descriptor, self.override_denied_hits)
    }

    /// The counter of a rule that [`Domain::find`] found for `descriptor` by `path`.
    #[must_use]
    pub fn key(&self, descriptor: &Descriptor<'_>, path: &[Step<'_>], quota: &Quota) -> Key {
        matched::key(self.names(), descriptor, path, quota)
    }

    /// The counter of the limit that `descriptor` brought.
    #[must_use]
    pub fn override_key(&self, descriptor: &Descriptor<'_>, quota: &Quota) -> Key {
        matched::override_key(self.names(), descriptor, quota)
    }

    fn names(&self) -> Names<'_> {
        Names {
            domain: &self.name,
            colocate_by: self.colocate_by.as_deref(),
        }
    }

    /// What to call the rule in metrics, if the operator wants values there.
    #[must_use]
    pub fn label(descriptor: &Descriptor<'_>, path: &[Step<'_>]) -> Option<String> {
        matched::label(descriptor, path)
    }

    /// How `descriptor` is matched, step by step, for people.
    ///
    /// # Errors
    /// If the descriptor brings a limit that means nothing.
    pub fn trace<'p>(&'p self, descriptor: &Descriptor<'_>) -> Result<Trace<'p>, OverrideError> {
        Ok(Trace {
            levels: explain::levels(&self.root, descriptor),
            matched: self.find(descriptor)?,
        })
    }
}

fn for_each_rule<'a>(level: &'a Level, visit: &mut impl FnMut(&'a Rule)) {
    for node in pace::each(&level.nodes) {
        if let Some(rule) = &node.rule {
            visit(rule);
        }
        for_each_rule(&node.children, visit);
    }
}

fn for_each_rule_mut(level: &mut Level, visit: &mut impl FnMut(&mut Rule)) {
    for node in pace::each(&mut level.nodes) {
        if let Some(rule) = node.rule_mut() {
            visit(rule);
        }
        for_each_rule_mut(&mut node.children, visit);
    }
}

/// The most domains that are suggested at once; there may be thousands.
const MOST_LISTED: usize = 10;

/// Rule name in metrics for descriptors without a rule. Parentheses: no descriptor path has them
/// alone.
pub const UNMATCHED: &str = "(unmatched)";

/// Rule name in metrics for limits that came with the request.
pub const OVERRIDE: &str = "(override)";

/// Domain name in metrics for every domain that is not configured: callers could invent any number.
pub const UNKNOWN_DOMAIN: &str = "(unknown)";

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
