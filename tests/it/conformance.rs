//! The cases that the reference service answered, asked of Tollgate over a socket.
//!
//! Those without `settings` only, and without `peer_quirk`: a quirk is a defect of the reference,
//! and `docs/decisions/0002-policy-yaml.md` and `0006-reference-quirks.md` say what Tollgate does
//! instead.

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
use envoy_types::pb::google::protobuf::UInt64Value;
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

fn cases(file: &str) -> Vec<Case> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/conformance")
        .join(file);
    let cases: Vec<Case> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let chosen: Vec<Case> = cases
        .into_iter()
        .filter(|case| case.settings.is_empty() && case.peer_quirk.is_none())
        .collect();
    assert!(
        chosen.len() > 90,
        "{file} holds only {} cases",
        chosen.len()
    );
    chosen
}

const AS_THE_REFERENCE: &str = "defaults: { denied_hits: charged }";

async fn answers_like_the_reference(file: &str) {
    let valid: Vec<Case> = cases(file)
        .into_iter()
        .filter(|case| case.config_valid)
        .collect();
    let folder = tempfile::tempdir().unwrap();
    for case in &valid {
        for (name, text) in &case.config {
            std::fs::write(folder.path().join(format!("{}-{name}", case.id)), text).unwrap();
        }
    }
    let clock = tollgate::clock::Clock::manual(crate::harness::NOON);
    let harness = Harness::serve(folder, AS_THE_REFERENCE, clock)
        .await
        .unwrap();
    let mut client = harness.client().await;
    let mut wrong = Vec::new();
    let mut steps = 0;
    for case in &valid {
        for (index, step) in case.steps.iter().enumerate() {
            steps += 1;
            if let Err(why) = ask(&mut client, step).await {
                wrong.push(format!("{} step {}: {why}", case.id, index + 1));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {steps} steps differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[tokio::test]
async fn written_cases_are_answered_like_the_reference() {
    answers_like_the_reference("cases.json").await;
}

#[tokio::test]
async fn random_cases_are_answered_like_the_reference() {
    answers_like_the_reference("random.json").await;
}

#[tokio::test]
async fn what_the_reference_refuses_is_refused() {
    let refused: Vec<Case> = cases("cases.json")
        .into_iter()
        .filter(|case| !case.config_valid)
        .collect();
    assert!(refused.len() > 15);
    for case in refused {
        let files: Vec<(&str, &str)> = case
            .config
            .iter()
            .map(|(name, text)| (name.as_str(), text.as_str()))
            .collect();
        assert!(
            Harness::start(&files, AS_THE_REFERENCE).await.is_err(),
            "{} loads",
            case.id
        );
    }
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
    if expect.get("headers").is_some() && !answer.response_headers_to_add.is_empty() {
        return Err(format!("headers {:?}", answer.response_headers_to_add));
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
