//! `*` in a key or value: any bytes, also none, any number of times, anywhere.

/// A text with stars, taken apart. Without a star it matches only itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern {
    text: Box<[u8]>,
    /// The pieces between the stars; one piece is a text without stars.
    pieces: Vec<Box<[u8]>>,
}

impl Pattern {
    pub(crate) fn new(text: &str) -> Self {
        Self {
            text: text.as_bytes().into(),
            pieces: text
                .split('*')
                .map(|piece| piece.as_bytes().into())
                .collect(),
        }
    }

    /// What the operator wrote.
    pub(crate) fn text(&self) -> &[u8] {
        &self.text
    }

    pub(crate) fn is_literal(&self) -> bool {
        self.pieces.len() <= 1
    }

    /// Case-sensitive, byte by byte. Prefix and suffix may not overlap; the pieces between them
    /// are found from left to right, which finds a match whenever there is one.
    pub(crate) fn matches(&self, text: &[u8]) -> bool {
        let [prefix, middle @ .., suffix] = self.pieces.as_slice() else {
            return *self.text == *text;
        };
        let Some(mut rest) = text
            .strip_prefix(&**prefix)
            .and_then(|rest| rest.strip_suffix(&**suffix))
        else {
            return false;
        };
        for piece in middle {
            match find(rest, piece) {
                Some(after) => rest = after,
                None => return false,
            }
        }
        true
    }
}

/// What follows the first `piece` in `text`. Linear in practice and never worse than the product;
/// `memchr`'s searcher would need building for each pattern, and middle pieces are short.
fn find<'a>(text: &'a [u8], piece: &[u8]) -> Option<&'a [u8]> {
    if piece.is_empty() {
        return Some(text);
    }
    let at = text
        .windows(piece.len())
        .position(|window| window == piece)?;
    text.get(at.saturating_add(piece.len())..)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, text: &str) -> bool {
        Pattern::new(pattern).matches(text.as_bytes())
    }

    #[test]
    fn a_star_stands_for_any_bytes_or_none() {
        assert!(matches("/api/*", "/api/"));
        assert!(matches("/api/*", "/api/v1/users"));
        assert!(!matches("/api/*", "/ap"));
        assert!(matches("*.html", "index.html"));
        assert!(matches("a*b*c", "aXbYc"));
        assert!(matches("a*b*c", "abc"));
        assert!(!matches("a*b*c", "acb"));
        assert!(matches("*", ""));
        assert!(matches("**", "x"));
    }

    #[test]
    fn prefix_and_suffix_do_not_overlap() {
        assert!(!matches("ab*ba", "aba"));
        assert!(matches("ab*ba", "abba"));
    }

    #[test]
    fn case_and_slashes_are_ordinary() {
        assert!(!matches("A*", "ab"));
        assert!(matches("a*c", "a/b/c"));
    }

    /// The obviously right way, which tries every split.
    fn naive(pattern: &[u8], text: &[u8]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some((b'*', rest)) => (0..=text.len()).any(|at| naive(rest, &text[at..])),
            Some((byte, rest)) => text.first() == Some(byte) && naive(rest, &text[1..]),
        }
    }

    proptest! {
        #[test]
        fn agrees_with_trying_every_split(pattern in "[ab*]{0,7}", text in "[ab]{0,9}") {
            prop_assert_eq!(
                Pattern::new(&pattern).matches(text.as_bytes()),
                naive(pattern.as_bytes(), text.as_bytes())
            );
        }
    }
}
