//! One HTTP call to a running Tollgate, over TCP or a unix socket.

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("cannot reach {0}: {1} (is Tollgate running there?)")]
    Connect(String, #[source] std::io::Error),
    #[error("{0} did not answer as HTTP does: {1} (is it the right listener?)")]
    Http(String, #[source] hyper::Error),
    #[error("{0} is a gRPC listener, and HTTP/1 was spoken to it (is it the right listener?)")]
    Grpc(String),
    #[error("cannot ask for {0}: {1}")]
    Request(String, #[source] http::Error),
}

/// What to call.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pub(super) method: Method,
    /// Path and query.
    pub(super) path: &'a str,
    /// What to show that one may.
    pub(super) authorization: Option<HeaderValue>,
}

/// Asks `address` (`host:port` or `unix:/path`) for `path`.
pub(super) async fn get(address: &str, path: &str) -> Result<(StatusCode, Bytes), FetchError> {
    let call = Call {
        method: Method::GET,
        path,
        authorization: None,
    };
    self::call(address, call).await
}

/// Makes a call to `address` (`host:port` or `unix:/path`).
pub(super) async fn call(address: &str, call: Call<'_>) -> Result<(StatusCode, Bytes), FetchError> {
    let connect = |error| FetchError::Connect(address.to_owned(), error);
    match address.strip_prefix("unix:") {
        Some(socket) => {
            let stream = UnixStream::connect(socket).await.map_err(connect)?;
            ask(stream, address, "localhost", call).await
        }
        None => {
            let stream = TcpStream::connect(address).await.map_err(connect)?;
            ask(stream, address, address, call).await
        }
    }
}

async fn ask<S>(
    stream: S,
    address: &str,
    host: &str,
    call: Call<'_>,
) -> Result<(StatusCode, Bytes), FetchError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let http = |error| FetchError::Http(address.to_owned(), error);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(http)?;
    // Ends with the answer; what goes wrong is told to the sender too.
    tokio::spawn(connection);
    let mut request = Request::builder()
        .method(call.method)
        .uri(call.path)
        .header(http::header::HOST, host)
        // Without it nothing may be changed without a token.
        .header("x-requested-with", "tollgate");
    if let Some(authorization) = call.authorization {
        request = request.header(http::header::AUTHORIZATION, authorization);
    }
    let request = request
        .body(Empty::<Bytes>::new())
        .map_err(|error| FetchError::Request(call.path.to_owned(), error))?;
    let response = sender.send_request(request).await.map_err(http)?;
    let status = response.status();
    if status == StatusCode::HTTP_VERSION_NOT_SUPPORTED {
        return Err(FetchError::Grpc(address.to_owned()));
    }
    let body = response
        .into_body()
        .collect()
        .await
        .map_err(http)?
        .to_bytes();
    Ok((status, body))
}

/// `text` as it may stand in a URL's query.
pub(super) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}
