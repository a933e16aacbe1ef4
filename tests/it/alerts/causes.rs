//! The real cause of each alert.

use std::time::Duration;

use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::Code;
use serde_json::Value;
use tollgate::app::Control;
use tollgate::clock::Clock;

use super::bed::{Bed, QUICK, until};
use super::proxy::Proxy;
use crate::topology::{Flavour, Server, Single, Topology};

/// Calls wait for a slow Redis, and one that fails is asked on.
const PATIENT: &str = "deadline: {store: 2s, margin: 1ms}\n\
    circuit_breaker: {threshold: 1000000, probe_interval: 50ms}\n";

/// On a busy machine some calls take longer than the default deadline of 12 ms, each of which would
/// be an error, or a trip of the breaker, that the test did not cause.
const UNHURRIED: &str = "deadline: {store: 500ms, margin: 1ms}\n";

#[tokio::test]
async fn calls_that_a_rule_has_fail_while_redis_is_gone_are_an_error_rate() {
    let single = Single::start(Flavour::Redis7).await;
    let bed = Bed::with_redis(&single.url(), UNHURRIED, QUICK).await;
    let _load = bed.load("strict").await;
    until("calls are counted", async || {
        bed.standing("error_rate").await["value"] == 0.0
    })
    .await;
    single.server.kill();
    let value = bed.until_fires("error_rate").await;
    assert!(value > 5.0 && value <= 100.0, "{value}");
    let standing = bed.standing("error_rate").await;
    assert_eq!(standing["alertname"], "TollgateErrorRate");
    assert_eq!(standing["severity"], "critical");
    assert_eq!(standing["threshold"], 5.0);
    let active = "tollgate_alert_active{alert=\"error_rate\",severity=\"critical\"}";
    assert_eq!(bed.metric(active).await, Some(1.0));
    single.server.restart().await;
    bed.until_resolved("error_rate").await;
    assert_eq!(bed.times_fired("error_rate").await, 1);
    until("the metric to follow", async || {
        bed.metric(active).await == Some(0.0)
    })
    .await;
}

#[tokio::test]
async fn a_redis_that_slows_calls_down_is_latency_first_and_response_time_when_it_is_worse() {
    let single = Single::start(Flavour::Redis7).await;
    let proxy = Proxy::start(single.server.addr()).await;
    let bed = Bed::with_redis(&proxy.url(), PATIENT, QUICK).await;
    let _load = bed.load("user").await;
    proxy.slow_down(Duration::from_millis(200));
    let value = bed.until_fires("redis_latency").await;
    assert!((0.1..0.5).contains(&value), "{value}");
    assert_eq!(bed.times_fired("response_time").await, 0, "200 ms are not");
    proxy.slow_down(Duration::from_millis(700));
    let value = bed.until_fires("response_time").await;
    assert!((0.5..2.0).contains(&value), "{value}");
    assert!(bed.fires("redis_latency").await);
    proxy.slow_down(Duration::ZERO);
    bed.until_resolved("response_time").await;
    bed.until_resolved("redis_latency").await;
    assert_eq!(bed.times_fired("redis_latency").await, 1);
    assert_eq!(bed.times_fired("batch_failures").await, 0);
}

#[tokio::test]
async fn a_redis_without_memory_fails_batches() {
    let single = Single::start(Flavour::Redis7).await;
    let bed = Bed::with_redis(&single.url(), PATIENT, QUICK).await;
    let _load = bed.load("user").await;
    until("batches are counted", async || {
        bed.standing("batch_failures").await["value"] == 0.0
    })
    .await;
    let limit = ["CONFIG", "SET", "maxmemory"];
    single.server.cli(&[&limit[..], &["1"]].concat()).await;
    let value = bed.until_fires("batch_failures").await;
    assert!(value > 10.0 && value <= 100.0, "{value}");
    single.server.cli(&[&limit[..], &["0"]].concat()).await;
    bed.until_resolved("batch_failures").await;
    assert_eq!(bed.times_fired("batch_failures").await, 1);
    assert_eq!(bed.times_fired("error_rate").await, 0, "all were answered");
}

#[tokio::test]
async fn a_redis_that_comes_and_goes_trips_the_breaker_too_often() {
    let single = Single::start(Flavour::Redis7).await;
    let settings = format!("{UNHURRIED}circuit_breaker: {{threshold: 1, probe_interval: 20ms}}\n");
    // Four times have to fall into a window.
    let alerts = "window: 20s, keep_firing_for: 1s";
    let bed = Bed::with_redis(&single.url(), &settings, alerts).await;
    let _load = bed.load("user").await;
    until_store(&bed, "closed").await;
    for _ in 0..MOST_ROUNDS {
        if bed.fires("circuit_trips").await {
            break;
        }
        freeze_and_thaw(&bed, &single.server).await;
    }
    let value = bed.until_fires("circuit_trips").await;
    assert!(value > 3.0, "{value}");
    let opened = "tollgate_store_transitions_total{state=\"open\",store=\"main\"}";
    assert!(bed.count(opened).await > 3);
    bed.until_resolved("circuit_trips").await;
    assert_eq!(bed.times_fired("circuit_trips").await, 1);
    assert_eq!(bed.times_fired("store_down").await, 0, "never for long");
}

#[tokio::test]
async fn a_redis_that_dies_and_stays_away_trips_once_and_is_down() {
    let single = Single::start(Flavour::Redis7).await;
    let bed = Bed::with_redis(&single.url(), UNHURRIED, QUICK).await;
    let _load = bed.load("user").await;
    until_store(&bed, "closed").await;
    single.server.kill();
    let value = bed.until_fires("store_down").await;
    assert!((10.0..20.0).contains(&value), "{value}");
    let change = bed.last_change("store_down").await;
    assert_eq!(change["store"], "main");
    assert_eq!(bed.times_fired("circuit_trips").await, 0);
    single.server.restart().await;
    bed.until_resolved("store_down").await;
    assert_eq!(bed.times_fired("store_down").await, 1);
    // Of what happened while it was away, too, the store keeps the history.
    until("the history to tell of both", async || {
        let history = single.server.cli(&["XRANGE", HISTORY, "-", "+"]).await;
        let told = |state: &str| {
            let mut entries = history.items().iter().map(|entry| &entry.items()[1]);
            entries.any(|fields| {
                fields.after("alert").as_deref() == Some("store_down")
                    && fields.after("state").as_deref() == Some(state)
            })
        };
        told("firing") && told("resolved")
    })
    .await;
}

#[tokio::test]
async fn a_redis_that_hangs_is_slow_though_nobody_waits_for_it() {
    let single = Single::start(Flavour::Redis7).await;
    // Calls are given up at the deadline; what is seen of the rest are probes and connects, one a second.
    let alerts = "window: 15s, for: 1s, keep_firing_for: 1s";
    let bed = Bed::with_redis(&single.url(), "deadline: {store: 150ms}\n", alerts).await;
    let _load = bed.load("user").await;
    until_store(&bed, "closed").await;
    single.server.freeze();
    let value = bed.until_fires("redis_latency").await;
    assert!(value > 0.1, "{value}");
    assert_eq!(bed.times_fired("response_time").await, 0, "nobody waits");
    bed.until_fires("store_down").await;
    single.server.thaw();
    bed.until_resolved("store_down").await;
    bed.until_resolved("redis_latency").await;
    assert_eq!(bed.times_fired("redis_latency").await, 1);
    assert_eq!(bed.times_fired("circuit_trips").await, 0, "it is one trip");
}

#[tokio::test]
async fn more_callers_than_may_wait_fill_the_queue() {
    let single = Single::start(Flavour::Redis7).await;
    let proxy = Proxy::start(single.server.addr()).await;
    // Sixteen callers; eight calls of one query may be under way, and four more wait.
    let settings = format!("{PATIENT}queue: {{max_size: 4, batch_size: 1}}\n");
    let bed = Bed::with_redis(&proxy.url(), &settings, QUICK).await;
    let loads = [bed.load("user").await, bed.load("user").await];
    proxy.slow_down(Duration::from_millis(90));
    let value = bed.until_fires("queue_full").await;
    assert!(value > 80.0 && value <= 100.0, "{value}");
    proxy.slow_down(Duration::ZERO);
    drop(loads);
    bed.until_resolved("queue_full").await;
    assert_eq!(bed.times_fired("queue_full").await, 1);
}

#[tokio::test]
async fn requests_for_a_domain_that_no_policy_has_alarm_where_that_is_wanted() {
    let bed = Bed::in_memory("window: 2s, keep_firing_for: 1s, unknown_domains: 0").await;
    let mut client = bed.harness.client().await;
    assert_eq!(client.code("shpo", &[("user", "ann")]).await, Code::Ok);
    assert!(bed.until_fires("unknown_domains").await >= 1.0);
    let standing = bed.standing("unknown_domains").await;
    assert_eq!(standing["alertname"], "TollgateUnknownDomains");
    assert_eq!(standing["severity"], "warning");
    let counted = "tollgate_requests_total{domain=\"(unknown)\",result=\"ok\"}";
    assert_eq!(bed.count(counted).await, 1);
    bed.until_resolved("unknown_domains").await;
    assert_eq!(bed.times_fired("unknown_domains").await, 1);
    let quiet = Bed::in_memory("").await;
    let standing = quiet.standing("unknown_domains").await;
    assert_eq!(standing["state"], "off", "unless it is wanted");
}

#[tokio::test]
async fn a_rule_with_more_keys_than_there_is_room_for_alarms_and_is_named() {
    let bed = Bed::with_max_keys(8, "window: 2s, keep_firing_for: 1s").await;
    let mut client = bed.harness.client().await;
    for user in 0..10 {
        client.code("shop", &[("user", &user.to_string())]).await;
    }
    assert!(bed.until_fires("keys_full").await >= 1.0);
    let standing = bed.standing("keys_full").await;
    assert_eq!(standing["alertname"], "TollgateKeysFull");
    assert_eq!(standing["severity"], "warning");
    let (_, top) = bed.harness.admin("/top").await;
    let top: Value = serde_json::from_str(&top).unwrap();
    assert_eq!(
        top["overflowing"],
        serde_json::json!([{ "domain": "shop", "rule": "user" }])
    );
    bed.until_resolved("keys_full").await;
    assert_eq!(bed.times_fired("keys_full").await, 1);
}

#[tokio::test]
async fn a_threshold_counts_from_the_reload_that_changes_it() {
    let quick = format!("{QUICK}, error_rate: off");
    let bed = Bed::in_memory(&quick).await;
    let standing = bed.standing("error_rate").await;
    assert_eq!(
        (&standing["state"], &standing["threshold"]),
        (&"off".into(), &Value::Null)
    );
    let active = "tollgate_alert_active{alert=\"error_rate\",severity=\"critical\"}";
    assert_eq!(bed.metric(active).await, None);
    reload(&bed, "window: 1h, for: 0s, keep_firing_for: 1s").await;
    bed.ask_nonsense(30).await;
    assert!(bed.until_fires("error_rate").await > 99.0);
    // A third of all calls: above the default, and well below this one.
    let mut client = bed.harness.client().await;
    for _ in 0..60 {
        client.code("shop", &[("user", "ann")]).await;
    }
    until("a third is measured", async || {
        bed.standing("error_rate").await["value"].as_f64() < Some(34.0)
    })
    .await;
    assert!(bed.fires("error_rate").await);
    let raised = "window: 1h, for: 0s, keep_firing_for: 1s, error_rate: 50";
    reload(&bed, raised).await;
    bed.until_resolved("error_rate").await;
    assert_eq!(bed.standing("error_rate").await["threshold"], 50.0);
}

#[tokio::test]
async fn a_few_refused_calls_and_a_service_that_does_nothing_alarm_nobody() {
    let bed = Bed::in_memory("window: 1h, for: 0s, store_down: 1s").await;
    bed.ask_nonsense(19).await;
    let asked = Clock::system().now().as_millis();
    until("they are looked at", async || {
        bed.alerts().await["evaluated_ms"].as_u64() > Some(asked)
    })
    .await;
    let alerts = bed.alerts().await;
    assert_eq!(alerts["history"].as_array().unwrap().len(), 0, "{alerts}");
    assert_eq!(bed.standing("error_rate").await["value"], Value::Null);
    // The twentieth is one too many.
    bed.ask_nonsense(1).await;
    bed.until_fires("error_rate").await;
    let alerts = bed.alerts().await;
    assert_eq!(alerts["active"].as_array().unwrap().len(), 1, "{alerts}");
    assert_eq!(alerts["history"].as_array().unwrap().len(), 1, "{alerts}");
    assert_eq!(alerts["history"][0]["value"], 100.0, "{alerts}");
}

/// Changes the settings of alerts.
async fn reload(bed: &Bed, alerts: &str) {
    let settings = format!("threads: 1\nalerts: {{{alerts}}}\n");
    bed.harness.write_settings(&settings);
    bed.harness.tell(Control::Reload).await;
}

/// Stops the server until the breaker has opened, and waits until it has closed.
pub(super) async fn freeze_and_thaw(bed: &Bed, server: &Server) {
    server.freeze();
    until_store(bed, "open").await;
    server.thaw();
    until_store(bed, "closed").await;
}

/// Waits until the main store is in this state.
pub(super) async fn until_store(bed: &Bed, state: &str) {
    until(&format!("the store to be {state}"), async || {
        let (_, body) = bed.harness.admin("/store").await;
        let store: Value = serde_json::from_str(&body).unwrap();
        store["stores"][0]["state"] == state
    })
    .await;
}

/// Recent alerts of whoever serves the domain.
const HISTORY: &str = "tollgate:shop:alerts";

/// The breaker may be told to have opened by each core.
pub(super) const MOST_ROUNDS: usize = 10;
