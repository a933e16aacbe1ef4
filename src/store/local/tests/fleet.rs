//! Who gets which part.

use super::{check, counts, fixed, minutely, name, replicas, store};
use crate::model::{Algorithm, Hits};
use crate::store::local::Fleet;

/// This replica's part of a fixed window's limit, for a key of that user.
fn part(fleet: &Fleet, user: &str, limit: u32) -> u32 {
    let check = check(user, fixed(limit), Hits::Peek);
    fleet.share(&check.key, &check.quota).limit
}

fn views(count: usize) -> Vec<Fleet> {
    (0..count)
        .map(|own| Fleet::new(1, (0..count).map(name), &name(own)))
        .collect()
}

#[test]
fn the_parts_of_every_key_make_the_whole() {
    for count in 1..=7_usize {
        let fleet = views(count);
        for limit in [0, 1, 2, 3, 5, 6, 7, 100, 101, u32::MAX] {
            for user in 0..50 {
                let parts = fleet.iter().map(|f| part(f, &user.to_string(), limit));
                assert_eq!(parts.sum::<u32>(), limit, "{count} replicas");
            }
        }
    }
}

#[test]
fn a_limit_below_the_number_of_replicas_leaves_some_without_a_share() {
    let store = store(100, 100);
    let few = check("ann", fixed(2), Hits::Peek);
    assert!(!store.has_no_share(&few));
    // Of the others nothing is known, so no replica gets what is left over.
    store.set_fleet(Fleet::new(3, [""; 0], &name(0)));
    assert!(store.has_no_share(&few));
    assert!(!store.has_no_share(&check("ann", fixed(3), Hits::Peek)));
}

#[test]
fn no_replica_ranks_first_for_most_keys() {
    let fleet = views(5);
    for first in &fleet {
        let keys = (0..2_000).filter(|user| part(first, &user.to_string(), 1) == 1);
        let keys = keys.count();
        assert!((320..480).contains(&keys), "{keys} of 2000 keys, not 400");
    }
}

#[test]
fn a_replica_that_joins_takes_first_places_and_moves_no_others() {
    let (before, after) = (views(4), views(5));
    for user in 0..500 {
        let first = |views: &[Fleet]| {
            let ones = views.iter().map(|f| part(f, &user.to_string(), 1));
            ones.enumerate().find(|(_, part)| *part == 1).unwrap().0
        };
        let (was, is) = (first(&before), first(&after));
        assert!(is == was || is == 4, "{was} became {is}");
    }
}

#[test]
fn ranks_are_the_same_in_every_version() {
    // Do not change these: replicas of two versions would both take the same hit.
    let firsts: Vec<usize> = ["ann", "bob", "cid", "dot", "eve", "fay", "gus", "hal"]
        .iter()
        .map(|user| views(3).iter().position(|f| part(f, user, 1) == 1).unwrap())
        .collect();
    assert_eq!(firsts, [2, 1, 2, 1, 0, 1, 2, 0]);
}

#[test]
fn without_all_names_every_part_is_rounded_down() {
    let fleet = Fleet::new(3, ["a"], "b");
    assert_eq!((fleet.replicas(), fleet.is_ranked()), (3, false));
    for user in 0..20 {
        assert_eq!(part(&fleet, &user.to_string(), 11), 3);
        assert_eq!(part(&fleet, &user.to_string(), 2), 0);
    }
}

#[test]
fn more_names_than_replicas_are_believed() {
    let fleet = Fleet::new(2, ["a", "b", "c"], "b");
    assert_eq!((fleet.replicas(), fleet.is_ranked()), (3, true));
}

#[test]
fn a_replica_that_is_not_named_is_one_of_them_all_the_same() {
    let fleet = Fleet::new(0, ["a", "c", "c"], "b");
    assert_eq!((fleet.replicas(), fleet.is_ranked()), (3, true));
    assert_eq!(fleet, Fleet::new(3, ["c", "b", "a"], "b"));
}

#[test]
fn alone_a_replica_has_it_all() {
    let fleet = Fleet::alone();
    assert_eq!((fleet.replicas(), fleet.is_ranked()), (1, true));
    assert_eq!(part(&fleet, "u", u32::MAX), u32::MAX);
    let store = store(10, 10);
    assert_eq!(counts(&store, &check("u", fixed(7), Hits::Peek), 0), (0, 7));
    assert_eq!(store.stats().replicas, 1);
}

#[test]
fn what_the_shares_of_a_bucket_hold_is_what_refills_them() {
    for (limit, burst) in [(2, 31), (60, 2), (1, 1), (7, 3), (4, 9), (0, 9), (9, 0)] {
        let quota = minutely(Algorithm::TokenBucket, limit);
        let check = check("u", quota.with_burst(burst).unwrap(), Hits::Peek);
        let shares: Vec<_> = views(5)
            .iter()
            .map(|fleet| fleet.share(&check.key, &check.quota))
            .collect();
        if limit.min(burst) > 0 {
            assert_eq!(shares.iter().map(|share| share.limit).sum::<u32>(), limit);
            assert_eq!(shares.iter().map(|share| share.burst).sum::<u32>(), burst);
        }
        for share in shares {
            assert_eq!(share.limit == 0, share.burst == 0);
        }
    }
}

#[test]
fn a_fleet_is_told_by_the_store() {
    let store = &replicas(4, true)[1];
    assert_eq!(store.fleet().replicas(), 4);
    store.set_fleet(Fleet::alone());
    assert!(store.fleet().is_ranked());
    assert_eq!(store.stats().replicas, 1);
}
