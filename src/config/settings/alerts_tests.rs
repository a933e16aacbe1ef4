//! What `alerts` takes, and what is said of the rest.

use super::{Loaded, Overrides, Settings};
use crate::config::Report;

#[test]
fn an_alert_is_switched_off_by_a_word() {
    let settings =
        file("alerts: {error_rate: off, circuit_trips: off, store_down: off}\n").unwrap();
    let alerts = settings.settings.alerts;
    assert_eq!(alerts.error_rate.get(), None);
    assert_eq!(alerts.circuit_trips.get(), None);
    assert_eq!(alerts.store_down.get(), None);
    assert!(alerts.redis_latency.get().is_some(), "the others stay");
    let env = [(
        "TOLLGATE_ALERTS__RESPONSE_TIME".to_owned(),
        "off".to_owned(),
    )];
    let loaded = Settings::load(None, env.into_iter(), Overrides::default()).unwrap();
    assert_eq!(loaded.settings.alerts.response_time.get(), None);
}

#[test]
fn every_alertmanager_of_a_cluster_can_be_named() {
    for (written, expected) in [
        ("http://h:9093", vec!["http://h:9093"]),
        ("http://h:9093/", vec!["http://h:9093"]),
        (
            "https://a/prefix/ , http://[::1]:9093",
            vec!["https://a/prefix", "http://[::1]:9093"],
        ),
        ("", vec![]),
    ] {
        let settings = file(&format!("alerts: {{alertmanager_url: '{written}'}}\n")).unwrap();
        let urls = settings.settings.alerts.alertmanager_url;
        let urls: Vec<&str> = urls.iter().flat_map(|urls| urls.iter()).collect();
        assert_eq!(urls, expected);
    }
}

#[test]
fn who_is_told_needs_a_restart_and_the_rest_does_not() {
    let old = Settings::default();
    let text = "alerts: {error_rate: 1, for: 1s, alertmanager_url: 'http://h'}\n";
    let new = file(text).unwrap().settings;
    let changes = old.changes(&new);
    let lines: Vec<String> = changes.applied.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        ["alerts.error_rate: 5.0 -> 1.0", "alerts.for: 5s -> 1s"]
    );
    let lines = changes.needs_restart.iter().map(ToString::to_string);
    let lines: Vec<String> = lines.collect();
    assert_eq!(lines, ["alerts.alertmanager_url: unset -> http://h"]);
    let reloaded = old.reloaded(&new);
    assert_eq!(reloaded.alerts.error_rate, new.alerts.error_rate);
    assert_eq!(reloaded.alerts.alertmanager_url, None);
}

#[test]
fn problems_name_place_and_setting() {
    for (text, expected) in [
        (
            "{error_rate: 101}",
            "error_rate: expected off or a percentage from 0 to 100, found the number 101",
        ),
        (
            "{error_rate: -0.5}",
            "error_rate: expected off or a percentage from 0 to 100, found the number -0.5",
        ),
        (
            "{error_rate: .nan}",
            "error_rate: expected off or a percentage from 0 to 100, found the number NaN",
        ),
        (
            "{error_rate: 5%}",
            "error_rate: expected off or a percentage from 0 to 100, found the text \"5%\"",
        ),
        (
            "{queue_full: false}",
            "queue_full: expected off or a percentage from 0 to 100, found the boolean false",
        ),
        (
            "{circuit_trips: never}",
            "circuit_trips: expected off or a whole number that is not below zero, found the text \"never\"",
        ),
        (
            "{response_time: soon}",
            "response_time: \"soon\" is no length of time such as 30s or 5m: expected number at 0",
        ),
        (
            "{window: 10ms}",
            "window: \"10ms\" is not from 1s to 365days",
        ),
        (
            "{error_rate: }",
            "error_rate: expected off or a percentage from 0 to 100, found nothing",
        ),
        (
            "{alertmanager_url: 'h:9093'}",
            "alertmanager_url: not the address of an Alertmanager: it starts with http:// or https:// and names a host",
        ),
        (
            "{alertmanager_url: 'http://h,http://u:hunter2@h'}",
            "alertmanager_url: not the address of an Alertmanager: a user and a password in it are not supported; have a proxy add them, such as its sidecar",
        ),
        (
            "{alertmanager_url: 'http://h/api/v2/alerts'}",
            "alertmanager_url: not the address of an Alertmanager: it ends before /api/v2/alerts, which is added",
        ),
    ] {
        let report = file(&format!("alerts: {text}\n")).unwrap_err().to_string();
        let (_, said) = report.split_once("alerts.").unwrap();
        assert_eq!(said, expected, "{text}");
        assert!(!report.contains("hunter2"), "{report}");
    }
}

fn file(text: &str) -> Result<Loaded, Report> {
    let file = Some(("t.yaml", text.as_bytes()));
    Settings::load(file, std::iter::empty(), Overrides::default())
}
