//! Words for people: what they may have meant, and what they wrote, on one line.

pub(super) use crate::model::nearest;

/// `text` in double quotes, on one line and not too long.
pub(super) fn quoted(text: &str) -> String {
    let mut shown = String::from("\"");
    for (count, c) in text.chars().enumerate() {
        if count == MAX_SHOWN {
            shown.push_str("...");
            break;
        }
        shown.extend(c.escape_debug());
    }
    shown.push('"');
    shown
}

/// `a, b or c`.
pub(super) fn one_of<'c>(words: impl IntoIterator<Item = &'c str>) -> String {
    let words: Vec<&str> = words.into_iter().collect();
    match words.split_last() {
        None => String::new(),
        Some((last, [])) => (*last).to_owned(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
    }
}

const MAX_SHOWN: usize = 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_shown_on_one_line() {
        assert_eq!(quoted("a\n\"b\"\u{7}"), "\"a\\n\\\"b\\\"\\u{7}\"");
        assert_eq!(quoted("größe"), "\"größe\"");
        assert_eq!(quoted(&"x".repeat(100)).len(), 60 + 5);
    }

    #[test]
    fn choices_read_as_a_sentence() {
        assert_eq!(one_of(["a", "b", "c"]), "a, b or c");
        assert_eq!(one_of(["a"]), "a");
        assert_eq!(one_of([]), "");
    }
}
