//! What the reference service loads and refuses: `tests/conformance/`.

use serde_json::Value;

use super::{Compiled, PolicyDefaults, Source, load};
use crate::config::Report;

#[test]
fn what_the_reference_loads_is_loaded() {
    let mut loaded = 0;
    for case in cases().filter(|case| case["config_valid"] == true) {
        let id = case["id"].as_str().unwrap();
        // Refused on purpose; docs/decisions/0002-policy-yaml.md says why.
        let refused = [
            "limit-missing-requests-per-unit",
            "shadow-inside-rate-limit-block-ignored",
            "yaml-duplicate-mapping-key-last-wins",
        ];
        match load_case(&case) {
            Ok(_) if refused.contains(&id) => panic!("{id} is to be refused"),
            Ok(_) => loaded += 1,
            Err(_) if refused.contains(&id) => {
                assert!(case["peer_quirk"].is_string(), "{id} is no quirk");
            }
            Err(report) => panic!("{id} is refused: {report}"),
        }
    }
    assert!(loaded > 300, "only {loaded} cases");
}

#[test]
fn what_the_reference_refuses_is_refused() {
    let mut refused = 0;
    for case in cases().filter(|case| case["config_valid"] == false) {
        let id = case["id"].as_str().unwrap();
        // Loaded on purpose; docs/decisions/0002-policy-yaml.md says why.
        let loaded = ["cfg-duplicate-by-joined-text", "cfg-unquoted-float-value"];
        match load_case(&case) {
            Ok(_) if loaded.contains(&id) => {
                assert!(case["peer_quirk"].is_string(), "{id} is no quirk");
            }
            Ok(_) => panic!("{id} is loaded"),
            Err(report) => {
                assert!(!loaded.contains(&id), "{id} is to be loaded: {report}");
                refused += 1;
            }
        }
    }
    assert!(refused > 20, "only {refused} cases");
}

/// The reference's wording, where it says as much as ours would.
#[test]
fn messages_are_those_of_the_reference_where_they_are_clear() {
    // What ours says instead is in the golden reports.
    let reworded = [
        "cfg-bad-unit",
        "cfg-missing-unit",
        "cfg-empty-rate-limit-map",
        "cfg-replaces-list-of-strings",
        "cfg-unknown-key-rule",
        "cfg-unknown-key-limit",
        "cfg-unknown-key-algorithm",
        "cfg-non-string-key",
        "cfg-list-of-scalars",
        "cfg-quoted-number",
        "cfg-descriptors-not-a-list",
        "cfg-root-is-a-list",
        "cfg-root-is-a-string",
    ];
    for case in cases().filter(|case| case["config_valid"] == false) {
        let id = case["id"].as_str().unwrap();
        let Err(report) = load_case(&case) else {
            continue;
        };
        let expected = case["config_error"].as_str().unwrap();
        let same = report.to_string().contains(expected);
        assert_eq!(same, !reworded.contains(&id), "{id}: {report}");
    }
}

fn cases() -> impl Iterator<Item = Value> {
    ["cases.json", "random.json"].into_iter().flat_map(|file| {
        let path = format!("{}/tests/conformance/{file}", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read(&path).unwrap();
        serde_json::from_slice::<Vec<Value>>(&text).unwrap()
    })
}

fn load_case(case: &Value) -> Result<Compiled, Report> {
    let files = case["config"].as_object().unwrap();
    let sources: Vec<Source<'_>> = files
        .iter()
        .map(|(name, text)| Source {
            name,
            text: text.as_str().unwrap().as_bytes(),
        })
        .collect();
    let defaults = PolicyDefaults {
        merge_domains: case["settings"]["MERGE_DOMAIN_CONFIG"] == "true",
        ..PolicyDefaults::default()
    };
    load(&sources, &defaults)
}
