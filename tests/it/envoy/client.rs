//! A small HTTP/1.1 client: what a caller of the gateway sends and gets.

use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{HOST, HeaderMap, HeaderValue};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// One keep-alive connection.
#[derive(Debug)]
pub(crate) struct Client {
    send: SendRequest<Empty<Bytes>>,
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Client {
    pub(crate) async fn connect(to: SocketAddr) -> Self {
        Self::try_connect(to).await.expect("the gateway listens")
    }

    pub(crate) async fn try_connect(to: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(to).await?;
        let handshake = handshake(TokioIo::new(stream)).await;
        let (send, connection) = handshake.map_err(io::Error::other)?;
        tokio::spawn(connection);
        Ok(Self { send })
    }

    pub(crate) async fn get(&mut self, path: &str, headers: &[(&str, &[u8])]) -> Reply {
        self.call(Method::GET, path, headers).await
    }

    pub(crate) async fn call(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &[u8])],
    ) -> Reply {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "shop");
        for (name, value) in headers {
            // Any byte but control characters, as a hostile client sends them.
            request = request.header(*name, HeaderValue::from_bytes(value).expect("no controls"));
        }
        let request = request.body(Empty::new()).expect("a request");
        self.send(request).await.expect("an answer")
    }

    /// Sends a request; an error if the connection is gone before all of the answer has come.
    pub(crate) async fn send(&mut self, request: Request<Empty<Bytes>>) -> hyper::Result<Reply> {
        self.send.ready().await?;
        let (head, body) = self.send.send_request(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(Reply {
            status: head.status.as_u16(),
            headers: head.headers,
            body: String::from_utf8_lossy(&body).into_owned(),
        })
    }
}

impl Reply {
    /// The value of a header that must not be there twice.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        let value = values.next()?.to_str().expect("a readable header");
        assert!(values.next().is_none(), "{name} twice: {self:?}");
        Some(value)
    }

    /// A header that is a number.
    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        self.header(name)
            .map(|value| value.parse().expect("a number"))
    }
}
