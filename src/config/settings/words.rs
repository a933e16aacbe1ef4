//! What serde says of a value, in the words of operators, with a hint where there is one.

use super::redis_url::{REFUSED, without_passwords};
use crate::config::report::Said;
use crate::config::suggest::{nearest, one_of, quoted};

/// The same in plain words.
pub(super) fn explain(message: &str) -> Said {
    if message.starts_with(REFUSED) {
        return message.into();
    }
    // What was written may be an address in the wrong place.
    let message = &without_passwords(message);
    wrong_kind(message)
        .or_else(|| wrong_name(message))
        .unwrap_or_else(|| message.as_str().into())
}

/// ``unknown field `a`, expected `b` or `c` `` and its like.
fn wrong_name(message: &str) -> Option<Said> {
    let mut names = message.split('`').skip(1).step_by(2);
    let written = names.next()?;
    let known: Vec<&str> = names.collect();
    let synonym = SYNONYMS
        .iter()
        .find(|(other, name)| *other == written && known.contains(name));
    let near = synonym
        .map(|(_, name)| *name)
        .or_else(|| nearest(written, known.iter().copied()));
    let hint = match near {
        Some(near) => format!("did you mean {}?", quoted(near)),
        None => one_of(known),
    };
    let written = quoted(written);
    if message.starts_with("unknown field ") {
        Some(Said::with_hint(format!("unknown setting {written}"), hint))
    } else if message.starts_with("unknown variant ") {
        Some(Said::with_hint(format!("unknown value {written}"), hint))
    } else if message.starts_with("duplicate field ") {
        let message = format!("duplicate setting {written}");
        Some(Said::with_hint(message, "remove one of the two"))
    } else {
        None
    }
}

/// `invalid type: X, expected Y` and `invalid value: X, expected Y`.
fn wrong_kind(message: &str) -> Option<Said> {
    let rest = message
        .strip_prefix("invalid type: ")
        .or_else(|| message.strip_prefix("invalid value: "))?;
    // What was found may be any text, what was expected is ours.
    let (found, expected) = rest.rsplit_once(", expected ")?;
    let expected = match expected {
        "a boolean" => "true or false",
        "a string" | "a borrowed string" => "text",
        _ if expected.starts_with("struct ") => "a map",
        _ => expected,
    };
    let message = format!("expected {expected}, found {}", described(found));
    Some(match hint(found, expected) {
        Some(hint) => Said::with_hint(message, hint),
        None => message.into(),
    })
}

/// What serde calls ``integer `5` `` or `string "a"`.
fn described(found: &str) -> String {
    if let Some(text) = text_of(found) {
        return format!("the text {}", quoted(text));
    }
    let value = found.split('`').nth(1).unwrap_or_default();
    match found.split('`').next().unwrap_or_default().trim() {
        "boolean" => format!("the boolean {value}"),
        "integer" | "floating point" => format!("the number {value}"),
        "map" => "a map".to_owned(),
        "sequence" => "a list".to_owned(),
        "unit value" | "Option value" => "nothing".to_owned(),
        _ => found.to_owned(),
    }
}

fn hint(found: &str, expected: &str) -> Option<&'static str> {
    if expected == "a map" {
        return (found == "sequence").then_some("write `NAME: VALUE` without a dash before it");
    }
    if expected != "true or false" {
        return None;
    }
    let written = text_of(found)
        .or_else(|| found.split('`').nth(1))
        .unwrap_or_default();
    match written.to_ascii_lowercase().as_str() {
        // Without quotes it would have been read as one.
        "true" if written == "true" => Some("remove the quotes"),
        "false" if written == "false" => Some("remove the quotes"),
        "yes" | "y" | "on" | "1" | "true" => Some("write true"),
        "no" | "n" | "off" | "0" | "false" => Some("write false"),
        _ => None,
    }
}

fn text_of(found: &str) -> Option<&str> {
    found.strip_prefix("string \"")?.strip_suffix('"')
}

/// Other programs' names for what a setting can be.
const SYNONYMS: &[(&str, &str)] = &[
    ("critical", "error"),
    ("fatal", "error"),
    ("notice", "info"),
    ("verbose", "debug"),
    ("warning", "warn"),
];
