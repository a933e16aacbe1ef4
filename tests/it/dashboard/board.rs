//! The dashboard, as it is shipped.

use serde_json::Value;

use super::text;

/// A panel that draws something; rows are not among them.
#[derive(Debug)]
pub(super) struct Panel {
    /// Its title, with that of its row.
    pub(super) name: String,
    pub(super) json: Value,
}

/// What a panel asks.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) expr: String,
    /// Labels that its legend shows.
    pub(super) legend: Vec<String>,
}

/// The whole file.
pub(super) fn dashboard() -> Value {
    serde_json::from_str(&text(FILE)).unwrap_or_else(|error| panic!("{FILE}: {error}"))
}

/// Every panel but the rows.
pub(super) fn panels(dashboard: &Value) -> Vec<Panel> {
    let mut row = "";
    let mut panels = Vec::new();
    for json in list(&dashboard["panels"]) {
        let title = json["title"].as_str().unwrap_or_default();
        if json["type"] == "row" {
            row = title;
        } else {
            let (name, json) = (format!("{row} / {title}"), json.clone());
            panels.push(Panel { name, json });
        }
    }
    panels
}

impl Panel {
    pub(super) fn targets(&self) -> Vec<Target> {
        let text =
            |target: &Value, part: &str| target[part].as_str().unwrap_or_default().to_owned();
        list(&self.json["targets"])
            .iter()
            .map(|target| Target {
                expr: text(target, "expr"),
                legend: labels(&text(target, "legendFormat"), "{{", "}}"),
            })
            .collect()
    }
}

/// Puts in what Grafana puts in: everything is chosen, and Prometheus scrapes each second.
pub(super) fn filled(expr: &str) -> String {
    expr.replace("$__rate_interval", "4s")
        .replace("$__range", "1h")
        .replace("$job", "tollgate")
        .replace("$replica", ".*")
        .replace("$domain", ".*")
}

/// What stands between brackets of a template.
pub(super) fn labels(template: &str, open: &str, close: &str) -> Vec<String> {
    let parts = template.split(open).skip(1);
    let inside = parts.filter_map(|part| part.split_once(close));
    inside.map(|(label, _)| label.trim().to_owned()).collect()
}

pub(super) fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

const FILE: &str = "config/grafana/tollgate.json";
