//! `on_store_failure`: what a rule wants while the store is away, alone and among others.

use tollgate::event::FallbackReason;
use tollgate::model::{Check, DeniedHits, Hits, OnStoreFailure, Quota, Role, Source, Unit, Window};
use tollgate::store::{Unasked, Unavailable};

use super::rig::{PATIENCE, Rig, Set, hit, hit_or};
use crate::topology::{Flavour, Single, Topology};

/// A way to a server that has gone.
async fn without_store() -> Rig {
    let single = Single::start(Flavour::Redis7).await;
    single.server.kill();
    Rig::start(&single.url(), Set::default()).await
}

/// What is counted for a user here.
fn counted_here(rig: &Rig, user: &str) -> u64 {
    let peek = Check {
        hits: Hits::Peek,
        ..hit(user)
    };
    let shared = rig.lane.shared();
    shared.local().inspect(&peek, shared.now()).counted
}

#[tokio::test]
async fn each_rule_is_decided_in_its_own_way() {
    let rig = without_store().await;
    for (way, source, denied) in [
        (OnStoreFailure::Local, Source::Local, false),
        (OnStoreFailure::Allow, Source::Fallback, false),
        (OnStoreFailure::Deny, Source::Fallback, true),
    ] {
        let decision = rig.decide(&[hit_or("ann", way)], PATIENCE).await.unwrap();
        assert_eq!(decision.verdicts[0].source, source, "{way:?}");
        assert_eq!(decision.denied, denied, "{way:?}");
        assert_eq!(decision.verdicts[0].over, denied, "{way:?}");
    }
    let error = [hit_or("ann", OnStoreFailure::Error)];
    let Unavailable(why) = rig.decide(&error, PATIENCE).await.unwrap_err();
    assert_eq!(why, Unasked::Gone);
    assert_eq!(counted_here(&rig, "ann"), 1, "by the first rule alone");
}

#[tokio::test]
async fn a_query_of_many_ways_is_all_or_nothing() {
    let rig = without_store().await;
    let [ann, bob] = [hit("ann"), hit_or("bob", OnStoreFailure::Deny)];
    let both = [ann.clone(), bob.clone()];
    let decision = rig.decide(&both, PATIENCE).await.unwrap();
    let over = decision.verdicts.iter().map(|verdict| verdict.over);
    assert!(decision.denied && over.eq([false, true]), "{decision:?}");
    assert_eq!(counted_here(&rig, "ann"), 0);

    let error = hit_or("cid", OnStoreFailure::Error);
    let refused = rig.decide(&[ann.clone(), error], PATIENCE).await;
    refused.unwrap_err();
    assert_eq!(counted_here(&rig, "ann"), 0);
    assert_eq!(rig.lane.shared().local().stats().ledger_keys, 0);

    let allow = hit_or("dan", OnStoreFailure::Allow);
    let decision = rig.decide(&[ann.clone(), allow], PATIENCE).await.unwrap();
    assert!(!decision.denied);
    let sources = decision.verdicts.iter().map(|verdict| verdict.source);
    assert!(
        sources.eq([Source::Local, Source::Fallback]),
        "{decision:?}"
    );
    assert_eq!(counted_here(&rig, "ann"), 1);

    // A rule that only tells denies nobody.
    let shadow = Check {
        role: Role {
            shadow: true,
            quota: false,
        },
        ..bob
    };
    let decision = rig.decide(&[ann, shadow], PATIENCE).await.unwrap();
    assert!(
        !decision.denied && decision.verdicts[1].over,
        "{decision:?}"
    );
    assert_eq!(counted_here(&rig, "ann"), 2);
}

#[tokio::test]
async fn what_fails_with_a_query_in_parts_is_counted() {
    let single = Single::start(Flavour::Redis7).await;
    single.server.kill();
    let set = Set {
        per_second: true,
        ..Set::default()
    };
    let rig = Rig::start(&single.url(), set).await;
    let second = Window::try_new(Unit::Second, 1).unwrap();
    let elsewhere = Check {
        quota: Quota::fixed(1_000, second, DeniedHits::Free),
        ..hit("bob")
    };
    let both = [hit_or("ann", OnStoreFailure::Error), elsewhere];
    let Unavailable(why) = rig.decide(&both, PATIENCE).await.unwrap_err();
    assert_eq!(why, Unasked::Gone);
    assert_eq!(rig.events.fell(), [FallbackReason::Gone; 2]);
    assert_eq!(rig.lane.shared().local().stats().decisions, 0);
}
