//! Whatever is thrown at it: no panic, bounded time and memory, and serde_yaml's reading of texts.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde::Deserialize;

use super::{Compiled, MAX_FILE_BYTES, PolicyDefaults, Source, load};
use crate::config::Report;
use crate::policy::DescriptorSpec;

#[test]
fn random_bytes_are_refused_or_read() {
    let mut runner = runner(10_000);
    let bytes = proptest::collection::vec(any::<u8>(), 0..200);
    runner
        .run(&bytes, |bytes| {
            drop(check(&bytes));
            Ok(())
        })
        .unwrap();
}

#[test]
fn random_yaml_characters_are_refused_or_read() {
    let mut runner = runner(10_000);
    let text = proptest::collection::vec(
        prop::sample::select(vec![
            "domain",
            ":",
            " ",
            "\n",
            "- ",
            "  ",
            "descriptors",
            "key",
            "a",
            "*",
            "&a ",
            "*a",
            "<<",
            "{",
            "}",
            "[",
            "]",
            ",",
            "\"",
            "'",
            "|",
            ">",
            "#",
            "!",
            "!!str ",
            "%",
            "@",
            "`",
            "\t",
            "---\n",
            "...\n",
            "? ",
            "~",
            "0x1",
            "\r\n",
            "\u{85}",
            "\u{feff}",
            "ü",
            "\0",
        ]),
        0..60,
    );
    runner
        .run(&text, |parts| {
            drop(check(parts.concat().as_bytes()));
            Ok(())
        })
        .unwrap();
}

#[test]
fn mutated_policies_are_refused_or_read() {
    let mut runner = runner(10_000);
    let edits = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4), 1..6);
    runner
        .run(&edits, |edits| {
            let mut text = POLICY.as_bytes().to_vec();
            for (index, byte, kind) in edits {
                let at = index.index(text.len());
                match kind {
                    0 => text[at] = byte,
                    1 => text.insert(at, b"\n:-&*<!|>{}[]\"' "[usize::from(byte % 16)]),
                    2 => drop(text.remove(at)),
                    _ => {
                        let end = text.len().min(at + usize::from(byte % 40));
                        let again = text[at..end].to_vec();
                        text.splice(at..at, again);
                    }
                }
                if text.is_empty() {
                    break;
                }
            }
            drop(check(&text));
            Ok(())
        })
        .unwrap();
}

/// Texts mean the same to serde_yaml, however they are written. Two differences are known: `~` and
/// its like are nothing here and text there, and an anchor's name ends at another character.
#[test]
fn texts_are_those_that_serde_yaml_reads() {
    #[derive(Deserialize)]
    struct File {
        domain: String,
        descriptors: Vec<Descriptor>,
    }
    #[derive(Deserialize)]
    struct Descriptor {
        key: String,
        value: Option<String>,
        rate_limit: Option<BTreeMap<String, String>>,
    }

    let read = std::cell::Cell::new(0);
    runner(20_000)
        .run(
            &(scalar(), scalar(), scalar(), scalar()),
            |(domain, key, value, name)| {
                let document = format!(
                    "domain: {domain}\ndescriptors:\n  - key: {key}\n    value: {value}\n    \
                 rate_limit:\n      name: {name}\n      unit: day\n      requests_per_unit: 1\n"
                );
                let theirs = serde_yaml::from_str::<File>(&document).ok();
                let ours = check(document.as_bytes()).ok();
                let (Some(theirs), Some(ours)) = (theirs, ours) else {
                    return Ok(());
                };
                read.set(read.get() + 1);
                let theirs = &theirs;
                let [one] = theirs.descriptors.as_slice() else {
                    panic!("{document}");
                };
                let DescriptorSpec {
                    key, value, rule, ..
                } = &ours.domains[0].descriptors[0];
                let rule = rule.as_ref().unwrap();
                prop_assert_eq!(&ours.domains[0].name, &theirs.domain, "{}", document);
                prop_assert_eq!(key, &one.key, "{}", document);
                let nothing = |text: &str| matches!(text, "" | "~" | "null" | "Null" | "NULL");
                if !one.value.as_deref().is_none_or(nothing) {
                    prop_assert_eq!(value, &one.value, "{}", document);
                }
                let name = &one.rate_limit.as_ref().unwrap()["name"];
                if !nothing(name) {
                    prop_assert_eq!(rule.name.as_ref(), Some(name), "{}", document);
                }
                Ok(())
            },
        )
        .unwrap();
    let read = read.get();
    assert!(read > 5_000, "only {read} documents were read by both");
}

#[test]
fn an_alias_bomb_is_a_problem_not_memory() {
    let mut bomb = String::from("a: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..60 {
        let alias = format!("*a{}", level - 1);
        let aliases = vec![alias; 10].join(", ");
        bomb.push_str(&format!("b{level}: &a{level} [{aliases}]\n"));
    }
    let report = check(bomb.as_bytes()).unwrap_err().to_string();
    assert!(
        report.contains("too large: with every alias written out"),
        "{report}"
    );

    let long = format!(
        "a: &a \"{}\"\nb: [{}]\n",
        "x\\n".repeat(1 << 19),
        "*a, ".repeat(1 << 12)
    );
    let report = check(long.as_bytes()).unwrap_err().to_string();
    assert!(
        report.contains("too large: with every alias written out"),
        "{report}"
    );
}

#[test]
fn depth_is_bounded_through_aliases_too() {
    for text in [
        "[".repeat(100_000),
        "- ".repeat(100_000),
        "{a: ".repeat(100_000),
    ] {
        let report = check(text.as_bytes()).unwrap_err();
        assert_eq!(report.errors(), 1, "{report}");
    }
    let half = format!("{}{}", "[".repeat(100), "]".repeat(100));
    let twice = format!(
        "a: &a {half}\nb: {}*a{}\n",
        "[".repeat(100),
        "]".repeat(100)
    );
    let report = check(twice.as_bytes()).unwrap_err().to_string();
    assert!(
        report.contains("nested more than 128 levels deep"),
        "{report}"
    );
}

#[test]
fn a_file_of_problems_makes_a_bounded_report() {
    let text = format!("domain: d\ndescriptors:\n{}", "- x\n".repeat(200_000));
    let report = check(text.as_bytes()).unwrap_err();
    assert_eq!(report.problems().len(), Report::MAX_PROBLEMS);
    assert_eq!(report.errors(), 200_000);
    assert!(report.to_string().ends_with("\nand 190000 more problems"));
}

#[test]
fn a_file_beyond_the_largest_size_is_refused() {
    let text = vec![b'#'; MAX_FILE_BYTES + 1];
    let report = check(&text).unwrap_err();
    assert_eq!(report.to_string(), "p.yaml: the file is larger than 64 MiB");
}

#[test]
fn long_keys_above_many_rules_do_not_multiply() {
    let mut text = format!(
        "domain: d\ndescriptors:\n- key: {}\n  descriptors:\n",
        "x".repeat(1 << 20)
    );
    for rule in 0..5_000 {
        text.push_str(&format!(
            "  - {{key: k{rule}, rate_limit: {{unlimited: true}}}}\n"
        ));
    }
    let compiled = check(text.as_bytes()).unwrap();
    let rules = &compiled.domains[0].descriptors[0].descriptors;
    assert_eq!(rules.len(), 5_000);
    assert!(
        rules
            .iter()
            .all(|spec| spec.rule.as_ref().unwrap().path.len() <= 512)
    );
}

#[test]
fn many_patterns_that_have_to_be_tried_one_by_one_are_refused() {
    let policy = |count: usize, pattern: &str| {
        let one = |number| format!("  - {{ key: path, value: '{pattern}{number:04}*' }}\n");
        let all: String = (0..count).map(one).collect();
        check(format!("domain: d\ndescriptors:\n{all}").as_bytes())
    };
    assert!(policy(250, "*a").is_ok());
    let refused = policy(300, "*a").unwrap_err().to_string();
    assert_eq!(refused.lines().count(), 1, "{refused}");
    assert!(
        refused.contains(":253:") && refused.contains("more than 250 descriptors of one level"),
        "{refused}"
    );
    assert!(policy(1100, "a").is_ok(), "one star is found by an index");
}

/// Loads it; a report must have a line for each problem.
fn check(text: &[u8]) -> Result<Compiled, Report> {
    let source = Source {
        name: "p.yaml",
        text,
    };
    let loaded = load(&[source], &PolicyDefaults::default());
    let report = match &loaded {
        Ok(compiled) => &compiled.warnings,
        Err(report) => report,
    };
    let shown = report.to_string();
    let lines = shown.lines().count() - usize::from(shown.contains("more problems"));
    assert_eq!(lines, report.problems().len(), "{shown}");
    assert_eq!(loaded.is_err(), report.errors() > 0);
    loaded
}

/// The same inputs at every run: what is found once is found again.
fn runner(cases: u32) -> TestRunner {
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
}

/// A scalar in some style. (Anchors are left out: there the two grammars differ.)
fn scalar() -> impl Strategy<Value = String> {
    let odd = [
        "0644",
        "yes",
        "1.0",
        "2024-01-31",
        "+7",
        "0x10",
        "1_000",
        "010",
        "on",
        "y",
        "1e3",
        "12:30:45",
        ".5",
        "0b1",
        "-",
        "?",
        "a: b",
        "# x",
        "<<",
        "=",
        "tRUE",
        "größe",
        "'",
        "a'b",
        "\"",
        "\\n",
    ];
    let text = prop_oneof![
        "[a-z0-9_.+:/-]{1,8}",
        "[ -~]{1,12}",
        prop::sample::select(odd.to_vec()).prop_map(str::to_owned),
    ];
    (text, 0..5_u8)
        .prop_map(|(text, style)| style_as(&text, style))
        .prop_filter("an anchor", |text| !text.contains('&'))
}

fn style_as(text: &str, style: u8) -> String {
    match style {
        0 => format!("'{}'", text.replace('\'', "''")),
        1 => format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")),
        2 => format!("|-\n        {text}"),
        3 => format!("!!str {text}"),
        _ => text.to_owned(),
    }
}

const POLICY: &str = "\
# A policy with a bit of everything.
domain: shop
descriptors:
  - &base
    key: user_id
    value: \"a*\"
    share_threshold: yes
    rate_limit: &limit
      name: base
      unit: minute
      unit_multiplier: 5
      requests_per_unit: 1_000
      replaces: [{name: other}]
  - <<: *base
    key: plan
    value: gold
    metadata: {owner: me, tags: [1, two, {three: 3.0}], none: ~}
    descriptors:
      - key: path
        rate_limit: {<<: *limit, algorithm: token_bucket, burst: 0x10}
      - key: path
        value: |
          /a
          /b
        rate_limit: {unlimited: on}
";
