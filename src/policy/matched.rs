//! The walk down the tree, and what it finds.

use smallvec::SmallVec;

use super::spec::{Limit, Rule};
use super::tree::{Kind, Level, Node};
use crate::model::{
    DeniedHits, Descriptor, Entry, Key, KeyBuilder, OverrideLimit, Quota, QuotaError, Unit, Window,
};

/// What applies to one descriptor.
#[derive(Debug)]
pub enum Matched<'p> {
    /// Nothing: it passes uncounted.
    Nothing(Miss),
    /// The limit that came with the request; rules are not looked at.
    Override(Quota),
    /// A rule with a limit.
    Limited(&'p Rule, Quota, Path<'p>),
    /// A rule whose place another rule of the request takes: it passes uncounted.
    Replaced(&'p Rule),
    /// A rule that lets everything pass.
    Unlimited(&'p Rule),
}

impl<'p> Matched<'p> {
    /// The operator's rule, if one applies.
    #[must_use]
    pub fn rule(&self) -> Option<&'p Rule> {
        match self {
            Self::Limited(rule, ..) | Self::Replaced(rule) | Self::Unlimited(rule) => Some(rule),
            Self::Nothing(_) | Self::Override(_) => None,
        }
    }
}

/// Why nothing applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Miss {
    /// At the entry with this index (from 0) no descriptor of that level matches.
    NoMatch(usize),
    /// All entries match, but the descriptor they lead to has no `rate_limit`.
    NoLimit,
    /// The domain is not configured.
    UnknownDomain,
    /// The descriptor has no entries.
    NoEntries,
}

/// The nodes that the entries went through, one each.
pub type Path<'p> = SmallVec<[Step<'p>; 4]>;

/// One entry's node and why it was chosen.
#[derive(Clone, Copy, Debug)]
pub struct Step<'p> {
    /// The node.
    pub node: &'p Node,
    /// How it matched.
    pub kind: Kind,
}

impl Step<'_> {
    /// Whether all that the pattern matches shares one counter.
    pub(super) fn is_shared(self) -> bool {
        self.node.share_threshold && self.node.is_wildcard()
    }
}

/// A limit came with the request that cannot be counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OverrideError {
    /// The number is not a unit, or the unit is missing.
    #[error(
        "unknown rate limit unit {0} in the descriptor's limit (1 second, 2 minute, 3 hour, 4 day, 5 month, 6 year, 7 week)"
    )]
    Unit(i32),
    /// The window cannot be.
    #[error("the descriptor's limit: {0}")]
    Window(QuotaError),
}

/// Finds what applies to `descriptor` below `root`.
pub(super) fn find<'p>(
    root: &'p Level,
    descriptor: &Descriptor<'_>,
    override_denied_hits: DeniedHits,
) -> Result<Matched<'p>, OverrideError> {
    if let Some(limit) = descriptor.limit {
        return quota_of(limit, override_denied_hits).map(Matched::Override);
    }
    let mut path = Path::new();
    let mut level = root;
    for (index, entry) in descriptor.entries.iter().enumerate() {
        match level.find(*entry) {
            Some((node, kind)) => {
                path.push(Step { node, kind });
                level = &node.children;
            }
            None => return Ok(Matched::Nothing(Miss::NoMatch(index))),
        }
    }
    let Some(last) = path.last() else {
        return Ok(Matched::Nothing(Miss::NoEntries));
    };
    Ok(match &last.node.rule {
        None => Matched::Nothing(Miss::NoLimit),
        Some(rule) => match rule.limit {
            Limit::Unlimited => Matched::Unlimited(rule),
            Limit::Quota(quota) => Matched::Limited(rule, quota, path),
        },
    })
}

/// A limit that came with the request: a fixed window, as the caller knows no other.
fn quota_of(limit: OverrideLimit, denied_hits: DeniedHits) -> Result<Quota, OverrideError> {
    let unit = match limit.unit {
        1 => Unit::Second,
        2 => Unit::Minute,
        3 => Unit::Hour,
        4 => Unit::Day,
        5 => Unit::Month,
        6 => Unit::Year,
        7 => Unit::Week,
        other => return Err(OverrideError::Unit(other)),
    };
    let window =
        Window::try_new(unit, limit.unit_multiplier.unwrap_or(1)).map_err(OverrideError::Window)?;
    Ok(Quota::fixed(limit.requests_per_unit, window, denied_hits))
}

/// What the names of a domain's counters are made by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Names<'d> {
    pub(super) domain: &'d str,
    /// The entry whose value says whose a counter is.
    pub(super) colocate_by: Option<&'d [u8]>,
}

impl Names<'_> {
    fn builder(self, tenant: Option<Entry<'_>>) -> KeyBuilder {
        match tenant {
            None => KeyBuilder::new(self.domain.as_bytes()),
            Some(tenant) => KeyBuilder::colocated(self.domain.as_bytes(), tenant),
        }
    }
}

/// The name of the counter of a rule that was found by `path`. It begins with the tenant where the
/// counter is one's own: an entry that shares its counter with others says nothing of whose it is.
pub(super) fn key(
    names: Names<'_>,
    descriptor: &Descriptor<'_>,
    path: &[Step<'_>],
    quota: &Quota,
) -> Key {
    let tenant = names.colocate_by.and_then(|key| {
        let mut entries = descriptor.entries.iter().zip(path);
        entries.find(|(entry, step)| entry.key == key && !step.is_shared())
    });
    let mut builder = names.builder(tenant.map(|(entry, _)| *entry));
    for (entry, step) in descriptor.entries.iter().zip(path) {
        if step.is_shared() {
            let node = step.node;
            builder.entry(
                (node.key_text(), true),
                (node.value_text().unwrap_or(b"*"), true),
            );
        } else {
            builder.entry((entry.key, false), (entry.value, false));
        }
    }
    builder.finish(quota)
}

/// The name of the counter of a limit that came with the request.
pub(super) fn override_key(names: Names<'_>, descriptor: &Descriptor<'_>, quota: &Quota) -> Key {
    let tenant = names.colocate_by.and_then(|key| {
        let mut entries = descriptor.entries.iter();
        entries.find(|entry| entry.key == key)
    });
    let mut builder = names.builder(tenant.copied());
    for entry in &descriptor.entries {
        builder.entry((entry.key, false), (entry.value, false));
    }
    builder.finish_override(quota)
}

/// What the rule's metric says instead of its path, if the operator asked for the values in it:
/// `detailed_metric` shows every value, `value_to_metric` that of its own entry. What shares a
/// counter shows its pattern.
pub(super) fn label(descriptor: &Descriptor<'_>, path: &[Step<'_>]) -> Option<String> {
    let detailed = path.last().is_some_and(|step| step.node.detailed_metric);
    let shows = |step: &Step<'_>| (detailed || step.node.value_to_metric) && !step.is_shared();
    if !path.iter().any(shows) {
        return None;
    }
    let mut label = String::new();
    let push = |label: &mut String, text: &[u8]| {
        let room = MAX_LABEL.saturating_sub(label.len());
        label.push_str(&String::from_utf8_lossy(text.get(..room).unwrap_or(text)));
    };
    for (entry, step) in descriptor.entries.iter().zip(path) {
        if !label.is_empty() {
            label.push(',');
        }
        let value = if shows(step) {
            Some(entry.value)
        } else {
            step.node.value_text()
        };
        let key = if shows(step) {
            entry.key
        } else {
            step.node.key_text()
        };
        push(&mut label, key);
        if let Some(value) = value {
            label.push('=');
            push(&mut label, value);
        }
    }
    Some(label)
}

/// Metrics show no more than this much of a label (`telemetry` cuts it to the byte), so no more is
/// written, however long a header is.
const MAX_LABEL: usize = 256;
