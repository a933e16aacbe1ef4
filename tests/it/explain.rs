//! `explain` and the real decision agree, over random policies and descriptors.

use std::fmt::Write;
use std::num::NonZero;
use std::sync::Arc;

use proptest::prelude::*;
use tollgate::admin::explain::ExplainReport;
use tollgate::clock::{Clock, Timestamp};
use tollgate::config::policies::{PolicyDefaults, Source, load};
use tollgate::config::settings::{Overrides, Settings};
use tollgate::event::Silence;
use tollgate::limiter::Answer;
use tollgate::model::{DescriptorText, Query};
use tollgate::pipeline::{Caps, Pipeline};
use tollgate::policy::{Matched, Policies};
use tollgate::store::{MemoryConfig, MemoryStore, Store};

const KEYS: [&str; 3] = ["a", "b", "a*"];
const VALUES: [&str; 6] = ["", "x", "xy", "x*", "*y", "*"];

/// One descriptor: key, value, its limit if any, and what is nested in it.
#[derive(Clone, Debug)]
struct Spec(usize, usize, Option<u32>, Vec<Self>);

fn specs(depth: u32) -> BoxedStrategy<Vec<Spec>> {
    let nested = if depth == 0 {
        Just(Vec::new()).boxed()
    } else {
        specs(depth - 1)
    };
    let one = (
        0..KEYS.len(),
        0..VALUES.len(),
        prop::option::of(0..3_u32),
        nested,
    )
        .prop_map(|(key, value, limit, nested)| Spec(key, value, limit, nested));
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
    for Spec(key, value, limit, nested) in specs {
        writeln!(yaml, "{pad}- key: '{}'", KEYS[*key]).unwrap();
        writeln!(yaml, "{pad}  value: '{}'", VALUES[*value]).unwrap();
        if let Some(limit) = limit {
            writeln!(
                yaml,
                "{pad}  rate_limit: {{ unit: hour, requests_per_unit: {limit} }}"
            )
            .unwrap();
        }
        if !nested.is_empty() {
            writeln!(yaml, "{pad}  descriptors:").unwrap();
            write(yaml, nested, indent + 2);
        }
    }
}

fn compile(yaml: &str) -> Policies {
    let source = Source {
        name: "p.yaml",
        text: yaml.as_bytes(),
    };
    let compiled = load(&[source], &PolicyDefaults::default()).unwrap();
    Policies::new(compiled.domains, &Silence)
}

fn rule_of<'a>(answer: &'a Answer<'_>) -> Option<&'a str> {
    match &answer.statuses[0].matched {
        Matched::Limited(rule, ..) => Some(&rule.path),
        _ => None,
    }
}

/// What is explained of `user_id=alice`.
fn explained(settings: &str, rate_limit: &str) -> ExplainReport {
    let file = Some(("t.yaml", settings.as_bytes()));
    let loaded = Settings::load(file, std::iter::empty(), Overrides::default()).unwrap();
    let text =
        format!("domain: d\ndescriptors: [{{key: user_id, rate_limit: {{{rate_limit}}}}}]\n");
    let source = Source {
        name: "p.yaml",
        text: text.as_bytes(),
    };
    let compiled = load(&[source], &loaded.settings.policy_defaults()).unwrap();
    let policies = Policies::new(compiled.domains, &Silence);
    let descriptor = DescriptorText::parse("user_id=alice").unwrap();
    let (told, _asked) = ExplainReport::new(&policies, "d", &descriptor, 1).unwrap();
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

proptest! {
    #[test]
    fn explain_agrees_with_the_decision(
        specs in specs(2),
        asked in prop::collection::vec(
            prop::collection::vec((0..2_usize, prop::sample::select(vec!["", "x", "xy", "zy", "x*"])), 1..4),
            1..12,
        ),
    ) {
        let mut yaml = String::from("domain: d\ndescriptors:\n");
        write(&mut yaml, &specs, 2);
        if specs.is_empty() {
            yaml = "domain: d\n".into();
        }
        let pipeline = Pipeline::new(
            compile(&yaml),
            Store::Memory(Arc::new(MemoryStore::new(MemoryConfig { max_keys: NonZero::new(1000).unwrap() }))),
            Arc::new(Silence),
            Clock::manual(Timestamp::from_millis(1_000_000_000)),
            Caps { descriptors: 10, entries: 10 },
        );
        for entries in asked {
            let text: Vec<String> =
                entries.iter().map(|(key, value)| format!("{}={value}", ["a", "b"][*key])).collect();
            let text = DescriptorText::parse(&text.join(",")).unwrap();
            let snapshot = pipeline.snapshot();
            let (mut told, asked) = ExplainReport::new(snapshot.policies(), "d", &text, 1).unwrap();
            if let Some(check) = asked {
                let verdict = pipeline.store().memory().inspect(&check, pipeline.clock().now());
                told.live(&verdict, 0);
            }
            let descriptors = [text.descriptor()].into_iter().collect();
            let query = Query { domain: b"d", descriptors, hits_addend: 0, trace: None };
            let answer = snapshot.answer(&query, pipeline.store().memory()).unwrap();
            let rule = told.rule.as_ref().map(|rule| rule.path.as_str());
            prop_assert_eq!(rule, rule_of(&answer), "{}\n{}", yaml, told);
            prop_assert_eq!(told.now.as_ref().is_some_and(|now| now.over), answer.denied);
            if let (Some(now), Some(ruling)) = (&told.now, &answer.statuses[0].ruling) {
                prop_assert_eq!(now.remaining, ruling.remaining());
                prop_assert_eq!(now.never, ruling.verdict.never);
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
