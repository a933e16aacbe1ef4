//! The arrangements do what tests of Tollgate build on.

use std::net::TcpStream;
use std::process::Command;

use tollgate::model::{Algorithm, Hits, Unit};
use tollgate::store::redis::{Call, DECIDE, decode};

use super::single::{Options, PASSWORD, USER};
use super::wire::{Connection, Login, Reply};
use super::{
    Access, Cluster, Flavour, Pair, Sentinel, Server, Single, Topology, every_key_expires,
};
use crate::cli::{Served, run};
use crate::process::{until, until_async};
use crate::redis::check;
use crate::window::{long, without_hours};

/// One test for each kind of server.
macro_rules! on_each_server {
    ($($name:ident,)*) => {
        on_each_server!(redis_7, Flavour::Redis7, $($name,)*);
        on_each_server!(redis_6, Flavour::Redis62, $($name,)*);
        on_each_server!(valkey, Flavour::Valkey, $($name,)*);
    };
    ($server:ident, $flavour:expr, $($name:ident,)*) => {
        mod $server {
            use super::*;

            $(
                #[tokio::test]
                async fn $name() {
                    super::$name($flavour).await;
                }
            )*
        }
    };
}

on_each_server! {
    a_cluster_replaces_a_killed_primary,
    a_key_that_never_expires_is_found,
    sentinels_replace_a_killed_primary,
    a_users_commands_are_enough_for_the_script_and_no_more,
    a_users_commands_are_enough_to_serve,
}

async fn sentinels_replace_a_killed_primary(flavour: Flavour) {
    let bed = Sentinel::with_passwords(flavour).await;
    let first = bed.primary().await.expect("a primary");
    let second = bed.other(first);
    first.cli(&["SET", "key", "value", "EX", "60"]).await;
    // Only what the replica has survives.
    until_async("the replica to have the key", async || {
        has_key(second).await.then_some(())
    })
    .await;

    first.kill();
    until_async("the replica to be promoted", async || {
        let primary = bed.primary().await?;
        (primary.addr() == second.addr()).then_some(())
    })
    .await;
    assert!(has_key(second).await);
    assert_eq!(bed.sentinels().len(), 3);
    every_key_expires(&bed).await;

    if flavour != Flavour::Redis7 {
        // Sentinels take ten seconds for what follows, and are the same for all here.
        return;
    }
    first.restart().await;
    until_async("the old primary to follow the new one", async || {
        let role = first.info(&["INFO", "replication"], "role").await;
        (role.as_deref() == Some("slave") && has_key(first).await).then_some(())
    })
    .await;
}

async fn a_cluster_replaces_a_killed_primary(flavour: Flavour) {
    let bed = Cluster::start(flavour).await;
    let slot = bed.slot("{user}").await;
    let first = bed.owner(slot).await.expect("an owner");
    let elsewhere = bed.owner((slot + 8_192) % 16_384).await.expect("an owner");
    assert_ne!(first.addr(), elsewhere.addr());

    first.kill();
    until_async("a replica to take over", async || {
        let owner = bed.owner(slot).await?;
        (owner.addr() != first.addr() && bed.is_whole().await).then_some(())
    })
    .await;
    let second = bed.owner(slot).await.expect("an owner");
    second.cli(&["SET", "{user}:a", "1", "EX", "60"]).await;

    first.restart().await;
    until_async("the old primary to follow the new one", async || {
        let role = first.info(&["INFO", "replication"], "role").await;
        let link = first.info(&["INFO", "replication"], "master_link_status");
        (role.as_deref() == Some("slave") && link.await.as_deref() == Some("up")).then_some(())
    })
    .await;
    every_key_expires(&bed).await;
}

async fn a_key_that_never_expires_is_found(flavour: Flavour) {
    let single = Single::start(flavour).await;
    for key in 0..2_500 {
        let line = ["SET", &format!("k{key}"), "v", "EX", "60"];
        single.server.cli(&line).await;
    }
    every_key_expires(&single).await;
    single.server.cli(&["PERSIST", "k1234"]).await;
    let checked = tokio::task::spawn(async move { every_key_expires(&single).await });
    let panic = checked
        .await
        .expect_err("one key lives for ever")
        .into_panic();
    let said = panic.downcast_ref::<String>().expect("a message");
    assert!(said.contains("k1234"), "{said}");
}

async fn a_users_commands_are_enough_for_the_script_and_no_more(flavour: Flavour) {
    let bed = Single::with(Options {
        flavour,
        access: Access::User,
        ..Options::default()
    })
    .await;
    let login = Login {
        user: USER,
        password: PASSWORD,
    };
    let mut user = Connection::open(&bed.server.socket(), Some(&login))
        .await
        .unwrap();
    let script = user.call(&["SCRIPT", "LOAD", DECIDE]).await.unwrap();
    for algorithm in Algorithm::ALL {
        let check = check("ann", long(algorithm, 1, Unit::Day), Hits::Charge(1));
        let mut call = Call::new("tollgate", None, 0);
        for _ in 0..2 {
            call.push(std::slice::from_ref(&check), true).unwrap();
        }
        let script = script.text();
        let mut line: Vec<&[u8]> = vec![b"EVALSHA", script.as_bytes(), b"1"];
        let keys = call.keys();
        line.extend(keys.iter().map(|key| &key[..]));
        line.push(call.argument());
        let reply = user.call(&line).await.unwrap();
        let checks = std::slice::from_ref(&check);
        let decisions = decode(reply.bytes(), [checks, checks]).unwrap();
        let denied: Vec<bool> = decisions.iter().map(|decision| decision.denied).collect();
        assert_eq!(denied, [false, true], "{algorithm}");
    }
    every_key_expires(&bed).await;
    for line in [
        &["FLUSHALL"][..],
        &["CONFIG", "SET", "hz", "10"],
        &["GET", "others:key"],
    ] {
        let error = user.call(line).await.expect_err("none of its business");
        assert!(error.to_string().contains("NOPERM"), "{line:?}: {error}");
    }
    let mut nobody = Connection::open(&bed.server.socket(), None).await.unwrap();
    assert!(nobody.call(&["PING"]).await.is_err());
    assert!(
        bed.url().contains("tollgate:correct-horse@"),
        "{}",
        bed.url()
    );
}

/// The README shows them ([`COMMANDS`](super::COMMANDS)).
async fn a_users_commands_are_enough_to_serve(flavour: Flavour) {
    let bed = Single::with(Options {
        flavour,
        access: Access::User,
        ..Options::default()
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let rules = Algorithm::ALL.map(|algorithm| {
        format!(
            "  - key: {algorithm}\n    rate_limit: {{ requests_per_unit: 2, unit: hour, algorithm: \
             {algorithm} }}\n"
        )
    });
    let policy = format!("domain: it\ndescriptors:\n{}", rules.concat());
    std::fs::write(folder.path().join("it.yaml"), without_hours(&policy)).unwrap();
    // Redis decides, however busy the machine is.
    let settings = folder.path().join("tollgate.conf");
    std::fs::write(&settings, "deadline: { store: 5s }\n").unwrap();
    let (policies, url) = (folder.path().to_str().unwrap(), bed.url());
    let settings = settings.to_str().unwrap();
    let mut arguments = vec![
        "--config",
        settings,
        "--policies",
        policies,
        "--redis",
        &url,
    ];
    for listener in ["--grpc", "--http", "--admin"] {
        arguments.extend([listener, "127.0.0.1:0"]);
    }
    let (served, _) = Served::start(&arguments);
    for algorithm in Algorithm::ALL {
        let descriptor = format!("{algorithm}=a");
        let ask = ["--addr", &served.grpc, "it", &descriptor, "--repeat", "3"];
        let (code, out, err) = run(&[&["query"], &ask[..]].concat());
        assert_eq!(code, 3, "{out}{err}");
        let (code, out, err) = run(&["reset", "--admin", &served.admin, "it", &descriptor]);
        assert_eq!(code, 0, "{out}{err}");
        let by_store = out.lines().filter(|line| line.ends_with("(by store)"));
        assert_eq!(by_store.count(), 2, "{out}");
    }
    until_async("a heartbeat", async || {
        let seen = bed.server.cli(&["HLEN", "tollgate:main:state"]).await;
        (seen.text() == "1").then_some(())
    })
    .await;
    let refused = bed.server.cli(&["ACL", "LOG"]).await;
    assert!(
        matches!(&refused, Reply::List(list) if list.is_empty()),
        "{refused:?}"
    );
    every_key_expires(&bed).await;
}

#[tokio::test]
async fn a_server_is_frozen_and_thawed_killed_and_restarted() {
    let bed = Pair::start(Flavour::Redis7).await;
    let server = &bed.first.server;
    server.freeze();
    assert!(!server.answers().await);
    assert!(server.runs(), "a frozen server accepts connections");
    assert!(TcpStream::connect(server.addr()).is_ok());
    assert!(bed.second.server.answers().await, "the other one goes on");
    server.thaw();
    until_async("it to answer", async || {
        server.answers().await.then_some(())
    })
    .await;

    server.cli(&["SET", "key", "value", "EX", "60"]).await;
    server.kill();
    assert!(!server.runs());
    assert!(TcpStream::connect(server.addr()).is_err());
    server.restart().await;
    assert!(!has_key(server).await, "nothing is kept");
    // A frozen one can be killed too.
    server.freeze();
    server.kill();
    assert!(!server.runs());
    assert_eq!(bed.stores().len(), 2);
}

#[tokio::test]
async fn nothing_is_left_of_what_was_dropped() {
    let bed = Sentinel::start(Flavour::Redis7).await;
    let servers = bed.stores().into_iter().chain(bed.sentinels());
    let traces: Vec<_> = servers.map(|s| (s.addr(), s.socket())).collect();
    assert_eq!(traces.len(), 5);
    drop(bed);
    for (addr, socket) in traces {
        assert!(TcpStream::connect(addr).is_err(), "{addr}");
        assert!(!socket.parent().unwrap().exists(), "{}", socket.display());
    }
}

#[tokio::test]
async fn a_password_is_asked_for() {
    let bed = Single::with(Options {
        access: Access::Password,
        ..Options::default()
    })
    .await;
    let mut nobody = Connection::open(&bed.server.socket(), None).await.unwrap();
    let error = nobody.call(&["PING"]).await.expect_err("nobody logged in");
    assert!(error.to_string().contains("NOAUTH"), "{error}");
    assert!(bed.url().starts_with("redis://:correct-horse@127.0.0.1:"));
    assert!(bed.unix_url().starts_with("redis+unix://:correct-horse@/"));
}

#[tokio::test]
async fn a_small_server_is_soon_full_and_evicts_nothing() {
    let bed = Single::with(Options {
        small: true,
        ..Options::default()
    })
    .await;
    let value = "v".repeat(100_000);
    let mut last = None;
    for key in 0..100 {
        let line = ["SET", &format!("k{key}"), &value, "EX", "60"];
        last = bed.server.try_cli(&line).await.err();
        if last.is_some() {
            break;
        }
    }
    let error = last.expect("it is full").to_string();
    assert!(error.contains("OOM"), "{error}");
    let evicted = bed.server.info(&["INFO", "stats"], "evicted_keys").await;
    assert_eq!(evicted.as_deref(), Some("0"));
}

#[tokio::test]
async fn a_server_with_tls_wants_a_clients_certificate() {
    let bed = Single::with(Options {
        tls: true,
        ..Options::default()
    })
    .await;
    let files = bed.certificates.as_ref().expect("certificates");
    let (certificate, key) = files.client();
    let ping = |shown: bool| {
        // It comes with Debian's server.
        let mut command = Command::new("redis-cli");
        command.args(["--tls", "-h", "127.0.0.1", "-p"]);
        command.arg(bed.server.addr().port().to_string());
        command.arg("--cacert").arg(files.authority());
        if shown {
            command
                .arg("--cert")
                .arg(&certificate)
                .arg("--key")
                .arg(&key);
        }
        let done = command.arg("PING").output().expect("redis-cli");
        String::from_utf8_lossy(&done.stdout).trim() == "PONG"
    };
    assert!(ping(true));
    assert!(!ping(false));
    assert!(bed.url().starts_with("rediss://"));
}

#[tokio::test]
async fn urls_name_all_that_must_be_known() {
    let cluster = Cluster::start(Flavour::Redis7).await;
    let url = cluster.url();
    assert!(url.starts_with("redis-cluster://127.0.0.1:"), "{url}");
    assert_eq!(url.matches("node=127.0.0.1:").count(), 5, "{url}");
    let sentinel = Sentinel::with_passwords(Flavour::Redis7).await;
    let url = sentinel.url();
    assert!(
        url.starts_with("redis-sentinel://:correct-horse@127.0.0.1:"),
        "{url}"
    );
    assert!(url.ends_with("&sentinelServiceName=mymaster&sentinelPassword=battery-staple"));
}

#[tokio::test]
async fn a_child_ends_with_who_started_it() {
    // A shell starts a child as this process does, says its pid, and is killed.
    let script = "setpriv --pdeathsig KILL -- sleep 1000 & echo pid $!; wait";
    let mut shell = crate::process::Process::spawn("sh", Command::new("sh").arg("-c").arg(script));
    let pid = shell
        .line("its child's pid", |line| {
            line.strip_prefix("pid ").map(str::to_owned)
        })
        .await;
    let status = format!("/proc/{pid}/comm");
    until("the child to run", || {
        let name = std::fs::read_to_string(&status).ok()?;
        (name.trim() == "sleep").then_some(())
    })
    .await;
    shell.kill();
    until("the child to end", || {
        std::fs::read_to_string(&status).is_err().then_some(())
    })
    .await;
}

async fn has_key(server: &Server) -> bool {
    server.cli(&["EXISTS", "key"]).await.text() == "1"
}
