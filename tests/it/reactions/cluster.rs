//! A Cluster whose slots move, or are not served.

use std::sync::Arc;
use std::time::Duration;

use tollgate::event::{BreakerState, FallbackReason};
use tollgate::model::{Algorithm, Check, DeniedHits, Hits, Quota, Source, Unit, Window};
use tollgate::store::redis::slot_of;

use super::full_socket::{KEY_PREFIX, checks_to_fill_sockets};
use super::rig::{PATIENCE, Rig, Set, hit, let_others_run};
use crate::process::until_async;
use crate::redis::check;
use crate::topology::{Cluster, Flavour, Server, Topology};
use crate::window::long;

#[tokio::test]
async fn slots_that_move_are_followed_and_nothing_is_charged_twice() {
    let bed = Cluster::start(Flavour::Redis7).await;
    // The slots are looked up so seldom that only what the servers say can help.
    let seldom = Set {
        probe: Duration::from_secs(60),
        ..Set::default()
    };
    let rig = Rig::start(&bed.url(), seldom).await;
    a_slot_that_has_moved(&bed, &rig).await;
    a_slot_on_its_way(&bed, &rig).await;
    a_slot_that_nobody_serves(&bed).await;
}

async fn a_slot_that_has_moved(bed: &Cluster, rig: &Rig) {
    let (from, to) = ends(bed, "ann").await;
    let slot = slot(&hit("ann")).to_string();
    for node in [to, from] {
        let line = ["CLUSTER", "SETSLOT", &slot, "NODE", &id(to).await];
        node.cli(&line).await;
    }
    for _ in 0..3 {
        assert_eq!(rig.ask("ann").await, Source::Store);
    }
    assert!(rig.events.called("moved") > 0, "{:?}", rig.events);
    assert_eq!(rig.counted("ann").await, 3);
    assert!(rig.events.fell().is_empty(), "{:?}", rig.events);
}

/// One of two counters has moved, then both have.
async fn a_slot_on_its_way(bed: &Cluster, rig: &Rig) {
    let (from, to) = ends(bed, "bob").await;
    let fixed = hit("bob");
    let sliding = check(
        "bob",
        long(Algorithm::SlidingWindow, 1_000, Unit::Day),
        Hits::Charge(1),
    );
    let both = async || {
        // Both wait for the same call.
        let [one, two] = [&fixed, &sliding].map(|check| [check.clone()]);
        let asked = tokio::join!(rig.decide(&one, PATIENCE), rig.decide(&two, PATIENCE));
        [asked.0, asked.1].map(|decision| decision.unwrap().verdicts[0].source)
    };
    assert_eq!(both().await, [Source::Store; 2]);
    let number = slot(&fixed).to_string();
    to.cli(&["CLUSTER", "SETSLOT", &number, "IMPORTING", &id(from).await])
        .await;
    from.cli(&["CLUSTER", "SETSLOT", &number, "MIGRATING", &id(to).await])
        .await;
    let port = to.addr().port().to_string();
    let moves = async |check: &Check| {
        let key = format!("tollgate:{}", check.key);
        from.cli(&["MIGRATE", "127.0.0.1", &port, &key, "0", "5000"])
            .await;
    };
    assert_eq!(both().await, [Source::Store; 2]);
    moves(&fixed).await;
    assert_eq!(both().await, [Source::Store; 2]);
    assert!(
        rig.events.called("try_again") > 0,
        "{:?}",
        rig.events.calls()
    );
    assert!(rig.events.called("ask") > 0, "{:?}", rig.events.calls());
    moves(&sliding).await;
    assert_eq!(both().await, [Source::Store; 2]);
    for node in [to, from] {
        node.cli(&["CLUSTER", "SETSLOT", &number, "NODE", &id(to).await])
            .await;
    }
    assert_eq!(both().await, [Source::Store; 2]);
    assert_eq!(rig.counted("bob").await, 5);
    assert!(rig.events.fell().is_empty(), "{:?}", rig.events.fell());
}

async fn a_slot_that_nobody_serves(bed: &Cluster) {
    let rig = Rig::start(&bed.url(), Set::default()).await;
    assert_eq!(rig.ask("cid").await, Source::Store);
    let (owner, _) = ends(bed, "cid").await;
    let number = slot(&hit("cid")).to_string();
    owner.cli(&["CLUSTER", "DELSLOTS", &number]).await;
    assert_eq!(rig.ask("cid").await, Source::Local);
    assert_eq!(rig.events.fell(), [FallbackReason::Failed]);
    assert_eq!(rig.events.called("cluster_down"), 1, "{:?}", rig.events);
    rig.until_open("cid", PATIENCE).await;
    owner.cli(&["CLUSTER", "ADDSLOTS", &number]).await;
    rig.until_back("cid").await;
    assert!(rig.events.states().contains(&BreakerState::Open));
}

#[tokio::test]
async fn calls_that_could_not_be_written_together_in_time_are_never_sent() {
    let bed = Cluster::start(Flavour::Redis7).await;
    // No replica takes over meanwhile.
    for node in bed.stores() {
        node.cli(&["CONFIG", "SET", "cluster-node-timeout", "60000"])
            .await;
    }
    let patience = Duration::from_secs(1);
    let set = Set {
        deadline: patience,
        queue: 100_000,
        batch: 100_000,
        key_prefix: KEY_PREFIX,
        ..Set::default()
    };
    let rig = Arc::new(Rig::start(&bed.url(), set).await);
    let (frozen, _) = ends(&bed, "ann").await;
    // Users of whom the same node is in charge: it has a third of the slots.
    let third = |user: &str| [5_460, 10_922].map(|last| slot(&hit(user)) > last);
    let with_ann = |user: &String| third(user) == third("ann");
    // Rules for one user have their keys in one slot.
    let rules = |user: String| {
        (1..=60).map(move |hours| {
            let window = Window::try_new(Unit::Hour, hours).unwrap();
            check(
                &user,
                Quota::fixed(9, window, DeniedHits::Free),
                Hits::Charge(1),
            )
        })
    };
    let many = (0..).map(|number| number.to_string());
    let many = many.filter(with_ann).flat_map(rules);
    let many: Vec<_> = many.take(checks_to_fill_sockets()).collect();
    let bobs = (0..).map(|number| format!("bob{number}"));
    let users: Vec<_> = bobs.filter(with_ann).take(3).collect();
    rig.until_back("ann").await;
    frozen.freeze();
    let mut waiting = Vec::new();
    let mut ask = |checks: Vec<Check>| {
        let asking = Arc::clone(&rig);
        waiting.push(tokio::spawn(async move {
            asking.decide(&checks, patience).await.unwrap();
        }));
    };
    // The first timeout does not open the breaker, so the second round is handed to the connection
    // however long the first one takes to be made.
    ask(many);
    let_others_run().await;
    for user in &users {
        ask(vec![hit(user)]);
    }
    for asked in waiting {
        asked.await.unwrap();
    }
    until_async("the connection to be given up", async || {
        rig.ask_within("ann", patience).await;
        rig.fell(FallbackReason::Gone).then_some(())
    })
    .await;
    frozen.thaw();
    rig.until_back("ann").await;
    until_async("the calls to be over", async || {
        (rig.last().unanswered == 0).then_some(())
    })
    .await;
    for user in &users {
        assert_eq!(rig.counted(user).await, 0, "{user}");
    }
}

/// The node that has a user's slot, and another one.
async fn ends<'c>(bed: &'c Cluster, user: &str) -> (&'c Server, &'c Server) {
    let slot = slot(&hit(user));
    let from = bed.owner(slot).await.expect("an owner");
    let to = bed.owner((slot + 8_192) % 16_384).await.expect("an owner");
    assert_ne!(from.addr(), to.addr());
    (from, to)
}

fn slot(check: &Check) -> u16 {
    slot_of(format!("tollgate:{}", check.key).as_bytes())
}

async fn id(node: &Server) -> String {
    node.cli(&["CLUSTER", "MYID"]).await.text()
}
