//! Which keys have been charged here lately, so that what the store says may not lower them.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock::Timestamp;
use crate::model::{Algorithm, Quota};

/// For each hash of a key, until when a charge made here may count. Keys whose hashes fall
/// together share a guard, the later one; that guards too long, never too short.
///
/// Of fixed size, so that nothing is ever forgotten, and without locks: looked at for each answer
/// of the store.
pub(super) struct Guards(Box<[AtomicU64]>);

impl Guards {
    pub(super) fn new() -> Self {
        Self((0..GUARDS).map(|_| AtomicU64::new(0)).collect())
    }

    /// Guards a key until then at least.
    pub(super) fn hold(&self, hash: u64, until: Timestamp) {
        if let Some(guard) = self.guard(hash)
            && guard.load(Ordering::Relaxed) < until.as_millis()
        {
            guard.fetch_max(until.as_millis(), Ordering::Relaxed);
        }
    }

    /// Whether a charge made here may still count. Relaxed, for it is asked under the lock under
    /// which that charge was made, after its guard was set.
    pub(super) fn is_held(&self, hash: u64, now: Timestamp) -> bool {
        self.guard(hash)
            .is_some_and(|guard| now.as_millis() < guard.load(Ordering::Relaxed))
    }

    fn guard(&self, hash: u64) -> Option<&AtomicU64> {
        // The high half: tables take the low one.
        let place = usize::try_from(hash >> 32).unwrap_or(0) & (GUARDS - 1);
        self.0.get(place)
    }
}

/// When hits that are charged now have stopped counting, if so many stand against the quota: not
/// before.
pub(super) fn fades_by(quota: &Quota, used: u64, now: Timestamp) -> Timestamp {
    let window = quota.window().millis();
    match quota.algorithm() {
        Algorithm::FixedWindow | Algorithm::SlidingLog | Algorithm::SlidingWindow => {
            now + (window + window / 10 + 1)
        }
        Algorithm::TokenBucket => {
            let refill = used.saturating_mul(window);
            now + refill.div_ceil(u64::from(quota.limit()).max(1))
        }
    }
}

/// A power of two; 64 kB of them.
const GUARDS: usize = 8192;
