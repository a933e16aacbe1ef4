//! The rules for Prometheus, as they are shipped.

use serde_yaml::Value;
use tollgate::config::settings::Alerts;

use super::{promql, text};

/// A rule of either kind.
#[derive(Debug)]
pub(super) struct Rule {
    /// The alert's name, or that of what is recorded.
    pub(super) name: String,
    pub(super) alert: bool,
    pub(super) expr: String,
    /// An alert's texts, with their templates.
    pub(super) annotations: Vec<String>,
}

/// Every rule, in order.
pub(super) fn rules() -> Vec<Rule> {
    let file: Value =
        serde_yaml::from_str(&text(FILE)).unwrap_or_else(|error| panic!("{FILE}: {error}"));
    let groups = file["groups"].as_sequence().expect("groups");
    let rules = groups
        .iter()
        .filter_map(|group| group["rules"].as_sequence());
    rules.flatten().map(Rule::read).collect()
}

impl Rule {
    fn read(rule: &Value) -> Self {
        let text = |part: &str| rule[part].as_str().map(str::to_owned);
        let annotations = rule["annotations"].as_mapping();
        Self {
            alert: text("alert").is_some(),
            name: text("alert").or_else(|| text("record")).expect("a name"),
            expr: text("expr").expect("an expression"),
            annotations: annotations
                .into_iter()
                .flat_map(|all| all.values())
                .filter_map(|text| text.as_str().map(str::to_owned))
                .collect(),
        }
    }

    /// What has data whenever all is well: an alert's expression without its threshold.
    pub(super) fn input(&self) -> &str {
        if self.alert {
            promql::judged(&self.expr).unwrap_or_else(|| {
                panic!(
                    "{} compares nothing with a number: {}",
                    self.name, self.expr
                )
            })
        } else {
            &self.expr
        }
    }
}

pub(super) const FILE: &str = "config/prometheus/tollgate.rules.yml";

/// Who alarms from Prometheus is alarmed by the same as who lets Tollgate alarm.
#[test]
fn the_rules_alarm_above_the_thresholds_of_the_settings() {
    let settings = serde_json::to_value(Alerts::default()).expect("settings are JSON");
    let wait = |name: &str| {
        settings[name]
            .as_str()
            .and_then(duration)
            .map(|it| it.as_secs_f64())
    };
    let share = |name: &str| settings[name].as_f64().map(|percent| percent / 100.0);
    let count = |name: &str| settings[name].as_f64();
    let file: Value = serde_yaml::from_str(&text(FILE)).expect("YAML");
    let rule = |alert: &str| {
        let groups = file["groups"].as_sequence().into_iter().flatten();
        let mut rules = groups.flat_map(|group| group["rules"].as_sequence().into_iter().flatten());
        rules.find(|rule| rule["labels"]["alert"].as_str() == Some(alert))
    };
    for (alert, threshold) in [
        ("error_rate", share("error_rate")),
        ("queue_full", share("queue_full")),
        ("circuit_trips", count("circuit_trips")),
        ("response_time", wait("response_time")),
        ("batch_failures", share("batch_failures")),
        ("redis_latency", wait("redis_latency")),
        ("keys_full", count("keys_full")),
    ] {
        let expr = rule(alert).and_then(|rule| rule["expr"].as_str());
        let above = expr.and_then(|expr| expr.rsplit_once(" > "));
        let above = above.and_then(|(_, number)| number.parse::<f64>().ok());
        assert!(threshold.is_some(), "{alert}: {settings}");
        assert_eq!(above, threshold, "{alert}: {expr:?}");
    }
    let held = rule("store_down").and_then(|rule| rule["for"].as_str());
    let held = held.and_then(duration).map(|it| it.as_secs_f64());
    assert!(held.is_some() && held == wait("store_down"), "{held:?}");
}

fn duration(text: &str) -> Option<std::time::Duration> {
    humantime::parse_duration(text).ok()
}
