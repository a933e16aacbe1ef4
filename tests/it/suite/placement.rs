//! Where keys lie: a store of their own for limits per second, the slots of a Cluster.

use std::collections::BTreeSet;

use tokio::runtime::Runtime;
use tollgate::model::{
    Algorithm, Check, Entry, Hits, KeyBuilder, OnStoreFailure, Role, RuleId, Unit,
};
use tollgate::store::redis::slot_of;

use super::bed::{Bed, Kind};
use super::checks::{charge, long};
use super::runtime;

#[test]
fn limits_per_second_have_a_store_of_their_own() {
    let runtime = runtime();
    runtime.block_on(async {
        let bed = Bed::start(Kind::TwoStores).await;
        let client = bed.client("apart", 1).await;
        let (day, second) = (of("day", Unit::Day, 2), of("second", Unit::Second, 2));
        for check in [&day, &second] {
            client.decide(0, std::slice::from_ref(check), true).await;
        }
        let [main, per_second] = [0, 1].map(|store| bed.topology().stores()[store]);
        for (server, here, elsewhere) in [(main, "day", "second"), (per_second, "second", "day")] {
            let names = server.cli(&["KEYS", "*"]).await;
            let names: Vec<String> = names.items().iter().map(|name| name.text()).collect();
            let has = |user: &str| {
                names
                    .iter()
                    .any(|name| name.contains(&format!("={user}}}")))
            };
            assert!(has(here) && !has(elsewhere), "{here}: {names:?}");
        }

        // Whichever of the two denies, the other has charged nothing.
        for full in [&day, &second] {
            let mut query = [of("day", Unit::Day, 100), of("second", Unit::Second, 100)];
            for check in &mut query {
                if check.key == full.key {
                    check.hits = Hits::Charge(100);
                }
            }
            let decision = client.decide(0, &query, true).await;
            assert!(decision.denied);
            let over: Vec<bool> = decision
                .verdicts
                .iter()
                .map(|verdict| verdict.over)
                .collect();
            assert_eq!(over, query.map(|check| check.hits == Hits::Charge(100)));
            for key in [&day, &second] {
                assert_eq!(client.counted(key).await, 1);
            }
        }
        let decision = client.decide(0, &[day.clone(), second.clone()], true).await;
        assert!(!decision.denied);
        for key in [&day, &second] {
            assert_eq!(client.counted(key).await, 2);
        }
        bed.is_left_clean().await;
    });
}

fn of(user: &str, unit: Unit, limit: u32) -> Check {
    charge(user, long(Algorithm::FixedWindow, limit, unit))
}

/// As many calls as there are slots, and one where `colocate_by` keeps a tenant's keys in one.
pub(super) fn keys_that_share_a_slot_are_asked_for_at_once(runtime: &Runtime, bed: &Bed) {
    if bed.kind == Kind::Memory {
        return;
    }
    runtime.block_on(async {
        let client = bed.client("slots", 1).await;
        let key = |colocated: bool, number: u32| {
            let (user, number) = (b"ann", number.to_string());
            let mut key = match colocated {
                true => KeyBuilder::colocated(
                    b"suite",
                    Entry {
                        key: b"user",
                        value: user,
                    },
                ),
                false => KeyBuilder::new(b"suite"),
            };
            key.entry((b"user", false), (user, false));
            key.entry((b"path", false), (number.as_bytes(), false));
            let quota = long(Algorithm::SlidingWindow, 10, Unit::Day);
            Check {
                rule: RuleId::default(),
                key: key.finish(&quota),
                quota,
                hits: Hits::Charge(1),
                role: Role::default(),
                on_store_failure: OnStoreFailure::Local,
            }
        };
        for colocated in [true, false] {
            let query: Vec<Check> = (0..8).map(|number| key(colocated, number)).collect();
            let slots = query.iter().map(|check| slot_of(check.key.as_bytes()));
            let slots: BTreeSet<u16> = slots.collect();
            assert_eq!(slots.len() == 1, colocated, "{slots:?}");
            let expected = match bed.kind {
                Kind::Cluster => slots.len(),
                _ => 1,
            };
            let before = bed.script_calls().await;
            assert!(!client.decide(0, &query, true).await.denied);
            let calls = bed.script_calls().await - before;
            assert_eq!(
                calls,
                u64::try_from(expected).unwrap(),
                "colocated: {colocated}"
            );
        }
    });
}
