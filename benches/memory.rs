//! What a million keys cost the memory store: resident bytes for each, and the longest time that a
//! sweep holds a shard's lock when all of them expire at once.
//!
//! `memory ALGORITHM flood`: of twice as many keys as there is room for, all of one rule, the percentage of
//! first requests that are denied, by the limit.
//!
//! `memory ALGORITHM ROUNDS`, prints JSON. Each round fills and sweeps anew and tells the longest sweep
//! of its own. Times are by the wall clock; sweeps during which the kernel gave the core to somebody
//! else are left out and counted.
#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a measurement that cannot go on has failed, and prints what it did"
)]

use std::num::NonZeroU32;
use std::time::Duration;

use serde_json::json;
use tollgate::clock::{Stopwatch, Timestamp};
use tollgate::model::{
    Algorithm, Check, DeniedHits, Hits, KeyBuilder, OnStoreFailure, Quota, Role, RuleId, Source,
    Unit, Window,
};
use tollgate::store::{MemoryConfig, MemoryStore};

/// As the service.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let mut words = std::env::args().skip(1).filter(|word| word != "--bench");
    let name = words.next().expect("the first word is an algorithm");
    let algorithm = Algorithm::ALL
        .into_iter()
        .find(|algorithm| algorithm.name() == name)
        .expect("an algorithm as policies name it");
    let second = words.next().expect("a second word");
    if second == "flood" {
        return flood(algorithm);
    }
    let rounds: u64 = second.parse().expect("flood, or a number of rounds");
    let window = Window::try_new(Unit::Minute, 1).expect("a minute");
    let quota = Quota::try_new(LIMIT, window, algorithm, DeniedHits::Free).expect("good numbers");

    let before = resident();
    let store = MemoryStore::new(MemoryConfig { max_keys: KEYS });
    let mut now = Timestamp::from_millis(1_700_000_000_000);
    fill(&store, &quota, now);
    let keys = store.stats().live_keys;
    let bytes = resident().saturating_sub(before);
    let (mut longest, mut median, mut interrupted) = (Vec::new(), Vec::new(), 0);
    for round in 0..rounds {
        if round > 0 {
            fill(&store, &quota, now);
        }
        now = now + 2 * window.millis();
        let times = sweep(&store, now);
        interrupted += store.shards() - times.len();
        let micros = |place: usize| times.get(place).map(|time| time.as_secs_f64() * 1e6);
        longest.extend(micros(times.len().saturating_sub(1)));
        median.extend(micros(times.len() / 2));
    }
    let told = json!({
        "algorithm": algorithm.name(),
        "keys": keys,
        "bytes": bytes,
        "shards": store.shards(),
        "longest_sweep_us": longest,
        "median_sweep_us": median,
        "interrupted_sweeps": interrupted,
    });
    println!("{told}");
}

/// Prints what a flood of keys does to first requests of its own rule.
fn flood(algorithm: Algorithm) {
    let window = Window::try_new(Unit::Day, 1).expect("a day");
    for limit in [1, 2, 3, 4, 5, 10, 20, 100] {
        let quota =
            Quota::try_new(limit, window, algorithm, DeniedHits::Free).expect("good numbers");
        let store = MemoryStore::new(MemoryConfig { max_keys: KEYS });
        let now = Timestamp::from_millis(1_700_000_000_000);
        let (mut overflowed, mut denied) = (0_u32, 0_u32);
        for key in 0..2 * KEYS.get() {
            let check = check(key, &quota, 1);
            let decision = store.decide(std::slice::from_ref(&check), true, now);
            let verdict = decision.verdicts.first().expect("a verdict for each check");
            overflowed += u32::from(verdict.source == Source::Overflow);
            denied += u32::from(verdict.over);
        }
        let percent = f64::from(denied) / f64::from(overflowed) * 100.0;
        println!("{algorithm} {limit}: {percent:.3} % of {overflowed}");
    }
}

fn check(key: u32, quota: &Quota, hits: u32) -> Check {
    // 40 bytes as it is written in Redis; here it is hashed.
    let mut name = KeyBuilder::new(b"bench");
    let value = format!("user-{key:08}");
    name.entry((b"user_id", false), (value.as_bytes(), false));
    Check {
        rule: RuleId::default(),
        key: name.finish(quota),
        quota: *quota,
        hits: Hits::Charge(u64::from(hits)),
        role: Role::default(),
        on_store_failure: OnStoreFailure::Local,
    }
}

/// Charges every key once, to its limit.
fn fill(store: &MemoryStore, quota: &Quota, now: Timestamp) {
    for key in 0..KEYS.get() {
        let check = check(key, quota, LIMIT);
        let decision = store.decide(std::slice::from_ref(&check), true, now);
        // Those that share a counter are denied; most have one of their own.
        assert!(decision.verdicts.len() == 1);
    }
}

/// Sweeps every shard once. The times of those that were not interrupted, the shortest first.
fn sweep(store: &MemoryStore, now: Timestamp) -> Vec<Duration> {
    let mut times: Vec<Duration> = (0..store.shards())
        .filter_map(|_| {
            let switches = status("nonvoluntary_ctxt_switches:");
            let watch = Stopwatch::start();
            let swept = store.sweep_next(now);
            let took = watch.elapsed();
            assert!(swept.kept == 0, "all of them have expired");
            (status("nonvoluntary_ctxt_switches:") == switches).then_some(took)
        })
        .collect();
    times.sort_unstable();
    times
}

/// This process's resident memory in bytes.
fn resident() -> u64 {
    status("VmRSS:") * 1024
}

/// What the kernel tells of this process, which has one thread.
fn status(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("a Linux /proc");
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.expect("a number behind the field")
}

/// As many as the shipped settings have room for.
const KEYS: NonZeroU32 = NonZeroU32::new(1_000_000).expect("not 0");

const LIMIT: u32 = 100;
