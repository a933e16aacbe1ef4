//! `docs/metrics.md` says what is so: its tables come from the code.

use std::path::Path;

use tollgate::telemetry::instruments::{ALL, Instrument};

use crate::readme::with_table;

/// Rewrite with `make golden`.
#[test]
fn tables_are_those_of_the_code() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let fresh = with_table(&text, "metrics", &table());
    if crate::update_golden() {
        std::fs::write(&path, &fresh).unwrap();
    } else {
        assert!(
            fresh == text,
            "docs/metrics.md is out of date; run `make golden`"
        );
    }
}

/// Every metric that the page speaks of exists.
#[test]
fn no_metric_is_named_that_does_not_exist() {
    for page in ["docs/metrics.md", "README.md"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(page);
        let text = std::fs::read_to_string(path).unwrap();
        for name in text.split('`').skip(1).step_by(2) {
            let name = name.split(['{', '[', ' ']).next().unwrap();
            let is_metric = ["tollgate_", "rpc_server_", "db_client_"]
                .iter()
                .any(|prefix| name.starts_with(prefix));
            let exists = ALL.iter().any(|of| {
                let known = of.prometheus_name();
                let rest = name.strip_prefix(&known);
                rest.is_some_and(|rest| ["", "_bucket", "_count", "_sum"].contains(&rest))
            });
            assert!(exists || !is_metric, "{page} names {name}");
        }
    }
}

fn table() -> String {
    let mut sorted = ALL.map(|of| (of.prometheus_name(), of));
    sorted.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    let mut table = String::from(
        "| on `/metrics` | by OTLP | kind, unit | labels | what it tells |\n|---|---|---|---|---|\n",
    );
    for (name, of) in sorted {
        let Instrument {
            unit, kind, help, ..
        } = of;
        let labels: Vec<String> = of.attributes.iter().map(|a| format!("`{a}`")).collect();
        let unit = match unit {
            "" => String::new(),
            unit => format!(", {unit}"),
        };
        table.push_str(&format!(
            "| `{name}` | `{}` | {}{unit} | {} | {help} |\n",
            of.name,
            kind.name(),
            labels.join(" ")
        ));
    }
    table
}
