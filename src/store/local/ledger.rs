//! What was let pass here and the shared store does not know of yet.
//!
//! An entry for each key: the check to charge the store with, and this replica's own hits in a
//! counter of the rule's algorithm, so that what has stopped counting is not charged any more. A
//! log's hits are kept as a sliding window, which is of fixed size and counts each of them for at
//! least as long. A bucket's hits come back at the pace of this replica's share of the refill: the
//! replicas' ledgers refill side by side, and together they may not do so faster than the bucket.
//!
//! Promises: at most so many entries, further keys are not remembered and their hits counted as
//! forgotten; a lock is held for one entry, or for one shard's sweep; nothing is handed out twice.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use hashbrown::HashTable;
use parking_lot::{Mutex, MutexGuard};

use super::fleet::Share;
use crate::algorithm::{Counter, FixedWindow, SlidingWindow, TokenBucket};
use crate::clock::Timestamp;
use crate::model::{Algorithm, Check, Hits, Key, Quota, Role, SATURATED};

pub(super) struct Ledger {
    shards: Box<[Cell]>,
    keys: AtomicUsize,
    most: usize,
    forgotten: AtomicU64,
    faded: AtomicU64,
    /// The shard that the next [`Ledger::take`] begins with.
    taken: AtomicUsize,
    /// The next shard to be swept.
    swept: AtomicUsize,
}

/// On cache lines of its own.
#[repr(align(64))]
struct Cell(Mutex<Shard>);

struct Shard {
    entries: HashTable<Entry>,
    swept: Timestamp,
}

struct Entry {
    hash: u64,
    /// As it was charged last.
    check: Check,
    /// What `owed` is counted with, the same for as long as anything is.
    pace: Quota,
    owed: Box<dyn Counter + Send>,
    /// Hits that `owed` was charged, whether or not they still count.
    hits: u64,
}

impl Ledger {
    /// An empty one for at most so many keys.
    pub(super) fn new(most: usize) -> Self {
        let shard = || {
            Cell(Mutex::new(Shard {
                entries: HashTable::new(),
                swept: Timestamp::default(),
            }))
        };
        Self {
            shards: (0..SHARDS).map(|_| shard()).collect(),
            keys: AtomicUsize::new(0),
            most,
            forgotten: AtomicU64::new(0),
            faded: AtomicU64::new(0),
            taken: AtomicUsize::new(0),
            swept: AtomicUsize::new(0),
        }
    }

    /// Remembers hits that were charged here.
    pub(super) fn charge(
        &self,
        hash: u64,
        (check, share): (&Check, Share),
        hits: u64,
        at: Timestamp,
    ) {
        let Some(mut shard) = self.shard(hash) else {
            return;
        };
        if let Some(entry) = shard.find(hash, &check.key) {
            if entry.owed.used(&entry.pace, at) == 0 {
                (entry.pace, entry.owed) = fresh(&check.quota, share, at);
                self.note_faded(std::mem::take(&mut entry.hits));
            }
            entry.check.quota = check.quota;
            entry.owed.charge(&entry.pace, hits, at);
            entry.hits = entry.hits.saturating_add(hits);
            return;
        }
        if !self.has_room(&mut shard, at) {
            self.forgotten.fetch_add(hits, Ordering::Relaxed);
            return;
        }
        let (pace, mut owed) = fresh(&check.quota, share, at);
        owed.charge(&pace, hits, at);
        let entry = Entry {
            hash,
            check: check.clone(),
            pace,
            owed,
            hits,
        };
        shard.entries.insert_unique(hash, entry, |entry| entry.hash);
    }

    /// Takes hits out, the newest first, at most what is remembered and still counts.
    pub(super) fn refund(&self, hash: u64, key: &Key, hits: u64, now: Timestamp) {
        let Some(mut shard) = self.shard(hash) else {
            return;
        };
        let Some(entry) = shard.find(hash, key) else {
            return;
        };
        entry.owed.refund(&entry.pace, hits, now);
        entry.hits = entry.hits.saturating_sub(hits);
        if entry.owed.used(&entry.pace, now) == 0
            && let Ok(entry) = shard
                .entries
                .find_entry(hash, |entry| entry.check.key == *key)
        {
            let (entry, _) = entry.remove();
            self.note_faded(entry.hits);
            self.note_removed(1);
        }
    }

    /// Takes up to `most` entries out, as checks that charge what still counts of them by the clock of
    /// their store.
    pub(super) fn take(&self, most: usize, clock: impl Fn(&Check) -> Timestamp) -> Vec<Check> {
        let mut taken = Vec::new();
        let first = self.taken.fetch_add(1, Ordering::Relaxed);
        for turn in 0..self.shards.len() {
            let place = first.wrapping_add(turn) & (SHARDS - 1);
            let Some(Cell(cell)) = self.shards.get(place) else {
                continue;
            };
            // A few at a time: whoever waits for the lock is deciding.
            loop {
                let wanted = most.saturating_sub(taken.len()).min(TAKEN_AT_ONCE);
                if wanted == 0 {
                    return taken;
                }
                let mut shard = cell.lock();
                let mut removed = 0;
                for entry in shard.entries.extract_if(|_| true).take(wanted) {
                    removed += 1;
                    let now = clock(&entry.check);
                    let (check, faded) = entry.into_check(now);
                    taken.extend(check);
                    self.note_faded(faded);
                }
                drop(shard);
                self.note_removed(removed);
                if removed < wanted {
                    break;
                }
            }
        }
        taken
    }

    /// Remembers again what was taken at `taken`. Hits of a fixed window that is over are not put
    /// into the one that a key has been charged in since.
    pub(super) fn put_back(&self, hash: u64, (check, share): (&Check, Share), taken: Timestamp) {
        let Hits::Charge(hits) = check.hits else {
            return;
        };
        let is_over = check.quota.algorithm() == Algorithm::FixedWindow
            && self.shard(hash).is_some_and(|mut shard| {
                shard.find(hash, &check.key).is_some_and(|entry| {
                    let window = entry.pace.window().millis();
                    entry.owed.resets_at(&entry.pace, taken) > taken + window
                })
            });
        match is_over {
            true => self.note_faded(hits),
            false => self.charge(hash, (check, share), hits, taken),
        }
    }

    /// Drops what has stopped counting in the next shard, in turn.
    pub(super) fn sweep_next(&self, now: Timestamp) {
        let next = self.swept.fetch_add(1, Ordering::Relaxed) & (SHARDS - 1);
        if let Some(Cell(cell)) = self.shards.get(next) {
            self.sweep(&mut cell.lock(), now);
        }
    }

    /// How many calls of [`Ledger::sweep_next`] see every entry.
    pub(super) fn shards(&self) -> usize {
        self.shards.len()
    }

    /// Keys with an entry now.
    pub(super) fn len(&self) -> usize {
        self.keys.load(Ordering::Relaxed)
    }

    /// Hits that found no room, in total.
    pub(super) fn forgotten(&self) -> u64 {
        self.forgotten.load(Ordering::Relaxed)
    }

    /// Hits that stopped counting before they were taken, in total.
    pub(super) fn faded(&self) -> u64 {
        self.faded.load(Ordering::Relaxed)
    }

    /// Takes the room for one more entry.
    fn has_room(&self, shard: &mut Shard, now: Timestamp) -> bool {
        let reserve = || {
            self.keys
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |keys| {
                    (keys < self.most).then_some(keys + 1)
                })
                .is_ok()
        };
        if reserve() {
            return true;
        }
        let since = now.as_millis().saturating_sub(shard.swept.as_millis());
        if since < SWEEP_PAUSE_MILLIS {
            return false;
        }
        self.sweep(shard, now);
        reserve()
    }

    fn sweep(&self, shard: &mut Shard, now: Timestamp) {
        let before = shard.entries.len();
        shard.entries.retain(|entry| {
            let counts = entry.owed.used(&entry.pace, now) > 0;
            if !counts {
                self.note_faded(entry.hits);
            }
            counts
        });
        shard.swept = now;
        self.note_removed(before - shard.entries.len());
        if shard.entries.is_empty() {
            shard.entries = HashTable::new();
        }
    }

    fn note_faded(&self, hits: u64) {
        self.faded.fetch_add(hits, Ordering::Relaxed);
    }

    fn note_removed(&self, entries: usize) {
        self.keys.fetch_sub(entries, Ordering::Relaxed);
    }

    fn shard(&self, hash: u64) -> Option<MutexGuard<'_, Shard>> {
        // Above the bits that choose a guard, below those that a table compares.
        let place = usize::try_from(hash >> 48).unwrap_or(0) & (SHARDS - 1);
        self.shards.get(place).map(|Cell(cell)| cell.lock())
    }
}

impl Shard {
    fn find(&mut self, hash: u64, key: &Key) -> Option<&mut Entry> {
        self.entries.find_mut(hash, |entry| entry.check.key == *key)
    }
}

impl Entry {
    /// A check that charges what still counts; none if nothing does. It always lands, and denies
    /// nobody: these hits were let pass already. Also the hits that do not count any more.
    fn into_check(self, now: Timestamp) -> (Option<Check>, u64) {
        let hits = self.owed.used(&self.pace, now).min(SATURATED);
        let faded = self.hits.saturating_sub(hits);
        let check = (hits > 0).then(|| Check {
            hits: Hits::Charge(hits),
            quota: self.check.quota.with_debt(),
            role: Role {
                shadow: true,
                quota: false,
            },
            ..self.check
        });
        (check, faded)
    }
}

/// A counter for hits that are owed, and the quota to count them with.
fn fresh(quota: &Quota, share: Share, now: Timestamp) -> (Quota, Box<dyn Counter + Send>) {
    let owed: Box<dyn Counter + Send> = match quota.algorithm() {
        Algorithm::FixedWindow => Box::new(FixedWindow::default()),
        Algorithm::SlidingLog | Algorithm::SlidingWindow => Box::new(SlidingWindow::default()),
        Algorithm::TokenBucket => {
            // Debts land without a share too; they would never fade without a refill.
            let pace = quota.at_most(share.limit.max(1), quota.burst());
            return (pace, Box::new(TokenBucket::full(&pace, now)));
        }
    };
    (*quota, owed)
}

/// A power of two, so that a full ledger's shard has some 1,600 entries.
const SHARDS: usize = 64;

/// Entries that are taken under one lock.
const TAKEN_AT_ONCE: usize = 32;

/// A full ledger looks for room in a shard at most this often.
const SWEEP_PAUSE_MILLIS: u64 = 100;
