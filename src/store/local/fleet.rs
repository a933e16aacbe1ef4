//! Which part of a limit is this replica's.
//!
//! A limit L is divided by the N replicas that share it: floor(L/N) each, and one more for the
//! L mod N that rank first. Ranks come from a hash of the key and the replica's id, the same on
//! every replica and in every version, so they need no talk; another key ranks the replicas in
//! another order, and when one comes or goes the others keep theirs. Replicas that see the same
//! fleet never let pass more than L together; without ranks they leave up to N-1 hits unused.
//!
//! Where L < N, only the L replicas that rank first have a part at all. A bucket has two numbers,
//! L and its burst B: if either is below N, only as many replicas as the smaller one divide both,
//! so that no part of the burst lies where nothing refills it.

use std::collections::BTreeSet;

use siphasher::sip::SipHasher13;

use crate::model::{Key, Quota};

/// The replicas that share the limits, as one of them sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fleet {
    replicas: u32,
    ranks: Option<Ranks>,
}

/// What a replica may let pass of a quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Share {
    /// How many replicas divide what is left of the quota.
    pub(super) parts: u32,
    /// This replica's part of the limit.
    pub(super) limit: u32,
    /// And of the burst.
    pub(super) burst: u32,
}

/// Hashes of all ids, in the order of the ids.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Ranks {
    ids: Box<[u64]>,
    own: usize,
}

impl Fleet {
    /// A single replica: its share is the whole.
    #[must_use]
    pub fn alone() -> Self {
        Self::new(1, [""; 0], "")
    }

    /// A fleet of so many `replicas`, of which these `ids` were seen, in any order; this replica is
    /// `own`, whether it is among them or not.
    ///
    /// If more were seen than `replicas` says, the larger number holds: too small a share is safe,
    /// too large a one is not. If fewer were seen, nobody knows how the others rank, so there are
    /// no ranks and every share is rounded down.
    #[must_use]
    pub fn new(replicas: u32, ids: impl IntoIterator<Item = impl Into<String>>, own: &str) -> Self {
        let mut all: BTreeSet<String> = ids.into_iter().map(Into::into).collect();
        all.insert(own.to_owned());
        let seen = u32::try_from(all.len()).unwrap_or(u32::MAX);
        let replicas = replicas.max(seen);
        let ranks = (replicas == seen).then(|| Ranks {
            ids: all.iter().map(|id| hash(id.as_bytes())).collect(),
            own: all.iter().take_while(|id| id.as_str() < own).count(),
        });
        Self { replicas, ranks }
    }

    /// How many replicas share each limit, this one included.
    #[must_use]
    pub fn replicas(&self) -> u32 {
        self.replicas
    }

    /// Whether the ids of all of them are known, so that nothing of a limit is lost in rounding.
    #[must_use]
    pub fn is_ranked(&self) -> bool {
        self.ranks.is_some()
    }

    /// This replica's share of a key's quota.
    pub(super) fn share(&self, key: &Key, quota: &Quota) -> Share {
        let (limit, burst) = (quota.limit(), quota.burst());
        let Some(ranks) = &self.ranks else {
            return Share::of(quota, self.replicas, u32::MAX);
        };
        let parts = self.replicas.min(limit).min(burst);
        if parts == 0 {
            return Share::NOTHING;
        }
        let is_even = parts == self.replicas && limit % parts == 0 && burst % parts == 0;
        let rank = match is_even {
            true => 0,
            false => ranks.rank(hash(key.as_bytes())),
        };
        if rank >= parts {
            return Share::NOTHING;
        }
        Share::of(quota, parts, rank)
    }
}

impl Default for Fleet {
    fn default() -> Self {
        Self::alone()
    }
}

impl Share {
    const NOTHING: Self = Self {
        parts: 1,
        limit: 0,
        burst: 0,
    };

    fn of(quota: &Quota, parts: u32, rank: u32) -> Self {
        let part = |whole: u32| {
            let more = whole.checked_rem(parts).is_some_and(|rest| rank < rest);
            whole.checked_div(parts).unwrap_or(0) + u32::from(more)
        };
        Self {
            parts,
            limit: part(quota.limit()),
            burst: part(quota.burst()),
        }
    }

    /// Nothing passes, whatever is counted.
    pub(super) const fn is_nothing(self) -> bool {
        self.limit == 0 || self.burst == 0
    }

    /// How many of `counted` hits stand against this share: its part, rounded up.
    pub(super) fn of_count(self, counted: u64) -> u64 {
        counted.div_ceil(u64::from(self.parts.max(1)))
    }
}

impl Ranks {
    /// How many replicas come before this one for a key.
    fn rank(&self, key: u64) -> u32 {
        let place = |index: usize, id: u64| (mix(key, id), index);
        let Some(own) = self.ids.get(self.own).map(|&id| place(self.own, id)) else {
            return u32::MAX;
        };
        let before = self
            .ids
            .iter()
            .enumerate()
            .filter(|&(index, &id)| place(index, id) < own);
        u32::try_from(before.count()).unwrap_or(u32::MAX)
    }
}

/// The same in every process and version: replicas of two versions rank alike.
fn hash(bytes: &[u8]) -> u64 {
    SipHasher13::new_with_keys(0x746f_6c6c_6761_7465, 0x7368_6172_6573_0001).hash(bytes)
}

/// One number from two that are hashes already. Their XOR alone would not rank three replicas
/// fairly: those whose hashes begin alike would come first or last together.
const fn mix(key: u64, id: u64) -> u64 {
    let x = key ^ id;
    let x = (x ^ (x >> 32)).wrapping_mul(0x9e6c_63d0_876a_9a35);
    let x = (x ^ (x >> 29)).wrapping_mul(0xd1b5_4a32_d192_ed03);
    x ^ (x >> 32)
}
