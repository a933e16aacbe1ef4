//! A tree of byte strings that finds all of them that a text starts with, in one pass over the text.
//!
//! A compressed radix tree (D. Morrison, "PATRICIA", Journal of the ACM 15(4), 1968): a node per
//! branch, with all bytes up to the next one as its label.

use smallvec::SmallVec;

use crate::pace::{self, PauseOnDrop};

/// Byte strings with a value each.
#[derive(Debug)]
pub(super) struct RadixTree<T> {
    /// The first is the root, whose label is empty.
    nodes: Vec<RadixNode<T>>,
}

#[derive(Debug)]
struct RadixNode<T> {
    label: Box<[u8]>,
    value: Option<T>,
    /// By the first byte of their labels, in order.
    children: SmallVec<[(u8, u32); 2]>,
    _pause: PauseOnDrop,
}

impl<T> RadixNode<T> {
    fn new(label: &[u8]) -> Self {
        Self {
            label: label.into(),
            value: None,
            children: SmallVec::new(),
            _pause: PauseOnDrop,
        }
    }
}

impl<T> RadixTree<T> {
    /// An empty tree with room for so many strings: to move many nodes into more room takes long.
    pub(super) fn with_room_for(strings: usize) -> Self {
        let mut nodes = Vec::with_capacity(strings.saturating_mul(2).saturating_add(1));
        nodes.push(RadixNode::new(&[]));
        Self { nodes }
    }

    /// Changes the value of `string`, which is none at first.
    pub(super) fn update(&mut self, string: &[u8], change: impl FnOnce(&mut Option<T>)) {
        let (mut place, mut rest) = (0, string);
        while let Some(&first) = rest.first() {
            pace::step(1);
            let Some((slot, child)) = self.child(place, first) else {
                place = self.add(place, first, rest);
                break;
            };
            let label = self.nodes.get(child).map_or(&[][..], |node| &node.label);
            let common = common_length(label, rest);
            place = if common < label.len() {
                self.split(place, slot, child, common)
            } else {
                child
            };
            rest = rest.get(common..).unwrap_or_default();
        }
        if let Some(node) = self.nodes.get_mut(place) {
            change(&mut node.value);
        }
    }

    /// Shows the values of all strings that `text` starts with, the shortest first, with their lengths.
    pub(super) fn prefixes(
        &self,
        mut text: impl Iterator<Item = u8>,
        mut show: impl FnMut(usize, &T),
    ) {
        let (mut place, mut length) = (0, 0_usize);
        loop {
            let Some(node) = self.nodes.get(place) else {
                return;
            };
            if let Some(value) = &node.value {
                show(length, value);
            }
            let Some(first) = text.next() else { return };
            let Some((_, child)) = self.child(place, first) else {
                return;
            };
            let label = self.nodes.get(child).map_or(&[][..], |node| &node.label);
            for byte in label.iter().skip(1) {
                if text.next() != Some(*byte) {
                    return;
                }
            }
            length = length.saturating_add(label.len());
            place = child;
        }
    }

    /// The child of `place` whose label starts with `first`: its slot and its place.
    fn child(&self, place: usize, first: u8) -> Option<(usize, usize)> {
        let children = &self.nodes.get(place)?.children;
        let slot = children
            .binary_search_by_key(&first, |child| child.0)
            .ok()?;
        let (_, child) = children.get(slot)?;
        Some((slot, usize::try_from(*child).ok()?))
    }

    /// Adds a child with this label.
    fn add(&mut self, place: usize, first: u8, label: &[u8]) -> usize {
        let child = self.nodes.len();
        self.nodes.push(RadixNode::new(label));
        if let Some(parent) = self.nodes.get_mut(place) {
            let slot = parent.children.partition_point(|child| child.0 < first);
            parent.children.insert(slot, (first, number(child)));
        }
        child
    }

    /// Puts a node between `parent` and its child, after the first `common` bytes of the child's label.
    fn split(&mut self, parent: usize, slot: usize, child: usize, common: usize) -> usize {
        let between = self.nodes.len();
        let label = self
            .nodes
            .get_mut(child)
            .map(|node| std::mem::take(&mut node.label));
        let label = label.unwrap_or_default();
        let (upper, lower) = label.split_at(common.min(label.len()));
        let mut node = RadixNode::new(upper);
        if let Some(first) = lower.first() {
            node.children.push((*first, number(child)));
        }
        if let Some(child) = self.nodes.get_mut(child) {
            child.label = lower.into();
        }
        self.nodes.push(node);
        let entry = self.nodes.get_mut(parent);
        if let Some(entry) = entry.and_then(|parent| parent.children.get_mut(slot)) {
            entry.1 = number(between);
        }
        between
    }
}

fn common_length(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// The place of a node: there are at most twice as many as patterns, of which a level has fewer than 2^31.
fn number(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn finds_every_string_that_the_text_starts_with(
            strings in prop::collection::vec("[ab]{0,6}", 0..30),
            text in "[abc]{0,9}",
        ) {
            let mut tree = RadixTree::with_room_for(strings.len());
            for (number, string) in strings.iter().enumerate() {
                tree.update(string.as_bytes(), |value| {
                    value.get_or_insert(number);
                });
            }
            let mut found = Vec::new();
            tree.prefixes(text.bytes(), |length, number| found.push((length, *number)));
            let mut wanted: Vec<_> = strings
                .iter()
                .filter(|string| text.starts_with(string.as_str()))
                .map(|string| {
                    let first = strings.iter().position(|other| other == string).unwrap();
                    (string.len(), first)
                })
                .collect();
            wanted.sort_unstable();
            wanted.dedup();
            prop_assert_eq!(found, wanted);
        }
    }
}
