//! Keys, reduced to what the table keeps of them.

use std::hash::{BuildHasher, RandomState};

use siphasher::sip128::SipHasher13;

use crate::model::Key;

/// A key's 128-bit hash, which stands for it.
///
/// With 10 million keys two of them share a fingerprint with a chance of 10^-25, and nobody can
/// look for such a pair without the process's secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fingerprint {
    /// Chooses the shard.
    pub(super) place: u64,
    /// Chooses the place in the shard's table.
    pub(super) table: u64,
}

/// Hashes keys with a secret of this process.
#[derive(Clone, Copy)]
pub(super) struct KeyHasher(SipHasher13);

impl KeyHasher {
    pub(super) fn random() -> Self {
        let random = RandomState::new();
        Self(SipHasher13::new_with_keys(
            random.hash_one(0_u8),
            random.hash_one(1_u8),
        ))
    }

    pub(super) fn fingerprint(&self, key: &Key) -> Fingerprint {
        let hash = self.0.hash(key.as_bytes());
        Fingerprint {
            place: hash.h1,
            table: hash.h2,
        }
    }
}
