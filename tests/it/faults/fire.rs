//! Exactness under fire: four Tollgates on one Redis, one key, as many calls as they answer, one
//! Tollgate killed halfway.

use envoy_types::pb::envoy::service::ratelimit::v3::RateLimitRequest;
use tokio::time::Instant;
use tollgate::model::Algorithm;

use super::bed::fleet;
use super::history::{History, Rule, windows};
use super::pressure::{Calls, Pressure};
use super::run::median;
use super::{Length, alone, report};
use crate::envoy::bed::Tollgate;
use crate::harness::{Client, descriptor, request};
use crate::process::until;
use crate::topology::{Cluster, Flavour, Single, Topology, every_key_expires};

#[tokio::test]
async fn a_fixed_window_is_exact_under_fire() {
    on_one_server(Algorithm::FixedWindow).await;
}

#[tokio::test]
async fn a_sliding_window_is_exact_under_fire() {
    on_one_server(Algorithm::SlidingWindow).await;
}

#[tokio::test]
async fn a_sliding_log_is_exact_under_fire() {
    on_one_server(Algorithm::SlidingLog).await;
}

#[tokio::test]
async fn a_token_bucket_is_exact_under_fire() {
    on_one_server(Algorithm::TokenBucket).await;
}

/// One descriptor each time: the key lies on one of the nodes.
#[tokio::test]
async fn a_cluster_is_exact_under_fire() {
    let _alone = alone().await;
    for algorithm in Algorithm::ALL {
        let redis = Cluster::start(Flavour::Redis7).await;
        fire("Cluster", &redis, algorithm, 1).await;
    }
}

/// Charges on other nodes are given back where one denies, and meanwhile deny others.
#[tokio::test]
async fn ten_slots_of_a_cluster_are_exact_under_fire() {
    let _alone = alone().await;
    for algorithm in Algorithm::ALL {
        let redis = Cluster::start(Flavour::Redis7).await;
        fire("Cluster, 10 slots", &redis, algorithm, 10).await;
    }
}

/// With one call in flight: scripts on other nodes run at the same time, not one after the other.
#[tokio::test]
async fn ten_slots_take_little_longer_than_one() {
    let _alone = alone().await;
    let length = Length::chosen();
    let redis = Cluster::start(Flavour::Redis7).await;
    // A denial might not need the store.
    let policy = policy(Algorithm::FixedWindow, 1_000_000_000);
    let fleet = fleet(1, Some(&redis.url()), SETTINGS, &policy).await;
    let mut client = Client::connect(&fleet[0].grpc.to_string()).await;
    let asks = [1, 10].map(ask);
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..1_000 {
        for (ask, times) in asks.iter().zip(&mut times) {
            let begun = Instant::now();
            client.ask(ask.clone()).await;
            times.push(begun.elapsed());
        }
    }
    let [one, ten] = times.map(|times| median(times.into_iter()));
    let row = format!("| {} | {} |", one.as_micros(), ten.as_micros());
    report::table(
        "| p50 us of 1 descriptor on a Cluster | of 10 in as many slots |",
        &[row],
    );
    assert!(ten <= one * length.ten_slots, "{one:?} and {ten:?}");
}

async fn on_one_server(algorithm: Algorithm) {
    let _alone = alone().await;
    let redis = Single::start(Flavour::Redis7).await;
    fire("one server", &redis, algorithm, 1).await;
}

async fn fire(name: &str, redis: &dyn Topology, algorithm: Algorithm, keys: usize) {
    let rule = Rule {
        algorithm,
        limit: LIMIT,
        burst: LIMIT,
        window: WINDOW,
    };
    let mut fleet = fleet(
        FLEET,
        Some(&redis.url()),
        SETTINGS,
        &policy(algorithm, LIMIT),
    )
    .await;
    let connections = CONNECTIONS / FLEET;
    let pressure = Pressure::start(&fleet, connections, &ask(keys)).await;
    under_pressure(&mut fleet, &pressure, Length::chosen().edges).await;
    let calls = pressure.stop().await;
    drop(fleet);

    let lost = died(&calls);
    let in_flight = if keys == 1 { lost } else { CONNECTIONS };
    let in_flight = u64::try_from(in_flight).expect("a count");
    let mut rows = Vec::new();
    let mut wrong = Vec::new();
    for key in 0..keys {
        let history = history(&calls, key);
        rows.push(row(
            &format!("{name}, {algorithm}, key {key}"),
            &history,
            lost,
        ));
        wrong.extend(rule.admits_too_much(&history));
        wrong.extend(rule.denies_too_soon(&history, in_flight));
        let denied = windows(&history.denied, WINDOW).count();
        let edges = usize::try_from(Length::chosen().edges).expect("a count");
        if 2 * denied < edges {
            wrong.push(format!("no pressure: denials in {denied} windows only"));
        }
    }
    report::table(HEADER, &rows);
    assert!(
        wrong.is_empty(),
        "{name}, {algorithm}:\n{}",
        wrong.join("\n")
    );
    every_key_expires(redis).await;
}

/// Until so many windows have ended; halfway one of the fleet is killed.
async fn under_pressure(fleet: &mut [Tollgate], pressure: &Pressure, edges: u64) {
    let begun = until("a first verdict", || {
        let latest = pressure.latest();
        (latest > 0).then_some(latest / WINDOW)
    })
    .await;
    let crossed = |edges: u64| (pressure.latest() / WINDOW >= begun + edges).then_some(());
    until("half of the windows to end", || crossed(edges / 2)).await;
    fleet[0].process.kill();
    until("all windows to end", || crossed(edges)).await;
    // Callers on a slow machine take some windows to empty a bucket.
    let wanted = edges.div_ceil(2) + 1;
    until("denials", || {
        (pressure.seconds_with_denials() > wanted).then_some(())
    })
    .await;
}

/// How many calls were under way to the one that was killed. No other may have broken.
fn died(calls: &[Calls]) -> usize {
    let broken = calls.iter().filter(|calls| calls.broke.is_some());
    let died: Vec<_> = broken.collect();
    for calls in &died {
        assert_eq!(calls.tollgate, 0, "{:?}", calls.broke);
    }
    died.len()
}

/// What became of the hits of one of the request's keys. Fails if anybody but the store decided.
fn history(calls: &[Calls], key: usize) -> History {
    let mut history = History::default();
    for answer in calls.iter().flat_map(|calls| &calls.answers) {
        let stamp = answer.stamps.get(key).expect("a verdict for each key");
        assert_eq!((stamp.limit, stamp.window), (LIMIT, WINDOW), "{stamp:?}");
        if answer.admitted {
            assert_eq!(stamp.source, "store", "{stamp:?}");
            assert!(!stamp.over, "{stamp:?}");
            history.admitted.push(stamp.at);
        } else if stamp.over {
            history.denied.push(stamp.at);
        }
    }
    history.sort();
    history
}

fn row(name: &str, history: &History, lost: usize) -> String {
    let all: Vec<u64> = windows(&history.admitted, WINDOW)
        .map(|(_, hits)| hits)
        .collect();
    // The first and the last are cut off by the test.
    let whole = all.get(1..all.len().saturating_sub(1)).unwrap_or_default();
    let (least, most) = (whole.iter().min(), whole.iter().max());
    format!(
        "| {name} | {} | {} | {} | {} | {} | {lost} |",
        history.admitted.len(),
        history.denied.len(),
        whole.len(),
        least.copied().unwrap_or_default(),
        most.copied().unwrap_or_default(),
    )
}

fn policy(algorithm: Algorithm, limit: u64) -> String {
    format!(
        "domain: it\ndescriptors:\n  - key: fire\n    rate_limit: \
         {{ requests_per_unit: {limit}, unit: second, algorithm: {algorithm} }}\n"
    )
}

fn ask(keys: usize) -> RateLimitRequest {
    let descriptors = (0..keys).map(|key| descriptor(&[("fire", &format!("key-{key}"))]));
    request("it", &descriptors.collect::<Vec<_>>())
}

/// No verdict may be local: the store has a second, and callers wait longer.
const SETTINGS: &str = "deadline: { store: 1s }\nresponse: { verdicts: true }\n";
const FLEET: usize = 4;
const CONNECTIONS: usize = 64;
/// Far less than they could ask for.
const LIMIT: u64 = 200;
const WINDOW: u64 = 1_000;
const HEADER: &str = "| exactness | admitted | denied | whole windows of 1 s, limit 200 \
    | least in one | most in one | in flight at the kill |";
