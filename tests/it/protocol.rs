//! Clients that break HTTP/2 on the gRPC port, byte by byte: each is counted by its reason.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{Harness, until, within};

const POLICY: &str = "
domain: shop
descriptors:
  - { key: user, rate_limit: { requests_per_unit: 1, unit: minute } }
";

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";

/// A HEADERS frame that ends its stream.
fn headers(stream: u8, block: &[u8]) -> Vec<u8> {
    let length = u8::try_from(block.len()).unwrap();
    [&[0, 0, length, 1, 5, 0, 0, 0, stream], block].concat()
}

/// Sends bytes, waits for `done`, and reads what was answered until the server closes.
async fn send(harness: &Harness, bytes: &[u8], done: impl Future<Output = ()>) -> Vec<u8> {
    let mut stream = TcpStream::connect(&harness.grpc).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    if PREFACE.starts_with(bytes) {
        // Only the end says that no more of it comes.
        stream.shutdown().await.unwrap();
    }
    done.await;
    // It may be closed already.
    let _closed = stream.shutdown().await;
    let mut answer = Vec::new();
    // A reset tells as much as an end.
    let _reset = within(stream.read_to_end(&mut answer)).await;
    answer
}

async fn count(harness: &Harness, reason: &str) -> u64 {
    let (_, metrics) = harness.get("/metrics").await;
    let name = format!("tollgate_grpc_protocol_errors_total{{reason=\"{reason}\"}} ");
    let line = metrics.lines().find_map(|line| line.strip_prefix(&name));
    line.expect("there from the start").parse().unwrap()
}

async fn is_counted(harness: &Harness, bytes: &[u8], reason: &str) -> Vec<u8> {
    let before = count(harness, reason).await;
    let counted = until(reason, async || count(harness, reason).await == before + 1);
    send(harness, bytes, counted).await
}

#[tokio::test]
async fn other_protocols_are_counted_by_their_name() {
    let harness = Harness::with_policy(POLICY).await;
    let answer = is_counted(
        &harness,
        b"GET /healthcheck HTTP/1.1\r\nhost: x\r\n\r\n",
        "http1",
    )
    .await;
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 505 "), "{answer}");
    assert!(answer.contains("http2_protocol_options"), "{answer}");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(
        head.ends_with(&format!("content-length: {}", body.len())),
        "{answer}"
    );

    is_counted(
        &harness,
        b"\x16\x03\x01\x00\xf4\x01\x00\x00\xf0\x03\x03",
        "tls",
    )
    .await;
    is_counted(
        &harness,
        b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n",
        "proxy_protocol",
    )
    .await;
    is_counted(&harness, b"*1\r\n$4\r\nPING\r\n", "bad_preface").await;
    is_counted(&harness, &PREFACE[..10], "bad_preface").await;
}

#[tokio::test]
async fn what_breaks_http2_is_counted_by_its_error() {
    let harness = Harness::with_policy(POLICY).await;
    let after_preface = |frames: &[u8]| [PREFACE, SETTINGS, frames].concat();
    // A request without a method; a header name with an upper-case letter.
    is_counted(
        &harness,
        &after_preface(&headers(1, b"\x86\x84")),
        "protocol_error",
    )
    .await;
    let upper_case = headers(1, b"\x83\x86\x84\x00\x01X\x01y");
    is_counted(&harness, &after_preface(&upper_case), "protocol_error").await;
    // Not HPACK; DATA on no stream; a SETTINGS of five bytes.
    is_counted(
        &harness,
        &after_preface(&headers(1, b"\x40\x7f")),
        "protocol_error",
    )
    .await;
    is_counted(
        &harness,
        &after_preface(b"\0\0\x01\0\0\0\0\0\0x"),
        "protocol_error",
    )
    .await;
    is_counted(
        &harness,
        &after_preface(b"\0\x40\x01\x01\x04\0\0\0\x01"),
        "frame_size_error",
    )
    .await;
    // The same after an authority that is replaced, and after one that is left out.
    for authority in [b"\x41\x03a|b".as_slice(), b"\x41\x00"] {
        let block = [b"\x83\x86\x84", authority, b"\x40\x7f"].concat();
        is_counted(
            &harness,
            &after_preface(&headers(1, &block)),
            "protocol_error",
        )
        .await;
    }
    let left_out = headers(1, b"\x83\x86\x84\x41\x00");
    let frames = [left_out, headers(3, b"\x40\x7f")].concat();
    is_counted(&harness, &after_preface(&frames), "protocol_error").await;
}

#[tokio::test]
async fn calls_of_other_streams_are_answered_meanwhile() {
    let harness = Harness::with_policy(POLICY).await;
    let refused = headers(1, b"\x86\x84");
    // A health check: POST, http, path, no authority, a message of no bytes.
    let path = b"/grpc.health.v1.Health/Check";
    let mut block = b"\x83\x86\x04\x1c".to_vec();
    block.extend(path);
    block.extend(b"\x0f\x10\x10application/grpc");
    let mut call = headers(3, &block);
    call[4] = 4;
    call.extend(b"\0\0\x05\0\x01\0\0\0\x03\0\0\0\0\0");
    let sent = [PREFACE, SETTINGS, &refused, &call].concat();
    let answer = is_counted(&harness, &sent, "protocol_error").await;
    let frames = frames(&answer);
    assert!(frames.contains(&(3, 1)), "stream 1 is reset: {frames:?}");
    assert!(
        frames.contains(&(0, 3)),
        "stream 3 has a message: {frames:?}"
    );
}

/// A port probe, a client that is gone: nothing is wrong.
#[tokio::test]
async fn connections_without_a_byte_are_no_errors() {
    let harness = Harness::with_policy(POLICY).await;
    send(&harness, b"", std::future::ready(())).await;
    send(
        &harness,
        &[PREFACE, SETTINGS].concat(),
        std::future::ready(()),
    )
    .await;
    is_counted(&harness, b"\0", "bad_preface").await;
    let (_, metrics) = harness.get("/metrics").await;
    let counted = metrics
        .lines()
        .filter(|line| line.starts_with("tollgate_grpc_protocol_errors_total"))
        .filter(|line| !line.ends_with(" 0"));
    assert_eq!(counted.count(), 1, "{metrics}");
}

/// Type and stream of each frame.
fn frames(mut bytes: &[u8]) -> Vec<(u8, u8)> {
    let mut frames = Vec::new();
    while let Some((head, rest)) = bytes.split_first_chunk::<9>() {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        frames.push((head[3], head[8]));
        bytes = rest
            .get(usize::try_from(length).unwrap()..)
            .unwrap_or_default();
    }
    frames
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_closed_and_an_idle_one_is_kept() {
    let harness = Harness::with_policy(POLICY).await;
    let mut idle = TcpStream::connect(&harness.grpc).await.unwrap();
    idle.write_all(&[PREFACE, SETTINGS].concat()).await.unwrap();
    let mut silent = TcpStream::connect(&harness.grpc).await.unwrap();
    let mut half = TcpStream::connect(&harness.grpc).await.unwrap();
    half.write_all(&PREFACE[..10]).await.unwrap();
    for stream in [&mut silent, &mut half] {
        let mut answer = Vec::new();
        let _reset = within(stream.read_to_end(&mut answer)).await;
        assert_eq!(answer, b"");
    }
    // Envoy keeps connections open for its next call.
    let ping: &[u8] = b"\0\0\x08\x06\0\0\0\0\0abcdefgh";
    idle.write_all(ping).await.unwrap();
    let pong: &[u8] = b"\0\0\x08\x06\x01\0\0\0\0abcdefgh";
    let mut answer = Vec::new();
    while !answer.ends_with(pong) {
        let read = within(idle.read_buf(&mut answer)).await.unwrap();
        assert_ne!(read, 0, "closed after {answer:?}");
    }
}
