//! Where values stand in a document of maps, for reports about files that others read.

use std::collections::BTreeMap;

use super::node::{Kind, Node};
use super::reader;
use crate::config::Report;
use crate::config::report::{Notes, Pos};

/// The place of every value by its path, such as `store.redis.url` or `urls[1]`. Empty for a text
/// that cannot be read.
pub(in crate::config) fn positions(text: &str) -> BTreeMap<String, Pos> {
    let mut report = Report::default();
    let mut found = BTreeMap::new();
    if let Some(root) = reader::read(text, &mut Notes::new(&"".into(), &mut report)) {
        collect("", &root, &mut found);
    }
    found
}

fn collect(path: &str, node: &Node<'_>, found: &mut BTreeMap<String, Pos>) {
    if found.len() >= MOST {
        return;
    }
    found.insert(path.to_owned(), node.pos);
    match &node.kind {
        Kind::Scalar(_) => {}
        Kind::List(items) => {
            for (index, item) in items.iter().enumerate() {
                collect(&format!("{path}[{index}]"), item, found);
            }
        }
        Kind::Map(entries) => {
            for entry in &**entries {
                let Kind::Scalar(key) = &entry.key.kind else {
                    continue;
                };
                let path = match path {
                    "" => key.text.to_string(),
                    _ => format!("{path}.{}", key.text),
                };
                collect(&path, &entry.value, found);
            }
        }
    }
}

/// More than any settings have. Aliases can make a small file stand for millions of values.
const MOST: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_has_its_place() {
        let text = "a: 1\nb:\n  c: {d: x}\n  e: [f, &g h]\ni: *g\n";
        let found = positions(text);
        let at = |path: &str| found.get(path).map(|pos| (pos.line, pos.column));
        assert_eq!(at("a"), Some((1, 4)));
        assert_eq!(at("b.c.d"), Some((3, 10)));
        assert_eq!(at("b.e[1]").map(|(line, _)| line), Some(4));
        assert_eq!(at("i"), Some((5, 4)));
        assert_eq!(at("j"), None);
        assert!(positions("a: [").is_empty());
    }
}
