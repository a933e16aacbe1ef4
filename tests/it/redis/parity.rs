//! Random histories: the script says and keeps what the memory store does, step by step.
//!
//! Time is simulated, but servers let keys expire by their own clock. So the script is told to let
//! keys live a thousand times as long (`JITTER`), from which it can be read how long it meant, and
//! the test deletes them when that time has come. In half of the histories it does not: a state
//! that has faded counts nothing also while the key is still there.

use std::collections::HashMap;

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{TestCaseResult, TestRunner};
use tokio::runtime::Runtime;
use tollgate::model::{Algorithm, MAX_LOG_LIMIT, Source, Verdict};

use super::server::name;
use super::{
    Check, DeniedHits, Hits, Quota, Redis, Role, SATURATED, START, Unit, Window, check, memory,
    memory_time,
};

pub(super) fn the_script_decides_as_memory_does(runtime: &Runtime, redis: &Redis) {
    run(runtime, redis, 400, Algorithm::ALL.to_vec());
}

pub(super) fn logs_are_decided_as_in_memory(runtime: &Runtime, redis: &Redis) {
    run(runtime, redis, 200, vec![Algorithm::SlidingLog]);
}

pub(super) fn buckets_are_decided_as_in_memory(runtime: &Runtime, redis: &Redis) {
    run(runtime, redis, 200, vec![Algorithm::TokenBucket]);
}

fn run(runtime: &Runtime, redis: &Redis, cases: u32, algorithms: Vec<Algorithm>) {
    let mut runner = TestRunner::new(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(cases)
    });
    let played = runner.run(&history(algorithms), |history| {
        runtime.block_on(play(redis, &history))
    });
    if let Err(error) = played {
        panic!("{error}");
    }
}

/// What happens to a few counters.
#[derive(Clone, Debug)]
struct History {
    /// Algorithms and windows, which with the user make the key.
    rules: Vec<(Algorithm, Window)>,
    /// Limits and bursts that they have now and then.
    numbers: Vec<u32>,
    /// Keys are deleted when they expire.
    expire: bool,
    steps: Vec<Step>,
}

#[derive(Clone, Debug)]
struct Step {
    wait: Wait,
    /// Decided in one call by the script, one by one by the memory store.
    queries: Vec<(Vec<Ask>, bool)>,
}

#[derive(Clone, Copy, Debug)]
enum Wait {
    Millis(i64),
    /// Tenths of a rule's window, and some milliseconds.
    Tenths(Index, u64, i64),
}

#[derive(Clone, Copy, Debug)]
struct Ask {
    user: u8,
    rule: Index,
    limit: Index,
    burst: Index,
    denied_hits: DeniedHits,
    hits: Size,
    role: Role,
}

#[derive(Clone, Copy, Debug)]
enum Size {
    Exact(Hits),
    /// The limit or burst divided by this, and some more.
    Part(u64, u64),
}

struct Table<'a> {
    redis: &'a Redis,
    /// By the simulated clock.
    expiries: HashMap<Vec<u8>, u64>,
}

async fn play(redis: &Redis, history: &History) -> TestCaseResult {
    let _ok: String = redis.command(&[b"FLUSHALL"]).await;
    let memory = memory();
    let mut table = Table {
        redis,
        expiries: HashMap::new(),
    };
    let mut clock = START;
    for step in &history.steps {
        clock = history.after(clock, step.wait);
        let now = memory_time(&memory, clock);
        for _ in 0..memory.shards() {
            memory.sweep_next(now);
        }
        if history.expire {
            table.expire(now.as_millis()).await;
        }
        let queries: Vec<(Vec<Check>, bool)> = step
            .queries
            .iter()
            .map(|(asks, enforce)| (history.checks(asks), *enforce))
            .collect();
        table.mark(&queries).await;
        let decisions = redis.decide(&queries, Some(now.as_millis()), JITTER).await;
        for ((checks, enforce), shared) in queries.iter().zip(&decisions) {
            let own = memory.decide(checks, *enforce, now);
            let told: Vec<Verdict> = shared
                .verdicts
                .iter()
                .map(|verdict| {
                    assert_eq!(verdict.source, Source::Store);
                    Verdict {
                        source: Source::Memory,
                        ..*verdict
                    }
                })
                .collect();
            prop_assert_eq!(&told[..], &own.verdicts[..], "at {}: {:#?}", now, checks);
            prop_assert_eq!(shared.denied, own.denied);
        }
        table.note(&queries, now.as_millis()).await?;
        if history.expire {
            let keys: usize = redis.command(&[b"DBSIZE"]).await;
            prop_assert_eq!(u64::try_from(keys).unwrap(), memory.stats().live_keys);
        }
    }
    Ok(())
}

impl Table<'_> {
    /// Deletes what has expired.
    async fn expire(&mut self, now: u64) {
        let mut gone = Vec::new();
        self.expiries.retain(|key, &mut expires| {
            let stays = expires > now;
            if !stays {
                gone.push(key.clone());
            }
            stays
        });
        for key in gone {
            let _deleted: i64 = self.redis.command(&[b"DEL", &key]).await;
        }
    }

    /// Gives the keys a time to live that the script never gives, to see which it writes.
    async fn mark(&self, queries: &[(Vec<Check>, bool)]) {
        for key in names(queries) {
            if self.expiries.contains_key(&key) {
                let line: [&[u8]; 3] = [b"PEXPIRE", &key, UNTOUCHED.as_bytes()];
                let _there: i64 = self.redis.command(&line).await;
            }
        }
    }

    /// Notes how long the keys that were written live.
    async fn note(&mut self, queries: &[(Vec<Check>, bool)], now: u64) -> TestCaseResult {
        for key in names(queries) {
            let ttl = self.redis.ttl(&key).await;
            prop_assert_ne!(ttl, -1, "{:?} does not expire", key);
            let Ok(ttl) = u64::try_from(ttl) else {
                self.expiries.remove(&key);
                continue;
            };
            if ttl < LONGEST_TTL {
                // Some of it has passed since, which is less than one part.
                let wait = (ttl - GRACE).div_ceil(u64::from(JITTER) / 1000 + 1);
                self.expiries.insert(key, now + wait);
            }
        }
        Ok(())
    }
}

impl History {
    fn after(&self, clock: u64, wait: Wait) -> u64 {
        let wait = match wait {
            Wait::Millis(millis) => millis,
            Wait::Tenths(rule, tenths, more) => {
                let (_, window) = rule.get(&self.rules);
                i64::try_from(window.millis() / 10 * tenths).unwrap() + more
            }
        };
        if !self.expire && wait < 0 {
            return clock;
        }
        clock.saturating_add_signed(wait).max(START / 2)
    }

    fn checks(&self, asks: &[Ask]) -> Vec<Check> {
        // Who asks twice for a bucket in one query asks by one rule, so there is one size: that of
        // a new bucket is not defined otherwise.
        let burst = asks.first().map_or(0, |ask| *ask.burst.get(&self.numbers));
        asks.iter().map(|ask| self.check(ask, burst)).collect()
    }

    fn check(&self, ask: &Ask, bucket: u32) -> Check {
        let &(algorithm, window) = ask.rule.get(&self.rules);
        let mut limit = *ask.limit.get(&self.numbers);
        let mut burst = limit;
        let mut denied_hits = ask.denied_hits;
        match algorithm {
            Algorithm::FixedWindow => {}
            Algorithm::SlidingLog => limit = limit.min(MAX_LOG_LIMIT),
            Algorithm::SlidingWindow => {}
            Algorithm::TokenBucket => burst = bucket,
        }
        if algorithm != Algorithm::FixedWindow && denied_hits == DeniedHits::Charged {
            denied_hits = DeniedHits::Debt;
        }
        let mut quota = Quota::try_new(limit, window, algorithm, denied_hits).unwrap();
        if algorithm == Algorithm::TokenBucket {
            quota = quota.with_burst(burst).unwrap();
        }
        let hits = match ask.hits {
            Size::Exact(hits) => hits,
            Size::Part(part, more) => {
                Hits::Charge((u64::from(quota.burst()) / part + more).clamp(1, SATURATED))
            }
        };
        Check {
            role: ask.role,
            ..check(&ask.user.to_string(), quota, hits)
        }
    }
}

fn history(algorithms: Vec<Algorithm>) -> impl Strategy<Value = History> {
    let rule = (prop::sample::select(algorithms), window());
    (
        prop::collection::vec(rule, 1..4),
        prop::collection::vec(number(), 1..4),
        any::<bool>(),
        prop::collection::vec(step(), 1..30),
    )
        .prop_map(|(rules, numbers, expire, steps)| History {
            rules,
            numbers,
            expire,
            steps,
        })
}

fn step() -> impl Strategy<Value = Step> {
    let query = (
        prop_oneof![
            3 => prop::collection::vec(ask(), 1..2),
            2 => prop::collection::vec(ask(), 2..5),
        ],
        prop::bool::weighted(0.85),
    );
    (wait(), prop::collection::vec(query, 1..4)).prop_map(|(wait, queries)| Step { wait, queries })
}

fn window() -> impl Strategy<Value = Window> {
    (prop::sample::select(Unit::ALL.to_vec()), 1..8_u32).prop_map(|(unit, multiplier)| {
        let multiplier = if unit == Unit::Year { 1 } else { multiplier };
        Window::try_new(unit, multiplier).unwrap()
    })
}

fn number() -> impl Strategy<Value = u32> {
    prop_oneof![
        1 => Just(0_u32),
        6 => 1..12_u32,
        2 => 100..100_000_u32,
        1 => any::<u32>(),
        1 => Just(u32::MAX),
    ]
}

fn wait() -> impl Strategy<Value = Wait> {
    prop_oneof![
        4 => Just(Wait::Millis(0)),
        4 => (1..200_i64).prop_map(Wait::Millis),
        2 => (0..20_000_i64).prop_map(Wait::Millis),
        1 => (-9_000..0_i64).prop_map(Wait::Millis),
        1 => (-2_000_000..0_i64).prop_map(Wait::Millis),
        1 => (-40_000_000_000..200_000_000_000_i64).prop_map(Wait::Millis),
        4 => (any::<Index>(), 0..25_u64, -2..3_i64)
            .prop_map(|(rule, tenths, more)| Wait::Tenths(rule, tenths, more)),
    ]
}

fn ask() -> impl Strategy<Value = Ask> {
    let hits = prop_oneof![
        8 => (1..4_u64).prop_map(|hits| Size::Exact(Hits::Charge(hits))),
        3 => (1..4_u64, 0..3_u64).prop_map(|(part, more)| Size::Part(part, more)),
        1 => Just(Size::Exact(Hits::Charge(SATURATED))),
        2 => Just(Size::Exact(Hits::Peek)),
        3 => (1..6_u64).prop_map(|hits| Size::Exact(Hits::Refund(hits))),
        1 => Just(Size::Exact(Hits::Refund(SATURATED))),
    ];
    let role = prop_oneof![
        8 => Just((false, false)),
        1 => Just((true, false)),
        2 => Just((false, true)),
        1 => Just((true, true)),
    ]
    .prop_map(|(shadow, quota)| Role { shadow, quota });
    let denied_hits = prop_oneof![
        4 => Just(DeniedHits::Free),
        1 => Just(DeniedHits::Charged),
        2 => Just(DeniedHits::Debt),
    ];
    (
        0..3_u8,
        any::<(Index, Index, Index)>(),
        denied_hits,
        hits,
        role,
    )
        .prop_map(
            |(user, (rule, limit, burst), denied_hits, hits, role)| Ask {
                user,
                rule,
                limit,
                burst,
                denied_hits,
                hits,
                role,
            },
        )
}

/// Each key of some queries once.
fn names(queries: &[(Vec<Check>, bool)]) -> Vec<Vec<u8>> {
    let checks = queries.iter().flat_map(|(checks, _)| checks);
    let mut names: Vec<Vec<u8>> = checks.map(name).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// Keys live 1025 times as long as their state. A power of two more, so that Lua's numbers hold
/// the product.
const JITTER: u32 = 1_024_000;

/// What every key lives beyond its state.
const GRACE: u64 = 1_000;

/// More than the script ever gives, and less than a key that it did not write.
const LONGEST_TTL: u64 = 1 << 61;
const UNTOUCHED: &str = "8000000000000000000";
