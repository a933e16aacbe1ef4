//! The same walk, told for people: at each level which descriptor was chosen and what became of
//! the others.

use super::matched::Matched;
use super::tree::{Kind, Level, Node};
use crate::model::Descriptor;
use crate::pace;

/// How a descriptor was matched.
#[derive(Debug)]
pub struct Trace<'p> {
    /// One for each entry, up to the first that nothing matched.
    pub levels: Vec<ExplainedLevel>,
    /// What applies in the end.
    pub matched: Matched<'p>,
}

/// What one entry met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExplainedLevel {
    /// The entry, as `key=value`.
    pub entry: String,
    /// The policy's descriptors that had to do with it, the chosen one first.
    pub candidates: Vec<Candidate>,
    /// How many more descriptors with the same key are not listed.
    pub more: usize,
}

/// A descriptor of the policy and its fate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// As the policy has it: `key` or `key=value`.
    pub descriptor: String,
    /// Whether it has a `rate_limit` of its own.
    pub has_limit: bool,
    /// What became of it.
    pub fate: Fate,
}

/// What became of a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was chosen, and why it could be.
    Chosen(Kind),
    /// It matches too, but the chosen one is preferred.
    Lost(Kind),
    /// Its key is the entry's, its value does not match.
    OtherValue,
}

impl Fate {
    /// In words, given how the chosen one matched.
    #[must_use]
    pub const fn why(self, winner: Option<Kind>) -> &'static str {
        match (self, winner) {
            (Self::Chosen(Kind::Exact), _) => "key and value are equal",
            (Self::Chosen(Kind::Wildcard), _) => "first pattern in file order that matches",
            (Self::Chosen(Kind::KeyOnly), _) => "key is equal, any value",
            (Self::Lost(Kind::Wildcard), Some(Kind::Wildcard)) => "a pattern above it matches too",
            (Self::Lost(Kind::Wildcard), _) => "an exact value wins over a pattern",
            (Self::Lost(_), Some(Kind::Exact)) => "an exact value wins over the key alone",
            (Self::Lost(_), _) => "a pattern wins over the key alone",
            (Self::OtherValue, _) => "its value does not match",
        }
    }
}

/// Walks as the real look-up does, and looks around at each level.
pub(super) fn levels(root: &Level, descriptor: &Descriptor<'_>) -> Vec<ExplainedLevel> {
    let mut levels = Vec::new();
    let mut level = root;
    for entry in &descriptor.entries {
        let found = level.candidates(*entry);
        let chosen = level.find(*entry);
        let mut candidates: Vec<Candidate> = Vec::new();
        for (place, (node, kind)) in found.iter().enumerate() {
            let fate = if place == 0 && chosen.is_some() {
                Fate::Chosen(*kind)
            } else {
                Fate::Lost(*kind)
            };
            candidates.push(candidate(node, fate));
        }
        let is_found = |node: &Node| found.iter().any(|(other, _)| std::ptr::eq(*other, node));
        let others = || {
            pace::each(&level.nodes).filter(|node| node.key_text() == entry.key && !is_found(node))
        };
        candidates.extend(
            others()
                .take(MOST_OTHERS)
                .map(|node| candidate(node, Fate::OtherValue)),
        );
        levels.push(ExplainedLevel {
            entry: format!(
                "{}={}",
                String::from_utf8_lossy(entry.key),
                String::from_utf8_lossy(entry.value)
            ),
            candidates,
            more: others().count().saturating_sub(MOST_OTHERS),
        });
        match chosen {
            Some((node, _)) => level = &node.children,
            None => break,
        }
    }
    levels
}

fn candidate(node: &Node, fate: Fate) -> Candidate {
    let key = String::from_utf8_lossy(node.key_text());
    let descriptor = match node.value_text() {
        Some(value) => format!("{key}={}", String::from_utf8_lossy(value)),
        None => key.into_owned(),
    };
    Candidate {
        descriptor,
        has_limit: node.rule.is_some(),
        fate,
    }
}

/// Descriptors with other values that are worth listing; a level may hold 100,000.
const MOST_OTHERS: usize = 10;
