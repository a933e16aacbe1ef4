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
use tollgate::algorithm::LONGEST_WAIT_MILLIS;
use tollgate::clock::Timestamp;
use tollgate::model::{Algorithm, Decision, MAX_LOG_LIMIT, Source, Verdict};
use tollgate::store::MemoryStore;

use super::server::{Query, name};
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

/// As many histories as `PROPTEST_CASES` says, if those are more.
fn run(runtime: &Runtime, redis: &Redis, cases: u32, algorithms: Vec<Algorithm>) {
    let cases = cases.max(ProptestConfig::default().cases);
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
    queries: Vec<Asked>,
}

#[derive(Clone, Debug)]
enum Asked {
    /// What these ask, enforced or not.
    Query(Vec<Ask>, bool),
    /// What an earlier query asked is given back, as if it had been asked so much later.
    GiveBack(Index, i64),
    /// What these ask lands, let pass so much earlier.
    Land(Vec<Ask>, i64),
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
    let mut past = Vec::new();
    for step in &history.steps {
        clock = history.after(clock, step.wait);
        let now = memory_time(&memory, clock);
        for _ in 0..memory.shards() {
            memory.sweep_next(now);
        }
        if history.expire {
            table.expire(now.as_millis()).await;
        }
        let queries: Vec<Query> = step
            .queries
            .iter()
            .map(|asked| history.query(asked, &past, now))
            .collect();
        table.mark(&queries).await;
        let decisions = redis.run(&queries, Some(now.as_millis()), JITTER).await;
        for (query, shared) in queries.iter().zip(&decisions) {
            let own = by_memory(&memory, query, now);
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
            prop_assert_eq!(&told[..], &own.verdicts[..], "at {}: {:#?}", now, query);
            prop_assert_eq!(shared.denied, own.denied);
            resets_are_true(&memory, query, shared, now)?;
            past.push((query.checks().to_vec(), now));
        }
        table.note(&queries, now.as_millis()).await?;
        if history.expire {
            let keys: usize = redis.command(&[b"DBSIZE"]).await;
            prop_assert_eq!(u64::try_from(keys).unwrap(), memory.stats().live_keys);
        }
    }
    Ok(())
}

/// What is over is told to wait, and passes after the wait if nothing else happens. A key that a
/// query asks for twice is told of one check at a time, so only the first part holds of it.
fn resets_are_true(
    memory: &MemoryStore,
    query: &Query,
    decision: &Decision,
    now: Timestamp,
) -> TestCaseResult {
    let checks = query.checks();
    for (check, verdict) in checks.iter().zip(&decision.verdicts) {
        if !verdict.over {
            continue;
        }
        prop_assert!(verdict.reset_millis > 0, "{:#?} {:#?}", check, verdict);
        let same_key = |other: &&Check| other.key == check.key;
        let once = checks.iter().filter(same_key).count() == 1;
        let too_far = verdict.reset_millis >= LONGEST_WAIT_MILLIS;
        if once && !verdict.never && !too_far {
            let again = memory.inspect(check, now + verdict.reset_millis);
            prop_assert!(!again.over, "{:#?} {:#?}", check, verdict);
        }
    }
    Ok(())
}

/// What the memory store makes of it.
fn by_memory(memory: &MemoryStore, query: &Query, now: Timestamp) -> Decision {
    let change: &dyn Fn(&Check) = match query {
        Query::Ask(checks, enforce) => return memory.decide(checks, *enforce, now),
        Query::GiveBack(_, at) => &|check| {
            memory.give_back(std::slice::from_ref(check), *at, now);
        },
        Query::Land(_, at) => &|check| land(memory, check, *at, now),
    };
    // What each one leaves behind, as it is told to whoever gives nothing back.
    let verdicts = query.checks().iter().map(|check| {
        change(check);
        let nothing = Check {
            hits: Hits::Refund(0),
            ..check.clone()
        };
        memory.inspect(&nothing, now)
    });
    Decision {
        verdicts: verdicts.collect(),
        denied: false,
    }
}

/// A debt lands as what was let pass elsewhere.
fn land(memory: &MemoryStore, check: &Check, at: Timestamp, now: Timestamp) {
    if check.hits == Hits::Peek {
        return;
    }
    let quota = &check.quota;
    let debt = Quota::try_new(
        quota.limit(),
        quota.window(),
        quota.algorithm(),
        DeniedHits::Debt,
    );
    let mut debt = debt.unwrap();
    if quota.algorithm() == Algorithm::TokenBucket {
        debt = debt.with_burst(quota.burst()).unwrap();
    }
    let check = Check {
        quota: debt,
        ..check.clone()
    };
    let window = quota.window().millis();
    let peek = Check {
        hits: Hits::Peek,
        ..check.clone()
    };
    let ends = now + memory.inspect(&peek, now).reset_millis;
    let current = ends.as_millis() / window - 1;
    if quota.algorithm() != Algorithm::FixedWindow || at.as_millis() / window == current {
        let _decision = memory.decide(&[check], true, now);
    }
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
    async fn mark(&self, queries: &[Query]) {
        for key in names(queries) {
            if self.expiries.contains_key(&key) {
                let line: [&[u8]; 3] = [b"PEXPIRE", &key, UNTOUCHED.as_bytes()];
                let _there: i64 = self.redis.command(&line).await;
            }
        }
    }

    /// Notes how long the keys that were written live.
    async fn note(&mut self, queries: &[Query], now: u64) -> TestCaseResult {
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

    fn query(&self, asked: &Asked, past: &[(Vec<Check>, Timestamp)], now: Timestamp) -> Query {
        let shifted = |time: Timestamp, millis: i64| {
            Timestamp::from_millis(time.as_millis().saturating_add_signed(millis))
        };
        match asked {
            Asked::Query(asks, enforce) => Query::Ask(self.checks(asks), *enforce),
            Asked::GiveBack(which, later) => match past {
                [] => Query::GiveBack(Vec::new(), now),
                past => {
                    let (checks, at) = which.get(past);
                    Query::GiveBack(checks.clone(), shifted(*at, *later))
                }
            },
            Asked::Land(asks, earlier) => Query::Land(self.checks(asks), shifted(now, -earlier)),
        }
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
    let asks = || {
        prop_oneof![
            3 => prop::collection::vec(ask(), 1..2),
            2 => prop::collection::vec(ask(), 2..5),
        ]
    };
    let near = prop_oneof![4 => Just(0_i64), 1 => -3..4_i64, 1 => -2_000..2_000_i64];
    let asked = prop_oneof![
        6 => (asks(), prop::bool::weighted(0.85))
            .prop_map(|(asks, enforce)| Asked::Query(asks, enforce)),
        3 => (any::<Index>(), near).prop_map(|(which, later)| Asked::GiveBack(which, later)),
        1 => (asks(), 0..3_000_i64).prop_map(|(asks, earlier)| Asked::Land(asks, earlier)),
    ];
    (wait(), prop::collection::vec(asked, 1..4)).prop_map(|(wait, queries)| Step { wait, queries })
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
fn names(queries: &[Query]) -> Vec<Vec<u8>> {
    let checks = queries.iter().flat_map(Query::checks);
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
