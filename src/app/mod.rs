//! The composition root: settings in, a running Tollgate out.
//!
//! [`App::start`] builds the parts in order, each from its own configuration, and binds every
//! listener before it says that it is ready; [`App::run`] keeps it running until it is told to
//! stop, rereads what changes meanwhile, and drains. Tests start the same App on port 0 and ask it
//! where it listens.

mod alertmanager;
mod alerts;
pub(crate) mod configure;
mod fleet;
mod hostname;
mod observed;
mod open_files;
mod overflowing;
#[cfg(test)]
mod pauses;
pub(crate) mod policies;
mod queue;
mod reload;
pub(crate) mod store;
mod telemetry;
mod unknown_domains;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tracing::{info, warn};

pub use alertmanager::ClientError;
pub use policies::LoadError;

use crate::admin::{AdminState, AllowedHosts, Status, TokenError};
use crate::alert::Overview;
use crate::clock::Clock;
use crate::config::settings::{Listen, Loaded, Settings};
use crate::event::{Events, Reloaded};
use crate::pipeline::Pipeline;
use crate::provider::watch::{WatchConfig, Watcher};
use crate::store::{Keeper, Lane, Store};
use crate::telemetry::logs::LogHandle;
use crate::telemetry::{SetUpError, Telemetry};
use crate::transport::http_server::HttpServer;
use crate::transport::json::JsonError;
use crate::transport::listener::{Address, BindError, Listener};
use crate::transport::server::{Server, ServerError};
use crate::transport::{HealthReporter, Service};
use alerts::{Alerts, Sources};
use observed::Parts;
use policies::{LoadedPolicies, Written};
use queue::{Reloads, What};
use reload::{Reloader, Turn};

/// What an App is made of.
pub struct Options {
    /// The settings to start with.
    pub settings: Settings,
    /// How to read the settings again.
    pub reread: Box<dyn Fn() -> Result<Loaded, String> + Send + Sync>,
    /// The log, whose level may change.
    pub log: Option<LogHandle>,
    /// What time it is.
    pub clock: Clock,
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// What a running App can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// Read settings and policies again.
    Reload,
    /// Stop: first politely, the second time at once.
    Stop,
}

/// How an App ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Somebody did not want to wait.
    AtOnce,
    /// The grace was over with calls still under way.
    Cut,
    /// Every call was answered.
    Drained,
}

/// A running Tollgate.
#[derive(Debug)]
pub struct App {
    settings: Arc<ArcSwap<Settings>>,
    /// Watches until the end.
    alerts: Alerts,
    /// What tells the other replicas of this one, if they share a store.
    keeper: Option<Keeper>,
    status: Arc<Status>,
    health: HealthReporter,
    pipeline: Arc<Pipeline>,
    service: Arc<Service>,
    grpc: Server,
    http: HttpServer,
    admin: HttpServer,
    reloader: Arc<Reloader>,
}

/// Why an App does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Alertmanager cannot be told.
    #[error(transparent)]
    Alertmanager(#[from] ClientError),
    /// A listener's address cannot be used.
    #[error("listen.{listener}: {source}")]
    Bind {
        /// Which listener.
        listener: &'static str,
        /// What is wrong.
        source: BindError,
    },
    /// The compiled-in descriptors are broken.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// The policies are refused: there is nothing to enforce.
    #[error(transparent)]
    Policies(#[from] LoadError),
    /// The gRPC server cannot be started.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// Metrics cannot be set up.
    #[error(transparent)]
    Telemetry(#[from] SetUpError),
    /// The token of `admin.token_file` cannot be used.
    #[error("admin.token_file: {0}")]
    Token(#[from] TokenError),
}

impl App {
    /// Starts everything; it answers when this returns.
    ///
    /// # Errors
    /// If the policies are refused or a listener cannot be bound. Nothing listens then.
    pub async fn start(options: Options) -> Result<Self, StartError> {
        let Options {
            settings,
            reread,
            log,
            clock,
        } = options;
        let token = configure::token(&settings)?;
        let telemetry = telemetry::start(&settings, &clock)?;
        // Before the first reading, so that no change falls between the two.
        let watcher = watch(&settings).await;
        let loaded = LoadedPolicies::first(&settings, watcher.as_ref(), &*telemetry, &clock)?;
        reload::tell_warnings(&loaded.warnings.to_string());
        let [grpc, http, admin] = listen(&settings.listen).await?;

        let events: Arc<dyn Events> = Arc::clone(&telemetry) as _;
        let store = store::open(&settings, &clock, &events);
        // For all that is not asked by gRPC; each core of that opens its own.
        let lane = store.open_lane(0);
        let status = Arc::new(Status::default());
        let caps = configure::caps(&settings);
        let pipeline = Arc::new(Pipeline::new(loaded.policies, store, events, clock, caps));
        pipeline.sample().replace(settings.decision_log());
        status.accepted(loaded.status);
        telemetry.reloaded(Reloaded { accepted: true });
        let service = Arc::new(service(&settings, &pipeline));
        telemetry.observe(Parts::new(&pipeline, &service, &status));
        let health = HealthReporter::new();
        let grpc = serve(&settings, grpc, &service, &health, lane.as_ref()).await?;

        let settings = Arc::new(ArcSwap::from_pointee(settings));
        let in_force = Arc::new(ArcSwap::from_pointee(loaded.written));
        let alerts = watch_alerts(&settings, &pipeline, &telemetry);
        let state = AdminState {
            alerts: Arc::new(alerts.overview()),
            lane: lane.clone(),
            token,
            allowed_hosts: AllowedHosts::new(settings.load().admin.allowed_hosts.0.clone()),
            log: telemetry::log_level(log.as_ref()),
            ..admin_state(&pipeline, &status, &telemetry, &settings, &in_force)
        };
        let (http, admin) = serve_people([http, admin], &settings.load(), &service, state)?;
        alerts.tell_alertmanagers(http.address())?;

        let source = fleet::source(&telemetry, &pipeline);
        let keeper = lane.map(|lane| fleet::keep(&lane, source, &alerts));
        let reloader = Arc::new(Reloader {
            settings: Arc::clone(&settings),
            reread,
            log,
            telemetry,
            pipeline: Arc::clone(&pipeline),
            status: Arc::clone(&status),
            watcher,
            turn: Mutex::new(Turn::first(in_force.load().fingerprint)),
            in_force,
        });
        status.set_serving(true);
        health.set_serving(true).await;
        let app = Self {
            settings,
            alerts,
            keeper,
            status,
            health,
            pipeline,
            service,
            grpc,
            http,
            admin,
            reloader,
        };
        app.announce();
        Ok(app)
    }

    /// Where it answers gRPC.
    #[must_use]
    pub fn grpc(&self) -> &Address {
        self.grpc.address()
    }

    /// Where it answers HTTP.
    #[must_use]
    pub fn http(&self) -> &Address {
        self.http.address()
    }

    /// Where it answers operators.
    #[must_use]
    pub fn admin(&self) -> &Address {
        self.admin.address()
    }

    /// What answers, for those who ask without a socket.
    #[must_use]
    pub fn service(&self) -> &Arc<Service> {
        &self.service
    }

    /// Runs until told to stop, and then until the last call is answered. A reload that hangs (a
    /// file system that is gone) keeps threads for blocking work, and nothing
    /// else; end such a runtime without waiting for its threads.
    pub async fn run(self, mut control: mpsc::Receiver<Control>) -> Ended {
        let mut sweep = interval(self.sweep_interval());
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut samples = interval(SAMPLE);
        samples.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let reloader = Arc::clone(&self.reloader);
        let mut reloads = Reloads::new(move |what| match what {
            What::Everything => reloader.everything(),
            What::Policies => reloader.policies(),
        });
        loop {
            tokio::select! {
                told = control.recv() => match told {
                    Some(Control::Reload) => reloads.want(What::Everything),
                    Some(Control::Stop) | None => break,
                },
                () = changed(self.reloader.watcher.as_ref()) => reloads.want(What::Policies),
                () = reloads.ended() => {}
                _ = sweep.tick() => self.sweep(),
                _ = samples.tick() => {
                    self.sample();
                    unknown_domains::report(&self.pipeline);
                    overflowing::report(&self.reloader.telemetry);
                }
            }
        }
        tokio::select! {
            ended = self.drain() => ended,
            () = second_stop(&mut control) => Ended::AtOnce,
        }
    }

    /// How long a shard has until the next one is swept.
    fn sweep_interval(&self) -> Duration {
        let shards = u32::try_from(self.pipeline.store().shards()).unwrap_or(u32::MAX);
        (SWEEP_ROUND / shards.max(1)).max(SHORTEST_SWEEP)
    }

    /// Sweeps the next shard, and no more at a time: where there is one core, queries wait for it.
    fn sweep(&self) {
        let now = self.pipeline.clock().now();
        self.pipeline.store().sweep_next(now);
    }

    /// Looks how full the queues to the store were since the last look. Nobody else does.
    fn sample(&self) {
        if let Store::Shared(shared) = self.pipeline.store() {
            shared.sample();
        }
    }

    /// Says that no traffic is wanted, goes on answering until that has got about, then tells every
    /// peer to go and waits for what is under way.
    async fn drain(self) -> Ended {
        let shutdown = self.settings.load().shutdown.clone();
        info!(
            drain_delay = ?shutdown.drain_delay.get(),
            grace = ?shutdown.grace.get(),
            "draining: not ready, still answering calls (a second signal stops at once)"
        );
        self.status.set_serving(false);
        self.health.set_serving(false).await;
        sleep(shutdown.drain_delay.get()).await;
        let cut = self.grpc.drain(shutdown.grace.get()).await;
        if let Some(keeper) = self.keeper {
            keeper.leave().await;
        }
        drop(self.alerts);
        self.http.stop(HTTP_GRACE).await;
        self.admin.stop(HTTP_GRACE).await;
        self.reloader.telemetry.stop(telemetry::LAST_WORDS).await;
        if cut > 0 {
            warn!(
                connections = cut,
                "stopped; connections cut with calls in flight, since shutdown.grace is over"
            );
            return Ended::Cut;
        }
        info!("stopped");
        Ended::Drained
    }

    fn announce(&self) {
        let policies = self.status.policies();
        let settings = self.settings.load();
        let store = store::summary(&settings);
        if policies.rules == 0 {
            warn!("no rule is in force: every request passes");
        }
        if let Some(lenient) = configure::leniency(&settings) {
            warn!(
                settings = lenient,
                "limits are not enforced in full: settings let requests over their limit pass"
            );
        }
        let snapshot = self.pipeline.lasting_snapshot();
        if let Some(few) = configure::without_share(&settings, snapshot.policies()) {
            warn!(
                rules = few.rules,
                first = few.first,
                "limits below fleet.replicas: without redis some or all replicas let nothing pass by these rules"
            );
        }
        info!(
            version = env!("CARGO_PKG_VERSION"),
            grpc = %self.grpc(),
            http = %self.http(),
            admin = %self.admin(),
            rules = policies.rules,
            domains = policies.domains,
            policies = policies.path,
            store = store.kind,
            topology = store.topology,
            servers = store.servers,
            per_second_servers = store.per_second_servers,
            replicas = store.replicas,
            "ready"
        );
    }
}

/// The listeners `grpc`, `http` and `admin`.
async fn listen(addresses: &Listen) -> Result<[Listener; 3], StartError> {
    let bind = async |listener, address| {
        Listener::bind(&configure::address(address))
            .await
            .map_err(|source| StartError::Bind { listener, source })
    };
    open_files::raise_limit();
    let grpc = bind("grpc", &addresses.grpc).await?;
    let http = bind("http", &addresses.http).await?;
    // Who asks runs as another user, and a TCP port would be open to all users too. What operators
    // ask is not for everybody.
    for (listener, open) in [("grpc", &grpc), ("http", &http)] {
        open.open_to_all()
            .map_err(|source| StartError::Bind { listener, source })?;
    }
    Ok([grpc, http, bind("admin", &addresses.admin).await?])
}

fn service(settings: &Settings, pipeline: &Arc<Pipeline>) -> Service {
    let response = configure::response(settings);
    let limits = configure::limits(settings);
    Service::new(Arc::clone(pipeline), response, limits).with_sampler(settings.sampler())
}

/// Has Envoy's calls answered once it has been tried to reach the store, if that is not in this
/// process.
async fn serve(
    settings: &Settings,
    grpc: Listener,
    service: &Arc<Service>,
    health: &HealthReporter,
    lane: Option<&Lane>,
) -> Result<Server, ServerError> {
    let patience = store::patience(settings);
    let settled = async {
        if let Some(lane) = lane {
            lane.settled(patience).await;
        }
    };
    let config = configure::server(settings);
    let serving = Server::start(config, grpc, service, health, patience);
    let (serving, ()) = tokio::join!(serving, settled);
    serving
}

/// Has people and their machines answered, on the listeners `http` and `admin`.
fn serve_people(
    [http, admin]: [Listener; 2],
    settings: &Settings,
    service: &Arc<Service>,
    state: AdminState,
) -> Result<(HttpServer, HttpServer), JsonError> {
    let [http_limits, admin_limits] = open_files::http_limits(settings, open_files::limit());
    let prometheus = settings.telemetry.prometheus;
    let routes = crate::transport::http::routes(Arc::clone(service), state.lane.clone())?
        .merge(crate::admin::health::routes(state.clone(), prometheus));
    let http = HttpServer::start(http, routes, http_limits);
    let routes = crate::admin::dump::routes(state);
    let admin = HttpServer::start(admin, routes, admin_limits);
    Ok((http, admin))
}

async fn watch(settings: &Settings) -> Option<Watcher> {
    if !settings.policies.watch {
        return None;
    }
    Some(Watcher::start(settings.policies.path.clone(), WatchConfig::default()).await)
}

async fn changed(watcher: Option<&Watcher>) {
    match watcher {
        Some(watcher) => watcher.changed().await,
        None => std::future::pending().await,
    }
}

async fn second_stop(control: &mut mpsc::Receiver<Control>) {
    while let Some(told) = control.recv().await {
        if told == Control::Stop {
            return;
        }
    }
    std::future::pending::<()>().await;
}

/// Looks after alerts from now on.
fn watch_alerts(
    settings: &Arc<ArcSwap<Settings>>,
    pipeline: &Arc<Pipeline>,
    telemetry: &Arc<Telemetry>,
) -> Alerts {
    let (counting, pipeline) = (Arc::clone(telemetry), Arc::clone(pipeline));
    Alerts::start(Sources {
        settings: Arc::clone(settings),
        clock: pipeline.clock().clone(),
        counts: Box::new(move || counting.counts()),
        levels: Box::new(move || alerts::levels(pipeline.store())),
        telemetry: Arc::clone(telemetry.alerts()),
    })
}

fn admin_state(
    pipeline: &Arc<Pipeline>,
    status: &Arc<Status>,
    telemetry: &Arc<Telemetry>,
    settings: &Arc<ArcSwap<Settings>>,
    in_force: &Arc<ArcSwap<Written>>,
) -> AdminState {
    let (telemetry, settings) = (Arc::clone(telemetry), Arc::clone(settings));
    let counts = Arc::clone(&telemetry);
    let in_force = Arc::clone(in_force);
    AdminState {
        pipeline: Arc::clone(pipeline),
        lane: None,
        status: Arc::clone(status),
        token: None,
        allowed_hosts: AllowedHosts::default(),
        refusals: Arc::default(),
        log: None,
        alerts: Arc::new(Overview::default),
        metrics: Arc::new(move || telemetry.render().map_err(|error| error.to_string())),
        top: Arc::new(move |asked| fleet::top(&counts, asked)),
        settings: Arc::new(move || {
            serde_json::to_value(&**settings.load())
                .unwrap_or_else(|error| serde_json::Value::String(error.to_string()))
        }),
        written: Arc::new(move || {
            let compiled = in_force.load().compile();
            compiled
                .map(|compiled| compiled.domains)
                .map_err(|report| report.to_string())
        }),
    }
}

/// Every shard of the table is swept once in this time, or in as many times [`SHORTEST_SWEEP`] as there
/// are shards if that is longer (above four million keys).
const SWEEP_ROUND: Duration = Duration::from_secs(5);
const SHORTEST_SWEEP: Duration = Duration::from_millis(5);

/// How often the queues to the store are looked at; metrics tell the peak of so long.
const SAMPLE: Duration = Duration::from_secs(1);

/// How long HTTP clients may still read their answers.
const HTTP_GRACE: Duration = Duration::from_secs(1);
