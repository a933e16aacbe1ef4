//! Single behaviours of the script, where a random history would hardly come.

use bytes::Bytes;
use tokio::runtime::Runtime;
use tollgate::model::{
    Algorithm, Check, Decision, DeniedHits, Hits, SATURATED, Source, Unit, Verdict,
};
use tollgate::store::MemoryStore;
use tollgate::store::redis::Call;

use super::server::{Query, Redis, name};
use super::{HOUR, START, at, check, hourly, memory, memory_time, quota};

pub(super) fn a_key_holds_little(runtime: &Runtime, redis: &Redis) {
    runtime.block_on(async {
        let most = [
            (Algorithm::FixedWindow, 11),
            (Algorithm::SlidingWindow, 9),
            (Algorithm::TokenBucket, 29),
        ];
        for (algorithm, bytes) in most {
            let check = check("ann", hourly(algorithm, 200), Hits::Charge(200));
            redis.ask(std::slice::from_ref(&check), START).await;
            let length: usize = redis.command(&[b"STRLEN", &name(&check)]).await;
            assert_eq!(length, bytes, "{algorithm}");
        }
        let window = hourly(Algorithm::SlidingWindow, u32::MAX);
        let check = check("bob", window, Hits::Charge(u64::from(u32::MAX)));
        redis.ask(std::slice::from_ref(&check), START).await;
        let later = [check.clone(), check].map(|check| Check {
            quota: quota(
                Algorithm::SlidingWindow,
                7,
                (1, Unit::Hour),
                DeniedHits::Debt,
            ),
            ..check
        });
        redis.ask(&later, START + HOUR).await;
        let length: usize = redis.command(&[b"STRLEN", &name(&later[0])]).await;
        assert_eq!(length, 8 + 11 * 5);
    });
}

pub(super) fn a_log_of_debts_stays_bounded(runtime: &Runtime, redis: &Redis) {
    let debts = quota(
        Algorithm::SlidingLog,
        5,
        (1, Unit::Second),
        DeniedHits::Debt,
    );
    let both = Both::new(runtime, redis);
    for time in 0..300 {
        both.ask(
            &[check("ann", debts, Hits::Charge(1 + time % 3))],
            START + 2 * time,
        );
    }
    let key = name(&check("ann", debts, Hits::Peek));
    let members: usize = runtime.block_on(redis.command(&[b"ZCARD", &key]));
    // As many as memory keeps, and the one on which they stand.
    assert!(members <= 65, "{members}");
    for time in (600..1_700).step_by(9) {
        both.ask(&[check("ann", debts, Hits::Peek)], START + time);
    }
}

pub(super) fn huge_charges_are_counted_apart(runtime: &Runtime, redis: &Redis) {
    for algorithm in Algorithm::ALL {
        let both = Both::new(runtime, redis);
        let debts = quota(algorithm, 5, (1, Unit::Second), DeniedHits::Debt);
        for time in 0..100 {
            let hits = if time % 7 == 0 { SATURATED } else { time };
            let charge = check("ann", debts, Hits::Charge(hits.max(1)));
            both.ask(&[charge.clone(), charge], START + 5 * time);
        }
        both.ask(&[check("ann", debts, Hits::Refund(SATURATED))], START + 500);
        both.ask(&[check("ann", debts, Hits::Refund(3))], START + 500);
        for time in (500..1_600).step_by(11) {
            both.ask(&[check("ann", debts, Hits::Peek)], START + time);
        }
    }
    // What each one counted for is also all that comes back.
    for algorithm in Algorithm::ALL {
        let both = Both::new(runtime, redis);
        let debts = quota(algorithm, 5, (1, Unit::Hour), DeniedHits::Debt);
        for time in 0..100 {
            both.ask(
                &[check("bob", debts, Hits::Charge(SATURATED))],
                START + time,
            );
        }
        for _ in 0..80 {
            both.ask(&[check("bob", debts, Hits::Refund(SATURATED))], START + 100);
        }
    }
}

pub(super) fn a_log_counts_at_an_earlier_time_what_it_counted_then(
    runtime: &Runtime,
    redis: &Redis,
) {
    let log = quota(
        Algorithm::SlidingLog,
        50,
        (1, Unit::Minute),
        DeniedHits::Free,
    );
    let both = Both::new(runtime, redis);
    for time in [0, 10_000, 20_000, 30_000] {
        both.ask(&[check("ann", log, Hits::Charge(2))], START + time);
    }
    // By then only the last counts. A refund is no charge, so the log can still go back.
    both.ask(&[check("ann", log, Hits::Refund(1))], START + 85_000);
    for time in [0, 30_000, 60_000, 75_000] {
        both.ask(&[check("ann", log, Hits::Peek)], START + time);
    }
    both.ask(&[check("ann", log, Hits::Refund(3))], START + 75_000);
    for time in [85_000, 0, 75_000, 90_001] {
        both.ask(&[check("ann", log, Hits::Charge(45))], START + time);
    }
}

pub(super) fn a_log_is_found_however_long(runtime: &Runtime, redis: &Redis) {
    let both = Both::new(runtime, redis);
    let log = hourly(Algorithm::SlidingLog, 5_000);
    for time in 0..2_000 {
        both.ask(
            &[check("ann", log, Hits::Charge(1 + time % 4))],
            START + 3 * time,
        );
    }
    for hits in (1..5_000).step_by(97) {
        both.ask(&[check("ann", log, Hits::Charge(hits))], START + 6_000);
    }
    for hits in [1, 2, 50, 700, 1] {
        // Back to an earlier time too: what was charged last still counts as the latest.
        both.ask(&[check("ann", log, Hits::Refund(hits))], START + 6_000);
        both.ask(&[check("ann", log, Hits::Charge(5_000))], START + 2_000);
    }
    for time in (0..6_000).step_by(331) {
        both.ask(&[check("ann", log, Hits::Charge(1))], START + HOUR + time);
        both.ask(
            &[check("ann", log, Hits::Charge(4_990))],
            START + HOUR + time,
        );
    }
}

pub(super) fn a_thousand_queries_in_one_call_are_decided_one_by_one(
    runtime: &Runtime,
    redis: &Redis,
) {
    let memory = memory();
    let queries: Vec<(Vec<Check>, bool)> = (0..1_000_u64)
        .map(|number| {
            let checks = (0..=number % 3).map(|more| {
                let algorithm = Algorithm::ALL[usize::try_from((number + more) % 4).unwrap()];
                let user = (number * 7 + more) % 11;
                let hits = match number % 9 {
                    0 => Hits::Peek,
                    1 => Hits::Refund(2),
                    hits => Hits::Charge(hits),
                };
                check(&user.to_string(), hourly(algorithm, 60), hits)
            });
            (checks.collect(), number % 5 > 0)
        })
        .collect();
    let decisions = runtime.block_on(redis.decide(&queries, Some(START), 0));
    assert_eq!(decisions.len(), queries.len());
    for ((checks, enforce), decision) in queries.iter().zip(&decisions) {
        assert_same(
            decision,
            &memory.decide(checks, *enforce, at(START)),
            checks,
        );
    }
    // More keys than are read at once.
    let many: Vec<(Vec<Check>, bool)> = (0..5_000)
        .map(|user| {
            let check = check(
                &format!("u{user}"),
                hourly(Algorithm::FixedWindow, 1),
                Hits::Charge(1),
            );
            (vec![check], true)
        })
        .collect();
    for denied in [false, true] {
        let decisions = runtime.block_on(redis.decide(&many, Some(START), 0));
        assert!(decisions.iter().all(|decision| decision.denied == denied));
    }
}

/// Each query asks for one bucket at two limits, as when requests override them.
pub(super) fn checks_of_one_bucket_at_two_limits_report_a_wait(runtime: &Runtime, redis: &Redis) {
    let both = Both::new(runtime, redis);
    let bucket = |user, (limit, burst, unit), denied_hits, hits| {
        let quota = quota(Algorithm::TokenBucket, limit, (1, unit), denied_hits);
        check(user, quota.with_burst(burst).unwrap(), Hits::Charge(hits))
    };
    let (free, debt) = (DeniedHits::Free, DeniedHits::Debt);
    let (second, minute) = (Unit::Second, Unit::Minute);
    let wait = |decision: &Decision| -> Vec<(bool, bool, u64)> {
        let verdicts = decision.verdicts.iter();
        let told = verdicts.map(|verdict| (verdict.over, verdict.never, verdict.reset_millis));
        told.collect()
    };

    // A debt is never charged to a bucket without refill, so its hits need no room.
    both.ask(&[bucket("ann", (1, 1, second), debt, 1)], START);
    let query = [
        bucket("other", (1, 1, second), free, 1),
        bucket("ann", (0, 1, second), debt, 1),
        bucket("ann", (1, 1, second), debt, 3),
    ];
    let told = [(false, false, 0), (true, true, 1_000), (true, false, 4_000)];
    assert_eq!(wait(&both.ask(&query, START)), told);

    both.ask(&[bucket("bob", (2, 2, second), debt, 7)], START);
    let query = [
        bucket("bob", (2, 2, second), free, 2),
        bucket("bob", (0, 2, second), debt, 1),
    ];
    let told = [(true, false, 3_500), (true, true, 1_000)];
    assert_eq!(wait(&both.ask(&query, START)), told);

    // The first check's rate has refilled nothing, so the second one is over. At its own rate there
    // is room for both.
    both.ask(&[bucket("cid", (100, 100, minute), debt, 50)], START);
    let query = [
        bucket("cid", (1, 100, minute), free, 1),
        bucket("cid", (100, 100, minute), free, 50),
    ];
    let told = [(false, false, 2_997_000), (true, false, 1)];
    assert_eq!(wait(&both.ask(&query, START + 3_000)), told);
}

pub(super) fn what_was_given_back_leaves_no_key(runtime: &Runtime, redis: &Redis) {
    let both = Both::new(runtime, redis);
    for algorithm in Algorithm::ALL {
        let [limited, none] = [3, 0].map(|limit| hourly(algorithm, limit));
        // What lands nowhere is written nowhere.
        both.ask(&[check("ann", limited, Hits::Peek)], START);
        both.ask(&[check("ann", limited, Hits::Charge(4))], START);
        both.ask(&[check("ann", limited, Hits::Refund(4))], START);
        both.ask(
            &[
                check("bob", limited, Hits::Charge(1)),
                check("ann", none, Hits::Peek),
            ],
            START,
        );
        assert!(
            runtime.block_on(both.redis.keys()).is_empty(),
            "{algorithm}"
        );
        both.ask(&[check("ann", limited, Hits::Charge(2))], START);
        both.ask(&[check("ann", limited, Hits::Charge(1))], START + 1);
        assert_eq!(runtime.block_on(both.redis.keys()).len(), 1, "{algorithm}");
        both.ask(&[check("ann", limited, Hits::Refund(3))], START + 1);
        assert!(
            runtime.block_on(both.redis.keys()).is_empty(),
            "{algorithm}"
        );
        // In one call and one query too.
        let there_and_back = [Hits::Charge(2), Hits::Refund(2)];
        both.ask(
            &there_and_back.map(|hits| check("ann", limited, hits)),
            START,
        );
        assert!(
            runtime.block_on(both.redis.keys()).is_empty(),
            "{algorithm}"
        );
    }
}

pub(super) fn keys_live_as_long_as_their_state(runtime: &Runtime, redis: &Redis) {
    let lives = [
        // At half past eight, to the end of the hour.
        (Algorithm::FixedWindow, HOUR / 2),
        // Eleven cells, and none of the first has passed.
        (Algorithm::SlidingWindow, HOUR / 10 * 11),
        (Algorithm::SlidingLog, HOUR + 1),
        // Two of six tokens to come back.
        (Algorithm::TokenBucket, HOUR / 3),
    ];
    for (jitter, user) in [(0, "ann"), (50, "bob")] {
        for (algorithm, state) in lives {
            let check = check(user, hourly(algorithm, 6), Hits::Charge(2));
            let queries = [(vec![check.clone()], true)];
            runtime.block_on(redis.decide(&queries, Some(START), jitter));
            let ttl = runtime.block_on(redis.ttl(&name(&check)));
            let longest = i64::try_from(state + state * u64::from(jitter) / 1000 + 1_000).unwrap();
            // Less what has passed since.
            assert!(
                (longest - 1_000..=longest).contains(&ttl),
                "{algorithm}: {ttl} is not just below {longest}"
            );
        }
    }
}

pub(super) fn the_servers_clock_decides(runtime: &Runtime, redis: &Redis) {
    runtime.block_on(async {
        let queries = [(
            vec![check(
                "ann",
                hourly(Algorithm::SlidingLog, 1),
                Hits::Charge(1),
            )],
            true,
        )];
        let before = server_millis(redis).await;
        let decisions = redis.decide(&queries, None, 0).await;
        let after = server_millis(redis).await;
        let now = decisions[0].verdicts[0].at.as_millis();
        assert!(
            (before..=after).contains(&now),
            "{now} is not in {before}..={after}"
        );
        assert!(redis.decide(&queries, None, 0).await[0].denied);
    });
}

pub(super) fn a_server_that_lost_the_script_says_so(runtime: &Runtime, redis: &Redis) {
    runtime.block_on(async {
        let asked = check("ann", hourly(Algorithm::FixedWindow, 1), Hits::Charge(1));
        assert!(!redis.ask(std::slice::from_ref(&asked), START).await.denied);
        let _ok: String = redis.command(&[b"SCRIPT", b"FLUSH"]).await;
        let mut call = Call::new("tollgate", Some(at(START)), 0);
        call.push(std::slice::from_ref(&asked), true).unwrap();
        let error = redis.call(&call).await.unwrap_err();
        assert!(error.to_string().contains("NOSCRIPT"), "{error}");
        redis.load().await;
        assert!(redis.ask(&[asked], START).await.denied);
    });
}

/// Two replicas, of which the other one has just begun to write the next version.
pub(super) fn a_state_of_a_newer_version_is_never_charged(runtime: &Runtime, redis: &Redis) {
    runtime.block_on(async {
        for algorithm in Algorithm::ALL {
            let [newer, own] = ["ann", "bob"].map(|user| {
                let debt = quota(algorithm, 9, (1, Unit::Hour), DeniedHits::Debt);
                check(user, debt, Hits::Charge(1))
            });
            // The same size, so that only the version tells.
            redis.ask(std::slice::from_ref(&newer), START).await;
            let key = name(&newer);
            if algorithm == Algorithm::SlidingLog {
                let members: Vec<Bytes> = redis.command(&[b"ZRANGE", &key, b"0", b"-1"]).await;
                let next = next_version(&members[0]);
                let line: [&[u8]; 4] = [b"ZADD", &key, b"1795509000001", &next];
                let _added: i64 = redis.command(&line).await;
            } else {
                let state: Bytes = redis.command(&[b"GET", &key]).await;
                let line: [&[u8]; 5] = [b"SET", &key, &next_version(&state), b"PX", b"60000"];
                let _ok: String = redis.command(&line).await;
            }
            let before: Bytes = redis.command(&[b"DUMP", &key]).await;
            for hits in [
                Hits::Charge(1),
                Hits::Peek,
                Hits::Charge(SATURATED),
                Hits::Refund(1),
            ] {
                let asked = Check {
                    hits,
                    ..newer.clone()
                };
                let free = check("bob", hourly(algorithm, 9), Hits::Charge(1));
                let decision = redis.ask(&[asked, free], START).await;
                let refund = matches!(hits, Hits::Refund(_));
                let verdict = decision.verdicts[0];
                assert_eq!(verdict.source, Source::Unreadable);
                assert_eq!((verdict.over, verdict.remaining), (!refund, 0), "{hits:?}");
                assert!((1..=HOUR * 2).contains(&verdict.reset_millis));
                // All or nothing: who asks with it is not charged either.
                assert_eq!(decision.denied, !refund);
                assert_eq!(decision.verdicts[1].counted, u64::from(refund));
                assert_eq!(redis.command::<Bytes>(&[b"DUMP", &key]).await, before);
            }
            assert!(!redis.ask(&[own], START).await.denied);
            // Nor is anything given back or landed afterwards, and nobody is told "over" by that.
            let free = Check {
                quota: hourly(algorithm, 9),
                ..newer.clone()
            };
            let afterwards = [
                Query::GiveBack(vec![free], at(START)),
                Query::Land(vec![newer], at(START)),
            ];
            for decision in redis.run(&afterwards, Some(START + 1), 0).await {
                let verdict = decision.verdicts[0];
                assert_eq!(verdict.source, Source::Unreadable);
                assert_eq!((verdict.over, verdict.remaining), (false, 0));
                assert!(!decision.denied);
            }
            assert_eq!(redis.command::<Bytes>(&[b"DUMP", &key]).await, before);
        }
    });
}

pub(super) fn a_stranger_without_expiry_is_given_one(runtime: &Runtime, redis: &Redis) {
    runtime.block_on(async {
        let asked =
            Algorithm::ALL.map(|algorithm| check("ann", hourly(algorithm, 9), Hits::Charge(1)));
        for stranger in [&b""[..], b"x", b"\x01and then something else entirely"] {
            for check in &asked {
                let key = name(check);
                let _ok: String = redis.command(&[b"SET", &key, stranger]).await;
                let decision = redis.ask(std::slice::from_ref(check), START).await;
                assert_eq!(
                    decision.verdicts[0].source,
                    Source::Unreadable,
                    "{stranger:?}"
                );
                let ttl = redis.ttl(&key).await;
                assert!((1..=3_600_000).contains(&ttl), "{ttl}");
            }
        }
        // What is no string at all is no count either, and makes room.
        for check in &asked {
            let key = name(check);
            let _deleted: i64 = redis.command(&[b"DEL", &key]).await;
            let _length: i64 = redis.command(&[b"RPUSH", &key, b"x"]).await;
            let decision = redis.ask(std::slice::from_ref(check), START).await;
            let log = check.quota.algorithm() == Algorithm::SlidingLog;
            assert_eq!(decision.denied, log);
        }
    });
}

/// Asks both stores, which say the same.
struct Both<'a> {
    runtime: &'a Runtime,
    redis: &'a Redis,
    memory: MemoryStore,
}

impl<'a> Both<'a> {
    fn new(runtime: &'a Runtime, redis: &'a Redis) -> Self {
        Self {
            runtime,
            redis,
            memory: memory(),
        }
    }

    fn ask(&self, checks: &[Check], now: u64) -> Decision {
        let now = memory_time(&self.memory, now);
        let own = self.memory.decide(checks, true, now);
        let shared = self
            .runtime
            .block_on(self.redis.ask(checks, now.as_millis()));
        assert_same(&shared, &own, checks);
        shared
    }
}

#[track_caller]
fn assert_same(shared: &Decision, own: &Decision, checks: &[Check]) {
    let told = |decision: &Decision| -> Vec<Verdict> {
        let verdicts = decision.verdicts.iter();
        verdicts
            .map(|verdict| Verdict {
                source: Source::Store,
                ..*verdict
            })
            .collect()
    };
    assert_eq!(told(shared), told(own), "{checks:#?}");
    assert_eq!(shared.denied, own.denied);
}

async fn server_millis(redis: &Redis) -> u64 {
    let (seconds, micros): (u64, u64) = redis.command(&[b"TIME"]).await;
    seconds * 1000 + micros / 1000
}

/// A state as the next version might write it.
fn next_version(state: &[u8]) -> Vec<u8> {
    let (version, rest) = state.split_first().unwrap();
    [&[version + 1], rest].concat()
}
