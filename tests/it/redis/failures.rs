//! What goes wrong with a connection that works: each failure has its class on each server.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use tollgate::store::redis::{
    Access, Connection, DECIDE, Failure, FailureClass, Reply, Role, connect,
};

use super::node::{Node, PATIENCE, charge, is_open, on_each_flavour, run};
use crate::process::until_async;
use crate::topology::Flavour;

on_each_flavour! {
    a_full_server_takes_no_charge,
    a_loading_server_says_so,
    a_replica_takes_no_charge,
    a_script_that_hangs_holds_up_all,
    a_server_without_its_replicas_takes_no_charge,
    an_unknown_script_is_told_apart,
}

async fn an_unknown_script_is_told_apart(flavour: Flavour) {
    let node = Node::start(flavour, &[]).await;
    let (connection, _) = node.reach().await;
    let sha = connection.load(DECIDE).await.unwrap();
    connection
        .eval(sha.clone(), &charge(&["ann"]), PATIENCE)
        .await
        .unwrap();
    run(&connection, &["SCRIPT", "FLUSH"]).await.unwrap();
    let failure = connection
        .eval(sha.clone(), &charge(&["ann"]), PATIENCE)
        .await
        .unwrap_err();
    assert_eq!(failure.class, FailureClass::NoScript, "{failure}");
    assert!(is_open(&connection));
    assert_eq!(connection.load(DECIDE).await, Ok(sha));
}

async fn a_replica_takes_no_charge(flavour: Flavour) {
    let primary = Node::start(flavour, &["--repl-diskless-sync-delay", "0"]).await;
    let port = primary.port().to_string();
    let replica = Node::start(flavour, &["--replicaof", "127.0.0.1", &port]).await;
    let (connection, reached) = replica.reach().await;
    let of = primary.place();
    assert_eq!(reached.role, Role::Replica { of });
    until_async("the replica to follow", async || {
        let info = run(&connection, &["INFO", "replication"]).await.unwrap();
        info.text()?.contains("master_link_status:up").then_some(())
    })
    .await;
    let sha = connection.load(DECIDE).await.unwrap();
    let failure = connection
        .eval(sha.clone(), &charge(&["ann"]), PATIENCE)
        .await
        .unwrap_err();
    assert_eq!(failure.class, FailureClass::ReadOnly, "{failure}");
    assert_eq!(primary.command(&["DBSIZE"]).await, Reply::Number(0));
    // With nobody to follow, and told not to serve alone.
    run(
        &connection,
        &["CONFIG", "SET", "replica-serve-stale-data", "no"],
    )
    .await
    .unwrap();
    drop(primary);
    let failure = until_async("the replica to notice", async || {
        let failure = connection
            .eval(sha.clone(), &charge(&["ann"]), PATIENCE)
            .await
            .unwrap_err();
        (failure.class != FailureClass::ReadOnly).then_some(failure)
    })
    .await;
    assert_eq!(failure.class, FailureClass::MasterDown, "{failure}");
}

async fn a_full_server_takes_no_charge(flavour: Flavour) {
    let node = Node::start(flavour, &[]).await;
    let (connection, _) = node.reach().await;
    let sha = connection.load(DECIDE).await.unwrap();
    run(&connection, &["CONFIG", "SET", "maxmemory", "1"])
        .await
        .unwrap();
    let failure = connection
        .eval(sha.clone(), &charge(&["ann"]), PATIENCE)
        .await
        .unwrap_err();
    assert_eq!(failure.class, FailureClass::OutOfMemory, "{failure}");
    assert_eq!(run(&connection, &["DBSIZE"]).await, Ok(Reply::Number(0)));
}

async fn a_server_without_its_replicas_takes_no_charge(flavour: Flavour) {
    let node = Node::start(flavour, &["--min-replicas-to-write", "1"]).await;
    let (connection, _) = node.reach().await;
    let sha = connection.load(DECIDE).await.unwrap();
    let failure = connection
        .eval(sha.clone(), &charge(&["ann"]), PATIENCE)
        .await
        .unwrap_err();
    assert_eq!(failure.class, FailureClass::MisConfigured, "{failure}");
    assert!(
        failure.detail.contains("min-replicas-to-write"),
        "{failure}"
    );
    assert_eq!(run(&connection, &["DBSIZE"]).await, Ok(Reply::Number(0)));
}

async fn a_script_that_hangs_holds_up_all(flavour: Flavour) {
    let node = Node::start(flavour, &["--lua-time-limit", "1"]).await;
    let (connection, _) = node.reach().await;
    let sha = connection.load(DECIDE).await.unwrap();
    let (hanging, _) = node.reach().await;
    let endless = vec!["while true do end".into(), "0".into()];
    let endless = hanging.command("EVAL", endless, PATIENCE);
    let call = charge(&["ann"]);
    let held_up = until_async("the server to be held up", async || {
        let called = connection.eval(sha.clone(), &call, PATIENCE).await;
        called.err()
    });
    let failure = tokio::select! {
        biased;
        ended = endless => panic!("{ended:?}"),
        failure = held_up => failure,
    };
    assert_eq!(failure.class, FailureClass::Busy, "{failure}");
}

async fn a_loading_server_says_so(flavour: Flavour) {
    let node = Node::start(flavour, &["--rdbcompression", "no"]).await;
    let (connection, _) = node.reach().await;
    let filler = "for i = 1, 30000 do redis.call('SET', i, string.rep('x', 1000)) end";
    run(&connection, &["EVAL", filler, "0"]).await.unwrap();
    run(&connection, &["SAVE"]).await.unwrap();
    // Some seconds for all of it. It answers each so many bytes: Redis 6.2 after 2 MB.
    let often = ["--loading-process-events-interval-bytes", "1024"];
    let slowly = match flavour {
        Flavour::Redis62 => &["--key-load-delay", "200"][..],
        Flavour::Redis7 | Flavour::Valkey => &["--key-load-delay", "200", often[0], often[1]],
    };
    let node = Node::launch(node.end(), flavour, slowly);
    // Without a password it is told at once, with one when the script is loaded.
    let failure = until_async("the server to load", async || {
        let failure = node.enter(&Access::default()).await.err()?;
        (failure.class != FailureClass::Refused).then_some(failure)
    })
    .await;
    assert_eq!(failure.class, FailureClass::Loading, "{failure}");
    let (connection, reached) = node.enter(&super::node::access(None, "any")).await.unwrap();
    assert!(reached.loading);
    let failure = connection.load(DECIDE).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::Loading, "{failure}");
}

#[tokio::test]
async fn a_call_to_a_frozen_server_ends_in_time_and_others_with_the_connection() {
    let node = Node::start(Flavour::Redis7, &[]).await;
    let (connection, _) = node.reach().await;
    let sha = connection.load(DECIDE).await.unwrap();
    node.process.signal("STOP");
    let (within, start) = (Duration::from_millis(50), Instant::now());
    let failure = connection
        .eval(sha.clone(), &charge(&["ann"]), within)
        .await
        .unwrap_err();
    let took = start.elapsed();
    assert_eq!(failure.class, FailureClass::Timeout, "{failure}");
    assert!(within <= took && took < PATIENCE / 2, "{took:?}");
    assert!(
        is_open(&connection),
        "nobody knows yet whether it comes back"
    );
    // Given up, all that wait are answered at once.
    let start = Instant::now();
    let call = charge(&["ann"]);
    let waiting = connection.eval(sha.clone(), &call, PATIENCE);
    let give_up = async {
        tokio::task::yield_now().await;
        connection.abort();
        connection.closed().await
    };
    let (failed, closed) = tokio::join!(waiting, give_up);
    for failure in [failed.unwrap_err(), closed, after(&connection, sha).await] {
        assert_eq!(failure.class, FailureClass::Reset, "{failure}");
    }
    assert!(start.elapsed() < PATIENCE / 2);
}

#[tokio::test]
async fn a_server_that_dies_ends_what_waits_and_what_comes() {
    let mut node = Node::start(Flavour::Redis7, &[]).await;
    let (connection, _) = node.reach().await;
    let sha = connection.load(DECIDE).await.unwrap();
    node.process.signal("STOP");
    let call = charge(&["ann"]);
    let waiting = connection.eval(sha.clone(), &call, PATIENCE);
    let kill = async {
        tokio::task::yield_now().await;
        node.process.kill();
        connection.closed().await
    };
    let (failed, closed) = tokio::join!(waiting, kill);
    for failure in [failed.unwrap_err(), closed, after(&connection, sha).await] {
        assert_eq!(failure.class, FailureClass::Reset, "{failure}");
        assert!(failure.detail.contains("127.0.0.1"), "{failure}");
    }
    assert!(!is_open(&connection));
}

#[tokio::test]
async fn a_connection_closes_when_it_is_dropped() {
    let node = Node::start(Flavour::Redis7, &[]).await;
    let (watching, _) = node.reach().await;
    let clients = async || {
        let list = run(&watching, &["CLIENT", "LIST"]).await.unwrap();
        list.text().unwrap().lines().count()
    };
    let others = [node.reach().await, node.reach().await];
    assert_eq!(clients().await, 3);
    drop(others);
    until_async("the server to see it", async || {
        (clients().await == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_is_no_redis_is_recognized() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let web = async {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let (mut socket, _) = listener.accept().await.unwrap();
        let _some = socket.read(&mut [0; 64]).await.unwrap();
        socket
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .await
            .unwrap();
    };
    let place = tollgate::store::redis::Place::tcp("127.0.0.1", port);
    let access = Access::default();
    let (tried, ()) = tokio::join!(connect(&place, &access, PATIENCE), web);
    let failure = tried.unwrap_err();
    assert_eq!(failure.class, FailureClass::Protocol, "{failure}");
}

async fn after(connection: &Connection, sha: Bytes) -> Failure {
    let late: Result<Bytes, Failure> = connection.eval(sha, &charge(&["ann"]), PATIENCE).await;
    late.unwrap_err()
}
