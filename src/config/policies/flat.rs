//! The entries of a map once its merge keys (`<<`) have been carried out.
//!
//! Merge keys act where they stand, as envoyproxy/ratelimit reads them: what follows one overwrites
//! what it brought, and it overwrites what stands before it (YAML 1.1 would let what is written win
//! in both places, so that is warned of). Where a merge and the map itself have a map under the same
//! key, the two are joined key by key, which is warned of too.

use std::borrow::Cow;
use std::collections::HashMap;

use smallvec::SmallVec;

use super::node::{Entry, Kind, Node, Resolved};
use crate::config::report::{Notes, Path, Pos, Said};
use crate::config::suggest::quoted;
use crate::pace;

/// The entries of a map with its merge keys carried out.
pub(super) struct Flat<'t> {
    pub(super) entries: Vec<FlatEntry<'t>>,
    /// Where each name stands, once there are too many to look through.
    index: HashMap<Cow<'t, str>, usize>,
}

pub(super) struct FlatEntry<'t> {
    pub(super) name: Cow<'t, str>,
    /// Where the key stands.
    pub(super) pos: Pos,
    /// The key is a number, a boolean or nothing rather than a text.
    pub(super) odd: bool,
    /// The value. Before it, maps that a merge brought in for the same key and that it completes.
    pub(super) values: SmallVec<[Node<'t>; 1]>,
    origin: FlatOrigin,
}

/// How an entry came in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum FlatOrigin {
    /// Written in the map itself.
    Written,
    /// Through a merge key.
    Merged,
    /// From a map that this one completes.
    Carried,
}

impl<'t> Flat<'t> {
    /// Flattens the last of `maps`, after the others, which it completes.
    ///
    /// Merge keys act where they stand, as envoyproxy/ratelimit reads them: what follows one
    /// overwrites what it brought, and it overwrites what stands before it.
    pub(super) fn of(maps: &[Node<'t>], path: &Path<'_>, notes: &mut Notes<'_>) -> Self {
        let mut flat = Self {
            entries: Vec::new(),
            index: HashMap::new(),
        };
        let Some((own, completed)) = maps.split_last() else {
            return flat;
        };
        for node in completed {
            flat.merge(node, FlatOrigin::Carried, path, notes);
        }
        if let Kind::Map(entries) = &own.kind {
            flat.entries.reserve(entries.len());
            for entry in pace::each(entries.iter()) {
                flat.own_entry(entry, path, notes);
            }
        }
        if !completed.is_empty() {
            flat.note_carried(own.pos, path, notes);
        }
        flat
    }

    fn own_entry(&mut self, entry: &Entry<'t>, path: &Path<'_>, notes: &mut Notes<'_>) {
        if is_merge(&entry.key) {
            let before = self.entries.len();
            let overwritten = self.merge_value(&entry.value, &path.key("<<"), notes);
            if let Some(name) = overwritten.filter(|_| before > 0) {
                notes.warning(
                    entry.key.pos,
                    &path.key("<<"),
                    Said::with_hint(
                        format!("overwrites {} that stands before it", quoted(&name)),
                        "put `<<` first",
                    ),
                );
            }
            return;
        }
        let Some((name, odd)) = self.name(&entry.key, path, notes) else {
            return;
        };
        if let Some(existing) = self.find(&name)
            && existing.origin == FlatOrigin::Written
        {
            let first = existing.pos;
            notes.error(
                entry.key.pos,
                &path.key(&name),
                Said::with_hint(
                    format!("duplicate key {}", quoted(&name)),
                    format!("first at line {}, column {}", first.line, first.column),
                ),
            );
        }
        self.put(FlatEntry {
            name,
            pos: entry.key.pos,
            odd,
            values: SmallVec::from_iter([entry.value.clone()]),
            origin: FlatOrigin::Written,
        });
    }

    /// Carries out a merge key. Returns the first written key that it overwrote.
    fn merge_value(
        &mut self,
        value: &Node<'t>,
        path: &Path<'_>,
        notes: &mut Notes<'_>,
    ) -> Option<String> {
        match &value.kind {
            Kind::Map(_) => self.merge(value, FlatOrigin::Merged, path, notes),
            // Of a list the first has the last word.
            Kind::List(items) if items.iter().all(|i| matches!(i.kind, Kind::Map(_))) => items
                .iter()
                .rev()
                .filter_map(|item| self.merge(item, FlatOrigin::Merged, path, notes))
                .last(),
            Kind::List(_) | Kind::Scalar(_) => {
                notes.error(
                    value.pos,
                    path,
                    Said::with_hint(
                        format!(
                            "expected a map or a list of maps to merge, found {}",
                            value.describe()
                        ),
                        "write an alias such as `<<: *base`",
                    ),
                );
                None
            }
        }
    }

    fn merge(
        &mut self,
        node: &Node<'t>,
        origin: FlatOrigin,
        path: &Path<'_>,
        notes: &mut Notes<'_>,
    ) -> Option<String> {
        let mut overwritten = None;
        for mut entry in Self::of(std::slice::from_ref(node), path, notes).entries {
            let written = self
                .find(&entry.name)
                .is_some_and(|existing| existing.origin == FlatOrigin::Written);
            if written && overwritten.is_none() {
                overwritten = Some(entry.name.clone().into_owned());
            }
            entry.origin = origin;
            self.put(entry);
        }
        overwritten
    }

    fn put(&mut self, mut entry: FlatEntry<'t>) {
        let Some(existing) = self
            .position(&entry.name)
            .and_then(|at| self.entries.get_mut(at))
        else {
            self.add(entry);
            return;
        };
        // Two maps under one key are joined key by key where one of them came by a merge:
        // envoyproxy/ratelimit decodes both into one struct.
        let both_written =
            existing.origin == FlatOrigin::Written && entry.origin == FlatOrigin::Written;
        let is_map = |node: &Node<'_>| matches!(node.kind, Kind::Map(_));
        if !both_written && existing.values.iter().chain(&entry.values).all(is_map) {
            existing.values.append(&mut entry.values);
            entry.values = std::mem::take(&mut existing.values);
        }
        *existing = entry;
    }

    fn add(&mut self, entry: FlatEntry<'t>) {
        self.entries.push(entry);
        let len = self.entries.len();
        if len > LOOK_THROUGH {
            let from = if self.index.is_empty() {
                // At once, since to move a large index takes long.
                self.index.reserve(self.entries.capacity());
                0
            } else {
                len - 1
            };
            for (at, entry) in self.entries.iter().enumerate().skip(from) {
                self.index.insert(entry.name.clone(), at);
            }
        }
    }

    fn position(&self, name: &str) -> Option<usize> {
        if self.entries.len() > LOOK_THROUGH {
            self.index.get(name).copied()
        } else {
            self.entries.iter().position(|entry| entry.name == name)
        }
    }

    fn find(&self, name: &str) -> Option<&FlatEntry<'t>> {
        self.position(name).and_then(|at| self.entries.get(at))
    }

    fn name(
        &self,
        key: &Node<'t>,
        path: &Path<'_>,
        notes: &mut Notes<'_>,
    ) -> Option<(Cow<'t, str>, bool)> {
        if let Kind::Scalar(scalar) = &key.kind {
            let odd = scalar.resolve() != Resolved::Text;
            return Some((scalar.text.clone(), odd));
        }
        notes.error(
            key.pos,
            path,
            format!("a key must be text, this one is {}", key.describe()),
        );
        None
    }

    /// Tells what a map keeps of one that was merged in around it and that it does not mention.
    fn note_carried(&self, pos: Pos, path: &Path<'_>, notes: &mut Notes<'_>) {
        let carried: Vec<String> = self
            .entries
            .iter()
            .filter(|entry| entry.origin == FlatOrigin::Carried)
            .take(4)
            .map(|entry| quoted(&entry.name))
            .collect();
        if carried.is_empty() {
            return;
        }
        notes.warning(
            pos,
            path,
            Said::with_hint(
                format!(
                    "keeps {} of the map that was merged in for the same key",
                    carried.join(", ")
                ),
                "as envoyproxy/ratelimit does; write `<<` inside this map to say so",
            ),
        );
    }
}

fn is_merge(key: &Node<'_>) -> bool {
    matches!(&key.kind, Kind::Scalar(scalar) if scalar.plain && scalar.text == "<<")
}

/// Names that are compared one by one before an index is made.
const LOOK_THROUGH: usize = 16;
