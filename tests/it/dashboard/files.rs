//! What can be told of the files without data.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::process::Command;

use serde_json::Value;
use tollgate::telemetry::instruments::{ALL, Kind};

use super::board::{self, list, panels};
use super::promql::names;
use super::rules::{self, rules};
use super::{shipped, text};

#[test]
fn promtool_accepts_the_configuration_and_the_rules_pass_their_tests() {
    promtool(&["check", "config", "config/prometheus/prometheus.yml"]);
    promtool(&["check", "rules", rules::FILE]);
    promtool(&["test", "rules", "config/prometheus/tollgate.rules.test.yml"]);
}

/// Debian's Prometheus is built without Kubernetes, so its part is looked at here and taken away.
#[test]
fn the_example_for_kubernetes_is_a_configuration() {
    let shipped = text("config/prometheus/prometheus.yml");
    let (before, _) = shipped.split_once("  - job_name").expect("a job");
    let lines = shipped.lines().filter_map(|line| line.strip_prefix("  #"));
    let example = lines.filter(|line| line.starts_with('-') || line.starts_with("  "));
    let example: String = example.map(|line| format!("  {line}\n")).collect();
    let mut config: serde_yaml::Value =
        serde_yaml::from_str(&format!("{before}{example}")).unwrap();
    let job = config["scrape_configs"][0].as_mapping_mut().expect("a job");
    let discovery = job.remove("kubernetes_sd_configs").expect("discovery");
    assert_eq!(discovery[0]["role"], "pod");
    assert_eq!(job["job_name"], "tollgate");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("prometheus.yml");
    std::fs::write(&file, serde_yaml::to_string(&config).unwrap()).unwrap();
    std::fs::write(folder.path().join("tollgate.rules.yml"), text(rules::FILE)).unwrap();
    promtool(&["check", "config", &file.display().to_string()]);
}

#[test]
fn every_alert_has_a_test() {
    let tests = text("config/prometheus/tollgate.rules.test.yml");
    for alert in rules().into_iter().filter(|rule| rule.alert) {
        let name = format!("alertname=\"{}\"", alert.name);
        assert!(tests.contains(&name), "no test of {}", alert.name);
    }
}

#[test]
fn the_dashboard_is_what_its_script_writes() {
    let script = shipped("scripts/make-dashboard");
    let done = Command::new(script)
        .arg("--check")
        .output()
        .expect("python3");
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
}

#[test]
fn every_panel_says_what_it_shows_in_which_unit_from_where() {
    let dashboard = board::dashboard();
    let mut problems = Vec::new();
    for panel in panels(&dashboard) {
        let (name, json) = (&panel.name, &panel.json);
        for (part, value) in [
            ("title", &json["title"]),
            ("description", &json["description"]),
            ("type", &json["type"]),
            ("unit", &json["fieldConfig"]["defaults"]["unit"]),
        ] {
            if value.as_str().is_none_or(str::is_empty) {
                problems.push(format!("{name} has no {part}"));
            }
        }
        let sources = list(&json["targets"]).iter().chain([json]);
        if !sources
            .into_iter()
            .all(|it| it["datasource"]["uid"] == "${datasource}")
        {
            problems.push(format!(
                "{name} has another data source than the one that is chosen"
            ));
        }
        if panel.targets().is_empty() {
            problems.push(format!("{name} asks nothing"));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn panels_have_ids_and_places_of_their_own() {
    let dashboard = board::dashboard();
    let (mut ids, mut titles, mut taken) = (HashSet::new(), HashSet::new(), BTreeMap::new());
    for panel in list(&dashboard["panels"]) {
        let title = panel["title"].as_str().expect("a title");
        assert!(
            ids.insert(panel["id"].as_u64().expect("an id")),
            "{title}: its id is taken"
        );
        let of = |part: &str| panel["gridPos"][part].as_u64().expect("a place");
        assert!(
            of("w") > 0 && of("h") > 0 && of("x") + of("w") <= 24,
            "{title} is off the grid"
        );
        for cell in (of("x")..of("x") + of("w"))
            .flat_map(|x| (of("y")..of("y") + of("h")).map(move |y| (x, y)))
        {
            if let Some(other) = taken.insert(cell, title) {
                panic!("{title} lies over {other} at {cell:?}");
            }
        }
    }
    for panel in panels(&dashboard) {
        assert!(
            titles.insert(panel.name.clone()),
            "two panels are called {}",
            panel.name
        );
    }
    for group in [
        "Request Rate",
        "Error Rate",
        "Queue Status",
        "Circuit Breaker",
        "Redis Health",
    ] {
        let rows = list(&dashboard["panels"]).iter();
        assert!(
            rows.clone()
                .any(|it| it["type"] == "row" && it["title"] == group),
            "no row {group}"
        );
    }
}

/// Of everything: panels, variables, annotations, rules.
#[test]
fn only_metrics_and_labels_that_exist_are_named() {
    let dashboard = board::dashboard();
    let known = known();
    let mut asked: Vec<(String, String)> = Vec::new();
    for panel in panels(&dashboard) {
        asked.extend(
            panel
                .targets()
                .into_iter()
                .map(|it| (panel.name.clone(), it.expr)),
        );
    }
    for variable in list(&dashboard["templating"]["list"]) {
        if let Some(query) = variable["definition"].as_str() {
            let inside = query
                .strip_prefix("label_values(")
                .and_then(|it| it.strip_suffix(')'));
            let (selector, label) = inside.and_then(|it| it.rsplit_once(", ")).expect(query);
            asked.push((query.to_owned(), format!("count by ({label}) ({selector})")));
        }
    }
    for annotation in list(&dashboard["annotations"]["list"]) {
        asked.push((words(&annotation["name"]), words(&annotation["expr"])));
    }
    asked.extend(rules().into_iter().map(|rule| (rule.name, rule.expr)));
    let problems: Vec<String> = asked
        .iter()
        .flat_map(|(who, expr)| unknown(&known, who, expr))
        .collect();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// Names that an expression should not have.
fn unknown(known: &BTreeMap<String, BTreeSet<String>>, who: &str, expr: &str) -> Vec<String> {
    let names = names(expr);
    let mut problems = Vec::new();
    let mut labels: BTreeSet<&str> = TARGET_LABELS.into();
    let mut all_known = true;
    for (metric, matched) in &names.selectors {
        let Some(its) = known.get(metric) else {
            all_known = false;
            problems.push(format!("{who}: there is no metric {metric}"));
            continue;
        };
        labels.extend(its.iter().map(String::as_str));
        for label in matched {
            if !its.contains(label) && !TARGET_LABELS.contains(&label.as_str()) {
                problems.push(format!("{who}: {metric} has no label {label}"));
            }
        }
    }
    if names.selectors.is_empty() {
        problems.push(format!("{who} asks for no metric: {expr}"));
    }
    for label in &names.groups {
        if all_known && !labels.contains(label.as_str()) {
            problems.push(format!("{who}: nothing has the label {label}"));
        }
    }
    problems
}

/// Every series that there can be, with its labels beside those of its target.
fn known() -> BTreeMap<String, BTreeSet<String>> {
    let own = |labels: &[&str]| labels.iter().map(|label| label.replace('.', "_")).collect();
    let mut known = BTreeMap::new();
    for metric in ALL {
        let (name, labels): (_, BTreeSet<String>) =
            (metric.prometheus_name(), own(metric.attributes));
        if metric.kind == Kind::Histogram {
            let mut with_bound = labels.clone();
            with_bound.insert("le".to_owned());
            known.insert(format!("{name}_bucket"), with_bound);
            known.insert(format!("{name}_sum"), labels.clone());
            known.insert(format!("{name}_count"), labels);
        } else {
            known.insert(name, labels);
        }
    }
    for name in [
        "up",
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "process_open_fds",
    ] {
        known.insert(name.to_owned(), BTreeSet::new());
    }
    known.insert("ALERTS".to_owned(), own(&["alertname", "alertstate"]));
    // What rules record has the labels that its expression leaves.
    for rule in rules().into_iter().filter(|rule| !rule.alert) {
        known.insert(rule.name, BTreeSet::new());
    }
    known
}

fn promtool(arguments: &[&str]) {
    let done = Command::new("promtool")
        .args(arguments)
        .current_dir(shipped(""))
        .output();
    let done = done.unwrap_or_else(|error| {
        panic!("these tests need promtool, of Debian's package `prometheus`: {error}")
    });
    let said = [done.stdout, done.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(
        done.status.success(),
        "promtool {arguments:?}:\n{}",
        said.concat()
    );
}

fn words(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

const TARGET_LABELS: [&str; 2] = ["instance", "job"];
