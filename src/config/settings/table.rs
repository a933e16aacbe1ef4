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
        match defaults.get(*path).map_or("", String::as_str) {
            "" => line(path, "none", doc),
            default => line(path, &format!("`{default}`"), doc),
        }
    }
    for (field, default, doc) in DOMAIN_FIELDS {
        line(&format!("domains.NAME.{field}"), default, doc);
    }
    table
}

/// The paths of everything that has one value.
pub(super) fn paths() -> impl Iterator<Item = &'static str> {
    SETTINGS.iter().map(|(path, _)| *path)
}

/// Every value by its path, as a variable would have it: lists with commas, and nothing for none.
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
    leaves.insert(path.to_owned(), text_of(value));
}

fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => number.to_string(),
        Value::Sequence(items) => items.iter().map(text_of).collect::<Vec<_>>().join(","),
        _ => String::new(),
    }
}

/// What a domain may set for itself.
pub(super) const DOMAIN_FIELDS: &[(&str, &str, &str)] = &[
    (
        "enforce_percent",
        "`defaults.enforce_percent`",
        "The share of denials that is enforced in the domain NAME (in a variable's name: see below).",
    ),
    (
        "shadow_mode",
        "`defaults.shadow_mode`",
        "In the domain NAME, over the limit is told in the statuses but the request passes.",
    ),
    (
        "decision_log",
        "`0`",
        "The share of the domain NAME's decisions that is written to standard output, a line of JSON each; 0 to 1.",
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
        "defaults.on_store_failure",
        "Without the shared store: `local` (this replica's share of the limit, counted in its memory), `allow`, `deny` or `error` (Envoy does what its filter says). Counters in memory never fail.",
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
        "response.verdicts",
        "Answers carry, for each limit, its rule, who decided, by which time and in which window; in dynamic metadata, too.",
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
        "store.kind",
        "Where counters are kept: `memory`, or `redis`, which all replicas share.",
    ),
    (
        "store.memory.max_keys",
        "Counters in memory; above that, new keys share counters of fixed size. With Redis they are for when it is away.",
    ),
    (
        "store.redis.url",
        "`redis://HOST:PORT/DB`, `rediss://` with TLS, `redis+unix:///PATH`, `redis-sentinel://H:26379?node=H2:26379&sentinelServiceName=NAME`, `redis-cluster://H:7000?node=H2:7000`. A user and a password may stand in it (`redis://USER:PASSWORD@HOST`); it is never shown with the password.",
    ),
    (
        "store.redis.failover_urls",
        "Single servers for when the first is down, in order; the same list for all replicas; with commas between them in a variable.",
    ),
    (
        "store.redis.key_prefix",
        "What the names of all keys begin with: 1 to 20 letters, digits and `_` `.` `:` `-`.",
    ),
    (
        "store.redis.per_second_url",
        "Another Redis for the limits whose unit is the second.",
    ),
    (
        "store.redis.colocate_by",
        "The key of an entry, such as `user_id`, whose value becomes the hash tag of its counters' keys, so that a Cluster keeps each user's in one slot. Not that of an entry that `share_threshold` counts together.",
    ),
    (
        "store.redis.username",
        "The ACL user, for addresses that name none.",
    ),
    (
        "store.redis.password_file",
        "The file with the password, for addresses without one; read anew at each connect.",
    ),
    (
        "store.redis.tls.ca_file",
        "With `rediss://`: the authorities to trust instead of the system's, as PEM.",
    ),
    (
        "store.redis.tls.cert_file",
        "The certificate to show, as PEM, if the server asks for one.",
    ),
    ("store.redis.tls.key_file", "Its key, as PEM."),
    (
        "store.redis.tls.server_name",
        "The name that the server's certificate must have, instead of the address's.",
    ),
    (
        "store.redis.sentinel.username",
        "The ACL user of the Sentinels; they have their own.",
    ),
    (
        "store.redis.sentinel.password_file",
        "The file with the Sentinels' password; read anew at each connect.",
    ),
    (
        "store.redis.sentinel.tls.ca_file",
        "As `store.redis.tls`, for the Sentinels. Without any of these four they are spoken to as the servers are.",
    ),
    (
        "store.redis.sentinel.tls.cert_file",
        "The certificate to show to Sentinels.",
    ),
    ("store.redis.sentinel.tls.key_file", "Its key."),
    (
        "store.redis.sentinel.tls.server_name",
        "The name that the Sentinels' certificates must have.",
    ),
    (
        "store.redis.connect_timeout",
        "How long the start waits for the store, and each connect for its server.",
    ),
    (
        "deadline.store",
        "A call waits this long for the shared store at most; then `on_store_failure` decides.",
    ),
    (
        "deadline.margin",
        "The answer is due this long before the caller gives up (`grpc-timeout`), so a call may wait shorter.",
    ),
    (
        "circuit_breaker.threshold",
        "Failures of one server in a row, calls under way together being one, until no request waits for it any more.",
    ),
    (
        "circuit_breaker.timeout",
        "Then calls are let through again after this at the latest.",
    ),
    (
        "circuit_breaker.probe_interval",
        "How seldom the server is probed meanwhile at most, at least 10ms: the first probe follows after 10ms.",
    ),
    (
        "queue.max_size",
        "Requests that wait for the shared store; the next one is decided at once by `on_store_failure`.",
    ),
    (
        "queue.batch_size",
        "Checks in one call to the store, 1 to 1024.",
    ),
    (
        "fleet.replicas",
        "Replicas that share a limit while the store is away: `auto` (those seen in it) or 1 to 10000.",
    ),
    (
        "admin.token_file",
        "The file with the token that admin calls that change something must bear (`Authorization: Bearer`). Without one they may come from this machine only.",
    ),
    (
        "admin.allowed_hosts",
        "Names by which the admin listener may be asked (the Host header), besides addresses and `localhost`; `.example` allows all names below it, `*` all; with commas between them in a variable.",
    ),
    (
        "limits.in_flight",
        "Calls at the same time; further ones are refused at once.",
    ),
    ("limits.descriptors", "Descriptors of a request."),
    ("limits.entries", "Entries of a descriptor."),
    ("limits.message_bytes", "Bytes of a request."),
    (
        "limits.request_bytes",
        "Memory of all unfinished gRPC calls, in bytes. A connection gets a third of it at most, the connections of one address half.",
    ),
    (
        "limits.connections",
        "Open connections of the gRPC listener, at most five ninths of the open files. At the limit, the address with the most loses one for a new one.",
    ),
    (
        "alerts.error_rate",
        "Alarm above this percentage of rate limit calls that are answered with an error; like each of the next seven, `off` switches it off.",
    ),
    (
        "alerts.queue_full",
        "Alarm while the queue to the shared store is fuller than this percentage of `queue.max_size`.",
    ),
    (
        "alerts.circuit_trips",
        "Alarm when breakers open more often than this in a window.",
    ),
    (
        "alerts.response_time",
        "Alarm when of 100 rate limit calls more than one takes longer, from the first byte in to the last byte out.",
    ),
    (
        "alerts.batch_failures",
        "Alarm above this percentage of failed calls to the shared store.",
    ),
    (
        "alerts.redis_latency",
        "Alarm when of 100 calls to the shared store more than one takes longer, abandoned ones included.",
    ),
    (
        "alerts.store_down",
        "Alarm when a shared store has not been asked for longer, since it cannot be.",
    ),
    (
        "alerts.unknown_domains",
        "Alarm when more queries of a window than this are for domains that no policy has, and so pass unlimited. `0` alarms at the first one.",
    ),
    (
        "alerts.keys_full",
        "Alarm when more verdicts of a window than this come from counters that keys share, since `store.memory.max_keys` leaves no room for more keys of their rule. `0` alarms at the first one.",
    ),
    (
        "alerts.window",
        "Percentages, times and counts are of this long, at least 1s.",
    ),
    (
        "alerts.for",
        "A value has to be above its threshold for this long; not for `circuit_trips`, `store_down`, `unknown_domains` and `keys_full`.",
    ),
    (
        "alerts.keep_firing_for",
        "An alert ends when its value has been below nine tenths of the threshold for this long.",
    ),
    (
        "alerts.min_calls",
        "Percentages and times of fewer calls in a window are not judged.",
    ),
    (
        "alerts.alertmanager_url",
        "Where Alertmanager is, such as `http://127.0.0.1:9093`; every one of a cluster, with commas between them. Without one, alerts are in the log, in the metrics and in `/alerts` only.",
    ),
    ("telemetry.prometheus", "Serve `/metrics`."),
    (
        "telemetry.otlp_endpoint",
        "Where metrics and spans are pushed to, as OTLP: `http://HOST:PORT` or `https://`. [OpenTelemetry's own variables](docs/opentelemetry.md) count too.",
    ),
    (
        "telemetry.otlp_protocol",
        "`grpc` or `http/protobuf`. Unless it is said: the latter if the port is 4318.",
    ),
    (
        "telemetry.traces.ratio",
        "The share, 0 to 1, of calls without a trace of their own that are recorded as one. A call whose `traceparent` says that its trace is recorded always is.",
    ),
    (
        "telemetry.log.level",
        "`error`, `warn`, `info`, `debug` or `trace`.",
    ),
    ("telemetry.log.format", "`text` or `json`."),
];
