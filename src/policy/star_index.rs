//! Finds the first of many patterns that matches a value, without trying each.
//!
//! A pattern with one star is a prefix and a suffix. All prefixes that a value starts with are found in
//! one pass over it, and for each of them, in a second pass from the end, the suffixes of its
//! patterns. Patterns with more stars are tried one by one; the configuration limits their number.

use super::pattern::Pattern;
use super::radix::RadixTree;

/// The values of one key that have stars, by their places in the file.
#[derive(Debug)]
pub(super) struct StarIndex {
    one_star: RadixTree<Suffixes>,
    /// Places of the patterns with more stars, in file order.
    several: Vec<u32>,
}

/// The patterns of one prefix: the first place of each suffix.
#[derive(Debug)]
struct Suffixes {
    /// That without a suffix.
    bare: Option<u32>,
    /// The others, by their suffix read backwards.
    reversed: Option<RadixTree<u32>>,
    /// The least place of all.
    first: u32,
}

impl StarIndex {
    /// Indexes patterns that come in file order.
    pub(super) fn new<'p>(
        count: usize,
        patterns: impl Iterator<Item = (u32, &'p Pattern)>,
    ) -> Self {
        let mut index = Self {
            one_star: RadixTree::with_room_for(count),
            several: Vec::new(),
        };
        for (place, pattern) in patterns {
            match pattern.around_one_star() {
                Some((prefix, suffix)) => index.insert(prefix, suffix, place),
                None => index.several.push(place),
            }
        }
        index
    }

    fn insert(&mut self, prefix: &[u8], suffix: &[u8], place: u32) {
        self.one_star.update(prefix, |suffixes| {
            let suffixes = suffixes.get_or_insert(Suffixes {
                bare: None,
                reversed: None,
                first: place,
            });
            // Those that come later never match before.
            if suffix.is_empty() {
                suffixes.bare.get_or_insert(place);
            } else {
                let none = || RadixTree::with_room_for(1);
                let tree = suffixes.reversed.get_or_insert_with(none);
                let reversed: Vec<u8> = suffix.iter().rev().copied().collect();
                tree.update(&reversed, |first| {
                    first.get_or_insert(place);
                });
            }
        });
    }

    /// The place of the first pattern that matches `value`; `matches` tries one.
    pub(super) fn find(&self, value: &[u8], matches: impl Fn(u32) -> bool) -> Option<u32> {
        let mut best = u32::MAX;
        self.one_star
            .prefixes(value.iter().copied(), |length, suffixes| {
                if suffixes.first >= best {
                    return;
                }
                best = suffixes.bare.map_or(best, |place| place.min(best));
                if let (Some(tree), Some(rest)) = (&suffixes.reversed, value.get(length..)) {
                    // The suffix does not overlap the prefix.
                    tree.prefixes(rest.iter().rev().copied(), |_, place| {
                        best = best.min(*place);
                    });
                }
            });
        let earlier = self.several.iter().take_while(|place| **place < best);
        let tried = earlier.copied().find(|place| matches(*place));
        tried.or_else(|| (best < u32::MAX).then_some(best))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn finds_what_trying_each_finds(
            patterns in prop::collection::vec("[ab*]{0,3}\\*[ab*]{0,3}", 0..40),
            value in "[ab]{0,8}",
        ) {
            let patterns: Vec<_> = patterns.iter().map(|text| Pattern::new(text)).collect();
            let index = StarIndex::new(patterns.len(), (0..).zip(&patterns));
            let matches = |place: u32| patterns[place as usize].matches(value.as_bytes());
            let wanted = (0..).take(patterns.len()).find(|place| matches(*place));
            prop_assert_eq!(index.find(value.as_bytes(), matches), wanted);
        }
    }
}
