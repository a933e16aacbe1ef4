//! The round trip of one script call that decides one check, with nothing around it: what Redis
//! itself costs a decision that waits for it.
//!
//! `script HOST:PORT SECONDS`, prints JSON.
#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a measurement that cannot go on has failed, and prints what it did"
)]

use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::json;
use tollgate::clock::Stopwatch;
use tollgate::model::{
    Check, DeniedHits, Hits, KeyBuilder, OnStoreFailure, Quota, Role, RuleId, Unit, Window,
};
use tollgate::store::redis::{Access, Call, DECIDE, Place, connect, decode};

fn main() {
    let mut words = std::env::args().skip(1).filter(|word| word != "--bench");
    let place = words.next().expect("the first word is host:port");
    let seconds: f64 = words
        .next()
        .and_then(|word| word.parse().ok())
        .expect("the second word is a number of seconds");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(measure(&place, Duration::from_secs_f64(seconds)));
}

async fn measure(place: &str, length: Duration) {
    let (host, port) = place.rsplit_once(':').expect("host:port");
    let place = Place::Tcp {
        host: host.to_owned(),
        port: port.parse().expect("a port"),
    };
    let access = Access::default();
    let (connection, _) = connect(&place, &access, PATIENCE).await.expect("a server");
    let script = connection.load(DECIDE).await.expect("the script loads");
    let checks: Vec<Check> = (0..KEYS).map(check).collect();
    let mut times = Histogram::<u64>::new(3).expect("three digits");
    let all = Stopwatch::start();
    for check in checks.iter().cycle() {
        if all.elapsed() >= length {
            break;
        }
        let watch = Stopwatch::start();
        let mut call = Call::new("bench", None, 0);
        let asked = std::slice::from_ref(check);
        call.push(asked, true).expect("there is room");
        let reply = connection.eval(script.clone(), &call, PATIENCE).await;
        let decided = decode(&reply.expect("it answers"), [asked]).expect("the answer is right");
        assert!(!decided.iter().any(|decision| decision.denied));
        let nanos = u64::try_from(watch.elapsed().as_nanos()).unwrap_or(u64::MAX);
        times.record(nanos).expect("a time that fits");
    }
    let micros =
        |share: f64| Duration::from_nanos(times.value_at_quantile(share)).as_secs_f64() * 1e6;
    let told = json!({
        "calls": times.len(),
        "seconds": all.elapsed().as_secs_f64(),
        "p50_us": micros(0.5),
        "p99_us": micros(0.99),
        "p99.9_us": micros(0.999),
    });
    println!("{told}");
}

fn check(key: u32) -> Check {
    let window = Window::try_new(Unit::Hour, 1).expect("an hour");
    let quota = Quota::fixed(1_000_000_000, window, DeniedHits::Free);
    let mut name = KeyBuilder::new(b"bench");
    let value = format!("user-{key:06}");
    name.entry((b"user_id", false), (value.as_bytes(), false));
    Check {
        rule: RuleId::default(),
        key: name.finish(&quota),
        quota,
        hits: Hits::Charge(1),
        role: Role::default(),
        on_store_failure: OnStoreFailure::Local,
    }
}

/// Longer than any answer takes.
const PATIENCE: Duration = Duration::from_secs(1);

/// Distinct keys.
const KEYS: u32 = 1_000;
