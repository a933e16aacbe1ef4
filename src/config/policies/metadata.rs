//! Free-form data of a rule: whatever `google.protobuf.Struct` can hold.
//!
//! Values have the type that YAML 1.1 gives them. Keys keep their source text, nested ones too:
//! envoyproxy/ratelimit turns a nested `y:` into `true:`.

use super::flat::Flat;
use super::node::{Kind, Node, Resolved};
use crate::config::report::{Notes, Path, Said};
use crate::model::Value;
use crate::pace;

/// Maps and lists inside each other.
///
/// Protobuf readers, Envoy's among them, give up at 100 nested messages, and each level here is
/// three of them; an answer that Envoy cannot read lets the request pass.
const MAX_LEVELS: usize = 16;

/// Reads the metadata of a descriptor. None if a problem was noted.
pub(super) fn read(maps: &[Node<'_>], path: &Path<'_>, notes: &mut Notes<'_>) -> Option<Value> {
    map(maps, path, 1, notes)
}

fn map(maps: &[Node<'_>], path: &Path<'_>, level: usize, notes: &mut Notes<'_>) -> Option<Value> {
    let mut values = Some(Vec::new());
    for entry in Flat::of(maps, path, notes).entries {
        // Only on the top level does one map complete another.
        let Some(node) = entry.values.last() else {
            continue;
        };
        let value = value(node, &path.key(&entry.name), level, notes);
        push(&mut values, value.map(|v| (entry.name.into_owned(), v)));
    }
    values.map(Value::Map)
}

fn value(node: &Node<'_>, path: &Path<'_>, level: usize, notes: &mut Notes<'_>) -> Option<Value> {
    let scalar = match &node.kind {
        Kind::Scalar(scalar) => scalar,
        Kind::List(_) | Kind::Map(_) if level >= MAX_LEVELS => {
            notes.error(
                node.pos,
                path,
                format!("error parsing metadata: nested more than {MAX_LEVELS} levels deep"),
            );
            return None;
        }
        Kind::List(items) => {
            let mut values = Some(Vec::with_capacity(items.len()));
            for (index, item) in pace::each(items.iter()).enumerate() {
                let value = value(item, &path.index(index), level.saturating_add(1), notes);
                push(&mut values, value);
            }
            return values.map(Value::List);
        }
        Kind::Map(_) => {
            let maps = std::slice::from_ref(node);
            return map(maps, path, level.saturating_add(1), notes);
        }
    };
    Some(match scalar.resolve() {
        Resolved::Null => Value::Null,
        Resolved::Bool(flag) => Value::Bool(flag),
        Resolved::Int { value, .. } => Value::Number(number(value)),
        Resolved::Float(value) if value.is_finite() => Value::Number(value),
        Resolved::Float(_) => {
            notes.error(
                node.pos,
                path,
                Said::with_hint(
                    format!(
                        "error parsing metadata: {} is no number in JSON",
                        scalar.text
                    ),
                    "quote it if it is meant as text",
                ),
            );
            return None;
        }
        Resolved::Text => Value::String(scalar.text.clone().into_owned()),
    })
}

/// Adds a value, or spoils the whole if there is none.
fn push<T>(values: &mut Option<Vec<T>>, value: Option<T>) {
    match (values.as_mut(), value) {
        (Some(list), Some(value)) => list.push(value),
        _ => *values = None,
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "every number of a Struct is a double; large ones lose digits in the reference too"
)]
const fn number(value: i128) -> f64 {
    value as f64
}
