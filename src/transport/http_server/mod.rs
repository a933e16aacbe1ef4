//! Serves an HTTP/1 listener. Handlers get the client's address as `ConnectInfo<Peer>`.
//!
//! Connections are limited in number ([`connections`]), bytes and time ([`HttpLimits`]), since every pod of
//! the cluster may connect. At the limit a new connection is accepted and an older one is closed, of
//! the address with the most connections, so that one client cannot lock out the others.

mod body;
mod connections;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::header::CONNECTION;
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};
use tower::ServiceExt;
use tracing::debug;

use self::body::BodyError;
use self::connections::{ConnectionTable, TableEntry};
pub use self::connections::{HttpLimits, HttpTimeouts};
use super::listener::{Acceptor, Address, Connection, Listener};

/// A running HTTP server. Dropping it stops it without a time limit for requests under way.
#[derive(Debug)]
pub struct HttpServer {
    address: Address,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

impl HttpServer {
    /// Serves `routes` on `listener` within `limits`.
    #[must_use]
    pub fn start(listener: Listener, routes: Router, limits: HttpLimits) -> Self {
        Self::start_with(listener, routes, Arc::new(ConnectionTable::new(limits)))
    }

    fn start_with(listener: Listener, routes: Router, table: Arc<ConnectionTable>) -> Self {
        let address = listener.address();
        let (stop, stopped) = watch::channel(false);
        let accept_loop = AcceptLoop {
            routes,
            table,
            stopped,
        };
        Self {
            address,
            stop,
            serving: tokio::spawn(accept_loop.run(listener)),
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Takes no more requests and waits for those under way, at most `grace`.
    pub async fn stop(self, grace: Duration) {
        self.stop.send_replace(true);
        let abort = self.serving.abort_handle();
        if timeout(grace, self.serving).await.is_err() {
            abort.abort();
        }
    }
}

#[derive(Debug)]
struct AcceptLoop {
    routes: Router,
    table: Arc<ConnectionTable>,
    stopped: watch::Receiver<bool>,
}

impl AcceptLoop {
    /// Serves until stopped and the last request has been answered.
    async fn run(mut self, listener: Listener) {
        let mut acceptor = Acceptor::new(listener, "http");
        let mut open = JoinSet::new();
        loop {
            let connection = tokio::select! {
                connection = acceptor.next() => connection,
                Some(_) = open.join_next() => continue,
                () = wait_for_stop(&mut self.stopped) => break,
            };
            let peer = connection.peer();
            let Some(entry) = self.table.insert(peer, Instant::now()) else {
                debug!(%peer, "connection limit reached by requests of this client in progress; closing its new connection");
                continue;
            };
            let (routes, stopped) = (self.routes.clone(), self.stopped.clone());
            open.spawn(async move {
                match connection {
                    Connection::Tcp(stream, _) => serve(stream, routes, entry, stopped).await,
                    Connection::Unix(stream) => serve(stream, routes, entry, stopped).await,
                }
            });
        }
        // Closes the listening socket, so that clients connect elsewhere.
        drop(acceptor);
        while open.join_next().await.is_some() {}
    }
}

async fn serve<S>(stream: S, routes: Router, entry: TableEntry, mut stopped: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let entry = Arc::new(entry);
    let peer = entry.peer();
    let for_service = Arc::clone(&entry);
    let service = service_fn(move |request| {
        let (routes, entry) = (routes.clone(), Arc::clone(&for_service));
        async move { Ok::<_, Infallible>(handle(routes, &entry, request).await) }
    });
    let connection = Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(entry.limits().timeouts.header)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let mut is_stopping = false;
    let result = loop {
        let next_check = entry.next_check(Instant::now());
        tokio::select! {
            // An evicted connection starts no request: its client would not get the answer.
            biased;
            () = entry.evicted() => {
                debug!(%peer, "connection evicted at the listener's limit");
                return;
            }
            () = wait_for_stop(&mut stopped), if !is_stopping => {
                is_stopping = true;
                connection.as_mut().graceful_shutdown();
            }
            result = connection.as_mut() => break result,
            () = sleep_until(next_check) => {
                if entry.is_overdue(Instant::now()) {
                    debug!(%peer, "response not read in time; closing the connection");
                    return;
                }
            }
        }
    };
    if let Err(error) = result {
        debug!(%peer, %error, "http connection failed");
    }
}

/// Reads the body within its limits, and passes the request to its handler.
async fn handle(routes: Router, entry: &TableEntry, request: Request<Incoming>) -> Response {
    let (mut head, mut incoming) = request.into_parts();
    entry.set_receiving(Instant::now());
    let timeouts = entry.limits().timeouts;
    let body = timeout(timeouts.body, body::read(&mut incoming, entry)).await;
    let body = body.unwrap_or(Err(BodyError::Timeout(timeouts.body)));
    let response = match body {
        Ok((body, reservation)) => {
            head.extensions.insert(ConnectInfo(entry.peer()));
            entry.set_handling(Instant::now());
            let request = Request::from_parts(head, Body::from(body));
            let Ok(response) = routes.oneshot(request).await;
            drop(reservation);
            response
        }
        Err(error) => {
            // While the response is sent.
            tokio::spawn(timeout(DISCARD_TIMEOUT, body::discard(incoming)));
            refuse(&error)
        }
    };
    entry.set_sending(Instant::now());
    response
}

fn refuse(error: &BodyError) -> Response {
    let code = match error {
        BodyError::Timeout(_) => StatusCode::REQUEST_TIMEOUT,
        BodyError::TooLong(_) => StatusCode::PAYLOAD_TOO_LARGE,
        BodyError::Overloaded(_) => StatusCode::SERVICE_UNAVAILABLE,
        BodyError::Broken(_) => StatusCode::BAD_REQUEST,
    };
    let close = [(CONNECTION, "close")];
    (code, close, format!("{error}\n")).into_response()
}

async fn wait_for_stop(stopped: &mut watch::Receiver<bool>) {
    // A sender that is dropped means stop as well.
    let _dropped = stopped.wait_for(|stopped| *stopped).await;
}

/// Time limit for reading the rest of a refused body.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(2);

/// Limits of a request's header. A browser behind a few proxies sends some 2 KiB in 20 fields.
const MAX_HEADERS: usize = 100;
const MAX_HEADER_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests;
