//! Slow, silent and numerous clients against the limits of an HTTP listener.

use std::net::SocketAddr;
use std::task::Poll;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::ConnectInfo;
use axum::routing::{get, post};
use futures_util::Stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::*;
use crate::model::Peer;
use crate::transport::listener::Address;

const SHORT: Duration = Duration::from_millis(300);
/// Longer than any test.
const LONG: Duration = Duration::from_secs(600);

const LIMITS: HttpLimits = HttpLimits {
    connections: 3,
    body_bytes: 100_000,
    max_body: 60_000,
    timeouts: HttpTimeouts {
        header: LONG,
        body: LONG,
        response: LONG,
    },
};

/// Bytes of the response of `/large`: more than the socket buffers hold.
const LARGE: usize = 64 << 20;

struct Running {
    server: HttpServer,
    address: SocketAddr,
    /// Receives a message when the body of a `/large` response is dropped.
    large_body_dropped: mpsc::UnboundedReceiver<()>,
    table: Arc<ConnectionTable>,
}

/// A body of one frame that reports when it is dropped.
struct LargeBody {
    rest: Option<Bytes>,
    dropped: mpsc::UnboundedSender<()>,
}

impl LargeBody {
    fn frames(mut self) -> impl Stream<Item = Result<Bytes, Infallible>> {
        futures_util::stream::poll_fn(move |_| Poll::Ready(self.rest.take().map(Ok)))
    }
}

impl Drop for LargeBody {
    fn drop(&mut self) {
        // The test may have ended.
        let _closed = self.dropped.send(());
    }
}

async fn start(limits: HttpLimits) -> Running {
    let address = Address::Tcp("127.0.0.1:0".into());
    let listener = Listener::bind(&address).await.unwrap();
    let (dropped, large_body_dropped) = mpsc::unbounded_channel();
    let large = async move || {
        let rest = Some(Bytes::from(vec![b'x'; LARGE]));
        Body::from_stream(LargeBody { rest, dropped }.frames())
    };
    let routes = Router::new()
        .route(
            "/",
            get(async |ConnectInfo(peer): ConnectInfo<Peer>| peer.to_string()),
        )
        .route("/large", get(large))
        .route("/length", post(async |body: Bytes| body.len().to_string()));
    let table = Arc::new(ConnectionTable::new(limits));
    let server = HttpServer::start_with(listener, routes, Arc::clone(&table));
    let address = server.address().to_string().parse().unwrap();
    Running {
        server,
        address,
        large_body_dropped,
        table,
    }
}

impl Running {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Opens a connection and sends `text`.
    async fn sent(&self, text: &str) -> TcpStream {
        let mut stream = self.connect().await;
        stream.write_all(text.as_bytes()).await.unwrap();
        stream
    }

    /// Sends a request over a new connection and returns the response.
    async fn ask(&self) -> String {
        let mut stream = self
            .sent("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
            .await;
        rest(&mut stream).await
    }
}

/// Fails if `future` takes so long that it hangs.
async fn within<F: Future>(future: F) -> F::Output {
    timeout(Duration::from_secs(20), future).await.unwrap()
}

/// Reads until the server closes the connection.
async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset ends it as well.
    let _ended = within(stream.read_to_end(&mut bytes)).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Reads until the response ends with `end`.
async fn until(stream: &mut TcpStream, end: &str) {
    let mut text = String::new();
    while !text.ends_with(end) {
        let mut byte = [0];
        within(stream.read_exact(&mut byte)).await.unwrap();
        text.push(char::from(byte[0]));
    }
}

/// Starts a listener with one short timeout.
async fn start_with(set: impl FnOnce(&mut HttpTimeouts)) -> Running {
    let mut limits = LIMITS;
    set(&mut limits.timeouts);
    start(limits).await
}

#[tokio::test]
async fn handlers_know_who_asks() {
    let running = start(LIMITS).await;
    let mut stream = running.sent("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let own = stream.local_addr().unwrap().to_string();
    until(&mut stream, &own).await;
    // The same connection again.
    stream
        .write_all(b"POST /length HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\n12345")
        .await
        .unwrap();
    until(&mut stream, "\r\n\r\n5").await;
}

#[tokio::test]
async fn an_incomplete_header_times_out() {
    let running = start_with(|timeouts| timeouts.header = SHORT).await;
    for begun in ["", "GET / HT", "GET / HTTP/1.1\r\nhost: a\r\n"] {
        let mut stream = running.sent(begun).await;
        assert_eq!(rest(&mut stream).await, "", "{begun:?}");
    }
    let mut stream = running.sent("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let answer = rest(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn an_incomplete_body_times_out() {
    let running = start_with(|timeouts| timeouts.body = SHORT).await;
    let begun = "POST /length HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\n1234";
    let mut stream = running.sent(begun).await;
    let answer = rest(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(answer.ends_with("not complete after 300ms\n"), "{answer}");
}

#[tokio::test]
async fn a_response_that_is_not_read_times_out() {
    let mut running = start_with(|timeouts| timeouts.response = SHORT).await;
    let mut stream = running.sent("GET /large HTTP/1.1\r\nhost: a\r\n\r\n").await;
    within(running.large_body_dropped.recv()).await.unwrap();
    // What was in the socket buffers.
    let read = rest(&mut stream).await.len();
    assert!(read < LARGE, "{read}");
}

#[tokio::test]
async fn a_long_body_is_refused() {
    let running = start(LIMITS).await;
    let declared = "POST /length HTTP/1.1\r\nhost: a\r\ncontent-length: 60001\r\n\r\n";
    let mut stream = running.sent(declared).await;
    let answer = rest(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    let chunked = format!(
        "POST /length HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{}\r\n",
        60_001,
        "x".repeat(60_001)
    );
    let mut stream = running.sent(&chunked).await;
    let answer = rest(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
}

#[tokio::test]
async fn at_the_limit_the_longest_waiting_connection_is_evicted() {
    let running = start(LIMITS).await;
    let mut first = running.connect().await;
    let mut others = Vec::new();
    for _ in 0..2 {
        others.push(running.sent("GET / HTTP/1.1\r\n").await);
    }
    let answer = running.ask().await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(rest(&mut first).await, "");
    // The others are still open.
    for stream in &mut others {
        stream.write_all(b"host: a\r\n\r\n").await.unwrap();
        let own = stream.local_addr().unwrap().to_string();
        until(stream, &own).await;
    }
}

#[tokio::test]
async fn the_largest_unfinished_body_is_evicted() {
    let running = start(LIMITS).await;
    let begun = |bytes: usize| {
        format!(
            "POST /length HTTP/1.1\r\nhost: a\r\ncontent-length: 60000\r\n\r\n{}",
            "x".repeat(bytes)
        )
    };
    let mut greedy = running.sent(&begun(59_999)).await;
    let received = async {
        while running.table.body_bytes() < 59_999 {
            tokio::task::yield_now().await;
        }
    };
    within(received).await;
    let mut honest = running.sent(&begun(20_000)).await;
    honest
        .write_all("x".repeat(40_000).as_bytes())
        .await
        .unwrap();
    until(&mut honest, "\r\n\r\n60000").await;
    assert_eq!(rest(&mut greedy).await, "");
}

#[tokio::test]
async fn stopping_waits_for_requests_in_progress() {
    let running = start(LIMITS).await;
    let begun = "POST /length HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n1";
    let mut stream = running.sent(begun).await;
    let address = running.address;
    let mut idle = running.connect().await;
    // Both are known to the server once a third has been answered.
    running.ask().await;
    let stopping = tokio::spawn(running.server.stop(LONG));
    assert_eq!(rest(&mut idle).await, "");
    assert!(TcpStream::connect(address).await.is_err());
    stream.write_all(b"2").await.unwrap();
    let answer = rest(&mut stream).await;
    assert!(answer.ends_with("\r\n\r\n2"), "{answer}");
    within(stopping).await.unwrap();
}

#[tokio::test]
async fn a_header_of_too_many_lines_is_refused() {
    let running = start(LIMITS).await;
    let lines = "x: y\r\n".repeat(101);
    let mut stream = running
        .sent(&format!("GET / HTTP/1.1\r\n{lines}\r\n"))
        .await;
    let answer = rest(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
}

#[tokio::test]
async fn a_header_without_end_is_not_read_forever() {
    let running = start(LIMITS).await;
    let mut stream = running.sent("GET / HTTP/1.1\r\nx: ").await;
    // More than all socket buffers hold: sending fails only once the server has stopped reading.
    let piece = [b'x'; 65_536];
    let mut sent = 0_usize;
    while within(stream.write_all(&piece)).await.is_ok() {
        sent += piece.len();
        assert!(sent < 1 << 30, "{sent} bytes were read");
    }
}
