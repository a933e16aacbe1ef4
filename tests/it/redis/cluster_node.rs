//! What a node of a cluster says of slots, and how a call follows it.

use tollgate::store::redis::{
    Access, Connection, DECIDE, FailureClass, Mode, Redirect, slot_of, slots,
};

use super::node::{Node, PATIENCE, charge, is_open, on_each_flavour, run};
use crate::process::until_async;
use crate::topology::Flavour;

on_each_flavour! {
    a_call_follows_a_slot_that_moved,
    a_call_follows_a_slot_that_is_moving,
    a_cluster_without_slots_says_so,
    keys_are_in_the_slots_that_the_server_says,
}

async fn a_call_follows_a_slot_that_moved(flavour: Flavour) {
    let [low, high] = cluster(flavour).await;
    let (here, reached) = low.reach().await;
    assert_eq!(reached.mode, Mode::Cluster);
    let (there, _) = high.reach().await;
    let user = user_in(HALF..16_384);
    let call = charge(&[&user]);
    let slot = slot_of(&call.keys()[0]);
    for connection in [&here, &there] {
        connection.load(DECIDE).await.unwrap();
    }
    let sha = here.load(DECIDE).await.unwrap();
    let failure = here.eval(sha.clone(), &call, PATIENCE).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::Moved, "{failure}");
    let to = high.place();
    let ask = false;
    assert_eq!(failure.redirect, Some(Redirect { slot, to, ask }));
    assert!(is_open(&here));
    there.eval(sha.clone(), &call, PATIENCE).await.unwrap();
    // Users of two slots in one call.
    let both = charge(&[&user, &user_in(0..HALF)]);
    let failure = there.eval(sha.clone(), &both, PATIENCE).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::CrossSlot, "{failure}");
    // The map says the same, from whichever node, and though another is gone.
    let nodes = [low.place(), high.place()];
    drop(low);
    let map = slots(&nodes, &Access::default(), PATIENCE).await.unwrap();
    assert_eq!(map.places().collect::<Vec<_>>().len(), 2);
    for (slot, place) in [(0, 0), (HALF - 1, 0), (HALF, 1), (16_383, 1)] {
        assert_eq!(map.place(slot), Some(&nodes[place]), "{slot}");
    }
}

async fn a_call_follows_a_slot_that_is_moving(flavour: Flavour) {
    let [low, high] = cluster(flavour).await;
    let ((here, _), (there, _)) = (low.reach().await, high.reach().await);
    let user = user_in(0..HALF);
    let call = charge(&[&user]);
    let slot = slot_of(&call.keys()[0]);
    let sha = here.load(DECIDE).await.unwrap();
    there.load(DECIDE).await.unwrap();
    let (id_here, id_there) = (id(&here).await, id(&there).await);
    let number = slot.to_string();
    run(
        &there,
        &["CLUSTER", "SETSLOT", &number, "IMPORTING", &id_here],
    )
    .await
    .unwrap();
    run(
        &here,
        &["CLUSTER", "SETSLOT", &number, "MIGRATING", &id_there],
    )
    .await
    .unwrap();
    // The key is not here any more, so it is there.
    let failure = here.eval(sha.clone(), &call, PATIENCE).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::Ask, "{failure}");
    let to = high.place();
    let ask = true;
    assert_eq!(failure.redirect, Some(Redirect { slot, to, ask }));
    // Only with ASKING right before it is it taken there, and others in between do not matter.
    let moved = there.eval(sha.clone(), &call, PATIENCE).await.unwrap_err();
    assert_eq!(moved.class, FailureClass::Moved, "{moved}");
    let one = charge(&[&user]);
    let mut one_key = tollgate::store::redis::Call::new("tollgate", None, 0);
    one_key.push(&[one_check(&user)], true).unwrap();
    assert_eq!(one.keys()[0], one_key.keys()[0]);
    let asked = (0..20).map(|_| there.eval_asking(sha.clone(), &one_key, PATIENCE));
    let others = (0..20).map(|_| run(&there, &["PING"]));
    let (asked, others) = tokio::join!(
        futures_util::future::join_all(asked),
        futures_util::future::join_all(others)
    );
    assert_eq!(
        asked.iter().filter(|result| result.is_ok()).count(),
        20,
        "{asked:?}"
    );
    assert!(others.iter().all(Result::is_ok));
    // Some keys of the call are there and some are not.
    let failure = there
        .eval_asking(sha.clone(), &call, PATIENCE)
        .await
        .unwrap_err();
    assert_eq!(failure.class, FailureClass::TryAgain, "{failure}");
}

async fn a_cluster_without_slots_says_so(flavour: Flavour) {
    let node = Node::start(flavour, &["--cluster-enabled", "yes"]).await;
    let (connection, _) = node.reach().await;
    let sha = connection.load(DECIDE).await.unwrap();
    let failure = connection
        .eval(sha.clone(), &charge(&["ann"]), PATIENCE)
        .await
        .unwrap_err();
    assert_eq!(failure.class, FailureClass::ClusterDown, "{failure}");
    let failure = slots(&[node.place()], &Access::default(), PATIENCE)
        .await
        .unwrap_err();
    assert_eq!(failure.class, FailureClass::ClusterDown, "{failure}");
    // One that is no cluster says something else.
    let single = Node::start(flavour, &[]).await;
    let failure = slots(&[single.place()], &Access::default(), PATIENCE)
        .await
        .unwrap_err();
    assert_eq!(failure.class, FailureClass::MisConfigured, "{failure}");
    assert!(failure.detail.contains("no cluster"), "{failure}");
}

async fn keys_are_in_the_slots_that_the_server_says(flavour: Flavour) {
    let node = Node::start(flavour, &["--cluster-enabled", "yes"]).await;
    let (connection, _) = node.reach().await;
    for key in [
        "",
        "a",
        "{}",
        "{}a",
        "a{b}",
        "a{b}{c}",
        "a{{b}}",
        "a}{b}",
        "{a",
        "tollgate:{d|u=\u{e9}}:window",
    ] {
        let said = run(&connection, &["CLUSTER", "KEYSLOT", key])
            .await
            .unwrap();
        assert_eq!(said.number(), Some(slot_of(key.as_bytes()).into()), "{key}");
    }
}

/// Two nodes with half of the slots each.
async fn cluster(flavour: Flavour) -> [Node; 2] {
    let settings = [
        "--cluster-enabled",
        "yes",
        "--cluster-config-file",
        "nodes.conf",
    ];
    let nodes = [
        Node::start(flavour, &settings).await,
        Node::start(flavour, &settings).await,
    ];
    for (node, range) in nodes.iter().zip([0..HALF, HALF..16_384]) {
        let all: Vec<String> = range.map(|slot| slot.to_string()).collect();
        let line: Vec<&str> = ["CLUSTER", "ADDSLOTS"]
            .into_iter()
            .chain(all.iter().map(String::as_str))
            .collect();
        node.command(&line).await;
    }
    let [low, high] = &nodes;
    // Else both may claim the same epoch, and one of them gives its own up.
    high.command(&["CLUSTER", "SET-CONFIG-EPOCH", "2"]).await;
    let port = high.port().to_string();
    low.command(&["CLUSTER", "MEET", "127.0.0.1", &port]).await;
    for node in &nodes {
        let (connection, _) = node.reach().await;
        until_async("the nodes to know each other", async || {
            let info = run(&connection, &["CLUSTER", "INFO"]).await.unwrap();
            info.text()?.contains("cluster_state:ok").then_some(())
        })
        .await;
    }
    nodes
}

/// Whose keys are in these slots.
fn user_in(range: std::ops::Range<u16>) -> String {
    let users = (0..10_000).map(|number| format!("user{number}"));
    let mut inside = users.filter(|user| range.contains(&slot_of(&charge(&[user]).keys()[0])));
    inside.next().unwrap()
}

fn one_check(user: &str) -> tollgate::model::Check {
    super::check(
        user,
        super::hourly(tollgate::model::Algorithm::ALL[0], 100),
        tollgate::model::Hits::Charge(1),
    )
}

async fn id(connection: &Connection) -> String {
    let id = run(connection, &["CLUSTER", "MYID"]).await.unwrap();
    id.text().unwrap().into_owned()
}

const HALF: u16 = 8192;
