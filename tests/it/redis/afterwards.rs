//! What is given back, and what lands late.
//!
//! That both do in Redis what they do in memory is `parity.rs`'s to show, and that giving back
//! leaves no trace the algorithms' own tests'.

use bytes::Bytes;
use tokio::runtime::Runtime;
use tollgate::model::{Algorithm, Check, DeniedHits, Hits, Unit};

use super::server::{Query, Redis, name};
use super::{HOUR, START, at, check, hourly, quota};

pub(super) fn a_charge_given_back_leaves_no_key(runtime: &Runtime, redis: &Redis) {
    runtime.block_on(async {
        for algorithm in Algorithm::ALL {
            let charge = vec![check("ann", hourly(algorithm, 9), Hits::Charge(3))];
            redis.ask(&charge, START).await;
            let back = [Query::GiveBack(charge.clone(), at(START))];
            let decision = &redis.run(&back, Some(START + 2), 0).await[0];
            let verdict = decision.verdicts[0];
            assert_eq!(
                (verdict.over, verdict.counted, verdict.remaining),
                (false, 0, 9)
            );
            assert!(redis.keys().await.is_empty(), "{algorithm}");
            // In the call that charged it too, and where it never was.
            let both = [
                Query::Ask(charge.clone(), true),
                Query::GiveBack(charge.clone(), at(START)),
                Query::GiveBack(charge, at(START)),
            ];
            redis.run(&both, Some(START), 0).await;
            assert!(redis.keys().await.is_empty(), "{algorithm}");
        }
    });
}

pub(super) fn what_others_charged_since_stays(runtime: &Runtime, redis: &Redis) {
    runtime.block_on(async {
        for algorithm in Algorithm::ALL {
            let rule = quota(algorithm, 60_000, (1, Unit::Minute), DeniedHits::Free);
            let own = vec![check("ann", rule, Hits::Charge(500))];
            let other = check("ann", rule, Hits::Charge(700));
            // A minute and so a cell end here.
            redis.ask(std::slice::from_ref(&other), START - 1).await;
            redis.ask(&own, START - 1).await;
            redis.ask(std::slice::from_ref(&other), START).await;
            redis.ask(&[other], START + 1).await;
            let back = [Query::GiveBack(own, at(START - 1))];
            let decision = &redis.run(&back, Some(START + 1), 0).await[0];
            let counted = match algorithm {
                Algorithm::FixedWindow => 2 * 700,
                // It was full just before, so what came back since is kept.
                Algorithm::SlidingLog | Algorithm::SlidingWindow | Algorithm::TokenBucket => {
                    3 * 700
                }
            };
            assert_eq!(decision.verdicts[0].counted, counted, "{algorithm}");
        }
    });
}

pub(super) fn a_log_rewrites_a_bounded_part_of_itself(runtime: &Runtime, redis: &Redis) {
    runtime.block_on(async {
        let log = hourly(Algorithm::SlidingLog, 100_000);
        let charge = |hits| check("ann", log, Hits::Charge(hits));
        for time in 0..=2_001 {
            redis.ask(&[charge(2 + time % 3)], START + time).await;
        }
        let now = Some(START + 2_001);
        let peek = [Query::Ask(vec![check("ann", log, Hits::Peek)], true)];
        let counted = redis.run(&peek, now, 0).await[0].verdicts[0].counted;
        let key = name(&charge(1));
        let before: Bytes = redis.command(&[b"DUMP", &key]).await;
        // One too many came since.
        let back = |hits, time| [Query::GiveBack(vec![charge(hits)], at(START + time))];
        redis.run(&back(1, 0), now, 0).await;
        assert_eq!(redis.command::<Bytes>(&[b"DUMP", &key]).await, before);
        // 3 hits, then all of it.
        for (hits, time, left) in [
            (1, 1, counted - 1),
            (9, 1, counted - 3),
            (9, 2, counted - 7),
        ] {
            let decision = &redis.run(&back(hits, time), now, 0).await[0];
            assert_eq!(decision.verdicts[0].counted, left);
        }
        // The first member is out, and what is left of those two is nothing.
        for (after, left) in [
            (0, counted - 7),
            (1, counted - 9),
            (3, counted - 9),
            (4, counted - 11),
        ] {
            let then = Some(START + HOUR + after);
            let decision = &redis.run(&peek, then, 0).await[0];
            assert_eq!(decision.verdicts[0].counted, left, "{after}");
        }
    });
}

pub(super) fn what_was_let_pass_elsewhere_lands_above_the_limit(runtime: &Runtime, redis: &Redis) {
    runtime.block_on(async {
        for algorithm in Algorithm::ALL {
            let rule = hourly(algorithm, 5);
            let charge = |hits| vec![check("ann", rule, Hits::Charge(hits))];
            redis.ask(&charge(4), START).await;
            let late = [
                Query::Land(charge(3), at(START - 1)),
                Query::Land(charge(3), at(START)),
                Query::Land(vec![check("ann", rule, Hits::Peek)], at(START)),
                Query::Ask(charge(1), true),
                Query::Land(vec![check("ann", rule, Hits::Refund(9))], at(START)),
            ];
            let decisions = redis.run(&late, Some(START), 0).await;
            let counted = decisions.iter().map(|decision| {
                let verdict = decision.verdicts[0];
                assert_eq!(verdict.over, decision.denied);
                (verdict.over, verdict.counted)
            });
            let counted: Vec<_> = counted.collect();
            let expected = [(false, 7), (false, 10), (false, 10), (true, 10), (false, 1)];
            assert_eq!(counted, expected, "{algorithm}");
        }
    });
}

pub(super) fn what_was_let_pass_in_a_window_that_is_over_is_dropped(
    runtime: &Runtime,
    redis: &Redis,
) {
    runtime.block_on(async {
        let rule = hourly(Algorithm::FixedWindow, 5);
        // The last half hour of the window before.
        for (at_millis, counted) in [(START - HOUR, 0), (START + HOUR, 0), (START - HOUR / 2, 2)] {
            let late = [Query::Land(
                vec![check("ann", rule, Hits::Charge(2))],
                at(at_millis),
            )];
            let decision = &redis.run(&late, Some(START), 0).await[0];
            assert_eq!(decision.verdicts[0].counted, counted);
        }
        // Nothing passes a bucket without refill, and its state would never fade.
        let dry = hourly(Algorithm::TokenBucket, 0).with_burst(5).unwrap();
        let late = [Query::Land(
            vec![check("bob", dry, Hits::Charge(2))],
            at(START),
        )];
        redis.run(&late, Some(START), 0).await;
        assert_eq!(redis.keys().await.len(), 1);
    });
}

pub(super) fn what_a_denied_query_charges_anyway_is_not_given_back(
    runtime: &Runtime,
    redis: &Redis,
) {
    runtime.block_on(async {
        for (denied_hits, left) in [
            (DeniedHits::Free, 0),
            (DeniedHits::Debt, 2),
            (DeniedHits::Charged, 2),
        ] {
            let rule = quota(Algorithm::FixedWindow, 5, (1, Unit::Hour), denied_hits);
            let user = denied_hits.name();
            let charge = vec![
                check(user, rule, Hits::Charge(2)),
                Check {
                    hits: Hits::Refund(1),
                    ..check("nobody", rule, Hits::Peek)
                },
            ];
            let queries = [
                Query::Ask(charge.clone(), true),
                Query::GiveBack(charge, at(START)),
            ];
            let decisions = redis.run(&queries, Some(START), 0).await;
            assert_eq!(decisions[1].verdicts[0].counted, left, "{denied_hits}");
        }
    });
}
