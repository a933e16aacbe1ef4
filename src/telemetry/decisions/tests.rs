use std::collections::BTreeMap;

use super::*;
use crate::event::Outcome;

fn new(shards: usize) -> Decisions {
    Decisions::new(shards, DecidedBy::Memory)
}

fn charge(decisions: &Decisions, meter: u32, label: Option<&str>, outcome: Outcome) {
    decisions.count(Decided {
        meter,
        label,
        outcome,
        by: DecidedBy::Memory,
        near_limit: 0,
        exceeded: None,
    });
}

/// Everything exported: (domain, rule, outcome) to count. Fails on a series told twice.
fn exported(decisions: &Decisions) -> BTreeMap<(String, String, &'static str), u64> {
    let mut all = BTreeMap::new();
    decisions.visit(|series| {
        let name = (
            series.domain.to_string(),
            series.rule.to_string(),
            match series.slot {
                Slot::Decided(outcome, _) => outcome.name(),
                Slot::NearLimit => "near_limit",
            },
        );
        let twice = all.insert(name, series.count);
        assert_eq!(twice, None, "{}", series.rule);
    });
    all
}

fn count_of(decisions: &Decisions, rule: &str, outcome: Outcome) -> u64 {
    exported(decisions)
        .into_iter()
        .filter(|((_, r, o), _)| r == rule && *o == outcome.name())
        .map(|(_, count)| count)
        .sum()
}

#[test]
fn counts_of_all_threads_are_summed() {
    let decisions = new(4);
    let meter = decisions.meter("shop", "user_id");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for i in 0..1_000 {
                    let outcome = Outcome::ALL[i % Outcome::ALL.len()];
                    charge(&decisions, meter, None, outcome);
                }
            });
        }
    });
    let all = exported(&decisions);
    assert_eq!(all.len(), Outcome::ALL.len());
    assert!(all.values().all(|count| *count == 1_600), "{all:?}");
}

#[test]
fn only_what_has_counted_is_exported() {
    let decisions = new(2);
    assert!(exported(&decisions).is_empty());
    let meter = decisions.meter("shop", "user_id");
    assert!(exported(&decisions).is_empty());
    charge(&decisions, meter, None, Outcome::Denied);
    let one = [(("shop".into(), "user_id".into(), "denied"), 1)];
    assert_eq!(exported(&decisions), BTreeMap::from(one));
}

#[test]
fn the_same_rule_keeps_its_number_and_its_count() {
    let decisions = new(2);
    let first = decisions.meter("shop", "user_id");
    charge(&decisions, first, None, Outcome::Allowed);
    assert_ne!(decisions.meter("shop", "plan"), first);
    assert_ne!(decisions.meter("blog", "user_id"), first);
    assert_eq!(decisions.meter("shop", "user_id"), first);
    assert_eq!(count_of(&decisions, "user_id", Outcome::Allowed), 1);
}

#[test]
fn rules_beyond_the_cap_are_summed_and_none_is_lost() {
    let decisions = new(2);
    let rules: Vec<u32> = (0..MAX_ROWS + 50)
        .map(|i| decisions.meter("d", &format!("rule{i}")))
        .collect();
    for meter in &rules {
        charge(&decisions, *meter, None, Outcome::Allowed);
    }
    let all = exported(&decisions);
    assert_eq!(all.values().sum::<u64>(), rules.len() as u64);
    // The row of (other) is one of MAX_ROWS.
    assert_eq!(count_of(&decisions, OTHER, Outcome::Allowed), 51);
    assert_eq!(decisions.overflowed(), 51);
}

#[test]
fn series_beyond_the_cap_are_summed_and_never_go_backwards() {
    let decisions = new(2);
    let rules: Vec<u32> = (0..5_000)
        .map(|i| decisions.meter("d", &format!("rule{i}")))
        .collect();
    let mut before = BTreeMap::new();
    // Later rows first, so that an earlier one gets its outcome when the cap is reached.
    for outcome in [Outcome::Denied, Outcome::Allowed, Outcome::Shadowed] {
        for meter in rules.iter().rev() {
            charge(&decisions, *meter, None, outcome);
        }
        let after = exported(&decisions);
        for (name, count) in &before {
            assert!(after.get(name) >= Some(count), "{name:?} went backwards");
        }
        before = after;
    }
    assert_eq!(before.values().sum::<u64>(), 15_000);
    assert_eq!(before.len(), MAX_SERIES + 1);
    assert_eq!(count_of(&decisions, OTHER, Outcome::Shadowed), 5_000);
    assert_eq!(decisions.overflowed(), 5_000);
}

#[test]
fn a_number_that_nobody_gave_is_counted_as_other() {
    let decisions = new(2);
    charge(&decisions, 77, None, Outcome::Denied);
    charge(&decisions, u32::MAX, Some("x"), Outcome::Denied);
    let one = [((OTHER.into(), OTHER.into(), "denied"), 2)];
    assert_eq!(exported(&decisions), BTreeMap::from(one));
    assert!(decisions.overflowed() >= 2);
}

#[test]
fn a_label_is_the_rule_of_its_series() {
    let decisions = new(2);
    let meter = decisions.meter("shop", "user_id");
    for label in ["user_id=alice", "user_id=bob", "user_id=alice"] {
        charge(&decisions, meter, Some(label), Outcome::Allowed);
    }
    let expected = [
        (("shop".into(), "user_id=alice".into(), "allowed"), 2),
        (("shop".into(), "user_id=bob".into(), "allowed"), 1),
    ];
    assert_eq!(exported(&decisions), BTreeMap::from(expected));
    assert_eq!(decisions.overflowed(), 0);
}

#[test]
fn a_label_that_reads_like_a_rule_shares_its_series() {
    let decisions = new(2);
    let plain = decisions.meter("shop", "user_id=alice");
    let detailed = decisions.meter("shop", "user_id");
    charge(&decisions, plain, None, Outcome::Allowed);
    charge(
        &decisions,
        detailed,
        Some("user_id=alice"),
        Outcome::Allowed,
    );
    let one = [(("shop".into(), "user_id=alice".into(), "allowed"), 2)];
    assert_eq!(exported(&decisions), BTreeMap::from(one));
}

#[test]
fn labels_beyond_the_cap_of_a_rule_are_counted_under_its_path() {
    let decisions = new(2);
    let meter = decisions.meter("shop", "user_id");
    for i in 0..MAX_LABELS_PER_RULE + 25 {
        charge(
            &decisions,
            meter,
            Some(&format!("user{i}")),
            Outcome::Allowed,
        );
    }
    assert_eq!(exported(&decisions).len(), MAX_LABELS_PER_RULE + 1);
    assert_eq!(count_of(&decisions, "user_id", Outcome::Allowed), 25);
    assert_eq!(decisions.overflowed(), 25);
    charge(&decisions, meter, Some("user0"), Outcome::Allowed);
    assert_eq!(count_of(&decisions, "user0", Outcome::Allowed), 2);
}

/// Somebody collects, or another thread adds a label: no cap is reached, so nobody should be alarmed.
#[test]
fn a_label_that_has_to_wait_is_counted_under_its_path_and_is_no_overflow() {
    let decisions = new(2);
    let meter = decisions.meter("shop", "user_id");
    let ask = || charge(&decisions, meter, Some("user_id=alice"), Outcome::Allowed);
    let collecting = decisions.names.lock();
    ask();
    drop(collecting);
    ask();
    let expected = [
        (("shop".into(), "user_id".into(), "allowed"), 1),
        (("shop".into(), "user_id=alice".into(), "allowed"), 1),
    ];
    assert_eq!(exported(&decisions), BTreeMap::from(expected));
    assert_eq!(decisions.overflowed(), 0);
}

#[test]
fn a_million_values_take_no_more_series_than_a_thousand_and_all_are_counted() {
    use std::fmt::Write as _;

    let decisions = new(2);
    let meter = decisions.meter("shop", "user_id");
    let mut label = String::new();
    for user in 0..1_000_000 {
        label.clear();
        write!(label, "user_id={user}").unwrap();
        charge(&decisions, meter, Some(&label), Outcome::Allowed);
    }
    let exported = exported(&decisions);
    assert_eq!(exported.len(), MAX_LABELS_PER_RULE + 1);
    assert_eq!(exported.values().sum::<u64>(), 1_000_000);
    assert_eq!(decisions.overflowed(), 999_000);
}

#[test]
fn labels_never_crowd_out_a_rule() {
    let decisions = new(1);
    for rule in 0..6 {
        let meter = decisions.meter("d", &format!("rule{rule}"));
        for i in 0..MAX_LABELS_PER_RULE {
            charge(
                &decisions,
                meter,
                Some(&format!("{rule}/{i}")),
                Outcome::Peeked,
            );
        }
    }
    assert_eq!(count_of(&decisions, "rule5", Outcome::Peeked), 1_000);
    assert_eq!(decisions.overflowed(), 1_000);
    let late = decisions.meter("d", "late");
    charge(&decisions, late, None, Outcome::Peeked);
    assert_eq!(count_of(&decisions, "late", Outcome::Peeked), 1);
    assert_eq!(count_of(&decisions, OTHER, Outcome::Peeked), 0);
}

#[test]
fn a_long_label_is_cut_between_characters() {
    let decisions = new(2);
    let meter = decisions.meter("d", "path");
    let long = format!("{}é{}", "x".repeat(MAX_LABEL_LEN - 1), "y".repeat(9_000));
    charge(&decisions, meter, Some(&long), Outcome::Allowed);
    let kept = "x".repeat(MAX_LABEL_LEN - 1);
    assert_eq!(count_of(&decisions, &kept, Outcome::Allowed), 1);
}

#[test]
fn labels_counted_by_many_threads_at_once_are_summed() {
    let decisions = new(4);
    let meter = decisions.meter("d", "user");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for i in 0..2_000 {
                    let label = format!("user{}", i % 50);
                    charge(&decisions, meter, Some(&label), Outcome::Allowed);
                }
            });
        }
    });
    let all = exported(&decisions);
    // A label that another thread was just naming counts under its rule, so none is lost.
    assert_eq!(all.values().sum::<u64>(), 8_000, "{all:?}");
    assert!((50..=51).contains(&all.len()), "{all:?}");
    let named = all.iter().filter(|((_, rule, _), _)| rule != "user");
    assert!(
        named.clone().all(|(_, count)| (1..=160).contains(count)),
        "{all:?}"
    );
    assert_eq!(named.count(), 50);
}

#[test]
fn who_decided_is_told_apart_and_those_who_seldom_do_are_counted_too() {
    let decisions = Decisions::new(2, DecidedBy::Store);
    let meter = decisions.meter("shop", "user_id");
    for by in DecidedBy::ALL {
        for outcome in Outcome::ALL {
            decisions.count(Decided {
                meter,
                label: None,
                outcome,
                by,
                near_limit: 0,
                exceeded: None,
            });
        }
    }
    let mut seen = Vec::new();
    decisions.visit(|series| seen.push((series.slot, series.count)));
    let of = |slot| seen.iter().filter(|(told, _)| *told == slot).count();
    for by in DecidedBy::ALL {
        let counted = !matches!(
            by,
            DecidedBy::Replaced | DecidedBy::Unlimited | DecidedBy::Unmatched
        );
        assert_eq!(of(Slot::Decided(Outcome::Allowed, by)), 1, "{by:?}");
        let denied = of(Slot::Decided(Outcome::Denied, by));
        assert_eq!(denied, usize::from(counted), "{by:?}");
    }
    assert_eq!(seen.iter().map(|(_, count)| count).sum::<u64>(), 45);
}

#[test]
fn hits_near_the_limit_are_no_decisions() {
    let decisions = new(2);
    let meter = decisions.meter("shop", "user_id");
    let near = Decided {
        meter,
        label: None,
        outcome: Outcome::Allowed,
        by: DecidedBy::Memory,
        near_limit: 7,
        exceeded: None,
    };
    decisions.count(near);
    decisions.count(near);
    let mut seen = Vec::new();
    decisions.visit(|series| seen.push((series.slot, series.count)));
    assert!(seen.contains(&(Slot::NearLimit, 14)), "{seen:?}");
    assert_eq!(seen.len(), 2);
    assert_eq!(decisions.overflowed(), 0);
}
