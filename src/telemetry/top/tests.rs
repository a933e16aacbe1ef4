use std::time::Duration;

use super::*;
use crate::clock::{Clock, Stopwatch};
use crate::event::{Decided, DecidedBy, Events, Meters, Outcome};

const NOON: Timestamp = Timestamp::from_millis(1_795_521_600_000);

fn telemetry() -> (Telemetry, Clock) {
    let clock = Clock::manual(NOON);
    let telemetry = Telemetry::new(clock.clone(), DecidedBy::Memory).unwrap();
    (telemetry, clock)
}

fn deny(telemetry: &Telemetry, meter: u32, key: &str) {
    telemetry.decided(Decided {
        meter,
        label: None,
        outcome: Outcome::Denied,
        by: DecidedBy::Memory,
        near_limit: 0,
        exceeded: Some(key.as_bytes()),
    });
}

#[test]
fn rules_with_more_keys_than_room_are_listed_by_domain_and_rule() {
    let (telemetry, clock) = telemetry();
    let (user, path) = (
        telemetry.rule("shop", "user"),
        telemetry.rule("web", "path"),
    );
    for (meter, by) in [(user, DecidedBy::Overflow), (path, DecidedBy::Memory)] {
        telemetry.decided(Decided {
            meter,
            label: None,
            outcome: Outcome::Allowed,
            by,
            near_limit: 0,
            exceeded: None,
        });
    }
    let name = RuleName {
        domain: "shop".into(),
        rule: "user".into(),
    };
    let listed = |domain| {
        let asked = TopAsked {
            domain,
            ..TopAsked::default()
        };
        telemetry.top(asked).overflowing
    };
    assert_eq!(listed(None), std::slice::from_ref(&name));
    assert_eq!(
        (listed(Some("web")), listed(Some("shop"))),
        (vec![], vec![name.clone()])
    );
    assert_eq!(telemetry.newly_overflowing(), [name]);
    assert_eq!(telemetry.newly_overflowing(), []);
    assert_eq!(telemetry.counts().overflowed, 1);
    clock.set(NOON + 120_000);
    assert_eq!(listed(None), []);
}

/// Keys and how often, all of them.
fn top(telemetry: &Telemetry) -> Vec<(String, u64)> {
    let asked = TopAsked {
        limit: 10,
        ..TopAsked::default()
    };
    let keys = telemetry.top(asked).keys.into_iter();
    keys.map(|key| (key.key, key.times)).collect()
}

#[test]
fn those_limited_most_come_first_whichever_thread_limits_them() {
    let (telemetry, _) = telemetry();
    let user = telemetry.rule("shop", "user");
    let path = telemetry.rule("web", "path");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..5 {
                    deny(&telemetry, user, "{shop|user=bob}");
                    deny(&telemetry, user, "{shop|user=bob}");
                    deny(&telemetry, path, "{web|path=a}");
                    deny(&telemetry, user, "{shop|user=ann}");
                }
            });
        }
    });
    let told = telemetry.top(TopAsked {
        limit: 2,
        ..TopAsked::default()
    });
    assert_eq!(told.seconds, 60);
    let key = |domain: &str, rule: &str, key: &str, times| TopKey {
        domain: domain.into(),
        rule: rule.into(),
        key: key.into(),
        times,
        at_least: times,
    };
    let bob = key("shop", "user", "{shop|user=bob}", 40);
    let ann = key("shop", "user", "{shop|user=ann}", 20);
    assert_eq!(told.keys, [bob, ann]);
    for (domain, rule, expected) in [
        (Some("web"), None, 1),
        (None, Some("user"), 2),
        (Some("web"), Some("user"), 0),
    ] {
        let asked = TopAsked {
            domain,
            rule,
            limit: 10,
        };
        assert_eq!(telemetry.top(asked).keys.len(), expected, "{asked:?}");
    }
}

#[test]
fn what_was_limited_is_forgotten_after_one_to_two_minutes() {
    let (telemetry, clock) = telemetry();
    let user = telemetry.rule("shop", "user");
    deny(&telemetry, user, "a");
    clock.set(NOON + 61_000);
    deny(&telemetry, user, "b");
    deny(&telemetry, user, "b");
    let told = telemetry.top(TopAsked::default());
    assert_eq!(
        (told.seconds, told.keys.len()),
        (61, 0),
        "none was asked for"
    );
    assert_eq!(top(&telemetry), [("b".into(), 2), ("a".into(), 1)]);
    clock.set(NOON + 120_000);
    assert_eq!(top(&telemetry), [("b".into(), 2)]);
    // A clock that steps back a little forgets nothing.
    clock.set(NOON + 119_000);
    deny(&telemetry, user, "b");
    assert_eq!(top(&telemetry), [("b".into(), 3)]);
    clock.set(NOON + 240_000);
    assert_eq!(top(&telemetry), []);
    deny(&telemetry, user, "c");
    // One that steps far starts afresh.
    clock.set(NOON);
    deny(&telemetry, user, "d");
    assert_eq!(top(&telemetry), [("d".into(), 1)]);
}

#[test]
fn rules_without_a_place_share_one_until_others_have_been_quiet() {
    let (telemetry, clock) = telemetry();
    let rules: Vec<u32> = (0..MAX_RULES + 2)
        .map(|rule| telemetry.rule("shop", &format!("rule{rule}")))
        .collect();
    for rule in &rules {
        deny(&telemetry, *rule, &format!("key{rule}"));
    }
    let other = TopAsked {
        rule: Some("(other)"),
        limit: 10,
        ..TopAsked::default()
    };
    let keys = telemetry.top(other).keys;
    assert_eq!(keys.len(), 2, "{keys:?}");
    assert_eq!(&*keys[0].domain, "(other)");
    clock.set(NOON + 120_000);
    let last = rules[MAX_RULES];
    deny(&telemetry, last, "again");
    let told = telemetry.top(TopAsked {
        limit: 10,
        ..TopAsked::default()
    });
    assert_eq!(told.keys.len(), 1, "{told:?}");
    assert_eq!(told.keys[0].rule, format!("rule{MAX_RULES}").into());
}

/// What a denial costs more than a decision that passes. Prints it: `--nocapture`. The bound is
/// loose, since tests are built without optimization and machines are busy.
#[test]
#[expect(clippy::print_stdout, reason = "a measurement, for who asks for it")]
fn a_denial_costs_little_more() {
    let (telemetry, _) = telemetry();
    let user = telemetry.rule("shop", "user");
    // More keys than places, so that most of them take that of another.
    let keys: Vec<String> = (0..1_000)
        .map(|user| format!("{{shop|user_id=somebody-{user}}}:window:60s"))
        .collect();
    let time = |exceeded: bool| {
        let watch = Stopwatch::start();
        for key in keys.iter().cycle().take(ROUNDS) {
            telemetry.decided(Decided {
                meter: user,
                label: None,
                outcome: Outcome::Denied,
                by: DecidedBy::Memory,
                near_limit: 0,
                exceeded: exceeded.then_some(key.as_bytes()),
            });
        }
        watch.elapsed()
    };
    time(true);
    let rounds = u32::try_from(ROUNDS).unwrap();
    let per = |time: Duration| time / rounds;
    let fastest = |exceeded| (0..5).map(|_| per(time(exceeded))).min().unwrap();
    let (passes, denied) = (fastest(false), fastest(true));
    println!("a decision takes {passes:?}, with its key noted {denied:?}");
    assert!(denied < Duration::from_micros(20), "{denied:?}");
}

const ROUNDS: usize = 100_000;
