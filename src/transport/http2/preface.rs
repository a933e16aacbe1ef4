//! The first bytes of a connection: HTTP/2 has a fixed preface, so what does not begin with it is
//! another protocol, and its name says what to change at the client.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Duration, timeout};

use crate::event::ProtocolError;

/// What an HTTP/2 client sends first (RFC 9113, section 3.4).
pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Reads the preface.
///
/// # Errors If something else comes, or the connection ends first. One that ends without having
/// sent anything, as a port probe does, is no protocol error.
pub(super) async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> Result<(), PrefaceError> {
    let mut buffer = [0; PREFACE.len()];
    let mut length = 0_usize;
    while let Some(room) = buffer.get_mut(length..)
        && !room.is_empty()
    {
        let read = stream.read(room).await?;
        let ended = read == 0;
        length = length.saturating_add(read);
        let received = buffer.get(..length).unwrap_or_default();
        if ended && received.is_empty() {
            return Err(PrefaceError::Closed);
        }
        if ended || !PREFACE.starts_with(received) && !is_undecided(received) {
            return Err(PrefaceError::Refused(classify(received)));
        }
    }
    Ok(())
}

/// Why a connection has no preface.
#[derive(Debug, thiserror::Error)]
pub(in super::super) enum PrefaceError {
    /// It ended before its first byte.
    #[error("closed before the HTTP/2 preface")]
    Closed,
    /// It cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It speaks another protocol.
    #[error("no HTTP/2 preface: {}", .0.name())]
    Refused(ProtocolError),
}

/// Whether more bytes could give another protocol a name.
fn is_undecided(received: &[u8]) -> bool {
    let could_be = PROXY_V2.starts_with(received) || received.iter().all(u8::is_ascii_uppercase);
    could_be && received.len() < PREFACE.len()
}

fn classify(received: &[u8]) -> ProtocolError {
    let method = received
        .iter()
        .take_while(|byte| byte.is_ascii_uppercase())
        .count();
    match received {
        // A TLS handshake record, of any version.
        [0x16] | [0x16, 0x03, ..] => ProtocolError::Tls,
        [b'P', b'R', b'O', b'X', b'Y', b' ', ..] => ProtocolError::ProxyProtocol,
        _ if received.starts_with(PROXY_V2) => ProtocolError::ProxyProtocol,
        // A preface that goes wrong later starts with a method too.
        [b'P', b'R', b'I', ..] => ProtocolError::BadPreface,
        _ if method >= SHORTEST_METHOD && received.get(method) == Some(&b' ') => {
            ProtocolError::Http1
        }
        _ => ProtocolError::BadPreface,
    }
}

/// Tells an HTTP/1 client in its own protocol why the connection ends. The client may be a person
/// with curl.
pub(super) async fn answer_http1<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) {
    let answer = async {
        let answer = format!(
            "HTTP/1.1 505 HTTP Version Not Supported\r\nconnection: close\r\n\
             content-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\n\r\n{HTTP1_ANSWER}",
            HTTP1_ANSWER.len()
        );
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await?;
        // Closing with unread bytes would reset the connection, and the answer could be lost.
        let mut discarded = tokio::io::sink();
        tokio::io::copy(&mut stream.take(DISCARDED), &mut discarded).await
    };
    // The client may be gone, or slow; either way the connection ends now.
    let _answered = timeout(ANSWER_TIMEOUT, answer).await;
}

/// What the second version of the PROXY protocol starts with.
const PROXY_V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// `GET`, `PUT`.
const SHORTEST_METHOD: usize = 3;

const HTTP1_ANSWER: &str = "\
This port serves gRPC, which needs HTTP/2.
Envoy: set http2_protocol_options on the cluster (Istio: name the Service's port grpc).
/json, health and metrics are on the HTTP port.
";

/// The most that is read of a request after its answer.
const DISCARDED: u64 = 1 << 16;

const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    async fn read_all(mut bytes: &[u8]) -> Result<(), PrefaceError> {
        read(&mut bytes).await
    }

    #[tokio::test]
    async fn other_protocols_are_recognized() {
        use ProtocolError::{BadPreface, Http1, ProxyProtocol, Tls};
        for (sent, expected) in [
            (b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".as_slice(), Http1),
            (b"POST /envoy.service.ratelimit.v3", Http1),
            (b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n", ProxyProtocol),
            (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c", ProxyProtocol),
            (b"\r\n\r\nhello", BadPreface),
            (b"\x16\x03\x01\x02\x00\x01\x00", Tls),
            (b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", BadPreface),
            (b"PRI * HTTP", BadPreface),
            (b"*1\r\n$4\r\nPING\r\n", BadPreface),
            (b"GETTING", BadPreface),
            (b"ONLYLETTERSANDNOTHINGELSE", BadPreface),
            (b"\0", BadPreface),
        ] {
            let refused = read_all(sent).await.unwrap_err();
            assert!(
                matches!(refused, PrefaceError::Refused(error) if error == expected),
                "{sent:?}: {refused}"
            );
        }
    }

    #[tokio::test]
    async fn a_preface_is_read_and_nothing_after_it() {
        let mut sent = [PREFACE.as_slice(), b"frames"].concat();
        let mut rest = sent.as_mut_slice() as &[u8];
        read(&mut rest).await.unwrap();
        assert_eq!(rest, b"frames");
    }

    #[tokio::test]
    async fn a_method_that_comes_in_pieces_is_recognized() {
        for cut in 1..4 {
            let (first, second) = b"GET / HTTP/1.1\r\n\r\n".split_at(cut);
            let refused = read(&mut first.chain(second)).await.unwrap_err();
            assert!(
                matches!(refused, PrefaceError::Refused(ProtocolError::Http1)),
                "{cut}: {refused}"
            );
        }
    }

    #[tokio::test]
    async fn a_port_probe_is_no_protocol_error() {
        assert!(matches!(read_all(b"").await, Err(PrefaceError::Closed)));
    }
}
