//! The store against a naive one, under threads, and when it is full.

mod behaviour;
mod bounds;
mod forget;
mod naive;
mod properties;
mod threads;

use std::num::NonZeroU32;

use super::{MemoryConfig, MemoryStore};
use crate::algorithm::tests::{at, quota};
use crate::model::{
    Algorithm, Check, DeniedHits, Hits, KeyBuilder, OnStoreFailure, Quota, Role, Unit, Verdict,
};

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

fn check(user: &str, quota: Quota, hits: Hits) -> Check {
    let mut key = KeyBuilder::new(b"d");
    key.entry((b"user", false), (user.as_bytes(), false));
    Check {
        key: key.finish(&quota),
        quota,
        hits,
        role: Role::default(),
        on_store_failure: OnStoreFailure::Local,
    }
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
