//! A server is left alone when its calls fail, and tried again.

use std::time::Duration;

use futures_util::future::join_all;
use tollgate::event::{BreakerState, FallbackReason};
use tollgate::model::Source;

use super::rig::{NEVER, PATIENCE, Rig, Set};
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

/// Takes from Tollgate what it needs. Its probes fail too.
async fn forbid(server: &Server) {
    let forbid = ["ACL", "SETUSER", "default", "-evalsha"];
    server.cli(&forbid).await;
}
