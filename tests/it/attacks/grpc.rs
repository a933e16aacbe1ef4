//! Attacks on the gRPC listener.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::SendStream;
use h2::client::{ResponseFuture, SendRequest};
use http::Request;
use prost::Message;
use tokio::net::TcpStream;

use super::Size;
use super::raw::{RawConnection, bomb, request_block};
use super::target::{Ports, withstands};
use crate::harness::{descriptor, request};

const CHECK: &str = "/grpc.health.v1.Health/Check";
const WATCH: &str = "/grpc.health.v1.Health/Watch";
const SHOULD_RATE_LIMIT: &str = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";

/// A message of no bytes: any health.
const EMPTY: &[u8] = &[0, 0, 0, 0, 0];

/// A window that is larger than any response.
const OPEN_WINDOW: u8 = 255;

/// A message that is answered by a rule.
fn question() -> Vec<u8> {
    let user = descriptor(&[("user", "attacker")]);
    let message = request("it", &[user]).encode_to_vec();
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[0], length.as_slice(), &message].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_attack() {
    withstands("none, for comparison", "", async move |_, _| ()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn header_blocks_that_decode_to_a_hundred_times_their_size() {
    let name = "HPACK bomb: 150 streams of 30,000 one-byte references";
    withstands(name, "+364 MB", async move |Ports { grpc, .. }, _| {
        let mut connection = RawConnection::open(grpc).await;
        let block = bomb(CHECK, 30_000);
        connection.requests(150, &block, None).await;
        connection.drain()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_fields_in_every_request() {
    let name = "4,000 streams of 900 one-byte references";
    withstands(name, "", async move |Ports { grpc, .. }, size| {
        let mut connection = RawConnection::open(grpc).await;
        let block = bomb(CHECK, 900);
        connection.requests(size.streams, &block, None).await;
        connection.drain()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn header_blocks_that_do_not_end() {
    let name = "200 header blocks of 1 MB that never end";
    withstands(name, "", async move |Ports { grpc, .. }, _| {
        let mut held = Vec::new();
        for _ in 0..200 {
            let mut connection = RawConnection::open(grpc).await;
            connection.unfinished_block(64).await;
            held.push(connection.drain());
        }
        held
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_do_not_end() {
    for path in [SHOULD_RATE_LIMIT, CHECK] {
        let name = format!("messages of 4 MiB that never end, {path}");
        withstands(&name, "1,322 MB", async move |Ports { grpc, .. }, size| {
            unfinished_messages(grpc, path, size.message_bytes).await
        })
        .await;
    }
}

/// Sends `total` bytes of messages of 4 MiB, of which one byte is missing.
async fn unfinished_messages(address: SocketAddr, path: &'static str, total: usize) -> impl Sized {
    const LENGTH: usize = 4 << 20;
    let mut requests = connect(address).await;
    let mut held = Vec::new();
    for _ in 0..total / LENGTH {
        let Some((response, mut body)) = open(&mut requests, path).await else {
            break;
        };
        let prefix = [
            &[0],
            u32::try_from(LENGTH).unwrap().to_be_bytes().as_slice(),
        ]
        .concat();
        send(&mut body, prefix.into()).await;
        send(&mut body, Bytes::from(vec![b'x'; LENGTH - 1])).await;
        held.push((response, body));
    }
    (requests, held)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_whose_message_does_not_come() {
    let name = "3 connections, 4,000 HEADERS without a body each";
    let before = "712 of 800 calls refused";
    withstands(name, before, async move |Ports { grpc, .. }, size| {
        let mut held = Vec::new();
        for _ in 0..3 {
            let opened = opened(grpc, 0, size, SHOULD_RATE_LIMIT, None).await;
            held.push(opened.drain());
        }
        held
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_of_the_health() {
    let name = "Watch streams, 4,000 on each connection";
    let before = "+147 MB, stalls of 1.1 s";
    withstands(name, before, async move |Ports { grpc, .. }, size| {
        let mut held = Vec::new();
        for _ in 0..size.connections / 2 {
            held.push(opened(grpc, 0, size, WATCH, Some(EMPTY)).await.drain());
        }
        held
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn responses_for_which_the_window_is_too_small() {
    for (window, before) in [(0, "+147 MB"), (1, "")] {
        let name = format!("responses with a window of {window}, 4,000 on each connection");
        withstands(&name, before, async move |Ports { grpc, .. }, size| {
            let (message, mut held) = (question(), Vec::new());
            for _ in 0..2 * size.connections {
                let opened = opened(grpc, window, size, SHOULD_RATE_LIMIT, Some(&message)).await;
                held.push(opened.drain());
            }
            held
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn responses_that_are_not_read() {
    let name = "responses that are not read from the socket, 4,000 on each connection";
    withstands(name, "+147 MB", async move |Ports { grpc, .. }, size| {
        let (message, mut held) = (question(), Vec::new());
        for _ in 0..size.connections {
            let message = Some(message.as_slice());
            held.push(opened(grpc, OPEN_WINDOW, size, SHOULD_RATE_LIMIT, message).await);
        }
        held
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_without_end_whose_responses_are_not_read() {
    let name = "requests without end whose responses are not read, 4 connections";
    withstands(name, "", async move |Ports { grpc, .. }, _| {
        let mut held = Vec::new();
        for _ in 0..4 {
            // What the server does not read any more cannot be sent.
            held.push(tokio::spawn(async move {
                let block = request_block(SHOULD_RATE_LIMIT);
                let mut connection = RawConnection::open_with(grpc, OPEN_WINDOW).await;
                while connection.requests(100, &block, Some(&question())).await {}
            }));
        }
        Aborted(held)
    })
    .await;
}

/// Tasks that end when this is dropped.
#[derive(Debug)]
struct Aborted(Vec<tokio::task::JoinHandle<()>>);

impl Drop for Aborted {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_send_nothing() {
    let name = "1,100 connections that send nothing";
    withstands(name, "", async move |Ports { grpc, .. }, _| {
        let mut held = Vec::new();
        for _ in 0..1100 {
            held.push(TcpStream::connect(grpc).await.unwrap());
        }
        held
    })
    .await;
}

/// A connection with this window for responses, on which requests were sent and nothing was read.
async fn opened(
    address: SocketAddr,
    window: u8,
    size: Size,
    path: &str,
    message: Option<&[u8]>,
) -> RawConnection {
    let mut connection = RawConnection::open_with(address, window).await;
    let block = request_block(path);
    connection.requests(size.streams, &block, message).await;
    connection
}

async fn connect(address: SocketAddr) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (requests, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    requests
}

async fn open(
    requests: &mut SendRequest<Bytes>,
    path: &str,
) -> Option<(ResponseFuture, SendStream<Bytes>)> {
    let request = Request::post(format!("http://tollgate{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .unwrap();
    std::future::poll_fn(|context| requests.poll_ready(context))
        .await
        .ok()?;
    requests.send_request(request, false).ok()
}

/// Sends all of it as the window allows, or as much as the server takes.
async fn send(body: &mut SendStream<Bytes>, mut bytes: Bytes) {
    while !bytes.is_empty() {
        body.reserve_capacity(bytes.len());
        let capacity = std::future::poll_fn(|context| body.poll_capacity(context)).await;
        let Some(Ok(capacity)) = capacity else { return };
        let part = bytes.split_to(capacity.min(bytes.len()));
        if body.send_data(part, false).is_err() {
            return;
        }
    }
}
