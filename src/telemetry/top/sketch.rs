//! The keys that come most often, in bounded memory: Metwally's space-saving.
//!
//! A sketch counts [`ENTRIES`] keys. A key that comes when all places are taken takes that of the
//! one with the fewest, and its count, which is remembered as the error. So of N keys noted
//! - no count is too low, and none is too high by more than its error;
//! - no error is above N / [`ENTRIES`];
//! - a key that came more often than that has a place.
//!
//! Several sketches (of cores, of minutes) are [merged](Merged) by adding up: a key that is in some
//! of them only may have been in the others as often as their fewest.

use std::collections::HashMap;

/// One sketch. Its memory is kept when it is cleared.
#[derive(Debug, Default)]
pub(super) struct Sketch {
    used: usize,
    /// Of the keys, in the order of the entries: what is looked through.
    hashes: Vec<u64>,
    entries: Vec<Entry>,
}

/// A key and how often it came.
#[derive(Clone, Debug, Default)]
struct Entry {
    /// Never less than it was.
    count: u64,
    /// By how much it may be too high.
    error: u64,
    key: Vec<u8>,
}

impl Sketch {
    /// A key came. `hash` is the same for the same key.
    pub(super) fn note(&mut self, hash: u64, key: &[u8]) {
        let key = key.get(..MAX_KEY_LEN).unwrap_or(key);
        let known = self.hashes.iter().zip(&mut self.entries).take(self.used);
        for (known, entry) in known {
            if *known == hash && entry.key == key {
                entry.count = entry.count.saturating_add(1);
                return;
            }
        }
        let (place, error) = if self.used < ENTRIES {
            let place = self.used;
            if place == self.entries.len() {
                self.hashes.push(hash);
                self.entries.push(Entry::default());
            }
            self.used = place.saturating_add(1);
            (place, 0)
        } else {
            self.fewest()
        };
        if let Some(known) = self.hashes.get_mut(place)
            && let Some(entry) = self.entries.get_mut(place)
        {
            *known = hash;
            entry.count = error.saturating_add(1);
            entry.error = error;
            // The old key's memory serves the new one.
            entry.key.clear();
            entry.key.extend_from_slice(key);
        }
    }

    /// Whether nothing came.
    pub(super) fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Forgets what came.
    pub(super) fn clear(&mut self) {
        self.used = 0;
    }

    /// The entry with the fewest, and how many that are.
    fn fewest(&self) -> (usize, u64) {
        let counts = self.entries.iter().take(self.used).map(|entry| entry.count);
        let fewest = counts.enumerate().min_by_key(|(_, count)| *count);
        fewest.unwrap_or_default()
    }

    /// How often a key may have come that has no place.
    fn unseen(&self) -> u64 {
        match self.used < ENTRIES {
            true => 0,
            false => self.fewest().1,
        }
    }
}

/// What several sketches know together.
#[derive(Debug, Default)]
pub(super) struct Merged {
    /// How often a key may have come that is in none of them.
    unseen: u64,
    keys: HashMap<Vec<u8>, Known>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Known {
    count: u64,
    error: u64,
    /// Of the sketches that have it, what a key without a place may have come.
    unseen: u64,
}

impl Merged {
    /// Takes one more into account.
    pub(super) fn add(&mut self, sketch: &Sketch) {
        let unseen = sketch.unseen();
        self.unseen = self.unseen.saturating_add(unseen);
        for entry in sketch.entries.iter().take(sketch.used) {
            let known = self.keys.entry(entry.key.clone()).or_default();
            known.count = known.count.saturating_add(entry.count);
            known.error = known.error.saturating_add(entry.error);
            known.unseen = known.unseen.saturating_add(unseen);
        }
    }

    /// Each key with how often it came at most and at least.
    pub(super) fn keys(self) -> impl Iterator<Item = (Vec<u8>, u64, u64)> {
        let all = self.unseen;
        self.keys.into_iter().map(move |(key, known)| {
            let elsewhere = all.saturating_sub(known.unseen);
            let at_least = known.count.saturating_sub(known.error);
            (key, known.count.saturating_add(elsewhere), at_least)
        })
    }
}

/// Keys that a sketch counts.
pub(super) const ENTRIES: usize = 32;

/// Longest key that is kept; no counter's name is longer.
const MAX_KEY_LEN: usize = crate::model::Key::MAX_LEN;

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// Hashes of a few bits, so that keys with the same one are common.
    fn note(sketch: &mut Sketch, key: u16) {
        sketch.note(u64::from(key % 8), &key.to_le_bytes());
    }

    fn top(merged: Merged) -> HashMap<Vec<u8>, (u64, u64)> {
        let keys = merged.keys();
        keys.map(|(key, at_most, at_least)| (key, (at_most, at_least)))
            .collect()
    }

    proptest! {
        #[test]
        fn counts_are_bounded_and_frequent_keys_are_there(
            // Some keys come often, most seldom.
            sketches in vec(vec(prop_oneof![0_u16..6, 0_u16..40, 0_u16..2_000], 0..1_500), 1..5)
        ) {
            let mut merged = Merged::default();
            let mut truth: HashMap<u16, u64> = HashMap::new();
            let mut noted = 0;
            for keys in &sketches {
                let mut sketch = Sketch::default();
                for key in keys {
                    note(&mut sketch, *key);
                    *truth.entry(*key).or_default() += 1;
                    noted += 1;
                }
                merged.add(&sketch);
            }
            let top = top(merged);
            prop_assert!(top.len() <= ENTRIES * sketches.len());
            let bound = noted / u64::try_from(ENTRIES).unwrap();
            for (key, count) in truth {
                match top.get(&key.to_le_bytes()[..]) {
                    Some(&(at_most, at_least)) => {
                        prop_assert!(at_least <= count && count <= at_most);
                        prop_assert!(at_most - at_least <= bound, "{at_most} {at_least} {bound}");
                    }
                    None => prop_assert!(count <= bound, "{key} came {count} times of {noted}"),
                }
            }
        }
    }

    #[test]
    fn a_few_keys_are_counted_exactly_and_clearing_forgets_them() {
        let mut sketch = Sketch::default();
        for round in 0..2 {
            for key in 0..32 {
                for _ in 0..=key {
                    note(&mut sketch, key + round);
                }
            }
            let mut merged = Merged::default();
            merged.add(&sketch);
            let top = top(merged);
            assert_eq!(top.len(), 32);
            for key in 0..32 {
                let count = u64::from(key) + 1;
                assert_eq!(top[&(key + round).to_le_bytes()[..]], (count, count));
            }
            sketch.clear();
        }
    }

    #[test]
    fn a_key_is_cut_to_its_longest() {
        let mut sketch = Sketch::default();
        sketch.note(1, &[b'a'; 300]);
        let mut merged = Merged::default();
        merged.add(&sketch);
        assert_eq!(merged.keys().next(), Some((vec![b'a'; 200], 1, 1)));
    }
}
