//! Verdicts by this replica's share.

use proptest::prelude::*;

use super::{
    MINUTE, START, any_hits, any_quota, any_wait, ask, at, check, counts, drain, fixed, minutely,
    replicas, show, store,
};
use crate::algorithm::tests::quota;
use crate::model::{
    Algorithm, Check, DeniedHits, Hits, OnStoreFailure, Role, Source, Unit, Verdict,
};
use crate::store::fallback;
use crate::store::local::Fleet;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn what_is_told_to_remain_is_what_passes(
        quota in any_quota(),
        count in 1..=5_usize,
        ranked: bool,
        steps in prop::collection::vec((any_wait(), any_hits(), any::<bool>()), 0..30),
    ) {
        let store = &replicas(count, ranked)[0];
        let mut now = START;
        let mut last = None;
        for (wait, hits, seen) in steps {
            now += wait;
            let hit = check("u", quota, Hits::Charge(hits));
            match seen {
                true => show(store, &hit, hits, now),
                false => last = Some((now, ask(store, &hit, now))),
            }
        }
        let hit = check("u", quota, Hits::Charge(1));
        let (_, remaining) = counts(store, &hit, now);
        if let Some((then, verdict)) = last
            && then == now
            && !verdict.over
        {
            prop_assert!(verdict.remaining >= remaining, "what was shown since only adds");
        }
        if remaining < 1_000 {
            prop_assert_eq!(drain(store, &hit, now), remaining);
        } else {
            let most = check("u", quota, Hits::Charge(remaining.into()));
            prop_assert!(!ask(store, &most, now).over);
            prop_assert!(ask(store, &hit, now).over);
        }
    }
}

#[test]
fn a_verdict_speaks_of_this_replicas_hits() {
    let store = &replicas(4, false)[0];
    let now = START / MINUTE * MINUTE + 10_000;
    let hit = check("u", fixed(42), Hits::Charge(3));
    show(store, &hit, 5, now);
    let verdict = ask(store, &hit, now);
    let expected = Verdict {
        over: false,
        remaining: 5,
        counted: 5,
        reset_millis: 50_000,
        never: false,
        source: Source::Local,
        at: at(now),
    };
    assert_eq!(verdict, expected);
    assert_eq!(store.stats().decisions, 1);
}

#[test]
fn hits_that_fit_the_limit_but_not_the_share_are_over_and_not_for_ever() {
    let store = &replicas(4, false)[0];
    let ask = |hits| ask(store, &check("u", fixed(42), Hits::Charge(hits)), START);
    assert!(ask(11).over && !ask(11).never);
    assert!(ask(43).over && ask(43).never);
}

#[test]
fn hits_above_the_share_are_told_to_wait() {
    for algorithm in Algorithm::ALL {
        let store = &replicas(3, false)[0];
        // A share of 3 of 9, with and without something counted in it.
        for counted in [0, 2] {
            let _charged = ask(
                store,
                &check("u", minutely(algorithm, 9), Hits::Charge(counted)),
                START,
            );
            let hit = check("u", minutely(algorithm, 9), Hits::Charge(5));
            let verdict = ask(store, &hit, START);
            assert!(verdict.over && !verdict.never, "{algorithm}");
            assert!((1..=MINUTE).contains(&verdict.reset_millis), "{algorithm}");
        }
    }
}

#[test]
fn without_a_share_nothing_passes_and_a_wait_is_told() {
    for algorithm in Algorithm::ALL {
        let store = &replicas(4, false)[0];
        let hit = |hits| check("u", minutely(algorithm, 3), hits);
        for hits in [Hits::Charge(1), Hits::Peek] {
            let verdict = ask(store, &hit(hits), START);
            assert!(verdict.over && !verdict.never, "{algorithm}");
            assert!((1..=MINUTE).contains(&verdict.reset_millis), "{algorithm}");
        }
        let refund = ask(store, &hit(Hits::Refund(1)), START);
        assert_eq!((refund.over, refund.remaining), (false, 0), "{algorithm}");
        assert_eq!(store.stats().ledger_keys, 0, "{algorithm}");
    }
}

#[test]
fn a_bucket_whose_share_has_gone_still_gives_back_and_expires() {
    let store = store(10, 10);
    let hit = |hits| check("u", minutely(Algorithm::TokenBucket, 4), hits);
    store.set_fleet(Fleet::new(2, [""; 0], "a"));
    assert_eq!(drain(&store, &hit(Hits::Peek), START), 2);
    store.set_fleet(Fleet::new(5, [""; 0], "a"));
    assert!(!ask(&store, &hit(Hits::Refund(1)), START).over);
    store.set_fleet(Fleet::new(2, [""; 0], "a"));
    assert_eq!(counts(&store, &hit(Hits::Peek), START), (1, 1));
    (0..store.shards()).for_each(|_| store.sweep_next(at(START + 10 * MINUTE)));
    assert_eq!(store.stats().memory.live_keys, 0);
}

#[test]
fn a_query_is_charged_as_a_whole_or_not_at_all() {
    let store = &replicas(2, true)[0];
    let checks = |ann, bob| {
        [
            check("ann", fixed(10), Hits::Charge(ann)),
            check("bob", fixed(4), Hits::Charge(bob)),
            check("ann", fixed(10), Hits::Charge(1)),
        ]
    };
    let asked = |ann, bob| store.decide(&checks(ann, bob), true, at(START)).denied;
    assert!(asked(1, 3), "3 of bob's share of 2");
    assert!(asked(5, 1), "6 of ann's share of 5");
    assert_eq!(store.stats().ledger_keys, 0);
    assert!(!asked(4, 2));
    assert_eq!(
        store.decide(&checks(1, 1), false, at(START)).verdicts.len(),
        3
    );
    let [ann, bob, _] = checks(1, 1);
    assert_eq!(counts(store, &ann, START), (5, 0));
    assert_eq!(counts(store, &bob, START), (2, 0));
    assert_eq!(store.stats().ledger_keys, 2);
}

#[test]
fn shadowed_checks_do_not_deny() {
    let store = &replicas(2, true)[0];
    let shadow = Check {
        role: Role {
            shadow: true,
            quota: false,
        },
        ..check("ann", fixed(0), Hits::Charge(1))
    };
    let plain = check("bob", fixed(4), Hits::Charge(1));
    let decision = store.decide(&[shadow, plain], true, at(START));
    let over: Vec<bool> = decision.verdicts.iter().map(|v| v.over).collect();
    assert_eq!((decision.denied, over), (false, vec![true, false]));
}

#[test]
fn what_is_given_back_counts_no_more() {
    for algorithm in Algorithm::ALL {
        let store = &replicas(2, true)[0];
        let hit = check("u", minutely(algorithm, 10), Hits::Charge(2));
        assert!(!ask(store, &hit, START).over);
        assert!(!ask(store, &hit, START).over);
        let asked = [hit.clone(), check("u", hit.quota, Hits::Peek)];
        store.give_back(&asked, at(START), at(START));
        assert_eq!(counts(store, &hit, START), (2, 3), "{algorithm}");
        assert_eq!(owed(&store.take(9, |_| at(START))), [2], "{algorithm}");
    }
}

#[test]
fn hits_of_a_window_that_is_over_are_not_given_back_to_the_next() {
    let store = &replicas(1, true)[0];
    let hit = check("u", fixed(10), Hits::Charge(2));
    let edge = START / MINUTE * MINUTE + MINUTE;
    ask(store, &hit, edge - 1);
    ask(store, &hit, edge);
    store.give_back(std::slice::from_ref(&hit), at(edge - 1), at(edge));
    assert_eq!(counts(store, &hit, edge).0, 2);
    assert_eq!(owed(&store.take(9, |_| at(edge))), [2]);
}

#[test]
fn a_key_without_room_is_told_to_share_a_counter() {
    let store = store(1, 10);
    let hit = |user| check(user, fixed(10), Hits::Charge(1));
    assert_eq!(ask(&store, &hit("ann"), START).source, Source::Local);
    assert_eq!(ask(&store, &hit("bob"), START).source, Source::Overflow);
    assert_eq!(store.stats().ledger_keys, 2);
}

#[test]
fn denied_hits_that_are_charged_count_against_the_share() {
    let quota = quota(
        Algorithm::FixedWindow,
        4,
        (1, Unit::Minute),
        DeniedHits::Charged,
    );
    let store = &replicas(2, true)[0];
    let hit = check("u", quota, Hits::Charge(3));
    let told: Vec<(bool, u64)> = (0..2)
        .map(|_| ask(store, &hit, START))
        .map(|verdict| (verdict.over, verdict.counted))
        .collect();
    assert_eq!(told, [(true, 3), (true, 6)]);
    assert_eq!(owed(&store.take(9, |_| at(START))), [6]);
}

#[test]
fn a_fallback_allows_or_denies_and_counts_nothing() {
    let told = |way, quota, hits| {
        let asked = Check {
            on_store_failure: way,
            ..check("u", quota, hits)
        };
        let verdict = fallback(&asked, at(7));
        assert_eq!((verdict.counted, verdict.source), (0, Source::Fallback));
        assert_eq!(verdict.at, at(7));
        (verdict.over, verdict.remaining, verdict.reset_millis)
    };
    let [allow, deny] = [OnStoreFailure::Allow, OnStoreFailure::Deny];
    for hits in [Hits::Charge(1), Hits::Peek] {
        assert_eq!(told(allow, fixed(5), hits), (false, 5, 0));
        assert_eq!(told(deny, fixed(5), hits), (true, 0, MINUTE));
        assert_eq!(told(allow, fixed(0), hits), (true, 0, MINUTE));
    }
    assert_eq!(told(allow, fixed(5), Hits::Refund(1)), (false, 5, 0));
    assert_eq!(told(deny, fixed(5), Hits::Refund(1)), (false, 0, MINUTE));
    assert_eq!(told(allow, fixed(5), Hits::Charge(6)), (true, 0, MINUTE));
}

fn owed(checks: &[Check]) -> Vec<u64> {
    checks
        .iter()
        .map(|check| match check.hits {
            Hits::Charge(hits) => hits,
            Hits::Peek | Hits::Refund(_) => 0,
        })
        .collect()
}

#[test]
fn a_hit_by_an_older_clock_is_dated_in_the_window_that_counts_it() {
    let store = store(100, 100);
    let hit = check(
        "a",
        quota(
            Algorithm::FixedWindow,
            9,
            (1, Unit::Second),
            DeniedHits::Free,
        ),
        Hits::Charge(1),
    );
    assert_eq!(ask(&store, &hit, 2_000).at, at(2_000));
    let older = ask(&store, &hit, 1_999);
    assert_eq!((older.at, older.counted), (at(2_000), 2));
    assert_eq!(ask(&store, &hit, 2_500).at, at(2_500));
}
