//! What a policy means once it is read.

use super::fields::FIELDS;
use super::{Compiled, DomainDefaults, PolicyDefaults, Source, load, policy_table, schema};
use crate::config::Report;
use crate::model::{Algorithm, DeniedHits, OnStoreFailure, Quota, Unit, Value, Window};
use crate::policy::{DescriptorSpec, Limit, Rule};

#[test]
fn a_whole_rule_is_read() {
    let rule = rule(
        "unit: MiNuTe, unit_multiplier: 5, requests_per_unit: 1_000, algorithm: token_bucket, \
         burst: 0x10, denied_hits: debt, enforce_percent: 50, name: n, replaces: [{name: m}]",
    );
    let window = Window::try_new(Unit::Minute, 5).unwrap();
    let quota = Quota::try_new(1000, window, Algorithm::TokenBucket, DeniedHits::Debt)
        .and_then(|quota| quota.with_burst(16))
        .unwrap();
    assert_eq!(rule.limit, Limit::Quota(quota));
    assert_eq!(rule.enforce_percent, 50);
    assert_eq!(rule.name.as_deref(), Some("n"));
    assert_eq!(rule.replaces, ["m"]);
    assert_eq!((&*rule.domain, rule.path.as_str()), ("d", "k"));
    let origin = &rule.origin;
    assert_eq!(
        (&*origin.file, origin.line, origin.column),
        ("p.yaml", 3, 5)
    );
}

#[test]
fn texts_keep_their_source_text() {
    for text in [
        "0644",
        "yes",
        "1.0",
        "2024-01-31",
        "+7",
        "0x10",
        "tRue",
        "=",
        "1_0",
    ] {
        let spec = one(&format!("key: {text}\n    value: {text}"));
        assert_eq!(
            (spec.key.as_str(), spec.value.as_deref()),
            (text, Some(text))
        );
    }
    let block = one("key: >-\n      a\n      b\n    value: |\n      c\n      d\n");
    assert_eq!(
        (block.key.as_str(), block.value.as_deref()),
        ("a b", Some("c\nd\n"))
    );
}

#[test]
fn nothing_is_no_text() {
    for text in ["", "~", "null", "Null", "NULL", "\"\"", "''"] {
        assert_eq!(
            one(&format!("key: k\n    value: {text}")).value,
            None,
            "{text}"
        );
    }
    assert_eq!(one("key: k\n    value: \"~\"").value.as_deref(), Some("~"));
    assert_eq!(
        one("key: k\n    value: !!str null").value.as_deref(),
        Some("null")
    );
}

#[test]
fn null_is_as_good_as_nothing_written() {
    let spec =
        one("key: k\n    rate_limit: ~\n    descriptors:\n    metadata: null\n    shadow_mode: ~");
    assert!(spec.rule.is_none() && spec.descriptors.is_empty());
    assert_eq!(
        rule("unit: day, requests_per_unit: 1, replaces: ~, name: ~").name,
        None
    );
    assert_eq!(
        load_text("domain: d\n").unwrap().domains[0]
            .descriptors
            .len(),
        0
    );
}

#[test]
fn booleans_are_those_of_yaml_1_1_without_quotes() {
    for (text, expected) in [
        ("yes", true),
        ("On", true),
        ("y", true),
        ("off", false),
        ("NO", false),
    ] {
        assert_eq!(
            one(&format!("key: k\n    value_to_metric: {text}")).value_to_metric,
            expected
        );
    }
    assert!(load_text("domain: d\ndescriptors: [{key: k, shadow_mode: 'yes'}]").is_err());
}

#[test]
fn the_form_of_the_text_does_not_matter() {
    let yaml = load_text("domain: d\ndescriptors:\n  - key: k\n").unwrap();
    for text in [
        "domain: d\r\ndescriptors:\r\n  - key: k\r\n",
        "\u{feff}domain: d\ndescriptors:\n  - key: k\n",
        "{\"domain\": \"d\", \"descriptors\": [{\"key\": \"k\"}]}",
        "---\ndomain: d\ndescriptors: [{key: k}]\n...\n",
        "domain: d\ndescriptors: [{key: k}]\n---\n# nothing more\n",
    ] {
        let other = load_text(text).unwrap();
        let same = |a: &Compiled| {
            let domain = &a.domains[0];
            (domain.name.clone(), domain.descriptors[0].key.clone())
        };
        assert_eq!(same(&other), same(&yaml), "{text:?}");
        assert!(other.warnings.is_empty());
    }
}

#[test]
fn merge_keys_act_in_the_order_they_are_written() {
    let text = "domain: d\ndescriptors:\n  - &a {key: a, value: v, rate_limit: {unit: day, \
                requests_per_unit: 1}}\n  - {<<: *a, value: w}\n  - {key: b, <<: *a, value: x}\n";
    let compiled = load_text(text).unwrap();
    let names: Vec<(&str, &str)> = compiled.domains[0]
        .descriptors
        .iter()
        .map(|spec| (spec.key.as_str(), spec.value.as_deref().unwrap()))
        .collect();
    assert_eq!(names, [("a", "v"), ("a", "w"), ("a", "x")]);
    // The reference lets a merge overwrite what stands before it; that is worth a warning.
    assert_eq!(compiled.warnings.warnings(), 1);
    assert!(compiled.warnings.to_string().contains("overwrites \"key\""));
}

#[test]
fn of_several_maps_to_merge_the_first_wins() {
    let spec = one("<<: [{key: one}, {key: two, value: v}]\n    value_to_metric: true");
    assert_eq!(
        (spec.key.as_str(), spec.value.as_deref()),
        ("one", Some("v"))
    );
    let quoted = load_text("domain: d\ndescriptors: [{\"<<\": {key: k}}]").unwrap_err();
    assert!(
        quoted.to_string().contains("unknown key \"<<\""),
        "{quoted}"
    );
}

#[test]
fn a_limit_completes_one_that_is_merged_in_around_it() {
    let text = "domain: d\ndescriptors:\n  - &a {key: a, rate_limit: {name: n, unit: day, \
                requests_per_unit: 1}}\n  - {<<: *a, key: b, rate_limit: {requests_per_unit: 7}}\n  \
                - {<<: *a, key: c, rate_limit: ~}\n";
    let compiled = load_text(text).unwrap();
    let [_, b, c] = compiled.domains[0].descriptors.as_slice() else {
        panic!("three descriptors");
    };
    let rule = b.rule.as_ref().unwrap();
    assert_eq!(rule.name.as_deref(), Some("n"));
    assert_eq!(rule.limit, Limit::Quota(per_day(7)));
    assert!(c.rule.is_none());
    assert!(
        compiled
            .warnings
            .to_string()
            .contains("keeps \"name\", \"unit\"")
    );
}

#[test]
fn duplicates_are_told_by_key_and_value_apart() {
    let text = "domain: d\ndescriptors: [{key: a, value: b_c}, {key: a_b, value: c}, {key: a}]";
    assert_eq!(load_text(text).unwrap().domains[0].descriptors.len(), 3);
    assert!(load_text("domain: d\ndescriptors: [{key: a, value: ''}, {key: a}]").is_err());
}

#[test]
fn paths_name_every_level() {
    let text = "domain: d\ndescriptors:\n  - key: plan\n    value: gold\n    descriptors:\n      - key: \
                user_id\n        rate_limit: {unlimited: true}\n";
    let compiled = load_text(text).unwrap();
    let inner = &compiled.domains[0].descriptors[0].descriptors[0];
    assert_eq!(inner.rule.as_ref().unwrap().path, "plan=gold,user_id");
}

#[test]
fn files_of_one_domain_are_joined_when_that_is_set() {
    let defaults = PolicyDefaults {
        merge_domains: true,
        ..PolicyDefaults::default()
    };
    let sources = ["a", "b", "c"].map(|name| Source {
        name,
        text: match name {
            "a" => b"domain: d\ndescriptors: [{key: x}]",
            "b" => b"domain: e\ndescriptors: [{key: y}]",
            _ => b"domain: d\ndescriptors: [{key: z}]",
        },
    });
    let domains = load(&sources, &defaults).unwrap().domains;
    let shape: Vec<(&str, Vec<&str>)> = domains
        .iter()
        .map(|d| {
            (
                d.name.as_str(),
                d.descriptors.iter().map(|s| s.key.as_str()).collect(),
            )
        })
        .collect();
    assert_eq!(shape, [("d", vec!["x", "z"]), ("e", vec!["y"])]);

    let twice = [
        sources[0],
        Source {
            name: "z",
            ..sources[0]
        },
    ];
    let report = load(&twice, &defaults).unwrap_err().to_string();
    assert!(
        report.starts_with(
            "z:2:15: descriptors[0]: duplicate descriptor composite key 'd.x' (first in a:2:15)"
        ),
        "{report}"
    );
}

#[test]
fn defaults_hold_where_a_rule_says_nothing() {
    let defaults = PolicyDefaults {
        denied_hits: DeniedHits::Charged,
        algorithm: Algorithm::SlidingWindow,
        enforce_percent: 80,
        domains: [(
            "d".to_owned(),
            DomainDefaults {
                enforce_percent: Some(20),
                shadow_mode: Some(true),
            },
        )]
        .into(),
        ..PolicyDefaults::default()
    };
    let text = "descriptors:\n- {key: a, rate_limit: {unit: day, requests_per_unit: 1}}\n- {key: b, \
                rate_limit: {unit: day, requests_per_unit: 1, algorithm: fixed_window, \
                enforce_percent: 100}}\n";
    let (d, e) = (format!("domain: d\n{text}"), format!("domain: e\n{text}"));
    let sources = [("d", &d), ("e", &e)].map(|(name, text)| Source {
        name,
        text: text.as_bytes(),
    });
    let domains = load(&sources, &defaults).unwrap().domains;
    let seen: Vec<(bool, u8, Algorithm, DeniedHits)> = domains
        .iter()
        .flat_map(|domain| domain.descriptors.iter().map(move |spec| (domain, spec)))
        .map(|(domain, spec)| {
            let rule = spec.rule.as_ref().unwrap();
            let Limit::Quota(quota) = rule.limit else {
                panic!("a quota");
            };
            let percent = rule.enforce_percent;
            (
                domain.shadow_mode,
                percent,
                quota.algorithm(),
                quota.denied_hits(),
            )
        })
        .collect();
    let (sliding, fixed) = (Algorithm::SlidingWindow, Algorithm::FixedWindow);
    // As a default, `charged` is for fixed windows only.
    assert_eq!(
        seen,
        [
            (true, 20, sliding, DeniedHits::Free),
            (true, 100, fixed, DeniedHits::Charged),
            (false, 80, sliding, DeniedHits::Free),
            (false, 100, fixed, DeniedHits::Charged),
        ]
    );
}

#[test]
fn what_holds_without_the_store_is_the_rules_or_the_default() {
    let defaults = PolicyDefaults {
        on_store_failure: OnStoreFailure::Allow,
        colocate_by: Some(b"user_id".as_slice().into()),
        ..PolicyDefaults::default()
    };
    let mut text = "domain: d\ndescriptors: [{key: none, rate_limit: {unit: day, \
                    requests_per_unit: 1}}"
        .to_owned();
    for word in ["local", "allow", "deny", "error"] {
        text.push_str(&format!(
            ", {{key: {word}, rate_limit: {{unit: day, requests_per_unit: 1, on_store_failure: \
             {word}}}}}"
        ));
    }
    text.push(']');
    let source = Source {
        name: "p",
        text: text.as_bytes(),
    };
    let domain = load(&[source], &defaults).unwrap().domains.remove(0);
    let seen: Vec<(&str, OnStoreFailure)> = domain
        .descriptors
        .iter()
        .map(|spec| {
            let rule = spec.rule.as_ref().unwrap();
            (spec.key.as_str(), rule.on_store_failure)
        })
        .collect();
    assert_eq!(
        seen,
        [
            ("none", OnStoreFailure::Allow),
            ("local", OnStoreFailure::Local),
            ("allow", OnStoreFailure::Allow),
            ("deny", OnStoreFailure::Deny),
            ("error", OnStoreFailure::Error),
        ]
    );
    assert_eq!(domain.override_on_store_failure, OnStoreFailure::Allow);
    assert_eq!(domain.colocate_by.as_deref(), Some(b"user_id".as_slice()));
}

#[test]
fn a_domain_in_the_settings_that_no_policy_has_is_told() {
    let defaults = PolicyDefaults {
        domains: [("shpo".to_owned(), DomainDefaults::default())].into(),
        ..PolicyDefaults::default()
    };
    let source = Source {
        name: "p",
        text: b"domain: shop",
    };
    assert_eq!(
        load(&[source], &defaults).unwrap().warnings.to_string(),
        "settings: warning: domains.shpo: no policy has this domain (did you mean \"shop\"?)"
    );
}

#[test]
fn metadata_has_the_types_of_yaml_1_1_and_the_keys_that_were_written() {
    let spec = one(
        "key: k\n    rate_limit: {unlimited: true}\n    metadata: {n: 0x10, f: 1.5, b: yes, z: ~, \
         t: \"5\", d: 2024-01-31, y: {y: 2, \"n\": [1, off]}}",
    );
    let text = |text: &str| Value::String(text.to_owned());
    let map = |entries: Vec<(&str, Value)>| {
        Value::Map(
            entries
                .into_iter()
                .map(|(k, v)| (k.to_owned(), v))
                .collect(),
        )
    };
    let list = Value::List(vec![Value::Number(1.0), Value::Bool(false)]);
    assert_eq!(
        spec.rule.unwrap().metadata,
        Some(map(vec![
            ("n", Value::Number(16.0)),
            ("f", Value::Number(1.5)),
            ("b", Value::Bool(true)),
            ("z", Value::Null),
            ("t", text("5")),
            ("d", text("2024-01-31")),
            ("y", map(vec![("y", Value::Number(2.0)), ("n", list)])),
        ]))
    );
}

#[test]
fn metadata_that_envoy_could_not_read_is_a_problem() {
    let nested = |levels: usize| {
        format!(
            "domain: d\ndescriptors: [{{key: k, rate_limit: {{unlimited: true}}, metadata: {}{}}}]",
            "{a: ".repeat(levels),
            "}".repeat(levels)
        )
    };
    assert!(load_text(&nested(16)).is_ok());
    let report = load_text(&nested(17)).unwrap_err().to_string();
    assert!(
        report.contains("nested more than 16 levels deep"),
        "{report}"
    );
}

#[test]
fn every_problem_is_told_at_once_in_the_order_of_the_files() {
    let sources = [("b", "domain: d\nx: 1\ny: 2"), ("a", "z: ]")].map(|(name, text)| Source {
        name,
        text: text.as_bytes(),
    });
    let report = load(&sources, &PolicyDefaults::default()).unwrap_err();
    let places: Vec<(&str, u32)> = report
        .problems()
        .iter()
        .map(|p| (&*p.file, p.line))
        .collect();
    assert_eq!(places, [("a", 1), ("b", 2), ("b", 3)]);
}

#[test]
fn no_files_are_no_rules() {
    assert!(
        load(&[], &PolicyDefaults::default())
            .unwrap()
            .domains
            .is_empty()
    );
}

#[test]
fn every_field_of_the_table_can_be_written() {
    let text = "domain: d\ndescriptors:\n  - key: a*\n    value: v\n    rate_limit:\n      \
                requests_per_unit: 1\n      unit: day\n      unit_multiplier: 1\n      algorithm: \
                token_bucket\n      burst: 1\n      denied_hits: free\n      enforce_percent: 1\n      \
                on_store_failure: local\n      unlimited: false\n      name: n\n      replaces: [{name: a}]\n    descriptors: []\n    \
                shadow_mode: true\n    quota_mode: true\n    share_threshold: true\n    \
                detailed_metric: true\n    value_to_metric: true\n    metadata: {a: b}\n  - key: b\n    \
                rate_limit: {name: a, unlimited: true}\n";
    let compiled = load_text(text).unwrap();
    assert!(compiled.warnings.is_empty(), "{}", compiled.warnings);
    for field in FIELDS {
        assert!(text.contains(&format!("{}:", field.name)), "{}", field.name);
    }
}

#[test]
fn the_schema_has_every_field() {
    let schema = schema();
    for field in FIELDS {
        let level = match field.level.place() {
            "at the top of the file" => &schema,
            "inside rate_limit" => &schema["$defs"]["rate_limit"],
            "in an item of replaces" => &schema["$defs"]["replaces"],
            _ => &schema["$defs"]["descriptor"],
        };
        let property = &level["properties"][field.name];
        assert_eq!(property["description"], field.doc, "{}", field.name);
        assert_eq!(level["additionalProperties"], false);
        // Null is as good as not written, for what may be left out.
        let is_in = |list: &serde_json::Value, null: serde_json::Value| {
            list.as_array().is_some_and(|list| list.contains(&null))
        };
        let null_too = is_in(&property["type"], "null".into())
            || is_in(&property["enum"], serde_json::Value::Null)
            || is_in(&property["anyOf"], serde_json::json!({ "type": "null" }));
        assert_eq!(null_too, !field.default.is_empty(), "{}", field.name);
    }
    assert_eq!(schema["properties"]["domain"]["minLength"], 1);
    assert_eq!(schema["required"], serde_json::json!(["domain"]));
    let unit = &schema["$defs"]["rate_limit"]["properties"]["unit"]["anyOf"];
    assert_eq!(unit[0]["enum"][0], "second");
    assert!(
        unit[1]["pattern"]
            .as_str()
            .unwrap()
            .starts_with("^([sS][eE]")
    );
}

#[test]
fn the_table_has_a_line_for_every_field() {
    let table = policy_table();
    assert_eq!(table.lines().count(), FIELDS.len() + 2);
    assert!(table.contains(
        "| `rate_limit.unit` | second, minute, hour, day, week, month, year | required |"
    ));
    assert!(table.contains("| `descriptors[].key` | text | required |"));
}

fn per_day(limit: u32) -> Quota {
    let window = Window::try_new(Unit::Day, 1).unwrap();
    Quota::fixed(limit, window, DeniedHits::Free)
}

/// The rule whose `rate_limit` has these fields.
fn rule(fields: &str) -> Rule {
    one(&format!("key: k\n    rate_limit: {{{fields}}}"))
        .rule
        .unwrap()
}

/// The descriptor that is written so.
fn one(descriptor: &str) -> DescriptorSpec {
    let text = format!("domain: d\ndescriptors:\n  - {descriptor}\n");
    let compiled = load_text(&text).unwrap_or_else(|report| panic!("{text}: {report}"));
    compiled.domains[0].descriptors[0].clone()
}

fn load_text(text: &str) -> Result<Compiled, Report> {
    let source = Source {
        name: "p.yaml",
        text: text.as_bytes(),
    };
    load(&[source], &PolicyDefaults::default())
}
