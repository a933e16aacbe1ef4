//! What the service tells about itself: metrics, traces and logs.
//!
//! [`Telemetry`] listens to the [`Events`] of the request path and numbers its rules ([`Meters`]).
//! Listening never blocks, waits or fails: a decision is one addition in memory of the thread's
//! own core, an answer one record in a histogram that only this core's threads write to; what
//! happens once for many requests (a call to the shared store) is counted in one place. All the
//! work is done when somebody asks: [`Telemetry::render`] gathers, sums over the cores and writes
//! the Prometheus text, which takes tens of milliseconds with ten thousand series and so belongs
//! on a thread that may block.
//!
//! What is not for metrics is told as plain data: counts by domain for the fleet's totals
//! ([`Telemetry::totals`]), and the keys that are limited most ([`Telemetry::top`]).
//!
//! Where a receiver is named, [`otlp`] pushes the metrics, and the spans of the calls that are
//! recorded; where an operator asks for it, decisions are written down (`decision_log`). Both have
//! threads of their own and bounded queues, and count what finds no room.
//!
//! Numbers that others keep (live keys, calls in flight) come from a closure that the composition
//! root hands over ([`Telemetry::observe`]); this module knows neither store nor server. Nothing
//! else in Tollgate knows OpenTelemetry or Prometheus.

mod alerts;
mod cells;
mod decision_log;
mod decisions;
mod domains;
mod dropped;
mod durations;
pub mod instruments;
pub mod logs;
pub mod otlp;
mod overflowing;
mod register;
mod render;
mod shard;
mod store_readings;
mod stores;
mod tally;
mod top;
mod totals;
mod words;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use opentelemetry::metrics::MeterProvider;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::Registry;
#[cfg(target_os = "linux")]
use prometheus::process_collector::ProcessCollector;

pub use alerts::{Alerts, Notified};
pub use render::{CONTENT_TYPE, RenderError};
pub use store_readings::StoreReading;
pub use top::{RuleName, TopAsked, TopKey, TopKeys};

use crate::alert::Counts;
use crate::clock::Clock;
use crate::event::{
    AdminRefusal, Answered, CallTrace, Code, Decided, DecidedBy, DeniedUnread, Events, FellBack,
    Meters, Operation, ProtocolError, Queried, Reconciled, Refused, Reloaded, Served, StoreCalled,
    StoreChanged, StoreName, Written,
};
use decision_log::DecisionLog;
use decisions::Decisions;
use domains::Domains;
use dropped::Dropped;
use durations::{BatchSizes, CallDurations, DecisionDurations, RpcDurations};
use otlp::{Finished, Push, PushConfig, Reader, StoreSpan};
use overflowing::Overflowing;
use stores::Stores;
use tally::Tally;
use top::Top;

/// Counts what happens, and shows it.
pub struct Telemetry {
    state: Arc<State>,
    batch_sizes: BatchSizes,
    alerts: Arc<Alerts>,
    tally: Tally,
    decision_durations: DecisionDurations,
    rpc_durations: RpcDurations,
    call_durations: CallDurations,
    top: Top,
    overflowing: Overflowing,
    registry: Registry,
    clock: Clock,
    push: Option<Push>,
    decision_log: DecisionLog,
    /// Owns the instruments.
    _provider: SdkMeterProvider,
}

impl Telemetry {
    /// Nothing counted yet. `clock` dates the policies; `usual_by` is who decides while nothing is
    /// wrong.
    ///
    /// # Errors
    ///
    /// When the exporter cannot be registered, which would be a mistake in this module.
    pub fn new(clock: Clock, usual_by: DecidedBy) -> Result<Self, SetUpError> {
        Self::pushing(clock, usual_by, None)
    }

    /// The same, and what `push` says is pushed, until [`Telemetry::stop`].
    ///
    /// # Errors
    ///
    /// As [`Telemetry::new`], and when no thread can be started.
    pub fn pushing(
        clock: Clock,
        usual_by: DecidedBy,
        push: Option<PushConfig>,
    ) -> Result<Self, SetUpError> {
        let shards = shard::count();
        let registry = Registry::new();
        // What this costs: CPU, memory, open files.
        #[cfg(target_os = "linux")]
        registry
            .register(Box::new(ProcessCollector::for_self()))
            .map_err(|error| SetUpError::Exporter(error.to_string()))?;
        let exporter = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .scope_info_enabled(false)
            .without_target_info()
            .build()
            .map_err(|error| SetUpError::Exporter(error.to_string()))?;
        // The environment is for the command line to read; OTLP has a resource of our own.
        let provider = SdkMeterProvider::builder()
            .with_resource(Resource::builder_empty().build())
            .with_reader(exporter)
            .with_view(register::view);
        // A second reader doubles what a histogram's record costs, so only if it is used.
        let reader = push
            .as_ref()
            .and_then(|push| push.metrics.as_ref())
            .map(|_| Reader::default());
        let provider = match reader.clone() {
            Some(reader) => provider.with_reader(reader).build(),
            None => provider.build(),
        };
        let dropped = Arc::new(Dropped::default());
        let state = Arc::new(State {
            decisions: Decisions::new(shards, usual_by),
            domains: Domains::new(shards),
            accepted: AtomicU64::new(0),
            refused_calls: Default::default(),
            protocol_errors: Default::default(),
            admin_refusals: Default::default(),
            denied_unread: Default::default(),
            refused: AtomicU64::new(0),
            loaded_millis: AtomicU64::new(0),
            stores: Arc::default(),
            source: OnceLock::new(),
        });
        let meter = provider.meter("tollgate");
        register::register(&meter, &state);
        dropped::register(&meter, &dropped);
        let alerts = Arc::default();
        alerts::register(&meter, &alerts);
        let push = push.map(|config| Push::start(config, reader, &dropped));
        Ok(Self {
            batch_sizes: BatchSizes::new(&meter),
            decision_durations: DecisionDurations::new(&meter, shards),
            rpc_durations: RpcDurations::new(&meter, shards),
            call_durations: CallDurations::new(&meter, shards),
            top: Top::new(shards),
            overflowing: Overflowing::new(decisions::MAX_ROWS),
            tally: Tally::new(shards),
            alerts,
            state,
            registry,
            clock,
            push: push.transpose().map_err(SetUpError::Thread)?,
            decision_log: DecisionLog::new(dropped, Box::new(std::io::stdout())),
            _provider: provider,
        })
    }

    /// Sets where the numbers of others come from. Only the first call has an effect.
    pub fn observe(&self, source: impl Observed + 'static) {
        self.state.source.get_or_init(|| Box::new(source));
    }

    /// What alerts are judged by, as it is now.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.tally.counts()
    }

    /// Where whoever watches alerts tells of them.
    #[must_use]
    pub fn alerts(&self) -> &Arc<Alerts> {
        &self.alerts
    }

    /// The rules that have begun to have more keys than there is room for since this was asked last.
    #[must_use]
    pub fn newly_overflowing(&self) -> Vec<RuleName> {
        let rows = self.overflowing.take_new();
        rows.into_iter()
            .filter_map(|row| self.rule_of(row))
            .collect()
    }

    /// What a row of the decisions is called.
    fn rule_of(&self, row: u32) -> Option<RuleName> {
        let (domain, rule) = self.state.decisions.name(row)?;
        Some(RuleName { domain, rule })
    }

    /// All metrics, in the Prometheus text format ([`CONTENT_TYPE`]). May take tens of
    /// milliseconds: not for a thread that serves requests.
    ///
    /// # Errors
    ///
    /// When the text cannot be written: an instrument that Prometheus does not accept.
    pub fn render(&self) -> Result<Vec<u8>, RenderError> {
        render::text(&self.registry)
    }

    /// Pushes what there is and writes down what waits, in at most `limit`, and pushes nothing more.
    pub async fn stop(&self, limit: Duration) {
        let pushed = async {
            if let Some(push) = &self.push {
                push.stop(limit).await;
            }
        };
        tokio::join!(pushed, self.decision_log.flush(limit));
    }

    /// When something ended, in nanoseconds since 1970. It ends now if it is not known when it began.
    fn ended_at(&self, started: Option<Instant>, duration: Duration) -> u64 {
        match started.and_then(|started| started.checked_add(duration)) {
            Some(ended) => self.clock.unix_nanos_at(ended),
            None => self.clock.unix_nanos(),
        }
    }
}

impl Events for Telemetry {
    fn decided(&self, event: Decided<'_>) {
        self.state.decisions.count(event);
        if let Some(key) = event.exceeded {
            self.top.note(event.meter, key, self.clock.now());
        }
        if event.by == DecidedBy::Overflow {
            self.tally.overflowed();
            self.overflowing.note(event.meter, self.clock.now());
        }
    }

    fn answered(&self, event: Answered) {
        self.decision_durations.record(event.duration);
    }

    fn queried(&self, event: Queried) {
        self.state.domains.queried(event);
    }

    fn unknown_domain(&self) {
        self.tally.unknown_domain();
    }

    fn served(&self, event: Served) {
        self.tally.served(event);
        self.rpc_durations.record(event.duration, event.ended);
    }

    fn refused(&self, event: Refused) {
        if let Some(count) = self.state.refused_calls.get(event.code.index()) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn protocol_error(&self, error: ProtocolError) {
        if let Some(count) = self.state.protocol_errors.get(error.index()) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn denied_unread(&self, reason: DeniedUnread) {
        if let Some(count) = self.state.denied_unread.get(reason.index()) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn admin_refused(&self, reason: AdminRefusal) {
        if let Some(count) = self.state.admin_refusals.get(reason.index()) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn reloaded(&self, event: Reloaded) {
        if event.accepted {
            let now = self.clock.now().as_millis();
            self.state.loaded_millis.store(now, Ordering::Relaxed);
            self.state.accepted.fetch_add(1, Ordering::Relaxed);
        } else {
            self.state.refused.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn store_called(&self, event: StoreCalled<'_>) {
        self.state.stores.called(event);
        self.state.domains.called(event);
        self.call_durations.record(event);
        if event.operation == Operation::Decide {
            self.batch_sizes.record(event);
        }
        if let (Some(push), [_, ..]) = (&self.push, event.traced.spans) {
            let at = || self.ended_at(event.traced.started, event.duration);
            push.span(|| Finished::Store(StoreSpan::new(event, at())));
        }
        self.tally.store_called(event);
    }

    fn store_changed(&self, event: StoreChanged<'_>) {
        self.state.stores.changed(event);
        self.tally.store_changed(event);
    }

    fn fell_back(&self, event: FellBack) {
        self.state.stores.fell_back(event);
    }

    fn reconciled(&self, event: Reconciled) {
        self.state.stores.reconciled(event);
    }

    fn traced(&self, call: CallTrace) {
        if let Some(push) = &self.push {
            push.span(|| Finished::Call {
                at: self.ended_at(call.started, call.duration),
                call,
            });
        }
    }

    fn written(&self, event: Written<'_>) {
        self.decision_log.write(&event);
    }
}

/// Domain and rule must come from an operator, never from a request: each pair is kept for good.
impl Meters for Telemetry {
    fn domain(&self, domain: &str) -> u32 {
        self.state.domains.number(domain)
    }

    fn rule(&self, domain: &str, rule: &str) -> u32 {
        self.state.decisions.meter(domain, rule)
    }
}

impl fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Telemetry").finish_non_exhaustive()
    }
}

/// What others know and metrics show. Asked whenever metrics are collected, several times; must be
/// cheap and must not panic.
pub trait Observed: Send + Sync {
    /// Numbers, as they are now.
    fn readings(&self) -> Readings;

    /// Which policies are in force; empty if that is not known.
    fn policy_hash(&self) -> String {
        String::new()
    }

    /// Hands over domain and rule of every rule that can be enforced, and how far it is now: 1
    /// exactly, 0.5 by this replica alone, 0 not at all.
    fn enforcement(&self, _each: &mut dyn FnMut(&str, &str, f64)) {}
}

impl<F: Fn() -> Readings + Send + Sync> Observed for F {
    fn readings(&self) -> Readings {
        self()
    }
}

/// Numbers that others keep, as they are now.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Readings {
    /// Keys with a counter of their own.
    pub live_keys: u64,
    /// Most of them.
    pub key_limit: u64,
    /// Keys removed since nothing in them counted any more, ever.
    pub expired: u64,
    /// Checks decided by shared counters since the table had no room for more keys of their rule, ever.
    pub overflow_decisions: u64,
    /// Refunds ignored since their key shares a counter, ever.
    pub overflow_refunds: u64,
    /// Checks denied since not even a shared counter was free, ever.
    pub overflow_refused: u64,
    /// Charges to a sliding log that count for longer since the logs' memory was spent, ever.
    pub log_overflows: u64,
    /// Rules in force.
    pub rules: u64,
    /// The policies that were read last are not those in force.
    pub policies_refused: bool,
    /// The settings that were read last are not those in force.
    pub settings_refused: bool,
    /// Calls not answered yet.
    pub in_flight: u64,
    /// The shared stores, by [`StoreName::index`]; none where there is none.
    pub stores: [Option<StoreReading>; StoreName::ALL.len()],
}

/// Why telemetry could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetUpError {
    /// The exporter cannot be registered: a mistake in Tollgate, not in its settings.
    #[error("metrics cannot be set up: {0}; this is a bug in Tollgate, please report it")]
    Exporter(String),
    /// No thread, or no runtime on it.
    #[error("cannot start a thread that pushes telemetry: {0} (is a limit on processes reached?)")]
    Thread(#[source] std::io::Error),
}

/// What the instruments read when they are collected.
struct State {
    decisions: Decisions,
    domains: Domains,
    accepted: AtomicU64,
    /// Calls that were refused, by [`Code::index`].
    refused_calls: [AtomicU64; Code::ALL.len()],
    /// Clients that broke HTTP/2, by [`ProtocolError::index`].
    protocol_errors: [AtomicU64; ProtocolError::ALL.len()],
    /// Requests that the admin listener refused, by [`AdminRefusal::index`].
    admin_refusals: [AtomicU64; AdminRefusal::ALL.len()],
    /// Calls that were answered `OVER_LIMIT` unread, by [`DeniedUnread::index`].
    denied_unread: [AtomicU64; DeniedUnread::ALL.len()],
    refused: AtomicU64,
    loaded_millis: AtomicU64,
    stores: Arc<Stores>,
    source: OnceLock<Box<dyn Observed>>,
}

impl State {
    fn readings(&self) -> Option<Readings> {
        self.source.get().map(|source| source.readings())
    }
}

#[cfg(test)]
mod tests;
