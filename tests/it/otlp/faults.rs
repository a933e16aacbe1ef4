//! A receiver that is gone, silent or slow costs spans, which are counted, and nothing else.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::Instant;
use tollgate::app::Control;

use super::POLICY;
use super::receiver::Receiver;
use crate::harness::{ClosedPort, Harness, until, within};

/// Calls of each test; more than may wait.
const CALLS: usize = 6_000;

/// Spans that may wait or be on their way.
const KEPT: usize = 2_048 + 512;

async fn start((endpoint, protocol): (SocketAddr, &str)) -> Harness {
    let settings = format!(
        "shutdown: {{drain_delay: 0s}}\n\
         telemetry: {{otlp_endpoint: 'http://{endpoint}', otlp_protocol: {protocol}, \
         traces: {{ratio: 1}}}}\n"
    );
    let harness = Harness::start(&[("p.yaml", POLICY)], &settings).await;
    harness.unwrap()
}

/// Asks that often; every call is answered.
async fn ask_all(harness: &Harness) {
    let client = harness.client().await;
    let mut asking = Vec::new();
    for lane in 0..30 {
        let mut client = client.clone();
        asking.push(tokio::spawn(async move {
            let user = lane.to_string();
            for _ in 0..CALLS / 30 {
                // An error, or a call that hangs, panics here.
                client.code("shop", &[("plan", &user)]).await;
            }
        }));
    }
    for asked in asking {
        asked.await.unwrap();
    }
}

async fn dropped(harness: &Harness, signal: &str) -> usize {
    let (_, text) = harness.get("/metrics").await;
    let series = format!("tollgate_telemetry_dropped_total{{signal=\"{signal}\"}} ");
    let line = text.lines().find_map(|line| line.strip_prefix(&series));
    line.unwrap().parse().unwrap()
}

/// Nothing was taken, so all but what may wait is dropped, and the end does not wait for it.
async fn costs_spans_only(endpoint: (SocketAddr, &str)) {
    let harness = start(endpoint).await;
    ask_all(&harness).await;
    let lost = dropped(&harness, "spans").await;
    assert!(lost >= CALLS - KEPT, "{endpoint:?}: {lost}");
    assert!(lost <= CALLS);
    let stopping = Instant::now();
    harness.tell(Control::Stop).await;
    within(harness.ended()).await;
    let took = stopping.elapsed();
    assert!(took < Duration::from_secs(3), "{endpoint:?}: {took:?}");
}

#[tokio::test]
async fn one_that_is_gone_costs_spans_only() {
    let closed = ClosedPort::new();
    for protocol in ["grpc", "http/protobuf"] {
        costs_spans_only((closed.address(), protocol)).await;
    }
}

#[tokio::test]
async fn one_that_takes_calls_and_never_answers_costs_spans_only() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let holding = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((connection, _)) = listener.accept().await {
            held.push(connection);
        }
    });
    for protocol in ["grpc", "http/protobuf"] {
        costs_spans_only((address, protocol)).await;
    }
    holding.abort();
}

#[tokio::test]
async fn one_that_is_slow_gets_what_there_is_room_for_and_the_rest_is_counted() {
    for protocol in ["grpc", "http/protobuf"] {
        let receiver = Receiver::slow(Duration::from_millis(300)).await;
        let address = match protocol {
            "grpc" => receiver.grpc,
            _ => receiver.http,
        };
        let harness = start((address, protocol)).await;
        ask_all(&harness).await;
        let taken = async || {
            let taken = receiver.spans().len();
            taken + dropped(&harness, "spans").await
        };
        until("every span to be taken or counted", async || {
            taken().await == CALLS
        })
        .await;
        assert!(receiver.spans().len() >= 2_048, "{protocol}");
        harness.tell(Control::Stop).await;
        within(harness.ended()).await;
    }
}
