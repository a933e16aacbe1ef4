//! What the store is told when it is back.

use std::collections::HashMap;
use std::thread;

use proptest::prelude::*;

use super::{
    MINUTE, START, any_quota, any_wait, ask, at, check, drain, fixed, minutely, replicas, store,
};
use crate::model::{Algorithm, Check, DeniedHits, Hits};
use crate::store::local::{Fleet, LocalStore};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn the_ledgers_hold_what_was_let_pass_in_the_open_window(
        limit in 0..60_u32,
        count in 1..=4_usize,
        most in 1..5_usize,
        steps in prop::collection::vec(
            (any_wait(), 0..4_usize, 0..6_u32, 1..4_u64, 0..10_u8), 1..150),
    ) {
        let fleet = replicas(count, true);
        let quota = fixed(limit);
        let (mut now, mut let_pass) = (START, HashMap::<String, HashMap<u64, u64>>::new());
        let mut told = HashMap::<String, HashMap<u64, u64>>::new();
        let add = |sums: &mut HashMap<String, HashMap<u64, u64>>, check: &Check, now, hits| {
            let windows = sums.entry(check.key.to_string()).or_default();
            *windows.entry(now / MINUTE).or_default() += hits;
        };
        for (wait, replica, user, hits, dice) in steps {
            now += wait;
            let replica = &fleet[replica % count];
            if dice < 2 {
                let taken = replica.take(most, |_| at(now));
                prop_assert!(taken.len() <= most);
                match dice {
                    0 => replica.put_back(&taken, at(now)),
                    _ => taken.iter().for_each(|check| add(&mut told, check, now, owed(check))),
                }
                continue;
            }
            let hit = check(&user.to_string(), quota, Hits::Charge(hits));
            if !ask(replica, &hit, now).over {
                add(&mut let_pass, &hit, now, hits);
            }
        }
        for replica in &fleet {
            for check in replica.take(usize::MAX, |_| at(now)) {
                add(&mut told, &check, now, owed(&check));
            }
            prop_assert!(replica.take(usize::MAX, |_| at(now)).is_empty());
            prop_assert_eq!(replica.stats().ledger_keys, 0);
        }
        for (key, windows) in let_pass {
            let open = now / MINUTE;
            let passed = windows.get(&open).copied().unwrap_or(0);
            let known = told.get(&key).and_then(|told| told.get(&open));
            prop_assert_eq!(known.copied().unwrap_or(0), passed, "{}", key);
        }
    }

    #[test]
    fn what_is_put_back_is_taken_again(
        quota in any_quota(),
        steps in prop::collection::vec((any_wait(), 0..4_u32, 1..5_u64), 1..40),
    ) {
        let store = &replicas(1, true)[0];
        let mut now = START;
        for (wait, user, hits) in steps {
            now += wait;
            ask(store, &check(&user.to_string(), quota, Hits::Charge(hits)), now);
        }
        let taken = store.take(100, |_| at(now));
        store.put_back(&taken, at(now));
        prop_assert_eq!(sorted(&store.take(100, |_| at(now))), sorted(&taken));
    }
}

#[test]
fn nothing_is_taken_twice() {
    let store = store(5_000, 5_000);
    let users = 2_000;
    for user in 0..users {
        let hit = check(&user.to_string(), fixed(5), Hits::Charge(2));
        assert!(!ask(&store, &hit, START).over);
    }
    let mut taken: Vec<String> = thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut all = Vec::new();
                    loop {
                        let some = store.take(37, |_| at(START));
                        if some.is_empty() {
                            return all;
                        }
                        all.extend(some.iter().map(|check| check.key.to_string()));
                    }
                })
            })
            .collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    });
    taken.sort_unstable();
    taken.dedup();
    assert_eq!(taken.len(), users);
    assert_eq!(store.stats().ledger_keys, 0);
}

#[test]
fn what_counts_no_more_is_not_handed_out() {
    for algorithm in Algorithm::ALL {
        let store = &replicas(2, true)[0];
        let hit = check("u", minutely(algorithm, 20), Hits::Charge(10));
        assert!(!ask(store, &hit, START).over);
        assert_eq!(taken(store, START + 3 * MINUTE), [0; 0], "{algorithm}");
        assert_eq!(store.stats().ledger_keys, 0, "{algorithm}");
    }
}

#[test]
fn hits_of_a_sliding_rule_are_owed_until_they_fade() {
    for algorithm in [Algorithm::SlidingLog, Algorithm::SlidingWindow] {
        let store = &replicas(2, true)[0];
        let hit = check("u", minutely(algorithm, 20), Hits::Charge(3));
        ask(store, &hit, START);
        ask(store, &hit, START + 30_000);
        let faded = START + MINUTE * 11 / 10;
        let all = store.take(9, |_| at(START + MINUTE));
        assert_eq!(all.iter().map(owed).collect::<Vec<_>>(), [6]);
        store.put_back(&all, at(START));
        ask(store, &hit, START + 30_000);
        assert_eq!(taken(store, faded), [3], "{algorithm}");
        assert_eq!(store.stats().faded, 6, "{algorithm}");
    }
}

#[test]
fn what_a_bucket_owes_comes_back_at_the_pace_of_its_share() {
    let store = &replicas(3, true)[0];
    let hit = check("u", minutely(Algorithm::TokenBucket, 60), Hits::Charge(20));
    assert!(!ask(store, &hit, START).over);
    // 20 tokens a minute are this replica's.
    assert_eq!(taken(store, START + 30_000), [10]);
    assert_eq!(store.stats().faded, 10);
}

#[test]
fn what_a_bucket_owes_anew_comes_back_at_the_pace_of_the_share_of_then() {
    let store = &replicas(3, true)[0];
    let hit = check("u", minutely(Algorithm::TokenBucket, 60), Hits::Charge(20));
    assert!(!ask(store, &hit, START).over);
    store.set_fleet(Fleet::alone());
    let later = START + 2 * MINUTE;
    assert!(!ask(store, &hit, later).over);
    assert_eq!(taken(store, later + 10_000), [10]);
}

#[test]
fn what_was_put_back_from_a_window_that_is_over_is_not_owed_in_the_next() {
    let store = &replicas(1, true)[0];
    let hit = check("u", fixed(20), Hits::Charge(3));
    let edge = START / MINUTE * MINUTE + MINUTE;
    for seen_since in [false, true] {
        ask(store, &hit, edge - 1);
        let all = store.take(9, |_| at(edge - 1));
        if seen_since {
            ask(store, &hit, edge);
        }
        store.put_back(&all, at(edge - 1));
        let expected: &[u64] = if seen_since { &[3] } else { &[] };
        assert_eq!(taken(store, edge), expected);
    }
}

#[test]
fn refunds_are_taken_off_and_never_more_than_is_owed() {
    let store = &replicas(1, true)[0];
    let hit = |hits| check("u", fixed(20), hits);
    ask(store, &hit(Hits::Charge(5)), START);
    ask(store, &hit(Hits::Refund(2)), START);
    assert_eq!(taken(store, START), [3]);
    ask(store, &hit(Hits::Refund(2)), START);
    ask(store, &hit(Hits::Charge(1)), START);
    assert_eq!(taken(store, START), [1]);
    ask(store, &hit(Hits::Charge(1)), START);
    ask(store, &hit(Hits::Refund(9)), START);
    assert_eq!(store.stats().ledger_keys, 0);
}

#[test]
fn what_the_store_was_told_of_late_is_not_owed_and_still_counts_here() {
    let store = &replicas(1, true)[0];
    let hit = check("u", fixed(20), Hits::Charge(5));
    ask(store, &hit, START);
    ask(store, &hit, START);
    store.told(std::slice::from_ref(&hit), at(START), at(START));
    assert_eq!(taken(store, START), [5]);
    assert_eq!(drain(store, &hit, START), 10);
}

#[test]
fn what_is_handed_out_lands_whatever_the_store_counts() {
    let store = &replicas(2, true)[0];
    for algorithm in Algorithm::ALL {
        let hit = check("u", minutely(algorithm, 20), Hits::Charge(3));
        ask(store, &hit, START);
        let [owed] = store.take(9, |_| at(START)).try_into().unwrap();
        assert_eq!(owed.key, hit.key);
        assert_eq!(owed.hits, Hits::Charge(3));
        assert_eq!(owed.quota.denied_hits(), DeniedHits::Debt);
        assert_eq!(
            (
                owed.quota.limit(),
                owed.quota.window(),
                owed.quota.algorithm()
            ),
            (20, hit.quota.window(), algorithm)
        );
        assert!(owed.role.shadow);
    }
}

#[test]
fn a_full_ledger_forgets_new_keys_and_says_how_many_hits() {
    let store = store(100, 3);
    let hit = |user: u32| check(&user.to_string(), fixed(20), Hits::Charge(2));
    for user in 0..10 {
        assert!(!ask(&store, &hit(user), START).over);
    }
    ask(&store, &hit(0), START);
    let stats = store.stats();
    assert_eq!((stats.ledger_keys, stats.forgotten), (3, 14));
    assert_eq!(taken(&store, START), [2, 2, 4]);
    // What has faded makes room: at once where it lies, elsewhere once it is swept.
    (0..3).for_each(|user| assert!(!ask(&store, &hit(user), START).over));
    let later = START + MINUTE;
    (0..store.shards()).for_each(|_| store.sweep_next(at(later)));
    (3..6).for_each(|user| assert!(!ask(&store, &hit(user), later).over));
    let stats = store.stats();
    assert_eq!((stats.forgotten, stats.faded), (14, 6));
    assert_eq!(taken(&store, later), [2, 2, 2]);
}

fn owed(check: &Check) -> u64 {
    match check.hits {
        Hits::Charge(hits) => hits,
        Hits::Peek | Hits::Refund(_) => 0,
    }
}

/// What all keys owe, in ascending order.
fn taken(store: &LocalStore, now: u64) -> Vec<u64> {
    let mut owed: Vec<u64> = store
        .take(usize::MAX, |_| at(now))
        .iter()
        .map(owed)
        .collect();
    owed.sort_unstable();
    owed
}

fn sorted(checks: &[Check]) -> Vec<(String, u64)> {
    let mut sorted: Vec<_> = checks
        .iter()
        .map(|check| (check.key.to_string(), owed(check)))
        .collect();
    sorted.sort_unstable();
    sorted
}
