//! What a server may have done though it never said so, and what it surely has not.

use std::sync::Arc;
use std::time::Duration;

use tollgate::model::{Check, DeniedHits, Hits, Quota, Source, Unit, Window};

use super::connection::pause;
use super::rig::{PATIENCE, Rig, Set, hit, let_others_run};
use crate::process::until_async;
use crate::topology::{Flavour, Server, Single, Topology};

#[tokio::test]
async fn a_refund_that_the_server_may_have_carried_out_changes_nothing_here() {
    let single = Single::start(Flavour::Redis7).await;
    let patience = Duration::from_millis(50);
    let set = Set {
        deadline: patience,
        threshold: 1_000,
        ..Set::default()
    };
    let rig = Rig::start(&single.url(), set).await;
    pause(&single.server).await;
    let ask = async |hits| {
        let check = Check { hits, ..hit("ann") };
        let decision = rig.decide(&[check], patience).await.unwrap();
        assert_eq!(decision.verdicts[0].source, Source::Local);
    };
    let owed = || rig.lane.shared().local().stats().ledger_keys;
    ask(Hits::Charge(3)).await;
    assert_eq!((counted_here(&rig), owed()), (3, 1));
    ask(Hits::Refund(3)).await;
    assert_eq!((counted_here(&rig), owed()), (3, 1), "it may come later");
    // This one surely was not.
    single.server.kill();
    until_async("the server to be gone", async || {
        ask(Hits::Refund(1)).await;
        (counted_here(&rig) < 3).then_some(())
    })
    .await;
}

fn counted_here(rig: &Rig) -> u64 {
    let shared = rig.lane.shared();
    let peek = Check {
        hits: Hits::Peek,
        ..hit("ann")
    };
    shared.local().inspect(&peek, shared.now()).counted
}

/// A main store, one for limits per second, and a rig that uses both.
async fn two_stores() -> (Single, Single, Rig) {
    let (main, seconds) = (
        Single::start(Flavour::Redis7).await,
        Single::start(Flavour::Redis7).await,
    );
    let set = Set {
        per_second: true,
        per_second_url: Some(seconds.url()),
        ..Set::default()
    };
    let rig = Rig::start(&main.url(), set).await;
    (main, seconds, rig)
}

/// A hit that passes in the main store, and one that the other store denies.
fn query() -> [Check; 2] {
    let second = Window::try_new(Unit::Second, 1).unwrap();
    let denied = Check {
        quota: Quota::fixed(0, second, DeniedHits::Free),
        ..hit("bob")
    };
    [hit("ann"), denied]
}

#[tokio::test]
async fn hits_of_a_denied_query_are_given_back_over_the_next_connection() {
    let (main, seconds, rig) = two_stores().await;
    let rig = Arc::new(rig);
    // One part is charged, and the one that will deny waits.
    pause(&seconds.server).await;
    let asking = {
        let rig = Arc::clone(&rig);
        tokio::spawn(async move { rig.decide(&query(), PATIENCE).await.unwrap() })
    };
    let server = &main.server;
    until_async("the charge", async || {
        (server.cli(&["DBSIZE"]).await.text() == "1").then_some(())
    })
    .await;
    // Its connection is lost, and for a while there is no other.
    server.cli(&["ACL", "SETUSER", "default", "-info"]).await;
    server.cli(&["CLIENT", "KILL", "TYPE", "normal"]).await;
    until_async("the connection to be missed", async || {
        rig.trouble().is_some().then_some(())
    })
    .await;
    seconds.server.cli(&["CLIENT", "UNPAUSE"]).await;
    // The charge and the denial; then the hits are tried to be given back, and there is no connection.
    until_async("the denial", async || {
        (rig.events.called("ok") == 2).then_some(())
    })
    .await;
    let_others_run().await;
    server.cli(&["ACL", "SETUSER", "default", "+info"]).await;
    assert!(asking.await.unwrap().denied);
    assert_eq!(rig.counted("ann").await, 0);
    is_empty(server).await;
}

#[tokio::test]
async fn hits_of_a_denied_query_are_given_back_though_their_answer_is_late() {
    let (main, _seconds, rig) = two_stores().await;
    pause(&main.server).await;
    let limit = Duration::from_millis(300);
    let decision = rig.decide(&query(), limit).await.unwrap();
    assert!(decision.denied);
    assert_eq!(decision.verdicts[0].source, Source::Local);
    // Its charge is carried out now.
    main.server.cli(&["CLIENT", "UNPAUSE"]).await;
    until_async("the charge, and its end", async || {
        (rig.events.called("timeout") == 1 && rig.events.called("ok") >= 2).then_some(())
    })
    .await;
    assert_eq!(rig.counted("ann").await, 0);
    is_empty(&main.server).await;
}

/// Nothing is counted any more.
async fn is_empty(server: &Server) {
    until_async("the counter to go", async || {
        (server.cli(&["DBSIZE"]).await.text() == "0").then_some(())
    })
    .await;
}
