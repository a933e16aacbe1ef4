//! A server that pauses for a moment, now and then.

use std::time::Duration;

use futures_util::future::join_all;
use tollgate::event::{BreakerState, FallbackReason};
use tollgate::model::Source;

use super::connection::pause;
use super::rig::{NEVER, PATIENCE, Rig, Set};
use crate::topology::{Flavour, Single, Topology};

#[tokio::test]
async fn calls_that_were_under_way_together_are_one_failure() {
    let single = Single::start(Flavour::Redis7).await;
    let deadline = Duration::from_millis(200);
    let set = Set {
        deadline,
        batch: 1,
        probe: NEVER,
        ..Set::default()
    };
    let rig = Rig::start(&single.url(), set).await;
    assert_eq!(rig.ask("ann").await, Source::Store);
    pause(&single.server).await;
    let sources = join_all((0..8).map(|_| rig.ask_within("ann", deadline))).await;
    assert_eq!(sources, [Source::Local; 8]);
    assert_eq!(rig.events.fell(), [FallbackReason::Deadline; 8]);
    single.server.cli(&["CLIENT", "UNPAUSE"]).await;
    assert_eq!(rig.ask("ann").await, Source::Store);
    assert_eq!(rig.events.states(), [BreakerState::Closed]);
}

#[tokio::test]
async fn a_server_that_has_paused_is_asked_again_long_before_the_next_regular_probe() {
    let single = Single::start(Flavour::Redis7).await;
    let deadline = Duration::from_millis(60);
    let set = Set {
        deadline,
        // Longer than this test waits for anything.
        probe: NEVER,
        timeout: NEVER,
        ..Set::default()
    };
    let rig = Rig::start(&single.url(), set).await;
    assert_eq!(rig.ask("ann").await, Source::Store);
    let connections = async || {
        let server = &single.server;
        let stats = server.info(&["INFO", "stats"], "total_connections_received");
        stats.await.unwrap().parse::<u64>().unwrap()
    };
    let before = connections().await;
    single.server.freeze();
    rig.until_open("ann", deadline).await;
    single.server.thaw();
    rig.until_back("ann").await;
    // Over the same connection; this test asks over one of its own.
    assert_eq!(connections().await, before + 1);
    assert!(rig.ask_within("ann", PATIENCE).await == Source::Store);
}
