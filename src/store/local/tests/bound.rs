//! What a fleet lets pass while the store is away: the limit, and not more.

use proptest::prelude::*;

use super::{
    Admitted, START, any_hits, any_quota, any_wait, ask, check, counts, drain, fixed, minutely,
    name, replicas, show, store, within,
};
use crate::algorithm::capacity;
use crate::algorithm::tests::quota;
use crate::model::{Algorithm, Check, DeniedHits, Hits, Unit};
use crate::store::local::{Fleet, LocalStore};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_fleet_without_a_store_keeps_the_bound_of_every_algorithm(
        quota in any_quota(),
        user in "[a-z]{1,8}",
        count in 1..=5_usize,
        ranked: bool,
        steps in prop::collection::vec((any_wait(), 0..5_usize, any_hits()), 1..150),
    ) {
        let fleet = replicas(count, ranked);
        let (mut now, mut admitted) = (START, Admitted::new());
        for (wait, replica, hits) in steps {
            now += wait;
            let hit = check(&user, quota, Hits::Charge(hits));
            if !ask(&fleet[replica % count], &hit, now).over {
                admitted.push((now, hits));
            }
        }
        within(&quota, &admitted, 1)?;
    }

    #[test]
    fn under_full_pressure_a_fleet_that_knows_itself_lets_pass_the_whole_limit(
        limit in prop_oneof![0..200_u32, Just(u32::MAX), Just(u32::MAX - 3)],
        user in "[a-z]{1,8}",
        count in 1..=5_usize,
    ) {
        let hit = check(&user, fixed(limit), Hits::Charge(1));
        for minute in 0..3 {
            let passed = pressed(&replicas(count, true), &hit, minute * 60_000);
            prop_assert_eq!(passed, u64::from(limit));
        }
        let divided = u64::try_from(count).unwrap();
        let passed = pressed(&replicas(count, false), &hit, 0);
        prop_assert_eq!(passed, u64::from(limit) / divided * divided);
    }

    #[test]
    fn replicas_that_saw_the_same_count_let_pass_what_was_left(
        quota in any_quota(),
        seen in prop_oneof![0..80_u64, 0..=1_u64 << 32],
        count in 1..=5_usize,
        ranked: bool,
    ) {
        let fleet = replicas(count, ranked);
        let hit = check("u", quota, Hits::Charge(1));
        for replica in &fleet {
            show(replica, &hit, seen, START);
        }
        let passed = pressed(&fleet, &hit, START);
        let whole = capacity(&quota);
        prop_assert!(passed <= whole.saturating_sub(seen));
        let divided = u64::try_from(count).unwrap();
        if ranked && quota.algorithm() == Algorithm::FixedWindow {
            prop_assert!(passed + divided > whole.saturating_sub(seen));
        }
    }

    #[test]
    fn a_wrong_number_of_replicas_scales_the_bound(
        limit in 0..200_u32,
        actual in 1..=5_usize,
        assumed in 1..=5_u32,
    ) {
        let fleet: Vec<LocalStore> = (0..actual)
            .map(|own| {
                let store = store(100, 100);
                // Nobody has seen anybody.
                store.set_fleet(Fleet::new(assumed, [""; 0], &name(own)));
                store
            })
            .collect();
        let hit = check("u", fixed(limit), Hits::Charge(1));
        let passed = pressed(&fleet, &hit, START);
        let actual = u64::try_from(actual).unwrap();
        prop_assert!(passed * u64::from(assumed) <= u64::from(limit) * actual);
    }
}

#[test]
fn two_halves_that_lost_sight_of_each_other_let_pass_one_limit_each() {
    for limit in 0..20 {
        let fleet: Vec<LocalStore> = (0..4)
            .map(|own| {
                let half = own / 2 * 2;
                let store = store(100, 100);
                store.set_fleet(Fleet::new(1, [name(half), name(half + 1)], &name(own)));
                store
            })
            .collect();
        let hit = check("u", fixed(limit), Hits::Charge(1));
        assert_eq!(pressed(&fleet, &hit, START), 2 * u64::from(limit));
    }
}

#[test]
fn a_limit_below_the_number_of_replicas_lets_one_hit_pass_on_as_many_of_them() {
    for algorithm in Algorithm::ALL {
        for limit in 0..5 {
            for user in ["ann", "bob", "cid", "dot"] {
                let hit = check(user, minutely(algorithm, limit), Hits::Charge(1));
                let passed: Vec<u32> = replicas(5, true)
                    .iter()
                    .map(|replica| drain(replica, &hit, START))
                    .collect();
                let ones = passed.iter().filter(|&&passed| passed == 1).count();
                assert_eq!(u32::try_from(ones).unwrap(), limit, "{algorithm}");
                assert_eq!(passed.iter().sum::<u32>(), limit, "{algorithm}");
            }
        }
    }
}

#[test]
fn a_bucket_smaller_than_the_fleet_still_refills_at_the_whole_rate() {
    let quota = minutely(Algorithm::TokenBucket, 60).with_burst(2).unwrap();
    let hit = check("u", quota, Hits::Charge(1));
    let fleet = replicas(5, true);
    let mut passed = 0;
    // 60 tokens a minute, asked for every tenth of a second.
    for tick in 0..600 {
        passed += pressed(&fleet, &hit, START + tick * 100);
    }
    // Two replicas with a token every other second each.
    assert_eq!(passed, 2 * (1 + 29));
}

#[test]
fn a_bucket_that_refills_less_often_than_there_are_replicas_loses_none_of_its_burst() {
    let quota = minutely(Algorithm::TokenBucket, 2).with_burst(31).unwrap();
    let hit = check("u", quota, Hits::Charge(1));
    let fleet = replicas(5, true);
    assert_eq!(pressed(&fleet, &hit, START), 31);
    assert_eq!(pressed(&fleet, &hit, START + 60_000), 2);
}

#[test]
fn debts_pass_on_each_replica_while_it_has_anything_left() {
    for algorithm in Algorithm::ALL {
        let quota = quota(algorithm, 9, (1, Unit::Minute), DeniedHits::Debt);
        let cost = check("u", quota, Hits::Charge(5));
        for replica in replicas(3, true) {
            let seen: Vec<(bool, u64)> = (0..3)
                .map(|_| ask(&replica, &cost, START))
                .map(|verdict| (verdict.over, verdict.counted))
                .collect();
            assert_eq!(seen, [(false, 5), (true, 10), (true, 15)], "{algorithm}");
        }
    }
}

#[test]
fn a_share_that_shrinks_keeps_what_it_has_counted() {
    let fleet = replicas(2, true);
    let hit = check("u", fixed(12), Hits::Charge(1));
    for replica in &fleet {
        (0..5).for_each(|_| assert!(!ask(replica, &hit, START).over));
        replica.set_fleet(Fleet::new(3, [""; 0], "x"));
        assert_eq!(counts(replica, &hit, START), (5, 0));
        replica.set_fleet(Fleet::new(2, [""; 0], "x"));
        assert_eq!(counts(replica, &hit, START), (5, 1));
    }
}

/// What passes on all replicas together if each is asked for all that it lets pass: first by
/// single hits, and what is left of large limits at once.
fn pressed(fleet: &[LocalStore], hit: &Check, now: u64) -> u64 {
    fleet
        .iter()
        .map(|replica| {
            let mut passed = 0;
            while passed < 300 && !ask(replica, hit, now).over {
                passed += 1;
            }
            let left = u64::from(counts(replica, hit, now).1);
            let rest = Check {
                hits: Hits::Charge(left),
                ..hit.clone()
            };
            if left > 0 && !ask(replica, &rest, now).over {
                passed += left;
            }
            assert!(ask(replica, hit, now).over, "there was more");
            passed
        })
        .sum()
}
