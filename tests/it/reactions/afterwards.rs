//! What was let pass without the store is charged when it is back, and replicas know of each other.

use tollgate::event::Operation;
use tollgate::model::{Algorithm, Check, DeniedHits, Quota, Source, Unit, Window};
use tollgate::store::Keeper;

use super::rig::{PATIENCE, Rig, Set, hit};
use crate::process::until_async;
use crate::topology::{Flavour, Single, Topology};

async fn is_fleet_of(rig: &Rig, replicas: u32) {
    until_async("the replicas to know", async || {
        let seen = rig.lane.shared().local().stats().replicas;
        (seen == replicas).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_was_let_pass_meanwhile_is_charged_once_and_in_batches() {
    let single = Single::start(Flavour::Redis7).await;
    let set = Set {
        batch: 2,
        ..Set::default()
    };
    let rig = Rig::start(&single.url(), set).await;
    let _keeper = Keeper::start(&rig.lane);
    single.server.kill();
    until_async("it to be seen", async || rig.trouble().map(drop)).await;
    let users = ["ann", "bob", "cid", "dan", "eve"];
    for user in users {
        for _ in 0..3 {
            assert_eq!(rig.ask(user).await, Source::Local);
        }
    }
    single.server.restart().await;
    until_async("all to be charged", async || {
        let (charged, ..) = rig.events.reconciled();
        (charged >= 15).then_some(())
    })
    .await;
    let (charged, dropped, batches) = rig.events.reconciled();
    assert_eq!((charged, dropped, batches), (15, 0, 3));
    for user in users {
        assert_eq!(rig.counted(user).await, 3);
    }
    assert_eq!(rig.lane.shared().local().stats().ledger_keys, 0);
}

#[tokio::test]
async fn hits_in_a_window_that_is_over_are_told_as_dropped() {
    let single = Single::start(Flavour::Redis7).await;
    let rig = Rig::start(&single.url(), Set::default()).await;
    let _keeper = Keeper::start(&rig.lane);
    single.server.kill();
    until_async("it to be seen", async || rig.trouble().map(drop)).await;
    let window = Window::try_new(Unit::Second, 1).unwrap();
    let quota = Quota::try_new(1_000, window, Algorithm::FixedWindow, DeniedHits::Free);
    let each_second = Check {
        quota: quota.unwrap(),
        ..hit("ann")
    };
    for _ in 0..3 {
        let decision = rig.decide(std::slice::from_ref(&each_second), PATIENCE);
        assert_eq!(decision.await.unwrap().verdicts[0].source, Source::Local);
    }
    let second = || rig.lane.shared().now().as_millis() / 1_000;
    let last = second();
    until_async("the window to end", async || {
        (second() > last).then_some(())
    })
    .await;
    single.server.restart().await;
    until_async("the hits to be told of", async || {
        let (charged, dropped, _) = rig.events.reconciled();
        (charged == 0 && dropped == 3).then_some(())
    })
    .await;
    assert_eq!(rig.lane.shared().local().stats().ledger_keys, 0);
}

#[tokio::test]
async fn replicas_see_each_other_come_leave_and_die() {
    let single = Single::start(Flavour::Redis7).await;
    let [one, two, three] = [
        Rig::start(&single.url(), Set::default()).await,
        Rig::start(&single.url(), Set::default()).await,
        Rig::start(&single.url(), Set::default()).await,
    ];
    let [first, second, third] = [&one, &two, &three].map(|rig| Keeper::start(&rig.lane));
    // Heartbeats are a second apart, and on a busy machine more.
    let beats = |rig: &Rig| rig.events.every_call(Operation::Heartbeat).len();
    for rig in [&one, &two, &three] {
        is_fleet_of(rig, 3).await;
        assert!(beats(rig) <= 5, "seen too late");
    }
    // One takes itself off the list, the other is dropped when it has been silent for long. Both are
    // believed to be gone a little later.
    let before = beats(&one);
    third.leave().await;
    drop(second);
    let listed = ["HLEN", "tollgate:main:state"];
    assert_eq!(single.server.cli(&listed).await.text(), "2");
    is_fleet_of(&one, 1).await;
    let more = beats(&one) - before;
    assert!(more <= 15, "after {more} heartbeats");
    drop(first);
}
