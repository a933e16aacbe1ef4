//! Patterns that can never match: an earlier one of their level takes everything that they would.
//!
//! Which one wins is for `policy` to know: at a level, the first pattern in file order wins over
//! later ones, and any pattern over a descriptor for the key alone. (A request that carries the text
//! of a pattern, star and all, reaches it nevertheless; nobody means that.)

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use crate::config::report::{Pos, Said};
use crate::config::suggest::quoted;

/// The patterns of a level so far, and the keys that stand alone.
#[derive(Debug, Default)]
pub(super) struct Patterns<'t> {
    /// Those that take every value of a key.
    whole_keys: HashMap<&'t str, Place<'t>>,
    others: Vec<Pattern<'t>>,
    keys_alone: HashMap<&'t str, Place<'t>>,
}

/// Where a descriptor stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'t> {
    pub(super) file: &'t Arc<str>,
    pub(super) pos: Pos,
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.pos.line, self.pos.column)
    }
}

#[derive(Debug)]
struct Pattern<'t> {
    key: &'t str,
    /// Empty for any.
    value: &'t str,
    place: Place<'t>,
}

impl<'t> Patterns<'t> {
    /// Adds a descriptor, and says if it, or one before it, can never match. `budget` is how many
    /// comparisons may still be made.
    pub(super) fn add(
        &mut self,
        key: &'t str,
        value: &'t str,
        place: Place<'t>,
        budget: &mut u32,
    ) -> Option<Said> {
        let is_pattern = key.contains('*') || value.contains('*');
        if !is_pattern && !value.is_empty() {
            // An exact one wins over all.
            return None;
        }
        let covering = match self.whole_keys.get(key) {
            Some(place) => Some((String::from("*"), *place)),
            None => self.covering(key, value, budget),
        };
        let said = covering.map(|(pattern, place)| {
            let hint = if is_pattern {
                "move it above that one"
            } else {
                "a pattern wins over the key alone, wherever it stands"
            };
            let pattern = quoted(&pattern);
            let message = format!("can never match: the pattern {pattern} in {place} takes it all");
            Said::with_hint(message, hint)
        });
        let whole = is_whole(value) && !key.contains('*');
        let said = said.or_else(|| {
            let alone = self.keys_alone.get(key).filter(|_| whole)?;
            let message = format!("takes every value: the key alone, in {alone}, can never match");
            Some(Said::with_hint(message, "remove one of the two"))
        });
        if !is_pattern {
            self.keys_alone.entry(key).or_insert(place);
        } else if whole {
            self.whole_keys.entry(key).or_insert(place);
        } else {
            self.others.push(Pattern { key, value, place });
        }
        said
    }

    fn covering(&self, key: &str, value: &str, budget: &mut u32) -> Option<(String, Place<'t>)> {
        for earlier in &self.others {
            *budget = budget.checked_sub(1)?;
            let any_value = earlier.value.is_empty() || is_whole(earlier.value);
            if covers(earlier.key, key) && (any_value || covers(earlier.value, value)) {
                let text = if any_value {
                    earlier.key
                } else {
                    earlier.value
                };
                return Some((text.to_owned(), earlier.place));
            }
        }
        None
    }
}

/// Comparisons that are made for one domain: a warning is not worth more.
pub(super) const BUDGET: u32 = 50_000;

/// Longer texts are not compared.
const MAX_LEN: usize = 128;

fn is_whole(value: &str) -> bool {
    !value.is_empty() && value.bytes().all(|b| b == b'*')
}

/// Whether `pattern` matches everything that `other` does. It does exactly if it matches `other`
/// itself, its stars taken for plain characters: no piece of a pattern has a star in it, so only a
/// star of the pattern can take one, and it takes as well what that one stands for.
fn covers(pattern: &str, other: &str) -> bool {
    if pattern.len() > MAX_LEN || other.len() > MAX_LEN {
        return false;
    }
    let Some((prefix, rest)) = pattern.split_once('*') else {
        return pattern == other;
    };
    let (middle, suffix) = rest.rsplit_once('*').unwrap_or(("", rest));
    let between = other
        .strip_prefix(prefix)
        .and_then(|other| other.strip_suffix(suffix));
    let Some(mut between) = between else {
        return false;
    };
    middle
        .split('*')
        .all(|piece| match between.split_once(piece) {
            Some((_, after)) => {
                between = after;
                true
            }
            None => piece.is_empty(),
        })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Whether `pattern` matches `text`, by trying every split.
    fn matches(pattern: &[u8], text: &[u8]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some((b'*', rest)) => (0..=text.len()).any(|at| matches(rest, &text[at..])),
            Some((byte, rest)) => text.first() == Some(byte) && matches(rest, &text[1..]),
        }
    }

    /// Every text of up to five of these letters. One of them is in no pattern.
    fn texts() -> Vec<Vec<u8>> {
        let mut texts = vec![Vec::new()];
        for at in 0.. {
            let Some(text) = texts.get(at).filter(|text| text.len() < 5).cloned() else {
                return texts;
            };
            texts.extend(b"abz".map(|letter| [text.as_slice(), &[letter]].concat()));
        }
        texts
    }

    proptest! {
        #[test]
        fn one_covers_the_other_if_it_matches_all_that_the_other_does(
            pattern in "[ab*]{1,4}", other in "[ab*]{1,3}"
        ) {
            let all = texts();
            let mut of_other = all.iter().filter(|text| matches(other.as_bytes(), text));
            let expected = of_other.all(|text| matches(pattern.as_bytes(), text));
            prop_assert_eq!(covers(&pattern, &other), expected);
        }
    }
}
