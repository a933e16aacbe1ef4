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
use crate::model::Quota;

/// One key's counter.
#[derive(Debug)]
pub(super) struct Entry {
    print: Fingerprint,
    /// From then on the state equals a fresh one.
    expires_at: Timestamp,
    state: State,
}

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
        entry.is_some_and(|entry| entry.expires_at == NEVER || entry.expires_at <= now)
    }

    /// Adds a key that is not there yet. Positions of other entries stay.
    pub(super) fn insert(&mut self, print: Fingerprint, state: State) -> usize {
        self.heap += state.heap_bytes();
        let at = self.entries.push(Entry {
            print,
            expires_at: NEVER,
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
        entry.expires_at = change(&mut entry.state);
        let after = entry.state.heap_bytes();
        self.heap = (self.heap + after).saturating_sub(before);
        self.earliest = self.earliest.min(entry.expires_at);
        before != after
    }

    /// Lets an entry that did not change stay until it has faded by this quota too: its refill may
    /// have been slowed down since it was charged. Only a bucket's expiry depends on that.
    pub(super) fn outlast(&mut self, at: usize, quota: &Quota, now: Timestamp) {
        if let Some(entry) = self.entries.get_mut(at)
            && let State::Bucket(bucket) = &entry.state
            && quota.limit() > 0
            && entry.expires_at > now
        {
            entry.expires_at = entry.expires_at.max(bucket.falls_to(quota, 0, now));
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
            if entry.expires_at > now {
                self.earliest = self.earliest.min(entry.expires_at);
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
