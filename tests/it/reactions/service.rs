//! What callers and operators see of a Tollgate whose store is away.

use std::time::Duration;

use envoy_types::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::RateLimitOverride;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::Code;
use envoy_types::pb::envoy::r#type::v3::RateLimitUnit;
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tollgate::clock::Clock;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use super::connection::pause;
use crate::harness::{Client, Harness, descriptor, http_call, request, until};
use crate::topology::{Cluster, Flavour, Single, Topology};
use crate::window::without_hours;

const POLICY: &str = "
domain: shop
descriptors:
  - key: user
    rate_limit: { requests_per_unit: 2, unit: hour, on_store_failure: local }
  - key: allowed
    rate_limit: { requests_per_unit: 2, unit: hour, on_store_failure: allow }
  - key: denied
    rate_limit: { requests_per_unit: 2, unit: hour }
  - key: strict
    rate_limit: { requests_per_unit: 2, unit: hour, on_store_failure: error }
  - key: told
    shadow_mode: true
    rate_limit: { requests_per_unit: 2, unit: hour, on_store_failure: deny }
";

/// A Tollgate whose rules deny while the store is away, unless they say otherwise.
async fn serve(url: &str, deadline: &str) -> Harness {
    serve_with(url, deadline, "").await
}

/// One with more settings.
async fn serve_with(url: &str, deadline: &str, more: &str) -> Harness {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("shop.yaml"), without_hours(POLICY)).unwrap();
    let settings = format!(
        "store: {{kind: redis, redis: {{url: \"{url}\"}}}}\n\
         deadline: {{store: {deadline}, margin: 200ms}}\n\
         circuit_breaker: {{probe_interval: 50ms}}\n\
         defaults: {{on_store_failure: deny}}\n\
         {more}"
    );
    let harness = Harness::serve(folder, &settings, Clock::system()).await;
    harness.unwrap()
}

/// Calls for each of a number of users, all at once over one connection.
fn ask_for_users(client: &Client, users: u32) -> Vec<JoinHandle<Code>> {
    let ask = |user: u32| {
        let mut client = Client(client.0.clone());
        tokio::spawn(async move { client.code("shop", &[("user", &user.to_string())]).await })
    };
    (0..users).map(ask).collect()
}

async fn counter(harness: &Harness, method: http::Method) -> (u16, Value) {
    let path = "/counters?domain=shop&descriptor=user%3Dann";
    let (status, body) = http_call(&harness.admin, method, path, "").await;
    let json = serde_json::from_str(&body).unwrap_or(Value::String(body));
    (status, json)
}

/// What would be answered to a user now.
async fn explained(harness: &Harness) -> Value {
    let path = "/explain?domain=shop&descriptor=user%3Dann";
    let (_, body) = harness.admin(path).await;
    let report: Value = serde_json::from_str(&body).unwrap();
    report["now"].clone()
}

#[tokio::test]
async fn a_limit_that_cannot_be_divided_is_explained() {
    let harness = serve_with("redis://127.0.0.1:1", "50ms", "fleet: {replicas: 3}\n").await;
    let notes = async |key: &str| {
        let path = format!("/explain?domain=shop&descriptor={key}%3Dann");
        let report: Value = serde_json::from_str(&harness.admin(&path).await.1).unwrap();
        report["rule"]["notes"].to_string()
    };
    let note = "its share of the limit among 3 replicas is 0";
    until("the size of the fleet to be known", async || {
        notes("user").await.contains(note)
    })
    .await;
    assert!(!notes("denied").await.contains(note), "it is not divided");
}

/// What is explained of each rule while the store is away.
async fn what_is_explained_is_what_callers_get(harness: &Harness) {
    for (key, code) in [
        ("allowed", "OK"),
        ("denied", "OVER_LIMIT"),
        ("told", "OK"),
        ("strict", "UNAVAILABLE"),
    ] {
        let path = format!("/explain?domain=shop&descriptor={key}%3Dann");
        let told: Value = serde_json::from_str(&harness.admin(&path).await.1).unwrap();
        let answer = &told["now"]["answer"];
        let codes = (&answer["code"], &answer["status"]);
        assert_eq!(codes, (&code.into(), &code.into()), "{key}");
    }
}

/// Nothing that says whether traffic is wanted looks at the store.
async fn is_ready(harness: &Harness) {
    assert_eq!(harness.get("/readyz").await.0, 200);
    assert_eq!(harness.get("/healthcheck").await, (200, "OK".into()));
    let channel = tonic::transport::Channel::from_shared(format!("http://{}", harness.grpc));
    let mut health = HealthClient::new(channel.unwrap().connect().await.unwrap());
    let told = health.check(HealthCheckRequest::default()).await.unwrap();
    assert_eq!(told.into_inner().status, 1);
}

#[tokio::test]
async fn without_a_store_it_starts_and_answers_as_the_rules_say() {
    let single = Single::start(Flavour::Redis7).await;
    single.server.kill();
    let harness = serve(&single.url(), "5s").await;
    is_ready(&harness).await;
    let mut client = harness.client().await;
    for (key, code) in [
        ("user", Code::Ok),
        ("allowed", Code::Ok),
        ("denied", Code::OverLimit),
        ("told", Code::Ok),
    ] {
        assert_eq!(client.code("shop", &[(key, "ann")]).await, code, "{key}");
    }
    // A limit that comes with the request is nobody's rule: the settings hold.
    let mut own = descriptor(&[("user", "bob")]);
    own.limit = Some(RateLimitOverride {
        requests_per_unit: 9,
        unit: RateLimitUnit::Hour.into(),
    });
    let answer = client.ask(request("shop", &[own])).await;
    assert_eq!(answer.overall_code(), Code::OverLimit);

    let strict = request("shop", &[descriptor(&[("strict", "ann")])]);
    let status = client.try_ask(strict).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable);
    assert!(status.message().contains("on_store_failure: error"));
    let body = r#"{"domain":"shop","descriptors":[{"entries":[{"key":"strict","value":"ann"}]}]}"#;
    let (code, text) = harness.json(body).await;
    assert_eq!(code, 503, "{text}");
    assert!(text.contains("on_store_failure: error"), "{text}");

    what_is_explained_is_what_callers_get(&harness).await;

    // Operators are told the local view, and that nothing can be reset.
    let now = explained(&harness).await;
    assert_eq!(
        (&now["source"], &now["counted"]),
        (&"local".into(), &1.into())
    );
    let (status, shown) = counter(&harness, http::Method::GET).await;
    assert_eq!((status, &shown["now"]["source"]), (200, &"local".into()));
    let (status, why) = counter(&harness, http::Method::DELETE).await;
    assert_eq!(status, 503, "{why}");
    assert!(why.to_string().contains("nothing was reset: "), "{why}");
    let (_, store) = harness.admin("/store").await;
    let store: Value = serde_json::from_str(&store).unwrap();
    assert_eq!(store["stores"][0]["state"], "open", "{store}");
    let failure = store["stores"][0]["links"][0]["failure"].to_string();
    assert!(failure.contains("nobody listens there"), "{store}");
    let told = &store["stores"][0];
    let waits = (&told["queue"]["length"], &told["unanswered"]);
    assert_eq!(waits, (&0.into(), &0.into()), "{store}");
    assert!(told["queue"]["limit"].as_u64() >= Some(1_000), "{store}");
    assert!(told["local_ms"].as_u64() > Some(0), "{store}");
    let (_, metrics) = harness.get("/metrics").await;
    assert!(metrics.contains("tollgate_store_state{state=\"open\",store=\"main\"} 1\n"));
    let away = "tollgate_store_local_time_seconds_total{store=\"main\"} ";
    assert!(metrics.contains(away) && !metrics.contains(&format!("{away}0\n")));

    single.server.restart().await;
    until("decisions come from the store", async || {
        explained(&harness).await["source"] == "store"
    })
    .await;
    until("rules hold again", async || {
        client.code("shop", &[("denied", "ann")]).await == Code::Ok
    })
    .await;
    is_ready(&harness).await;
}

#[tokio::test]
async fn a_queue_that_fills_is_seen_in_the_metrics_and_so_is_its_end() {
    let single = Single::start(Flavour::Redis7).await;
    let settings = "queue: {max_size: 1}\nthreads: 1\n";
    let harness = serve_with(&single.url(), "30s", settings).await;
    let mut client = harness.client().await;
    assert_eq!(client.code("shop", &[("user", "ann")]).await, Code::Ok);
    pause(&single.server).await;
    let utilization = async |ratio: &str| {
        let series = format!("tollgate_queue_utilization_ratio{{store=\"main\"}} {ratio}\n");
        until("its utilization to be told", async || {
            harness.get("/metrics").await.1.contains(&series)
        })
        .await;
    };
    let asked = ask_for_users(&client, 20);
    utilization("1").await;
    single.server.cli(&["CLIENT", "UNPAUSE"]).await;
    for asked in asked {
        assert_eq!(asked.await.unwrap(), Code::Ok);
    }
    utilization("0").await;
}

/// However many cores there are, and whichever of them a burst comes to.
#[tokio::test]
async fn a_burst_on_one_connection_may_use_the_whole_queue() {
    for threads in [2, 16, 64] {
        let single = Single::start(Flavour::Redis7).await;
        let settings = format!("threads: {threads}\nqueue: {{batch_size: 8}}\n");
        let harness = serve_with(&single.url(), "30s", &settings).await;
        let mut client = harness.client().await;
        assert_eq!(client.code("shop", &[("user", "ann")]).await, Code::Ok);
        pause(&single.server).await;
        // queue.max_size is 1,000.
        let asked = ask_for_users(&client, 900);
        until("most of them to wait", async || {
            let (_, metrics) = harness.get("/metrics").await;
            let length = metrics
                .lines()
                .find_map(|line| line.strip_prefix("tollgate_queue_length{store=\"main\"} "));
            length.is_some_and(|length| length.parse::<f64>().unwrap() > 300.0)
        })
        .await;
        single.server.cli(&["CLIENT", "UNPAUSE"]).await;
        for asked in asked {
            assert_eq!(asked.await.unwrap(), Code::Ok, "{threads} threads");
        }
        let (_, metrics) = harness.get("/metrics").await;
        let full = metrics
            .lines()
            .find(|line| line.contains("reason=\"queue_full\"") && !line.ends_with(" 0"));
        assert_eq!(full, None, "{threads} threads");
    }
}

#[tokio::test]
async fn a_caller_in_a_hurry_is_answered_in_time() {
    let single = Single::start(Flavour::Redis7).await;
    let harness = serve(&single.url(), "30s").await;
    let mut client = harness.client().await;
    assert_eq!(client.code("shop", &[("user", "ann")]).await, Code::Ok);
    single.server.freeze();
    let mut hurry = tonic::Request::new(request("shop", &[descriptor(&[("user", "ann")])]));
    hurry.set_timeout(Duration::from_secs(1));
    let start = Instant::now();
    let answer = client
        .0
        .should_rate_limit(hurry)
        .await
        .unwrap()
        .into_inner();
    let took = start.elapsed();
    assert_eq!(answer.overall_code(), Code::Ok);
    assert!(took >= Duration::from_millis(700), "{took:?}: it waited");
    is_ready(&harness).await;
    single.server.thaw();
}

#[tokio::test]
async fn a_counter_is_shown_and_reset_for_all_replicas() {
    let single = Single::start(Flavour::Redis7).await;
    let cluster = Cluster::start(Flavour::Redis7).await;
    for bed in [&single as &dyn Topology, &cluster] {
        let [one, two] = [serve(&bed.url(), "5s").await, serve(&bed.url(), "5s").await];
        let mut client = one.client().await;
        for code in [Code::Ok, Code::Ok, Code::OverLimit] {
            assert_eq!(client.code("shop", &[("user", "ann")]).await, code);
        }
        let (_, shown) = counter(&two, http::Method::GET).await;
        let now = &shown["now"];
        assert_eq!(
            (&now["source"], &now["counted"]),
            (&"store".into(), &2.into())
        );
        let (_, reset) = counter(&two, http::Method::DELETE).await;
        assert_eq!(reset["before"]["counted"], 2, "{reset}");
        assert_eq!(reset["now"]["counted"], 0, "{reset}");
        for code in [Code::Ok, Code::Ok, Code::OverLimit] {
            assert_eq!(client.code("shop", &[("user", "ann")]).await, code);
        }
        // The one that resets forgets what it saw, too.
        let (status, _) = counter(&one, http::Method::DELETE).await;
        assert_eq!(status, 200);
        for server in bed.stores() {
            server.kill();
        }
        until("the store is away", async || {
            explained(&one).await["source"] == "local"
        })
        .await;
        assert_eq!(explained(&one).await["counted"], 0);
    }
}

#[tokio::test]
async fn one_call_too_many_is_refused_at_once() {
    let single = Single::start(Flavour::Redis7).await;
    let harness = serve_with(&single.url(), "4s", "limits: {in_flight: 1}").await;
    let mut client = harness.client().await;
    assert_eq!(client.code("shop", &[("user", "ann")]).await, Code::Ok);
    pause(&single.server).await;
    let waiting = tokio::spawn({
        let mut client = client.clone();
        async move { client.code("shop", &[("user", "ann")]).await }
    });
    until("the call is under way", async || {
        harness.service.in_flight() == 1
    })
    .await;
    let refused = client.try_ask(request("shop", &[descriptor(&[("user", "bob")])]));
    let refused = refused.await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
    assert!(refused.message().contains("limits.in_flight"), "{refused}");
    single.server.cli(&["CLIENT", "UNPAUSE"]).await;
    assert_eq!(waiting.await.unwrap(), Code::Ok);
    assert_eq!(client.code("shop", &[("user", "bob")]).await, Code::Ok);
}
