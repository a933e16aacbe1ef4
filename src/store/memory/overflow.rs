//! Counters of fixed size that new keys share once a shard is full.
//!
//! A set-associative array: a key's hash names a set of [`WAYS`] slots, and within it there is at
//! most one live slot of each rule and [`Kind`], so that no rule is denied by the keys of another.
//! So a key always finds the slot that it was charged to, and keys that share that slot are counted
//! together: too much, never too little.
//!
//! What a slot of each kind counts with, and why nobody gains by it
//! - fixed windows: a fixed window of the same length. Its count holds every sharer's.
//! - sliding windows and logs: a sliding window of the same length. It counts each charge for at
//!   least as long as a log does.
//! - token buckets of the same window: a [`SharedBucket`], see there.
//!
//! A slot is free again once everything charged to it has stopped counting, not before. It is
//! charged only while the table has no room: after that a key takes what it may have been charged
//! there along into an entry of its own ([`State::taken_along`]), so slots run dry, however many
//! new keys keep coming.

use super::fingerprint::Fingerprint;
use super::shared_bucket::SharedBucket;
use super::state::State;
use super::table::Entry;
use crate::algorithm::{FixedWindow, SlidingWindow};
use crate::clock::Timestamp;
use crate::model::{Algorithm, Quota, RuleId};

/// What may share a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Buckets that refill per so many milliseconds.
    Bucket(u64),
    /// Windows of so many milliseconds.
    Fixed(u64),
    /// The same, sliding.
    Sliding(u64),
}

impl Kind {
    fn of(quota: &Quota) -> Self {
        let window = quota.window().millis();
        match quota.algorithm() {
            Algorithm::FixedWindow => Self::Fixed(window),
            Algorithm::SlidingLog | Algorithm::SlidingWindow => Self::Sliding(window),
            Algorithm::TokenBucket => Self::Bucket(window),
        }
    }
}

#[derive(Debug)]
struct Slot {
    /// Whose keys share it.
    rule: RuleId,
    kind: Kind,
    /// From then on nothing charged to it counts.
    expires_at: Timestamp,
    state: State,
}

impl Slot {
    fn is_for(&self, rule: RuleId, kind: Kind) -> bool {
        self.rule == rule && self.kind == kind
    }
}

#[derive(Debug)]
pub(super) struct Overflow {
    /// Empty until the first use.
    slots: Vec<Option<Slot>>,
    sets: usize,
}

impl Overflow {
    /// For a shard of `keys` keys: sets that take a quarter of the table's memory at most, though
    /// one in any case.
    pub(super) fn new(keys: usize) -> Self {
        let sets = (keys * KEY_BYTES / 4 / SET_BYTES).max(1);
        Self {
            slots: Vec::new(),
            sets: 1 << sets.ilog2(),
        }
    }

    /// Memory that it takes, at most.
    pub(super) fn bytes(&self) -> usize {
        self.slots.capacity() / WAYS * SET_BYTES
    }

    /// The live slot that `print` may have been charged to.
    pub(super) fn find_live(
        &self,
        print: Fingerprint,
        (rule, quota): (RuleId, &Quota),
        now: Timestamp,
    ) -> Option<usize> {
        if self.slots.is_empty() {
            return None;
        }
        let kind = Kind::of(quota);
        self.set(print).find(|&at| {
            self.slot(at)
                .is_some_and(|slot| slot.is_for(rule, kind) && slot.expires_at > now)
        })
    }

    /// A slot for a new key that has no live one. If every slot of its set holds live counts of
    /// another kind: the time before which none is free.
    pub(super) fn find_free(
        &self,
        print: Fingerprint,
        (rule, quota): (RuleId, &Quota),
        now: Timestamp,
    ) -> Result<usize, Timestamp> {
        let kind = Kind::of(quota);
        let mut free = None;
        let mut until = Timestamp::from_millis(u64::MAX);
        for at in self.set(print) {
            match self.slot(at) {
                // Its own expired slot first, so that there are never two of a kind.
                Some(slot) if slot.is_for(rule, kind) => return Ok(at),
                Some(slot) if slot.expires_at > now => until = until.min(slot.expires_at),
                Some(_) | None => free = free.or(Some(at)),
            }
        }
        free.ok_or(until)
    }

    /// Takes a free slot for keys of this kind. Tells whether it dropped what had expired there.
    pub(super) fn claim(&mut self, at: usize, rule: RuleId, quota: &Quota) -> bool {
        if self.slots.is_empty() {
            self.slots.resize_with(self.sets * WAYS, || None);
        }
        self.slots.get_mut(at).is_some_and(|slot| {
            slot.replace(Slot {
                rule,
                kind: Kind::of(quota),
                expires_at: UNUSED,
                state: Self::fresh(quota),
            })
            .is_some()
        })
    }

    /// What a slot for such keys starts with.
    pub(super) fn fresh(quota: &Quota) -> State {
        match Kind::of(quota) {
            Kind::Bucket(_) => State::SharedBucket(SharedBucket::default()),
            Kind::Fixed(_) => State::Fixed(FixedWindow::default()),
            Kind::Sliding(_) => State::Sliding(Box::<SlidingWindow>::default()),
        }
    }

    pub(super) fn state(&self, at: usize) -> Option<&State> {
        self.slot(at).map(|slot| &slot.state)
    }

    /// Changes a slot's state; `change` returns when nothing in it counts any more, whoever it
    /// belongs to.
    pub(super) fn update(&mut self, at: usize, change: impl FnOnce(&mut State) -> Timestamp) {
        if let Some(Some(slot)) = self.slots.get_mut(at) {
            slot.expires_at = change(&mut slot.state);
        }
    }

    /// Whether nothing was ever charged to a slot that was claimed.
    pub(super) fn is_unused(&self, at: usize) -> bool {
        self.slot(at).is_some_and(|slot| slot.expires_at == UNUSED)
    }

    /// Gives an unused slot back.
    pub(super) fn release(&mut self, at: usize) {
        if let Some(slot) = self.slots.get_mut(at) {
            *slot = None;
        }
    }

    /// Frees what has expired, and all memory once nothing is left. Tells whether it freed any.
    pub(super) fn sweep(&mut self, now: Timestamp) -> bool {
        let mut freed = false;
        for slot in &mut self.slots {
            freed |= slot.take_if(|slot| slot.expires_at <= now).is_some();
        }
        if self.slots.iter().all(Option::is_none) {
            self.slots = Vec::new();
        }
        freed
    }

    fn slot(&self, at: usize) -> Option<&Slot> {
        self.slots.get(at)?.as_ref()
    }

    /// Positions of the slots of a key's set.
    fn set(&self, print: Fingerprint) -> std::ops::Range<usize> {
        // The low half of the hash chose the shard.
        let hash = usize::try_from(print.place >> 32).unwrap_or(0);
        let first = (hash & (self.sets - 1)) * WAYS;
        first..first + WAYS
    }
}

/// When a slot expires that nothing was charged to yet: it is live, for the query that claimed it
/// has not ended.
const UNUSED: Timestamp = Timestamp::from_millis(u64::MAX);

/// Slots of a set.
const WAYS: usize = 8;

/// What a key takes in the table at least, with its share of the index.
const KEY_BYTES: usize = size_of::<Entry>() + 8;

/// What a set takes at most.
const SET_BYTES: usize = WAYS * (size_of::<Option<Slot>>() + size_of::<SlidingWindow>());
