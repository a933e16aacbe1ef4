//! `tollgate top`, and the keys that are limited most.

use serde_json::Value;

use super::bed::{Fleet, Place};
use crate::cli;
use crate::harness::Harness;
use crate::process::until_async;
use crate::topology::{Cluster, Flavour, Sentinel, Single, Topology};

/// Runs `tollgate top`, beside whatever the test does.
pub(super) async fn run(arguments: &[&str]) -> (i32, String, String) {
    let arguments: Vec<String> = arguments.iter().map(|&text| text.to_owned()).collect();
    let command = tokio::task::spawn_blocking(move || {
        let arguments = arguments.iter().map(String::as_str);
        cli::run(&["top"].into_iter().chain(arguments).collect::<Vec<_>>())
    });
    command.await.unwrap()
}

async fn board(arguments: &[&str]) -> Value {
    let more = ["--once", "--json", "--interval", "100ms"];
    let (code, out, err) = run(&[arguments, &more].concat()).await;
    assert_eq!(code, 0, "{err}");
    serde_json::from_str(&out).unwrap()
}

#[tokio::test]
async fn top_shows_what_the_fleet_does() {
    for place in [
        Place::Single(Single::start(Flavour::Redis7).await),
        Place::Cluster(Cluster::start(Flavour::Redis7).await),
    ] {
        let url = place.topology().url();
        let fleet = Fleet::start(&url, 2);
        fleet.ask(0, "shop", "ann", 5).await;
        fleet.ask(1, "shop", "ann", 1).await;
        fleet.ask(1, "shop", "bob", 3).await;
        fleet.ask(1, "web", "root", 2).await;
        let admins = [&fleet.replicas[0].admin, &fleet.replicas[1].admin];
        let admins = admins.map(String::as_str).join(",");
        until_async("all to be told", async || {
            let told = place.total("shop", "requests").await == 9
                && place.total("web", "requests").await == 2
                && place.domains().await.len() == 2;
            told.then_some(())
        })
        .await;
        shows_json(&url, &admins).await;
        shows_text(&url, &admins).await;
    }
}

async fn shows_json(url: &str, admins: &str) {
    let told = board(&["--redis", url, "--admin", admins]).await;
    assert_eq!(told["prefix"], "tollgate");
    let domains = told["domains"].as_array().unwrap();
    let totals = |at: usize| &domains[at]["totals"];
    assert_eq!(
        (&domains[0]["domain"], &domains[1]["domain"]),
        (&"shop".into(), &"web".into())
    );
    assert_eq!(
        (&totals(0)["requests"], &totals(0)["denied"]),
        (&9.into(), &5.into())
    );
    assert_eq!(totals(1)["cache_hits"], 2);
    assert_eq!(told["all"]["totals"]["requests"], 11);
    assert_eq!(told["all"]["per_second"]["errors"], 0.0);
    let replicas = told["replicas"].as_array().unwrap();
    assert_eq!(replicas.len(), 2, "{told}");
    assert!(
        replicas
            .iter()
            .all(|replica| replica["breaker"] == "closed")
    );
    assert_eq!(told["problems"], serde_json::json!([]));
    let keys = told["top"]["keys"].as_array().unwrap();
    let keys: Vec<_> = keys
        .iter()
        .map(|key| (&key["key"], &key["times"]))
        .collect();
    let key = |user: &str| Value::from(format!("{{shop|user={user}}}:window:86400s"));
    assert_eq!(keys, [(&key("ann"), &4.into()), (&key("bob"), &1.into())]);
}

async fn shows_text(url: &str, admins: &str) {
    let (code, out, err) = run(&["--redis", url, "--interval", "100ms", "--admin", admins]).await;
    assert_eq!(code, 0, "{err}");
    let title = out.lines().next().unwrap();
    assert!(
        title.contains("prefix tollgate  2 replicas  rates of 0."),
        "{out}"
    );
    for (beginning, end) in [
        ("DOMAIN ", " requests"),
        ("shop ", " 9"),
        ("web ", " 2"),
        ("all ", " 11"),
        ("none in the last day", ""),
        (
            "               4  shop user ",
            "{shop|user=ann}:window:86400s",
        ),
    ] {
        let fits = |line: &str| line.starts_with(beginning) && line.ends_with(end);
        assert!(out.lines().any(fits), "no {beginning}..{end} in\n{out}");
    }
}

#[tokio::test]
async fn top_shows_rates_between_its_two_looks() {
    let place = Place::Single(Single::start(Flavour::Redis7).await);
    let url = place.topology().url();
    let mut fleet = Fleet::start(&url, 1);
    fleet.ask(0, "shop", "root", 2).await;
    until_async("all to be told", async || {
        let listed = place.domains().await.len() == 1;
        (listed && place.total("shop", "requests").await == 2).then_some(())
    })
    .await;
    let looking = tokio::spawn(async move {
        let (code, out, err) = run(&["--redis", &url, "--json", "--interval", "8s"]).await;
        assert_eq!(code, 0, "{err}");
        serde_json::from_str::<Value>(&out).unwrap()
    });
    // It has looked once when it has asked for the list.
    until_async("it to look", async || {
        let line = ["INFO", "commandstats"];
        let reads = place.server_alone().info(&line, "cmdstat_xrevrange").await;
        reads.map(drop)
    })
    .await;
    fleet.ask(0, "shop", "root", 40).await;
    fleet.stop(0).await;
    let told = looking.await.unwrap();
    let (seconds, rate) = (
        &told["seconds"],
        &told["domains"][0]["per_second"]["allowed"],
    );
    let counted = seconds.as_f64().unwrap() * rate.as_f64().unwrap();
    assert!((counted - 40.0).abs() < 0.01, "{told}");
    assert_eq!(told["domains"][0]["without_store"], 1.0);
}

#[tokio::test]
async fn top_finds_the_store_as_the_service_does() {
    let sentinel = Sentinel::with_passwords(Flavour::Redis7).await;
    let fleet = Fleet::start(&sentinel.url(), 1);
    let (folder, url) = (tempfile::tempdir().unwrap(), sentinel.url());
    let settings = folder.path().join("tollgate.yaml");
    let written = format!("store: {{kind: redis, redis: {{url: \"{url}\"}}}}\n");
    std::fs::write(&settings, written).unwrap();
    let settings = cli::text(&settings);
    until_async("a replica to be there", async || {
        let (code, out, _) = run(&["--config", settings, "--json", "--interval", "100ms"]).await;
        (code == 0 && out.contains("\"closed\"")).then_some(())
    })
    .await;
    drop(fleet);
}

#[tokio::test]
async fn top_says_what_to_do_when_there_is_nothing_to_see() {
    let single = Single::start(Flavour::Redis7).await;
    let url = single.url();
    let quick = ["--interval", "100ms", "--once"];
    let failing = async |arguments: &[&str], parts: &[&str]| {
        let (code, out, err) = run(&[arguments, &quick].concat()).await;
        assert_eq!((code, out.as_str()), (1, ""), "{err}");
        for part in parts {
            assert!(err.contains(part), "no {part} in {err}");
        }
    };
    let nobody = [
        "no replica has written under other:",
        "store.redis.key_prefix",
    ];
    failing(&["--redis", &url, "--key-prefix", "other"], &nobody).await;
    failing(&[], &["--redis URL", "--admin ADDR"]).await;
    let no_redis = ["--admin", "127.0.0.1:1", "--key-prefix", "other"];
    failing(&no_redis, &["--key-prefix", "--redis URL"]).await;
    single.server.kill();
    failing(&["--redis", &url], &["nobody listens there"]).await;
    for (arguments, part) in [
        (&["--redis", "ftp://x"][..], "not the address of a Redis"),
        (&["--key-prefix", "{x}"], "no key prefix"),
        (&["--interval", "1ms"], "at least 100ms"),
    ] {
        let (code, _, err) = run(arguments).await;
        assert_eq!(code, 2, "{err}");
        assert!(err.contains(part), "{err}");
    }
}

const DENYING: &str = "
domain: shop
descriptors:
  - key: user
    rate_limit: { requests_per_unit: 1, unit: hour }
  - key: path
    shadow_mode: true
    rate_limit: { requests_per_unit: 1, unit: hour }
";

#[tokio::test]
async fn limited_keys_are_shown_on_the_admin_port_and_never_as_metrics() {
    let harness = Harness::with_policy(DENYING).await;
    let mut client = harness.client().await;
    for (user, times) in [("ann", 2), ("bob", 5)] {
        for _ in 0..times {
            client.code("shop", &[("user", user)]).await;
            client.code("shop", &[("path", user)]).await;
        }
    }
    let top = async |query: &str| {
        let (status, body) = harness.admin(&format!("/top{query}")).await;
        assert_eq!(status, 200, "{body}");
        serde_json::from_str::<Value>(&body).unwrap()
    };
    let told = top("?limit=3").await;
    let keys = told["keys"].as_array().unwrap();
    assert_eq!(keys.len(), 3, "{told}");
    assert_eq!(
        keys[0],
        serde_json::json!({
            "domain": "shop", "rule": "path", "key": "{shop|path=bob}:window:3600s",
            "times": 4, "at_least": 4,
        }),
        "shadowed ones too"
    );
    let told = top("?domain=shop&rule=user").await;
    assert_eq!(told["keys"].as_array().unwrap().len(), 2);
    assert_eq!(top("?domain=web").await["keys"], serde_json::json!([]));
    assert_eq!(harness.admin("/top?limit=0").await.0, 400);
    assert!(harness.admin("/").await.1.contains("/top"));
    let (_, metrics) = harness.get("/metrics").await;
    assert!(!metrics.contains("bob"), "{metrics}");

    // Replicas that count in memory have no fleet, and keys all the same.
    let (code, out, err) = run(&["--admin", &harness.admin, "--json"]).await;
    assert_eq!(code, 0, "{err}");
    let told: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (&told["prefix"], &told["top"]["keys"][0]["times"]),
        (&Value::Null, &4.into())
    );
    let (code, out, _) = run(&["--admin", "127.0.0.1:1", "--json"]).await;
    let told: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &told["top"]), (1, &Value::Null), "nobody told");
    let asked = format!("{},127.0.0.1:1,{}", harness.admin, harness.http);
    let (code, out, err) = run(&["--admin", &asked]).await;
    assert_eq!(code, 1, "{err}");
    for part in [
        "{shop|path=bob}",
        "! cannot reach 127.0.0.1:1",
        "listen.admin",
    ] {
        assert!(out.contains(part), "{out}");
    }
}
