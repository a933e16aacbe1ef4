//! One domain's descriptors, indexed for look-up without allocation.
//!
//! At each level an exact rule (key and value) wins over a wildcard, the first wildcard in file
//! order over a later one, and any of them over a rule for the key alone. The choice is final:
//! there is no way back when a deeper level fails. Keys and values are matched apart, so no star
//! reaches over from one into the other.

use std::hash::Hash;

use hashbrown::{Equivalent, HashMap};
use smallvec::SmallVec;

use super::pattern::Pattern;
use super::spec::{DescriptorSpec, Rule};
use super::star_index::StarIndex;
use crate::model::Entry;
use crate::pace::{self, PauseOnDrop};

/// A descriptor of the policy, ready to be matched.
#[derive(Debug)]
pub struct Node {
    key: Pattern,
    value: Option<Pattern>,
    pub(super) share_threshold: bool,
    pub(super) value_to_metric: bool,
    pub(super) detailed_metric: bool,
    /// The limit, if the operator gave one.
    pub(super) rule: Option<Rule>,
    pub(super) children: Level,
    _pause: PauseOnDrop,
}

impl Node {
    pub(super) fn new(spec: &DescriptorSpec) -> Self {
        Self {
            key: Pattern::new(&spec.key),
            value: spec.value.as_deref().map(Pattern::new),
            share_threshold: spec.share_threshold,
            value_to_metric: spec.value_to_metric,
            detailed_metric: spec.detailed_metric,
            rule: spec.rule.clone(),
            children: Level::new(&spec.descriptors),
            _pause: PauseOnDrop,
        }
    }

    /// Whether the operator wrote a star in the key or the value.
    pub(super) fn is_wildcard(&self) -> bool {
        !self.key.is_literal() || self.value.as_ref().is_some_and(|value| !value.is_literal())
    }

    pub(super) fn key_text(&self) -> &[u8] {
        self.key.text()
    }

    pub(super) fn value_text(&self) -> Option<&[u8]> {
        self.value.as_ref().map(Pattern::text)
    }

    pub(super) fn rule_mut(&mut self) -> Option<&mut Rule> {
        self.rule.as_mut()
    }

    fn matches(&self, entry: Entry<'_>) -> bool {
        self.key.matches(entry.key)
            && self
                .value
                .as_ref()
                .is_none_or(|value| value.matches(entry.value))
    }
}

/// How a node came to be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Key and value stand in the policy as they came.
    Exact,
    /// Only the key does.
    KeyOnly,
    /// By a star.
    Wildcard,
}

/// The wildcard nodes of one key.
#[derive(Debug, Default)]
struct Wildcards {
    /// In file order.
    places: SmallVec<[u32; 2]>,
    /// If they are many.
    index: Option<Box<StarIndex>>,
}

/// The descriptors below one node, or below the domain.
#[derive(Debug, Default)]
pub(super) struct Level {
    /// In file order.
    pub(super) nodes: Vec<Node>,
    exact: Index<Pair, u32>,
    key_only: Index<Box<[u8]>, u32>,
    /// Wildcard nodes whose key has no star, by key.
    wild_by_key: Index<Box<[u8]>, Wildcards>,
    /// Wildcard nodes with a star in the key, in file order.
    wild_keys: Vec<u32>,
}

impl Level {
    pub(super) fn new(specs: &[DescriptorSpec]) -> Self {
        let mut level = Self::with_room_for(specs);
        for (place, spec) in (0_u32..).zip(specs) {
            pace::step(2);
            let node = Node::new(spec);
            if node.is_wildcard() {
                level.index_wildcard(&node, place);
            } else {
                level.index_literal(&node, place);
            }
            level.nodes.push(node);
        }
        level.index_stars();
        level
    }

    /// Indexes the keys that have many wildcards.
    fn index_stars(&mut self) {
        let Self {
            nodes, wild_by_key, ..
        } = self;
        for Wildcards { places, index } in wild_by_key.values_mut() {
            pace::step(1);
            if places.len() > TRIED_ONE_BY_ONE {
                let patterns = places.iter().filter_map(|place| {
                    let node = nodes.get(usize::try_from(*place).ok()?)?;
                    Some((*place, node.value.as_ref()?))
                });
                *index = Some(Box::new(StarIndex::new(places.len(), patterns)));
            }
        }
    }

    /// All room at once: to move 100,000 entries into a larger table takes long.
    fn with_room_for(specs: &[DescriptorSpec]) -> Self {
        let has_star = |text: &str| memchr::memchr(b'*', text.as_bytes()).is_some();
        let (mut exact, mut key_only) = (0_usize, 0_usize);
        for spec in pace::each(specs) {
            if spec.value.is_some() {
                exact = exact.saturating_add(1);
            } else if !has_star(&spec.key) {
                key_only = key_only.saturating_add(1);
            }
        }
        Self {
            nodes: Vec::with_capacity(specs.len()),
            exact: Index::with_room_for(exact),
            key_only: Index::with_room_for(key_only),
            ..Self::default()
        }
    }

    fn index_literal(&mut self, node: &Node, place: u32) {
        match &node.value {
            Some(value) => {
                self.exact
                    .insert(Pair(node.key.text().into(), value.text().into()), place);
            }
            None => {
                self.key_only.insert(node.key.text().into(), place);
            }
        }
    }

    fn index_wildcard(&mut self, node: &Node, place: u32) {
        // A request that carries the pattern itself as its text means this rule, not an earlier
        // pattern that happens to match it too.
        if let Some(value) = &node.value {
            self.exact
                .insert(Pair(node.key.text().into(), value.text().into()), place);
        }
        if node.key.is_literal() {
            self.wild_by_key.at(node.key.text()).places.push(place);
        } else {
            self.wild_keys.push(place);
        }
    }

    /// The node that stands for `entry`, if any does.
    pub(super) fn find(&self, entry: Entry<'_>) -> Option<(&Node, Kind)> {
        if let Some(place) = self.exact.get(&BorrowedPair(entry.key, entry.value)) {
            return self.node(*place).map(|node| (node, Kind::Exact));
        }
        if let Some(place) = self.first_wildcard(entry) {
            return self.node(place).map(|node| (node, Kind::Wildcard));
        }
        let place = self.key_only.get(entry.key)?;
        self.node(*place).map(|node| (node, Kind::KeyOnly))
    }

    /// Every node that could stand for `entry`, the chosen one first, then in order of preference.
    pub(super) fn candidates(&self, entry: Entry<'_>) -> Vec<(&Node, Kind)> {
        let mut found: Vec<(&Node, Kind)> = self.find(entry).into_iter().collect();
        let chosen = found.first().map(|(node, _)| std::ptr::from_ref(*node));
        let others = pace::each(&self.nodes).filter(|node| {
            node.matches(entry) && chosen.is_none_or(|chosen| !std::ptr::eq(chosen, *node))
        });
        let (wild, plain): (Vec<_>, Vec<_>) = others.partition(|node| node.is_wildcard());
        found.extend(wild.into_iter().map(|node| (node, Kind::Wildcard)));
        found.extend(plain.into_iter().map(|node| (node, Kind::KeyOnly)));
        found
    }

    fn node(&self, place: u32) -> Option<&Node> {
        self.nodes.get(usize::try_from(place).ok()?)
    }

    /// The matching wildcard that stands first in the file.
    fn first_wildcard(&self, entry: Entry<'_>) -> Option<u32> {
        let matching = |place: &&u32| self.node(**place).is_some_and(|node| node.matches(entry));
        let wildcards = self.wild_by_key.get(entry.key);
        let by_key = wildcards.and_then(|Wildcards { places, index }| match index {
            Some(index) => index.find(entry.value, |place| matching(&&place)),
            None => places.iter().find(matching).copied(),
        });
        let by_pattern = self.wild_keys.iter().find(matching).copied();
        by_key.into_iter().chain(by_pattern).min()
    }
}

/// A table of a level, which is dropped with pause points.
#[derive(Debug)]
struct Index<K, V>(HashMap<K, (V, PauseOnDrop), foldhash::fast::RandomState>);

impl<K, V> Default for Index<K, V> {
    fn default() -> Self {
        Self(HashMap::default())
    }
}

impl<K: Eq + Hash, V> Index<K, V> {
    fn with_room_for(entries: usize) -> Self {
        Self(HashMap::with_capacity_and_hasher(
            entries,
            foldhash::fast::RandomState::default(),
        ))
    }

    fn insert(&mut self, key: K, value: V) {
        self.0.insert(key, (value, PauseOnDrop));
    }

    fn get<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) -> Option<&V> {
        self.0.get(key).map(|(value, _)| value)
    }
}

impl<K, V> Index<K, V> {
    fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.0.values_mut().map(|(value, _)| value)
    }
}

impl<V: Default> Index<Box<[u8]>, V> {
    /// The value of `key`, which is added if it is not there.
    fn at(&mut self, key: &[u8]) -> &mut V {
        let (value, _) = self.0.entry(key.into()).or_default();
        value
    }
}

/// So many wildcards of a key are tried one by one: an index takes more memory, and no less time.
const TRIED_ONE_BY_ONE: usize = 8;

#[derive(Debug, PartialEq, Eq, Hash)]
struct Pair(Box<[u8]>, Box<[u8]>);

#[derive(Hash)]
struct BorrowedPair<'a>(&'a [u8], &'a [u8]);

impl Equivalent<Pair> for BorrowedPair<'_> {
    fn equivalent(&self, pair: &Pair) -> bool {
        *self.0 == *pair.0 && *self.1 == *pair.1
    }
}
