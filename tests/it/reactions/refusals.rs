//! A server that answers, and says no.

use std::time::Duration;

use futures_util::future::join_all;
use tollgate::event::{BreakerState, FallbackReason};
use tollgate::model::Source;

use super::rig::{PATIENCE, Rig, Set};
use crate::process::until_async;
use crate::topology::standin::{Standin, bulk};
use crate::topology::{Flavour, Server, Single, Topology};

/// How a server is made to refuse, and how it is put right.
struct Refusal {
    /// What its calls come to.
    class: &'static str,
    cause: &'static [&'static [&'static str]],
    cure: &'static [&'static [&'static str]],
    /// What operators are told.
    advice: &'static str,
}

/// What is tried: the rules' own way, the events, and that it ends with its cause. As these calls
/// have surely charged nothing, the store counts exactly what it let pass.
async fn is_survived(refusal: Refusal) {
    let single = Single::start(Flavour::Redis7).await;
    let rig = Rig::start(&single.url(), Set::default()).await;
    assert_eq!(rig.ask("ann").await, Source::Store);
    let connected = connections(&single.server).await;
    for line in refusal.cause {
        single.server.cli(line).await;
    }
    assert_eq!(rig.ask("ann").await, Source::Local);
    assert_eq!(rig.events.called(refusal.class), 1, "{:?}", rig.events);
    assert_eq!(rig.events.fell(), [FallbackReason::Failed]);
    rig.until_open("ann", PATIENCE).await;
    let trouble = rig.trouble().unwrap();
    assert!(trouble.contains(refusal.advice), "{trouble}");
    for line in refusal.cure {
        single.server.cli(line).await;
    }
    rig.until_back("ann").await;
    assert_eq!(rig.counted("ann").await, rig.charged());
    // What helps is time, or people: the connection was good all along.
    assert_eq!(connections(&single.server).await, connected);
    let states = rig.events.states();
    assert_eq!(states.first(), Some(&BreakerState::Closed), "{states:?}");
    assert_eq!(states.last(), Some(&BreakerState::Closed), "{states:?}");
    assert!(states.contains(&BreakerState::HalfOpen), "{states:?}");
}

/// The numbers of the connections over TCP: Tollgate's, since tests use the unix socket.
async fn connections(server: &Server) -> Vec<String> {
    let list = server.cli(&["CLIENT", "LIST", "TYPE", "normal"]).await;
    let tcp = |line: &&str| !line.contains("redis.sock");
    let id = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
    list.text().lines().filter(tcp).map(id).collect()
}

#[tokio::test]
async fn a_full_server_is_left_alone_until_it_has_room() {
    is_survived(Refusal {
        class: "out_of_memory",
        cause: &[&["CONFIG", "SET", "maxmemory", "1"]],
        cure: &[&["CONFIG", "SET", "maxmemory", "0"]],
        advice: "raise maxmemory",
    })
    .await;
}

#[tokio::test]
async fn a_server_without_its_replicas_is_left_alone_until_it_has_them() {
    is_survived(Refusal {
        class: "misconfigured",
        cause: &[&["CONFIG", "SET", "min-replicas-to-write", "1"]],
        cure: &[&["CONFIG", "SET", "min-replicas-to-write", "0"]],
        advice: "min-replicas-to-write",
    })
    .await;
}

#[tokio::test]
async fn a_user_who_may_not_is_refused_until_he_may() {
    is_survived(Refusal {
        class: "no_permission",
        cause: &[&["ACL", "SETUSER", "default", "-evalsha"]],
        cure: &[&["ACL", "SETUSER", "default", "+evalsha"]],
        advice: "+evalsha",
    })
    .await;
}

#[tokio::test]
async fn a_server_held_up_by_a_script_is_left_alone_until_that_ends() {
    let single = Single::start(Flavour::Redis7).await;
    let server = &single.server;
    server.cli(&["CONFIG", "SET", "lua-time-limit", "1"]).await;
    let set = Set {
        deadline: Duration::from_millis(200),
        ..Set::default()
    };
    let rig = Rig::start(&single.url(), set).await;
    assert_eq!(rig.ask("ann").await, Source::Store);
    let mut hanging = server.connect().await.unwrap();
    let endless = hanging.call(&["EVAL", "while true do end", "0"]);
    let survived = async {
        until_async("the server to be held up", async || {
            rig.ask("ann").await;
            (rig.events.called("busy") > 0).then_some(())
        })
        .await;
        rig.until_open("ann", PATIENCE).await;
        server.cli(&["SCRIPT", "KILL"]).await;
        rig.until_back("ann").await;
    };
    let (ended, ()) = tokio::join!(endless, survived);
    ended.unwrap_err();
    assert!(rig.fell(FallbackReason::Failed));
    assert_eq!(rig.counted("ann").await, rig.charged());
}

#[tokio::test]
async fn a_server_that_never_keeps_scripts_is_left_alone_and_told_of() {
    let standin = Standin::start(Duration::ZERO, |words| match words[0].as_str() {
        "INFO" => bulk("redis_version:7.0.15\r\nredis_mode:standalone\r\nrole:master\r\n"),
        "SCRIPT" => bulk(&"a".repeat(40)),
        "EVALSHA" => "-NOSCRIPT No matching script. Please use EVAL.\r\n".into(),
        "PING" => "+PONG\r\n".into(),
        _ => "+OK\r\n".into(),
    })
    .await;
    let rig = Rig::start(&format!("redis://{}", standin.addr), Set::default()).await;
    rig.until_open("ann", PATIENCE).await;
    let trouble = rig.trouble().unwrap();
    assert!(trouble.contains("SCRIPT FLUSH"), "{trouble}");
    assert_eq!(rig.ask("ann").await, Source::Local);
    assert_eq!(rig.events.fell().last(), Some(&FallbackReason::BreakerOpen));
    assert_eq!(rig.events.called("ok"), 0, "{:?}", rig.events);
}

#[tokio::test]
async fn scripts_that_are_lost_under_load_are_loaded_again_and_nothing_is_charged_twice() {
    let single = Single::start(Flavour::Redis7).await;
    let rig = Rig::start(&single.url(), Set::default()).await;
    for _ in 0..20 {
        let asked = join_all((0..25).map(|_| rig.ask("ann")));
        let flushed = single.server.cli(&["SCRIPT", "FLUSH"]);
        let (sources, _) = tokio::join!(asked, flushed);
        assert_eq!(sources, [Source::Store; 25]);
    }
    assert!(rig.events.called("no_script") > 1, "{:?}", rig.events);
    assert!(rig.events.fell().is_empty(), "{:?}", rig.events.fell());
    assert_eq!(rig.counted("ann").await, 500);
    assert_eq!(rig.events.states(), [BreakerState::Closed]);
}

#[tokio::test]
async fn a_primary_that_becomes_a_replica_is_refused_until_it_is_primary_again() {
    let [single, other] = [
        Single::start(Flavour::Redis7).await,
        Single::start(Flavour::Redis7).await,
    ];
    let server = &single.server;
    let port = other.server.addr().port().to_string();
    // What it answers depends on whether it reaches the other, and whether it may serve until then.
    for (port, stale, class) in [(&*port, "yes", "read_only"), ("1", "no", "master_down")] {
        let rig = Rig::start(&single.url(), Set::default()).await;
        rig.until_back("ann").await;
        let line = ["CONFIG", "SET", "replica-serve-stale-data", stale];
        server.cli(&line).await;
        server.cli(&["REPLICAOF", "127.0.0.1", port]).await;
        assert_eq!(rig.ask("ann").await, Source::Local);
        assert_eq!(rig.events.called(class), 1, "{:?}", rig.events);
        until_async("it to be seen as a replica", async || {
            rig.trouble()?.contains("is a replica").then_some(())
        })
        .await;
        let asked = rig.events.calls().len();
        assert_eq!(rig.ask("ann").await, Source::Local);
        assert_eq!(rig.events.calls().len(), asked, "not asked");
        assert_eq!(
            rig.events.fell(),
            [FallbackReason::Failed, FallbackReason::Gone]
        );
        server.cli(&["REPLICAOF", "NO", "ONE"]).await;
        rig.until_back("ann").await;
        let states = rig.events.states();
        assert_eq!(states.last(), Some(&BreakerState::Closed), "{states:?}");
    }
}

#[tokio::test]
async fn a_password_that_was_changed_is_read_anew() {
    let single = Single::start(Flavour::Redis7).await;
    let server = &single.server;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    let set_password = async |password: &str| {
        server
            .cli(&["CONFIG", "SET", "requirepass", password])
            .await;
    };
    std::fs::write(&file, "").unwrap();
    let set = Set {
        password_file: Some(file.clone()),
        ..Set::default()
    };
    std::fs::write(&file, "first\n").unwrap();
    // The tests' own connection stays what it is.
    let mut admin = server.connect().await.unwrap();
    set_password("first").await;
    let rig = Rig::start(&single.url(), set).await;
    assert_eq!(rig.ask("ann").await, Source::Store);
    for (line, told) in [
        (["CONFIG", "SET", "requirepass", "second"], "OK"),
        (["CLIENT", "KILL", "TYPE", "normal"], "1"),
    ] {
        assert_eq!(admin.call(&line).await.unwrap().text(), told);
    }
    until_async("the old password to be refused", async || {
        rig.trouble()?.contains("password").then_some(())
    })
    .await;
    assert_eq!(rig.ask("ann").await, Source::Local);
    assert_eq!(rig.events.fell(), [FallbackReason::Gone]);
    std::fs::write(&file, "second\n").unwrap();
    rig.until_back("ann").await;
    assert_eq!(rig.counted("ann").await, rig.charged());
}

#[tokio::test]
async fn a_server_that_reads_its_data_is_waited_for() {
    let single = Single::start(Flavour::Redis7).await;
    let server = &single.server;
    let filler = "for i = 1, 3000 do redis.call('SET', i, string.rep('x', 1000), 'EX', 60) end";
    for line in [
        &["CONFIG", "SET", "rdbcompression", "no"][..],
        &[
            "CONFIG",
            "SET",
            "loading-process-events-interval-bytes",
            "1024",
        ],
        &["EVAL", filler, "0"],
        &["SAVE"],
        // A second for all of it.
        &["CONFIG", "SET", "key-load-delay", "300"],
        &["CONFIG", "REWRITE"],
    ] {
        server.cli(line).await;
    }
    let rig = Rig::start(&single.url(), Set::default()).await;
    rig.until_back("ann").await;
    server.kill();
    let seen = async {
        until_async("it to be seen to load", async || {
            rig.ask_within("ann", PATIENCE).await;
            rig.trouble()?.contains("LOADING").then_some(())
        })
        .await;
        assert_eq!(rig.ask("ann").await, Source::Local);
        rig.until_back("ann").await;
    };
    tokio::join!(server.restart(), seen);
    assert!(rig.fell(FallbackReason::Gone), "{:?}", rig.events.fell());
}
