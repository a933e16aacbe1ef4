//! `*` in a key or value: any bytes, also none, any number of times, anywhere.

use memchr::memmem::Finder;

/// Whether a descriptor's patterns can be found without trying each: the value has one star, or several in
/// a row, and the key none.
#[must_use]
pub fn is_indexed(key: &str, value: &str) -> bool {
    let stars = value.find(STAR).zip(value.rfind(STAR));
    let between = stars.and_then(|(first, last)| value.get(first..last));
    !key.contains(STAR) && between.is_none_or(|text| text.chars().all(|char| char == STAR))
}

/// The most descriptors of a level whose patterns have to be tried one by one: in a value of 8 kB, each takes
/// up to three microseconds.
pub const MAX_TRIED_PATTERNS: usize = 250;

const STAR: char = '*';

/// A text with stars, taken apart. Without a star it matches only itself.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    text: Box<[u8]>,
    pieces: Option<Pieces>,
}

/// What stands before, between and after the stars.
#[derive(Clone, Debug)]
struct Pieces {
    prefix: Box<[u8]>,
    /// Built once: a header of 50 kB is searched in microseconds, and a client does not get to
    /// choose otherwise.
    middle: Vec<Finder<'static>>,
    suffix: Box<[u8]>,
}

impl Pattern {
    pub(crate) fn new(text: &str) -> Self {
        let pieces: Vec<&[u8]> = text.as_bytes().split(|&byte| byte == b'*').collect();
        let pieces = match pieces.as_slice() {
            [prefix, middle @ .., suffix] => Some(Pieces {
                prefix: (*prefix).into(),
                middle: middle
                    .iter()
                    .map(|piece| Finder::new(piece).into_owned())
                    .collect(),
                suffix: (*suffix).into(),
            }),
            _ => None,
        };
        Self {
            text: text.as_bytes().into(),
            pieces,
        }
    }

    /// What the operator wrote.
    pub(crate) fn text(&self) -> &[u8] {
        &self.text
    }

    pub(crate) fn is_literal(&self) -> bool {
        self.pieces.is_none()
    }

    /// What stands before and after the star, if there is one and no more. Stars in a row are one.
    pub(crate) fn around_one_star(&self) -> Option<(&[u8], &[u8])> {
        let pieces = self.pieces.as_ref()?;
        let is_one = pieces.middle.iter().all(|piece| piece.needle().is_empty());
        is_one.then_some((&*pieces.prefix, &*pieces.suffix))
    }

    /// Case-sensitive, byte by byte. Prefix and suffix may not overlap; the pieces between them
    /// are found from left to right, which finds a match whenever there is one.
    pub(crate) fn matches(&self, text: &[u8]) -> bool {
        let Some(Pieces {
            prefix,
            middle,
            suffix,
        }) = &self.pieces
        else {
            return *self.text == *text;
        };
        let rest = text
            .strip_prefix(&**prefix)
            .and_then(|rest| rest.strip_suffix(&**suffix));
        let Some(mut rest) = rest else {
            return false;
        };
        for piece in middle {
            let after = piece
                .find(rest)
                .map(|at| at.saturating_add(piece.needle().len()));
            match after.and_then(|after| rest.get(after..)) {
                Some(after) => rest = after,
                None => return false,
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_star_in_the_value_is_indexed() {
        for (key, value, wanted) in [
            ("a", "", true),
            ("a", "b", true),
            ("a", "*", true),
            ("a", "b*c", true),
            ("a", "b**", true),
            ("a", "*b*", false),
            ("a*", "b*", false),
            ("a*", "", false),
        ] {
            assert_eq!(is_indexed(key, value), wanted, "{key} {value}");
            if value.contains(STAR) && !key.contains(STAR) {
                assert_eq!(Pattern::new(value).around_one_star().is_some(), wanted);
            }
        }
    }

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
