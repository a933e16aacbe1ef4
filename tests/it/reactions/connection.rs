//! A server that does not answer, or not over this connection.

use std::time::Duration;

use tokio::time::Instant;
use tollgate::event::{BreakerState, FallbackReason};
use tollgate::model::Source;

use super::rig::{PATIENCE, Rig, Set};
use crate::process::until_async;
use crate::topology::{Flavour, Sentinel, Server, Single, Topology};

#[tokio::test]
async fn a_server_that_comes_late_is_used_when_it_is_there() {
    let single = Single::start(Flavour::Redis7).await;
    single.server.kill();
    let rig = Rig::start(&single.url(), Set::default()).await;
    assert_eq!(rig.ask("ann").await, Source::Local);
    assert_eq!(rig.events.fell(), [FallbackReason::Gone]);
    let trouble = rig.trouble().unwrap();
    assert!(trouble.contains("nobody listens there"), "{trouble}");
    single.server.restart().await;
    rig.until_back("ann").await;
    assert_eq!(rig.counted("ann").await, rig.charged());
    let told = [BreakerState::HalfOpen, BreakerState::Closed];
    assert_eq!(rig.events.states(), told);
}

#[tokio::test]
async fn a_connection_that_is_cut_is_made_again() {
    let single = Single::start(Flavour::Redis7).await;
    let rig = Rig::start(&single.url(), Set::default()).await;
    assert_eq!(rig.ask("ann").await, Source::Store);
    cut(&single.server).await;
    until_async("the cut to be seen", async || {
        (rig.events.states().len() > 1).then_some(())
    })
    .await;
    rig.until_back("ann").await;
    assert_eq!(rig.counted("ann").await, rig.charged());
    let states = rig.events.states();
    assert_eq!(states[..2], [BreakerState::Closed, BreakerState::Open]);
    assert_eq!(states.last(), Some(&BreakerState::Closed), "{states:?}");
}

#[tokio::test]
async fn calls_under_way_over_a_connection_that_is_cut_are_answered_and_never_sent_again() {
    let single = Single::start(Flavour::Redis7).await;
    let server = &single.server;
    let rig = Rig::start(&single.url(), Set::default()).await;
    assert_eq!(rig.ask("ann").await, Source::Store);
    let start = Instant::now();
    pause(server).await;
    let cut = async {
        under_way(server).await;
        cut(server).await;
    };
    let (source, ()) = tokio::join!(rig.ask("ann"), cut);
    assert_eq!(source, Source::Local);
    assert!(start.elapsed() < PATIENCE / 2, "not held");
    assert_eq!(rig.events.fell(), [FallbackReason::Failed]);
    assert_eq!(rig.events.called("reset"), 1, "{:?}", rig.events);
    server.cli(&["CLIENT", "UNPAUSE"]).await;
    rig.until_back("ann").await;
    assert_eq!(rig.counted("ann").await, rig.charged());
}

#[tokio::test]
async fn a_frozen_server_is_waited_for_no_longer_than_may_be_and_then_left_alone() {
    let single = Single::start(Flavour::Redis7).await;
    let patience = Duration::from_millis(60);
    let set = Set {
        deadline: patience,
        ..Set::default()
    };
    let rig = Rig::start(&single.url(), set).await;
    assert_eq!(rig.ask("ann").await, Source::Store);
    single.server.freeze();
    let start = Instant::now();
    assert_eq!(rig.ask_within("ann", patience).await, Source::Local);
    let took = start.elapsed();
    assert!(patience <= took && took < PATIENCE / 2, "{took:?}");
    assert_eq!(rig.events.fell(), [FallbackReason::Deadline]);
    rig.until_open("ann", patience).await;
    let start = Instant::now();
    assert_eq!(rig.ask("ann").await, Source::Local);
    assert!(start.elapsed() < PATIENCE / 2, "not waited for");
    let before = rig.charged();
    single.server.thaw();
    rig.until_back("ann").await;
    // Each is told of when it has been answered, though its connection was given up.
    until_async("the calls to be over", async || {
        (rig.last().unanswered == 0).then_some(())
    })
    .await;
    // After each of the three one more may have left before the link saw that it was late; that says
    // nothing more.
    let timeouts = rig.events.called("timeout");
    assert!((3..=6).contains(&timeouts), "{:?}", rig.events);
    // What was sent to it may have been charged when it woke, once at most.
    let late = rig.counted("ann").await - rig.charged();
    let most = u64::try_from(timeouts).unwrap();
    assert!(before == 1 && late <= most, "{late} charged late");
}

#[tokio::test]
async fn an_answer_that_comes_late_is_taken_for_nobody_elses() {
    let single = Single::start(Flavour::Redis7).await;
    let server = &single.server;
    let rig = Rig::start(&single.url(), Set::default()).await;
    for _ in 0..5 {
        assert_eq!(rig.ask("ann").await, Source::Store);
    }
    pause(server).await;
    let patience = Duration::from_millis(30);
    assert_eq!(rig.ask_within("ann", patience).await, Source::Local);
    assert_eq!(rig.events.fell(), [FallbackReason::Deadline]);
    server.cli(&["CLIENT", "UNPAUSE"]).await;
    assert_eq!(rig.ask("bob").await, Source::Store);
    assert_eq!(rig.counted("bob").await, 1);
    // It was charged once: nobody knew that it would be.
    assert_eq!(rig.counted("ann").await, 6);
    assert_eq!(rig.events.states(), [BreakerState::Closed]);
}

#[tokio::test]
async fn a_failover_is_followed_and_no_call_is_sent_twice() {
    let bed = Sentinel::start(Flavour::Redis7).await;
    let set = Set {
        deadline: Duration::from_millis(100),
        ..Set::default()
    };
    let rig = Rig::start(&bed.url(), set).await;
    rig.until_back("ann").await;
    let first = bed.primary().await.expect("a primary");
    let patience = Duration::from_millis(50);
    // Calls are under way when it dies.
    let asked = async {
        for _ in 0..100 {
            rig.ask_within("ann", patience).await;
        }
    };
    let killed = async {
        until_async("some calls", async || (rig.charged() > 10).then_some(())).await;
        first.kill();
    };
    tokio::join!(asked, killed);
    assert_ne!(rig.ask_within("ann", patience).await, Source::Store);
    rig.until_back("ann").await;
    until_async("the sentinels to agree on another", async || {
        let second = bed.primary().await?;
        (second.addr() != first.addr()).then_some(())
    })
    .await;
    // What the old one had not passed on is lost; nothing is there twice.
    let unknown = rig
        .events
        .calls()
        .iter()
        .filter(|call| call.0 != "ok")
        .count();
    let most = rig.charged() + u64::try_from(unknown).unwrap();
    let counted = rig.counted("ann").await;
    assert!(counted <= most, "{counted} counted, {most} at most");
}

/// Ends all connections but the one that says so.
async fn cut(server: &Server) {
    server.cli(&["CLIENT", "KILL", "TYPE", "normal"]).await;
}

/// Lets no script begin, until it is ended.
pub(super) async fn pause(server: &Server) {
    server.cli(&["CLIENT", "PAUSE", "60000", "WRITE"]).await;
}

/// Waits until a call has come to a server that is paused.
async fn under_way(server: &Server) {
    until_async("a call to be under way", async || {
        let blocked = server.info(&["INFO", "clients"], "blocked_clients").await;
        (blocked?.as_str() != "0").then_some(())
    })
    .await;
}
