//! Sketches against exact counts, and how little a flood denies.

use fastrand::Rng;

use super::super::fingerprint::Fingerprint;
use super::super::sketch::{Kind, Sketch};
use super::{HOUR, ask, check, hourly, store};
use crate::algorithm::Counter;
use crate::algorithm::tests::reference::Reference;
use crate::algorithm::tests::{at, quota};
use crate::model::{Algorithm, DeniedHits, Hits, Quota, SATURATED, Source, Unit};

/// Histories of each algorithm.
const HISTORIES: u64 = 25_000;

#[test]
fn a_sketch_never_counts_too_little() {
    let mut shared = 0;
    for (algorithm, seed) in Algorithm::ALL
        .into_iter()
        .flat_map(|algorithm| (0..HISTORIES).map(move |seed| (algorithm, seed)))
    {
        shared += history(algorithm, &mut Rng::with_seed(seed), seed);
    }
    // Or the histories would show nothing.
    assert!(
        shared > HISTORIES,
        "{shared} counts held hits of another key"
    );
}

/// Charges, debts and refunds of five keys in a sketch of some cells, while windows come and go and the
/// clock steps back now and then; how often more was counted than the key had.
fn history(algorithm: Algorithm, rng: &mut Rng, seed: u64) -> u64 {
    let rule = any_quota(algorithm, rng);
    let mut sketch = Sketch::new(Kind::of(&rule), rng.usize(16..256));
    let prints: [Fingerprint; 5] = std::array::from_fn(|_| Fingerprint {
        place: rng.u64(..),
        table: rng.u64(..),
    });
    let mut exact: [Reference; 5] = Default::default();
    let (mut now, mut expires_at, mut too_much) = (START + rng.u64(..10_000), at(0), 0);
    // A shard's time does not go back behind the last drop.
    let mut dropped_at = 0;
    for _ in 0..rng.u32(2..24) {
        now = match rng.u8(..12) {
            0 => now - rng.u64(..1_000),
            1..4 => now + rng.u64(..8_000),
            4..8 => now + rng.u64(..300),
            _ => now,
        };
        now = now.max(dropped_at);
        let user = rng.usize(..prints.len());
        let (print, exact) = (prints[user], &mut exact[user]);
        let hits = match rng.u8(..40) {
            0 => SATURATED,
            1..6 => 5,
            _ => rng.u64(1..4),
        };
        match rng.u8(..8) {
            // The sketch keeps what is given back.
            0 => exact.apply(&rule, Hits::Refund(hits), false, at(now)),
            1 => {}
            _ => {
                let before = sketch.state(print, &rule, at(now));
                let over = before.used(&rule, at(now)) >= u64::from(rule.limit());
                exact.apply(&rule, Hits::Charge(hits), over, at(now));
                let done = sketch.charge(print, &rule, hits, at(now));
                expires_at = expires_at.max(done.expires_at);
                if done.dropped {
                    dropped_at = now;
                }
                let mut charged = before;
                charged.charge(&rule, hits, at(now));
                let after = sketch.state(print, &rule, at(now));
                assert_eq!(
                    after.used(&rule, at(now)),
                    charged.used(&rule, at(now)),
                    "{rule}, {seed}"
                );
            }
        }
        let counted = sketch.state(print, &rule, at(now));
        let (used, least) = (counted.used(&rule, at(now)), exact.used(&rule, at(now)));
        assert!(used >= least, "{rule}, {seed}: {used} instead of {least}");
        too_much += u64::from(used > least);
        // What it says of later holds as well.
        let empty_at = counted.falls_to(&rule, 0, at(now));
        assert!(empty_at <= expires_at.max(at(now)), "{rule}, {seed}");
        assert_eq!(
            sketch.state(print, &rule, empty_at).used(&rule, empty_at),
            0,
            "{rule}, {seed}"
        );
        assert_eq!(exact.clone().used(&rule, empty_at), 0, "{rule}, {seed}");
    }
    too_much
}

fn any_quota(algorithm: Algorithm, rng: &mut Rng) -> Quota {
    let window = (rng.u32(1..8), Unit::Second);
    let denied_hits = match rng.u8(..3) {
        0 if algorithm == Algorithm::FixedWindow => DeniedHits::Charged,
        1 => DeniedHits::Debt,
        _ => DeniedHits::Free,
    };
    quota(algorithm, rng.u32(1..9), window, denied_hits)
}

const START: u64 = 1_700_000_000_321;

/// In a thousand: for limits of 1, 2, 5 and 20, how many first requests may be denied.
const MOST_DENIED: [(Algorithm, [u32; 4]); 4] = [
    (Algorithm::FixedWindow, [450, 60, 0, 0]),
    (Algorithm::SlidingWindow, [850, 620, 20, 0]),
    (Algorithm::SlidingLog, [850, 620, 20, 0]),
    (Algorithm::TokenBucket, [720, 400, 10, 0]),
];

#[test]
fn a_flood_denies_few_first_requests_of_its_own_rule_and_none_where_the_limit_is_twenty() {
    // As many keys over the cap as there are below it.
    let max_keys = 20_000;
    for (algorithm, most) in MOST_DENIED {
        for (limit, most) in [1, 2, 5, 20].into_iter().zip(most) {
            let store = store(max_keys);
            let rule = hourly(algorithm, limit);
            let (mut overflowed, mut denied) = (0, 0);
            for n in 0..2 * max_keys {
                let verdict = ask(&store, &check(&n.to_string(), rule, Hits::Charge(1)), 0);
                overflowed += u32::from(verdict.source == Source::Overflow);
                denied += u32::from(verdict.over);
            }
            assert!(overflowed >= max_keys, "{algorithm}");
            let share = denied * 1_000 / overflowed;
            assert!(
                share <= most,
                "{algorithm}, {limit} an hour: {share} of a thousand denied"
            );
        }
    }
}

#[test]
fn quotas_that_differ_share_a_sketch_and_large_counts_stay_what_they_are() {
    for algorithm in Algorithm::ALL {
        let store = store(1);
        ask(
            &store,
            &check("first", hourly(Algorithm::FixedWindow, 1), Hits::Charge(1)),
            0,
        );
        let ask = |limit, hits| {
            let foreseen = check("u", hourly(algorithm, limit), hits);
            let told = store.inspect(&foreseen, at(5));
            assert_eq!(ask(&store, &foreseen, 5), told, "{algorithm}");
            (told.over, told.counted)
        };
        assert_eq!(ask(10, Hits::Charge(10)), (false, 10), "{algorithm}");
        let (_, counted) = ask(80_000, Hits::Charge(70_000));
        assert!(
            counted >= 70_010 || algorithm == Algorithm::TokenBucket,
            "{algorithm}: {counted}"
        );
        assert!(ask(10, Hits::Peek).0, "{algorithm}");
        // What a bucket lacks is time: 10 hits of 10 an hour are an hour at any rate.
        let room = u64::from(algorithm != Algorithm::TokenBucket) * 9_990;
        assert!(ask(80_000, Hits::Charge(room + 1)).0, "{algorithm}");
    }
}

/// A thread that has read the clock just before a window ended finds nothing new that was dropped since.
#[test]
fn what_a_denied_query_ends_was_over_for_everybody() {
    for algorithm in Algorithm::ALL {
        let store = store(1);
        let day = quota(Algorithm::FixedWindow, 1, (1, Unit::Day), DeniedHits::Free);
        ask(&store, &check("first", day, Hits::Charge(1)), 0);
        let rule = hourly(algorithm, 1);
        let own = check("own", rule, Hits::Charge(1));
        let charged_at = HOUR - 5;
        assert!(!ask(&store, &own, charged_at).over);
        // So late that it has expired, whatever it is; the query is denied by another check.
        let late = charged_at + 2 * HOUR;
        let closed = check("closed", hourly(algorithm, 0), Hits::Charge(1));
        let denied = [check("other", rule, Hits::Charge(1)), closed];
        assert!(store.decide(&denied, true, at(late)).denied);
        // A clock a second behind is not behind the drop.
        let behind = ask(&store, &own, late - 1_000);
        assert_eq!((behind.over, behind.at), (false, at(late)), "{algorithm}");
    }
}
