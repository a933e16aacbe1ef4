//! Attacks on the HTTP and the admin listener, of which callers of gRPC should notice nothing.

use std::net::SocketAddr;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::target::{Ports, withstands};

/// A connection on which this was sent, as far as the server takes it.
async fn sent(address: SocketAddr, text: &[u8]) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    stream.write_all(text).await.ok()?;
    Some(stream)
}

/// A request to `/json` with a body of so many bytes.
fn json(bytes: usize) -> Vec<u8> {
    let head = format!(
        "POST /json HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {bytes}\r\n\r\n"
    );
    let mut request = head.into_bytes();
    request.extend(b"{\"descriptors\":[");
    while request.len() < bytes {
        request.extend(b"{},");
    }
    request
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_bodies_of_empty_objects() {
    let name = "/json: 40 bodies of 1 MB of {}";
    withstands(name, "+1.8 GB", async move |Ports { http, .. }, _| {
        let body = json(1_000_000);
        let mut held = Vec::new();
        for _ in 0..40 {
            held.push(sent(http, &body).await);
        }
        held
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_are_not_complete() {
    let name = "8080 and 6070: 1,100 connections with half a header, half a body, or nothing";
    let before = "open after 480 s; with 1,024 open files no new gRPC connection";
    withstands(name, before, async move |Ports { http, admin, .. }, _| {
        let mut held = Vec::new();
        for address in [http, admin] {
            for number in 0..550 {
                let text: &[u8] = match number % 3 {
                    0 => b"GET /healthcheck HTT",
                    1 => b"POST /json HTTP/1.1\r\nhost: x\r\ncontent-length: 9999\r\n\r\n{",
                    _ => b"",
                };
                held.push(sent(address, text).await);
            }
        }
        held
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_are_posted_without_end() {
    let name = "16 connections that post 16 kB to /json";
    let before = "54 of 150 new connections late";
    withstands(name, before, async move |Ports { http, .. }, _| {
        let body = json(16_000);
        let mut posting = JoinSet::new();
        for _ in 0..16 {
            let body = body.clone();
            posting.spawn(async move {
                // The server closes after each, since the body is refused.
                loop {
                    let _closed = sent(http, &body).await;
                    tokio::task::yield_now().await;
                }
            });
        }
        posting
    })
    .await;
}
