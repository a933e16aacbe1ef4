//! Host names, as a list or as one text with commas between them.

use std::fmt;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// Host names. One that starts with a dot stands for all names below it; `*` for any name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct HostNames(pub Vec<String>);

impl<'de> Deserialize<'de> for HostNames {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NamesVisitor).map(Self)
    }
}

struct NamesVisitor;

impl<'de> Visitor<'de> for NamesVisitor {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of host names")
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        if text.trim().is_empty() {
            return Ok(Vec::new());
        }
        text.split(',').map(|name| checked(name.trim())).collect()
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut names = Vec::new();
        while let Some(name) = list.next_element::<String>()? {
            names.push(checked(&name)?);
        }
        Ok(names)
    }
}

fn checked<E: Error>(name: &str) -> Result<String, E> {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if name == "*" || !name.is_empty() && name.bytes().all(is_part) {
        return Ok(name.to_owned());
    }
    let shown: String = name.chars().take(100).collect();
    Err(E::custom(format!(
        "`{}` is no host name: write it without scheme, port and path",
        shown.escape_debug()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_from_a_list_and_from_one_text() {
        let read = |text: &str| {
            serde_yaml::from_str::<HostNames>(text)
                .map(|names| names.0)
                .map_err(|error| error.to_string())
        };
        let wanted = Ok(vec!["a.b".to_owned(), ".c".to_owned()]);
        assert_eq!(read("[a.b, .c]"), wanted);
        assert_eq!(read("'a.b, .c'"), wanted);
        assert_eq!(read("''"), Ok(Vec::new()));
        assert_eq!(read("null"), Ok(Vec::new()));
        for wrong in ["[http://a]", "'a:1'", "['']", "'a,,b'", "'a b'"] {
            let error = read(wrong).unwrap_err();
            assert!(error.contains("is no host name"), "{wrong}: {error}");
        }
    }
}
