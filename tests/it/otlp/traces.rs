//! A call is followed from Envoy to Redis, and recorded when it should be.

use std::net::SocketAddr;

use opentelemetry_proto::tonic::trace::v1::Span;
use tollgate::app::Control;

use super::POLICY;
use super::receiver::{Receiver, texts};
use crate::envoy::bed::{Envoy, Tollgate};
use crate::envoy::config::Gateway;
use crate::harness::{Client, Harness, descriptor, request, within};
use crate::process::until;
use crate::topology::{Flavour, Single, Topology};

const CALL: &str = "envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// The policy of the gateway's routes by user.
const GATEWAY_POLICY: &str = "
domain: it
descriptors:
  - key: user_id
    rate_limit: { requests_per_unit: 2, unit: day }
";

#[tokio::test]
async fn a_request_is_followed_through_envoy_and_tollgate_to_redis() {
    let receiver = Receiver::start().await;
    let redis = Single::start(Flavour::Redis7).await;
    let grpc = receiver.grpc;
    let settings = format!("deadline: {{store: 5s}}\n{}", pushing_to(grpc));
    let any = ([127, 0, 0, 1], 0).into();
    let flags = ["--redis", &redis.url()];
    let tollgate = Tollgate::start_with(&settings, GATEWAY_POLICY, any, &flags).await;
    let gateway = Gateway {
        traces: Some(grpc),
        ..Gateway::strict(vec![tollgate.grpc])
    };
    let envoy = Envoy::start(1, &gateway).await;
    for status in [200, 200, 429] {
        let reply = envoy.get("/user", &[("x-user-id", b"alice")]).await;
        assert_eq!(reply.status, status);
    }
    let children = |of: &Span, all: &[(String, Span)]| -> Vec<(String, Span)> {
        let mut all = all.to_vec();
        all.retain(|(_, span)| span.trace_id == of.trace_id && span.parent_span_id == of.span_id);
        all
    };
    // Envoy's request, its call of Tollgate, Tollgate's own span, its call of Redis.
    let mut followed = until("three requests with all their spans", || {
        let all = receiver.spans();
        let calls = receiver.of_tollgate(CALL);
        let followed = calls.into_iter().filter_map(|call| {
            let asking = all.iter().find(|(service, span)| {
                service == "gateway"
                    && span.trace_id == call.trace_id
                    && span.span_id == call.parent_span_id
            })?;
            let request = all.iter().find(|(service, span)| {
                service == "gateway" && span.span_id == asking.1.parent_span_id
            })?;
            let [(service, store)] = &children(&call, &all)[..] else {
                return None;
            };
            assert_eq!(service, "tollgate");
            Some((request.1.clone(), asking.1.clone(), call, store.clone()))
        });
        let followed: Vec<_> = followed.collect();
        (followed.len() == 3).then_some(followed)
    })
    .await;
    followed.sort_by_key(|(_, _, call, _)| call.start_time_unix_nano);
    for (turn, (request, asking, call, store)) in followed.iter().enumerate() {
        assert_eq!(request.parent_span_id, [0_u8; 0]);
        assert!(asking.name.contains("ShouldRateLimit"), "{}", asking.name);
        assert_eq!((call.kind, store.kind), (SERVER, CLIENT));
        assert_eq!(call.flags & REMOTE, REMOTE);
        let over = if turn < 2 { "OK" } else { "OVER_LIMIT" };
        let said = texts(&call.attributes);
        assert_eq!(said["tollgate.overall_code"], over);
        assert_eq!(said["tollgate.domain"], "it");
        let decided = texts(&call.events[0].attributes);
        let outcome = if turn < 2 { "allowed" } else { "denied" };
        assert_eq!(decided["tollgate.outcome"], outcome);
        assert_eq!(decided["tollgate.source"], "store");
        assert_eq!(decided["tollgate.rule"], "user_id");
        assert_eq!(store.name, "EVALSHA decide");
        let said = texts(&store.attributes);
        assert_eq!(said["db.system.name"], "redis");
        let address = redis.server.addr();
        assert_eq!(said["server.address"], address.ip().to_string());
        assert_eq!(said["server.port"], address.port().to_string());
        assert!(store.start_time_unix_nano >= call.start_time_unix_nano);
        assert!(store.end_time_unix_nano <= call.end_time_unix_nano);
        assert_eq!(store.status.as_ref().map_or(0, |status| status.code), 0);
    }
    // No descriptor's value is told.
    let all = format!("{:?}", receiver.of_tollgate(CALL));
    assert!(!all.contains("alice"), "{all}");
}

/// The settings of a Tollgate that pushes its spans there.
fn pushing_to(endpoint: SocketAddr) -> String {
    format!("telemetry: {{otlp_endpoint: 'http://{endpoint}'}}\n")
}

/// Asks for `plan=gold`, with this `traceparent` if there is one.
async fn ask(client: &mut Client, parent: Option<&str>) {
    let query = request("shop", &[descriptor(&[("plan", "gold")])]);
    let mut query = tonic::Request::new(query);
    if let Some(parent) = parent {
        let metadata = query.metadata_mut();
        metadata.insert("traceparent", parent.parse().unwrap());
        metadata.insert("tracestate", "vendor=1".parse().unwrap());
    }
    within(client.0.should_rate_limit(query)).await.unwrap();
}

/// The spans of ten calls of each kind: without a trace, of one that is recorded, of one that is
/// not.
async fn recorded(receiver: &Receiver, telemetry: &str) -> Vec<Span> {
    let before = receiver.of_tollgate(CALL).len();
    let settings = format!(
        "shutdown: {{drain_delay: 0s}}\n\
         telemetry: {{otlp_endpoint: 'http://{}'{telemetry}}}\n",
        receiver.grpc
    );
    let harness = Harness::start(&[("p.yaml", POLICY)], &settings)
        .await
        .unwrap();
    let mut client = harness.client().await;
    let unsampled = PARENT.replace("-01", "-00");
    for _ in 0..10 {
        ask(&mut client, None).await;
        ask(&mut client, Some(PARENT)).await;
        ask(&mut client, Some(&unsampled)).await;
    }
    drop(client);
    harness.tell(Control::Stop).await;
    harness.ended().await;
    receiver.of_tollgate(CALL).split_off(before)
}

#[tokio::test]
async fn calls_are_recorded_as_their_parent_is_and_by_the_share_without_one() {
    let receiver = Receiver::start().await;
    let of_parent = |spans: &[Span]| {
        let parents = spans.iter().filter(|span| !span.parent_span_id.is_empty());
        parents.count()
    };
    for (telemetry, alone) in [
        ("", 0),
        (", traces: {ratio: 0}", 0),
        (", traces: {ratio: 1}", 10),
    ] {
        let spans = recorded(&receiver, telemetry).await;
        assert_eq!(spans.len(), 10 + alone, "{telemetry}");
        assert_eq!(of_parent(&spans), 10, "{telemetry}");
        let child = spans.iter().find(|span| !span.parent_span_id.is_empty());
        let child = child.unwrap();
        assert_eq!(child.trace_id[..2], [0x0a, 0xf7]);
        assert_eq!(child.parent_span_id[6..], [0x33, 0x31]);
        assert_eq!(child.trace_state, "vendor=1");
        // The rule asks for its values in metrics, so they are told.
        let rule = &texts(&child.events[0].attributes)["tollgate.rule"];
        assert_eq!(rule, "plan=gold");
    }
}

#[tokio::test]
async fn what_fails_is_an_error_in_its_span() {
    let receiver = Receiver::start().await;
    let redis = Single::start(Flavour::Redis7).await;
    let settings = format!(
        "store: {{kind: redis, redis: {{url: '{}'}}}}\nshutdown: {{drain_delay: 0s}}\n\
         deadline: {{store: 500ms}}\n\
         telemetry: {{otlp_endpoint: 'http://{}', traces: {{ratio: 1}}}}\n",
        redis.url(),
        receiver.grpc
    );
    let harness = Harness::start(&[("p.yaml", POLICY)], &settings)
        .await
        .unwrap();
    let mut client = harness.client().await;
    client.code("shop", &[("strict", "1")]).await;
    redis.server.freeze();
    let refused = client
        .try_ask(request("shop", &[descriptor(&[("strict", "1")])]))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unavailable);
    client.code("shop", &[("user_id", "1")]).await;
    redis.server.thaw();
    drop(client);
    harness.tell(Control::Stop).await;
    harness.ended().await;
    let calls = receiver.of_tollgate(CALL);
    let codes: Vec<String> = calls
        .iter()
        .map(|call| texts(&call.attributes)["rpc.status_code"].clone())
        .collect();
    assert_eq!(codes, ["OK", "UNAVAILABLE", "OK"]);
    let errors: Vec<i32> = calls
        .iter()
        .map(|call| call.status.as_ref().map_or(0, |status| status.code))
        .collect();
    assert_eq!(errors, [0, ERROR, 0]);
    assert_eq!(
        texts(&calls[2].events[0].attributes)["tollgate.source"],
        "local"
    );
    let stores = receiver.of_tollgate("EVALSHA decide");
    let late = stores
        .iter()
        .find(|store| store.parent_span_id == calls[1].span_id);
    let late = late.expect("the call that came to nothing");
    assert_eq!(texts(&late.attributes)["error.type"], "timeout");
    assert_eq!(late.status.as_ref().unwrap().code, ERROR);
    assert!(late.end_time_unix_nano - late.start_time_unix_nano >= 400_000_000);
}

#[tokio::test]
async fn a_call_that_carries_several_is_linked_to_all_of_them() {
    let receiver = Receiver::start().await;
    let redis = Single::start(Flavour::Redis7).await;
    let settings = format!(
        "store: {{kind: redis, redis: {{url: '{}'}}}}\nshutdown: {{drain_delay: 0s}}\nthreads: 1\n\
         deadline: {{store: 5s}}\n\
         telemetry: {{otlp_endpoint: 'http://{}', traces: {{ratio: 1}}}}\n",
        redis.url(),
        receiver.grpc
    );
    let harness = Harness::start(&[("p.yaml", POLICY)], &settings)
        .await
        .unwrap();
    let client = harness.client().await;
    // While nothing is answered, calls gather.
    redis.server.freeze();
    let mut asking = Vec::new();
    for _ in 0..40 {
        let mut client = client.clone();
        asking.push(tokio::spawn(async move { ask(&mut client, None).await }));
    }
    crate::harness::until("all wait", async || {
        let (_, text) = harness.get("/metrics").await;
        text.contains("\ntollgate_requests_in_flight 40\n")
    })
    .await;
    redis.server.thaw();
    for asked in asking {
        within(asked).await.unwrap();
    }
    drop(client);
    harness.tell(Control::Stop).await;
    harness.ended().await;
    let calls: Vec<Vec<u8>> = receiver
        .of_tollgate(CALL)
        .into_iter()
        .map(|call| call.span_id)
        .collect();
    let stores = receiver.of_tollgate("EVALSHA decide");
    let mut carried: Vec<Vec<u8>> = Vec::new();
    for store in &stores {
        carried.push(store.parent_span_id.clone());
        carried.extend(store.links.iter().map(|link| link.span_id.clone()));
        let many = 1 + store.links.len();
        let said = texts(&store.attributes);
        let batch = said.get("db.operation.batch.size");
        assert_eq!(batch.map_or("1", String::as_str), many.to_string());
    }
    carried.sort();
    let mut expected = calls;
    expected.sort();
    assert_eq!(expected.len(), 40);
    assert_eq!(carried, expected);
    assert!(stores.len() < 40, "some went together: {}", stores.len());
}

const SERVER: i32 = 2;
const CLIENT: i32 = 3;
const ERROR: i32 = 2;
const REMOTE: u32 = 0x200;
