//! A charge that is given back leaves no trace: whoever asks later is told what they would have
//! been told if it had never been made.
//!
//! Two counters live through the same history, one of them with a charge more, which is given back
//! later. Everything charges them, whatever they count.

use proptest::prelude::*;

use super::{at, quota};
use crate::algorithm::{
    Counter, FixedWindow, SlidingLog, SlidingWindow, TokenBucket, capacity, comes_back,
};
use crate::clock::Timestamp;
use crate::model::{Algorithm, DeniedHits, Hits, Quota, SATURATED, Unit};

/// What others charge, each after so many milliseconds.
type Charges = Vec<(u64, u64)>;

#[derive(Clone, Debug)]
struct Case {
    quota: Quota,
    before: Charges,
    /// Milliseconds that pass until the charge, and its hits.
    charge: (u64, u64),
    between: Charges,
    /// Milliseconds until it is given back.
    wait: u64,
    after: Charges,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn fixed_windows_keep_no_trace(case in case(Algorithm::FixedWindow)) {
        no_trace(FixedWindow::default(), &case)?;
    }

    #[test]
    fn sliding_windows_keep_no_trace(case in case(Algorithm::SlidingWindow)) {
        no_trace(SlidingWindow::default(), &case)?;
    }

    #[test]
    fn logs_keep_no_trace(case in case(Algorithm::SlidingLog)) {
        no_trace(SlidingLog::new(), &case)?;
    }

    #[test]
    fn buckets_never_hold_more_than_without_the_charge(case in case(Algorithm::TokenBucket)) {
        let new = TokenBucket::full(&case.quota, at(START));
        play(new, &case, |with, without, now| {
            prop_assert!(with.used(&case.quota, now) >= without.used(&case.quota, now));
            // Nor a part of a token more, which would show in when the next one comes.
            let next = with.used(&case.quota, now).saturating_sub(1);
            let then = |bucket: TokenBucket| bucket.falls_to(&case.quota, next, now);
            prop_assert!(then(*with) >= then(*without));
            Ok(())
        })?;
    }

    #[test]
    fn buckets_with_room_keep_no_trace(
        mut case in case(Algorithm::TokenBucket), waits in prop::collection::vec(0..40_u64, 6)
    ) {
        // Never full, as far as the bucket remembers: emptied in one span, and all else in the next.
        let spent = capacity(&case.quota) + u64::from(case.quota.limit()) + 60;
        case.before = vec![(0, spent), (256, 1)];
        case.charge.0 = waits[0];
        case.between.truncate(4);
        for ((wait, _), short) in case.between.iter_mut().zip(&waits[1..]) {
            *wait = *short;
        }
        case.wait = waits[5];
        prop_assert_eq!(START % 256, 0);
        no_trace(TokenBucket::full(&case.quota, at(START)), &case)?;
    }

    #[test]
    fn charges_that_overlap_keep_no_trace_either(
        case in prop::sample::select(Algorithm::ALL.to_vec()).prop_flat_map(case),
        lives in prop::collection::vec(prop::option::of(1..5_usize), 18)
    ) {
        match case.quota.algorithm() {
            Algorithm::FixedWindow => overlap(FixedWindow::default(), &case, &lives)?,
            Algorithm::SlidingWindow => overlap(SlidingWindow::default(), &case, &lives)?,
            Algorithm::SlidingLog => overlap(SlidingLog::new(), &case, &lives)?,
            Algorithm::TokenBucket => {
                overlap(TokenBucket::full(&case.quota, at(START)), &case, &lives)?;
            }
        }
    }

    /// A clock that is behind charges later than it says.
    #[test]
    fn what_a_slow_clock_charged_never_counts_less(
        case in prop::sample::select(Algorithm::ALL.to_vec()).prop_flat_map(case),
        behind in prop_oneof![1..20_u64, 0..9_000_u64]
    ) {
        match case.quota.algorithm() {
            Algorithm::FixedWindow => slow(FixedWindow::default(), &case, behind)?,
            Algorithm::SlidingWindow => slow(SlidingWindow::default(), &case, behind)?,
            Algorithm::SlidingLog => slow(SlidingLog::new(), &case, behind)?,
            Algorithm::TokenBucket => {
                slow(TokenBucket::full(&case.quota, at(START)), &case, behind)?;
            }
        }
    }
}

#[test]
fn a_window_that_began_since_gives_nothing_back() {
    let minute = quota(
        Algorithm::FixedWindow,
        9,
        (1, Unit::Minute),
        DeniedHits::Free,
    );
    let mut window = FixedWindow::default();
    window.charge(&minute, 3, at(59_999));
    window.charge(&minute, 2, at(60_000));
    window.give_back(&minute, 3, at(59_999), at(60_001));
    assert_eq!(window.used(&minute, at(60_001)), 2);
    window.give_back(&minute, 9, at(60_000), at(60_001));
    assert_eq!(window.used(&minute, at(60_001)), 0);
}

#[test]
fn a_bucket_that_would_have_been_full_keeps_what_would_have_spilled() {
    // 10 tokens at most, one every 100 ms.
    let slow = quota(
        Algorithm::TokenBucket,
        10,
        (1, Unit::Second),
        DeniedHits::Free,
    );
    let mut bucket = TokenBucket::full(&slow, at(0));
    bucket.charge(&slow, 5, at(0));
    // Would be 4 then; for 8 tokens, of which 3 had no room.
    bucket.charge(&slow, 6, at(300));
    bucket.give_back(&slow, 5, at(0), at(300));
    assert_eq!(bucket.used(&slow, at(300)), 10 - 4);
}

#[test]
fn a_bucket_that_would_have_been_full_by_a_part_of_a_token_keeps_one() {
    // 10 tokens at most, one every 10 ms.
    let fast = quota(
        Algorithm::TokenBucket,
        100,
        (1, Unit::Second),
        DeniedHits::Free,
    )
    .with_burst(10)
    .unwrap();
    let mut bucket = TokenBucket::full(&fast, at(0));
    bucket.charge(&fast, 31, at(0));
    // 5 are left of 5, and 5.5 have come back when one is taken: with these 5 it would be 10.5.
    bucket.charge(&fast, 5, at(260));
    bucket.charge(&fast, 1, at(315));
    bucket.give_back(&fast, 5, at(260), at(315));
    assert_eq!(bucket.used(&fast, at(315)), 2);
    assert_eq!(bucket.used(&fast, at(320)), 1);
}

#[test]
fn a_charge_that_no_longer_counts_stays_where_it_is() {
    let minute = quota(
        Algorithm::SlidingLog,
        9,
        (1, Unit::Minute),
        DeniedHits::Free,
    );
    let mut log = SlidingLog::new();
    log.charge(&minute, 3, at(0));
    log.give_back(&minute, 3, at(0), at(60_001));
    // The clock steps back.
    assert_eq!(log.used(&minute, at(60_000)), 3);
    log.give_back(&minute, 2, at(0), at(60_000));
    assert_eq!(log.used(&minute, at(60_000)), 1);
}

#[test]
fn of_a_count_that_saturated_nothing_comes_back() {
    for algorithm in [
        Algorithm::FixedWindow,
        Algorithm::SlidingLog,
        Algorithm::SlidingWindow,
    ] {
        let quota = quota(algorithm, 9, (1, Unit::Hour), DeniedHits::Debt);
        let mut counter: Box<dyn Counter> = match algorithm {
            Algorithm::FixedWindow => Box::new(FixedWindow::default()),
            Algorithm::SlidingLog => Box::new(SlidingLog::new()),
            _ => Box::new(SlidingWindow::default()),
        };
        counter.charge(&quota, 5, at(7));
        counter.charge(&quota, SATURATED, at(7));
        counter.give_back(&quota, 5, at(7), at(8));
        assert_eq!(counter.used(&quota, at(8)), SATURATED, "{algorithm}");
    }
}

#[test]
fn only_what_a_denied_query_would_not_have_charged_comes_back() {
    for denied_hits in DeniedHits::ALL {
        let quota = quota(Algorithm::FixedWindow, 9, (1, Unit::Hour), denied_hits);
        let free = denied_hits == DeniedHits::Free;
        assert_eq!(
            comes_back(&quota, Hits::Charge(3), false),
            if free { 3 } else { 0 }
        );
        assert_eq!(comes_back(&quota, Hits::Charge(3), true), 0);
        assert_eq!(comes_back(&quota, Hits::Peek, false), 0);
        assert_eq!(comes_back(&quota, Hits::Refund(3), false), 0);
    }
}

/// Both are told the same from then on.
fn no_trace(new: impl Counter + Clone, case: &Case) -> Result<(), TestCaseError> {
    let quota = &case.quota;
    play(new, case, |with, without, now| {
        let used = without.used(quota, now);
        prop_assert_eq!(with.used(quota, now), used);
        for target in [0, 1, used / 2, used.saturating_sub(1)] {
            let [then, expected] =
                [with, without].map(|counter| counter.falls_to(quota, target, now));
            prop_assert_eq!(then, expected);
        }
        prop_assert_eq!(with.resets_at(quota, now), without.resets_at(quota, now));
        Ok(())
    })
}

/// Plays a case; `judge` compares the counter that was charged once more with the other one.
fn play<C: Counter + Clone>(
    new: C,
    case: &Case,
    judge: impl Fn(&C, &C, Timestamp) -> Result<(), TestCaseError>,
) -> Result<(), TestCaseError> {
    let quota = &case.quota;
    let (mut without, mut now) = (new, START);
    for &(wait, hits) in &case.before {
        now += wait;
        without.charge(quota, hits, at(now));
    }
    let mut with = without.clone();
    let (wait, hits) = case.charge;
    now += wait;
    let charged = now;
    with.charge(quota, hits, at(charged));
    for &(wait, hits) in &case.between {
        now += wait;
        with.charge(quota, hits, at(now));
        without.charge(quota, hits, at(now));
    }
    now += case.wait;
    with.give_back(quota, hits, at(charged), at(now));
    judge(&with, &without, at(now))?;
    for &(wait, hits) in &case.after {
        now += wait;
        judge(&with, &without, at(now))?;
        with.charge(quota, hits, at(now));
        without.charge(quota, hits, at(now));
        judge(&with, &without, at(now))?;
    }
    Ok(())
}

/// Some charges are given back after so many others.
fn overlap<C: Counter + Clone>(
    new: C,
    case: &Case,
    lives: &[Option<usize>],
) -> Result<(), TestCaseError> {
    let quota = &case.quota;
    let (mut with, mut without, mut now) = (new.clone(), new, START);
    let mut pending: Vec<(usize, u64, u64)> = Vec::new();
    let charges = case.before.iter().chain(&case.between).chain(&case.after);
    for (index, (&(wait, hits), life)) in charges.zip(lives).enumerate() {
        now += wait;
        pending.retain(|&(until, hits, charged)| {
            let due = until <= index;
            if due {
                with.give_back(quota, hits, at(charged), at(now));
            }
            !due
        });
        with.charge(quota, hits, at(now));
        match life {
            Some(others) => pending.push((index + others, hits, now)),
            None => without.charge(quota, hits, at(now)),
        }
        prop_assert!(with.used(quota, at(now)) >= without.used(quota, at(now)));
    }
    for (_, hits, charged) in pending {
        with.give_back(quota, hits, at(charged), at(now));
    }
    let (left, expected) = (with.used(quota, at(now)), without.used(quota, at(now)));
    prop_assert!(left >= expected);
    prop_assert!(left == expected || quota.algorithm() == Algorithm::TokenBucket);
    Ok(())
}

/// The charge reads a clock that is so far behind, and so does whoever gives it back.
fn slow<C: Counter + Clone>(new: C, case: &Case, behind: u64) -> Result<(), TestCaseError> {
    let quota = &case.quota;
    let (mut without, mut now) = (new, START);
    for &(wait, hits) in &case.before {
        now += wait;
        without.charge(quota, hits, at(now));
    }
    let (mut with, early) = (without.clone(), at(now - behind));
    with.charge(quota, case.charge.1, early);
    for &(wait, hits) in &case.between {
        now += wait;
        with.charge(quota, hits, at(now));
        without.charge(quota, hits, at(now));
    }
    now += case.wait;
    with.give_back(quota, case.charge.1, early, at(now));
    for &(wait, hits) in &case.after {
        now += wait;
        prop_assert!(with.used(quota, at(now)) >= without.used(quota, at(now)));
        with.charge(quota, hits, at(now));
        without.charge(quota, hits, at(now));
    }
    Ok(())
}

fn case(algorithm: Algorithm) -> impl Strategy<Value = Case> {
    let window = prop::sample::select(vec![
        (1, Unit::Second),
        (7, Unit::Second),
        (1, Unit::Minute),
    ]);
    let limit = match algorithm {
        Algorithm::TokenBucket => prop_oneof![1..30_u32, 1..3_000_u32].boxed(),
        _ => Just(1_000_u32).boxed(),
    };
    (window, limit, 1..30_u32).prop_flat_map(move |(window, limit, burst)| {
        let mut quota = quota(algorithm, limit, window, DeniedHits::Free);
        if algorithm == Algorithm::TokenBucket {
            quota = quota.with_burst(burst).unwrap();
        }
        let cell = quota.window().millis() / 10;
        let wait = move || {
            prop_oneof![
                6 => Just(0_u64),
                6 => 1..5_u64,
                2 => 0..300_u64,
                3 => (0..13_u64, 0..3_u64).prop_map(move |(cells, more)| cells * cell + more),
            ]
        };
        let charges = move || prop::collection::vec((wait(), 1..9_u64), 0..6);
        (charges(), (wait(), 1..9_u64), charges(), wait(), charges()).prop_map(
            move |(before, charge, between, wait, after)| Case {
                quota,
                before,
                charge,
                between,
                wait,
                after,
            },
        )
    })
}

/// No window begins near it but that of a second; a span does.
const START: u64 = 1_700_000_021_248;
