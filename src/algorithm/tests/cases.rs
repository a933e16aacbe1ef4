//! Single behaviours, each as short as it can be told.

use super::{ask, at, quota};
use crate::algorithm::{Counter, FixedWindow, SlidingLog, SlidingWindow, TokenBucket};
use crate::model::{Algorithm, DeniedHits, Hits, Quota, SATURATED, Unit};

const MINUTE: (u32, Unit) = (1, Unit::Minute);

fn minute(algorithm: Algorithm, limit: u32) -> Quota {
    quota(algorithm, limit, MINUTE, DeniedHits::Free)
}

#[test]
fn a_fixed_window_starts_anew_at_each_edge() {
    let quota = minute(Algorithm::FixedWindow, 2);
    let mut window = FixedWindow::default();
    let last = ask(&mut window, quota, Hits::Charge(2), at(59_999));
    assert_eq!(
        (last.over, last.remaining, last.reset_millis),
        (false, 0, 1)
    );
    assert!(ask(&mut window, quota, Hits::Charge(1), at(59_999)).over);
    let next = ask(&mut window, quota, Hits::Charge(1), at(60_000));
    assert_eq!(
        (next.over, next.remaining, next.reset_millis),
        (false, 1, 60_000)
    );
}

#[test]
fn a_clock_that_steps_back_freezes_and_never_refills() {
    let quota = minute(Algorithm::FixedWindow, 1);
    let mut window = FixedWindow::default();
    assert!(!ask(&mut window, quota, Hits::Charge(1), at(120_000)).over);
    let back = ask(&mut window, quota, Hits::Charge(1), at(59_000));
    // Its window is the one that ends at 180 s.
    assert_eq!((back.over, back.reset_millis), (true, 121_000));

    let quota = minute(Algorithm::TokenBucket, 60);
    let mut bucket = TokenBucket::full(&quota, at(120_000));
    assert!(!ask(&mut bucket, quota, Hits::Charge(60), at(120_000)).over);
    assert!(ask(&mut bucket, quota, Hits::Charge(1), at(60_000)).over);
    assert!(ask(&mut bucket, quota, Hits::Charge(1), at(120_999)).over);
    assert!(!ask(&mut bucket, quota, Hits::Charge(1), at(121_000)).over);
}

#[test]
fn a_sliding_window_returns_hits_with_their_cell() {
    let quota = minute(Algorithm::SlidingWindow, 3);
    let mut window = SlidingWindow::default();
    assert!(!ask(&mut window, quota, Hits::Charge(2), at(5_999)).over);
    assert!(!ask(&mut window, quota, Hits::Charge(1), at(6_000)).over);
    let over = ask(&mut window, quota, Hits::Charge(1), at(60_000));
    assert_eq!((over.over, over.reset_millis), (true, 6_000));
    let passes = ask(&mut window, quota, Hits::Charge(1), at(66_000));
    assert_eq!((passes.over, passes.counted), (false, 2));
}

#[test]
fn a_sliding_log_returns_each_hit_one_window_after_it() {
    let quota = minute(Algorithm::SlidingLog, 2);
    let mut log = SlidingLog::new();
    assert!(!ask(&mut log, quota, Hits::Charge(1), at(1_000)).over);
    assert!(!ask(&mut log, quota, Hits::Charge(1), at(1_007)).over);
    let over = ask(&mut log, quota, Hits::Charge(1), at(61_000));
    assert_eq!((over.over, over.reset_millis), (true, 1));
    assert!(!ask(&mut log, quota, Hits::Charge(1), at(61_001)).over);
}

#[test]
fn a_log_keeps_one_member_per_millisecond() {
    let quota = minute(Algorithm::SlidingLog, 1000);
    let mut log = SlidingLog::new();
    for hits in 1..=20 {
        assert!(!ask(&mut log, quota, Hits::Charge(hits), at(5)).over);
    }
    assert_eq!((log.members(), log.used(&quota, at(5))), (1, 210));
}

#[test]
fn a_full_log_counts_longer_and_never_less() {
    let quota = minute(Algorithm::SlidingLog, 10);
    let mut log = SlidingLog::new();
    log.set_room(2);
    for time in [0, 1_000, 2_000, 3_000] {
        assert!(!ask(&mut log, quota, Hits::Charge(1), at(time)).over);
    }
    assert_eq!(log.members(), 2);
    assert_eq!(log.used(&quota, at(62_000)), 4);
    assert_eq!(log.used(&quota, at(62_001)), 1);
    assert_eq!(log.used(&quota, at(63_001)), 0);
}

#[test]
fn a_log_of_debts_stays_bounded() {
    let quota = quota(Algorithm::SlidingLog, 5, (1, Unit::Day), DeniedHits::Debt);
    let mut log = SlidingLog::new();
    for time in 0..100_500 {
        ask(&mut log, quota, Hits::Charge(1), at(time));
    }
    assert_eq!(log.members(), SlidingLog::MAX_MEMBERS);
    assert_eq!(log.used(&quota, at(100_500)), 100_500);
}

#[test]
fn a_refund_takes_the_newest_first() {
    let quota = minute(Algorithm::SlidingLog, 10);
    let mut log = SlidingLog::new();
    ask(&mut log, quota, Hits::Charge(3), at(0));
    ask(&mut log, quota, Hits::Charge(4), at(30_000));
    ask(&mut log, quota, Hits::Refund(5), at(30_000));
    assert_eq!(log.used(&quota, at(60_000)), 2);
    assert_eq!(log.used(&quota, at(60_001)), 0);
}

#[test]
fn nobody_gets_back_more_than_was_charged() {
    for denied_hits in DeniedHits::ALL {
        let quota = quota(Algorithm::FixedWindow, 5, MINUTE, denied_hits);
        let mut window = FixedWindow::default();
        ask(&mut window, quota, Hits::Charge(2), at(0));
        let back = ask(&mut window, quota, Hits::Refund(SATURATED), at(0));
        assert_eq!((back.over, back.counted, back.remaining), (false, 0, 5));
    }
}

#[test]
fn a_bucket_used_and_then_idle_saves_up_no_second_burst() {
    // Burst 10 at 1 a second; a rival admits 17 here.
    let quota = minute(Algorithm::TokenBucket, 60).with_burst(10).unwrap();
    let mut bucket = TokenBucket::full(&quota, at(0));
    assert!(!ask(&mut bucket, quota, Hits::Charge(1), at(0)).over);
    let admitted = (0..100)
        .filter(|_| !ask(&mut bucket, quota, Hits::Charge(1), at(8_900)).over)
        .count();
    assert_eq!(admitted, 10);
    assert!(ask(&mut bucket, quota, Hits::Charge(1), at(9_899)).over);
    assert!(!ask(&mut bucket, quota, Hits::Charge(1), at(9_900)).over);
}

#[test]
fn a_rate_that_divides_no_millisecond_loses_nothing() {
    // 7 in 3 seconds: tokens come at 428.57.., 857.14.., ... 3000 ms.
    let quota = quota(
        Algorithm::TokenBucket,
        7,
        (3, Unit::Second),
        DeniedHits::Free,
    );
    let mut bucket = TokenBucket::full(&quota, at(0));
    ask(&mut bucket, quota, Hits::Charge(7), at(0));
    let mut passed = Vec::new();
    for time in 0..=3_000 {
        if !ask(&mut bucket, quota, Hits::Charge(1), at(time)).over {
            passed.push(time);
        }
    }
    assert_eq!(passed, [429, 858, 1286, 1715, 2143, 2572, 3000]);
}

#[test]
fn a_bucket_in_debt_waits_until_it_is_paid() {
    let quota = quota(Algorithm::TokenBucket, 60, MINUTE, DeniedHits::Debt);
    let mut bucket = TokenBucket::full(&quota, at(0));
    let spent = ask(&mut bucket, quota, Hits::Charge(1_000), at(0));
    assert_eq!(
        (spent.over, spent.remaining, spent.counted),
        (false, 0, 1_000)
    );
    let peek = ask(&mut bucket, quota, Hits::Peek, at(1));
    assert_eq!((peek.over, peek.reset_millis), (true, 941_000 - 1));
    assert!(ask(&mut bucket, quota, Hits::Peek, at(940_999)).over);
    assert!(!ask(&mut bucket, quota, Hits::Peek, at(941_000)).over);
}

#[test]
fn a_debt_stops_growing_where_counts_saturate() {
    let quota = quota(
        Algorithm::TokenBucket,
        u32::MAX,
        (1, Unit::Year),
        DeniedHits::Debt,
    );
    let mut bucket = TokenBucket::full(&quota, at(0));
    for _ in 0..5 {
        ask(&mut bucket, quota, Hits::Charge(SATURATED), at(0));
    }
    assert_eq!(bucket.used(&quota, at(0)), SATURATED + u64::from(u32::MAX));
}

#[test]
fn a_bucket_asleep_since_1970_is_full_and_no_fuller() {
    let quota = minute(Algorithm::TokenBucket, u32::MAX);
    let mut bucket = TokenBucket::full(&quota, at(0));
    ask(&mut bucket, quota, Hits::Charge(u64::from(u32::MAX)), at(0));
    let now = at(1 << 50);
    assert_eq!(bucket.used(&quota, now), 0);
    assert!(!ask(&mut bucket, quota, Hits::Charge(u64::from(u32::MAX)), now).over);
    assert!(ask(&mut bucket, quota, Hits::Charge(1), now).over);
}

#[test]
fn a_smaller_bucket_spills_and_a_larger_one_fills_later() {
    let small = minute(Algorithm::TokenBucket, 60).with_burst(5).unwrap();
    let large = small.with_burst(100).unwrap();
    let mut bucket = TokenBucket::full(&large, at(0));
    let half = ask(&mut bucket, large, Hits::Charge(50), at(0));
    assert_eq!(half.remaining, 50);
    assert_eq!(ask(&mut bucket, small, Hits::Charge(1), at(0)).remaining, 4);
    assert_eq!(ask(&mut bucket, large, Hits::Charge(1), at(0)).remaining, 3);
}

#[test]
fn a_limit_of_0_lets_nothing_pass_and_remembers_nothing() {
    for algorithm in Algorithm::ALL {
        let quota = minute(algorithm, 0);
        let mut counter: Box<dyn Counter> = match algorithm {
            Algorithm::FixedWindow => Box::new(FixedWindow::default()),
            Algorithm::SlidingLog => Box::new(SlidingLog::new()),
            Algorithm::SlidingWindow => Box::new(SlidingWindow::default()),
            Algorithm::TokenBucket => Box::new(TokenBucket::full(&quota, at(7))),
        };
        for hits in [Hits::Peek, Hits::Charge(1), Hits::Charge(SATURATED)] {
            let verdict = ask(counter.as_mut(), quota, hits, at(7));
            assert!(verdict.over && verdict.never, "{algorithm}");
            assert_eq!((verdict.remaining, verdict.counted), (0, 0));
        }
    }
}

#[test]
fn hits_that_never_pass_are_told_the_whole_window() {
    let hour = |algorithm| quota(algorithm, 10, (1, Unit::Hour), DeniedHits::Free);
    let small = hour(Algorithm::TokenBucket).with_burst(5).unwrap();
    let bucket = |quota: &Quota| Box::new(TokenBucket::full(quota, at(0)));
    let cases: [(Quota, Box<dyn Counter>, u64); 5] = [
        (small, bucket(&small), 6),
        (
            hour(Algorithm::TokenBucket),
            bucket(&hour(Algorithm::TokenBucket)),
            11,
        ),
        (
            hour(Algorithm::SlidingWindow),
            Box::<SlidingWindow>::default(),
            11,
        ),
        (
            hour(Algorithm::SlidingLog),
            Box::<SlidingLog>::default(),
            11,
        ),
        (
            hour(Algorithm::FixedWindow),
            Box::<FixedWindow>::default(),
            11,
        ),
    ];
    for (quota, mut counter, hits) in cases {
        // Whether or not something is counted already.
        for charge in [0, 2] {
            counter.charge(&quota, charge, at(0));
            let verdict = ask(counter.as_mut(), quota, Hits::Charge(hits), at(0));
            let told = (verdict.over, verdict.never, verdict.reset_millis);
            assert_eq!(told, (true, true, 3_600_000), "{quota}");
        }
    }
}

#[test]
fn charged_counts_and_peeks_as_the_reference_does() {
    let five = quota(Algorithm::FixedWindow, 5, MINUTE, DeniedHits::Charged);
    let mut window = FixedWindow::default();
    assert!(!ask(&mut window, five, Hits::Charge(5), at(0)).over);
    let full = ask(&mut window, five, Hits::Peek, at(0));
    assert_eq!((full.over, full.remaining), (false, 0));
    let over = ask(&mut window, five, Hits::Charge(6), at(0));
    assert_eq!((over.over, over.never, over.counted), (true, true, 11));
    let peek = ask(&mut window, five, Hits::Peek, at(0));
    assert_eq!(
        (peek.over, peek.never, peek.reset_millis),
        (true, false, 60_000)
    );

    let none = quota(Algorithm::FixedWindow, 0, MINUTE, DeniedHits::Charged);
    let mut window = FixedWindow::default();
    assert!(!ask(&mut window, none, Hits::Peek, at(0)).over);
    assert!(ask(&mut window, none, Hits::Charge(1), at(0)).over);
    assert!(ask(&mut window, none, Hits::Peek, at(0)).over);
}

#[test]
fn counts_saturate_above_every_limit() {
    let quota = quota(
        Algorithm::FixedWindow,
        u32::MAX,
        MINUTE,
        DeniedHits::Charged,
    );
    let mut window = FixedWindow::default();
    for _ in 0..3 {
        ask(&mut window, quota, Hits::Charge(SATURATED), at(0));
    }
    assert_eq!(window.used(&quota, at(0)), SATURATED);
    assert!(ask(&mut window, quota, Hits::Peek, at(0)).over);
}
