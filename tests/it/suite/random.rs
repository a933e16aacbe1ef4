//! Random histories: every store says what memory says at the same time.
//!
//! A store decides by its own clock; memory is told to decide at the time that the verdict names.
//! Where the parts of a query are decided at different times (Cluster, two stores), limits are over
//! windows so long that it makes no difference, and resets, which are times, are not compared.

use std::cell::Cell;

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{TestCaseResult, TestRunner};
use tokio::runtime::Runtime;
use tollgate::clock::Timestamp;
use tollgate::model::{
    Algorithm, Check, Decision, DeniedHits, Hits, Key, MAX_LOG_LIMIT, Quota, Role, SATURATED, Unit,
    Verdict, Window,
};

use super::bed::{Bed, Kind};
use super::checks::{check, long_window, memory, told};
use super::client::Client;

pub(super) fn random_queries_are_decided_as_in_memory(runtime: &Runtime, bed: &Bed) {
    let parted = matches!(bed.kind, Kind::Cluster | Kind::TwoStores);
    let client = runtime.block_on(bed.client("random", 2));
    let mut runner = TestRunner::new(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(60)
    });
    let number = Cell::new(0);
    let played = runner.run(&history(parted), |history| {
        // Each history has keys of its own.
        number.set(number.get() + 1);
        let table = Table {
            client: &client,
            parted,
            number: number.get(),
        };
        runtime.block_on(table.play(&history))
    });
    if let Err(error) = played {
        panic!("{error}");
    }
}

struct Table<'a> {
    client: &'a Client,
    parted: bool,
    number: u32,
}

impl Table<'_> {
    async fn play(&self, history: &History) -> TestCaseResult {
        let memory = memory();
        for (asks, enforce) in &history.queries {
            let mut query = history.query(asks, self.number);
            if self.parted {
                as_parts_can(&mut query);
            }
            let decision = self.client.decide(0, &query, *enforce).await;
            let at: Option<Timestamp> = decision.verdicts.iter().map(|verdict| verdict.at).max();
            let at = at.unwrap_or_default();
            if self.client.is_shared() {
                // A bucket that is full again is forgotten, there by its expiry and here by this.
                for _ in 0..memory.shards() {
                    memory.sweep_next(at);
                }
            }
            let own = memory.decide(&query, *enforce, at);
            self.compare(&query, &decision, &own)?;
        }
        Ok(())
    }

    fn compare(&self, query: &[Check], decision: &Decision, own: &Decision) -> TestCaseResult {
        prop_assert_eq!(decision.denied, own.denied, "{:#?}", query);
        let pairs = decision.verdicts.iter().zip(&own.verdicts);
        for (i, (theirs, ours)) in pairs.enumerate() {
            let same = |other: &&Check| query.get(i).is_some_and(|check| check.key == other.key);
            if self.parted && own.denied && query.iter().filter(same).count() > 1 {
                // It may have been counted before what another check of the key had charged was
                // given back.
                prop_assert_eq!(theirs.over, ours.over, "check {} of {:#?}", i, query);
            } else if self.parted {
                prop_assert_eq!(told(theirs), told(ours), "check {} of {:#?}", i, query);
            } else {
                let theirs = Verdict {
                    source: ours.source,
                    ..*theirs
                };
                prop_assert_eq!(&theirs, ours, "check {} of {:#?}", i, query);
            }
        }
        prop_assert_eq!(decision.verdicts.len(), query.len());
        Ok(())
    }
}

/// Takes out what is counted a little too high if it is in a query of parts that is denied: a
/// refund of what the same query charges, and a charge that a saturated counter does not show.
fn as_parts_can(query: &mut Vec<Check>) {
    let keys: Vec<Key> = query.iter().map(|check| check.key.clone()).collect();
    query.retain(|check| {
        let twice = keys.iter().filter(|key| **key == check.key).count() > 1;
        let saturates = check.quota.denied_hits() != DeniedHits::Free;
        match check.hits {
            Hits::Refund(_) => !twice,
            Hits::Charge(SATURATED) => !saturates,
            Hits::Charge(_) | Hits::Peek => true,
        }
    });
}

#[derive(Clone, Debug)]
struct History {
    rules: Vec<(Algorithm, Window)>,
    /// Limits that they have now and then.
    numbers: Vec<u32>,
    queries: Vec<(Vec<Ask>, bool)>,
    parted: bool,
}

#[derive(Clone, Copy, Debug)]
struct Ask {
    user: u8,
    rule: Index,
    limit: Index,
    denied_hits: DeniedHits,
    hits: Hits,
    role: Role,
}

impl History {
    fn query(&self, asks: &[Ask], number: u32) -> Vec<Check> {
        // Who asks twice for a new bucket in one query asks for one size. In parts a smaller size
        // for a while is not undone by giving back.
        let burst = match (self.parted, asks, &self.numbers[..]) {
            (false, [first, ..], numbers) => *first.limit.get(numbers),
            (_, _, numbers) => numbers.first().copied().unwrap_or(0),
        };
        let checks = asks.iter().map(|ask| self.check(ask, burst, number));
        checks.collect()
    }

    fn check(&self, ask: &Ask, burst: u32, number: u32) -> Check {
        let &(algorithm, window) = ask.rule.get(&self.rules);
        let limit = *ask.limit.get(&self.numbers);
        let limit = match algorithm {
            Algorithm::SlidingLog => limit.min(MAX_LOG_LIMIT),
            // Or a few milliseconds of a long window would refill it.
            Algorithm::TokenBucket if window.millis() >= LONG => limit.min(50),
            _ => limit,
        };
        let denied_hits = match (algorithm, ask.denied_hits) {
            (Algorithm::FixedWindow, given) => given,
            (_, DeniedHits::Charged) => DeniedHits::Debt,
            (_, given) => given,
        };
        let mut quota = Quota::try_new(limit, window, algorithm, denied_hits).unwrap();
        if algorithm == Algorithm::TokenBucket {
            quota = quota.with_burst(burst).unwrap();
        }
        Check {
            role: ask.role,
            ..check(&format!("{number}-{}", ask.user), quota, ask.hits)
        }
    }
}

fn history(parted: bool) -> impl Strategy<Value = History> {
    let algorithm = prop::sample::select(Algorithm::ALL.to_vec());
    let rules = prop::collection::vec((algorithm, window(parted)), 1..4);
    let asks = prop_oneof![
        2 => prop::collection::vec(ask(), 1..2),
        3 => prop::collection::vec(ask(), 2..6),
    ];
    let queries = prop::collection::vec((asks, prop::bool::weighted(0.85)), 1..25);
    (rules, prop::collection::vec(number(), 1..4), queries).prop_map(
        move |(rules, numbers, queries)| History {
            parted,
            rules,
            numbers,
            queries,
        },
    )
}

fn window(parted: bool) -> BoxedStrategy<Window> {
    if parted {
        let units = vec![Unit::Day, Unit::Second];
        return prop::sample::select(units).prop_map(long_window).boxed();
    }
    (prop::sample::select(Unit::ALL.to_vec()), 1..3_u32)
        .prop_map(|(unit, multiplier)| {
            let multiplier = if unit == Unit::Year { 1 } else { multiplier };
            Window::try_new(unit, multiplier).unwrap()
        })
        .boxed()
}

fn number() -> impl Strategy<Value = u32> {
    prop_oneof![
        1 => Just(0_u32),
        6 => 1..15_u32,
        2 => 100..100_000_u32,
        1 => Just(u32::MAX),
    ]
}

fn ask() -> impl Strategy<Value = Ask> {
    let hits = prop_oneof![
        8 => (1..4_u64).prop_map(Hits::Charge),
        1 => Just(Hits::Charge(SATURATED)),
        2 => Just(Hits::Peek),
        3 => (1..6_u64).prop_map(Hits::Refund),
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
    let indices = any::<(Index, Index)>();
    (0..4_u8, indices, denied_hits, hits, role).prop_map(
        |(user, (rule, limit), denied_hits, hits, role)| Ask {
            user,
            rule,
            limit,
            denied_hits,
            hits,
            role,
        },
    )
}

/// Windows of which nothing comes back meanwhile.
const LONG: u64 = 10 * Unit::Day.millis();
