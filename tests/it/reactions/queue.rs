//! What waits for a server: bounded, and only what somebody wants.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tollgate::event::FallbackReason;
use tollgate::model::Source;

use super::connection::pause;
use super::rig::{PATIENCE, Rig, Set, let_others_run};
use crate::topology::{Flavour, Single, Topology};

/// Calls of one query each.
const SMALL: Set = Set {
    deadline: PATIENCE,
    threshold: 3,
    timeout: super::rig::NEVER,
    probe: Duration::from_millis(50),
    queue: 5,
    batch: 1,
    password_file: None,
    per_second: false,
    per_second_url: None,
    is_observer: false,
    key_prefix: "tollgate",
};

#[tokio::test]
async fn one_query_more_than_may_wait_is_answered_at_once() {
    let single = Single::start(Flavour::Redis7).await;
    let rig = Arc::new(Rig::start(&single.url(), SMALL).await);
    pause(&single.server).await;
    let mut asked = Vec::new();
    for _ in 0..ROUNDS + SMALL.queue {
        asked.push(waiting(&rig, "ann").await);
    }
    assert!(rig.events.fell().is_empty(), "all wait");
    let refused = waiting(&rig, "ann").await;
    assert!(refused.is_finished(), "not held");
    assert_eq!(refused.await.unwrap(), Source::Local);
    assert_eq!(rig.events.fell(), [FallbackReason::QueueFull]);
    let full = rig.lane.shared().sample()[0].unwrap().queue;
    let limit = SMALL.queue;
    assert_eq!(
        (full.length, full.limit, full.utilization),
        (limit, limit, 1.0)
    );
    assert_eq!(rig.last().queue, full, "seen by all");
    single.server.cli(&["CLIENT", "UNPAUSE"]).await;
    for asked in asked {
        assert_eq!(asked.await.unwrap(), Source::Store);
    }
    assert_eq!(rig.counted("ann").await, rig.charged());
    assert_eq!(rig.last().queue.length, 0);
    // In the second that began with the last look it was full, in the one after that it was not.
    let peak = || rig.lane.shared().sample()[0].unwrap().queue.utilization;
    assert_eq!([peak(), peak()].map(|share| share.to_string()), ["1", "0"]);
}

#[tokio::test]
async fn a_caller_who_went_away_while_waiting_costs_no_call() {
    let single = Single::start(Flavour::Redis7).await;
    let rig = Arc::new(Rig::start(&single.url(), SMALL).await);
    pause(&single.server).await;
    let mut asked = Vec::new();
    for _ in 0..ROUNDS {
        asked.push(waiting(&rig, "ann").await);
    }
    let gone = waiting(&rig, "bob").await;
    let stays = waiting(&rig, "cid").await;
    gone.abort();
    gone.await.unwrap_err();
    single.server.cli(&["CLIENT", "UNPAUSE"]).await;
    asked.push(stays);
    for asked in asked {
        assert_eq!(asked.await.unwrap(), Source::Store);
    }
    assert_eq!(rig.events.calls().len(), ROUNDS + 1);
    assert_eq!(rig.counted("bob").await, 0);
    let keys = single.server.cli(&["DBSIZE"]).await;
    assert_eq!(keys.text(), "2");
}

#[tokio::test]
async fn a_query_that_waited_too_long_costs_no_call() {
    let single = Single::start(Flavour::Redis7).await;
    let rig = Arc::new(Rig::start(&single.url(), SMALL).await);
    pause(&single.server).await;
    let mut asked = Vec::new();
    for _ in 0..ROUNDS {
        asked.push(waiting(&rig, "ann").await);
    }
    let late = rig.ask_within("bob", Duration::from_millis(20)).await;
    assert_eq!(late, Source::Local);
    assert_eq!(rig.events.fell(), [FallbackReason::Deadline]);
    single.server.cli(&["CLIENT", "UNPAUSE"]).await;
    for asked in asked {
        assert_eq!(asked.await.unwrap(), Source::Store);
    }
    assert_eq!(rig.counted("bob").await, 0);
}

/// A query that waits; it has got as far as it can.
async fn waiting(rig: &Arc<Rig>, user: &'static str) -> JoinHandle<Source> {
    let asking = Arc::clone(rig);
    let asked = tokio::spawn(async move { asking.ask(user).await });
    let_others_run().await;
    asked
}

/// Calls under way over one connection before others wait.
const ROUNDS: usize = 8;
