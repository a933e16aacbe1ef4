//! Words for people: what they may have meant, and what they wrote, on one line.

/// The candidate that `written` is most likely a slip for, if any is near enough.
pub(super) fn nearest<'c>(
    written: &str,
    candidates: impl IntoIterator<Item = &'c str>,
) -> Option<&'c str> {
    if written.len() > MAX_WORD {
        return None;
    }
    let folded = fold(written);
    let allowed = match folded.chars().count() {
        0..=2 => 0,
        3..=4 => 1,
        5..=8 => 2,
        _ => 3,
    };
    candidates
        .into_iter()
        .take(MAX_CANDIDATES)
        .filter(|candidate| candidate.len() <= MAX_WORD)
        .map(|candidate| (distance(&folded, &fold(candidate)), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

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

/// Case and separators are the commonest slips, so they count for nothing.
fn fold(word: &str) -> String {
    word.chars()
        .filter(|c| !matches!(c, '_' | '-' | ' ' | '.'))
        .flat_map(char::to_lowercase)
        .collect()
}

fn distance(a: &str, b: &str) -> usize {
    strsim::damerau_levenshtein(a, b)
}

/// Longer texts and further candidates would only cost time.
const MAX_WORD: usize = 64;
const MAX_CANDIDATES: usize = 1000;
const MAX_SHOWN: usize = 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_find_the_word_that_was_meant() {
        let units = ["second", "minute", "hour", "day"];
        assert_eq!(nearest("minutes", units), Some("minute"));
        assert_eq!(nearest("Minuet", units), Some("minute"));
        assert_eq!(nearest("huor", units), Some("hour"));
        assert_eq!(nearest("fortnight", units), None);
        assert_eq!(nearest("", units), None);
        assert_eq!(
            nearest("ratelimit", ["key", "rate_limit"]),
            Some("rate_limit")
        );
    }

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
