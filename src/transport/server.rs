//! The gRPC server: a current-thread runtime per core, connections that stay on theirs.
//!
//! One thread accepts, and assigns each connection to the least busy core ([`core_selector`]).
//! A connection lives until its peer leaves, its age is up, or the server drains; in the
//! latter two cases the peer is told (GOAWAY), what is under way is finished, and after the grace
//! what is left is cut. HTTP/2 is set up for Envoy, which opens streams before it has read our
//! settings, and which resets hundreds at once when a server was stopped for a moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hyper::server::conn::http2::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::RuntimeMetrics;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, sleep_until, timeout};
use tracing::debug;

use super::Service;
use super::clients::{ClientConnection, Clients, OpenConnections};
use super::core_selector::{self, CoreSelector};
use super::grpc::{Calls, ServedConnection};
use super::http2::{self, PrefaceError};
use super::listener::{Acceptor, Address, Connection, DetachedListener, Listener};
use super::routes::{HealthReporter, Routes};
use crate::model::Peer;

/// How connections are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerConfig {
    /// Cores to serve with, at least one.
    pub threads: usize,
    /// A connection is told to go after this, give or take a tenth, so that new replicas get
    /// traffic.
    pub max_age: Duration,
    /// How long its calls then have to finish.
    pub max_age_grace: Duration,
    /// The limit on open connections. At the limit, a connection of the client with the most is evicted.
    pub connections: usize,
}

/// A running server. Dropped without a drain it goes on until its connections have ended.
#[derive(Debug)]
pub struct Server {
    address: Address,
    drain: watch::Sender<Option<Duration>>,
    accepting: std::thread::JoinHandle<()>,
    workers: Vec<std::thread::JoinHandle<()>>,
    open: Vec<Arc<AtomicUsize>>,
    cut: Arc<AtomicUsize>,
}

/// Why a server cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The compiled-in descriptors are broken.
    #[error("gRPC reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The listener cannot be moved to the accepting thread.
    #[error("cannot accept connections: {0}")]
    Accept(#[source] std::io::Error),
    /// No thread, or no runtime on it.
    #[error("cannot start a worker thread: {0} (is a limit on processes reached?)")]
    Thread(#[source] std::io::Error),
}

impl Server {
    /// Serves on `listener` until [`Server::drain`] is called. Where the counts are in a store that
    /// all replicas share, it first waits until each core's way there has been tried, at most
    /// `patience`.
    ///
    /// # Errors
    /// If threads cannot be had.
    pub async fn start(
        config: ServerConfig,
        listener: Listener,
        service: &Arc<Service>,
        health: &HealthReporter,
        patience: Duration,
    ) -> Result<Self, ServerError> {
        let routes = Routes::new(health)?;
        let address = listener.address();
        let (drain, draining) = watch::channel(None);
        let (mut cores, mut workers, mut ready) = (Vec::new(), Vec::new(), Vec::new());
        let cut = Arc::new(AtomicUsize::new(0));
        for index in 0..config.threads.max(1) {
            let (settled, told) = oneshot::channel();
            let worker = Worker {
                config,
                draining: draining.clone(),
                cut: Arc::clone(&cut),
            };
            let opening = Opening {
                index,
                service: Arc::clone(service),
                routes: routes.clone(),
                patience,
                settled,
            };
            let (core, thread) = worker.start(opening).map_err(ServerError::Thread)?;
            cores.push(core);
            workers.push(thread);
            ready.push(told);
        }
        for told in ready {
            // A core that ended at once has nothing to wait for.
            let _ended = told.await;
        }
        let open = cores.iter().map(|core| Arc::clone(&core.open)).collect();
        let listener = listener.detach().map_err(ServerError::Accept)?;
        let accept_loop = AcceptLoop {
            cores,
            clients: Arc::clone(&service.clients),
            open: OpenConnections::new(Arc::clone(&service.clients), config.connections),
            draining,
        };
        let accepting = accept_loop.start(listener).map_err(ServerError::Thread)?;
        Ok(Self {
            address,
            drain,
            accepting,
            workers,
            open,
            cut,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Takes no more connections, tells every peer to go, and waits until the last call has been
    /// answered, at most `grace`. Returns how many connections had to be cut.
    pub async fn drain(self, grace: Duration) -> usize {
        self.drain.send_replace(Some(grace));
        let deadline = Instant::now() + grace + DRAIN_SLACK;
        // Ends with the drain signal; an error would be its panic, which has been reported.
        let accepting = self.accepting;
        let _ended = tokio::task::spawn_blocking(move || accepting.join()).await;
        let open = || -> usize {
            self.open
                .iter()
                .map(|open| open.load(Ordering::Relaxed))
                .sum()
        };
        while open() > 0 && Instant::now() < deadline {
            sleep(DRAIN_POLL).await;
        }
        for worker in self.workers {
            // The worker's runtime ends once its connections have, or are cut by then.
            let _joined = tokio::task::spawn_blocking(move || worker.join()).await;
        }
        self.cut.load(Ordering::Relaxed)
    }
}

/// One core: where its connections go in, and how many it has.
#[derive(Debug)]
struct Core {
    connections: mpsc::UnboundedSender<Accepted>,
    open: Arc<AtomicUsize>,
    metrics: RuntimeMetrics,
}

impl Core {
    /// Returns its busy time since its start.
    fn busy(&self) -> Duration {
        self.metrics.worker_total_busy_duration(0)
    }
}

/// A connection's place in its core's count.
#[derive(Debug)]
struct Open(Arc<AtomicUsize>);

impl Open {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection on its way to its core.
#[derive(Debug)]
struct Accepted {
    socket: Socket,
    client: Arc<ClientConnection>,
    open: Open,
}

/// A connection's socket, while it is on no runtime.
#[derive(Debug)]
enum Socket {
    Tcp(std::net::TcpStream, Peer),
    Unix(std::os::unix::net::UnixStream),
}

impl Socket {
    fn leave(connection: Connection) -> std::io::Result<Self> {
        Ok(match connection {
            Connection::Tcp(stream, peer) => Self::Tcp(stream.into_std()?, peer),
            Connection::Unix(stream) => Self::Unix(stream.into_std()?),
        })
    }

    const fn peer(&self) -> Peer {
        match self {
            Self::Tcp(_, peer) => *peer,
            Self::Unix(_) => Peer::Unix,
        }
    }
}

/// Accepts connections and assigns each to a core.
#[derive(Debug)]
struct AcceptLoop {
    cores: Vec<Core>,
    clients: Arc<Clients>,
    open: OpenConnections,
    draining: watch::Receiver<Option<Duration>>,
}

impl AcceptLoop {
    /// Starts it on a thread that does nothing else, so that no HTTP request and no other
    /// connection delays a new one.
    fn start(self, listener: DetachedListener) -> std::io::Result<std::thread::JoinHandle<()>> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        // Here, so that the caller gets the error.
        let listener = {
            let _on = runtime.enter();
            listener.attach()?
        };
        std::thread::Builder::new()
            .name("grpc-accept".to_owned())
            .spawn(move || runtime.block_on(self.run(listener)))
    }

    /// Runs until the server drains.
    async fn run(mut self, listener: Listener) {
        let mut acceptor = Acceptor::new(listener, "grpc");
        let mut selector = CoreSelector::new(self.cores.len(), Instant::now());
        let first = Instant::now() + core_selector::SAMPLE_INTERVAL;
        let mut samples = interval_at(first, core_selector::SAMPLE_INTERVAL);
        samples.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let accepted = tokio::select! {
                accepted = acceptor.next() => accepted,
                now = samples.tick() => {
                    selector.sample(now, self.cores.iter().map(Core::busy));
                    continue;
                }
                _ = self.draining.wait_for(Option::is_some) => return,
            };
            match Socket::leave(accepted) {
                Ok(socket) => self.assign(socket, selector.select()),
                Err(error) => debug!(%error, "connection failed"),
            }
        }
    }

    /// Sends a connection to its core.
    fn assign(&mut self, socket: Socket, core: usize) {
        let client = self.clients.connect(socket.peer());
        if !self.open.insert(&client) {
            debug!(peer = %socket.peer(), "connection limit reached; closing a new connection");
            return;
        }
        if let Some(core) = self.cores.get(core) {
            let open = Open::new(&core.open);
            // Fails only once the worker is gone, and then the server is ending.
            let _sent = core.connections.send(Accepted {
                socket,
                client,
                open,
            });
        }
    }
}

/// What a core's thread needs.
#[derive(Clone, Debug)]
struct Worker {
    config: ServerConfig,
    draining: watch::Receiver<Option<Duration>>,
    /// Connections that a drain ended with calls under way.
    cut: Arc<AtomicUsize>,
}

/// What a core's thread makes its calls' answers of, on its own runtime.
#[derive(Debug)]
struct Opening {
    index: usize,
    service: Arc<Service>,
    routes: Routes,
    patience: Duration,
    settled: oneshot::Sender<()>,
}

impl Opening {
    async fn open(self) -> Arc<Calls> {
        // What is not asked by gRPC has lane 0.
        let number = self.index.saturating_add(1);
        let lane = self.service.pipeline.store().open_lane(number);
        if let Some(lane) = &lane {
            lane.settled(self.patience).await;
        }
        // Whoever started the server may be gone.
        let _gone = self.settled.send(());
        // One for each core, so that the calls' counts of it meet no other core's.
        Arc::new(Calls {
            service: self.service,
            routes: self.routes,
            lane,
            reads: Arc::default(),
        })
    }
}

impl Worker {
    fn start(self, opening: Opening) -> std::io::Result<(Core, std::thread::JoinHandle<()>)> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (connections, incoming) = mpsc::unbounded_channel();
        let metrics = runtime.metrics();
        let thread = std::thread::Builder::new()
            .name(format!("grpc-{}", opening.index))
            .spawn(move || runtime.block_on(self.run(opening, incoming)))?;
        Ok((
            Core {
                connections,
                open: Arc::default(),
                metrics,
            },
            thread,
        ))
    }

    /// Serves what comes in until the accepting side is gone and the last connection has ended.
    async fn run(self, opening: Opening, mut incoming: mpsc::UnboundedReceiver<Accepted>) {
        let calls = opening.open().await;
        let mut connections = tokio::task::JoinSet::new();
        loop {
            tokio::select! {
                next = incoming.recv() => match next {
                    Some(Accepted { socket, client, open }) => {
                        let calls = Arc::clone(&calls);
                        let served = Arc::new(ServedConnection { calls, client });
                        let worker = self.clone();
                        connections.spawn(async move {
                            worker.serve(socket, served).await;
                            drop(open);
                        });
                    }
                    None => break,
                },
                Some(_) = connections.join_next() => {}
            }
        }
        while connections.join_next().await.is_some() {}
    }

    async fn serve(self, socket: Socket, served: Arc<ServedConnection>) {
        let peer = socket.peer();
        debug!(%peer, "connection opened");
        let outcome = match socket {
            Socket::Tcp(stream, _) => match tokio::net::TcpStream::from_std(stream) {
                Ok(stream) => self.connection(stream, peer, served).await,
                Err(error) => Err(error.into()),
            },
            Socket::Unix(stream) => match tokio::net::UnixStream::from_std(stream) {
                Ok(stream) => self.connection(stream, peer, served).await,
                Err(error) => Err(error.into()),
            },
        };
        match outcome {
            Ok(()) => debug!(%peer, "connection closed"),
            Err(error) => debug!(%peer, error, "connection failed"),
        }
    }

    async fn connection<S>(
        self,
        stream: S,
        peer: Peer,
        served: Arc<ServedConnection>,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let Self {
            config,
            mut draining,
            cut,
        } = self;
        let mut age = std::pin::pin!(sleep(jittered(config.max_age)));
        let client = Arc::clone(&served.client);
        let reads = Arc::clone(&served.calls.reads);
        let service = Arc::clone(&served.calls.service);
        let report = move |error| service.report_protocol_error(error, peer);
        let mut accept = std::pin::pin!(http2::accept(stream, &client, &reads, report));
        let accepted = tokio::select! {
            accepted = accept.as_mut() => accepted,
            // No preface, no call to finish. Envoy sends its preface as soon as it is connected.
            () = sleep(PREFACE_TIMEOUT.min(config.max_age)) => return Ok(()),
            () = client.evicted() => return Ok(()),
            // Unless its first call is on its way.
            grace = drained(&mut draining) => match timeout(grace.min(LATE_PREFACE), accept).await {
                Ok(accepted) => accepted,
                Err(_) => return Ok(()),
            },
        };
        let stream = match accepted {
            Err(PrefaceError::Closed) => return Ok(()),
            accepted => accepted?,
        };
        let answer = service_fn(move |request| Arc::clone(&served).answer(request));
        let mut connection =
            std::pin::pin!(builder().serve_connection(TokioIo::new(stream), answer));
        let mut is_draining = false;
        let grace = tokio::select! {
            ended = connection.as_mut() => return Ok(ended?),
            () = age.as_mut() => config.max_age_grace,
            () = client.evicted() => {
                debug!(%peer, "connection evicted at the limit");
                EVICTION_GRACE
            }
            grace = drained(&mut draining) => {
                is_draining = true;
                grace
            }
        };
        connection.as_mut().graceful_shutdown();
        let mut deadline = Instant::now() + grace;
        loop {
            tokio::select! {
                ended = connection.as_mut() => return Ok(ended?),
                () = sleep_until(deadline) => {
                    if is_draining {
                        cut.fetch_add(1, Ordering::Relaxed);
                    }
                    return Ok(());
                }
                // A drain may come while an old connection is leaving, and then counts too.
                grace = drained(&mut draining), if !is_draining => {
                    is_draining = true;
                    deadline = deadline.min(Instant::now() + grace);
                }
            }
        }
    }
}

/// HTTP/2 as Envoy needs it.
pub(super) fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_pending_accept_reset_streams(MAX_RESETS)
        .max_local_error_reset_streams(MAX_RESETS)
        .max_header_list_size(http2::MAX_HEADER_LIST)
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE);
    builder
}

/// `duration`, give or take a tenth, so that connections opened together do not end together.
fn jittered(duration: Duration) -> Duration {
    duration.mul_f64(0.9 + 0.2 * fastrand::f64())
}

/// Waits for the drain; pending for ever if the server is dropped without one.
async fn drained(draining: &mut watch::Receiver<Option<Duration>>) -> Duration {
    if let Ok(grace) = draining.wait_for(Option::is_some).await
        && let Some(grace) = *grace
    {
        return grace;
    }
    std::future::pending().await
}

/// Envoy opens streams before it has read our settings; a lower bound would refuse calls, and
/// Envoy lets refused calls pass.
const MAX_STREAMS: u32 = 4096;

/// A stopped server finds as many resets waiting as Envoy had calls under way, up to its circuit
/// breaker's 1,024 for each worker; HTTP/2's usual bound of 20 would cost the connection.
const MAX_RESETS: usize = 4096;

const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 1 << 20;

/// How long a drain waits for the preface of a connection that was just opened.
const LATE_PREFACE: Duration = Duration::from_millis(500);

/// A peer that vanished without a word is noticed after twice this.
const KEEP_ALIVE: Duration = Duration::from_secs(60);

/// Time limit for HTTP/2's connection preface.
const PREFACE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long an evicted connection has to finish its calls. Envoy waits 20 ms for one, unless told otherwise.
const EVICTION_GRACE: Duration = Duration::from_millis(250);

/// How often a drain looks whether the last connection has ended.
const DRAIN_POLL: Duration = Duration::from_millis(10);

/// Lets connections that end by their own deadline end first.
const DRAIN_SLACK: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Stopwatch;

    #[test]
    fn a_core_that_works_gets_busier_than_one_that_waits() {
        let cores = [(); 2].map(|()| {
            let mut builder = tokio::runtime::Builder::new_current_thread();
            builder.enable_all().build().unwrap()
        });
        let work = Duration::from_millis(50);
        cores[0].block_on(async {
            let watch = Stopwatch::start();
            while watch.elapsed() < work {
                tokio::task::yield_now().await;
            }
        });
        cores[1].block_on(async { sleep(work).await });
        let [busy, idle] = cores.map(|core| core.metrics().worker_total_busy_duration(0));
        assert!(busy > idle, "{busy:?} {idle:?}");
    }
}
