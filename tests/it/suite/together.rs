//! Many at once: what they charge adds up, and what is denied was never charged.

use std::cell::Cell;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::runtime::Runtime;
use tokio::time::timeout;
use tollgate::model::{Algorithm, Check, Hits};

use super::bed::{Bed, Kind};
use super::checks::{charge, check, hits_for, long, unit_of};
use super::client::Client;
use crate::process::until_async;

/// Eight ask at once, for some of a few keys with tight limits.
pub(super) fn a_denied_query_has_charged_nobody(runtime: &Runtime, bed: &Bed) {
    runtime.block_on(async {
        for algorithm in Algorithm::ALL {
            let client = bed.client(&format!("denied:{algorithm}"), LANES).await;
            let keys: Vec<Check> = (0..6)
                .map(|key| charge(&key.to_string(), long(algorithm, 40, unit_of(key))))
                .collect();
            let admitted = join_all((0..TASKS).map(|task| ask_at_random(&client, task, &keys)));
            let admitted: Vec<Vec<Check>> = admitted.await.into_iter().flatten().collect();
            let mut used_up = 0;
            for key in &keys {
                let sum: u64 = admitted.iter().map(|query| hits_for(query, key)).sum();
                let more = client.counted(key).await.checked_sub(sum);
                assert!(
                    more.is_some_and(|more| more <= bed.kept_back(algorithm)),
                    "{more:?} of {key:?}"
                );
                assert!(sum <= 40, "{algorithm}: {sum} of {key:?}");
                used_up += usize::from(sum > 30);
            }
            assert!(used_up > 2, "the limits were not tight: {used_up}");
        }
    });
}

/// The queries of one task that were admitted.
async fn ask_at_random(client: &Client, task: usize, keys: &[Check]) -> Vec<Vec<Check>> {
    let mut random = fastrand::Rng::with_seed(u64::try_from(task).unwrap());
    let mut admitted = Vec::new();
    for _ in 0..25 {
        let query: Vec<Check> = (0..random.usize(1..5))
            .map(|_| Check {
                hits: Hits::Charge(random.u64(1..4)),
                ..keys[random.usize(..keys.len())].clone()
            })
            .collect();
        if !client.decide(task % LANES, &query, true).await.denied {
            admitted.push(query);
        }
    }
    admitted
}

/// One key, then ten that a Cluster and two stores keep apart.
pub(super) fn a_limit_is_used_up_and_never_passed(runtime: &Runtime, bed: &Bed) {
    runtime.block_on(async {
        for algorithm in Algorithm::ALL {
            for keys in [1, 10] {
                let name = format!("used:{algorithm}:{keys}");
                let client = bed.client(&name, LANES).await;
                let query: Vec<Check> = (0..keys)
                    .map(|key| charge(&key.to_string(), long(algorithm, LIMIT, unit_of(key))))
                    .collect();
                let admitted = Cell::new(0);
                join_all((0..TASKS).map(|task| hammer(&client, task, &query, &admitted))).await;
                let left = u64::from(LIMIT).checked_sub(admitted.get());
                assert!(
                    left.is_some_and(|left| left <= bed.kept_back(algorithm)),
                    "{name}: {left:?}"
                );
                for key in &query {
                    let more = client.counted(key).await.checked_sub(admitted.get());
                    assert!(
                        more.is_some_and(|more| more <= bed.kept_back(algorithm)),
                        "{name}: {more:?}"
                    );
                }
            }
        }
    });
}

/// Asks until the limit is used up, and a few times more.
async fn hammer(client: &Client, task: usize, query: &[Check], admitted: &Cell<u64>) {
    let (mut left, mut denied) = (20, 0);
    while left > 0 && denied < 300 {
        if client.decide(task % LANES, query, true).await.denied {
            denied += 1;
        } else {
            admitted.set(admitted.get() + 1);
        }
        if admitted.get() >= u64::from(LIMIT) {
            left -= 1;
        }
    }
}

/// Two ask at once for the same ten keys, of which each has room for one: as replicas do, each on a
/// thread and over connections of its own.
pub(super) fn of_two_in_each_others_way_one_gets_through(runtime: &Runtime, bed: &Bed) {
    let first = runtime.block_on(bed.client("two", 1));
    let barrier = Barrier::new(2);
    let ask_all = |runtime: &Runtime, client: &Client| {
        let ask = |round| {
            let keys = (0..10).map(|key| {
                let user = format!("{round}-{key}");
                charge(&user, long(Algorithm::FixedWindow, 1, unit_of(key)))
            });
            let query: Vec<Check> = keys.collect();
            barrier.wait();
            !runtime.block_on(client.decide(0, &query, true)).denied
        };
        (0..ROUNDS).map(ask).collect::<Vec<bool>>()
    };
    let (one, other) = thread::scope(|scope| {
        let other = scope.spawn(|| {
            let runtime = super::runtime();
            let second = match bed.kind {
                Kind::Memory => first.clone(),
                _ => runtime.block_on(bed.client("two", 1)),
            };
            ask_all(&runtime, &second)
        });
        let one = ask_all(runtime, &first);
        (one, other.join().unwrap())
    });
    let passed: Vec<usize> = one
        .iter()
        .zip(&other)
        .map(|(one, other)| usize::from(*one) + usize::from(*other))
        .collect();
    assert_eq!(passed, vec![1; ROUNDS]);
}

/// A denied query whose refund makes room where it was denied is not asked a second time, or what
/// lands even so would land twice.
pub(super) fn what_lands_although_denied_lands_once(runtime: &Runtime, bed: &Bed) {
    runtime.block_on(async {
        let client = bed.client("landed", 1).await;
        let quota = |number| long(Algorithm::FixedWindow, 5, unit_of(number));
        let full = check("full", quota(0), Hits::Charge(3));
        let filled = client.decide(0, std::slice::from_ref(&full), true).await;
        assert!(!filled.denied);
        let refund = Check {
            hits: Hits::Refund(3),
            ..full.clone()
        };
        let others: Vec<Check> = (0..4)
            .map(|key| charge(&format!("free{key}"), quota(key)))
            .collect();
        let debts: Vec<Check> = (0..4)
            .map(|key| charge(&format!("debt{key}"), quota(key).with_debt()))
            .collect();
        let query = [&[full.clone(), refund], &others[..], &debts[..]].concat();
        assert!(client.decide(0, &query, true).await.denied);
        for (checks, expected) in [(&[full][..], 0), (&others, 0), (&debts, 1)] {
            for check in checks {
                assert_eq!(client.counted(check).await, expected, "{check:?}");
            }
        }
    });
}

/// Callers that go away at any time leave no part of a denied query charged.
pub(super) fn a_query_that_nobody_waits_for_leaves_nothing_half_done(runtime: &Runtime, bed: &Bed) {
    runtime.block_on(async {
        let client = bed.client("gone", LANES).await;
        let mut query: Vec<Check> = (0..6)
            .map(|key| {
                charge(
                    &key.to_string(),
                    long(Algorithm::FixedWindow, 100, unit_of(key)),
                )
            })
            .collect();
        let full = check(
            "full",
            long(Algorithm::FixedWindow, 0, unit_of(0)),
            Hits::Charge(1),
        );
        query.push(full);
        let mut random = fastrand::Rng::with_seed(7);
        let waits: Vec<u64> = (0..60).map(|_| random.u64(0..3_000)).collect();
        let asked = waits.iter().enumerate().map(|(asker, &wait)| {
            let decided = client.decide(asker % LANES, &query, true);
            timeout(Duration::from_micros(wait), decided)
        });
        for decision in join_all(asked).await.into_iter().flatten() {
            assert!(decision.denied);
        }
        for key in &query {
            until_async("what was charged to be given back", async || {
                (client.counted(key).await == 0).then_some(())
            })
            .await;
        }
    });
}

const TASKS: usize = 8;
const LANES: usize = 3;
const LIMIT: u32 = 30;
const ROUNDS: usize = 100;
