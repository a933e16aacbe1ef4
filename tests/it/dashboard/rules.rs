//! The rules for Prometheus, as they are shipped.

use serde_yaml::Value;

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
