//! Somebody who is posted to over HTTP: in the place of Slack, of PagerDuty, or of Alertmanager.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

/// Keeps every post. Stops listening when dropped.
pub(super) struct Receiver {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    accepting: AbortHandle,
}

#[derive(Default)]
struct State {
    /// Path and body.
    posts: Vec<(String, Value)>,
    /// Posts that are refused before one is accepted.
    refuse: usize,
    /// Nobody gets an answer.
    hangs: bool,
    /// Connections and requests that wait for an answer now, and the most there ever were.
    waiting: usize,
    most_waiting: usize,
}

impl Receiver {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::<Mutex<State>>::default();
        let shared = Arc::clone(&state);
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&shared);
                let answer = service_fn(move |request| take(request, Arc::clone(&state)));
                let serve = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), answer);
                tokio::spawn(serve);
            }
        });
        Self {
            address,
            state,
            accepting: accepting.abort_handle(),
        }
    }

    /// One that never answers.
    pub(super) async fn hanging() -> Self {
        let receiver = Self::start().await;
        receiver.state.lock().hangs = true;
        receiver
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Answers 503 so often before it accepts anything.
    pub(super) fn refuse(&self, posts: usize) {
        self.state.lock().refuse = posts;
    }

    /// What was posted to `path` and accepted, in order.
    pub(super) fn posts(&self, path: &str) -> Vec<Value> {
        let state = self.state.lock();
        let there = state.posts.iter().filter(|(to, _)| to == path);
        there.map(|(_, body)| body.clone()).collect()
    }

    /// The most requests that ever waited at the same time.
    pub(super) fn most_waiting(&self) -> usize {
        self.state.lock().most_waiting
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Counts a request as long as somebody waits for its answer.
struct Waiting(Arc<Mutex<State>>);

impl Waiting {
    fn new(state: &Arc<Mutex<State>>) -> Self {
        let mut counted = state.lock();
        counted.waiting += 1;
        counted.most_waiting = counted.most_waiting.max(counted.waiting);
        Self(Arc::clone(state))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.lock().waiting -= 1;
    }
}

async fn take(
    request: Request<Incoming>,
    state: Arc<Mutex<State>>,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let _waiting = Waiting::new(&state);
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await?.to_bytes();
    if state.lock().hangs {
        std::future::pending::<()>().await;
    }
    let mut state = state.lock();
    if let Some(left) = state.refuse.checked_sub(1) {
        state.refuse = left;
        let mut refused = Response::new(Full::from("not now"));
        *refused.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        return Ok(refused);
    }
    let body = serde_json::from_slice(&body).unwrap_or_default();
    state.posts.push((path, body));
    Ok(Response::new(Full::from("ok")))
}
