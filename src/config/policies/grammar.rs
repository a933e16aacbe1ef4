//! Mistakes of grammar: what the parser says, with what is mostly behind it.

use crate::config::report::{Pos, Said};
use crate::config::suggest::quoted;

/// What to say of `info`, which the parser said at `pos` of `text`.
pub(super) fn explain(info: &str, text: &str, pos: Pos) -> Said {
    // It says "double-quoted" of either kind.
    let info = info.replace("double-quoted", "quoted");
    let message = format!("not YAML: {info}");
    if info.contains(MISPLACED_COLON) {
        return Said::with_hint(message, misplaced_colon(text, pos));
    }
    let hint = HINTS.iter().find(|(part, _)| info.contains(part));
    match hint {
        Some((_, hint)) => Said::with_hint(message, *hint),
        None => message.into(),
    }
}

/// A colon where none can be: the second of its line, or the first after a line whose own colon
/// was not read as one.
fn misplaced_colon(text: &str, pos: Pos) -> String {
    let before = usize::try_from(pos.line).unwrap_or(usize::MAX);
    let (mut here, mut above) = ("", "");
    for line in text.lines().take(before) {
        let line = line.trim();
        if !here.is_empty() {
            above = here;
        }
        if !line.starts_with('#') {
            here = line;
        }
    }
    if here.matches(": ").count() > 1 {
        return "quote a text that has `: ` in it".to_owned();
    }
    let above = above.strip_prefix("- ").unwrap_or(above);
    match above.split_once(':') {
        Some((key, value))
            if !key.contains(' ') && !value.starts_with(' ') && !value.is_empty() =>
        {
            format!("put a space after the colon of {}", quoted(above))
        }
        _ => "check the indentation of this line against the one above".to_owned(),
    }
}

const MISPLACED_COLON: &str = "mapping values are not allowed";

const HINTS: &[(&str, &str)] = &[
    (
        "anchor",
        "quote a text that begins with `*` or `&`: without quotes it is an alias or an anchor",
    ),
    ("tab", "indent with spaces"),
    (
        "valid YAML whitespace",
        "put a space, not a tab, after the colon",
    ),
    (
        "trailing content after quoted scalar",
        "nothing may follow the closing quote; inside '...' a quote is written twice",
    ),
    (
        "quoted scalar",
        "a quote may not be closed, or its text goes on at too little indentation",
    ),
    ("unexpected character", "quote a text that begins with it"),
    (
        "invalid indentation",
        "what is inside brackets is indented deeper than what they belong to",
    ),
    (
        "did not find expected '-'",
        "check the indentation of this line against the one above",
    ),
    (
        "simple key expect ':'",
        "a key needs a colon and a space after it; look at the line above, too",
    ),
];
