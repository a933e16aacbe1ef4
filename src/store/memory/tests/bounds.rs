//! What happens when the store is full.

use super::super::logs::LogBudget;
use super::super::shared_bucket::SharedBucket;
use super::{HOUR, ask, check, fixed, hourly, store, sweep};
use crate::algorithm::tests::{at, quota};
use crate::algorithm::{Counter, LONGEST_WAIT_MILLIS, SlidingLog};
use crate::model::{Algorithm, Check, DeniedHits, Hits, RuleId, Source, Unit};

#[test]
fn a_million_keys_flush_nobodys_counter() {
    let max_keys = 50_000;
    let store = store(max_keys);
    let limited = check("limited", fixed(5), Hits::Charge(5));
    assert!(!ask(&store, &limited, 0).over);
    let mut late = None;
    for n in 0..1_000_000_u32 {
        let newcomer = check(&n.to_string(), fixed(5), Hits::Charge(1));
        let verdict = ask(&store, &newcomer, u64::from(n) / 1_000);
        if verdict.source == Source::Overflow && verdict.over && late.is_none() {
            late = Some(newcomer);
        }
        if n % 100_000 == 0 {
            sweep(&store, u64::from(n) / 1_000);
            assert!(ask(&store, &limited, u64::from(n) / 1_000).over);
            let late = late
                .as_ref()
                .map(|late| ask(&store, late, u64::from(n) / 1_000));
            assert!(late.is_none_or(|late| late.over));
        }
    }
    let stats = store.stats();
    assert!(stats.live_keys <= u64::from(max_keys));
    // One rule gets 7/8 of each shard, and a part of a key.
    let most = 43_000..=43_800;
    assert!(most.contains(&stats.live_keys), "{}", stats.live_keys);
    assert!(stats.overflow_decisions > 900_000);
    assert_eq!(stats.expired, 0);
    assert!(
        stats.bytes < u64::from(max_keys) * 110,
        "{} bytes",
        stats.bytes
    );
    // Once its window is over, a key has its own counter again.
    sweep(&store, HOUR);
    let again = ask(&store, &late.unwrap(), HOUR);
    assert_eq!((again.over, again.source), (false, Source::Memory));
}

#[test]
fn a_flooded_rule_overflows_alone() {
    let max_keys = 10_000;
    let rule = |number, user: &str, quota| Check {
        rule: RuleId::from_bits(number),
        ..check(user, quota, Hits::Charge(1))
    };
    for algorithm in Algorithm::ALL {
        let store = store(max_keys);
        for n in 0..100_000_u32 {
            ask(&store, &rule(1, &n.to_string(), hourly(algorithm, 20)), 0);
        }
        let keys = store.stats().live_keys;
        assert!((8_500..=8_760).contains(&keys), "{algorithm}: {keys}");
        // 800 users of another rule have their counters, exact to the last hit: of two shards each has
        // room for 547 of them.
        for n in 0..800 {
            let user = format!("other-{n}");
            for hit in 1..=6 {
                let verdict = ask(&store, &rule(2, &user, hourly(algorithm, 5)), 1);
                assert_eq!(verdict.over, hit == 6, "{algorithm}: {verdict:?}");
                assert_eq!(verdict.source, Source::Memory, "{algorithm}");
            }
        }
    }
}

#[test]
fn no_shard_is_so_large_that_sweeping_it_pauses_the_others() {
    for max_keys in [1, 4_095, 50_000, 1_000_000] {
        let store = store(max_keys);
        let per_shard = usize::try_from(max_keys).unwrap().div_ceil(store.shards());
        assert!(per_shard < 2 * 4_096, "{max_keys}");
    }
    assert_eq!(store(4_096).shards(), 1);
}

#[test]
fn a_full_shard_makes_room_from_what_has_expired() {
    let store = store(3);
    for user in ["a", "b", "c"] {
        assert!(!ask(&store, &check(user, fixed(1), Hits::Charge(1)), 0).over);
    }
    let new = check("d", fixed(1), Hits::Charge(1));
    assert_eq!(ask(&store, &new, HOUR - 1).source, Source::Overflow);
    let other = check("e", fixed(1), Hits::Charge(1));
    let verdict = ask(&store, &other, HOUR);
    assert_eq!((verdict.over, verdict.source), (false, Source::Memory));
    assert_eq!(store.stats().expired, 3);
}

#[test]
fn a_key_takes_what_a_shared_counter_holds_along_to_its_own() {
    for algorithm in Algorithm::ALL {
        let store = store(1);
        let first = |hits| check("first", fixed(1), hits);
        let second = |hits| check("second", hourly(algorithm, 3), hits);
        assert!(!ask(&store, &first(Hits::Charge(1)), 0).over);
        let shared = ask(&store, &second(Hits::Charge(1)), 0);
        assert_eq!(shared.source, Source::Overflow);
        // Room again. A fresh counter would be a gift.
        ask(&store, &first(Hits::Refund(1)), 0);
        assert_eq!(store.stats().live_keys, 0);
        let peek = ask(&store, &second(Hits::Peek), 0);
        assert_eq!((peek.counted, peek.source), (1, Source::Overflow));
        let foreseen = store.inspect(&second(Hits::Charge(1)), at(0));
        let own = ask(&store, &second(Hits::Charge(1)), 0);
        assert_eq!(
            (own.counted, own.source),
            (2, Source::Memory),
            "{algorithm}"
        );
        assert_eq!(own, foreseen, "{algorithm}");
        assert!(ask(&store, &second(Hits::Charge(2)), 1).over);
        assert_eq!(store.stats().live_keys, 1);
        let anew = ask(&store, &second(Hits::Charge(1)), 2 * HOUR);
        assert_eq!((anew.counted, anew.source), (1, Source::Memory));
        sweep(&store, 4 * HOUR);
        let empty = store.stats();
        assert_eq!((empty.live_keys, empty.log_members), (0, 0), "{algorithm}");
    }
}

#[test]
fn newcomers_that_keep_coming_leave_the_shared_counters_once_there_is_room() {
    for algorithm in Algorithm::ALL {
        let store = store(1);
        let first = |hits| check("first", fixed(1), hits);
        ask(&store, &first(Hits::Charge(1)), 0);
        let rule = hourly(algorithm, 1_000);
        let newcomer = |n: u64| check(&n.to_string(), rule, Hits::Charge(1));
        for n in 0..100 {
            assert_eq!(ask(&store, &newcomer(n), n).source, Source::Overflow);
        }
        ask(&store, &first(Hits::Refund(1)), 100);
        // One at a time, each gone before the next, and never a pause in which a sketch could end.
        let mut left = None;
        for n in 100..1_000 {
            let now = (n - 99) * 60_000;
            sweep(&store, now);
            let own = ask(&store, &newcomer(n), now);
            if own.counted == 1 && own.source == Source::Memory {
                left = Some(now);
                break;
            }
            let refund = Check {
                hits: Hits::Refund(1_000),
                ..newcomer(n)
            };
            ask(&store, &refund, now);
        }
        // The charges at the beginning are all that the sketch ever held.
        assert!(left.is_some_and(|now| now <= 3 * HOUR), "{algorithm}");
    }
}

#[test]
fn a_wait_lasts_until_the_shared_counter_of_the_key_has_room_too() {
    for algorithm in Algorithm::ALL {
        let rule = quota(algorithm, 6, (7, Unit::Second), DeniedHits::Free);
        let store = store(1);
        let own = |hits| check("own", rule, Hits::Charge(hits));
        let first = |hits| check("first", fixed(1), hits);
        ask(&store, &first(Hits::Charge(1)), 0);
        assert_eq!(ask(&store, &own(5), 0).source, Source::Overflow);
        // Room again: the key has an entry of its own, and the sketch still holds its hits.
        ask(&store, &first(Hits::Refund(1)), 0);
        let along = ask(&store, &own(1), 100);
        assert_eq!((along.over, along.source), (false, Source::Memory));
        let denied = ask(&store, &own(2), 700);
        assert_eq!((denied.over, denied.source), (true, Source::Memory));
        assert_eq!(denied, store.inspect(&own(2), at(700)), "{algorithm}");
        let then = 700 + denied.reset_millis;
        let too_early = store.inspect(&own(2), at(then - 1));
        assert!(too_early.over, "{algorithm}: {denied:?} {too_early:?}");
        assert!(!store.inspect(&own(2), at(then)).over, "{algorithm}");
    }
}

#[test]
fn a_slow_bucket_does_not_stop_one_that_refills_every_second() {
    let store = store(1);
    ask(&store, &check("first", fixed(1), Hits::Charge(1)), 0);
    let bucket = |limit, window| quota(Algorithm::TokenBucket, limit, window, DeniedHits::Free);
    let slow = check("slow", bucket(1, (1, Unit::Day)), Hits::Charge(1));
    let fast = check("fast", bucket(100, (1, Unit::Second)), Hits::Charge(1));
    assert!(!ask(&store, &slow, 0).over);
    assert!(ask(&store, &slow, 0).over);
    let fast = ask(&store, &fast, 0);
    assert_eq!((fast.over, fast.counted), (false, 1));
}

#[test]
fn a_refusal_within_a_query_that_took_all_memory_tells_a_finite_wait() {
    let store = store(1);
    ask(&store, &check("first", fixed(1), Hits::Charge(1)), 0);
    let checks: Vec<_> = (1..=9)
        .map(|hours| {
            let window = (hours, Unit::Hour);
            let quota = quota(Algorithm::FixedWindow, 5, window, DeniedHits::Free);
            check("u", quota, Hits::Charge(1))
        })
        .collect();
    let decision = store.decide(&checks, true, at(0));
    let ninth = decision.verdicts.last().unwrap();
    assert!(decision.denied && ninth.over);
    assert!(ninth.reset_millis <= LONGEST_WAIT_MILLIS);
}

#[test]
fn a_newcomer_cannot_empty_its_share_of_a_sketch() {
    for algorithm in Algorithm::ALL {
        let store = store(1);
        ask(&store, &check("first", fixed(1), Hits::Charge(1)), 0);
        let charge = |user| check(user, hourly(algorithm, 3), Hits::Charge(2));
        let one = ask(&store, &charge("one"), 0);
        assert_eq!((one.over, one.counted), (false, 2), "{algorithm}");
        let refund = check("one", hourly(algorithm, 3), Hits::Refund(2));
        let refund = ask(&store, &refund, 0);
        assert_eq!((refund.over, refund.counted), (false, 2), "{algorithm}");
        assert_eq!(store.stats().overflow_refunds_ignored, 1);
        let again = store.inspect(&charge("one"), at(0));
        assert_eq!(again, ask(&store, &charge("one"), 0));
        assert!(again.over, "{algorithm}");
        assert_eq!(again.source, Source::Overflow);
        // It tells the truth about when it passes.
        let then = again.reset_millis;
        assert!(store.inspect(&charge("one"), at(then - 1)).over);
        assert!(!store.inspect(&charge("one"), at(then)).over);
        // Another key has cells of its own.
        let two = store.inspect(&charge("two"), at(0));
        assert_eq!(two, ask(&store, &charge("two"), 0));
        assert_eq!((two.over, two.counted), (false, 2), "{algorithm}");
    }
}

#[test]
fn a_denied_query_claims_no_shared_counter() {
    let store = store(1);
    ask(&store, &check("first", fixed(1), Hits::Charge(1)), 0);
    let closed = check("closed", fixed(0), Hits::Charge(1));
    for (user, multiplier) in (1..=20_u8).map(|n| (n.to_string(), u32::from(n))) {
        let quota = quota(
            Algorithm::FixedWindow,
            5,
            (multiplier, Unit::Hour),
            DeniedHits::Free,
        );
        let charge = check(&user, quota, Hits::Charge(1));
        assert!(store.decide(&[charge, closed.clone()], true, at(0)).denied);
    }
    let quota = quota(
        Algorithm::FixedWindow,
        5,
        (30, Unit::Hour),
        DeniedHits::Free,
    );
    assert!(!ask(&store, &check("last", quota, Hits::Charge(1)), 0).over);
}

#[test]
fn without_a_free_shared_counter_the_answer_is_over() {
    let store = store(1);
    ask(&store, &check("first", fixed(1), Hits::Charge(1)), 0);
    let window = |multiplier| {
        let quota = quota(
            Algorithm::FixedWindow,
            5,
            (multiplier, Unit::Hour),
            DeniedHits::Free,
        );
        check("u", quota, Hits::Charge(1))
    };
    // Each kind has a sketch of its own.
    let (kinds, refused) = (1..20)
        .map(|hours| (hours, ask(&store, &window(hours), 0)))
        .find(|(_, verdict)| verdict.over)
        .unwrap();
    assert!(kinds > 5 && !refused.never, "{kinds}: {refused:?}");
    assert_eq!(store.inspect(&window(kinds), at(0)), refused);
    assert_eq!(store.stats().overflow_refused, 1);
    assert_eq!(refused.reset_millis, HOUR);
    assert!(!ask(&store, &window(kinds), HOUR).over);
}

#[test]
fn a_debt_in_a_shared_bucket_is_paid_before_anything_passes() {
    let store = store(1);
    ask(&store, &check("first", fixed(1), Hits::Charge(1)), 0);
    let quota = quota(
        Algorithm::TokenBucket,
        10,
        (1, Unit::Minute),
        DeniedHits::Debt,
    );
    let charge = ask(&store, &check("u", quota, Hits::Charge(1_000)), 0);
    assert_eq!((charge.over, charge.source), (false, Source::Overflow));
    let peek = check("u", quota, Hits::Peek);
    let minutes = (1_000 - 10) / 10;
    // One token is back after 99 minutes and 6 seconds.
    assert!(ask(&store, &peek, minutes * 60_000 + 5_999).over);
    assert!(!ask(&store, &peek, minutes * 60_000 + 6_000).over);
}

#[test]
fn a_shared_bucket_rounds_every_hit_up() {
    let rates = [(u32::MAX, 1), (3, 1), (999_983, 7), (1, 3_600)];
    for (limit, seconds) in rates {
        let quota = quota(
            Algorithm::TokenBucket,
            limit,
            (seconds, Unit::Second),
            DeniedHits::Free,
        );
        let mut bucket = SharedBucket::default();
        for hits in 1..=1_000 {
            bucket.charge(&quota, 1, at(5));
            assert!(bucket.used(&quota, at(5)) >= hits, "{quota}");
        }
    }
}

#[test]
fn logs_beyond_their_budget_count_longer_instead_of_growing() {
    let budget = LogBudget::with_members(8);
    let quota = hourly(Algorithm::SlidingLog, 100);
    let mut logs = [SlidingLog::new(), SlidingLog::new()];
    for time in 0..20 {
        for log in &mut logs {
            budget.make_room(log, &quota, at(time));
            log.charge(&quota, 1, at(time));
        }
    }
    assert_eq!(budget.allocated(), 8);
    assert!(budget.refusals() > 0);
    for log in &logs {
        assert_eq!(log.members(), 4);
        assert_eq!(log.used(&quota, at(HOUR + 16)), 20);
        assert_eq!(log.used(&quota, at(HOUR + 17)), 3);
    }
}

#[test]
fn a_log_gives_its_memory_back() {
    let store = store(1_000);
    let quota = hourly(Algorithm::SlidingLog, 50_000);
    let hit = check("a", quota, Hits::Charge(1));
    for time in 0..50_000 {
        assert!(!ask(&store, &hit, time).over);
    }
    let full = store.stats();
    assert!(full.log_members >= 50_000 && full.bytes > 800_000);
    for turn in 1..20 {
        ask(&store, &hit, turn * 2 * HOUR);
    }
    assert!(store.stats().log_members < 10);
    sweep(&store, 50 * HOUR);
    let empty = store.stats();
    assert_eq!((empty.live_keys, empty.log_members), (0, 0));
    ask(&store, &hit, 50 * HOUR);
    assert!(store.stats().log_members > 0);
    ask(&store, &check("a", quota, Hits::Refund(1)), 50 * HOUR);
    assert_eq!(store.stats().log_members, 0);
}

#[test]
fn a_log_of_debts_takes_no_more_memory_than_its_limit_needs() {
    let store = store(1_000);
    let debts = quota(Algorithm::SlidingLog, 1, (1, Unit::Day), DeniedHits::Debt);
    for time in 0..10_000 {
        ask(&store, &check("a", debts, Hits::Charge(1)), time);
    }
    let stats = store.stats();
    assert!(stats.log_members <= 64);
    assert_eq!(stats.log_overflows, 0);
    let last = ask(&store, &check("a", debts, Hits::Peek), 10_000);
    assert_eq!(last.reset_millis, Unit::Day.millis());
}
