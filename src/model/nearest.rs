//! What people may have meant by a word that is none.

use crate::pace;

/// The candidate that `written` is most likely a slip for, if any is near enough.
#[must_use]
pub fn nearest<'c>(
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
    pace::each(candidates)
        .take(MAX_CANDIDATES)
        .filter(|candidate| candidate.len() <= MAX_WORD)
        .map(|candidate| (distance(&folded, &fold(candidate)), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
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
}
