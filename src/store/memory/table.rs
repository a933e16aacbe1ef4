//! A shard's own counters: a dense list of entries and an index over it.
//!
//! The memory per key stays near an entry's size; the index holds 4-byte positions. A shard has
//! some 4,000 keys, so rehashing the index and sweeping the entries take well under a millisecond.

use hashbrown::HashTable;

use super::fingerprint::Fingerprint;
use super::slab::Slab;
use super::state::State;
use crate::algorithm::Counter;
use crate::clock::Timestamp;
use crate::model::{Quota, RuleId};

/// One key's counter.
#[derive(Debug)]
pub(super) struct Entry {
    print: Fingerprint,
    tag: Tag,
    state: State,
}

/// A rule, and when the entry's state equals a fresh one again: in one word, so that an entry takes 64
/// bytes. The time has 44 bits, which is until the year 2527.
#[derive(Clone, Copy, Debug)]
struct Tag(u64);

impl Tag {
    /// An entry that was never charged.
    const fn new(rule: RuleId) -> Self {
        Self::with_expiry(rule, NEVER)
    }

    const fn with_expiry(rule: RuleId, at: Timestamp) -> Self {
        let millis = match at.as_millis() {
            u64::MAX => MAX_MILLIS,
            // What lasts longer is looked at again then.
            millis if millis >= MAX_MILLIS => MAX_MILLIS - 1,
            millis => millis,
        };
        Self(millis << RuleId::BITS | rule.bits() as u64)
    }

    const fn rule(self) -> RuleId {
        // The lowest bits are all that count.
        RuleId::from_bits((self.0 & 0xffff_ffff) as u32)
    }

    /// From then on the state equals a fresh one.
    const fn expires_at(self) -> Timestamp {
        match self.0 >> RuleId::BITS {
            MAX_MILLIS => NEVER,
            millis => Timestamp::from_millis(millis),
        }
    }
}

/// The largest time that fits; it stands for [`NEVER`].
const MAX_MILLIS: u64 = u64::MAX >> RuleId::BITS;

/// What left the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Removed {
    pub(super) entries: usize,
    pub(super) log_members: usize,
}

#[derive(Debug)]
pub(super) struct Table {
    entries: Slab<Entry>,
    index: HashTable<u32>,
    /// No entry expires before.
    earliest: Timestamp,
    /// What the states have allocated.
    heap: usize,
}

impl Table {
    pub(super) const fn new() -> Self {
        Self {
            entries: Slab::new(),
            index: HashTable::new(),
            earliest: NEVER,
            heap: 0,
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.entries.len()
    }

    /// No entry expires before this time.
    pub(super) const fn earliest(&self) -> Timestamp {
        self.earliest
    }

    pub(super) fn bytes(&self) -> usize {
        self.entries.bytes() + self.index.allocation_size() + self.heap
    }

    /// The position of a key's entry; good until something is removed.
    pub(super) fn find(&self, print: Fingerprint) -> Option<usize> {
        let is_it = |&at: &u32| {
            let entry = self.entries.get(position(at));
            entry.is_some_and(|entry| entry.print == print)
        };
        self.index.find(print.table, is_it).map(|&at| position(at))
    }

    /// Returns the fingerprint of the key at this position.
    pub(super) fn fingerprint(&self, at: usize) -> Option<Fingerprint> {
        self.entries.get(at).map(|entry| entry.print)
    }

    pub(super) fn state(&self, at: usize) -> Option<&State> {
        self.entries.get(at).map(|entry| &entry.state)
    }

    /// Whether an entry never changed, or has expired.
    pub(super) fn is_void(&self, at: usize, now: Timestamp) -> bool {
        let entry = self.entries.get(at);
        let expires_at = entry.map(|entry| entry.tag.expires_at());
        expires_at.is_some_and(|at| at == NEVER || at <= now)
    }

    /// Adds a key that is not there yet. Positions of other entries stay.
    pub(super) fn insert(&mut self, print: Fingerprint, rule: RuleId, state: State) -> usize {
        self.heap += state.heap_bytes();
        let at = self.entries.push(Entry {
            print,
            tag: Tag::new(rule),
            state,
        });
        let entries = &self.entries;
        self.index
            .insert_unique(print.table, short(at), |&at| hash_at(entries, at));
        at
    }

    /// Changes an entry's state; `change` returns when it then expires. Tells whether the state
    /// takes more or less memory now.
    pub(super) fn update(
        &mut self,
        at: usize,
        change: impl FnOnce(&mut State) -> Timestamp,
    ) -> bool {
        let Some(entry) = self.entries.get_mut(at) else {
            return false;
        };
        let before = entry.state.heap_bytes();
        let expires_at = change(&mut entry.state);
        entry.tag = Tag::with_expiry(entry.tag.rule(), expires_at);
        let after = entry.state.heap_bytes();
        self.heap = (self.heap + after).saturating_sub(before);
        self.earliest = self.earliest.min(expires_at);
        before != after
    }

    /// Lets an entry that did not change stay until it has faded by this quota too: its refill may
    /// have been slowed down since it was charged. Only a bucket's expiry depends on that.
    pub(super) fn outlast(&mut self, at: usize, quota: &Quota, now: Timestamp) {
        if let Some(entry) = self.entries.get_mut(at)
            && let State::Bucket(bucket) = &entry.state
            && quota.limit() > 0
            && entry.tag.expires_at() > now
        {
            let expires_at = entry.tag.expires_at().max(bucket.falls_to(quota, 0, now));
            entry.tag = Tag::with_expiry(entry.tag.rule(), expires_at);
        }
    }

    /// Takes a key out. The last entry moves to its place.
    pub(super) fn remove(&mut self, print: Fingerprint) -> Removed {
        let entries = &self.entries;
        let found = self.index.find_entry(print.table, |&at| {
            let entry = entries.get(position(at));
            entry.is_some_and(|entry| entry.print == print)
        });
        let Ok(found) = found else {
            return Removed::default();
        };
        let (hole, _) = found.remove();
        let Some(gone) = self.entries.swap_remove(position(hole)) else {
            return Removed::default();
        };
        let last = self.entries.len();
        if let Some(moved) = self.entries.get(position(hole))
            && let Some(at) = self
                .index
                .find_mut(moved.print.table, |&at| position(at) == last)
        {
            *at = hole;
        }
        self.heap = self.heap.saturating_sub(gone.state.heap_bytes());
        Removed {
            entries: 1,
            log_members: gone.state.log_members(),
        }
    }

    /// The rule of each key.
    pub(super) fn rules(&self) -> impl Iterator<Item = RuleId> {
        self.entries.iter().map(|entry| entry.tag.rule())
    }

    /// The rule of the key at this position.
    pub(super) fn rule(&self, at: usize) -> Option<RuleId> {
        self.entries.get(at).map(|entry| entry.tag.rule())
    }

    /// Drops what has expired, and gives back memory that lies idle.
    pub(super) fn sweep(&mut self, now: Timestamp) -> Removed {
        let mut removed = Removed::default();
        if self.earliest <= now {
            removed = self.drop_expired(now);
        }
        self.entries.shrink();
        if self.entries.len() < self.index.capacity() / 4 {
            let entries = &self.entries;
            self.index
                .shrink_to(entries.len(), |&at| hash_at(entries, at));
        }
        removed
    }

    fn drop_expired(&mut self, now: Timestamp) -> Removed {
        let mut removed = Removed::default();
        self.earliest = NEVER;
        // From the end, so that the entry that fills a hole has been looked at.
        for at in (0..self.entries.len()).rev() {
            let Some(entry) = self.entries.get(at) else {
                continue;
            };
            let expires_at = entry.tag.expires_at();
            if expires_at > now {
                self.earliest = self.earliest.min(expires_at);
            } else if let Some(gone) = self.entries.swap_remove(at) {
                removed.entries += 1;
                removed.log_members += gone.state.log_members();
                self.heap = self.heap.saturating_sub(gone.state.heap_bytes());
            }
        }
        if removed.entries > 0 {
            // Any position may have changed.
            self.index.clear();
            for (at, entry) in self.entries.iter().enumerate() {
                let entries = &self.entries;
                self.index
                    .insert_unique(entry.print.table, short(at), |&at| hash_at(entries, at));
            }
        }
        removed
    }
}

fn hash_at(entries: &Slab<Entry>, at: u32) -> u64 {
    entries
        .get(position(at))
        .map_or(0, |entry| entry.print.table)
}

/// An entry that was never charged has no expiry yet; it is removed before its query ends.
const NEVER: Timestamp = Timestamp::from_millis(u64::MAX);

/// A position as the index keeps it; a shard never holds 2^32 keys.
fn short(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

fn position(at: u32) -> usize {
    usize::try_from(at).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_keeps_rule_and_time_in_one_word() {
        let rule = RuleId::from_bits(u32::MAX);
        for millis in [0, 1, 1_795_521_600_000, MAX_MILLIS - 1] {
            let tag = Tag::with_expiry(rule, Timestamp::from_millis(millis));
            assert_eq!(tag.expires_at(), Timestamp::from_millis(millis));
            assert_eq!(tag.rule(), rule);
        }
        assert_eq!(Tag::new(rule).expires_at(), NEVER);
        let beyond = Tag::with_expiry(rule, Timestamp::from_millis(MAX_MILLIS));
        assert_eq!(beyond.expires_at(), Timestamp::from_millis(MAX_MILLIS - 1));
        assert_eq!(size_of::<Entry>(), 64);
    }
}
