//! Where new keys are counted once a shard has no room for more of their rule.
//!
//! Each rule, and each [`Kind`] of its quotas, has a [`Sketch`] of its own, so no rule is denied by the
//! keys of another. A key always finds what it was charged there, and keys that share cells are counted
//! together where they do: too much, never too little.
//!
//! A sketch gets a third of the memory that is left for them: in a shard of 4,096 keys there are 14
//! before none is left, and new keys of a further rule are denied. A sketch ends once everything
//! charged to it has stopped counting, not before. It is charged only while the table has no room: after
//! that a key takes what it may have been charged there along into an entry of its own
//! ([`State::taken_along`](super::state::State::taken_along)), so sketches run dry, however many new keys
//! keep coming.

use super::fingerprint::Fingerprint;
use super::sketch::{Charged, Kind, Sketch};
use super::state::State;
use super::table::Entry;
use crate::clock::Timestamp;
use crate::model::{Quota, RuleId};

/// A key's share of a sketch. Good until the query ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shared {
    sketch: usize,
    print: Fingerprint,
}

/// A sketch and whose keys share it.
#[derive(Debug)]
struct Owned {
    rule: RuleId,
    kind: Kind,
    /// From then on nothing charged to it counts.
    expires_at: Timestamp,
    /// The memory that it was given, of which its cells leave a part.
    bytes: usize,
    sketch: Sketch,
}

#[derive(Debug)]
pub(super) struct Overflow {
    /// Those that have ended leave a gap, so that the others stay where they are.
    sketches: Vec<Option<Owned>>,
    /// Bytes of all of them.
    bytes: usize,
    /// Bytes that they may take together.
    most: usize,
}

impl Overflow {
    /// For a shard of `keys` keys: a quarter of the table's memory at most, though some in any case.
    pub(super) fn new(keys: usize) -> Self {
        Self {
            sketches: Vec::new(),
            bytes: 0,
            most: (keys * KEY_BYTES / 4).max(LEAST_BYTES),
        }
    }

    /// Whether there is no sketch.
    pub(super) const fn is_empty(&self) -> bool {
        self.sketches.is_empty()
    }

    /// Memory that it takes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes + self.sketches.capacity() * size_of::<Option<Owned>>()
    }

    /// The key's share of its rule's sketch, if there is one that has not expired.
    pub(super) fn find(
        &self,
        print: Fingerprint,
        (rule, quota): (RuleId, &Quota),
        now: Timestamp,
    ) -> Option<Shared> {
        let kind = Kind::of(quota);
        let is_its =
            |owned: &Owned| owned.rule == rule && owned.kind == kind && owned.expires_at > now;
        let mut sketches = self.sketches.iter();
        let sketch = sketches.position(|owned| owned.as_ref().is_some_and(is_its))?;
        Some(Shared { sketch, print })
    }

    /// Whether there is memory for one more sketch. If not: the time before which there is none.
    pub(super) fn has_room(&self, now: Timestamp) -> Result<(), Timestamp> {
        let mut free = self.most.saturating_sub(self.bytes);
        let mut until = Timestamp::from_millis(u64::MAX);
        for owned in self.sketches.iter().flatten() {
            match owned.expires_at > now {
                true => until = until.min(owned.expires_at),
                false => free += owned.bytes,
            }
        }
        match free >= LEAST_SKETCH_BYTES {
            true => Ok(()),
            false => Err(until),
        }
    }

    /// The key's share of its rule's sketch, which is made if there is none. Tells whether something
    /// that had expired was dropped for it.
    pub(super) fn claim(
        &mut self,
        print: Fingerprint,
        (rule, quota): (RuleId, &Quota),
        now: Timestamp,
    ) -> (Shared, bool) {
        if let Some(shared) = self.find(print, (rule, quota), now) {
            return (shared, false);
        }
        let dropped = self.sweep(now);
        let (kind, free) = (Kind::of(quota), self.most.saturating_sub(self.bytes));
        let bytes = (free / SHARE).max(LEAST_SKETCH_BYTES);
        let sketch = Sketch::new(kind, bytes);
        self.bytes += bytes;
        let at = self.sketches.iter().position(Option::is_none);
        let at = at.unwrap_or_else(|| {
            self.sketches.push(None);
            self.sketches.len() - 1
        });
        if let Some(gap) = self.sketches.get_mut(at) {
            *gap = Some(Owned {
                rule,
                kind,
                expires_at: UNUSED,
                bytes,
                sketch,
            });
        }
        (Shared { sketch: at, print }, dropped)
    }

    /// A key's share of the sketch that would be made next.
    pub(super) const fn next(&self, print: Fingerprint) -> Shared {
        Shared {
            sketch: self.sketches.len(),
            print,
        }
    }

    /// What is counted for a key, as a copy.
    pub(super) fn state(&self, at: Shared, quota: &Quota, now: Timestamp) -> Option<State> {
        let owned = self.sketches.get(at.sketch)?.as_ref()?;
        Some(owned.sketch.state(at.print, quota, now))
    }

    /// The latest time of a charge to a sketch.
    pub(super) fn latest(&self, at: Shared) -> Timestamp {
        let owned = self.sketches.get(at.sketch).and_then(Option::as_ref);
        owned.map_or_else(Timestamp::default, |owned| owned.sketch.latest())
    }

    /// Charges a key. Tells whether counts of other keys were dropped, since their windows are over.
    pub(super) fn charge(&mut self, at: Shared, quota: &Quota, hits: u64, now: Timestamp) -> bool {
        let Some(Some(owned)) = self.sketches.get_mut(at.sketch) else {
            return false;
        };
        let Charged {
            expires_at,
            dropped,
        } = owned.sketch.charge(at.print, quota, hits, now);
        owned.expires_at = match owned.expires_at {
            UNUSED => expires_at,
            before => before.max(expires_at),
        };
        dropped
    }

    /// Whether nothing was ever charged to a sketch that was claimed.
    pub(super) fn is_unused(&self, at: Shared) -> bool {
        let owned = self.sketches.get(at.sketch).and_then(Option::as_ref);
        owned.is_some_and(|owned| owned.expires_at == UNUSED)
    }

    /// Ends an unused sketch.
    pub(super) fn release(&mut self, at: Shared) {
        if self.is_unused(at) {
            self.end(at.sketch);
        }
    }

    /// Ends what has expired. Tells whether anything has.
    pub(super) fn sweep(&mut self, now: Timestamp) -> bool {
        let mut ended = false;
        for at in 0..self.sketches.len() {
            let owned = self.sketches.get(at).and_then(Option::as_ref);
            if owned.is_some_and(|owned| owned.expires_at <= now) {
                self.end(at);
                ended = true;
            }
        }
        if self.sketches.iter().all(Option::is_none) {
            self.sketches = Vec::new();
        }
        ended
    }

    fn end(&mut self, at: usize) {
        if let Some(owned) = self.sketches.get_mut(at).and_then(Option::take) {
            self.bytes = self.bytes.saturating_sub(owned.bytes);
        }
    }
}

/// When a sketch expires that nothing was charged to yet: it is live, for the query that claimed it
/// has not ended.
const UNUSED: Timestamp = Timestamp::from_millis(u64::MAX);

/// A new sketch gets one part in so many of what is left.
const SHARE: usize = 3;

/// What the smallest shard has for its sketches.
const LEAST_BYTES: usize = 4096;

/// The size of the smallest sketch.
const LEAST_SKETCH_BYTES: usize = 256;

/// What a key takes in the table at least, with its share of the index.
const KEY_BYTES: usize = size_of::<Entry>() + 8;
