//! How a Tollgate ends.

use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::Code;
use tollgate::app::{Control, Ended};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::calls;
use crate::harness::{Harness, until};

const POLICY: &str = "domain: d\ndescriptors:\n  - key: k\n    rate_limit: { unlimited: true }\n";

async fn serving(harness: &Harness) -> i32 {
    let channel =
        tonic::transport::Channel::from_shared(format!("http://{}", harness.grpc)).unwrap();
    let mut health = HealthClient::new(channel.connect().await.unwrap());
    health
        .check(HealthCheckRequest::default())
        .await
        .unwrap()
        .into_inner()
        .status
}

#[tokio::test]
async fn a_drain_answers_on_before_it_stops() {
    // All that is asked before it stops has to be asked within the delay.
    let settings = "shutdown: { drain_delay: 5s, grace: 5s }";
    let harness = Harness::start(&[("p.yaml", POLICY)], settings)
        .await
        .unwrap();
    let mut client = harness.client().await;
    assert_eq!(serving(&harness).await, 1);
    harness.tell(Control::Stop).await;
    until("readiness is off", async || {
        harness.get("/readyz").await.0 == 503
    })
    .await;
    assert_eq!(harness.get("/healthcheck").await.0, 500);
    assert_eq!(harness.get("/livez").await.0, 200);
    assert_eq!(serving(&harness).await, 2);
    // Old connections and new ones are still answered.
    assert_eq!(client.code("d", &[("k", "v")]).await, Code::Ok);
    assert_eq!(
        harness.client().await.code("d", &[("k", "v")]).await,
        Code::Ok
    );
    let grpc = harness.grpc.clone();
    assert_eq!(harness.ended().await, Ended::Drained);
    assert!(tokio::net::TcpStream::connect(grpc).await.is_err());
}

#[tokio::test]
async fn a_second_stop_does_not_wait() {
    let settings = "shutdown: { drain_delay: 1h, grace: 1h }";
    let harness = Harness::start(&[("p.yaml", POLICY)], settings)
        .await
        .unwrap();
    harness.tell(Control::Stop).await;
    until("readiness is off", async || {
        harness.get("/readyz").await.0 == 503
    })
    .await;
    harness.tell(Control::Stop).await;
    assert_eq!(harness.ended().await, Ended::AtOnce);
}

#[tokio::test]
async fn a_drain_that_cuts_a_call_says_so() {
    let settings = "shutdown: { drain_delay: 0s, grace: 1s }";
    let harness = Harness::start(&[("p.yaml", POLICY)], settings)
        .await
        .unwrap();
    let call = calls::stalled(&harness).await;
    harness.tell(Control::Stop).await;
    assert_eq!(harness.ended().await, Ended::Cut);
    assert!(call.await.unwrap().is_err());
}
