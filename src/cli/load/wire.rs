//! A connection that calls are made over, made again when it is lost.

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Mutex;

use crate::transport::wire;

/// A connection to the server.
#[derive(Debug)]
pub(super) struct Connection {
    addr: String,
    sender: Mutex<Option<SendRequest<Full<Bytes>>>>,
}

/// What a call was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    Ok,
    OverLimit,
}

impl Connection {
    /// To `host:port` or `unix:/path`; not made before it is needed.
    pub(super) fn new(addr: &str) -> Self {
        Self {
            addr: addr.to_owned(),
            sender: Mutex::new(None),
        }
    }

    /// Makes a call; `within` is what the server is told.
    pub(super) async fn ask(&self, framed: Bytes, within: Duration) -> Result<Reply, String> {
        let mut sender = self.sender().await?;
        let request = Request::post(format!("http://{AUTHORITY}{}", wire::SHOULD_RATE_LIMIT))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("grpc-timeout", format!("{}m", millis(within)))
            .body(Full::new(framed))
            .map_err(|error| error.to_string())?;
        let lost = |error: hyper::Error| format!("the connection was lost: {error}");
        let response = sender.send_request(request).await.map_err(lost)?;
        reply(response).await
    }

    async fn sender(&self) -> Result<SendRequest<Full<Bytes>>, String> {
        let mut kept = self.sender.lock().await;
        if let Some(sender) = &*kept
            && !sender.is_closed()
        {
            return Ok(sender.clone());
        }
        let connect = |error| format!("cannot connect to {}: {error}", self.addr);
        let sender = match self.addr.strip_prefix("unix:") {
            Some(path) => {
                let stream = UnixStream::connect(path).await.map_err(connect)?;
                handshake(stream).await?
            }
            None => {
                let stream = TcpStream::connect(&self.addr).await.map_err(connect)?;
                stream.set_nodelay(true).map_err(connect)?;
                handshake(stream).await?
            }
        };
        *kept = Some(sender.clone());
        Ok(sender)
    }
}

async fn handshake<S>(stream: S) -> Result<SendRequest<Full<Bytes>>, String>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (sender, driver) = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| format!("the server does not speak HTTP/2: {error}"))?;
    // Ends with the connection, and what went wrong is told by its calls.
    drop(tokio::spawn(driver));
    Ok(sender)
}

async fn reply(response: Response<Incoming>) -> Result<Reply, String> {
    let (head, body) = response.into_parts();
    if !head.status.is_success() {
        return Err(format!("HTTP {}: is it the gRPC listener?", head.status));
    }
    refusal(&head.headers)?;
    let body = body
        .collect()
        .await
        .map_err(|error| format!("the answer broke off: {error}"))?;
    let trailers = body.trailers().cloned().unwrap_or_default();
    refusal(&trailers)?;
    let bytes = body.to_bytes();
    let message = bytes.get(PREFIX..).unwrap_or_default();
    let response = wire::RateLimitResponse::decode(message)
        .map_err(|error| format!("the answer is no RateLimitResponse: {error}"))?;
    Ok(match response.overall_code {
        wire::OVER_LIMIT => Reply::OverLimit,
        _ => Reply::Ok,
    })
}

/// gRPC's own status, if it is not OK.
fn refusal(headers: &HeaderMap) -> Result<(), String> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    match text("grpc-status") {
        None | Some("0") => Ok(()),
        Some(code) => {
            let number: i32 = code.parse().unwrap_or(2);
            let code = tonic::Code::from_i32(number);
            Err(match text("grpc-message") {
                Some(message) if !message.is_empty() => format!("{code:?}: {message}"),
                Some(_) | None => format!("{code:?}"),
            })
        }
    }
}

/// As gRPC writes a time: at most 8 digits.
fn millis(duration: Duration) -> u128 {
    duration.as_millis().clamp(1, 99_999_999)
}

/// The server does not look at it.
const AUTHORITY: &str = "tollgate";

/// gRPC's flag and length before a message.
const PREFIX: usize = 5;

const WINDOW: u32 = 1 << 20;
