//! The store against a naive one, under threads, and when it is full.

mod behaviour;
mod bounds;
mod forget;
mod naive;
mod overflow;
mod properties;
mod threads;

use std::num::NonZeroU32;

use super::{MemoryConfig, MemoryStore};
use crate::algorithm::tests::{at, check_of as check, quota};
use crate::model::{Algorithm, Check, DeniedHits, Quota, Unit, Verdict};

fn store(max_keys: u32) -> MemoryStore {
    MemoryStore::new(MemoryConfig {
        max_keys: NonZeroU32::new(max_keys).unwrap(),
    })
}

/// A limit per hour that costs nothing when it denies.
fn hourly(algorithm: Algorithm, limit: u32) -> Quota {
    quota(algorithm, limit, (1, Unit::Hour), DeniedHits::Free)
}

fn fixed(limit: u32) -> Quota {
    hourly(Algorithm::FixedWindow, limit)
}

/// Asks for one check alone.
fn ask(store: &MemoryStore, check: &Check, now: u64) -> Verdict {
    *store
        .decide(std::slice::from_ref(check), true, at(now))
        .verdicts
        .first()
        .unwrap()
}

/// Drops everything that has expired.
fn sweep(store: &MemoryStore, now: u64) -> usize {
    (0..store.shards())
        .map(|_| store.sweep_next(at(now)).expired)
        .sum()
}

const HOUR: u64 = Unit::Hour.millis();
