//! Random histories: the algorithms agree with the reference, keep their bounds, and what they
//! promise is true when acted on.

use proptest::prelude::*;

use super::reference::Reference;
use super::{ask, at, quota};
use crate::algorithm::{Counter, FixedWindow, SlidingLog, SlidingWindow, TokenBucket, capacity};
use crate::clock::Timestamp;
use crate::model::{Algorithm, DeniedHits, Hits, Quota, SATURATED, Unit, Verdict, Window};

/// One thing that happens to a counter.
#[derive(Clone, Debug)]
struct Step {
    /// Milliseconds that pass before; negative, the clock is set back.
    wait: i64,
    hits: Hits,
    /// The limit's and burst's new numbers.
    change: Option<(u32, u32)>,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn fixed_windows_keep_their_word(
        (quota, steps) in history(Algorithm::FixedWindow, &DeniedHits::ALL)
    ) {
        run(FixedWindow::default(), quota, &steps)?;
    }

    #[test]
    fn sliding_windows_keep_their_word(
        (quota, steps) in history(Algorithm::SlidingWindow, &[DeniedHits::Free, DeniedHits::Debt])
    ) {
        run(SlidingWindow::default(), quota, &steps)?;
    }

    #[test]
    fn sliding_logs_keep_their_word(
        (quota, steps) in history(Algorithm::SlidingLog, &[DeniedHits::Free, DeniedHits::Debt])
    ) {
        run(SlidingLog::new(), quota, &steps)?;
    }

    #[test]
    fn token_buckets_keep_their_word(
        (quota, steps) in history(Algorithm::TokenBucket, &[DeniedHits::Free, DeniedHits::Debt])
    ) {
        run(TokenBucket::full(&quota, at(START)), quota, &steps)?;
    }
}

proptest! {
    #[test]
    fn a_log_of_debts_needs_no_more_members_than_its_limit(
        limit in 1..6_u32,
        steps in prop::collection::vec((0..400_u64, 0..4_u64), 1..100)
    ) {
        let quota = quota(Algorithm::SlidingLog, limit, (1, Unit::Second), DeniedHits::Debt);
        let (mut short, mut model) = (SlidingLog::new(), Reference::default());
        short.set_room(usize::try_from(limit).unwrap());
        let mut now = START;
        for (wait, hits) in steps {
            now += wait;
            let hits = if hits == 0 { Hits::Peek } else { Hits::Charge(hits) };
            let over = model.is_over(&quota, hits, at(now));
            let verdict = ask(&mut short, quota, hits, at(now));
            model.apply(&quota, hits, over, at(now));
            prop_assert_eq!(verdict.over, over);
            prop_assert!(verdict.counted >= model.used(&quota, at(now)));
            prop_assert!(short.members() <= usize::try_from(limit).unwrap());
            reset_is_true((&short, &model), quota, hits, verdict, at(now))?;
        }
    }
}

/// Plays a history on a counter and on the reference.
fn run(
    mut counter: impl Counter + Clone + PartialEq + std::fmt::Debug,
    first: Quota,
    steps: &[Step],
) -> Result<(), TestCaseError> {
    let (mut quota, mut model) = (first, Reference::new(&first, at(START)));
    let mut most = first;
    let mut largest = 1;
    let mut now = START;
    for step in steps {
        now = now.saturating_add_signed(step.wait);
        if let Some((limit, burst)) = step.change {
            quota = with_numbers(quota, limit, burst);
            most = with_numbers(quota, limit.max(most.limit()), burst.max(most.burst()));
        }
        if let Hits::Charge(hits) = step.hits {
            largest = largest.max(hits);
        }
        let time = at(now);
        let before = counter.clone();
        let over = model.is_over(&quota, step.hits, time);
        let verdict = ask(&mut counter, quota, step.hits, time);
        prop_assert_eq!(verdict.over, over, "{:?} {:?}", quota, step);
        let lands = match step.hits {
            Hits::Peek => false,
            Hits::Charge(_) => !over || quota.denied_hits() != DeniedHits::Free,
            Hits::Refund(_) => true,
        };
        if lands {
            model.apply(&quota, step.hits, over, time);
        } else {
            prop_assert_eq!(&before, &counter, "what does not land writes nothing");
        }
        let used = model.used(&quota, time);
        prop_assert_eq!(verdict.counted, used, "{:?} {:?}", quota, step);
        if quota.denied_hits() == DeniedHits::Free {
            prop_assert!(used <= capacity(&most).max(u64::from(most.burst())));
        }
        let left = if over {
            0
        } else {
            capacity(&quota).saturating_sub(used)
        };
        prop_assert_eq!(u64::from(verdict.remaining), left);
        remaining_is_true(&counter, quota, verdict, time)?;
        reset_is_true((&counter, &model), quota, step.hits, verdict, time)?;
        bound_holds(&model, &most, largest)?;
    }
    Ok(())
}

/// What is left can be charged at once, and not one hit more.
fn remaining_is_true(
    counter: &(impl Counter + Clone),
    quota: Quota,
    verdict: Verdict,
    now: Timestamp,
) -> Result<(), TestCaseError> {
    if verdict.over {
        return Ok(());
    }
    let left = u64::from(verdict.remaining);
    if left > 0 {
        prop_assert!(!ask(&mut counter.clone(), quota, Hits::Charge(left), now).over);
    }
    let one_more = ask(&mut counter.clone(), quota, Hits::Charge(left + 1), now);
    prop_assert_eq!(
        one_more.over,
        quota.denied_hits() != DeniedHits::Debt || left == 0
    );
    Ok(())
}

/// After the reset, and not a millisecond earlier, the same hits pass; or if they passed,
/// everything has come back.
fn reset_is_true(
    (counter, model): (&(impl Counter + Clone), &Reference),
    quota: Quota,
    hits: Hits,
    verdict: Verdict,
    now: Timestamp,
) -> Result<(), TestCaseError> {
    let then = now + verdict.reset_millis;
    let just_before = at(then.as_millis().saturating_sub(1));
    let over_at = |time| {
        let real = ask(&mut counter.clone(), quota, hits, time).over;
        let model = model.is_over(&quota, hits, time);
        assert_eq!(real, model);
        real
    };
    let too_far = verdict.reset_millis >= crate::algorithm::LONGEST_WAIT_MILLIS;
    if verdict.over && !verdict.never {
        prop_assert!(verdict.reset_millis > 0);
        prop_assert!(over_at(just_before), "passes before its reset");
        prop_assert!(too_far || !over_at(then), "over after its reset");
        return Ok(());
    }
    if verdict.never {
        prop_assert!(over_at(at(now.as_millis() + 300 * YEAR)));
        prop_assert!(verdict.reset_millis > 0);
        if quota.algorithm() != Algorithm::FixedWindow {
            prop_assert_eq!(verdict.reset_millis, quota.window().millis());
        }
        return Ok(());
    }
    prop_assert!(too_far || model.used(&quota, then) == 0 || quota.limit() == 0);
    if quota.algorithm() == Algorithm::FixedWindow {
        prop_assert!(verdict.reset_millis > 0);
    } else if verdict.reset_millis > 0 {
        prop_assert!(model.used(&quota, just_before) > 0);
    }
    Ok(())
}

/// No interval holds more than the definition allows, by the highest numbers that were in force.
fn bound_holds(model: &Reference, most: &Quota, largest: u64) -> Result<(), TestCaseError> {
    let window = most.window().millis();
    let slack = match most.denied_hits() {
        DeniedHits::Debt => u128::from(largest - 1),
        DeniedHits::Charged | DeniedHits::Free => 0,
    };
    let charges = &model.charges;
    for (index, first) in charges.iter().enumerate() {
        let mut sum = 0_u128;
        for last in charges.iter().skip(index).filter(|charge| charge.admitted) {
            let span = u128::from(last.at - first.at);
            let bound = match most.algorithm() {
                Algorithm::FixedWindow if last.at / window != first.at / window => break,
                Algorithm::SlidingWindow | Algorithm::SlidingLog if span > u128::from(window) => {
                    break;
                }
                Algorithm::FixedWindow | Algorithm::SlidingWindow | Algorithm::SlidingLog => {
                    u128::from(most.limit())
                }
                Algorithm::TokenBucket => {
                    let refill = span * u128::from(most.limit()) / u128::from(window);
                    u128::from(most.burst()) + refill + 1
                }
            };
            sum += u128::from(last.hits);
            prop_assert!(
                sum <= bound + slack,
                "{sum} > {bound} + {slack} in {span} ms"
            );
        }
    }
    Ok(())
}

fn history(
    algorithm: Algorithm,
    denied_hits: &'static [DeniedHits],
) -> impl Strategy<Value = (Quota, Vec<Step>)> {
    let windows = prop::sample::select(vec![
        (1, Unit::Second),
        (7, Unit::Second),
        (1, Unit::Minute),
        (13, Unit::Hour),
        (1, Unit::Year),
    ]);
    (
        windows,
        prop::sample::select(denied_hits),
        numbers(algorithm),
    )
        .prop_flat_map(move |(window, denied_hits, (limit, burst))| {
            let quota = quota(algorithm, limit, window, denied_hits);
            let quota = with_numbers(quota, limit, burst);
            let steps = prop::collection::vec(step(quota), 1..40);
            (Just(quota), steps)
        })
}

fn numbers(algorithm: Algorithm) -> BoxedStrategy<(u32, u32)> {
    let large = match algorithm {
        Algorithm::SlidingLog => 100_000,
        _ => u32::MAX,
    };
    let number = || {
        prop_oneof![
            8 => 0..12_u32,
            2 => 13..2000_u32,
            1 => Just(large),
        ]
    };
    (number(), number()).boxed()
}

fn step(quota: Quota) -> impl Strategy<Value = Step> {
    let window = i64::try_from(quota.window().millis()).unwrap();
    let wait = prop_oneof![
        6 => Just(0_i64),
        3 => 1..5_i64,
        4 => 0..window / 5,
        2 => prop::sample::select(vec![window - 1, window, window + 1, window * 11 / 10]),
        3 => 0..window * 3,
        1 => (0..40_i64).prop_map(|years| years * i64::try_from(YEAR).unwrap()),
        1 => (0..window * 2).prop_map(|back| -back),
        1 => -5..0_i64,
    ];
    let near = u64::from(quota.limit().max(quota.burst()));
    let count = || {
        prop_oneof![
            8 => Just(1_u64),
            4 => 1..6_u64,
            2 => Just(near.max(1)),
            1 => Just(near + 1),
            1 => Just(SATURATED),
        ]
    };
    let hits = prop_oneof![
        12 => count().prop_map(Hits::Charge),
        2 => Just(Hits::Peek),
        2 => count().prop_map(Hits::Refund),
    ];
    let change = prop_oneof![
        12 => Just(None),
        1 => numbers(quota.algorithm()).prop_map(Some),
    ];
    (wait, hits, change).prop_map(|(wait, hits, change)| Step { wait, hits, change })
}

fn with_numbers(quota: Quota, limit: u32, burst: u32) -> Quota {
    let window = Window::try_new(quota.window().unit(), quota.window().multiplier()).unwrap();
    let plain = Quota::try_new(limit, window, quota.algorithm(), quota.denied_hits()).unwrap();
    match quota.algorithm() {
        Algorithm::TokenBucket => plain.with_burst(burst).unwrap(),
        _ => plain,
    }
}

const YEAR: u64 = Unit::Year.millis();

/// In the middle of some window of every length.
const START: u64 = 1_700_000_123_456;
