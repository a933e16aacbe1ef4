//! A server is left alone when its calls fail, and tried again.

use std::time::Duration;

use futures_util::future::join_all;
use tollgate::event::{BreakerState, FallbackReason};
use tollgate::model::Source;
use tollgate::store::Lane;

use super::rig::{NEVER, PATIENCE, Rig, Set};
use crate::process::until_async;
use crate::topology::{Flavour, Server, Single, Topology};

#[tokio::test]
async fn a_call_with_many_queries_is_one_failure_and_while_it_is_open_nobody_waits() {
    let single = Single::start(Flavour::Redis7).await;
    let set = Set {
        probe: NEVER,
        ..Set::default()
    };
    let rig = Rig::start(&single.url(), set).await;
    forbid(&single.server).await;
    for user in ["ann", "bob"] {
        let sources = join_all((0..50).map(|_| rig.ask(user))).await;
        assert_eq!(sources, [Source::Local; 50]);
    }
    let failed = ("no_permission", 50);
    assert_eq!(rig.events.calls(), [failed, failed]);
    assert_eq!(rig.events.states(), [BreakerState::Closed]);
    assert_eq!(rig.ask("ann").await, Source::Local);
    let opened = [BreakerState::Closed, BreakerState::Open];
    assert_eq!(rig.events.states(), opened);
    let fell = rig.events.fell().len();
    let sources = join_all((0..50).map(|_| rig.ask("ann"))).await;
    assert_eq!(sources, [Source::Local; 50]);
    assert_eq!(rig.events.fell()[fell..], [FallbackReason::BreakerOpen; 50]);
    assert_eq!(rig.events.calls().len(), 3);
}

#[tokio::test]
async fn it_is_tried_again_after_the_timeout_even_if_no_probe_said_so() {
    let single = Single::start(Flavour::Redis7).await;
    let set = Set {
        probe: NEVER,
        timeout: Duration::from_millis(100),
        ..Set::default()
    };
    let rig = Rig::start(&single.url(), set).await;
    forbid(&single.server).await;
    rig.until_open("ann", PATIENCE).await;
    let permit = ["ACL", "SETUSER", "default", "+evalsha"];
    single.server.cli(&permit).await;
    rig.until_back("ann").await;
    let states = rig.events.states();
    let end = [BreakerState::HalfOpen, BreakerState::Closed];
    assert!(states.ends_with(&end), "{states:?}");
    assert_eq!(rig.counted("ann").await, rig.charged());
}

#[tokio::test]
async fn failures_with_a_success_between_them_do_not_open_it() {
    let single = Single::start(Flavour::Redis7).await;
    let rig = Rig::start(&single.url(), Set::default()).await;
    for _ in 0..3 {
        forbid(&single.server).await;
        for _ in 0..2 {
            assert_eq!(rig.ask("ann").await, Source::Local);
        }
        let permit = ["ACL", "SETUSER", "default", "+evalsha"];
        single.server.cli(&permit).await;
        assert_eq!(rig.ask("ann").await, Source::Store);
    }
    assert_eq!(rig.events.states(), [BreakerState::Closed]);
}

#[tokio::test]
async fn a_server_that_dies_is_told_of_once_though_every_core_loses_it() {
    let single = Single::start(Flavour::Redis7).await;
    let rig = Rig::start(&single.url(), Set::default()).await;
    let mut others = Vec::new();
    for number in 1..4 {
        let lane = Lane::open(rig.lane.shared(), number);
        lane.settled(PATIENCE).await;
        others.push(lane);
    }
    let states = async |state| {
        until_async("every core to notice", async || {
            let status = rig.lane.shared().status().remove(0);
            let all = status.links.iter().all(|link| link.state == state);
            (status.links.len() == 4 && all).then_some(())
        })
        .await;
        rig.events.states()
    };
    let (closed, open) = (BreakerState::Closed, BreakerState::Open);
    assert_eq!(states(closed).await, [closed]);
    single.server.kill();
    assert_eq!(states(open).await, [closed, open]);
    let away = rig.last().away;
    single.server.restart().await;
    let mut told = states(closed).await;
    // On trial it is only if its absence was long enough for the last core to try in vain.
    told.retain(|&state| state != BreakerState::HalfOpen);
    assert_eq!(told, [closed, open, closed]);
    assert!(rig.last().away > away);
    assert_eq!(rig.last().away, rig.last().away, "it stands still");
}

/// Takes from Tollgate what it needs. Its probes fail too.
async fn forbid(server: &Server) {
    let forbid = ["ACL", "SETUSER", "default", "-evalsha"];
    server.cli(&forbid).await;
}
