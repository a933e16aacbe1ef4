//! The public list of metrics: every name, unit and help text stands here and nowhere else.
//!
//! Names follow OpenTelemetry: dots between words that nest, no unit and no `total` in the name.
//! The Prometheus exporter maps them: dots become underscores, the unit is appended (`s` to
//! `_seconds`; one in braces only annotates), a counter gets `_total`. Attributes are bounded:
//! domains and rules as operators wrote them, never what a client sent, save where a rule asks for
//! it (`detailed_metric`, `value_to_metric`), and then capped.

/// A metric, as `/metrics` and the documentation name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instrument {
    /// Its OpenTelemetry name.
    pub name: &'static str,
    /// Its unit in UCUM; in braces, what is counted.
    pub unit: &'static str,
    /// What it tells, for people.
    pub help: &'static str,
    /// How it behaves.
    pub kind: Kind,
    /// What its series are told apart by.
    pub attributes: &'static [&'static str],
}

/// How a metric behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// It only grows.
    Counter,
    /// It goes up and down.
    Gauge,
    /// It sorts what it measures into buckets.
    Histogram,
}

impl Kind {
    /// Prometheus's word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

impl Instrument {
    /// The name on `/metrics`.
    #[must_use]
    pub fn prometheus_name(&self) -> String {
        let mut name = self.name.replace('.', "_");
        name.push_str(match self.unit {
            "s" => "_seconds",
            "1" if self.kind == Kind::Gauge => "_ratio",
            _ => "",
        });
        if self.kind == Kind::Counter {
            name.push_str("_total");
        }
        name
    }
}

/// Every metric that exists, by name.
pub const ALL: [Instrument; 44] = [
    DB_DURATION,
    RPC_DURATION,
    ALERT_ACTIVE,
    ALERT_NOTIFICATIONS,
    ALERT_TRANSITIONS,
    ALERT_VALUE,
    BUILD_INFO,
    DECISION_DURATION,
    DECISIONS,
    SERIES_OVERFLOW,
    ADMIN_REFUSALS,
    PROTOCOL_ERRORS,
    NEAR_LIMIT,
    POLICY_INFO,
    POLICY_LOADED,
    POLICY_REFUSED,
    POLICY_RELOADS,
    POLICY_RULES,
    QUEUE_LENGTH,
    QUEUE_LIMIT,
    QUEUE_UTILIZATION,
    REQUESTS,
    IN_FLIGHT,
    REFUSED,
    DENIED_UNREAD,
    RULE_ENFORCEMENT,
    SETTINGS_REFUSED,
    STORE_BATCH_SIZE,
    STORE_CALL_CHECKS,
    STORE_CALL_QUERIES,
    STORE_CALLS,
    STORE_EXPIRED,
    STORE_FALLBACKS,
    STORE_KEY_LIMIT,
    STORE_KEYS,
    STORE_LOCAL_TIME,
    STORE_LOG_OVERFLOWS,
    STORE_OVERFLOW_DECISIONS,
    STORE_OVERFLOW_REFUNDS,
    STORE_OVERFLOW_REFUSED,
    STORE_RECONCILED,
    STORE_STATE,
    STORE_TRANSITIONS,
    TELEMETRY_DROPPED,
];

pub(super) const DB_DURATION: Instrument = Instrument {
    name: "db.client.operation.duration",
    unit: "s",
    help: "Time that calls to a shared store took, failed ones included, and abandoned ones until they were answered or 5 s had passed, as OpenTelemetry names it",
    kind: Kind::Histogram,
    attributes: &[
        "db.system.name",
        "db.operation.name",
        "db.stored_procedure.name",
        "store",
        "error.type",
    ],
};
pub(super) const RPC_DURATION: Instrument = Instrument {
    name: "rpc.server.call.duration",
    unit: "s",
    help: "Time of rate limit calls from the first byte in to the last byte out, as OpenTelemetry names it",
    kind: Kind::Histogram,
    attributes: &[
        "rpc.system.name",
        "rpc.method",
        "rpc.status_code",
        "error.type",
    ],
};
pub(super) const ALERT_ACTIVE: Instrument = Instrument {
    name: "tollgate.alert.active",
    unit: "",
    help: "1 while the alert fires, else 0; one that is switched off is not there",
    kind: Kind::Gauge,
    attributes: &["alert", "severity"],
};
pub(super) const ALERT_NOTIFICATIONS: Instrument = Instrument {
    name: "tollgate.alert.notifications",
    unit: "{notification}",
    help: "Posts to Alertmanager by result: ok, or failed and tried again; and transitions of which it was not told in time (dropped)",
    kind: Kind::Counter,
    attributes: &["result"],
};
pub(super) const ALERT_TRANSITIONS: Instrument = Instrument {
    name: "tollgate.alert.transitions",
    unit: "{transition}",
    help: "Times that an alert began to fire or was resolved",
    kind: Kind::Counter,
    attributes: &["alert", "state"],
};
pub(super) const ALERT_VALUE: Instrument = Instrument {
    name: "tollgate.alert.value",
    unit: "",
    help: "What the alert is judged by, in the unit of its threshold: percent, seconds or a number; 0 if there are too few calls to say",
    kind: Kind::Gauge,
    attributes: &["alert"],
};
pub(super) const BUILD_INFO: Instrument = Instrument {
    name: "tollgate.build.info",
    unit: "",
    help: "Always 1; its attributes tell which build runs",
    kind: Kind::Gauge,
    attributes: &["version", "profile", "os", "arch"],
};
pub(super) const DECISION_DURATION: Instrument = Instrument {
    name: "tollgate.decision.duration",
    unit: "s",
    help: "Time from the decoded request to the encoded answer",
    kind: Kind::Histogram,
    attributes: &[],
};
pub(super) const DECISIONS: Instrument = Instrument {
    name: "tollgate.decisions",
    unit: "{decision}",
    help: "Decided descriptors by domain, rule, outcome, and who decided",
    kind: Kind::Counter,
    attributes: &["domain", "rule", "outcome", "source"],
};
pub(super) const SERIES_OVERFLOW: Instrument = Instrument {
    name: "tollgate.metric.series.overflow",
    unit: "{decision}",
    help: "Decisions that were counted under a coarser rule label, since a cap on series was reached",
    kind: Kind::Counter,
    attributes: &[],
};
pub(super) const PROTOCOL_ERRORS: Instrument = Instrument {
    name: "tollgate.grpc.protocol_errors",
    unit: "{error}",
    help: "Connections and streams on the gRPC port that ended by a protocol error, by reason: their calls were not decided, and Envoy lets such requests pass unless told otherwise",
    kind: Kind::Counter,
    attributes: &["reason"],
};
pub(super) const ADMIN_REFUSALS: Instrument = Instrument {
    name: "tollgate.admin.refusals",
    unit: "{request}",
    help: "Requests that the admin listener refused, by reason: a Host that is not served, a wrong token, a web page",
    kind: Kind::Counter,
    attributes: &["reason"],
};
pub(super) const NEAR_LIMIT: Instrument = Instrument {
    name: "tollgate.near_limit.hits",
    unit: "{hit}",
    help: "Hits that were let pass and left less than a fifth of their limit",
    kind: Kind::Counter,
    attributes: &["domain", "rule"],
};
pub(super) const POLICY_INFO: Instrument = Instrument {
    name: "tollgate.policy.info",
    unit: "",
    help: "Always 1; its hash tells which policies are in force, so that replicas can be compared",
    kind: Kind::Gauge,
    attributes: &["hash"],
};
pub(super) const POLICY_LOADED: Instrument = Instrument {
    name: "tollgate.policy.loaded.timestamp",
    unit: "s",
    help: "When the policies that are in force were read, as a Unix time; 0 before the first",
    kind: Kind::Gauge,
    attributes: &[],
};
pub(super) const POLICY_REFUSED: Instrument = Instrument {
    name: "tollgate.policy.refused",
    unit: "",
    help: "1 while the policies as they were read last are refused, so that older ones are in force; else 0",
    kind: Kind::Gauge,
    attributes: &[],
};
pub(super) const POLICY_RELOADS: Instrument = Instrument {
    name: "tollgate.policy.reloads",
    unit: "{reload}",
    help: "Times that policies were read, the first included, by result",
    kind: Kind::Counter,
    attributes: &["result"],
};
pub(super) const POLICY_RULES: Instrument = Instrument {
    name: "tollgate.policy.rules",
    unit: "{rule}",
    help: "Rules in force",
    kind: Kind::Gauge,
    attributes: &[],
};
pub(super) const QUEUE_LENGTH: Instrument = Instrument {
    name: "tollgate.queue.length",
    unit: "{query}",
    help: "Queries that wait to be sent to a shared store, on all cores",
    kind: Kind::Gauge,
    attributes: &["store"],
};
pub(super) const QUEUE_LIMIT: Instrument = Instrument {
    name: "tollgate.queue.limit",
    unit: "{query}",
    help: "Queries that may wait to be sent to a shared store: queue.max_size, on all cores together",
    kind: Kind::Gauge,
    attributes: &["store"],
};
pub(super) const QUEUE_UTILIZATION: Instrument = Instrument {
    name: "tollgate.queue.utilization",
    unit: "1",
    help: "Share of what may wait to be sent to a shared store that did, at its fullest in the last second",
    kind: Kind::Gauge,
    attributes: &["store"],
};
pub(super) const REQUESTS: Instrument = Instrument {
    name: "tollgate.requests",
    unit: "{request}",
    help: "Rate limit requests by domain and result: ok, over_limit, or error where the store is away and a rule says on_store_failure: error",
    kind: Kind::Counter,
    attributes: &["domain", "result"],
};
pub(super) const IN_FLIGHT: Instrument = Instrument {
    name: "tollgate.requests.in_flight",
    unit: "{request}",
    help: "Calls whose message is complete and that have not been answered yet",
    kind: Kind::Gauge,
    attributes: &[],
};
pub(super) const REFUSED: Instrument = Instrument {
    name: "tollgate.requests.refused",
    unit: "{request}",
    help: "Calls that were answered with an error, by its gRPC code: Envoy lets such requests pass unless told otherwise",
    kind: Kind::Counter,
    attributes: &["code"],
};
pub(super) const DENIED_UNREAD: Instrument = Instrument {
    name: "tollgate.requests.denied_unread",
    unit: "{request}",
    help: "Calls that were answered OVER_LIMIT before their message was read, by reason: the setting in limits that they exceeded. An error would let them pass",
    kind: Kind::Counter,
    attributes: &["reason"],
};
pub(super) const RULE_ENFORCEMENT: Instrument = Instrument {
    name: "tollgate.rule.enforcement",
    unit: "",
    help: "Whether a rule is enforced right now: 1 exactly, 0.5 by this replica alone since the shared store is away, 0 not at all",
    kind: Kind::Gauge,
    attributes: &["domain", "rule"],
};
pub(super) const SETTINGS_REFUSED: Instrument = Instrument {
    name: "tollgate.settings.refused",
    unit: "",
    help: "1 while the settings as they were read last are refused, so that older ones are in force; else 0",
    kind: Kind::Gauge,
    attributes: &[],
};
pub(super) const STORE_BATCH_SIZE: Instrument = Instrument {
    name: "tollgate.store.batch.size",
    unit: "{check}",
    help: "Checks in one call to a shared store",
    kind: Kind::Histogram,
    attributes: &["store"],
};
pub(super) const STORE_CALL_CHECKS: Instrument = Instrument {
    name: "tollgate.store.call.checks",
    unit: "{check}",
    help: "Checks that calls to a shared store carried: by calls, the size of a batch",
    kind: Kind::Counter,
    attributes: &["store"],
};
pub(super) const STORE_CALL_QUERIES: Instrument = Instrument {
    name: "tollgate.store.call.queries",
    unit: "{query}",
    help: "Queries whose checks calls to a shared store carried: by calls, how many shared a round trip",
    kind: Kind::Counter,
    attributes: &["store"],
};
pub(super) const STORE_CALLS: Instrument = Instrument {
    name: "tollgate.store.calls",
    unit: "{call}",
    help: "Calls to a shared store by what for and by result: ok, or why they failed",
    kind: Kind::Counter,
    attributes: &["store", "operation", "result"],
};
pub(super) const STORE_EXPIRED: Instrument = Instrument {
    name: "tollgate.store.expired",
    unit: "{key}",
    help: "Keys that were removed since nothing in them counted any more",
    kind: Kind::Counter,
    attributes: &[],
};
pub(super) const STORE_FALLBACKS: Instrument = Instrument {
    name: "tollgate.store.fallbacks",
    unit: "{check}",
    help: "Checks that were decided without the shared store, by reason",
    kind: Kind::Counter,
    attributes: &["reason"],
};
pub(super) const STORE_KEY_LIMIT: Instrument = Instrument {
    name: "tollgate.store.key_limit",
    unit: "{key}",
    help: "Most keys with a counter of their own",
    kind: Kind::Gauge,
    attributes: &[],
};
pub(super) const STORE_KEYS: Instrument = Instrument {
    name: "tollgate.store.keys",
    unit: "{key}",
    help: "Keys with a counter of their own",
    kind: Kind::Gauge,
    attributes: &[],
};
pub(super) const STORE_LOCAL_TIME: Instrument = Instrument {
    name: "tollgate.store.local.time",
    unit: "s",
    help: "Time that a shared store was not asked, by one core at least or for one of its nodes at least, from the start of the process",
    kind: Kind::Counter,
    attributes: &["store"],
};
pub(super) const STORE_LOG_OVERFLOWS: Instrument = Instrument {
    name: "tollgate.store.log.overflows",
    unit: "{charge}",
    help: "Charges to a sliding_log that count for longer than a window since the memory for logs is spent",
    kind: Kind::Counter,
    attributes: &[],
};
pub(super) const STORE_OVERFLOW_DECISIONS: Instrument = Instrument {
    name: "tollgate.store.overflow.decisions",
    unit: "{decision}",
    help: "Checks that were decided by shared counters, since the table had no room for more keys of their rule",
    kind: Kind::Counter,
    attributes: &[],
};
pub(super) const STORE_OVERFLOW_REFUNDS: Instrument = Instrument {
    name: "tollgate.store.overflow.refunds",
    unit: "{refund}",
    help: "Refunds that were ignored, since their key shares a counter with others",
    kind: Kind::Counter,
    attributes: &[],
};
pub(super) const STORE_OVERFLOW_REFUSED: Instrument = Instrument {
    name: "tollgate.store.overflow.refused",
    unit: "{decision}",
    help: "Checks denied since the table had no room for more keys of their rule, and none for a shared counter",
    kind: Kind::Counter,
    attributes: &[],
};
pub(super) const STORE_RECONCILED: Instrument = Instrument {
    name: "tollgate.store.reconciled",
    unit: "{hit}",
    help: "Hits that were admitted without the shared store, by whether it was told afterwards",
    kind: Kind::Counter,
    attributes: &["result"],
};
pub(super) const STORE_STATE: Instrument = Instrument {
    name: "tollgate.store.state",
    unit: "",
    help: "1 for the state that a shared store is in, which is that of its worst breaker, else 0",
    kind: Kind::Gauge,
    attributes: &["store", "state"],
};
pub(super) const STORE_TRANSITIONS: Instrument = Instrument {
    name: "tollgate.store.transitions",
    unit: "{transition}",
    help: "Times that the state of a shared store's node changed, which is that of its worst breaker, by the new state",
    kind: Kind::Counter,
    attributes: &["store", "state"],
};

pub(super) const TELEMETRY_DROPPED: Instrument = Instrument {
    name: "tollgate.telemetry.dropped",
    unit: "{item}",
    help: "Spans, lines of the decision log, and pushes of the metrics that were given up, since nobody took them in time",
    kind: Kind::Counter,
    attributes: &["signal"],
};

/// The attribute that keeps each shard's histogram apart; `/metrics` sums over it.
pub(super) const SHARD: &str = "shard";
