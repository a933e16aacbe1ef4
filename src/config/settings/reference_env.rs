//! Variables of envoyproxy/ratelimit in the environment of Tollgate. They have no effect here, so each
//! that is set is a warning with the setting that replaces it.
//!
//! Some of its names are other programs' too (`PORT`, `LOG_LEVEL`). Those are warned of only beside
//! one that nobody else has. What a variable says is never shown: it may be a password.

use super::service_links::ServiceLinks;
use super::{Settings, StoreKind, env};
use crate::config::report::{Problem, Report, Severity};

/// Notes every variable of envoyproxy/ratelimit that is set. An empty one says nothing.
pub(super) fn note(env: &[(String, String)], settings: &Settings, report: &mut Report) {
    let links = ServiceLinks::of(env.iter().map(|(name, _)| name.as_str()));
    let is_set = |name: &str, value: &str| {
        !value.trim().is_empty() && !links.has(name, value) && !is_link_of_service(name, value)
    };
    let mut names: Vec<&str> = env
        .iter()
        .filter(|(name, value)| is_set(name, value))
        .map(|(name, _)| name.as_str())
        .collect();
    names.sort_unstable();
    names.dedup();
    let mut known = names.iter().filter_map(|name| variable(name));
    let certain = known.any(|variable| variable.whose == Whose::Reference);
    for name in names {
        if let Some(variable) = variable(name)
            && (certain || variable.whose != Whose::Anybody)
        {
            report.push(problem(name, variable, settings));
        }
    }
}

fn variable(name: &str) -> Option<&'static Variable> {
    let known = VARIABLES.iter().find(|variable| variable.name == name);
    known.or_else(|| name.starts_with(MOGRIFIER.name).then_some(&MOGRIFIER))
}

/// `STATSD_PORT=tcp://10.0.0.1:8125` is Kubernetes' beside a Service called `statsd`.
fn is_link_of_service(name: &str, value: &str) -> bool {
    let protocols = ["tcp://", "udp://", "sctp://"];
    name.ends_with("_PORT") && protocols.iter().any(|protocol| value.starts_with(protocol))
}

fn problem(name: &str, variable: &Variable, settings: &Settings) -> Problem {
    let mut message = "this variable of envoyproxy/ratelimit has no effect".to_owned();
    if let Some(consequence) = consequence(variable.means, settings) {
        message.push_str(": ");
        message.push_str(&consequence);
    }
    let settings = variable.settings.iter();
    let settings: Vec<String> = settings
        .map(|setting| {
            let path = setting.split(':').next().unwrap_or(setting);
            format!("{setting} ({})", env::variable(path))
        })
        .collect();
    let hint = match (settings.is_empty(), variable.note) {
        (true, "") => "there is no equivalent".to_owned(),
        (true, note) => format!("there is no equivalent: {note}"),
        (false, "") => format!("set {}", settings.join(" and ")),
        (false, note) => format!("set {}; {note}", settings.join(" and ")),
    };
    Problem {
        severity: Severity::Warning,
        file: name.into(),
        line: 0,
        column: 0,
        path: String::new(),
        message,
        hint: Some(hint),
    }
}

/// The consequence of ignoring a variable that an operator may rely on.
fn consequence(means: Means, settings: &Settings) -> Option<String> {
    let redis = &settings.store.redis;
    match (means, settings.store.kind) {
        (Means::Detail, _) => None,
        (Means::Store | Means::PerSecond, StoreKind::Memory) => Some(
            "counts are kept in the memory of this process, so N replicas together admit N times \
             each limit"
                .to_owned(),
        ),
        (Means::Store, StoreKind::Redis) => Some(format!("counts are kept in {}", redis.url)),
        (Means::PerSecond, StoreKind::Redis) => {
            let url = redis.per_second_url.as_ref().unwrap_or(&redis.url);
            Some(format!("limits per second are counted in {url}"))
        }
        (Means::Policies, _) => {
            let path = settings.policies.path.display();
            Some(format!("policies are read from {path}"))
        }
        (Means::Mode, _) if settings.defaults.shadow_mode => None,
        (Means::Mode, _) => Some("limits are enforced".to_owned()),
        (Means::Tls, _) => Some("the gRPC listener has no TLS and answers every caller".to_owned()),
    }
}

/// Whose variable a name is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// envoyproxy/ratelimit's alone.
    Reference,
    /// Other programs have it too, but set here it most likely means the rate limit service.
    Likely,
    /// That of many programs.
    Anybody,
}

/// What it matters that a variable has no effect.
#[derive(Clone, Copy)]
enum Means {
    Detail,
    Mode,
    PerSecond,
    Policies,
    Store,
    Tls,
}

/// A variable of envoyproxy/ratelimit.
struct Variable {
    name: &'static str,
    whose: Whose,
    means: Means,
    /// The settings that replace it: their paths, each with a value where only one will do.
    settings: &'static [&'static str],
    /// What else to know; without settings, why there are none.
    note: &'static str,
}

const fn of(name: &'static str, settings: &'static [&'static str], note: &'static str) -> Variable {
    Variable {
        name,
        whose: Whose::Reference,
        means: Means::Detail,
        settings,
        note,
    }
}

impl Variable {
    const fn means(self, means: Means) -> Self {
        Self { means, ..self }
    }

    const fn likely(self) -> Self {
        let whose = Whose::Likely;
        Self { whose, ..self }
    }

    const fn anybody(self) -> Self {
        let whose = Whose::Anybody;
        Self { whose, ..self }
    }
}

const KIND: &str = "store.kind: redis";
const URL: &str = "store.redis.url";
const PER_SECOND: &str = "store.redis.per_second_url";
const PASSWORD: &str = "store.redis.password_file";
const OTLP: &str = "telemetry.otlp_endpoint";
const NO_STATSD: &str = "metrics are on listen.http at /metrics, and are pushed by OTLP \
                         (telemetry.otlp_endpoint)";
const NO_XDS: &str = "policies come from files (policies.path)";
const NO_POOL: &str =
    "each thread has one connection to each server, over which calls go in batches";
const NO_MEMCACHE: &str = "counts that replicas share are kept in Redis (store.kind: redis)";
const NO_LISTENER_TLS: &str = "let a mesh or a proxy on the same host end TLS before it";
const NO_RETRY: &str = "a lost Redis is looked for until it is back, and on_store_failure decides \
                        meanwhile";
const NO_HEADER_NAMES: &str = "response.headers: reference sends RateLimit-Limit, \
                               RateLimit-Remaining and RateLimit-Reset";
const RESOURCE: &str = "set OTEL_RESOURCE_ATTRIBUTES";
const SCHEME: &str = "the scheme of the address says it: redis://, redis+unix://, \
                      redis-sentinel:// or redis-cluster://, with TLS rediss://";

/// `DOG_STATSD_MOGRIFIER_<NAME>_PATTERN` and its like: the beginning of their names.
const MOGRIFIER: Variable = of("DOG_STATSD_MOGRIFIER_", &[], NO_STATSD);

#[rustfmt::skip]
const VARIABLES: &[Variable] = &[
    of("BACKEND_TYPE", &[KIND, URL], "memcached is not supported").likely().means(Means::Store),
    of("CACHE_KEY_PREFIX", &["store.redis.key_prefix"], "").anybody(),
    of("CONFIG_GRPC_XDS_CLIENT_ADDITIONAL_HEADERS", &[], NO_XDS),
    of("CONFIG_GRPC_XDS_CLIENT_TLS_CERT", &[], NO_XDS),
    of("CONFIG_GRPC_XDS_CLIENT_TLS_KEY", &[], NO_XDS),
    of("CONFIG_GRPC_XDS_NODE_ID", &[], NO_XDS),
    of("CONFIG_GRPC_XDS_NODE_METADATA", &[], NO_XDS),
    of("CONFIG_GRPC_XDS_SERVER_CONNECT_RETRY_INTERVAL", &[], NO_XDS),
    of("CONFIG_GRPC_XDS_SERVER_TLS_CACERT", &[], NO_XDS),
    of("CONFIG_GRPC_XDS_SERVER_TLS_SAN", &[], NO_XDS),
    of("CONFIG_GRPC_XDS_SERVER_URL", &[], NO_XDS).means(Means::Policies),
    of("CONFIG_GRPC_XDS_SERVER_USE_TLS", &[], NO_XDS),
    of("CONFIG_TYPE", &[], NO_XDS).anybody().means(Means::Policies),
    of("DEBUG_HOST", &["listen.admin"], "").anybody(),
    of("DEBUG_PORT", &["listen.admin"], "").anybody(),
    of("DISABLE_STATS", &["telemetry.prometheus: false"], ""),
    of("EXPIRATION_JITTER_MAX_SECONDS", &[], "counters expire with their windows"),
    of("EXTRA_TAGS", &[], "let the collector add labels, or set OTEL_RESOURCE_ATTRIBUTES").anybody(),
    of("FORCE_START_WITHOUT_INITIAL_CONFIG", &[], "it starts only with policies that can be used"),
    of("GRPC_CLIENT_TLS_CACERT", &[], NO_LISTENER_TLS).means(Means::Tls),
    of("GRPC_CLIENT_TLS_SAN", &[], NO_LISTENER_TLS).means(Means::Tls),
    of("GRPC_HOST", &["listen.grpc"], "").anybody(),
    of("GRPC_MAX_CONNECTION_AGE", &["connection.max_age"], ""),
    of("GRPC_MAX_CONNECTION_AGE_GRACE", &["connection.max_age_grace"], ""),
    of("GRPC_PORT", &["listen.grpc"], "").anybody(),
    of("GRPC_SERVER_TLS_CERT", &[], NO_LISTENER_TLS).means(Means::Tls),
    of("GRPC_SERVER_TLS_KEY", &[], NO_LISTENER_TLS).means(Means::Tls),
    of("GRPC_SERVER_USE_TLS", &[], NO_LISTENER_TLS).means(Means::Tls),
    of("GRPC_UDS", &["listen.grpc"], "as unix:/PATH").likely(),
    of("HEALTHY_WITH_AT_LEAST_ONE_CONFIG_LOADED", &[], "it is ready only with policies"),
    of("HOST", &["listen.http"], "").anybody(),
    of("LIMIT_LIMIT_HEADER", &[], NO_HEADER_NAMES),
    of("LIMIT_REMAINING_HEADER", &[], NO_HEADER_NAMES),
    of("LIMIT_RESET_HEADER", &[], NO_HEADER_NAMES),
    of("LIMIT_RESPONSE_HEADERS_ENABLED", &["response.headers: reference"], ""),
    of("LOCAL_CACHE_SIZE_IN_BYTES", &[], "keys over their limit are asked for like all others"),
    of("LOG_FORMAT", &["telemetry.log.format"], "").anybody(),
    of("LOG_LEVEL", &["telemetry.log.level"], "").anybody(),
    of("MEMCACHE_HOST_PORT", &[], NO_MEMCACHE).means(Means::Store),
    of("MEMCACHE_MAX_IDLE_CONNS", &[], NO_MEMCACHE),
    of("MEMCACHE_SRV", &[], NO_MEMCACHE).means(Means::Store),
    of("MEMCACHE_SRV_REFRESH", &[], NO_MEMCACHE),
    of("MEMCACHE_TLS", &[], NO_MEMCACHE),
    of("MEMCACHE_TLS_CACERT", &[], NO_MEMCACHE),
    of("MEMCACHE_TLS_CLIENT_CERT", &[], NO_MEMCACHE),
    of("MEMCACHE_TLS_CLIENT_KEY", &[], NO_MEMCACHE),
    of("MEMCACHE_TLS_SKIP_HOSTNAME_VERIFICATION", &[], NO_MEMCACHE),
    of("MERGE_DOMAIN_CONFIG", &["policies.merge_domains"], ""),
    of("NEAR_LIMIT_RATIO", &[], "a limit is near from 80% on"),
    of("PORT", &["listen.http"], "").anybody(),
    of("PROMETHEUS_ADDR", &["listen.http"], "metrics are at /metrics").anybody(),
    of("PROMETHEUS_MAPPER_YAML", &[], "docs/metrics.md lists the metrics"),
    of("PROMETHEUS_PATH", &[], "metrics are on listen.http at /metrics").anybody(),
    of("PROMETHEUS_RESPONSE_TIME_AS_MILLISECONDS", &[], "times are in seconds"),
    of("QUOTA_MODE", &[], "quota_mode is set in each rule").means(Means::Mode),
    of("REDIS_AUTH", &[PASSWORD], "or a user and a password in the address").likely(),
    of("REDIS_CLUSTER_PIPELINE_PARALLELISM", &[], NO_POOL),
    of("REDIS_HEALTH_CHECK_ACTIVE_CONNECTION", &[], "GET /store on listen.admin tells how it is"),
    of("REDIS_PERSECOND", &[PER_SECOND], ""),
    of("REDIS_PERSECOND_AUTH", &[PER_SECOND], "with a user and a password in it"),
    of("REDIS_PERSECOND_CLUSTER_PIPELINE_PARALLELISM", &[], NO_POOL),
    of("REDIS_PERSECOND_PIPELINE_LIMIT", &["queue.batch_size"], ""),
    of("REDIS_PERSECOND_PIPELINE_WINDOW", &[], NO_POOL),
    of("REDIS_PERSECOND_POOL_ON_EMPTY_BEHAVIOR", &[], NO_POOL),
    of("REDIS_PERSECOND_POOL_SIZE", &[], NO_POOL),
    of("REDIS_PERSECOND_SENTINEL_AUTH", &["store.redis.sentinel.password_file"], ""),
    of("REDIS_PERSECOND_SOCKET_TYPE", &[PER_SECOND], SCHEME),
    of("REDIS_PERSECOND_TIMEOUT", &["store.redis.connect_timeout"], ""),
    of("REDIS_PERSECOND_TLS", &[PER_SECOND], SCHEME),
    of("REDIS_PERSECOND_TYPE", &[PER_SECOND], SCHEME),
    of("REDIS_PERSECOND_URL", &[KIND, PER_SECOND], "").means(Means::PerSecond),
    of("REDIS_PIPELINE_LIMIT", &["queue.batch_size"], ""),
    of("REDIS_PIPELINE_WINDOW", &[], NO_POOL),
    of("REDIS_POOL_ON_EMPTY_BEHAVIOR", &[], NO_POOL),
    of("REDIS_POOL_SIZE", &[], NO_POOL).likely(),
    of("REDIS_SENTINEL_AUTH", &["store.redis.sentinel.password_file"], "").likely(),
    of("REDIS_SOCKET_TYPE", &[KIND, URL], SCHEME).means(Means::Store),
    of("REDIS_STARTUP_INITIAL_INTERVAL", &[], NO_RETRY),
    of("REDIS_STARTUP_MAX_ELAPSED_TIME", &[], NO_RETRY),
    of("REDIS_STARTUP_MAX_INTERVAL", &[], NO_RETRY),
    of("REDIS_TIMEOUT", &["store.redis.connect_timeout"], "").likely(),
    of("REDIS_TLS", &[URL], "with TLS its scheme is rediss://").likely(),
    of("REDIS_TLS_CACERT", &["store.redis.tls.ca_file"], ""),
    of("REDIS_TLS_CLIENT_CERT", &["store.redis.tls.cert_file"], ""),
    of("REDIS_TLS_CLIENT_KEY", &["store.redis.tls.key_file"], ""),
    of("REDIS_TLS_SKIP_HOSTNAME_VERIFICATION", &["store.redis.tls.server_name"],
       "to the name that the certificate has"),
    of("REDIS_TYPE", &[KIND, URL], SCHEME).likely().means(Means::Store),
    of("REDIS_URL", &[KIND, URL], "").likely().means(Means::Store),
    of("RESPONSE_DYNAMIC_METADATA", &["response.dynamic_metadata"], ""),
    of("RUNTIME_APPDIRECTORY", &["policies.path"], "").means(Means::Policies),
    of("RUNTIME_IGNOREDOTFILES", &[], "files and folders whose names begin with a dot are never read"),
    of("RUNTIME_ROOT", &["policies.path"], "").means(Means::Policies),
    of("RUNTIME_SUBDIRECTORY", &["policies.path"], "").means(Means::Policies),
    of("RUNTIME_WATCH_ROOT", &["policies.watch"], ""),
    of("SHADOW_MODE", &["defaults.shadow_mode"], "").likely().means(Means::Mode),
    of("STATSD_HOST", &[], NO_STATSD).anybody(),
    of("STATSD_PORT", &[], NO_STATSD).anybody(),
    of("STATS_FLUSH_INTERVAL", &[],
       "/metrics is always up to date; OTEL_METRIC_EXPORT_INTERVAL is the period of pushes"),
    of("STOP_CACHE_KEY_INCREMENT_WHEN_OVERLIMIT", &["defaults.denied_hits"], ""),
    of("TRACING_ENABLED", &[OTLP, "telemetry.traces.ratio"], "").anybody(),
    of("TRACING_EXPORTER_PROTOCOL", &["telemetry.otlp_protocol"], ""),
    of("TRACING_SAMPLING_RATE", &["telemetry.traces.ratio"], "").anybody(),
    of("TRACING_SERVICE_INSTANCE_ID", &[], RESOURCE),
    of("TRACING_SERVICE_NAME", &[], "set OTEL_SERVICE_NAME").anybody(),
    of("TRACING_SERVICE_NAMESPACE", &[], RESOURCE),
    of("USE_DOG_STATSD", &[], NO_STATSD),
    of("USE_DOG_STATSD_MOGRIFIERS", &[], NO_STATSD),
    of("USE_PROMETHEUS", &["telemetry.prometheus"], "metrics are on listen.http at /metrics"),
    of("USE_STATSD", &[], NO_STATSD),
    of("XDS_CLIENT_BACKOFF_INITIAL_INTERVAL", &[], NO_XDS),
    of("XDS_CLIENT_BACKOFF_JITTER", &[], NO_XDS),
    of("XDS_CLIENT_BACKOFF_MAX_INTERVAL", &[], NO_XDS),
    of("XDS_CLIENT_BACKOFF_RANDOM_FACTOR", &[], NO_XDS),
    of("XDS_CLIENT_MAX_MSG_SIZE_IN_BYTES", &[], NO_XDS),
];
