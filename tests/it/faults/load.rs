//! Load that does not wait for the server: an open loop.
//!
//! Requests are due at fixed times, whatever became of those before, and each one's latency counts
//! from when it was due. A gateway that stalls for a second so has a thousand late answers, not
//! one.

use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::Request;
use hyper::header::{HOST, HeaderValue};
use tokio::sync::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::envoy::client::Client;

/// Load under way, on threads of its own.
#[derive(Debug)]
pub(crate) struct Load {
    stop: mpsc::Sender<()>,
    pacer: JoinHandle<()>,
    callers: JoinHandle<Vec<Sample>>,
}

/// What became of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// From when it was due until its answer was whole.
    pub(crate) latency: Duration,
    /// 0 if the connection broke.
    pub(crate) status: u16,
}

/// A request and when it is due.
type Due = (u32, Instant);

impl Load {
    /// Sends requests to `/user` for so many users in turn, [`EACH`] a second for each of them.
    pub(crate) fn start(gateway: SocketAddr, users: u32) -> Self {
        Self::with_users(gateway, users, |user| user.to_string())
    }

    /// The same with another header for each user.
    pub(crate) fn with_users(gateway: SocketAddr, users: u32, user_id: fn(u32) -> String) -> Self {
        let (due, dues) = unbounded_channel();
        let (stop, stopped) = mpsc::channel();
        Self {
            stop,
            pacer: std::thread::spawn(move || pace(users, &due, &stopped)),
            callers: std::thread::spawn(move || call(gateway, users, user_id, dues)),
        }
    }

    /// Ends the load; all that was due by now is still sent, and answered.
    pub(crate) fn stop(self) -> Vec<Sample> {
        drop(self.stop);
        self.pacer.join().expect("the pacer does not panic");
        self.callers.join().expect("the callers do not panic")
    }
}

fn pace(users: u32, due: &UnboundedSender<Due>, stop: &mpsc::Receiver<()>) {
    let begun = Instant::now();
    for number in 0.. {
        let at = begun + Duration::from_secs(1) * number / (users * EACH);
        // Waits for the time or for the end, whichever comes first.
        let wait = at.saturating_duration_since(Instant::now());
        let ended = stop.recv_timeout(wait) == Err(mpsc::RecvTimeoutError::Disconnected);
        if ended || due.send((number, at)).is_err() {
            return;
        }
    }
}

fn call(
    gateway: SocketAddr,
    users: u32,
    user_id: fn(u32) -> String,
    dues: UnboundedReceiver<Due>,
) -> Vec<Sample> {
    // Made once: a long one takes longer to make than to send.
    let users: Arc<[HeaderValue]> = (0..users)
        .map(|user| user_id(user).try_into().expect("a header"))
        .collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let dues = Arc::new(Mutex::new(dues));
        let mut callers = JoinSet::new();
        for _ in 0..CONNECTIONS {
            callers.spawn(caller(gateway, Arc::clone(&users), Arc::clone(&dues)));
        }
        callers.join_all().await.concat()
    })
}

/// One keep-alive connection, and another one if it breaks.
async fn caller(
    gateway: SocketAddr,
    users: Arc<[HeaderValue]>,
    dues: Arc<Mutex<UnboundedReceiver<Due>>>,
) -> Vec<Sample> {
    let mut samples = Vec::new();
    let mut client = None;
    loop {
        let next = dues.lock().await.recv().await;
        let Some((number, due)) = next else {
            return samples;
        };
        if client.is_none() {
            client = Client::try_connect(gateway).await.ok();
        }
        let reply = match &mut client {
            Some(client) => client
                .send(request(&users[number as usize % users.len()]))
                .await
                .ok(),
            None => None,
        };
        if reply.is_none() {
            client = None;
        }
        samples.push(Sample {
            latency: due.elapsed(),
            status: reply.map_or(0, |reply| reply.status),
        });
    }
}

fn request(user: &HeaderValue) -> Request<Empty<Bytes>> {
    let request = Request::get("/user").header(HOST, "shop");
    let request = request.header("x-user-id", user.clone());
    request.body(Empty::new()).expect("a request")
}

/// Requests a second for each user.
pub(crate) const EACH: u32 = 10;

/// More than are ever busy: a thousand requests a second that take 20 ms each keep 20 busy.
const CONNECTIONS: usize = 128;
