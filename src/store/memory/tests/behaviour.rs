//! Single behaviours of a store with room.

use super::{HOUR, ask, check, fixed, hourly, store, sweep};
use crate::algorithm::tests::{at, quota};
use crate::model::{Algorithm, Check, DeniedHits, Hits, Role, Source, Unit};

#[test]
fn what_is_given_back_leaves_no_counter() {
    for algorithm in Algorithm::ALL {
        let store = store(10);
        let own = check("ann", hourly(algorithm, 9), Hits::Charge(3));
        assert_eq!(ask(&store, &own, 5).counted, 3);
        let charges = [own.clone(), check("bob", fixed(9), Hits::Charge(1))];
        assert!(!store.decide(&charges, true, at(6)).denied);
        store.give_back(&charges, at(6), at(6));
        // What was charged at another time stays, and so does what a denied query charges anyway.
        assert_eq!(store.inspect(&own, at(6)).counted, 3 + 3, "{algorithm}");
        let debt = quota(algorithm, 9, (1, Unit::Hour), DeniedHits::Debt);
        store.give_back(&[check("ann", debt, Hits::Charge(3))], at(5), at(6));
        assert_eq!(store.stats().live_keys, 1, "{algorithm}");
        store.give_back(&[own], at(5), at(6));
        assert_eq!(store.stats().live_keys, 0, "{algorithm}");
    }
}

#[test]
fn a_shared_counter_gives_nothing_back() {
    let store = store(1);
    assert!(!ask(&store, &check("ann", fixed(9), Hits::Charge(1)), 0).over);
    let late = check("bob", fixed(9), Hits::Charge(4));
    assert_eq!(ask(&store, &late, 0).source, Source::Overflow);
    store.give_back(std::slice::from_ref(&late), at(0), at(1));
    assert_eq!(ask(&store, &late, 1).counted, 8);
    assert_eq!(store.stats().overflow_refunds_ignored, 1);
}

#[test]
fn a_denied_query_has_charged_nobody() {
    let store = store(1_000);
    let full = check("full", fixed(1), Hits::Charge(1));
    let other = check("other", fixed(9), Hits::Charge(2));
    assert!(!ask(&store, &full, 0).over);
    let decision = store.decide(&[other.clone(), full], true, at(0));
    assert!(decision.denied);
    let verdicts: Vec<_> = decision
        .verdicts
        .iter()
        .map(|verdict| (verdict.over, verdict.remaining, verdict.counted))
        .collect();
    assert_eq!(verdicts, [(false, 9, 0), (true, 0, 1)]);
    assert_eq!(store.stats().live_keys, 1);
    assert_eq!(ask(&store, &other, 0).counted, 2);
}

#[test]
fn a_key_that_appears_twice_is_charged_twice() {
    let store = store(1_000);
    let hit = check("twin", fixed(5), Hits::Charge(1));
    let decision = store.decide(&[hit.clone(), hit.clone()], true, at(0));
    let remaining: Vec<u32> = decision
        .verdicts
        .iter()
        .map(|verdict| verdict.remaining)
        .collect();
    assert_eq!(remaining, [4, 3]);
    let much = check("twin", fixed(5), Hits::Charge(2));
    assert!(store.decide(&[much.clone(), much], true, at(0)).denied);
    assert_eq!(ask(&store, &hit, 0).counted, 3);
}

#[test]
fn a_twin_that_was_denied_waits_for_room_for_both() {
    let store = store(1_000);
    let quota = hourly(Algorithm::SlidingLog, 3);
    let hit = check("twin", quota, Hits::Charge(1));
    assert!(!ask(&store, &hit, 0).over);
    assert!(!ask(&store, &hit, 500).over);
    let twins = [hit.clone(), hit.clone()];
    let denied = store.decide(&twins, true, at(600));
    let wait = denied.verdicts.last().unwrap().reset_millis;
    assert_eq!(600 + wait, HOUR + 1);
    assert!(store.decide(&twins, true, at(600 + wait - 1)).denied);
    assert!(!store.decide(&twins, true, at(600 + wait)).denied);
    let four = [hit.clone(), hit.clone(), hit.clone(), hit];
    let denied = store.decide(&four, true, at(9 * HOUR));
    assert!(denied.verdicts.last().unwrap().never);
}

#[test]
fn checks_of_one_bucket_at_two_limits_report_a_wait() {
    let bucket = |(limit, burst, unit), denied_hits, hits| {
        let quota = quota(Algorithm::TokenBucket, limit, (1, unit), denied_hits);
        check("ann", quota.with_burst(burst).unwrap(), Hits::Charge(hits))
    };
    let (free, debt) = (DeniedHits::Free, DeniedHits::Debt);
    let (second, minute) = (Unit::Second, Unit::Minute);
    let cases = [
        // A debt is never charged to a bucket without refill, so its hits need no room.
        (
            bucket((1, 1, second), debt, 1),
            0,
            [
                bucket((0, 1, second), debt, 1),
                bucket((1, 1, second), debt, 3),
            ],
            [(true, true, 1_000), (true, false, 4_000)],
        ),
        (
            bucket((2, 2, second), debt, 7),
            0,
            [
                bucket((2, 2, second), free, 2),
                bucket((0, 2, second), debt, 1),
            ],
            [(true, false, 3_500), (true, true, 1_000)],
        ),
        // The first check's rate has refilled nothing, so the second one is over. At its own rate
        // there is room for both.
        (
            bucket((100, 100, minute), debt, 50),
            3_000,
            [
                bucket((1, 100, minute), free, 1),
                bucket((100, 100, minute), free, 50),
            ],
            [(false, false, 2_997_000), (true, false, 1)],
        ),
    ];
    for (charged, now, query, expected) in cases {
        let store = store(10);
        ask(&store, &charged, 0);
        let decision = store.decide(&query, true, at(now));
        let verdicts = decision.verdicts.iter();
        let told: Vec<_> = verdicts
            .map(|verdict| (verdict.over, verdict.never, verdict.reset_millis))
            .collect();
        assert_eq!(told, expected, "{query:#?}");
    }
}

#[test]
fn charged_counts_every_key_of_a_denied_query() {
    let store = store(1_000);
    let charged = |user, limit| {
        let quota = quota(
            Algorithm::FixedWindow,
            limit,
            (1, Unit::Hour),
            DeniedHits::Charged,
        );
        check(user, quota, Hits::Charge(1))
    };
    let checks = [charged("a", 0), charged("b", 5), charged("b", 5)];
    let decision = store.decide(&checks, true, at(0));
    assert!(decision.denied);
    let verdicts: Vec<_> = decision
        .verdicts
        .iter()
        .map(|verdict| (verdict.over, verdict.counted, verdict.remaining))
        .collect();
    assert_eq!(verdicts, [(true, 1, 0), (false, 1, 4), (false, 2, 3)]);
}

#[test]
fn a_refund_lands_beside_a_denial() {
    let store = store(1_000);
    let spent = check("spent", fixed(5), Hits::Charge(5));
    assert!(!ask(&store, &spent, 0).over);
    let back = check("spent", fixed(5), Hits::Refund(2));
    let never = check("never", fixed(0), Hits::Charge(1));
    let decision = store.decide(&[back, never], true, at(0));
    assert!(decision.denied);
    assert_eq!(decision.verdicts.first().unwrap().counted, 3);
}

#[test]
fn a_shadow_domain_denies_nothing_and_charges_what_passes() {
    let store = store(1_000);
    let checks = [
        check("a", fixed(0), Hits::Charge(1)),
        check("b", fixed(5), Hits::Charge(1)),
    ];
    let decision = store.decide(&checks, false, at(0));
    assert!(!decision.denied);
    let [a, b] = decision.verdicts.as_slice() else {
        panic!("a verdict each");
    };
    assert!(a.over && !b.over);
    assert_eq!(b.counted, 1);
}

#[test]
fn a_quota_check_that_is_over_withholds_nothing_from_the_others() {
    let store = store(1_000);
    let quota_role = Role {
        quota: true,
        ..Role::default()
    };
    let member = |user, limit| Check {
        role: quota_role,
        ..check(user, fixed(limit), Hits::Charge(1))
    };
    let decision = store.decide(&[member("a", 0), member("b", 5)], true, at(0));
    assert!(!decision.denied);
    assert_eq!(decision.verdicts.last().unwrap().counted, 1);
}

#[test]
fn what_counts_nothing_is_not_kept() {
    let store = store(1_000);
    ask(&store, &check("peeked", fixed(5), Hits::Peek), 0);
    ask(&store, &check("too much", fixed(5), Hits::Charge(6)), 0);
    ask(&store, &check("nothing", fixed(5), Hits::Refund(1)), 0);
    assert_eq!(store.stats().live_keys, 0);
    ask(&store, &check("back", fixed(5), Hits::Charge(3)), 0);
    assert_eq!(store.stats().live_keys, 1);
    ask(&store, &check("back", fixed(5), Hits::Refund(3)), 0);
    assert_eq!(store.stats().live_keys, 0);
}

#[test]
fn a_limit_that_changes_keeps_its_count() {
    let store = store(1_000);
    ask(&store, &check("a", fixed(5), Hits::Charge(4)), 0);
    let raised = ask(&store, &check("a", fixed(10), Hits::Charge(1)), 0);
    assert_eq!((raised.counted, raised.remaining), (5, 5));
    assert!(ask(&store, &check("a", fixed(3), Hits::Charge(1)), 0).over);
}

#[test]
fn a_bucket_whose_refill_was_slowed_down_is_kept_until_it_is_full() {
    let store = store(1_000);
    let rate = |limit| {
        let quota = quota(
            Algorithm::TokenBucket,
            limit,
            (1, Unit::Minute),
            DeniedHits::Free,
        );
        check("a", quota.with_burst(100).unwrap(), Hits::Charge(100))
    };
    assert!(!ask(&store, &rate(100), 0).over);
    let slower = ask(&store, &rate(10), 1);
    assert_eq!((slower.over, slower.reset_millis), (true, 600_000 - 1));
    // At the old rate it would be full by now.
    sweep(&store, 61_000);
    assert!(ask(&store, &rate(10), 61_000).over);
    assert!(ask(&store, &rate(10), 599_999).over);
    assert!(!ask(&store, &rate(10), 600_000).over);
}

#[test]
fn sweeping_drops_what_has_expired_and_only_that() {
    let store = store(50_000);
    let user = |n: u32| check(&n.to_string(), fixed(2), Hits::Charge(2));
    for n in 0..20_000 {
        assert!(!ask(&store, &user(n), 0).over);
    }
    for n in 20_000..20_100 {
        assert!(!ask(&store, &user(n), HOUR).over);
    }
    let before = store.stats();
    assert_eq!(before.live_keys, 20_100);
    assert_eq!(sweep(&store, HOUR - 1), 0);
    assert_eq!(sweep(&store, HOUR), 20_000);
    let after = store.stats();
    assert_eq!((after.live_keys, after.expired), (100, 20_000));
    for n in 20_000..20_100 {
        assert!(ask(&store, &user(n), HOUR).over);
    }
    for _ in 0..20 {
        sweep(&store, HOUR);
    }
    assert!(store.stats().bytes * 5 < before.bytes, "gives memory back");
}

#[test]
fn a_thread_with_an_older_clock_finds_no_window_refilled() {
    let store = store(1_000);
    let hit = check("a", fixed(1), Hits::Charge(1));
    assert!(!ask(&store, &hit, HOUR - 1).over);
    // Another thread reads the clock at the edge and drops the window.
    assert_eq!(sweep(&store, HOUR), 1);
    let late = store.decide(std::slice::from_ref(&hit), true, at(HOUR - 1));
    assert_eq!(late.verdicts[0].at, at(HOUR));
    assert!(!late.denied, "the new window's hit");
    assert!(ask(&store, &hit, HOUR - 1).over);
    let over = ask(&store, &hit, HOUR - 1);
    assert_eq!(over.reset_millis, HOUR + 1, "by the caller's clock");
}

#[test]
fn an_older_clock_is_older_for_every_check_of_a_query() {
    let store = store(1_000);
    let hit = check("a", fixed(1), Hits::Charge(1));
    let other = check("b", fixed(9), Hits::Charge(1));
    let both = [hit.clone(), other];
    assert!(!ask(&store, &hit, HOUR - 1).over);
    assert_eq!(sweep(&store, HOUR), 1);
    let late = store.decide(&both, true, at(HOUR - 1));
    assert_eq!((late.verdicts[0].at, late.denied), (at(HOUR), false));
    assert!(store.decide(&both, true, at(HOUR - 1)).denied);
}

#[test]
fn a_clock_that_was_set_back_far_is_believed() {
    let store = store(1_000);
    let hit = check("a", fixed(1), Hits::Charge(1));
    ask(&store, &hit, 900 * HOUR);
    sweep(&store, 901 * HOUR);
    let decision = store.decide(std::slice::from_ref(&hit), true, at(HOUR));
    assert_eq!(decision.verdicts[0].at, at(HOUR));
}

#[test]
fn inspecting_tells_the_next_answer_and_charges_nothing() {
    let store = store(1_000);
    for algorithm in Algorithm::ALL {
        let hit = check("a", hourly(algorithm, 3), Hits::Charge(2));
        for now in [0, 1, 2, 3] {
            let foreseen = store.inspect(&hit, at(now));
            assert_eq!(foreseen, store.inspect(&hit, at(now)), "{algorithm}");
            assert_eq!(foreseen, ask(&store, &hit, now), "{algorithm}");
            assert_eq!(foreseen.source, Source::Memory);
        }
    }
}

#[test]
fn a_query_without_checks_passes() {
    let decision = store(10).decide(&[], true, at(0));
    assert!(!decision.denied && decision.verdicts.is_empty());
}

#[test]
fn a_query_of_a_hundred_checks_is_one_query() {
    let store = store(1_000_000);
    let mut checks: Vec<_> = (0..99)
        .map(|n: u32| check(&n.to_string(), fixed(5), Hits::Charge(1)))
        .collect();
    checks.push(check("closed", fixed(0), Hits::Charge(1)));
    assert!(store.decide(&checks, true, at(0)).denied);
    assert_eq!(store.stats().live_keys, 0);
    checks.pop();
    assert!(!store.decide(&checks, true, at(0)).denied);
    assert_eq!(store.stats().live_keys, 99);
}
