//! A shard's own counters: a dense list of entries and an index over it.
//!
//! Entries lie in one flat list that grows by a quarter, so the memory per key stays near an
//! entry's size; the index holds 4-byte positions. Both are small (a shard has some 4,000 keys),
//! so growing, rehashing and sweeping take well under a millisecond.

use hashbrown::HashTable;

use super::fingerprint::Fingerprint;
use super::state::State;
use crate::clock::Timestamp;

/// One key's counter.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) print: Fingerprint,
    /// From then on the state equals a fresh one.
    pub(super) expires_at: Timestamp,
    pub(super) state: State,
}

/// What left the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Removed {
    pub(super) entries: usize,
    pub(super) log_members: usize,
}

#[derive(Debug)]
pub(super) struct Table {
    entries: Vec<Entry>,
    index: HashTable<u32>,
    /// No entry expires before.
    earliest: Timestamp,
    /// What the states have allocated.
    heap: usize,
}

impl Table {
    pub(super) const fn new() -> Self {
        Self {
            entries: Vec::new(),
            index: HashTable::new(),
            earliest: NEVER,
            heap: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// No entry expires before this time.
    pub(super) const fn earliest(&self) -> Timestamp {
        self.earliest
    }

    pub(super) fn bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>() + self.index.allocation_size() + self.heap
    }

    /// The position of a key's entry; good until something is inserted or removed.
    pub(super) fn find(&self, print: Fingerprint) -> Option<usize> {
        self.index
            .find(print.table, |&at| self.is_at(at, print))
            .map(|&at| position(at))
    }

    pub(super) fn get(&self, at: usize) -> Option<&Entry> {
        self.entries.get(at)
    }

    /// Adds a key that is not there yet. Positions of other entries stay.
    pub(super) fn insert(&mut self, print: Fingerprint, state: State) -> usize {
        let at = self.entries.len();
        if at == self.entries.capacity() {
            self.entries.reserve_exact((at / 4).max(SMALLEST));
        }
        self.heap += state.heap_bytes();
        self.entries.push(Entry {
            print,
            expires_at: NEVER,
            state,
        });
        let entries = &self.entries;
        self.index.insert_unique(print.table, short(at), |&at| {
            entries
                .get(position(at))
                .map_or(0, |entry| entry.print.table)
        });
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

    /// Takes a key out. The last entry moves to its place.
    pub(super) fn remove(&mut self, print: Fingerprint) -> Removed {
        let entries = &self.entries;
        let found = self.index.find_entry(print.table, |&at| {
            entries
                .get(position(at))
                .is_some_and(|entry| entry.print == print)
        });
        let Ok(found) = found else {
            return Removed::default();
        };
        let (at, _) = found.remove();
        let last = self.entries.len().saturating_sub(1);
        let gone = self.entries.swap_remove(position(at));
        if let Some(moved) = self.entries.get(position(at))
            && let Some(index) = self
                .index
                .find_mut(moved.print.table, |&old| position(old) == last)
        {
            *index = at;
        }
        self.heap = self.heap.saturating_sub(gone.state.heap_bytes());
        Removed {
            entries: 1,
            log_members: gone.state.log_members(),
        }
    }

    /// Drops what has expired, and gives memory back once three quarters lie idle.
    pub(super) fn sweep(&mut self, now: Timestamp) -> Removed {
        let mut removed = Removed::default();
        if self.earliest <= now {
            removed = self.drop_expired(now);
        }
        if self.entries.len() < self.entries.capacity() / 4 {
            self.entries.shrink_to(self.entries.capacity() / 2);
            let entries = &self.entries;
            self.index.shrink_to(entries.len(), |&at| {
                entries
                    .get(position(at))
                    .map_or(0, |entry| entry.print.table)
            });
        }
        removed
    }

    fn drop_expired(&mut self, now: Timestamp) -> Removed {
        let mut removed = Removed::default();
        let (mut earliest, mut freed) = (NEVER, 0);
        self.entries.retain(|entry| {
            if entry.expires_at > now {
                earliest = earliest.min(entry.expires_at);
                return true;
            }
            removed.entries += 1;
            removed.log_members += entry.state.log_members();
            freed += entry.state.heap_bytes();
            false
        });
        self.earliest = earliest;
        self.heap = self.heap.saturating_sub(freed);
        if removed.entries > 0 {
            // Every position may have changed.
            self.index.clear();
            for (at, entry) in self.entries.iter().enumerate() {
                self.index
                    .insert_unique(entry.print.table, short(at), |_| 0);
            }
        }
        removed
    }

    fn is_at(&self, at: u32, print: Fingerprint) -> bool {
        self.entries
            .get(position(at))
            .is_some_and(|entry| entry.print == print)
    }
}

/// An entry that was never charged has no expiry yet; it is removed before its query ends.
const NEVER: Timestamp = Timestamp::from_millis(u64::MAX);

/// Room for so many entries is the first allocation.
const SMALLEST: usize = 8;

/// A position as the index keeps it; a shard never holds 2^32 keys.
fn short(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

fn position(at: u32) -> usize {
    usize::try_from(at).unwrap_or(usize::MAX)
}
