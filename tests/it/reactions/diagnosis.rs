//! What is logged of the store when Tollgate starts: one line says what was tried, what happened
//! and what to check.

use std::fmt::Write as _;
use std::path::Path;

use crate::cli::{POLICY, Served, text};
use crate::harness::until;
use crate::topology::{Access, Cluster, Flavour, Options, Sentinel, Single, Topology};

/// What a Tollgate with this store logs of it until it is ready, with names for what differs
/// from run to run.
async fn diagnosis(url: &str, names: &[(&str, &str)]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let settings = folder.path().join("tollgate.yaml");
    let policies = folder.path().join("policies");
    std::fs::create_dir(&policies).unwrap();
    std::fs::write(policies.join("shop.yaml"), POLICY).unwrap();
    let written = format!("store: {{kind: redis, redis: {{url: \"{url}\"}}}}\n");
    std::fs::write(&settings, written).unwrap();
    let (served, mut log) = Served::start(&[
        "--config",
        text(&settings),
        "--policies",
        text(&policies),
        "--grpc",
        "127.0.0.1:0",
        "--http",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
    ]);
    // Who gives up at the same moment as the start may say so a little later.
    let is_end = |line: &String| {
        line.contains("redis reachable") || line.contains("rules follow on_store_failure")
    };
    until("it says how the store is", async || {
        log.append(&mut served.log.lock());
        log.iter().any(is_end)
    })
    .await;
    let of_store = |line: &&String| line.contains(" tollgate::store::");
    let mut told = String::new();
    for line in log.iter().filter(of_store) {
        // Without the time.
        let (_, rest) = line.split_once("Z ").unwrap();
        let mut line = rest.trim().to_owned();
        for (text, name) in names {
            line = line.replace(text, name);
        }
        writeln!(told, "{line}").unwrap();
    }
    told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_says_at_start_what_was_reached_or_what_to_check() {
    let single = Single::start(Flavour::Redis7).await;
    let evicting = Single::start(Flavour::Redis7).await;
    for line in [
        ["CONFIG", "SET", "maxmemory", "100mb"],
        ["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"],
    ] {
        evicting.server.cli(&line).await;
    }
    let secured = Single::with(Options {
        access: Access::Password,
        ..Options::default()
    })
    .await;
    let gone = Single::start(Flavour::Redis7).await;
    gone.server.kill();
    let encrypted = Single::with(Options {
        tls: true,
        ..Options::default()
    })
    .await;
    let watched = Sentinel::start(Flavour::Redis7).await;
    let cluster = Cluster::start(Flavour::Redis7).await;

    let [sentinel, node] = [&watched.sentinels()[0], cluster.stores()[0]];
    let version = single.server.info(&["INFO", "server"], "redis_version");
    let version = format!("Redis {}", version.await.unwrap());
    let mut told = String::new();
    // What follows # tells the reader about the server, and is no part of the URL.
    for (server, url) in [
        (&single.server, "redis://HOST:PORT"),
        (&evicting.server, "redis://HOST:PORT#evicts"),
        (&gone.server, "redis://HOST:PORT#is-gone"),
        (&secured.server, "redis://HOST:PORT#wants-a-password"),
        (&secured.server, "redis://:wrong@HOST:PORT"),
        (sentinel, "redis://HOST:PORT#is-a-sentinel"),
        (node, "redis://HOST:PORT#is-a-node"),
        (&single.server, "redis-cluster://HOST:PORT"),
        (
            sentinel,
            "redis-sentinel://HOST:PORT?sentinelServiceName=other",
        ),
        (
            &single.server,
            "redis-sentinel://HOST:PORT?sentinelServiceName=mymaster",
        ),
        (&single.server, "rediss://HOST:PORT"),
        (&encrypted.server, "redis://HOST:PORT#speaks-tls"),
    ] {
        let addr = server.addr().to_string();
        let plain = url.split('#').next().unwrap_or_default();
        let names = [(&*addr, "HOST:PORT"), (&*version, "Redis VERSION")];
        let logged = diagnosis(&plain.replace("HOST:PORT", &addr), &names).await;
        write!(told, "# {url}\n{logged}\n").unwrap();
    }
    golden(Path::new("tests/it/reactions/diagnosis.txt"), &told);
}

/// Compares with the file, or writes it anew.
fn golden(file: &Path, told: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    if crate::update_golden() {
        std::fs::write(&file, told).unwrap();
        return;
    }
    let wanted = std::fs::read_to_string(&file).unwrap();
    assert!(told == wanted, "{} differs from:\n{told}", file.display());
}
