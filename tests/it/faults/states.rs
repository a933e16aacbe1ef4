//! Where each Tollgate says that its decisions come from: `GET /store` on its admin listener.

use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::Request;
use hyper::header::HOST;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::time::Instant;

use crate::envoy::client::Client;

/// Asks some Tollgates again and again, on a thread of its own.
#[derive(Debug)]
pub(super) struct Watch {
    seen: Arc<Mutex<Seen>>,
    stop: mpsc::Sender<()>,
    thread: JoinHandle<()>,
}

/// What all of them together have said.
#[derive(Debug, Default)]
struct Seen {
    /// All used the store when they were asked last, the latter began then.
    shared: Option<(Instant, bool)>,
    /// When it became so, and when it ceased.
    changes: Vec<(Instant, bool)>,
    /// What the last one said that could not be understood.
    strange: Option<String>,
}

impl Watch {
    pub(super) fn start(admins: Vec<SocketAddr>) -> Self {
        let seen = Arc::<Mutex<Seen>>::default();
        let (stop, stopped) = mpsc::channel::<()>();
        let told = Arc::clone(&seen);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            while stopped.recv_timeout(PAUSE) != Err(mpsc::RecvTimeoutError::Disconnected) {
                let asked = Instant::now();
                let round = runtime.block_on(all_share(&admins));
                told.lock().push(asked, round);
            }
        });
        Self { seen, stop, thread }
    }

    /// Whether all used the store when they were asked after `moment`.
    ///
    /// Panics if what they say cannot be understood.
    pub(super) fn shared_after(&self, moment: Instant) -> bool {
        let seen = self.seen.lock();
        assert!(seen.strange.is_none(), "GET /store: {:?}", seen.strange);
        seen.shared
            .is_some_and(|(at, shared)| shared && at > moment)
    }

    /// Ends it. When all used the store again for the last time, if they ever did not.
    pub(super) fn stop(self) -> Option<Instant> {
        drop(self.stop);
        self.thread.join().expect("the watch does not panic");
        self.seen.lock().back()
    }
}

impl Seen {
    fn push(&mut self, at: Instant, round: Result<bool, String>) {
        match round {
            Err(strange) => self.strange = Some(strange),
            Ok(shared) => {
                if self.shared.is_none_or(|(_, before)| before != shared) {
                    self.changes.push((at, shared));
                }
                self.shared = Some((at, shared));
            }
        }
    }

    fn back(&self) -> Option<Instant> {
        let left = self.changes.iter().any(|(_, shared)| !shared);
        let back = self.changes.iter().rev().find(|(_, shared)| *shared);
        back.filter(|_| left).map(|(at, _)| *at)
    }
}

/// Whether every store of every Tollgate is used. One that does not answer uses none.
async fn all_share(admins: &[SocketAddr]) -> Result<bool, String> {
    for admin in admins {
        let request = Request::get("/store").header(HOST, "localhost");
        let request = request.body(Empty::<Bytes>::new()).expect("a request");
        let Ok(mut client) = Client::try_connect(*admin).await else {
            return Ok(false);
        };
        let Ok(reply) = client.send(request).await else {
            return Ok(false);
        };
        let states = states(&reply.body);
        if states.is_empty() {
            return Err(format!("no state in {} {}", reply.status, reply.body));
        }
        if states.iter().any(|state| state != "closed") {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The states of the breakers: those of the stores if it lists them so, else all that it names.
fn states(body: &str) -> Vec<String> {
    let Ok(body) = serde_json::from_str::<Value>(body) else {
        return Vec::new();
    };
    let state = |value: &Value| value["state"].as_str().map(str::to_owned);
    let stores = body["stores"].as_array().into_iter().flatten();
    let listed: Vec<String> = stores.filter_map(state).collect();
    if listed.is_empty() {
        named(&body)
    } else {
        listed
    }
}

fn named(value: &Value) -> Vec<String> {
    match value {
        Value::Array(items) => items.iter().flat_map(named).collect(),
        Value::Object(fields) => {
            let own = fields.get("state").and_then(Value::as_str);
            let inner = fields.values().flat_map(named);
            own.map(str::to_owned).into_iter().chain(inner).collect()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    }
}

const PAUSE: Duration = Duration::from_millis(20);

#[test]
fn states_are_found_where_they_are() {
    let listed = r#"{"stores":[{"name":"main","state":"closed","endpoints":[{"state":"open"}]},
        {"name":"per_second","state":"half_open"}]}"#;
    assert_eq!(states(listed), ["closed", "half_open"]);
    assert_eq!(states(r#"{"main":{"breaker":{"state":"open"}}}"#), ["open"]);
    assert!(states("not found").is_empty());
}

#[test]
fn the_last_return_to_the_store_counts() {
    let begun = Instant::now();
    let at = |millis| begun + Duration::from_millis(millis);
    let mut seen = Seen::default();
    seen.push(at(0), Ok(true));
    assert_eq!(seen.back(), None, "it never left");
    for (millis, shared) in [(20, true), (40, false), (60, true), (80, false), (99, true)] {
        seen.push(at(millis), Ok(shared));
    }
    seen.push(at(120), Ok(true));
    assert_eq!(seen.back(), Some(at(99)));
}
