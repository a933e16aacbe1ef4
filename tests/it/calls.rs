//! Calls as frames on a connection: what is none, too much at once, too old.

use std::convert::Infallible;

use bytes::{BufMut, Bytes};
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::Code;
use http::uri::PathAndQuery;
use http_body_util::Full;
use hyper::client::conn::http2::SendRequest;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use prost::Message;
use tollgate::transport::wire;

use crate::harness::{Harness, descriptor, request, within};

const POLICY: &str = "
domain: shop
descriptors:
  - key: user
    rate_limit: { requests_per_unit: 2, unit: minute }
  - key: open
    rate_limit: { unlimited: true }
";

/// A connection without a client library on top.
async fn h2_connection<B>(
    address: &str,
) -> (
    SendRequest<B>,
    impl Future<Output = Result<(), hyper::Error>> + use<B>,
)
where
    B: http_body::Body<Data = Bytes, Error = Infallible> + Send + Unpin + 'static,
{
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let io = hyper_util::rt::TokioIo::new(stream);
    hyper::client::conn::http2::handshake(hyper_util::rt::TokioExecutor::new(), io)
        .await
        .unwrap()
}

fn call<B>(body: B) -> http::Request<B> {
    http::Request::post(format!("http://x{}", wire::SHOULD_RATE_LIMIT))
        .header("content-type", "application/grpc")
        .body(body)
        .unwrap()
}

/// Sends `frame` as the body of a call; the status code of gRPC, or of HTTP if that is not 200.
async fn raw_frame(address: &str, content_type: &'static str, frame: Bytes) -> (String, String) {
    let (mut sender, connection) = h2_connection(address).await;
    tokio::spawn(connection);
    let mut call = call(Full::new(frame));
    call.headers_mut()
        .insert("content-type", http::HeaderValue::from_static(content_type));
    let response = within(sender.send_request(call)).await.unwrap();
    let text = |name| {
        let value = response
            .headers()
            .get(name)
            .map(|value| value.to_str().unwrap());
        value.unwrap_or("none").to_owned()
    };
    if response.status() != 200 {
        return (response.status().as_str().to_owned(), String::new());
    }
    (text("grpc-status"), text("grpc-message"))
}

fn framed(message: &[u8]) -> Bytes {
    let mut frame = Vec::new();
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap());
    frame.put_slice(message);
    frame.into()
}

#[tokio::test]
async fn what_is_no_call_is_named() {
    let settings = "limits: { message_bytes: 2000 }";
    let harness = Harness::start(&[("p.yaml", POLICY)], settings)
        .await
        .unwrap();
    let grpc = "application/grpc";
    for (content_type, frame, code, text) in [
        (grpc, framed(b"\xff\xff"), "3", "not a RateLimitRequest"),
        (
            grpc,
            Bytes::from_static(b"\x01\0\0\0\0"),
            "12",
            "compressed",
        ),
        (grpc, Bytes::from_static(b"\0\0\0"), "3", "ended before"),
        (grpc, Bytes::new(), "3", "ended before"),
        ("text/plain", framed(b""), "415", ""),
    ] {
        let (got, message) = raw_frame(&harness.grpc, content_type, frame).await;
        assert_eq!(got, code, "{message}");
        assert!(message.contains(text), "{message}");
    }
}

#[tokio::test]
async fn a_call_that_is_too_large_is_denied_and_is_no_error() {
    // To Envoy an error would mean that the service is away, and it would let the request pass.
    let settings = "limits: { message_bytes: 4000000, request_bytes: 1048576 }";
    let harness = Harness::start(&[("p.yaml", POLICY)], settings)
        .await
        .unwrap();
    let mut client = harness.client().await;
    let large = "x".repeat(3_000_000);
    for _ in 0..3 {
        assert_eq!(
            client.code("shop", &[("user", &large)]).await,
            Code::OverLimit
        );
    }
    let large = "x".repeat(4_000_000);
    assert_eq!(
        client.code("shop", &[("user", &large)]).await,
        Code::OverLimit
    );
    assert_eq!(client.code("shop", &[("user", "x")]).await, Code::Ok);
    let (_, metrics) = harness.get("/metrics").await;
    for line in [
        r#"tollgate_requests_denied_unread_total{reason="message_bytes"} 1"#,
        r#"tollgate_requests_denied_unread_total{reason="request_bytes"} 3"#,
        r#"tollgate_requests_refused_total{code="RESOURCE_EXHAUSTED"} 0"#,
    ] {
        assert!(metrics.contains(line), "lacks {line}:\n{metrics}");
    }
}

#[tokio::test]
async fn random_bytes_are_answered_with_a_clear_error_or_an_answer() {
    let harness = Harness::with_policy(POLICY).await;
    let valid = request("shop", &[descriptor(&[("user", "x"), ("y", "z")])]).encode_to_vec();
    let mut runner = TestRunner::deterministic();
    let noise = proptest::collection::vec(proptest::num::u8::ANY, 0..80);
    let places = proptest::collection::vec((0..valid.len(), proptest::num::u8::ANY), 1..4);
    let mut errors = 0;
    for round in 0..10_000 {
        let message = if round % 2 == 0 {
            noise.new_tree(&mut runner).unwrap().current()
        } else {
            let mut mutated = valid.clone();
            for (place, byte) in places.new_tree(&mut runner).unwrap().current() {
                mutated[place] = byte;
            }
            mutated
        };
        // Decoded and decided as the listener does it; the socket is not what is tested here.
        match harness.service.answer_bytes(message.into()) {
            Ok(_) => {}
            Err(error) => {
                assert!(!error.is_empty());
                errors += 1;
            }
        }
    }
    assert!((1_000..10_000).contains(&errors), "{errors} errors");
    assert_eq!(
        harness
            .client()
            .await
            .code("shop", &[("user", "new")])
            .await,
        Code::Ok
    );
}

#[tokio::test]
async fn a_call_whose_message_does_not_come_takes_up_no_place() {
    let settings = "limits: { in_flight: 1 }";
    let harness = Harness::start(&[("p.yaml", POLICY)], settings)
        .await
        .unwrap();
    let stalled = stalled(&harness).await;
    assert_eq!(harness.service.in_flight(), 0);
    let mut client = harness.client().await;
    assert_eq!(client.code("shop", &[("user", "x")]).await, Code::Ok);
    stalled.abort();
}

/// A call whose message never ends, under way.
pub(crate) async fn stalled(
    harness: &Harness,
) -> tokio::task::JoinHandle<Result<http::Response<hyper::body::Incoming>, hyper::Error>> {
    let (mut sender, connection) = h2_connection(&harness.grpc).await;
    tokio::spawn(connection);
    let (open, body) = tokio::sync::mpsc::channel::<Bytes>(1);
    let answer = sender.send_request(call(StalledBody(body)));
    // Requests of a connection are taken up in their order: once this one is answered, the first has been.
    let (_closed, body) = tokio::sync::mpsc::channel::<Bytes>(1);
    let mut other = call(StalledBody(body));
    other
        .headers_mut()
        .insert("content-type", http::HeaderValue::from_static("text/plain"));
    let refused = within(sender.send_request(other)).await.unwrap();
    assert_eq!(refused.status(), 415);
    tokio::spawn(async move {
        let answer = answer.await;
        drop(open);
        answer
    })
}

struct StalledBody(tokio::sync::mpsc::Receiver<Bytes>);

impl http_body::Body for StalledBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        self.0
            .poll_recv(context)
            .map(|data| data.map(|data| Ok(http_body::Frame::data(data))))
    }
}

#[tokio::test]
async fn an_unknown_method_is_unimplemented() {
    let harness = Harness::with_policy(POLICY).await;
    let channel =
        tonic::transport::Channel::from_shared(format!("http://{}", harness.grpc)).unwrap();
    let mut client = tonic::client::Grpc::new(channel.connect().await.unwrap());
    client.ready().await.unwrap();
    let codec =
        tonic_prost::ProstCodec::<wire::RateLimitRequest, wire::RateLimitResponse>::default();
    let path = PathAndQuery::from_static("/envoy.service.ratelimit.v3.RateLimitService/Other");
    let request = tonic::Request::new(wire::RateLimitRequest::default());
    let status = client.unary(request, path, codec).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unimplemented);
}

#[tokio::test]
async fn an_old_connection_is_told_to_go_without_losing_a_call() {
    let settings = "connection: { max_age: 1s, max_age_grace: 5s }";
    let harness = Harness::start(&[("p.yaml", POLICY)], settings)
        .await
        .unwrap();
    let (mut sender, connection) = h2_connection(&harness.grpc).await;
    let connection = tokio::spawn(connection);
    let message = request("shop", &[descriptor(&[("open", "x")])]).encode_to_vec();
    let mut calls = 0;
    // Until the peer no longer takes calls: it has been told to go.
    while sender.ready().await.is_ok() {
        let response = within(sender.send_request(call(Full::new(framed(&message))))).await;
        assert_eq!(response.unwrap().status(), 200, "after {calls} calls");
        calls += 1;
    }
    assert!(calls > 10, "{calls}");
    within(connection).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_message_that_never_ends_is_given_up() {
    let harness = Harness::with_policy(POLICY).await;
    let (mut sender, connection) = h2_connection(&harness.grpc).await;
    tokio::spawn(connection);
    let (_open, body) = tokio::sync::mpsc::channel::<Bytes>(1);
    let mut stalled = call(StalledBody(body));
    stalled
        .headers_mut()
        .insert("grpc-timeout", http::HeaderValue::from_static("50m"));
    let response = within(sender.send_request(stalled)).await.unwrap();
    assert_eq!(response.headers()["grpc-status"], "4");
    let mut client = harness.client().await;
    assert_eq!(client.code("shop", &[("user", "x")]).await, Code::Ok);
}

#[tokio::test]
async fn refused_calls_are_counted_by_code() {
    let harness = Harness::with_policy(POLICY).await;
    let mut client = harness.client().await;
    for _ in 0..3 {
        client
            .try_ask(request("", &[descriptor(&[("user", "x")])]))
            .await
            .unwrap_err();
    }
    raw_frame(
        &harness.grpc,
        "application/grpc",
        Bytes::from_static(b"\x01\0\0\0\0"),
    )
    .await;
    let (_, metrics) = harness.get("/metrics").await;
    for line in [
        r#"tollgate_requests_refused_total{code="INVALID_ARGUMENT"} 3"#,
        r#"tollgate_requests_refused_total{code="UNIMPLEMENTED"} 1"#,
        r#"tollgate_requests_refused_total{code="RESOURCE_EXHAUSTED"} 0"#,
    ] {
        assert!(metrics.contains(line), "lacks {line}:\n{metrics}");
    }
}

#[tokio::test]
async fn a_large_message_is_counted_before_it_is_decoded() {
    let harness = Harness::with_policy(POLICY).await;
    // Two bytes make a descriptor.
    for (count, wanted) in [
        (10_000, "10000 descriptors in one request, at most 100"),
        (1_000_000, "more than 13600 protobuf fields"),
    ] {
        let message: Vec<u8> = [0x12, 0].repeat(count);
        let (code, text) = raw_frame(&harness.grpc, "application/grpc", framed(&message)).await;
        assert_eq!(code, "3");
        assert!(text.contains(wanted), "{text}");
    }
}

#[tokio::test]
async fn other_protocols_on_the_path_are_refused() {
    let harness = Harness::with_policy(POLICY).await;
    for (content_type, status) in [
        ("application/grpc-web", "415"),
        ("application/grpc+proto", "3"),
        ("application/grpc;x=y", "3"),
    ] {
        let (code, _) = raw_frame(&harness.grpc, content_type, framed(b"")).await;
        assert_eq!(code, status, "{content_type}");
    }
}
