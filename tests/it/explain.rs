//! `explain` and the real decision agree, over random policies, settings and queries.

use std::fmt::Write;
use std::num::NonZero;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::sample::{Index, select};
use tollgate::admin::explain::{ExpectedAnswer, ExplainReport};
use tollgate::clock::{Clock, Timestamp};
use tollgate::config::policies::{Source, load};
use tollgate::config::settings::{Overrides, Settings};
use tollgate::event::Silence;
use tollgate::limiter::{Answer, Applies, OverLimit, explain};
use tollgate::model::{Check, DescriptorText, Hits, OverrideLimit, Query};
use tollgate::pipeline::{Caps, Pipeline};
use tollgate::policy::{Matched, Policies};
use tollgate::store::{MemoryConfig, MemoryStore, Store};

const KEYS: [&str; 3] = ["a", "b", "a*"];
const VALUES: [&str; 6] = ["", "x", "xy", "x*", "*y", "*"];
const CAPS: Caps = Caps {
    descriptors: 10,
    entries: 3,
};

/// One descriptor: key, value, its rule if any, and what is nested in it.
#[derive(Clone, Debug)]
struct Spec(usize, usize, Option<Rule>, Vec<Self>);

#[derive(Clone, Debug)]
struct Rule {
    /// What stands in `rate_limit`.
    limit: String,
    /// What stands beside it.
    flags: String,
}

fn rule() -> impl Strategy<Value = Rule> {
    let quota = (
        0..4_u32,
        select(vec![
            "",
            ", algorithm: fixed_window, denied_hits: charged",
            ", algorithm: sliding_window",
            ", algorithm: sliding_window, denied_hits: debt",
            ", algorithm: sliding_log",
            ", algorithm: token_bucket",
            ", algorithm: token_bucket, burst: 2",
        ]),
        select(vec![
            "",
            "",
            ", enforce_percent: 0",
            ", enforce_percent: 100",
        ]),
        prop_oneof![6 => Just(None), 1 => (1..100_u8).prop_map(Some)],
    )
        .prop_map(|(limit, how, fixed, percent)| {
            let percent = match percent {
                Some(percent) => format!(", enforce_percent: {percent}"),
                None => fixed.to_owned(),
            };
            format!("unit: hour, requests_per_unit: {limit}{how}{percent}")
        });
    let limit = prop_oneof![8 => quota, 1 => Just("unlimited: true".to_owned())];
    let names = select(vec![
        "",
        "",
        ", name: one",
        ", name: one, replaces: [{name: two}]",
        ", name: two, replaces: [{name: one}]",
    ]);
    let flags = select(vec![
        "",
        "",
        "",
        "shadow_mode: true",
        "quota_mode: true",
        "{shadow_mode: true, quota_mode: true}",
    ]);
    (limit, names, flags).prop_map(|(limit, name, flags)| Rule {
        limit: format!("{limit}{name}"),
        flags: flags.trim_matches(['{', '}']).replace(", ", "\n"),
    })
}

/// Settings that change what rules mean.
fn settings() -> impl Strategy<Value = String> {
    let percent = || prop::option::of(select(vec![0, 30, 100]));
    let shadow = || prop::option::of(any::<bool>());
    let group = |percent: Option<i32>, shadow: Option<bool>| {
        let percent = percent.map(|percent| format!("enforce_percent: {percent}"));
        let shadow = shadow.map(|shadow| format!("shadow_mode: {shadow}"));
        let parts: Vec<String> = percent.into_iter().chain(shadow).collect();
        parts.join(", ")
    };
    (
        percent(),
        shadow(),
        percent(),
        shadow(),
        select(vec!["", "denied_hits: charged", "algorithm: token_bucket"]),
    )
        .prop_map(move |(percent, shadow, own_percent, own_shadow, more)| {
            let defaults = group(percent, shadow);
            let domain = group(own_percent, own_shadow);
            let comma = if defaults.is_empty() || more.is_empty() {
                ""
            } else {
                ", "
            };
            format!("defaults: {{{defaults}{comma}{more}}}\ndomains: {{d: {{{domain}}}}}\n")
        })
}

fn specs(depth: u32) -> BoxedStrategy<Vec<Spec>> {
    let nested = if depth == 0 {
        Just(Vec::new()).boxed()
    } else {
        specs(depth - 1)
    };
    let one = (
        0..KEYS.len(),
        0..VALUES.len(),
        prop::option::of(rule()),
        nested,
    )
        .prop_map(|(key, value, rule, nested)| Spec(key, value, rule, nested));
    prop::collection::vec(one, 0..6)
        .prop_map(|mut specs| {
            let mut seen = std::collections::HashSet::new();
            specs.retain(|spec| seen.insert((spec.0, spec.1)));
            specs
        })
        .boxed()
}

fn write(yaml: &mut String, specs: &[Spec], indent: usize) {
    let pad = " ".repeat(indent);
    for Spec(key, value, rule, nested) in specs {
        writeln!(yaml, "{pad}- key: '{}'", KEYS[*key]).unwrap();
        writeln!(yaml, "{pad}  value: '{}'", VALUES[*value]).unwrap();
        if let Some(Rule { limit, flags }) = rule {
            writeln!(yaml, "{pad}  rate_limit: {{ {limit} }}").unwrap();
            for flag in flags.lines() {
                writeln!(yaml, "{pad}  {flag}").unwrap();
            }
        }
        if !nested.is_empty() {
            writeln!(yaml, "{pad}  descriptors:").unwrap();
            write(yaml, nested, indent + 2);
        }
    }
}

/// The policies that are in force with these settings.
fn compile(yaml: &str, settings: &str) -> Policies {
    let file = Some(("t.yaml", settings.as_bytes()));
    let loaded = Settings::load(file, std::iter::empty(), Overrides::default());
    let loaded = loaded.unwrap_or_else(|report| panic!("{report}\n{settings}"));
    let source = Source {
        name: "p.yaml",
        text: yaml.as_bytes(),
    };
    let compiled = load(&[source], &loaded.settings.policy_defaults());
    let compiled = compiled.unwrap_or_else(|report| panic!("{report}\n{yaml}"));
    Policies::new(compiled.domains, &Silence)
}

fn pipeline(policies: Policies) -> Pipeline {
    let max_keys = NonZero::new(1000).unwrap();
    Pipeline::new(
        policies,
        Store::Memory(Arc::new(MemoryStore::new(MemoryConfig { max_keys }))),
        Arc::new(Silence),
        Clock::manual(Timestamp::from_millis(1_000_000_000)),
        CAPS,
    )
}

fn rule_of<'a>(answer: &'a Answer<'_>) -> Option<&'a str> {
    match &answer.statuses[0].matched {
        Matched::Limited(rule, ..) | Matched::Unlimited(rule) => Some(&rule.path),
        _ => None,
    }
}

const fn code(over: bool) -> &'static str {
    if over { "OVER_LIMIT" } else { "OK" }
}

/// Whether the caller was answered what is explained.
fn agrees(expected: &ExpectedAnswer, answer: &Answer<'_>) -> bool {
    let real = (code(answer.denied), code(answer.statuses[0].is_over()));
    let told = (expected.code.as_str(), expected.status.as_str());
    real == told || (expected.percent < 100 && real == ("OK", "OK"))
}

/// What is explained of `user_id=alice`.
fn explained(settings: &str, rate_limit: &str) -> ExplainReport {
    let text =
        format!("domain: d\ndescriptors: [{{key: user_id, rate_limit: {{{rate_limit}}}}}]\n");
    let policies = compile(&text, settings);
    let descriptor = DescriptorText::parse("user_id=alice").unwrap();
    let (told, _asked) = ExplainReport::new(&policies, CAPS, "d", &descriptor, 1).unwrap();
    told
}

#[test]
fn the_key_begins_with_its_tenant_where_counters_are_in_redis() {
    let limit = "unit: minute, requests_per_unit: 1";
    for (kind, key) in [
        ("redis", "{user_id=alice}d|user_id=alice:window:60s"),
        ("memory", "{d|user_id=alice}:window:60s"),
    ] {
        let settings = format!("store: {{kind: {kind}, redis: {{colocate_by: user_id}}}}\n");
        assert_eq!(explained(&settings, limit).key.as_deref(), Some(key));
    }
}

#[test]
fn what_holds_without_the_store_is_told() {
    let limit = "unit: minute, requests_per_unit: 1";
    let deny = "defaults: {on_store_failure: deny}\n";
    let own = format!("{limit}, on_store_failure: allow");
    for (settings, rate_limit, word, note) in [
        ("", limit, Some("local"), None),
        (deny, limit, Some("deny"), Some("is over the limit")),
        (deny, &own, Some("allow"), Some("passes, uncounted")),
        (deny, "unlimited: true", None, None),
    ] {
        let report = explained(settings, rate_limit);
        let rule = report.rule.as_ref().unwrap();
        assert_eq!(rule.on_store_failure.as_deref(), word);
        let text = report.to_string();
        match note {
            Some(note) => assert!(text.contains(note), "{text}"),
            None => assert!(!text.contains("on_store_failure"), "{text}"),
        }
        // It travels.
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(
            serde_json::from_value::<ExplainReport>(json).unwrap(),
            report
        );
    }
}

#[test]
fn the_explanation_of_an_older_server_is_understood() {
    let report = explained("", "unit: minute, requests_per_unit: 1");
    let mut json = serde_json::to_value(report).unwrap();
    let rule = json["rule"].as_object_mut().unwrap();
    assert!(rule.remove("on_store_failure").is_some());
    let report: ExplainReport = serde_json::from_value(json).unwrap();
    assert_eq!(report.rule.unwrap().on_store_failure, None);
}

#[test]
fn the_answer_over_the_limit_is_the_one_that_the_caller_gets() {
    let limit = "unit: minute, requests_per_unit: 0";
    let rule = |more: &str| format!("{limit}, {more}");
    for (settings, rate_limit, line) in [
        ("", limit, "answer   OVER_LIMIT: more hits than"),
        (
            "",
            "unit: minute, requests_per_unit: 1",
            "answer   OK within the limit, over it OVER_LIMIT\n",
        ),
        (
            "",
            &rule("enforce_percent: 0"),
            "answer   OK (enforce_percent: 0): more hits than",
        ),
        (
            "",
            &rule("enforce_percent: 30"),
            "OVER_LIMIT for 30 of 100 callers, OK for the others (enforce_percent: 30)",
        ),
        (
            "defaults: {shadow_mode: true}\n",
            limit,
            "OK (shadow_mode of the domain; its status says OVER_LIMIT)",
        ),
        (
            "domains: {d: {shadow_mode: true, enforce_percent: 5}}\n",
            limit,
            "(shadow_mode of the domain, enforce_percent: 5; its status says OVER_LIMIT for 5 of 100",
        ),
        ("", "unlimited: true", "answer   OK, not counted"),
    ] {
        let report = explained(settings, rate_limit);
        let text = report.to_string();
        assert!(text.contains(line), "{line}\n{text}");
    }
}

/// Limits that come with a request are shadowed by their domain alone.
#[test]
fn a_limit_that_comes_with_the_request_is_foretold_too() {
    let limit = "{key: k, shadow_mode: true, rate_limit: {unit: day, requests_per_unit: 1}}";
    let yaml = format!("domain: d\ndescriptors: [{limit}]\n");
    for (settings, denied) in [
        ("", true),
        ("defaults: {enforce_percent: 0}", true),
        ("domains: {d: {shadow_mode: true}}", false),
    ] {
        let pipeline = pipeline(compile(&yaml, settings));
        let text = DescriptorText::parse("k=x").unwrap();
        let mut descriptor = text.descriptor();
        descriptor.limit = Some(OverrideLimit {
            requests_per_unit: 0,
            unit: 1,
            unit_multiplier: None,
        });
        let snapshot = pipeline.snapshot();
        let domain = snapshot.policies().domain(b"d").unwrap();
        let explained = explain(domain, &descriptor, Hits::Charge(1)).unwrap();
        let Applies::Limit { rule, .. } = explained.applies else {
            panic!("{explained:?}");
        };
        let foretold = OverLimit::new(domain, rule);
        let query = Query {
            domain: b"d",
            descriptors: [descriptor].into_iter().collect(),
            hits_addend: 0,
            trace: None,
        };
        let answer = snapshot.answer(&query, pipeline.store().memory()).unwrap();
        assert_eq!(answer.denied, denied, "{settings}");
        assert_eq!(foretold.denied_percent, if denied { 100 } else { 0 });
        assert_eq!(foretold.status_over_percent, 100);
        assert!(answer.statuses[0].is_over());
    }
}

#[derive(Clone, Debug)]
struct Asked {
    domain: &'static str,
    entries: Vec<(usize, &'static str)>,
    hits: u64,
    wait_millis: u64,
    again: Index,
}

fn asked() -> impl Strategy<Value = Asked> {
    let value = select(vec!["", "x", "xy", "zy", "x*"]);
    (
        select(vec!["d", "d", "d", "d", "d", "d", "d", "e", ""]),
        prop::collection::vec((0..2_usize, value), 1..5),
        select(vec![0, 1, 1, 1, 2, 5]),
        prop_oneof![3 => Just(0_u64), 1 => 0..4_000_000_u64],
        any::<Index>(),
    )
        .prop_map(|(domain, entries, hits, wait_millis, again)| Asked {
            domain,
            entries,
            hits,
            wait_millis,
            again,
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn explain_agrees_with_the_decision(
        specs in specs(2),
        settings in settings(),
        asked in prop::collection::vec(asked(), 1..16),
    ) {
        let mut yaml = String::from("domain: d\ndescriptors:\n");
        write(&mut yaml, &specs, 2);
        if specs.is_empty() {
            yaml = "domain: d\n".into();
        }
        let pipeline = pipeline(compile(&yaml, &settings));
        let memory = pipeline.store().memory();
        // Some are asked more than once, so that limits are reached.
        let asked = asked.iter().chain(asked.iter().map(|one| one.again.get(&asked)));
        for Asked { domain, entries, hits, wait_millis, .. } in asked {
            let now = pipeline.clock().now() + *wait_millis;
            pipeline.clock().set(now);
            let text: Vec<String> =
                entries.iter().map(|(key, value)| format!("{}={value}", ["a", "b"][*key])).collect();
            let text = DescriptorText::parse(&text.join(",")).unwrap();
            let snapshot = pipeline.snapshot();
            let told = ExplainReport::new(snapshot.policies(), CAPS, domain, &text, *hits);
            let mut descriptor = text.descriptor();
            descriptor.hits_addend = Some(*hits);
            let descriptors = [descriptor].into_iter().collect();
            let query = Query { domain: domain.as_bytes(), descriptors, hits_addend: 0, trace: None };
            let (mut told, check) = match told {
                Ok(told) => told,
                Err(refusal) => {
                    prop_assert_eq!(snapshot.answer(&query, memory).unwrap_err(), refusal);
                    continue;
                }
            };
            // What the files alone say is said before anything is counted.
            let from_files = told.clone();
            let mut counted = 0;
            if let Some(check) = check {
                let peek = Check { hits: Hits::Peek, ..check.clone() };
                counted = memory.inspect(&peek, now).counted;
                told.live(&check, &memory.inspect(&check, now), counted);
            }
            let answer = snapshot.answer(&query, memory).unwrap();
            let rule = told.rule.as_ref().map(|rule| rule.path.as_str());
            prop_assert_eq!(rule, rule_of(&answer), "{}\n{}", yaml, told);
            let context = format!("{settings}{yaml}\n{told}\n{answer:?}");
            match (&told.now, &answer.statuses[0].ruling) {
                (None, None) => {
                    prop_assert!(!answer.denied && !answer.statuses[0].is_over(), "{}", context);
                    prop_assert!(told.over_limit.is_none());
                    let says_ok = told.to_string().contains("answer   OK, not counted");
                    prop_assert!(says_ok, "{}", context);
                }
                (Some(now), Some(ruling)) => {
                    let expected = now.answer.as_ref().unwrap();
                    prop_assert!(agrees(expected, &answer), "{}", context);
                    prop_assert_eq!(now.over, ruling.verdict.over, "{}", context);
                    prop_assert_eq!(now.remaining, ruling.remaining(), "{}", context);
                    prop_assert_eq!(now.never, ruling.verdict.never, "{}", context);
                    prop_assert_eq!(now.source.as_str(), ruling.verdict.source.name());
                    // A query that is only told leaves nothing behind, as one that is denied.
                    prop_assert_eq!(now.reset_ms, ruling.verdict.reset_millis, "{}", context);
                    prop_assert!(!now.over || now.reset_ms > 0, "{}", context);
                    prop_assert_eq!(now.counted, counted);
                    prop_assert!(!from_files.never || ruling.verdict.over, "{}", context);
                    let over = from_files.over_limit.as_ref().unwrap();
                    prop_assert!(!ruling.verdict.over || agrees(over, &answer), "{}", context);
                }
                _ => prop_assert!(false, "{}", context),
            }
            // The walk that is told ends where the decision's does: one chosen candidate a level.
            for level in &told.levels {
                let chosen = level.candidates.iter().filter(|candidate| candidate.chosen).count();
                prop_assert!(chosen <= 1);
                prop_assert_eq!(level.candidates.first().is_some_and(|first| first.chosen), chosen == 1);
            }
            let complete = told.levels.len() == entries.len()
                && told.levels.iter().all(|level| level.candidates.iter().any(|one| one.chosen));
            prop_assert!(complete || rule.is_none());
        }
    }
}
