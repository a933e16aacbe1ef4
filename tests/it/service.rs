//! What a client of the gRPC listener sees.

use bytes::Bytes;
use envoy_types::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::RateLimitOverride;
use envoy_types::pb::envoy::service::ratelimit::v3::RateLimitRequest;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_response::Code;
use envoy_types::pb::google::protobuf::UInt64Value;
use http::uri::PathAndQuery;
use tollgate::transport::wire;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::harness::{Harness, descriptor, request, within};

const POLICY: &str = "
domain: shop
descriptors:
  - key: user
    rate_limit: { name: per-user, requests_per_unit: 2, unit: minute }
  - key: five
    rate_limit: { requests_per_unit: 10, unit: minute, unit_multiplier: 5 }
  - key: shut
    rate_limit: { requests_per_unit: 0, unit: hour }
  - key: told
    shadow_mode: true
    rate_limit: { requests_per_unit: 0, unit: hour }
  - key: open
    rate_limit: { unlimited: true }
";

#[tokio::test]
async fn a_limit_denies_names_itself_and_resets() {
    let harness = Harness::with_policy(POLICY).await;
    let mut client = harness.client().await;
    let alice = request("shop", &[descriptor(&[("user", "alice")])]);
    for remaining in [1, 0] {
        let answer = client.ask(alice.clone()).await;
        assert_eq!(answer.overall_code(), Code::Ok);
        assert_eq!(answer.statuses[0].limit_remaining, remaining);
    }
    let answer = client.ask(alice.clone()).await;
    assert_eq!(answer.overall_code(), Code::OverLimit);
    let status = &answer.statuses[0];
    assert_eq!(status.current_limit.as_ref().unwrap().name, "per-user");
    let reset = status.duration_until_reset.as_ref().unwrap().seconds;
    assert!((1..=60).contains(&reset));
    assert_eq!(client.code("shop", &[("user", "bob")]).await, Code::Ok);
    harness.advance(std::time::Duration::from_secs(reset.unsigned_abs()));
    assert_eq!(client.ask(alice).await.overall_code(), Code::Ok);
}

#[tokio::test]
async fn a_denied_request_charges_no_sibling() {
    let harness = Harness::with_policy(POLICY).await;
    let mut client = harness.client().await;
    let both = request(
        "shop",
        &[
            descriptor(&[("user", "carol")]),
            descriptor(&[("shut", "x")]),
        ],
    );
    for _ in 0..5 {
        let answer = client.ask(both.clone()).await;
        assert_eq!(answer.overall_code(), Code::OverLimit);
        assert_eq!(answer.statuses[0].limit_remaining, 2);
    }
    assert_eq!(client.code("shop", &[("user", "carol")]).await, Code::Ok);
}

#[tokio::test]
async fn shadow_unlimited_and_unmatched_pass() {
    let harness = Harness::with_policy(POLICY).await;
    let mut client = harness.client().await;
    let answer = client
        .ask(request(
            "shop",
            &[
                descriptor(&[("told", "x")]),
                descriptor(&[("open", "x")]),
                descriptor(&[("other", "x")]),
            ],
        ))
        .await;
    assert_eq!(answer.overall_code(), Code::Ok);
    let [told, open, other] = answer.statuses.as_slice() else {
        panic!("{answer:?}")
    };
    assert_eq!((told.code(), told.limit_remaining), (Code::Ok, 0));
    assert!(told.current_limit.is_some());
    assert_eq!(
        (open.limit_remaining, &open.current_limit),
        (u32::MAX, &None)
    );
    assert_eq!((other.limit_remaining, &other.current_limit), (0, &None));
}

#[tokio::test]
async fn a_domain_in_shadow_mode_tells_in_its_statuses_and_passes() {
    let settings = "domains: { shop: { shadow_mode: true } }";
    let harness = Harness::start(&[("p.yaml", POLICY)], settings)
        .await
        .unwrap();
    let mut client = harness.client().await;
    let answer = client
        .ask(request("shop", &[descriptor(&[("shut", "x")])]))
        .await;
    assert_eq!(answer.overall_code(), Code::Ok);
    assert_eq!(answer.statuses[0].code(), Code::OverLimit);
}

#[tokio::test]
async fn half_of_the_denials_are_enforced_if_the_rule_says_so() {
    let policy = "
domain: d
descriptors:
  - key: k
    rate_limit: { requests_per_unit: 0, unit: hour, enforce_percent: 50 }
";
    let harness = Harness::with_policy(policy).await;
    let mut client = harness.client().await;
    let mut denied = 0;
    for _ in 0..400 {
        denied += u32::from(client.code("d", &[("k", "v")]).await == Code::OverLimit);
    }
    // Twelve standard deviations.
    assert!((80..320).contains(&denied), "{denied} of 400");
}

#[tokio::test]
async fn what_makes_no_sense_is_an_invalid_argument() {
    let harness = Harness::with_policy(POLICY).await;
    let mut client = harness.client().await;
    let user = || descriptor(&[("user", "x")]);
    let mut bad_unit = user();
    bad_unit.limit = Some(RateLimitOverride {
        requests_per_unit: 1,
        unit: 0,
    });
    for (query, text) in [
        (
            request("", &[user()]),
            "rate limit domain must not be empty",
        ),
        (
            request("shop", &[]),
            "rate limit descriptor list must not be empty",
        ),
        (
            request("shop", &[user(), bad_unit]),
            "descriptors[1]: unknown rate limit unit 0",
        ),
        (
            request("shop", &vec![user(); 1000]),
            "1000 descriptors in one request, at most 100",
        ),
        (
            request("shop", &[descriptor(&vec![("k", "v"); 33])]),
            "33 entries, at most 32",
        ),
    ] {
        let status = client.try_ask(query).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::InvalidArgument, "{status}");
        assert!(status.message().contains(text), "{status}");
    }
    assert_eq!(client.code("shop", &[("user", "x")]).await, Code::Ok);
}

#[tokio::test]
async fn overrides_replace_the_rule_and_count_apart_from_it() {
    let harness = Harness::with_policy(POLICY).await;
    let mut client = harness.client().await;
    let mut dave = descriptor(&[("user", "dave")]);
    dave.limit = Some(RateLimitOverride {
        requests_per_unit: 3,
        unit: 2,
    });
    for remaining in [2, 1, 0] {
        let answer = client.ask(request("shop", &[dave.clone()])).await;
        assert_eq!(answer.statuses[0].limit_remaining, remaining);
    }
    let answer = client.ask(request("shop", &[dave.clone()])).await;
    assert_eq!(answer.overall_code(), Code::OverLimit);
    assert_eq!(client.code("shop", &[("user", "dave")]).await, Code::Ok);
    let answer = client.ask(request("nowhere", &[dave])).await;
    assert_eq!(answer.statuses[0].current_limit, None);
}

#[tokio::test]
async fn hits_of_many_kinds() {
    let harness = Harness::with_policy(POLICY).await;
    let mut client = harness.client().await;
    let ask = async |client: &mut crate::harness::Client, hits: Option<u64>, negative: bool| {
        let mut descriptor = descriptor(&[("five", "x")]);
        descriptor.hits_addend = hits.map(|value| UInt64Value { value });
        descriptor.is_negative_hits = negative;
        let request = RateLimitRequest {
            hits_addend: 4,
            ..request("shop", &[descriptor])
        };
        let answer = client.ask(request).await;
        (answer.overall_code(), answer.statuses[0].limit_remaining)
    };
    assert_eq!(ask(&mut client, None, false).await, (Code::Ok, 6));
    assert_eq!(ask(&mut client, Some(0), false).await, (Code::Ok, 6));
    assert_eq!(ask(&mut client, Some(6), false).await, (Code::Ok, 0));
    assert_eq!(ask(&mut client, Some(0), false).await, (Code::OverLimit, 0));
    assert_eq!(ask(&mut client, Some(3), true).await, (Code::Ok, 3));
    assert_eq!(
        ask(&mut client, Some(u64::MAX), false).await,
        (Code::OverLimit, 0)
    );
    assert_eq!(ask(&mut client, Some(u64::MAX), true).await, (Code::Ok, 10));
}

/// The call as raw messages of Tollgate's own, which know more than envoy-types.
async fn raw(
    address: &str,
    request: wire::RateLimitRequest,
) -> Result<wire::RateLimitResponse, tonic::Status> {
    let channel = tonic::transport::Channel::from_shared(format!("http://{address}")).unwrap();
    let mut client = tonic::client::Grpc::new(channel.connect().await.unwrap());
    client.ready().await.unwrap();
    let path = PathAndQuery::from_static(wire::SHOULD_RATE_LIMIT);
    let codec = tonic_prost::ProstCodec::default();
    Ok(
        within(client.unary(tonic::Request::new(request), path, codec))
            .await?
            .into_inner(),
    )
}

fn raw_request(key: &'static str, value: Bytes) -> wire::RateLimitRequest {
    wire::RateLimitRequest {
        domain: "shop".into(),
        descriptors: vec![wire::RateLimitDescriptor {
            entries: vec![wire::Entry {
                key: key.into(),
                value,
            }],
            ..wire::RateLimitDescriptor::default()
        }],
        hits_addend: 0,
    }
}

#[tokio::test]
async fn no_value_escapes_its_limit() {
    let harness = Harness::with_policy(POLICY).await;
    let long = Bytes::from(vec![b'x'; 50_000]);
    for value in [
        Bytes::from_static(b"\xff"),
        Bytes::from_static(b"\0\n"),
        long,
        Bytes::new(),
    ] {
        let answer = raw(&harness.grpc, raw_request("shut", value.clone()))
            .await
            .unwrap();
        assert_eq!(answer.overall_code, wire::OVER_LIMIT);
        // Counted each on its own, like any other.
        for code in [wire::OK, wire::OK, wire::OVER_LIMIT] {
            let answer = raw(&harness.grpc, raw_request("user", value.clone()))
                .await
                .unwrap();
            assert_eq!(answer.overall_code, code);
        }
    }
}

#[tokio::test]
async fn windows_of_several_units_are_told_as_such() {
    let harness = Harness::with_policy(POLICY).await;
    let answer = raw(&harness.grpc, raw_request("five", "x".into()))
        .await
        .unwrap();
    let limit = answer.statuses[0].current_limit.clone().unwrap();
    assert_eq!((limit.unit, limit.unit_multiplier), (2, Some(5)));
    let mut with_limit = raw_request("five", "x".into());
    with_limit.descriptors[0].limit = Some(wire::RateLimitOverride {
        requests_per_unit: 7,
        unit: 1,
        unit_multiplier: Some(90),
    });
    let answer = raw(&harness.grpc, with_limit).await.unwrap();
    let limit = answer.statuses[0].current_limit.clone().unwrap();
    assert_eq!(
        (limit.requests_per_unit, limit.unit, limit.unit_multiplier),
        (7, 1, Some(90))
    );
    let answer = raw(&harness.grpc, raw_request("user", "x".into()))
        .await
        .unwrap();
    assert_eq!(
        answer.statuses[0]
            .current_limit
            .clone()
            .unwrap()
            .unit_multiplier,
        None
    );
}

#[tokio::test]
async fn health_and_reflection_are_there() {
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::{ServerReflectionRequest, server_reflection_response};

    let harness = Harness::with_policy(POLICY).await;
    let channel =
        tonic::transport::Channel::from_shared(format!("http://{}", harness.grpc)).unwrap();
    let channel = channel.connect().await.unwrap();
    let mut health = HealthClient::new(channel.clone());
    for service in ["", "ratelimit"] {
        let asked = HealthCheckRequest {
            service: service.into(),
        };
        assert_eq!(health.check(asked).await.unwrap().into_inner().status, 1);
    }
    let unknown = health
        .check(HealthCheckRequest {
            service: "x".into(),
        })
        .await
        .unwrap_err();
    assert_eq!(unknown.code(), tonic::Code::NotFound);

    let list = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut answers = ServerReflectionClient::new(channel)
        .server_reflection_info(tokio_stream(list))
        .await
        .unwrap()
        .into_inner();
    let answer = answers
        .message()
        .await
        .unwrap()
        .unwrap()
        .message_response
        .unwrap();
    let server_reflection_response::MessageResponse::ListServicesResponse(services) = answer else {
        panic!("{answer:?}")
    };
    let names: Vec<String> = services
        .service
        .into_iter()
        .map(|service| service.name)
        .collect();
    assert!(
        names.contains(&"envoy.service.ratelimit.v3.RateLimitService".to_owned()),
        "{names:?}"
    );
    assert!(
        names.contains(&"grpc.health.v1.Health".to_owned()),
        "{names:?}"
    );
}

/// A stream of one message.
fn tokio_stream<T: Send + 'static>(item: T) -> impl tonic::IntoStreamingRequest<Message = T> {
    tonic::Request::new(futures_util::stream::iter([item]))
}

#[tokio::test]
async fn headers_and_metadata_come_when_asked_for() {
    let settings = "response: { headers: reference, dynamic_metadata: true }";
    let policy = "
domain: shop
descriptors:
  - key: user
    metadata: { owner: team-a, deep: { a: 1 } }
    rate_limit: { name: 'per \"user\"', requests_per_unit: 2, unit: minute }
";
    let harness = Harness::start(&[("p.yaml", policy)], settings)
        .await
        .unwrap();
    let mut client = harness.client().await;
    let answer = client
        .ask(request("shop", &[descriptor(&[("user", "x")])]))
        .await;
    let headers: Vec<(String, String)> = answer
        .response_headers_to_add
        .into_iter()
        .map(|header| (header.key, header.value))
        .collect();
    assert_eq!(headers[0], ("RateLimit-Limit".into(), "2".into()));
    assert_eq!(headers[1], ("RateLimit-Remaining".into(), "1".into()));
    assert_eq!(headers[2].0, "RateLimit-Reset");
    let metadata = answer.dynamic_metadata.unwrap();
    let text = format!("{metadata:?}");
    for part in ["domain", "shop", "user=x", "owner", "team-a", "deep"] {
        assert!(text.contains(part), "{text}");
    }

    let settings = "response: { headers: ietf }";
    let harness = Harness::start(&[("p.yaml", policy)], settings)
        .await
        .unwrap();
    let mut client = harness.client().await;
    let answer = client
        .ask(request("shop", &[descriptor(&[("user", "x")])]))
        .await;
    assert_eq!(answer.response_headers_to_add[0].key, "RateLimit-Policy");
    assert_eq!(
        answer.response_headers_to_add[0].value,
        r#""per \"user\"";q=2;w=60"#
    );
    assert_eq!(answer.dynamic_metadata, None);
}

#[tokio::test]
async fn all_four_algorithms_answer() {
    for algorithm in [
        "fixed_window",
        "sliding_window",
        "sliding_log",
        "token_bucket",
    ] {
        let policy = format!(
            "domain: d\ndescriptors:\n  - key: k\n    rate_limit: \
             {{ requests_per_unit: 3, unit: minute, algorithm: {algorithm} }}\n"
        );
        let harness = Harness::with_policy(&policy).await;
        let mut client = harness.client().await;
        for code in [Code::Ok, Code::Ok, Code::Ok, Code::OverLimit] {
            assert_eq!(client.code("d", &[("k", "v")]).await, code, "{algorithm}");
        }
        harness.advance(std::time::Duration::from_secs(67));
        assert_eq!(
            client.code("d", &[("k", "v")]).await,
            Code::Ok,
            "{algorithm}"
        );
    }
}
