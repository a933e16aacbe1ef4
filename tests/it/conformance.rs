//! The cases that the reference service answered, asked of Tollgate over a socket.
//!
//! All of them but those with `peer_quirk`, a defect of the reference
//! (`docs/decisions/0002-policy-yaml.md` and `0006-reference-quirks.md` say what Tollgate does
//! instead), and those whose settings Tollgate has no counterpart for.

use std::collections::BTreeMap;
use std::path::Path;

use envoy_types::pb::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use envoy_types::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::{
    Entry, RateLimitOverride,
};
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::{
    Code, DescriptorStatus, rate_limit::Unit,
};
use envoy_types::pb::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use envoy_types::pb::envoy::r#type::v3::RateLimitUnit;
use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{Struct, UInt64Value, Value as ProtoValue};
use serde::Deserialize;
use serde_json::Value;

use crate::harness::{Client, Harness};

#[derive(Deserialize)]
struct Case {
    id: String,
    #[serde(default)]
    settings: BTreeMap<String, String>,
    config: BTreeMap<String, String>,
    config_valid: bool,
    #[serde(default)]
    steps: Vec<Step>,
    peer_quirk: Option<String>,
}

#[derive(Deserialize)]
struct Step {
    request: Value,
    expect: Value,
    #[serde(default = "once")]
    repeat: u32,
}

const fn once() -> u32 {
    1
}

/// The cases of a file that can be asked, by Tollgate's settings for them.
fn cases(file: &str) -> BTreeMap<String, Vec<Case>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/conformance")
        .join(file);
    let cases: Vec<Case> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let mut chosen: BTreeMap<String, Vec<Case>> = BTreeMap::new();
    for case in cases.into_iter().filter(|case| case.peer_quirk.is_none()) {
        if let Some(settings) = counterpart(&case.settings) {
            chosen.entry(settings).or_default().push(case);
        }
    }
    chosen
}

/// What the reference's environment variables are in Tollgate's settings; none if nothing is.
fn counterpart(variables: &BTreeMap<String, String>) -> Option<String> {
    let mut settings = String::from("{ defaults: { denied_hits: charged");
    if variables.contains_key("SHADOW_MODE") {
        settings.push_str(", shadow_mode: true");
    }
    settings.push_str(" }");
    for (name, value) in variables {
        match (name.as_str(), value.as_str()) {
            ("LIMIT_RESPONSE_HEADERS_ENABLED", "true") => {
                settings.push_str(", response: { headers: reference }");
            }
            ("RESPONSE_DYNAMIC_METADATA", "true") => {
                settings.push_str(", response: { dynamic_metadata: true }");
            }
            ("MERGE_DOMAIN_CONFIG", "true") => {
                settings.push_str(", policies: { merge_domains: true }");
            }
            // Told above; names keys that no answer shows.
            ("SHADOW_MODE", "true") | ("CACHE_KEY_PREFIX", _) => {}
            _ => return None,
        }
    }
    settings.push_str(" }");
    Some(settings)
}

/// Asks every case of the file; each group of settings has at least `fewest` cases in all.
async fn answers_like_the_reference(file: &str, fewest: usize) {
    let (mut wrong, mut asked) = (Vec::new(), 0);
    for (settings, cases) in cases(file) {
        let valid: Vec<Case> = cases.into_iter().filter(|case| case.config_valid).collect();
        asked += valid.len();
        let folder = tempfile::tempdir().unwrap();
        for case in &valid {
            for (name, text) in &case.config {
                std::fs::write(folder.path().join(format!("{}-{name}", case.id)), text).unwrap();
            }
        }
        let clock = tollgate::clock::Clock::manual(crate::harness::NOON);
        let harness = Harness::serve(folder, &settings, clock).await.unwrap();
        let mut client = harness.client().await;
        for case in &valid {
            for (index, step) in case.steps.iter().enumerate() {
                if let Err(why) = ask(&mut client, step).await {
                    wrong.push(format!("{} step {}: {why}", case.id, index + 1));
                }
            }
        }
    }
    assert!(asked >= fewest, "{file}: only {asked} cases were asked");
    assert!(
        wrong.is_empty(),
        "{} steps differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[tokio::test]
async fn written_cases_are_answered_like_the_reference() {
    answers_like_the_reference("cases.json", 105).await;
}

#[tokio::test]
async fn random_cases_are_answered_like_the_reference() {
    answers_like_the_reference("random.json", 200).await;
}

#[tokio::test]
async fn what_the_reference_refuses_is_refused() {
    let mut refused = 0;
    for (settings, cases) in cases("cases.json") {
        for case in cases.into_iter().filter(|case| !case.config_valid) {
            let files: Vec<(&str, &str)> = case
                .config
                .iter()
                .map(|(name, text)| (name.as_str(), text.as_str()))
                .collect();
            assert!(
                Harness::start(&files, &settings).await.is_err(),
                "{} loads",
                case.id
            );
            refused += 1;
        }
    }
    assert!(refused > 15, "{refused}");
}

async fn ask(client: &mut Client, step: &Step) -> Result<(), String> {
    let request = request(&step.request);
    for _ in 1..step.repeat {
        // Only the last answer is compared, whatever the others are.
        let _any = client.try_ask(request.clone()).await;
    }
    let answer = client.try_ask(request).await;
    if let Some(error) = step.expect.get("error") {
        let text = error["message_contains"].as_str().unwrap();
        return match answer {
            Ok(_) => Err(format!("answered instead of: {text}")),
            Err(status) if status.message().contains(text) => Ok(()),
            Err(status) => Err(format!("`{}` lacks `{text}`", status.message())),
        };
    }
    compare(&answer.map_err(|status| status.to_string())?, &step.expect)
}

fn request(json: &Value) -> RateLimitRequest {
    let number = |value: &Value| value.as_u64().map(|number| u32::try_from(number).unwrap());
    let descriptors = json["descriptors"].as_array().unwrap().iter();
    RateLimitRequest {
        domain: json["domain"].as_str().unwrap().into(),
        hits_addend: number(&json["hits_addend"]).unwrap_or(0),
        descriptors: descriptors
            .map(|descriptor| RateLimitDescriptor {
                entries: descriptor["entries"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|pair| Entry {
                        key: pair[0].as_str().unwrap().into(),
                        value: pair[1].as_str().unwrap().into(),
                    })
                    .collect(),
                hits_addend: descriptor["hits_addend"]
                    .as_u64()
                    .map(|value| UInt64Value { value }),
                limit: descriptor.get("limit").map(|limit| RateLimitOverride {
                    requests_per_unit: number(&limit["requests_per_unit"]).unwrap_or(0),
                    unit: override_unit(&limit["unit"]),
                }),
                ..RateLimitDescriptor::default()
            })
            .collect(),
    }
}

/// Envoy's enum has no week; the reference takes 7 for one.
fn override_unit(unit: &Value) -> i32 {
    match unit.as_str() {
        Some("WEEK") => 7,
        Some(name) => RateLimitUnit::from_str_name(name).unwrap().into(),
        None => i32::try_from(unit.as_i64().unwrap()).unwrap(),
    }
}

fn compare(answer: &RateLimitResponse, expect: &Value) -> Result<(), String> {
    let differs = |what: &str, got: String, want: &Value| Err(format!("{what}: {got}, not {want}"));
    if answer.overall_code().as_str_name() != expect["overall"] {
        return differs(
            "overall",
            answer.overall_code().as_str_name().into(),
            &expect["overall"],
        );
    }
    if let Some(want) = expect.get("headers") {
        compare_headers(answer, want)?;
    }
    if let Some(want) = expect.get("metadata") {
        let got = answer
            .dynamic_metadata
            .as_ref()
            .map_or(Value::Null, metadata);
        if plain(&got) != plain(want) {
            return Err(format!("metadata {got}, not {want}"));
        }
    }
    let statuses = expect["statuses"].as_array().unwrap();
    if statuses.len() != answer.statuses.len() {
        return differs(
            "statuses",
            answer.statuses.len().to_string(),
            &statuses.len().into(),
        );
    }
    for (index, (got, want)) in answer.statuses.iter().zip(statuses).enumerate() {
        compare_status(got, want).map_err(|why| format!("status {index}: {why}"))?;
    }
    Ok(())
}

fn compare_status(got: &DescriptorStatus, want: &Value) -> Result<(), String> {
    let code = Code::try_from(got.code).unwrap().as_str_name();
    if code != want["code"] {
        return Err(format!("code {code}, not {}", want["code"]));
    }
    if u64::from(got.limit_remaining) != want["remaining"].as_u64().unwrap() {
        return Err(format!(
            "remaining {}, not {}",
            got.limit_remaining, want["remaining"]
        ));
    }
    match (&got.current_limit, &want["limit"]) {
        (None, Value::Null) => {}
        (Some(got), Value::Object(want)) => {
            let unit = Unit::try_from(got.unit).unwrap().as_str_name();
            let same = want["requests_per_unit"] == got.requests_per_unit
                && want["unit"] == unit
                && want.get("name").is_none_or(|name| *name == got.name);
            if !same {
                return Err(format!("limit {got:?}, not {want:?}"));
            }
        }
        (got, want) => return Err(format!("limit {got:?}, not {want}")),
    }
    match (&got.duration_until_reset, want.get("reset_le")) {
        (None, None) => Ok(()),
        (Some(got), Some(most))
            if (1..=most.as_i64().unwrap()).contains(&got.seconds) && got.nanos == 0 =>
        {
            Ok(())
        }
        (got, want) => Err(format!("reset {got:?}, not up to {want:?}")),
    }
}

fn compare_headers(answer: &RateLimitResponse, want: &Value) -> Result<(), String> {
    let want = want.as_object().unwrap();
    let got: BTreeMap<&str, &str> = answer
        .response_headers_to_add
        .iter()
        .map(|header| (header.key.as_str(), header.value.as_str()))
        .collect();
    let is = |name: &str, want: &str| {
        got.get(name)
            .is_some_and(|got| match want.strip_prefix("<=") {
                Some(most) => (1..=most.parse().unwrap()).contains(&got.parse::<u64>().unwrap()),
                None => *got == want,
            })
    };
    let same = got.len() == answer.response_headers_to_add.len()
        && got.len() == want.len()
        && want
            .iter()
            .all(|(name, value)| is(name, value.as_str().unwrap()));
    if same {
        Ok(())
    } else {
        Err(format!("headers {got:?}, not {want:?}"))
    }
}

/// Dynamic metadata as JSON.
fn metadata(fields: &Struct) -> Value {
    fields
        .fields
        .iter()
        .map(|(name, value)| (name.clone(), metadata_value(value)))
        .collect()
}

fn metadata_value(value: &ProtoValue) -> Value {
    match value.kind.as_ref().unwrap() {
        Kind::BoolValue(flag) => Value::Bool(*flag),
        Kind::ListValue(list) => list.values.iter().map(metadata_value).collect(),
        Kind::NullValue(_) => Value::Null,
        Kind::NumberValue(number) => Value::from(*number),
        Kind::StringValue(text) => Value::String(text.clone()),
        Kind::StructValue(fields) => metadata(fields),
    }
}

/// With every number a double, and without the spaces of the text format of a limit, which Go
/// varies on purpose.
fn plain(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(plain).collect(),
        Value::Number(number) => Value::from(number.as_f64().unwrap()),
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| match value {
                Value::String(text) if name == "limit" => {
                    (name.clone(), Value::String(text.replace(' ', "")))
                }
                _ => (name.clone(), plain(value)),
            })
            .collect(),
        Value::Bool(_) | Value::Null | Value::String(_) => value.clone(),
    }
}
