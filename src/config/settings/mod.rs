//! The settings: `tollgate.yaml`, `TOLLGATE_*` variables and flags in, checked values out.
//!
//! Flags win over the environment, that over the file, that over the default; every setting has a
//! default. An unknown key is refused; an unknown variable is only a warning, since others set
//! variables, too (Kubernetes' own, beside a Service called `tollgate`, are passed over). A setting
//! enters here with the code that makes it work.
//!
//! [`Settings`] serializes to what could have been written, so the config dump, the variables'
//! names and the README's table come from it and cannot disagree.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize};

use super::policies::{self, PolicyDefaults};
use crate::model::{Algorithm, DeniedHits, OnStoreFailure};

mod alerts;
mod changes;
mod checks;
mod domains;
mod env;
mod files;
mod guards;
mod hosts;
mod listen;
mod load;
mod origins;
mod otel;
mod otlp;
mod redis_url;
mod reference_env;
mod service_links;
mod store;
mod table;
mod texts;
mod thresholds;
mod values;
mod words;

#[cfg(test)]
mod alerts_tests;
#[cfg(test)]
mod files_tests;
#[cfg(test)]
mod otel_tests;
#[cfg(test)]
mod reference_env_tests;
#[cfg(test)]
mod store_tests;
#[cfg(test)]
mod tests;

pub use alerts::Alerts;
pub use changes::{Changes, SettingChange};
pub use guards::{CircuitBreaker, Deadline, Fleet, Queue};
pub use hosts::HostNames;
pub use listen::{ListenAddr, ListenAddrError};
pub use load::{Loaded, Overrides};
use origins::Origins;
pub use otel::Otel;
pub use otlp::{OtlpEndpoint, ProtocolName, Traces};
pub use redis_url::{RedisUrl, RedisUrlError, RedisUrls};
pub use store::{Memory, Redis, RedisTls, Sentinel, Store};
pub use table::settings_table;
pub use texts::{KeyPrefix, ServerName};
pub use thresholds::{AlertmanagerUrls, OrOff, Percent};
pub use values::{
    AutoOr, HeaderStyle, LogFormat, LogLevel, Number, Ratio, Replicas, Span, StoreKind, Threads,
};

/// Everything that can be set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Where to listen.
    #[serde(deserialize_with = "group")]
    pub listen: Listen,
    /// Connections of Envoy.
    #[serde(deserialize_with = "group")]
    pub connection: Connection,
    /// Where policies come from.
    #[serde(deserialize_with = "group")]
    pub policies: Policies,
    /// What holds for rules that do not say otherwise.
    #[serde(deserialize_with = "group")]
    pub defaults: Defaults,
    /// What holds in single domains instead.
    #[serde(deserialize_with = "domains::deserialize")]
    pub domains: BTreeMap<String, DomainSettings>,
    /// What an answer carries.
    #[serde(deserialize_with = "group")]
    pub response: Response,
    /// How the service ends.
    #[serde(deserialize_with = "group")]
    pub shutdown: Shutdown,
    /// Threads that answer.
    pub threads: Threads,
    /// Where counters are kept.
    #[serde(deserialize_with = "group")]
    pub store: Store,
    /// How long a call may wait for the store.
    #[serde(deserialize_with = "group")]
    pub deadline: Deadline,
    /// When a store that fails is left alone.
    #[serde(deserialize_with = "group")]
    pub circuit_breaker: CircuitBreaker,
    /// How calls to the store are gathered.
    #[serde(deserialize_with = "group")]
    pub queue: Queue,
    /// The replicas that share limits.
    #[serde(deserialize_with = "group")]
    pub fleet: Fleet,
    /// What operators may do.
    #[serde(deserialize_with = "group")]
    pub admin: Admin,
    /// What one client may ask for.
    #[serde(deserialize_with = "group")]
    pub limits: Limits,
    /// When to alarm, and whom to tell.
    #[serde(deserialize_with = "group")]
    pub alerts: Alerts,
    /// What is told about the service.
    #[serde(deserialize_with = "group")]
    pub telemetry: Telemetry,
    /// What OpenTelemetry's own variables say; nobody can write it here.
    #[serde(skip)]
    pub otel: Otel,
}

impl Settings {
    /// What policies are loaded with.
    #[must_use]
    pub fn policy_defaults(&self) -> PolicyDefaults {
        let domains = self.domains.iter().map(|(name, domain)| {
            let own = policies::DomainDefaults {
                enforce_percent: domain.enforce_percent.map(percent),
                shadow_mode: domain.shadow_mode,
            };
            (name.clone(), own)
        });
        PolicyDefaults {
            denied_hits: self.defaults.denied_hits,
            algorithm: self.defaults.algorithm,
            enforce_percent: percent(self.defaults.enforce_percent),
            shadow_mode: self.defaults.shadow_mode,
            on_store_failure: self.defaults.on_store_failure,
            colocate_by: self.colocate_by(),
            domains: domains.collect(),
            merge_domains: self.policies.merge_domains,
        }
    }

    /// The domains whose decisions are written down, and the share of each.
    pub fn decision_log(&self) -> impl Iterator<Item = (String, f64)> {
        self.domains.iter().filter_map(|(name, domain)| {
            let share = domain.decision_log?;
            Some((name.clone(), share.get()))
        })
    }

    /// In memory all keys lie together anyway.
    fn colocate_by(&self) -> Option<Arc<[u8]>> {
        match self.store.kind {
            StoreKind::Memory => None,
            StoreKind::Redis => {
                let key = self.store.redis.colocate_by.as_ref()?;
                Some(key.as_bytes().into())
            }
        }
    }
}

/// `listen`: the three listeners.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Listen {
    /// Envoy's calls.
    pub grpc: ListenAddr,
    /// `/json`, health and metrics.
    pub http: ListenAddr,
    /// Everything for operators only.
    pub admin: ListenAddr,
}

impl Default for Listen {
    fn default() -> Self {
        Self {
            grpc: ListenAddr::tcp("0.0.0.0", 8081),
            http: ListenAddr::tcp("0.0.0.0", 8080),
            admin: ListenAddr::tcp("127.0.0.1", 6070),
        }
    }
}

/// `connection`: gRPC connections.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Connection {
    /// GOAWAY after this, give or take 10%, so that new replicas get traffic.
    pub max_age: Span<1000>,
    /// Calls in flight have this long to end after it.
    pub max_age_grace: Span<0>,
}

impl Default for Connection {
    fn default() -> Self {
        Self {
            max_age: Span::from_secs(5 * 60),
            max_age_grace: Span::from_secs(30),
        }
    }
}

/// `policies`: where they come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policies {
    /// A file, or a folder of `*.yaml` and `*.yml` files.
    pub path: PathBuf,
    /// Reload when they change.
    pub watch: bool,
    /// Join the files of one domain; otherwise a second one is a problem.
    pub merge_domains: bool,
}

impl Default for Policies {
    fn default() -> Self {
        Self {
            path: PathBuf::from("config/policies"),
            watch: true,
            merge_domains: false,
        }
    }
}

/// `defaults`: for rules that do not say otherwise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Defaults {
    /// What a denied request costs; `charged` is for fixed windows only, others take `free` then.
    #[serde(with = "values::named")]
    pub denied_hits: DeniedHits,
    /// How hits are counted.
    #[serde(with = "values::named")]
    pub algorithm: Algorithm,
    /// How a request is decided while the shared store does not answer.
    #[serde(with = "values::named")]
    pub on_store_failure: OnStoreFailure,
    /// Percentage of denials that are enforced.
    pub enforce_percent: Number<0, 100>,
    /// Over limit is told, never enforced.
    pub shadow_mode: bool,
}

impl Default for Defaults {
    fn default() -> Self {
        Self {
            denied_hits: DeniedHits::default(),
            algorithm: Algorithm::default(),
            on_store_failure: OnStoreFailure::default(),
            enforce_percent: Number::clamped(100),
            shadow_mode: false,
        }
    }
}

/// `domains.NAME`: instead of `defaults`, in one domain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DomainSettings {
    /// Percentage of denials that are enforced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enforce_percent: Option<Number<0, 100>>,
    /// Over limit is told, never enforced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shadow_mode: Option<bool>,
    /// The share of decisions that is written down, a line each, on standard output.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision_log: Option<Ratio>,
}

/// `response`: what an answer carries beside the verdict.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Response {
    /// Headers for the client.
    pub headers: HeaderStyle,
    /// Domain, descriptors and the rules' metadata, for Envoy's logs and other filters.
    pub dynamic_metadata: bool,
    /// For each limit its rule, who decided, by which time and in which window, in the same place.
    pub verdicts: bool,
}

/// `admin`: what operators may do on the admin listener.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Admin {
    /// The file with the token that calls that change something must bear. Without one they may
    /// come from this machine only.
    #[serde(deserialize_with = "texts::unless_empty")]
    pub token_file: Option<PathBuf>,
    /// The names by which the admin listener is asked, besides addresses and `localhost`.
    pub allowed_hosts: HostNames,
}

/// `shutdown`: after SIGTERM.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Shutdown {
    /// Not ready, but still answering, so that callers go elsewhere.
    pub drain_delay: Span<0>,
    /// Then calls in flight have this long to end.
    pub grace: Span<0>,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self {
            drain_delay: Span::from_secs(5),
            grace: Span::from_secs(20),
        }
    }
}

/// `limits`: what one client may ask for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Calls at the same time; further ones are refused at once.
    pub in_flight: Number<1, { u32::MAX }>,
    /// Descriptors of a request.
    pub descriptors: Number<1, { u32::MAX }>,
    /// Entries of a descriptor.
    pub entries: Number<1, { u32::MAX }>,
    /// Bytes of a request.
    pub message_bytes: Number<1024, { 1 << 30 }>,
    /// Bytes of all unfinished gRPC calls.
    pub request_bytes: Number<{ 1 << 20 }, { u32::MAX }>,
    /// Open connections of the gRPC listener.
    pub connections: Number<1, { u32::MAX }>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            in_flight: Number::clamped(10_000),
            descriptors: Number::clamped(100),
            entries: Number::clamped(32),
            message_bytes: Number::clamped(4 * 1024 * 1024),
            request_bytes: Number::clamped(48 * 1024 * 1024),
            connections: Number::clamped(4096),
        }
    }
}

/// `telemetry`: what is told about the service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Telemetry {
    /// Serve `/metrics`.
    pub prometheus: bool,
    /// Where metrics and spans are pushed to.
    #[serde(deserialize_with = "texts::unless_empty")]
    pub otlp_endpoint: Option<OtlpEndpoint>,
    /// How; unless it is said, by the port.
    #[serde(deserialize_with = "texts::unless_empty")]
    pub otlp_protocol: Option<ProtocolName>,
    /// Which calls are recorded.
    #[serde(deserialize_with = "group")]
    pub traces: Traces,
    /// The log, on standard error.
    #[serde(deserialize_with = "group")]
    pub log: Log,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self {
            prometheus: true,
            otlp_endpoint: None,
            otlp_protocol: None,
            traces: Traces::default(),
            log: Log::default(),
        }
    }
}

/// `telemetry.log`: the log.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// The least important lines that are written.
    pub level: LogLevel,
    /// For people or for machines.
    pub format: LogFormat,
}

/// A group whose lines are all commented out is null, and means its defaults.
fn group<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn percent(number: Number<0, 100>) -> u8 {
    u8::try_from(number.get()).unwrap_or(100)
}
