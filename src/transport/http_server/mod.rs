//! An HTTP listener with its routes. Handlers find who asks as `ConnectInfo<Peer>`.
//!
//! Bounded in number, bytes and time, since anybody may connect: so many connections ([`places`]), a
//! header, a body and the reading of its answer within their times ([`Patience`]).
//! A connection that asks nothing for as long as a header may take is closed. Where all places are taken,
//! one of the peer with the most of them goes, so a newcomer is not locked out by those who hold many.

mod body;
mod places;

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
pub use self::places::{Patience, Room};
use self::places::{Place, Places};
use super::listener::{Accepting, Address, Connection, Listener};

/// A running HTTP server. Dropping it lets it run until the runtime ends.
#[derive(Debug)]
pub struct HttpServer {
    address: Address,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

impl HttpServer {
    /// Serves `routes` on `listener`, with as much at once as there is `room`.
    #[must_use]
    pub fn start(listener: Listener, routes: Router, room: Room) -> Self {
        let address = listener.address();
        let (stop, stopped) = watch::channel(false);
        let connections = Connections {
            routes,
            places: Arc::new(Places::new(room)),
            stopped,
        };
        Self {
            address,
            stop,
            serving: tokio::spawn(connections.serve(listener)),
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
struct Connections {
    routes: Router,
    places: Arc<Places>,
    stopped: watch::Receiver<bool>,
}

impl Connections {
    /// Serves until told to stop and the last request has been answered.
    async fn serve(mut self, listener: Listener) {
        let mut accepting = Accepting::new(listener, "http");
        let mut open = JoinSet::new();
        loop {
            let connection = tokio::select! {
                connection = accepting.next() => connection,
                Some(_) = open.join_next() => continue,
                () = stop(&mut self.stopped) => break,
            };
            let peer = connection.peer();
            let Some(place) = self.places.take(peer, Instant::now()) else {
                debug!(%peer, "connection refused: all others are being answered");
                continue;
            };
            let (routes, stopped) = (self.routes.clone(), self.stopped.clone());
            open.spawn(async move {
                match connection {
                    Connection::Tcp(stream, _) => serve(stream, routes, place, stopped).await,
                    Connection::Unix(stream) => serve(stream, routes, place, stopped).await,
                }
            });
        }
        // Nobody can connect any more.
        drop(accepting);
        while open.join_next().await.is_some() {}
    }
}

async fn serve<S>(stream: S, routes: Router, place: Place, mut stopped: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let place = Arc::new(place);
    let peer = place.peer();
    let at = Arc::clone(&place);
    let answer = service_fn(move |request| {
        let (routes, place) = (routes.clone(), Arc::clone(&at));
        async move { Ok::<_, Infallible>(answer(routes, &place, request).await) }
    });
    let connection = Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(place.room().patience.header)
        .max_headers(MOST_HEADERS)
        .max_buf_size(MOST_HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), answer);
    let mut connection = std::pin::pin!(connection);
    let mut is_stopping = false;
    let ended = loop {
        let due = place.due();
        tokio::select! {
            ended = connection.as_mut() => break ended,
            () = stop(&mut stopped), if !is_stopping => {
                is_stopping = true;
                connection.as_mut().graceful_shutdown();
            }
            () = place.evicted() => {
                debug!(%peer, "connection closed: its place is another's");
                return;
            }
            () = sleep_until(due) => {
                if place.is_late(Instant::now()) {
                    debug!(%peer, "connection closed: its answer was not read");
                    return;
                }
            }
        }
    };
    if let Err(error) = ended {
        debug!(%peer, %error, "connection failed");
    }
}

/// Reads the body, within its bounds, and has the routes answer.
async fn answer(routes: Router, place: &Place, request: Request<Incoming>) -> Response {
    let (mut head, mut incoming) = request.into_parts();
    place.asking(Instant::now());
    let patience = place.room().patience;
    let read = timeout(patience.body, body::read(&mut incoming, place)).await;
    let read = read.unwrap_or(Err(BodyError::Late(patience.body)));
    let (bytes, held) = match read {
        Ok(read) => read,
        Err(error) => {
            // While the answer is on its way.
            tokio::spawn(timeout(DISCARD_TIME, body::discard(incoming)));
            return refuse(&error);
        }
    };
    head.extensions.insert(ConnectInfo(place.peer()));
    place.answering();
    let request = Request::from_parts(head, Body::from(bytes));
    let answer = match routes.oneshot(request).await {
        Ok(answer) => answer,
        Err(never) => match never {},
    };
    drop(held);
    place.answered(Instant::now() + patience.answer);
    answer
}

fn refuse(error: &BodyError) -> Response {
    let code = match error {
        BodyError::Late(_) => StatusCode::REQUEST_TIMEOUT,
        BodyError::TooLong(_) => StatusCode::PAYLOAD_TOO_LARGE,
        BodyError::NoRoom(_) => StatusCode::SERVICE_UNAVAILABLE,
        BodyError::Broken(_) => StatusCode::BAD_REQUEST,
    };
    let close = [(CONNECTION, "close")];
    (code, close, format!("{error}\n")).into_response()
}

async fn stop(stopped: &mut watch::Receiver<bool>) {
    // A sender that is dropped means stop as well.
    let _dropped = stopped.wait_for(|stopped| *stopped).await;
}

/// How long the rest of a refused body is taken.
const DISCARD_TIME: Duration = Duration::from_secs(2);

/// What a request's header may hold. A browser behind a few proxies sends some 2 KiB in 20 lines.
const MOST_HEADERS: usize = 100;
const MOST_HEADER_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests;
