//! Random queries against the naive store.

use proptest::prelude::*;

use super::naive::{Naive, Said, charges_anyway};
use super::{MemoryStore, check, store, sweep};
use crate::algorithm::tests::{at, quota};
use crate::model::{
    Algorithm, Check, Decision, DeniedHits, Hits, Quota, Role, RuleId, SATURATED, Source, Unit,
};

#[derive(Clone, Debug)]
struct Step {
    wait: u64,
    sweep: bool,
    enforce: bool,
    checks: Vec<Check>,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn queries_are_decided_as_if_each_were_alone(steps in history(5, 4, rules())) {
        let (store, mut naive) = (store(100_000), Naive::default());
        let mut now = START;
        for step in steps {
            now += step.wait;
            if step.sweep {
                sweep(&store, now);
            }
            let foreseen = match step.checks.as_slice() {
                [only] if step.enforce => Some(store.inspect(only, at(now))),
                _ => None,
            };
            let decision = store.decide(&step.checks, step.enforce, at(now));
            let (said, denied) = naive.decide(&step.checks, step.enforce, at(now));
            let told: Vec<Said> = decision
                .verdicts
                .iter()
                .map(|verdict| Said {
                    over: verdict.over,
                    counted: verdict.counted,
                    remaining: u64::from(verdict.remaining),
                })
                .collect();
            prop_assert_eq!(&told, &said, "{:#?}", step);
            prop_assert_eq!(decision.denied, denied);
            resets_are_true(&store, &step, &decision, now)?;
            retries_pass(&naive, &step, &decision, now)?;
            if let Some(foreseen) = foreseen
                && step.checks.iter().all(|check| !check.role.shadow)
            {
                prop_assert_eq!(&foreseen, decision.verdicts.first().unwrap());
            }
            for asked in &step.checks {
                let peek = Check { hits: Hits::Peek, ..asked.clone() };
                let counted = store.inspect(&peek, at(now)).counted;
                prop_assert_eq!(counted, naive.used(&peek, at(now)), "{:#?}", step);
            }
        }
    }

    #[test]
    fn a_full_store_may_count_too_much_and_never_too_little(
        max_keys in 1..6_u32,
        steps in history(40, 3, rules_and_a_dry_bucket())
    ) {
        let (store, mut naive) = (store(max_keys), Naive::default());
        let (mut now, mut last) = (START, None);
        for step in steps {
            now += step.wait;
            if step.sweep {
                sweep(&store, now);
            }
            let decision = store.decide(&step.checks, step.enforce, at(now));
            for (asked, verdict) in step.checks.iter().zip(&decision.verdicts) {
                if naive.is_over(asked, at(now)) {
                    // On a key's second appearance the naive store has not seen the first one
                    // if the query was denied, so it says less; it never says more.
                    prop_assert!(verdict.over, "{asked:#?} {verdict:#?}");
                }
                let ignored =
                    matches!(asked.hits, Hits::Refund(_)) && verdict.source == Source::Overflow;
                let lands = match asked.hits {
                    Hits::Peek => false,
                    Hits::Charge(_) => {
                        charges_anyway(asked) || (!verdict.over && !decision.denied)
                    }
                    Hits::Refund(_) => !ignored,
                };
                if lands {
                    naive.apply(asked, verdict.over, at(now));
                }
                let dry = asked.quota.limit() == 0;
                prop_assert!(
                    dry || verdict.over || verdict.counted >= naive.used(asked, at(now)),
                    "{asked:#?} {verdict:#?}"
                );
            }
            prop_assert!(store.stats().live_keys <= u64::from(max_keys));
            last = Some((step, decision));
        }
        // Only now, since looking ahead lets a full store drop what has expired by then.
        if let Some((step, decision)) = last {
            resets_are_true(&store, &step, &decision, now)?;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn no_rule_is_denied_by_the_keys_of_another(
        flood in 64..400_u32,
        steps in history(1, 1, rules_of_seven_seconds()),
    ) {
        // One shard of 64 keys, of which the flooded rule gets 56. The other rule has a key of each
        // algorithm.
        let (store, mut naive) = (store(64), Naive::default());
        let (mut now, mut newcomer) = (START, 0_u32);
        for step in steps {
            now += step.wait;
            for _ in 0..flood / 8 {
                newcomer += 1;
                let Some(asked) = step.checks.first() else { continue };
                let flooding = Check {
                    rule: RuleId::from_bits(1),
                    hits: Hits::Charge(1),
                    ..check(&format!("flood-{newcomer}"), asked.quota, Hits::Charge(1))
                };
                let _flooded = store.decide(&[flooding], true, at(now));
            }
            let checks: Vec<Check> = step
                .checks
                .iter()
                .map(|asked| Check { rule: RuleId::from_bits(2), ..asked.clone() })
                .collect();
            let decision = store.decide(&checks, step.enforce, at(now));
            let (said, denied) = naive.decide(&checks, step.enforce, at(now));
            prop_assert_eq!(decision.denied, denied, "{:#?}", step);
            for (verdict, said) in decision.verdicts.iter().zip(said) {
                prop_assert_eq!(verdict.over, said.over, "{:#?}", step);
                prop_assert_eq!(verdict.counted, said.counted, "{:#?}", step);
                prop_assert_eq!(verdict.source, Source::Memory);
            }
        }
    }
}

/// A query of plain checks that was denied passes as a whole after the longest wait that it was
/// told, if nothing else happens; also if it asks for one key several times.
fn retries_pass(
    naive: &Naive,
    step: &Step,
    decision: &Decision,
    now: u64,
) -> Result<(), TestCaseError> {
    let is_plain = |check: &Check| {
        // What lands although it is denied changes the counts that other verdicts reported.
        check.role == Role::default()
            && check.quota.denied_hits() == DeniedHits::Free
            && !matches!(check.hits, Hits::Refund(_))
    };
    let over = || decision.verdicts.iter().filter(|verdict| verdict.over);
    if decision.denied && step.checks.iter().all(is_plain) && over().all(|verdict| !verdict.never) {
        let wait = over().map(|verdict| verdict.reset_millis).max().unwrap();
        let (_, denied) = naive.clone().decide(&step.checks, true, at(now + wait));
        prop_assert!(!denied, "after {wait} ms: {step:#?} {decision:#?}");
    }
    Ok(())
}

/// What is over is told to wait, and the same hits pass after the wait if nothing else happens. A
/// key that a query asks for twice is told of one check at a time, so only the first part holds.
fn resets_are_true(
    store: &MemoryStore,
    step: &Step,
    decision: &Decision,
    now: u64,
) -> Result<(), TestCaseError> {
    for (asked, verdict) in step.checks.iter().zip(&decision.verdicts) {
        if !verdict.over {
            continue;
        }
        prop_assert!(verdict.reset_millis > 0, "{asked:#?} {verdict:#?}");
        let same_key = |other: &&Check| other.key == asked.key;
        let once = step.checks.iter().filter(same_key).count() == 1;
        // Several keys may share an overflow counter.
        let alone = verdict.source == Source::Memory || step.checks.len() == 1;
        if once && alone && !verdict.never {
            let then = at(now + verdict.reset_millis);
            let again = store.inspect(asked, then);
            prop_assert!(!again.over, "{asked:#?} {verdict:#?} {again:#?}");
        }
    }
    Ok(())
}

fn history(users: usize, length: usize, rules: Vec<Quota>) -> impl Strategy<Value = Vec<Step>> {
    let step = (
        wait(),
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.85),
        prop::collection::vec(any_check(users, rules), 1..=length),
    )
        .prop_map(|(wait, sweep, enforce, checks)| Step {
            wait,
            sweep,
            enforce,
            checks,
        });
    prop::collection::vec(step, 1..60)
}

fn wait() -> impl Strategy<Value = u64> {
    prop_oneof![
        6 => Just(0_u64),
        4 => 1..200_u64,
        2 => 0..3_000_u64,
        1 => 0..20_000_u64,
    ]
}

fn any_check(users: usize, rules: Vec<Quota>) -> impl Strategy<Value = Check> {
    let hits = prop_oneof![
        10 => (1..4_u64).prop_map(Hits::Charge),
        1 => prop::sample::select(vec![5, 9, SATURATED]).prop_map(Hits::Charge),
        2 => Just(Hits::Peek),
        2 => (1..4_u64).prop_map(Hits::Refund),
    ];
    let role = prop_oneof![
        8 => Just(Role::default()),
        1 => Just(Role { shadow: true, quota: false }),
        2 => Just(Role { shadow: false, quota: true }),
    ];
    (0..users, prop::sample::select(rules), hits, role).prop_map(|(user, quota, hits, role)| {
        let dry = quota.algorithm() == Algorithm::TokenBucket && quota.limit() == 0;
        let hits = if dry { Hits::Charge(1) } else { hits };
        Check {
            role,
            ..check(&format!("{user}"), quota, hits)
        }
    })
}

/// Few enough for keys to meet, and of every kind. Rules of one algorithm and window share a key,
/// as a rule does with itself after its limit has changed.
fn rules() -> Vec<Quota> {
    let mut rules = Vec::new();
    for window in [(1, Unit::Second), (7, Unit::Second)] {
        for algorithm in Algorithm::ALL {
            for denied_hits in [DeniedHits::Free, DeniedHits::Debt] {
                rules.push(quota(algorithm, 6, window, denied_hits));
            }
        }
        rules.push(quota(
            Algorithm::FixedWindow,
            4,
            window,
            DeniedHits::Charged,
        ));
        rules.push(quota(Algorithm::SlidingWindow, 0, window, DeniedHits::Free));
        rules.push(quota(Algorithm::FixedWindow, 0, window, DeniedHits::Debt));
    }
    rules
}

fn rules_of_seven_seconds() -> Vec<Quota> {
    let mut rules = rules();
    rules.retain(|quota| quota.window().millis() == 7000);
    rules
}

/// And one without refill, which is only charged: how much has come back at a rate that changed
/// meanwhile is not defined to the hit.
fn rules_and_a_dry_bucket() -> Vec<Quota> {
    let dry = quota(
        Algorithm::TokenBucket,
        0,
        (1, Unit::Second),
        DeniedHits::Debt,
    );
    let dry = dry.with_burst(6).unwrap();
    let mut rules = rules();
    rules.push(dry);
    rules
}

const START: u64 = 1_700_000_000_321;
