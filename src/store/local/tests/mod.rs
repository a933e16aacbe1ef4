//! A fleet of replicas without a store, and with one that comes and goes.

mod bound;
mod deciding;
mod fleet;
mod ledger;
mod mixed;
mod observing;

use std::num::NonZeroU32;

use proptest::prelude::*;

use super::{Fleet, LocalConfig, LocalStore};
use crate::algorithm::tests::{at, check_of as check, quota};
use crate::model::{Algorithm, Check, Decision, DeniedHits, Hits, Quota, Source, Unit, Verdict};

fn store(max_keys: u32, ledger_keys: u32) -> LocalStore {
    LocalStore::new(LocalConfig {
        max_keys: NonZeroU32::new(max_keys).unwrap(),
        ledger_keys: NonZeroU32::new(ledger_keys).unwrap(),
    })
}

fn name(replica: usize) -> String {
    format!("tollgate-{replica}")
}

/// So many replicas that know of each other by name, or only how many they are.
fn replicas(count: usize, ranked: bool) -> Vec<LocalStore> {
    (0..count)
        .map(|own| {
            let store = store(1_000, 1_000);
            let ids = (0..count).filter(|_| ranked).map(name);
            store.set_fleet(Fleet::new(count.try_into().unwrap(), ids, &name(own)));
            store
        })
        .collect()
}

/// Asks for one check alone.
fn ask(store: &LocalStore, check: &Check, now: u64) -> Verdict {
    only(&store.decide(std::slice::from_ref(check), true, at(now)))
}

fn only(decision: &Decision) -> Verdict {
    assert_eq!(decision.verdicts.len(), 1);
    *decision.verdicts.first().unwrap()
}

/// Lets a replica see that the shared store counts so many hits of this check's key.
fn show(store: &LocalStore, check: &Check, counted: u64, now: u64) {
    let verdict = Verdict {
        over: false,
        remaining: 0,
        counted,
        reset_millis: 0,
        never: false,
        source: Source::Store,
        at: at(now),
    };
    store.observe(std::slice::from_ref(check), &[verdict]);
}

/// What a replica counts and would still let pass, as a peek tells.
fn counts(store: &LocalStore, check: &Check, now: u64) -> (u64, u32) {
    let peek = Check {
        hits: Hits::Peek,
        ..check.clone()
    };
    let verdict = ask(store, &peek, now);
    (verdict.counted, verdict.remaining)
}

/// How many single hits pass until one does not.
fn drain(store: &LocalStore, check: &Check, now: u64) -> u32 {
    let hit = Check {
        hits: Hits::Charge(1),
        ..check.clone()
    };
    let mut passed = 0;
    while !ask(store, &hit, now).over {
        passed += 1;
    }
    passed
}

/// A limit per minute that costs nothing when it denies.
fn minutely(algorithm: Algorithm, limit: u32) -> Quota {
    quota(algorithm, limit, (1, Unit::Minute), DeniedHits::Free)
}

fn fixed(limit: u32) -> Quota {
    minutely(Algorithm::FixedWindow, limit)
}

/// Rules of every algorithm, with limits of 0, below the replicas' number, ordinary and as large
/// as can be.
fn any_quota() -> impl Strategy<Value = Quota> {
    let number = || {
        prop_oneof![
            6 => 0..8_u32,
            6 => 8..60_u32,
            1 => Just(u32::MAX),
            1 => Just(u32::MAX - 3),
        ]
    };
    let algorithms = prop::sample::select(Algorithm::ALL.to_vec());
    let window = prop::sample::select(vec![(1, Unit::Second), (7, Unit::Second)]);
    (algorithms, number(), number(), window).prop_map(|(algorithm, limit, burst, window)| {
        let limit = match algorithm {
            Algorithm::SlidingLog => limit.min(100_000),
            _ => limit,
        };
        let quota = quota(algorithm, limit, window, DeniedHits::Free);
        match algorithm {
            Algorithm::TokenBucket => quota.with_burst(burst).unwrap(),
            _ => quota,
        }
    })
}

/// Milliseconds from one query to the next.
fn any_wait() -> impl Strategy<Value = u64> {
    prop_oneof![
        8 => Just(0_u64),
        4 => 1..200_u64,
        2 => 0..3_000_u64,
        1 => 0..20_000_u64,
    ]
}

/// Mostly single hits; sometimes all that a limit could hold, or half of it.
fn any_hits() -> impl Strategy<Value = u64> {
    prop_oneof![
        10 => 1..4_u64,
        1 => 4..30_u64,
        1 => prop::sample::select(vec![1_u64 << 30, 1 << 31, (1 << 32) - 1, 1 << 32]),
    ]
}

/// A hit that passed: when, and how many.
type Admitted = Vec<(u64, u64)>;

/// Fails unless what passed is at most `times` what the rule's algorithm allows.
fn within(quota: &Quota, admitted: &Admitted, times: u128) -> Result<(), TestCaseError> {
    let window = quota.window().millis();
    for (index, first) in admitted.iter().enumerate() {
        let mut sum = 0_u128;
        for last in admitted.iter().skip(index) {
            let span = last.0 - first.0;
            let bound = match quota.algorithm() {
                Algorithm::FixedWindow if last.0 / window != first.0 / window => break,
                Algorithm::SlidingLog | Algorithm::SlidingWindow if span > window => break,
                Algorithm::FixedWindow | Algorithm::SlidingLog | Algorithm::SlidingWindow => {
                    u128::from(quota.limit())
                }
                Algorithm::TokenBucket => {
                    let refill = u128::from(span) * u128::from(quota.limit()) / u128::from(window);
                    u128::from(quota.burst()) + refill + 1
                }
            };
            sum += u128::from(last.1);
            prop_assert!(
                sum <= bound * times,
                "{sum} > {bound} * {times} within {span} ms of {}",
                first.0
            );
        }
    }
    Ok(())
}

/// In the middle of some window of every length.
const START: u64 = 1_700_000_003_456;

const MINUTE: u64 = Unit::Minute.millis();

const HOUR: u64 = Unit::Hour.millis();
