//! What is said of variables of envoyproxy/ratelimit, and of those that only look like it.

use crate::config::settings::{Overrides, Settings};

/// What is said of these variables beside a file, a line each.
fn said(text: &str, env: &[(&str, &str)]) -> Vec<String> {
    let env = env
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let file = Some(("t.yaml", text.as_bytes()));
    let loaded = Settings::load_to_serve(file, env, Overrides::default()).unwrap();
    let problems = loaded.warnings.problems().iter();
    problems.map(ToString::to_string).collect()
}

/// The names of the variables that are warned of.
fn warned(env: &[(&str, &str)]) -> Vec<String> {
    let name = |line: String| line.split(':').next().unwrap_or_default().to_owned();
    said("", env).into_iter().map(name).collect()
}

#[test]
fn each_is_told_with_what_comes_of_it_and_what_replaces_it() {
    let env = [
        ("REDIS_URL", "redis:6379"),
        ("RUNTIME_ROOT", "/data"),
        ("SHADOW_MODE", "true"),
        ("USE_STATSD", "false"),
    ];
    let no_effect = "warning: this variable of envoyproxy/ratelimit has no effect";
    assert_eq!(
        said("", &env),
        [
            format!(
                "REDIS_URL: {no_effect}: counts are kept in the memory of this process, so N \
                 replicas together admit N times each limit (set store.kind: redis \
                 (TOLLGATE_STORE__KIND) and store.redis.url (TOLLGATE_STORE__REDIS__URL))"
            ),
            format!(
                "RUNTIME_ROOT: {no_effect}: policies are read from config/policies (set \
                 policies.path (TOLLGATE_POLICIES__PATH))"
            ),
            format!(
                "SHADOW_MODE: {no_effect}: limits are enforced (set defaults.shadow_mode \
                 (TOLLGATE_DEFAULTS__SHADOW_MODE))"
            ),
            format!(
                "USE_STATSD: {no_effect} (there is no equivalent: metrics are on listen.http at \
                 /metrics, and are pushed by OTLP (telemetry.otlp_endpoint))"
            ),
        ]
    );
    let shared = "store: {kind: redis, redis: {url: 'redis://u:hunter2@h:1'}}\n";
    let told = said(shared, &[("REDIS_URL", "other:6379")]);
    assert!(
        told[0].contains("counts are kept in redis://u:***@h:1 ("),
        "{told:?}"
    );
}

#[test]
fn no_value_is_ever_shown() {
    for (name, value) in [
        ("REDIS_AUTH", "user:hunter2"),
        ("REDIS_PERSECOND_AUTH", "hunter2"),
        ("REDIS_SENTINEL_AUTH", "hunter2"),
        ("REDIS_URL", "redis://:hunter2@h"),
        (
            "CONFIG_GRPC_XDS_CLIENT_ADDITIONAL_HEADERS",
            "authorization:hunter2",
        ),
    ] {
        let told = said("", &[(name, value)]);
        assert_eq!(told.len(), 1, "{name}");
        assert!(!told[0].contains("hunter2"), "{told:?}");
    }
}

#[test]
fn what_other_programs_have_too_is_told_only_beside_what_nobody_else_has() {
    let common = [
        ("HOST", "0.0.0.0"),
        ("LOG_LEVEL", "debug"),
        ("PORT", "8080"),
        ("STATSD_HOST", "statsd"),
        ("TRACING_ENABLED", "true"),
    ];
    assert!(warned(&common).is_empty());
    let mut likely = common.to_vec();
    likely.push(("REDIS_URL", "redis:6379"));
    assert_eq!(warned(&likely), ["REDIS_URL"]);
    let mut certain = common.to_vec();
    certain.push(("RUNTIME_ROOT", "/data"));
    assert_eq!(
        warned(&certain),
        [
            "HOST",
            "LOG_LEVEL",
            "PORT",
            "RUNTIME_ROOT",
            "STATSD_HOST",
            "TRACING_ENABLED"
        ]
    );
}

#[test]
fn an_ordinary_pod_is_told_nothing() {
    let pod = [
        ("HOME", "/"),
        ("HOSTNAME", "tollgate-0"),
        ("KUBERNETES_PORT", "tcp://10.0.0.1:443"),
        ("KUBERNETES_SERVICE_HOST", "10.0.0.1"),
        ("PATH", "/bin"),
        // Services called redis, statsd, debug, grpc, tollgate and tollgate-admin.
        ("REDIS_PORT", "tcp://10.0.0.2:6379"),
        ("REDIS_SERVICE_HOST", "10.0.0.2"),
        ("STATSD_PORT", "udp://10.0.0.3:8125"),
        ("DEBUG_PORT", "tcp://10.0.0.4:80"),
        ("GRPC_PORT", "tcp://10.0.0.5:80"),
        ("TOLLGATE_PORT", "tcp://10.0.0.6:8081"),
        ("TOLLGATE_PORT_8081_TCP", "tcp://10.0.0.6:8081"),
        ("TOLLGATE_PORT_8081_TCP_ADDR", "10.0.0.6"),
        ("TOLLGATE_PORT_8081_TCP_PORT", "8081"),
        ("TOLLGATE_PORT_8081_TCP_PROTO", "tcp"),
        ("TOLLGATE_SERVICE_HOST", "10.0.0.6"),
        ("TOLLGATE_SERVICE_PORT", "8081"),
        ("TOLLGATE_SERVICE_PORT_GRPC", "8081"),
        ("TOLLGATE_ADMIN_PORT", "tcp://10.0.0.7:6070"),
        ("TOLLGATE_ADMIN_SERVICE_HOST", "10.0.0.7"),
        ("TOLLGATE_ADMIN_SERVICE_PORT", "6070"),
        // Set, and saying nothing.
        ("REDIS_AUTH", ""),
        ("RUNTIME_ROOT", " "),
    ];
    assert_eq!(said("", &pod), [""; 0]);
    let mut beside = pod.to_vec();
    beside.push(("USE_STATSD", "true"));
    assert_eq!(warned(&beside), ["USE_STATSD"]);
}

#[test]
fn the_settings_that_are_named_exist() {
    let names = [
        "BACKEND_TYPE",
        "CACHE_KEY_PREFIX",
        "DISABLE_STATS",
        "GRPC_MAX_CONNECTION_AGE",
        "GRPC_MAX_CONNECTION_AGE_GRACE",
        "GRPC_UDS",
        "LIMIT_RESPONSE_HEADERS_ENABLED",
        "LOG_FORMAT",
        "MERGE_DOMAIN_CONFIG",
        "PROMETHEUS_ADDR",
        "REDIS_AUTH",
        "REDIS_PERSECOND_URL",
        "REDIS_PIPELINE_LIMIT",
        "REDIS_SENTINEL_AUTH",
        "REDIS_TIMEOUT",
        "REDIS_TLS_CACERT",
        "REDIS_TLS_CLIENT_CERT",
        "REDIS_TLS_CLIENT_KEY",
        "REDIS_TLS_SKIP_HOSTNAME_VERIFICATION",
        "RESPONSE_DYNAMIC_METADATA",
        "RUNTIME_ROOT",
        "RUNTIME_WATCH_ROOT",
        "SHADOW_MODE",
        "STOP_CACHE_KEY_INCREMENT_WHEN_OVERLIMIT",
        "TRACING_ENABLED",
        "TRACING_EXPORTER_PROTOCOL",
        "DEBUG_PORT",
        "USE_PROMETHEUS",
    ];
    let env = names.map(|name| (name, "1"));
    let told = said("", &env);
    assert_eq!(told.len(), names.len());
    let known: Vec<String> = super::table::paths().map(super::env::variable).collect();
    for line in told {
        let named = line.split('(').filter_map(|part| part.split(')').next());
        let named: Vec<&str> = named.filter(|part| part.starts_with("TOLLGATE_")).collect();
        assert!(!named.is_empty(), "{line}");
        for variable in named {
            assert!(known.iter().any(|known| known == variable), "{line}");
        }
    }
}
