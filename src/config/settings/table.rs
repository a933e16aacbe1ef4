//! What each setting means: the README's table, and the list of what the environment can set.

use std::collections::BTreeMap;

use serde_yaml::Value;

use super::{Settings, env};

/// The settings as Markdown, for the README.
#[must_use]
pub fn settings_table() -> String {
    let defaults = leaves(&Settings::default());
    let mut table = String::from("| setting | default | variable | meaning |\n|---|---|---|---|\n");
    let mut line = |path: &str, default: &str, doc: &str| {
        let variable = env::variable(path);
        table.push_str(&format!(
            "| `{path}` | {default} | `{variable}` | {doc} |\n"
        ));
    };
    for (path, doc) in SETTINGS {
        let default = defaults.get(*path).map_or("", String::as_str);
        line(path, &format!("`{default}`"), doc);
    }
    for (field, doc) in DOMAIN_FIELDS {
        let default = format!("`defaults.{field}`");
        line(&format!("domains.NAME.{field}"), &default, doc);
    }
    table
}

/// The paths of everything that has one value.
pub(super) fn paths() -> impl Iterator<Item = &'static str> {
    SETTINGS.iter().map(|(path, _)| *path)
}

/// Every value by its path, as it would be written.
pub(super) fn leaves(settings: &Settings) -> BTreeMap<String, String> {
    let mut leaves = BTreeMap::new();
    // Plain data always serializes; if it ever did not, the tests of this table would fail.
    if let Ok(value) = serde_yaml::to_value(settings) {
        collect("", &value, &mut leaves);
    }
    leaves
}

fn collect(path: &str, value: &Value, leaves: &mut BTreeMap<String, String>) {
    if let Value::Mapping(map) = value {
        for (key, value) in map {
            let key = key.as_str().unwrap_or_default();
            let path = match path {
                "" => key.to_owned(),
                _ => format!("{path}.{key}"),
            };
            collect(&path, value, leaves);
        }
        return;
    }
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => number.to_string(),
        _ => String::new(),
    };
    leaves.insert(path.to_owned(), text);
}

/// What a domain may set for itself.
pub(super) const DOMAIN_FIELDS: &[(&str, &str)] = &[
    (
        "enforce_percent",
        "The share of denials that is enforced in the domain NAME (in a variable's name: see below).",
    ),
    (
        "shadow_mode",
        "In the domain NAME, over the limit is told in the statuses but the request passes.",
    ),
];

const SETTINGS: &[(&str, &str)] = &[
    (
        "listen.grpc",
        "Envoy's calls, health, reflection. `HOST:PORT`, `[V6]:PORT` or `unix:/PATH`; port 0 takes a free one and prints it.",
    ),
    (
        "listen.http",
        "`/json`, `/healthcheck`, `/livez`, `/readyz`, `/metrics`.",
    ),
    ("listen.admin", "Everything for operators only."),
    (
        "connection.max_age",
        "A gRPC connection is asked to end after this, give or take 10%, so that new replicas get traffic.",
    ),
    (
        "connection.max_age_grace",
        "Calls in flight have this long to end after that.",
    ),
    (
        "policies.path",
        "A policy file, or a folder of `*.yaml` and `*.yml` files.",
    ),
    ("policies.watch", "Reload policies when they change."),
    (
        "policies.merge_domains",
        "Join the files of one domain; otherwise a second one is a problem.",
    ),
    (
        "defaults.denied_hits",
        "What a denied request costs: `free`, `charged` (fixed windows only; other rules take `free` then) or `debt`.",
    ),
    (
        "defaults.algorithm",
        "`fixed_window`, `sliding_window`, `sliding_log` or `token_bucket`.",
    ),
    (
        "defaults.enforce_percent",
        "The share of denials that is enforced; the rest is only counted.",
    ),
    (
        "defaults.shadow_mode",
        "Over the limit is told in the statuses but the request passes.",
    ),
    (
        "response.headers",
        "Headers for the client: `none`, `reference` (`RateLimit-Limit`, `-Remaining`, `-Reset`) or `ietf` (`RateLimit`, `RateLimit-Policy`).",
    ),
    (
        "response.dynamic_metadata",
        "Answers carry domain, descriptors and the rules' metadata, for Envoy's logs and other filters.",
    ),
    (
        "shutdown.drain_delay",
        "After SIGTERM: not ready, but still answering, so that callers go elsewhere.",
    ),
    (
        "shutdown.grace",
        "Then calls in flight have this long to end.",
    ),
    (
        "threads",
        "Threads that answer: `auto` (one per core, or the container's quota) or 1 to 1024.",
    ),
    (
        "store.memory.max_keys",
        "Counters in memory; above that, new keys share counters of fixed size.",
    ),
    (
        "limits.in_flight",
        "Calls at the same time; further ones are refused at once.",
    ),
    ("limits.descriptors", "Descriptors of a request."),
    ("limits.entries", "Entries of a descriptor."),
    ("limits.message_bytes", "Bytes of a request."),
    ("telemetry.prometheus", "Serve `/metrics`."),
    (
        "telemetry.log.level",
        "`error`, `warn`, `info`, `debug` or `trace`.",
    ),
    ("telemetry.log.format", "`text` or `json`."),
];
