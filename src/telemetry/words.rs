//! Numbers for the few words that say how something ended. They are not listed here, for they are
//! others'; each takes the first free place when it is seen first, and keeps it.

use std::sync::OnceLock;

/// At most `N` words; the last place is for all that found none.
pub(super) struct Words<const N: usize>([OnceLock<&'static str>; N]);

impl<const N: usize> Default for Words<N> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| OnceLock::new()))
    }
}

impl<const N: usize> Words<N> {
    /// The place of a word, and the word that stands there.
    pub(super) fn place(&self, word: &'static str) -> (usize, &'static str) {
        let last = N.saturating_sub(1);
        let mut places = self.0.iter().take(last).enumerate();
        let found = places.find(|(_, place)| *place.get_or_init(|| word) == word);
        found.map_or((last, OTHERS), |(place, _)| (place, word))
    }

    /// What stands where, as far as is known.
    pub(super) fn known(&self) -> impl Iterator<Item = &'static str> {
        let named = self.0.iter().map_while(|place| place.get().copied());
        named.chain([OTHERS])
    }
}

/// What stands for words that found no place.
pub(super) const OTHERS: &str = "(other)";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_take_places_as_they_come_and_the_rest_share_one() {
        let words = Words::<4>::default();
        for _ in 0..2 {
            assert_eq!(words.place("ok"), (0, "ok"));
            assert_eq!(words.place("timeout"), (1, "timeout"));
            assert_eq!(words.place("refused"), (2, "refused"));
            assert_eq!(words.place("loading"), (3, OTHERS));
            assert_eq!(words.place("oom"), (3, OTHERS));
        }
        let known: Vec<&str> = words.known().collect();
        assert_eq!(known, ["ok", "timeout", "refused", OTHERS]);
    }

    #[test]
    fn threads_that_see_a_word_first_at_the_same_time_agree_on_its_place() {
        let words = Words::<8>::default();
        let all = ["ok", "timeout", "refused", "loading"];
        let seen: Vec<[usize; 4]> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|start| {
                    let words = &words;
                    scope.spawn(move || {
                        let mut places = [0; 4];
                        for turn in 0..4_000 {
                            let word = (start + turn) % 4;
                            places[word] = words.place(all[word]).0;
                        }
                        places
                    })
                })
                .collect();
            threads.into_iter().map(|one| one.join().unwrap()).collect()
        });
        assert!(seen.iter().all(|places| *places == seen[0]), "{seen:?}");
    }
}
