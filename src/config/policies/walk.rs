//! The walk over a document: from nodes to maps of known fields, noting everything that is wrong
//! with their shape.
//!
//! Here belong kinds, unknown, misplaced and duplicate keys, and merge keys. What the values mean
//! together is for `compile`.

use std::borrow::Cow;
use std::rc::Rc;

use smallvec::SmallVec;

use super::fields::{FIELDS, Field, Kind as FieldKind, Level};
use super::flat::{Flat, FlatEntry};
use super::metadata;
use super::node::{Kind, Node, Resolved, Scalar};
use crate::config::report::{Notes, Path, Pos, Said};
use crate::config::suggest::{nearest, quoted};
use crate::model::Value;
use crate::pace::{self, PauseOnDrop};

/// A map of a policy with what its fields hold. A field that is null counts as not written.
#[derive(Clone, Debug)]
pub(super) struct RawMap<'t> {
    pub(super) pos: Pos,
    level: Level,
    fields: Vec<(&'static Field, Pos, Raw<'t>)>,
    _pause: PauseOnDrop,
}

/// What a field holds, by its [`FieldKind`].
#[derive(Clone, Debug)]
enum Raw<'t> {
    /// A problem has been noted.
    Bad,
    Text(Cow<'t, str>),
    Flag(bool),
    Count(u32),
    /// An item that is no map keeps its place, so that the paths of later ones stay right.
    List(Vec<Option<RawMap<'t>>>),
    Map(RawMap<'t>),
    Free(Value),
}

impl<'t> RawMap<'t> {
    /// Where the field's value stands, if it was written, well or badly.
    pub(super) fn place(&self, name: &str) -> Option<Pos> {
        self.find(name).map(|(pos, _)| pos)
    }

    /// Empty if it is not there.
    pub(super) fn text(&self, name: &str) -> &str {
        match self.find(name) {
            Some((_, Raw::Text(text))) => text,
            _ => "",
        }
    }

    pub(super) fn flag(&self, name: &str) -> bool {
        matches!(self.find(name), Some((_, Raw::Flag(true))))
    }

    pub(super) fn count(&self, name: &str) -> Option<u32> {
        match self.find(name) {
            Some((_, Raw::Count(count))) => Some(*count),
            _ => None,
        }
    }

    pub(super) fn list(&self, name: &str) -> &[Option<Self>] {
        match self.find(name) {
            Some((_, Raw::List(items))) => items,
            _ => &[],
        }
    }

    pub(super) fn map(&self, name: &str) -> Option<&Self> {
        match self.find(name) {
            Some((_, Raw::Map(map))) => Some(map),
            _ => None,
        }
    }

    pub(super) fn free(&self, name: &str) -> Option<&Value> {
        match self.find(name) {
            Some((_, Raw::Free(value))) => Some(value),
            _ => None,
        }
    }

    /// It was written, and a problem has been noted about it.
    pub(super) fn is_bad(&self, name: &str) -> bool {
        matches!(self.find(name), Some((_, Raw::Bad)))
    }

    fn find(&self, name: &str) -> Option<(Pos, &Raw<'t>)> {
        debug_assert!(self.level.field(name).is_some(), "no field {name}");
        self.fields
            .iter()
            .find(|(field, ..)| field.name == name)
            .map(|(_, pos, raw)| (*pos, raw))
    }
}

/// Reads a document as a policy file. Frees each node once it has been read, so that its memory serves for
/// the fields of the next ones.
pub(super) fn policy<'t>(document: Node<'t>, notes: &mut Notes<'_>) -> Option<RawMap<'t>> {
    if let Kind::Map(_) = document.kind {
        return Some(map(Level::Root, Maps::from([document]), &Path::Root, notes));
    }
    notes.error(
        document.pos,
        &Path::Root,
        Said::with_hint(
            format!("a policy file is a map, this is {}", document.describe()),
            "begin with `domain: NAME`",
        ),
    );
    None
}

/// Maps that are read as one: later ones complete and overwrite earlier ones, as merge keys ask for.
type Maps<'t> = SmallVec<[Node<'t>; 1]>;

/// Reads maps as one.
fn map<'t>(level: Level, maps: Maps<'t>, path: &Path<'_>, notes: &mut Notes<'_>) -> RawMap<'t> {
    let pos = maps.last().map_or_else(Pos::default, |node| node.pos);
    let flat = Flat::of(&maps, path, notes);
    drop(maps);
    let mut fields = Vec::with_capacity(flat.entries.len());
    for entry in flat.entries {
        pace::step(1);
        let path = path.key(&entry.name);
        let Some(field) = level.field(&entry.name) else {
            unknown(level, &entry, &path, notes);
            continue;
        };
        let Some(last) = entry.values.last() else {
            continue;
        };
        if !last.is_null() {
            fields.push((field, last.pos, value(field, entry.values, &path, notes)));
        }
    }
    RawMap {
        pos,
        level,
        fields,
        _pause: PauseOnDrop,
    }
}

/// Reads the value of a field. Of several, all but the last are maps that it completes.
fn value<'t>(
    field: &Field,
    mut values: Maps<'t>,
    path: &Path<'_>,
    notes: &mut Notes<'_>,
) -> Raw<'t> {
    match (field.kind, values.last().map(|node| &node.kind)) {
        (FieldKind::Map(level), Some(Kind::Map(_))) => {
            return Raw::Map(map(level, values, path, notes));
        }
        (FieldKind::Free, Some(Kind::Map(_))) => {
            return metadata::read(&values, path, notes).map_or(Raw::Bad, Raw::Free);
        }
        _ => {}
    }
    let Some(node) = values.pop() else {
        return Raw::Bad;
    };
    match (field.kind, &node.kind) {
        (FieldKind::Text | FieldKind::Word { .. }, Kind::Scalar(scalar)) => {
            Raw::Text(scalar.text.clone())
        }
        (FieldKind::Flag, Kind::Scalar(scalar)) => match scalar.resolve() {
            Resolved::Bool(flag) => Raw::Flag(flag),
            _ => mismatch(field, &node, path, notes),
        },
        (FieldKind::Count { min, max }, Kind::Scalar(scalar)) => {
            match count(scalar, min..=max, node.pos, path, notes) {
                Some(count) => Raw::Count(count),
                None => mismatch(field, &node, path, notes),
            }
        }
        (FieldKind::List(level), Kind::List(items)) => {
            let items = Rc::clone(items);
            // The last reference but `items`, unless an anchor holds the list.
            drop(node);
            Raw::List(list(level, items, path, notes))
        }
        _ => mismatch(field, &node, path, notes),
    }
}

fn list<'t>(
    level: Level,
    items: Rc<Vec<Node<'t>>>,
    path: &Path<'_>,
    notes: &mut Notes<'_>,
) -> Vec<Option<RawMap<'t>>> {
    let mut maps = Vec::with_capacity(items.len());
    for (index, item) in into_items(items).enumerate() {
        let path = path.index(index);
        if let Kind::Map(_) = item.kind {
            maps.push(Some(map(level, Maps::from([item]), &path, notes)));
            continue;
        }
        let example = match level {
            Level::Replaces => "write `- name: NAME`",
            _ => "write `- key: KEY`",
        };
        notes.error(
            item.pos,
            &path,
            Said::with_hint(
                format!("expected a map, found {}", item.describe()),
                example,
            ),
        );
        maps.push(None);
    }
    maps
}

/// Iterates over the items of a list by value. Frees each after its turn, unless the list is shared.
fn into_items<'t>(items: Rc<Vec<Node<'t>>>) -> Box<dyn Iterator<Item = Node<'t>> + 't> {
    match Rc::try_unwrap(items) {
        Ok(items) => Box::new(items.into_iter()),
        Err(items) => Box::new((0..items.len()).filter_map(move |at| items.get(at).cloned())),
    }
}

fn count(
    scalar: &Scalar<'_>,
    range: std::ops::RangeInclusive<u32>,
    pos: Pos,
    path: &Path<'_>,
    notes: &mut Notes<'_>,
) -> Option<u32> {
    let Resolved::Int { value, octal } = scalar.resolve() else {
        return None;
    };
    let count = u32::try_from(value).ok().filter(|n| range.contains(n))?;
    if octal {
        let decimal = scalar.text.trim_start_matches(['+', '0', '_']);
        notes.warning(
            pos,
            path,
            Said::with_hint(
                format!(
                    "{} is {count}: a leading zero makes it octal, as in YAML 1.1",
                    scalar.text
                ),
                format!("write {count}, or {decimal} if that was meant"),
            ),
        );
    }
    Some(count)
}

fn mismatch<'t>(field: &Field, node: &Node<'_>, path: &Path<'_>, notes: &mut Notes<'_>) -> Raw<'t> {
    let message = format!(
        "expected {}, found {}",
        field.kind.describe(),
        node.describe()
    );
    match hint(field.kind, node) {
        Some(hint) => notes.error(node.pos, path, Said::with_hint(message, hint)),
        None => notes.error(node.pos, path, message),
    }
    Raw::Bad
}

/// What to do about a value of the wrong kind, where there is more to say than what was expected.
fn hint(kind: FieldKind, node: &Node<'_>) -> Option<String> {
    match (kind, &node.kind) {
        (FieldKind::Count { .. } | FieldKind::Flag, Kind::Scalar(scalar)) if !scalar.plain => {
            Some("remove the quotes".to_owned())
        }
        (FieldKind::Count { .. }, Kind::Scalar(scalar)) => match scalar.resolve() {
            // What begins with a zero and has an 8 or a 9 is neither octal nor decimal.
            Resolved::Float(number)
                if number.fract() == 0.0 && scalar.text.bytes().all(|b| b.is_ascii_digit()) =>
            {
                Some(format!("write {number}: a leading zero makes it octal"))
            }
            _ => None,
        },
        (FieldKind::Text, Kind::List(_) | Kind::Map(_)) => {
            Some("quote it if it is meant as text".to_owned())
        }
        (FieldKind::List(_), Kind::Map(_)) => Some("begin each item with `- `".to_owned()),
        _ => None,
    }
}

/// Notes a key that does not belong here.
fn unknown(level: Level, entry: &FlatEntry<'_>, path: &Path<'_>, notes: &mut Notes<'_>) {
    if notes.is_full() {
        notes.error(entry.pos, path, "");
        return;
    }
    if entry.odd {
        notes.error(
            entry.pos,
            path,
            format!("key is not of type string: {}", entry.name),
        );
        return;
    }
    let message = format!("unknown key {}", quoted(&entry.name));
    let elsewhere: Vec<&str> = FIELDS
        .iter()
        .filter(|field| field.name == entry.name)
        .map(|field| field.level.place())
        .collect();
    let glued = entry.name.split_once(':').map(|(key, _)| key);
    let said = if let Some(key) = glued.filter(|key| level.field(key).is_some()) {
        let hint = format!("put a space after the colon of {key}");
        Said::with_hint(message, hint)
    } else if !elsewhere.is_empty() {
        Said::with_hint(message, format!("it belongs {}", elsewhere.join(", or ")))
    } else if let Some(near) = nearest(&entry.name, level.fields().map(|field| field.name)) {
        Said::with_hint(message, format!("did you mean {}?", quoted(near)))
    } else if let Some(field) = nearest(&entry.name, FIELDS.iter().map(|field| field.name))
        .and_then(|near| FIELDS.iter().find(|field| field.name == near))
    {
        Said::with_hint(
            message,
            format!(
                "did you mean {}? It belongs {}",
                quoted(field.name),
                field.level.place()
            ),
        )
    } else {
        message.into()
    };
    notes.error(entry.pos, path, said);
}
