//! Settings that contradict each other, whichever source each comes from.

use std::fmt::Display;

use super::redis_url::RedisUrl;
use super::store::{FAILOVER_URLS, Redis, RedisTls};
use super::{ListenAddr, Settings, StoreKind};
use crate::config::report::{Problem, Report, Severity};
use crate::store::redis::Topology;

/// Notes what cannot be meant, and warns of what has no effect.
pub(super) fn note(settings: &Settings, report: &mut Report) {
    let mut notes = Notes { report };
    note_clashes(settings, &mut notes);
    note_empty_path(settings, &mut notes);
    let redis = &settings.store.redis;
    note_failover(redis, &mut notes);
    note_credentials(redis, &mut notes);
    note_tls(redis, &mut notes);
    note_sentinel(redis, &mut notes);
    note_memory(settings, &mut notes);
    note_push(settings, &mut notes);
}

/// What is about a store that replicas share, where each counts alone.
fn note_memory(settings: &Settings, notes: &mut Notes<'_>) {
    if settings.store.kind == StoreKind::Redis {
        return;
    }
    let hint = "write store.kind: redis, or serve with --redis";
    let ignored = "has no effect while store.kind is memory";
    let default = Settings::default();
    for (path, is_set) in [
        ("store.redis", settings.store.redis != default.store.redis),
        ("deadline", settings.deadline != default.deadline),
        (
            "circuit_breaker",
            settings.circuit_breaker != default.circuit_breaker,
        ),
        ("queue", settings.queue != default.queue),
    ] {
        if is_set {
            notes.warning(path, ignored, hint);
        }
    }
    if settings.fleet != default.fleet {
        let message = format!("{ignored}: each replica counts alone and admits whole limits");
        notes.warning("fleet.replicas", message, hint);
    }
}

/// How something is pushed, where nothing is.
fn note_push(settings: &Settings, notes: &mut Notes<'_>) {
    let telemetry = &settings.telemetry;
    if telemetry.otlp_endpoint.is_some() && settings.otel.disabled {
        let message = "has no effect while OTEL_SDK_DISABLED is true";
        notes.warning("telemetry.otlp_endpoint", message, "unset that variable");
        return;
    }
    let push = settings.push();
    let hint = "set telemetry.otlp_endpoint";
    if telemetry.otlp_protocol.is_some() && push.is_none() {
        notes.warning(
            "telemetry.otlp_protocol",
            "has no effect: nothing is pushed",
            hint,
        );
    }
    if telemetry.traces.ratio.is_some() && push.is_none_or(|push| push.traces.is_none()) {
        notes.warning(
            "telemetry.traces.ratio",
            "has no effect: no spans are pushed",
            hint,
        );
    }
}

/// Two listeners on one address: the second could not be bound, or would take the first's socket.
fn note_clashes(settings: &Settings, notes: &mut Notes<'_>) {
    let listen = &settings.listen;
    for (first, second, address) in [
        ("grpc", "http", &listen.http),
        ("grpc", "admin", &listen.admin),
        ("http", "admin", &listen.admin),
    ] {
        let other = if first == "grpc" {
            &listen.grpc
        } else {
            &listen.http
        };
        let any_port = matches!(address, ListenAddr::Tcp { port: 0, .. });
        if other == address && !any_port {
            let message = format!("{address} is also listen.{first}");
            notes.error(&format!("listen.{second}"), message, None);
        }
    }
}

/// A path of no text would be taken for a folder that is missing.
fn note_empty_path(settings: &Settings, notes: &mut Notes<'_>) {
    if settings.policies.path.as_os_str().is_empty() {
        let hint = "name a policy file or a folder of them";
        notes.error("policies.path", "is empty", Some(hint));
    }
}

/// Sentinels and a Cluster fail over by themselves; a list is for servers that do not.
fn note_failover(redis: &Redis, notes: &mut Notes<'_>) {
    let others = &redis.failover_urls.0;
    let is_single = |url: &RedisUrl| matches!(url.address().topology, Topology::Single(_));
    if !others.is_empty() && !is_single(&redis.url) {
        let message = format!("{} fails over by itself", redis.url);
        let hint = "remove them, or name a single server as store.redis.url";
        notes.error(FAILOVER_URLS, message, Some(hint));
    }
    for (at, url) in others.iter().enumerate() {
        let path = format!("{FAILOVER_URLS}[{at}]");
        if !is_single(url) {
            let hint = "redis://, rediss:// or redis+unix://";
            notes.error(&path, format!("{url} is no single server"), Some(hint));
        }
        let before = others.iter().take(at).chain([&redis.url]);
        if before
            .into_iter()
            .any(|other| other.address().topology == url.address().topology)
        {
            let message = format!("{url} stands before it already");
            notes.error(&path, message, Some("name each server once"));
        }
    }
}

/// A user or a password for addresses of which each has its own.
fn note_credentials(redis: &Redis, notes: &mut Notes<'_>) {
    let urls = redis.urls();
    let addresses = || urls.iter().map(|(_, url)| url.address());
    let hint = Some("remove it here or there");
    if redis.username.is_some() && addresses().all(|address| address.username.is_some()) {
        notes.error(
            "store.redis.username",
            "each address has a user already",
            hint,
        );
    }
    if redis.password_file.is_some() && addresses().all(|address| address.password.is_some()) {
        let message = "each address has a password already";
        notes.error("store.redis.password_file", message, hint);
    }
}

/// Whoever names certificates means to be encrypted, so that it is not must be told.
fn note_tls(redis: &Redis, notes: &mut Notes<'_>) {
    note_pair("store.redis.tls", &redis.tls, notes);
    note_pair("store.redis.sentinel.tls", &redis.sentinel.tls, notes);
    let urls = redis.urls();
    let is_sentinel = |url: &RedisUrl| matches!(url.address().topology, Topology::Sentinel { .. });
    for (path, tls, used, message, hint) in [
        (
            "store.redis.tls",
            &redis.tls,
            urls.iter().any(|(_, url)| url.address().tls),
            "no address uses TLS",
            "write rediss:// instead of redis://, or remove it",
        ),
        (
            "store.redis.sentinel.tls",
            &redis.sentinel.tls,
            urls.iter()
                .any(|(_, url)| url.address().tls && is_sentinel(url)),
            "no address is one of Sentinels with TLS",
            "it is for rediss-sentinel://",
        ),
    ] {
        if used {
            continue;
        }
        if let Some((name, _)) = set(tls).into_iter().find(|(_, set)| *set) {
            notes.error(&format!("{path}.{name}"), message, Some(hint));
        }
    }
}

/// A certificate is shown with the key that proves it is one's own.
fn note_pair(path: &str, tls: &RedisTls, notes: &mut Notes<'_>) {
    let hint = Some("write both, or neither");
    match (&tls.cert_file, &tls.key_file) {
        (Some(_), None) => {
            notes.error(
                &format!("{path}.cert_file"),
                "has no key_file beside it",
                hint,
            );
        }
        (None, Some(_)) => {
            notes.error(
                &format!("{path}.key_file"),
                "has no cert_file beside it",
                hint,
            );
        }
        (Some(_), Some(_)) | (None, None) => {}
    }
}

/// Each field by its name, and whether it says something.
fn set(tls: &RedisTls) -> [(&'static str, bool); 4] {
    [
        ("ca_file", tls.ca_file.is_some()),
        ("cert_file", tls.cert_file.is_some()),
        ("key_file", tls.key_file.is_some()),
        ("server_name", tls.server_name.is_some()),
    ]
}

/// What Sentinels are shown, where there are none or they are shown it already.
fn note_sentinel(redis: &Redis, notes: &mut Notes<'_>) {
    let (mut sentinels, mut without_user, mut without_password) = (false, false, false);
    for (_, url) in redis.urls() {
        if let Topology::Sentinel {
            username, password, ..
        } = &url.address().topology
        {
            sentinels = true;
            without_user |= username.is_none();
            without_password |= password.is_none();
        }
    }
    let own = &redis.sentinel;
    for (name, set, used) in [
        ("username", own.username.is_some(), without_user),
        (
            "password_file",
            own.password_file.is_some(),
            without_password,
        ),
    ] {
        let path = format!("store.redis.sentinel.{name}");
        if set && !sentinels {
            notes.warning(&path, "has no effect", "it is for redis-sentinel:// only");
        } else if set && !used {
            let hint = Some("remove it here or there");
            notes.error(&path, "each address has one already", hint);
        }
    }
}

/// Where problems go that have no one place in a file.
struct Notes<'r> {
    report: &'r mut Report,
}

impl Notes<'_> {
    fn error(&mut self, path: &str, message: impl Display, hint: Option<&str>) {
        self.push(Severity::Error, path, message, hint);
    }

    fn warning(&mut self, path: &str, message: impl Display, hint: &str) {
        self.push(Severity::Warning, path, message, Some(hint));
    }

    fn push(&mut self, severity: Severity, path: &str, message: impl Display, hint: Option<&str>) {
        self.report.push(Problem {
            severity,
            file: "settings".into(),
            line: 0,
            column: 0,
            path: path.to_owned(),
            message: message.to_string(),
            hint: hint.map(str::to_owned),
        });
    }
}
