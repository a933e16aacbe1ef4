//! A small HTTP/1.1 client: what a caller of the gateway sends and gets.

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
pub(super) struct Client {
    send: SendRequest<Empty<Bytes>>,
}

/// An answer, read to its end.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
}

impl Client {
    pub(super) async fn connect(to: SocketAddr) -> Self {
        let stream = TcpStream::connect(to).await.expect("the gateway listens");
        let (send, connection) = handshake(TokioIo::new(stream)).await.expect("HTTP/1.1");
        tokio::spawn(connection);
        Self { send }
    }

    pub(super) async fn get(&mut self, path: &str, headers: &[(&str, &[u8])]) -> Reply {
        self.call(Method::GET, path, headers).await
    }

    pub(super) async fn call(
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
        self.send.ready().await.expect("the connection stays open");
        let answer = self.send.send_request(request).await.expect("an answer");
        let (head, body) = answer.into_parts();
        let body = body.collect().await.expect("a whole body").to_bytes();
        let body = String::from_utf8_lossy(&body).into_owned();
        Reply {
            status: head.status.as_u16(),
            headers: head.headers,
            body,
        }
    }
}

impl Reply {
    /// The value of a header that must not be there twice.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        let value = values.next()?.to_str().expect("a readable header");
        assert!(values.next().is_none(), "{name} twice: {self:?}");
        Some(value)
    }

    /// A header that is a number.
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.header(name)
            .map(|value| value.parse().expect("a number"))
    }
}
