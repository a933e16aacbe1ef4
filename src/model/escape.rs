//! Text from outside, made safe for terminals and logs.
//!
//! Arguments, file names, policies, requests and the answers of servers may hold control characters
//! that move a terminal's cursor, recolour or hide what was printed, or begin a line that looks like
//! one of ours. They are shown as JSON writes them (`\u001b`, `\r`), so text that is JSON stays JSON.

use std::borrow::Cow;
use std::fmt::Write as _;

/// `text` with every control character escaped but line breaks: for output of several lines.
#[must_use]
pub fn escaped(text: &str) -> Cow<'_, str> {
    escape(text, |c| c != '\n' && is_unsafe(c))
}

/// `text` with every control character escaped, line breaks too: for a part of a line.
#[must_use]
pub fn one_line(text: &str) -> Cow<'_, str> {
    escape(text, is_unsafe)
}

fn escape(text: &str, is_escaped: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&is_escaped) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            _ if !is_escaped(c) => shown.push(c),
            '\n' => shown.push_str("\\n"),
            '\r' => shown.push_str("\\r"),
            '\t' => shown.push_str("\\t"),
            // Writing to a string cannot fail. All of them are below U+10000.
            _ => {
                let _infallible = write!(shown, "\\u{:04x}", u32::from(c));
            }
        }
    }
    Cow::Owned(shown)
}

/// Control characters (C0, DEL, C1), line and paragraph separators, and what changes the direction
/// of writing, which shows text in another order than it has.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{061c}'
                | '\u{200e}'
                | '\u{200f}'
                | '\u{2028}'
                | '\u{2029}'
                | '\u{202a}'..='\u{202e}'
                | '\u{2066}'..='\u{2069}'
        )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn control_characters_are_shown_and_plain_text_is_left_alone() {
        assert_eq!(
            escaped("a\u{1b}[31mb\r\n\u{9b}c"),
            "a\\u001b[31mb\\r\n\\u009bc"
        );
        assert_eq!(one_line("a\nb\t\u{7f}\u{202e}"), "a\\nb\\t\\u007f\\u202e");
        assert!(matches!(one_line("größe 中文 \\"), Cow::Borrowed(_)));
    }

    proptest! {
        #[test]
        fn nothing_that_a_terminal_obeys_is_left(text in any::<String>()) {
            prop_assert!(!one_line(&text).contains(is_unsafe));
            prop_assert_eq!(escaped(&text).matches('\n').count(), text.matches('\n').count());
        }

        #[test]
        fn json_stays_the_same_json(text in any::<String>()) {
            let json = serde_json::to_string_pretty(&[&text]).unwrap();
            let back: Vec<String> = serde_json::from_str(&escaped(&json)).unwrap();
            prop_assert_eq!(&back[0], &text);
        }
    }
}
