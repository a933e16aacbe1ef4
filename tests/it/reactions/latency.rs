//! How long calls took, as it is told: until they were answered, not until nobody waited any more.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tollgate::event::{FallbackReason, Operation};
use tollgate::model::{Check, Source};
use tollgate::store::Keeper;

use super::connection::pause;
use super::full_socket::{KEY_PREFIX, checks_to_fill_sockets};
use super::recorder::Call;
use super::rig::{PATIENCE, Rig, Set, hit, let_others_run};
use crate::process::until_async;
use crate::topology::{Flavour, Server, Single, Topology};

/// Short, beside how long servers are made to take.
const HURRY: Duration = Duration::from_millis(30);

/// How long servers are made to take.
const LONG: Duration = Duration::from_millis(400);

#[tokio::test]
async fn a_call_that_was_given_up_is_told_of_once_when_its_answer_comes() {
    let single = Single::start(Flavour::Redis7).await;
    let rig = Rig::start(&single.url(), Set::default()).await;
    assert_eq!(rig.ask("ann").await, Source::Store);
    pause(&single.server).await;
    let start = Instant::now();
    assert_eq!(rig.ask_within("ann", HURRY).await, Source::Local);
    let given_up = Instant::now();
    until_passed(given_up, LONG).await;
    assert_eq!(rig.last().unanswered, 1);
    assert_eq!(rig.events.calls(), [("ok", 1)], "it is not over");
    single.server.cli(&["CLIENT", "UNPAUSE"]).await;
    until_over(&rig).await;
    let calls = rig.events.every_call(Operation::Decide);
    let took = calls[1].duration;
    assert_eq!((calls[1].result, calls[1].queries), ("timeout", 1));
    assert!(LONG < took && took <= start.elapsed(), "{took:?}");
    assert_eq!(rig.ask("ann").await, Source::Store);
    assert_eq!(rig.events.calls().len(), 3);
    assert_eq!(rig.counted("ann").await, 3);
}

#[tokio::test]
async fn calls_are_measured_until_a_frozen_server_answers_though_their_connection_is_given_up() {
    let single = Single::start(Flavour::Redis7).await;
    let set = Set {
        deadline: HURRY,
        ..Set::default()
    };
    let rig = Rig::start(&single.url(), set).await;
    assert_eq!(rig.ask("ann").await, Source::Store);
    let start = Instant::now();
    single.server.freeze();
    rig.until_open("ann", HURRY).await;
    until_async("the connection to be given up", async || {
        rig.ask("ann").await;
        rig.fell(FallbackReason::Gone).then_some(())
    })
    .await;
    until_passed(Instant::now(), LONG).await;
    assert_eq!(rig.events.called("timeout"), 0);
    assert!(rig.last().unanswered >= 4, "the calls, and a probe");
    single.server.thaw();
    until_over(&rig).await;
    let probes = rig.events.every_call(Operation::Probe);
    let calls = rig.events.every_call(Operation::Decide);
    let late = calls.iter().chain(&probes);
    let late: Vec<_> = late.filter(|call| call.result == "timeout").collect();
    // After each of the three one more may have left before the link saw that it was late; that says
    // nothing more.
    let timeouts = rig.events.called("timeout");
    assert!(
        late.len() > timeouts && (3..=6).contains(&timeouts),
        "{late:?}"
    );
    for call in late {
        let took = call.duration;
        assert!(LONG < took && took <= start.elapsed(), "{call:?}");
    }
    rig.until_back("ann").await;
    // Then the connection is of no use any more.
    until_async("it to be closed", async || {
        (connections(&single.server).await == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_answer_that_never_comes_is_not_waited_for_for_ever() {
    let single = Single::start(Flavour::Redis7).await;
    let rig = Rig::start(&single.url(), Set::default()).await;
    assert_eq!(rig.ask("ann").await, Source::Store);
    single.server.freeze();
    assert_eq!(rig.ask_within("ann", HURRY).await, Source::Local);
    until_async("the call to be over", async || {
        (rig.events.called("timeout") == 1).then_some(())
    })
    .await;
    let calls = rig.events.every_call(Operation::Decide);
    let [
        _,
        Call {
            result, duration, ..
        },
    ] = calls[..]
    else {
        panic!("{calls:?}");
    };
    assert_eq!(result, "timeout");
    let longest = Duration::from_secs(5);
    assert!(
        longest <= duration && duration < 2 * longest,
        "{duration:?}"
    );
    single.server.thaw();
    rig.until_back("ann").await;
}

#[tokio::test]
async fn a_server_that_is_always_late_has_few_connections_that_were_given_up() {
    let single = Single::start(Flavour::Redis7).await;
    let set = Set {
        deadline: HURRY,
        ..Set::default()
    };
    let rig = Rig::start(&single.url(), set).await;
    assert_eq!(rig.ask("ann").await, Source::Store);
    pause(&single.server).await;
    rig.until_open("ann", HURRY).await;
    let mut most = 0;
    until_async("many connections to be made", async || {
        most = most.max(connections(&single.server).await);
        (rig.events.ended(Operation::Connect, "ok") >= 12).then_some(())
    })
    .await;
    // One serves, or is on its way; one may have been closed just now.
    assert!((2..=7).contains(&most), "{most}");
    single.server.cli(&["CLIENT", "UNPAUSE"]).await;
    rig.until_back("ann").await;
    until_over(&rig).await;
    // One probe at least for each connection, each told of.
    assert!(rig.events.ended(Operation::Probe, "timeout") >= 10);
}

#[tokio::test]
async fn what_could_not_be_written_in_time_is_never_sent() {
    let single = Single::start(Flavour::Redis7).await;
    let set = Set {
        deadline: 10 * HURRY,
        batch: 1,
        key_prefix: KEY_PREFIX,
        ..Set::default()
    };
    let rig = Arc::new(Rig::start(&single.url(), set).await);
    assert_eq!(rig.ask("ann").await, Source::Store);
    let large = (0..checks_to_fill_sockets()).map(|number| hit(&number.to_string()));
    let large: Vec<Check> = large.collect();
    single.server.freeze();
    // The first timeout does not open the breaker, so the second call is handed to the connection
    // however long the first one takes to be made.
    let mut waiting = Vec::new();
    for checks in [large, vec![hit("bob")]] {
        let asking = Arc::clone(&rig);
        waiting.push(tokio::spawn(async move {
            asking.decide(&checks, 10 * HURRY).await.unwrap()
        }));
        let_others_run().await;
    }
    for asked in waiting {
        let decision = asked.await.unwrap();
        assert_eq!(decision.verdicts[0].source, Source::Local);
    }
    until_async("the connection to be given up", async || {
        rig.ask_within("cid", 10 * HURRY).await;
        rig.fell(FallbackReason::Gone).then_some(())
    })
    .await;
    single.server.thaw();
    rig.until_back("ann").await;
    until_over(&rig).await;
    for user in ["bob", "cid"] {
        assert_eq!(rig.counted(user).await, 0, "{user}");
    }
    // Each call is reported once, also those that were not sent.
    let (calls, ok) = (rig.events.calls(), rig.events.called("ok"));
    let timeouts = rig.events.called("timeout");
    assert!(timeouts >= 2 && timeouts + ok == calls.len(), "{calls:?}");
}

#[tokio::test]
async fn connecting_probes_and_heartbeats_are_told_of_as_what_they_are() {
    let single = Single::start(Flavour::Redis7).await;
    let server = &single.server;
    let set = Set {
        threshold: 1,
        ..Set::default()
    };
    let rig = Rig::start(&single.url(), set).await;
    assert_eq!(rig.events.ended(Operation::Connect, "ok"), 1);
    let keeper = Keeper::start(&rig.lane);
    let told = async |operation, result| {
        until_async("it to be told", async || {
            (rig.events.ended(operation, result) > 0).then_some(())
        })
        .await;
    };
    told(Operation::Heartbeat, "ok").await;
    server.cli(&["ACL", "SETUSER", "default", "-evalsha"]).await;
    assert_eq!(rig.ask("ann").await, Source::Local);
    told(Operation::Probe, "no_permission").await;
    told(Operation::Heartbeat, "no_permission").await;
    server.cli(&["ACL", "SETUSER", "default", "+evalsha"]).await;
    told(Operation::Probe, "ok").await;
    drop(keeper);
    server.kill();
    told(Operation::Connect, "refused").await;
    for operation in [Operation::Connect, Operation::Heartbeat, Operation::Probe] {
        for call in rig.events.every_call(operation) {
            assert_eq!(call.queries, 0);
            assert!(Duration::ZERO < call.duration && call.duration < PATIENCE);
        }
    }
}

/// Waits until each call that was given up is over.
async fn until_over(rig: &Rig) {
    until_async("the calls to be over", async || {
        (rig.last().unanswered == 0).then_some(())
    })
    .await;
}

async fn until_passed(since: Instant, long: Duration) {
    until_async("time to pass", async || {
        (since.elapsed() > long).then_some(())
    })
    .await;
}

/// Connections over TCP: Tollgate's, since tests use the unix socket.
async fn connections(server: &Server) -> usize {
    let list = server.cli(&["CLIENT", "LIST", "TYPE", "normal"]).await;
    let tcp = |line: &&str| !line.contains("redis.sock");
    list.text().lines().filter(tcp).count()
}
