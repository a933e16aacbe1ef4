//! Settings, as each part wants them.

use std::num::NonZero;
use std::thread::available_parallelism;

use tracing::warn;

use super::open_files;
use crate::admin::{Status, Token, TokenError};
use crate::alert::{self, Alert};
use crate::config::Report;
use crate::config::settings::{
    self, ListenAddr, OrOff, Percent, Replicas, Settings, Span, StoreKind, Threads,
};
use crate::event::DecidedBy;
use crate::model::OnStoreFailure;
use crate::pipeline::{Caps, Pipeline};
use crate::policy::{Limit, Policies};
use crate::store::redis::RedisSample;
use crate::store::{MemoryConfig, Store};
use crate::telemetry::{Readings, StoreReading, logs};
use crate::transport::listener::Address;
use crate::transport::server::ServerConfig;
use crate::transport::{HeaderStyle, Limits, ResponseConfig, Service};

pub(super) fn address(address: &ListenAddr) -> Address {
    match address {
        ListenAddr::Tcp { .. } => Address::Tcp(address.to_string()),
        ListenAddr::Unix(path) => Address::Unix(path.clone()),
    }
}

pub(super) fn token(settings: &Settings) -> Result<Option<Token>, TokenError> {
    let file = settings.admin.token_file.as_deref();
    file.map(Token::read).transpose()
}

pub(super) fn memory(settings: &Settings) -> MemoryConfig {
    let max_keys = settings.store.memory.max_keys.get();
    MemoryConfig {
        max_keys: NonZero::new(max_keys).unwrap_or(NonZero::<u32>::MIN),
    }
}

/// Who decides while nothing is wrong.
pub(super) fn usual_source(settings: &Settings) -> DecidedBy {
    match settings.store.kind {
        StoreKind::Memory => DecidedBy::Memory,
        StoreKind::Redis => DecidedBy::Store,
    }
}

pub(crate) fn caps(settings: &Settings) -> Caps {
    let limits = &settings.limits;
    Caps {
        descriptors: limits.descriptors.as_usize(),
        entries: limits.entries.as_usize(),
    }
}

pub(super) fn limits(settings: &Settings) -> Limits {
    Limits {
        in_flight: settings.limits.in_flight.as_usize(),
        message_bytes: settings.limits.message_bytes.as_usize(),
        request_bytes: settings.limits.request_bytes.as_usize(),
    }
}

pub(super) fn response(settings: &Settings) -> ResponseConfig {
    ResponseConfig {
        headers: match settings.response.headers {
            settings::HeaderStyle::Ietf => HeaderStyle::Ietf,
            settings::HeaderStyle::None => HeaderStyle::None,
            settings::HeaderStyle::Reference => HeaderStyle::Reference,
        },
        dynamic_metadata: settings.response.dynamic_metadata,
        verdicts: settings.response.verdicts,
    }
}

pub(super) fn server(settings: &Settings) -> ServerConfig {
    ServerConfig {
        threads: match settings.threads {
            // What the cgroup allows, not what the machine has.
            Threads::Auto => available_parallelism().map_or(1, NonZero::get),
            Threads::Count(count) => count.as_usize(),
        },
        max_age: settings.connection.max_age.get(),
        max_age_grace: settings.connection.max_age_grace.get(),
        connections: open_files::grpc_connections(settings, open_files::limit()),
    }
}

/// When to alarm; percentages as they are, times in seconds.
pub(super) fn alerts(settings: &Settings) -> alert::Config {
    let alerts = &settings.alerts;
    let percent = |threshold: OrOff<Percent>| threshold.get().map(Percent::get);
    let mut config = alert::Config {
        thresholds: [None; Alert::ALL.len()],
        window: alerts.window.get(),
        hold: alerts.hold.get(),
        keep: alerts.keep_firing_for.get(),
        min_calls: alerts.min_calls.get().into(),
    };
    for (alert, threshold) in [
        (Alert::ErrorRate, percent(alerts.error_rate)),
        (Alert::QueueFull, percent(alerts.queue_full)),
        (
            Alert::CircuitTrips,
            alerts.circuit_trips.get().map(|trips| trips.get().into()),
        ),
        (Alert::ResponseTime, seconds(alerts.response_time)),
        (Alert::BatchFailures, percent(alerts.batch_failures)),
        (Alert::RedisLatency, seconds(alerts.redis_latency)),
        (Alert::StoreDown, seconds(alerts.store_down)),
        (
            Alert::UnknownDomains,
            alerts.unknown_domains.get().map(|most| most.get().into()),
        ),
        (
            Alert::KeysFull,
            alerts.keys_full.get().map(|most| most.get().into()),
        ),
    ] {
        if let Some(place) = config.thresholds.get_mut(alert.index()) {
            *place = threshold;
        }
    }
    config
}

fn seconds<const MIN: u64>(threshold: OrOff<Span<MIN>>) -> Option<f64> {
    threshold.get().map(|span| span.get().as_secs_f64())
}

/// The settings that let requests pass although they are over their limit, if there are any.
pub(super) fn leniency(settings: &Settings) -> Option<String> {
    let defaults = &settings.defaults;
    let mut lenient = Vec::new();
    let mut note = |path: &str, shadow_mode: Option<bool>, percent: Option<u32>| {
        if shadow_mode == Some(true) {
            lenient.push(format!("{path}.shadow_mode: true"));
        }
        if let Some(percent) = percent.filter(|percent| *percent < 100) {
            lenient.push(format!("{path}.enforce_percent: {percent}"));
        }
    };
    note(
        "defaults",
        Some(defaults.shadow_mode),
        Some(defaults.enforce_percent.get()),
    );
    for (name, domain) in &settings.domains {
        let percent = domain.enforce_percent.map(settings::Number::get);
        note(&format!("domains.{name}"), domain.shadow_mode, percent);
    }
    (!lenient.is_empty()).then(|| lenient.join(", "))
}

/// Rules whose limits cannot be divided among the replicas.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct WithoutShare {
    /// How many there are.
    pub(super) rules: usize,
    /// Domain and path of the first.
    pub(super) first: String,
}

/// The rules that allow fewer hits than there are replicas by the settings: without the shared store some or all
/// replicas let nothing pass by them.
pub(super) fn without_share(settings: &Settings, policies: &Policies) -> Option<WithoutShare> {
    let Replicas::Count(replicas) = settings.fleet.replicas else {
        return None;
    };
    if settings.store.kind != StoreKind::Redis {
        return None;
    }
    let mut few: Option<WithoutShare> = None;
    policies.for_each_rule(|domain, rule| {
        let Limit::Quota(quota) = rule.limit else {
            return;
        };
        let least = quota.limit().min(quota.burst());
        if rule.on_store_failure != OnStoreFailure::Local || least == 0 || least >= replicas.get() {
            return;
        }
        match &mut few {
            Some(few) => few.rules = few.rules.saturating_add(1),
            None => {
                let first = format!("{}: {}", domain.name(), rule.path);
                few = Some(WithoutShare { rules: 1, first });
            }
        }
    });
    few
}

/// Logs each thing that looks wrong in settings that take effect all the same.
pub(crate) fn log_warnings(warnings: &Report) {
    for problem in warnings.problems() {
        warn!("settings: {problem}");
    }
}

pub(crate) fn level(settings: &Settings) -> logs::Level {
    match settings.telemetry.log.level {
        settings::LogLevel::Error => logs::Level::Error,
        settings::LogLevel::Warn => logs::Level::Warn,
        settings::LogLevel::Info => logs::Level::Info,
        settings::LogLevel::Debug => logs::Level::Debug,
        settings::LogLevel::Trace => logs::Level::Trace,
    }
}

/// How the log is written.
pub(crate) fn format(settings: &Settings) -> logs::Format {
    match settings.telemetry.log.format {
        settings::LogFormat::Text => logs::Format::Text,
        settings::LogFormat::Json => logs::Format::Json,
    }
}

pub(super) fn readings(pipeline: &Pipeline, service: &Service, status: &Status) -> Readings {
    let store = pipeline.store().memory().stats();
    Readings {
        live_keys: store.live_keys,
        key_limit: store.max_keys,
        expired: store.expired,
        overflow_decisions: store.overflow_decisions,
        overflow_refunds: store.overflow_refunds_ignored,
        overflow_refused: store.overflow_refused,
        log_overflows: store.log_overflows,
        rules: count(pipeline.snapshot().policies().rule_count()),
        policies_refused: status.are_policies_refused(),
        settings_refused: status.are_settings_refused(),
        in_flight: count(service.in_flight()),
        stores: match pipeline.store() {
            Store::Memory(_) => [None; 2],
            Store::Shared(shared) => shared.last().map(|store| store.map(store_reading)),
        },
    }
}

fn store_reading(store: RedisSample) -> StoreReading {
    StoreReading {
        state: store.state,
        queue_length: count(store.queue.length),
        queue_limit: count(store.queue.limit),
        queue_utilization: store.queue.utilization,
        local_time: store.away,
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
