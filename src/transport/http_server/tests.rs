//! What a peer that is slow, silent or many does to others.

use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::ConnectInfo;
use axum::routing::{get, post};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::model::Peer;
use crate::transport::listener::Address;

const SHORT: Duration = Duration::from_millis(300);
/// Never over while a test runs.
const LONG: Duration = Duration::from_secs(600);

const ROOM: Room = Room {
    connections: 3,
    body_bytes: 100_000,
    largest_body: 60_000,
    patience: Patience {
        header: LONG,
        body: LONG,
        answer: LONG,
    },
};

struct Running {
    server: HttpServer,
    address: SocketAddr,
}

async fn start(room: Room) -> Running {
    let address = Address::Tcp("127.0.0.1:0".into());
    let listener = Listener::bind(&address).await.unwrap();
    let routes = Router::new()
        .route(
            "/",
            get(async |ConnectInfo(peer): ConnectInfo<Peer>| peer.to_string()),
        )
        .route("/large", get(async || "x".repeat(64 << 20)))
        .route("/length", post(async |body: Bytes| body.len().to_string()));
    let server = HttpServer::start(listener, routes, room);
    let address = server.address().to_string().parse().unwrap();
    Running { server, address }
}

impl Running {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// A connection that has sent this.
    async fn sent(&self, text: &str) -> TcpStream {
        let mut stream = self.connect().await;
        stream.write_all(text.as_bytes()).await.unwrap();
        stream
    }

    /// What a new connection is answered.
    async fn ask(&self) -> String {
        let mut stream = self
            .sent("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
            .await;
        rest(&mut stream).await
    }
}

/// What comes until the server closes the connection.
async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset ends it as well.
    let _ended = stream.read_to_end(&mut bytes).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Reads an answer whose last line is this.
async fn until(stream: &mut TcpStream, end: &str) {
    let mut text = String::new();
    while !text.ends_with(end) {
        let mut byte = [0];
        stream.read_exact(&mut byte).await.unwrap();
        text.push(char::from(byte[0]));
    }
}

fn with(patience: Patience) -> Room {
    Room { patience, ..ROOM }
}

#[tokio::test]
async fn handlers_know_who_asks() {
    let running = start(ROOM).await;
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
async fn half_a_header_and_silence_are_waited_for_so_long() {
    let patience = Patience {
        header: SHORT,
        ..ROOM.patience
    };
    let running = start(with(patience)).await;
    for begun in ["", "GET / HT", "GET / HTTP/1.1\r\nhost: a\r\n"] {
        let mut stream = running.sent(begun).await;
        assert_eq!(rest(&mut stream).await, "", "{begun:?}");
    }
    let mut stream = running.sent("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let answer = rest(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn half_a_body_is_waited_for_so_long() {
    let patience = Patience {
        body: SHORT,
        ..ROOM.patience
    };
    let running = start(with(patience)).await;
    let begun = "POST /length HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\n1234";
    let mut stream = running.sent(begun).await;
    let answer = rest(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(answer.ends_with("not complete after 300ms\n"), "{answer}");
}

#[tokio::test]
async fn an_answer_that_nobody_reads_is_dropped() {
    let patience = Patience {
        answer: SHORT,
        ..ROOM.patience
    };
    let running = start(with(patience)).await;
    let mut stream = running.sent("GET /large HTTP/1.1\r\nhost: a\r\n\r\n").await;
    stream.readable().await.unwrap();
    // Until the other side is gone, nothing is read.
    while stream.try_write(b"\r\n").is_ok() {
        tokio::time::sleep(SHORT / 10).await;
    }
    let read = rest(&mut stream).await.len();
    assert!(read < 64 << 20, "{read}");
}

#[tokio::test]
async fn a_long_body_is_refused() {
    let running = start(ROOM).await;
    let told = "POST /length HTTP/1.1\r\nhost: a\r\ncontent-length: 60001\r\n\r\n";
    let mut stream = running.sent(told).await;
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
async fn where_all_places_are_taken_the_one_that_waits_longest_goes() {
    let running = start(ROOM).await;
    let mut first = running.connect().await;
    let mut others = Vec::new();
    for _ in 0..2 {
        others.push(running.sent("GET / HTTP/1.1\r\n").await);
    }
    let answer = running.ask().await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(rest(&mut first).await, "");
    // The others still have theirs.
    for stream in &mut others {
        stream.write_all(b"host: a\r\n\r\n").await.unwrap();
        let own = stream.local_addr().unwrap().to_string();
        until(stream, &own).await;
    }
}

#[tokio::test]
async fn the_largest_unfinished_body_gives_way() {
    let running = start(ROOM).await;
    let begun = |bytes: usize| {
        format!(
            "POST /length HTTP/1.1\r\nhost: a\r\ncontent-length: 60000\r\n\r\n{}",
            "x".repeat(bytes)
        )
    };
    let mut greedy = running.sent(&begun(59_999)).await;
    let mut honest = running.sent(&begun(20_000)).await;
    honest
        .write_all("x".repeat(40_000).as_bytes())
        .await
        .unwrap();
    until(&mut honest, "\r\n\r\n60000").await;
    assert_eq!(rest(&mut greedy).await, "");
}

#[tokio::test]
async fn stopping_waits_for_what_is_under_way() {
    let running = start(ROOM).await;
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
    stopping.await.unwrap();
}

#[tokio::test]
async fn a_header_of_too_many_lines_is_refused() {
    let running = start(ROOM).await;
    let lines = "x: y\r\n".repeat(101);
    let mut stream = running
        .sent(&format!("GET / HTTP/1.1\r\n{lines}\r\n"))
        .await;
    let answer = rest(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
}

#[tokio::test]
async fn a_header_is_read_only_so_far() {
    let running = start(ROOM).await;
    let mut stream = running.sent("GET / HTTP/1.1\r\nx: ").await;
    // More than all buffers on the way take: that it fails shows that nobody reads any more.
    let piece = [b'x'; 65_536];
    let mut sent = 0_usize;
    while stream.write_all(&piece).await.is_ok() {
        sent += piece.len();
        assert!(sent < 1 << 30, "{sent} bytes were read");
    }
}
