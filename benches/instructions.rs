//! Answers a fixed number of calls through the whole gRPC path of the service, without sockets, so
//! that callgrind can count what a decision costs: `scripts/count-instructions`.
//!
//! `cargo bench --bench instructions -- silent|watched CALLS`
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a measurement that cannot go on has failed, and prints what it did"
)]

use std::convert::Infallible;
use std::num::NonZero;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use envoy_types::pb::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use envoy_types::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::Entry;
use envoy_types::pb::envoy::service::ratelimit::v3::RateLimitRequest;
use futures_util::FutureExt;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use prost::Message;
use tollgate::clock::{Clock, Timestamp};
use tollgate::config::policies::{PolicyDefaults, Source, load};
use tollgate::event::{DecidedBy, Events, Meters, Silence};
use tollgate::pipeline::{Caps, Pipeline};
use tollgate::policy::Policies;
use tollgate::store::{MemoryConfig, MemoryStore, Store};
use tollgate::telemetry::Telemetry;
use tollgate::transport::{Endpoint, HealthReporter, Limits, ResponseConfig, Service};

/// As the service.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let mut words = std::env::args().skip(1).filter(|word| word != "--bench");
    let mode = words.next().unwrap_or_else(|| "watched".to_owned());
    let calls: u64 = words.next().map_or(10_000, |word| {
        word.parse().expect("the second word is a number of calls")
    });
    let clock = Clock::manual(Timestamp::from_millis(1_700_000_000_000));
    let endpoint = match mode.as_str() {
        "silent" => endpoint(clock, Arc::new(Silence), &Silence),
        "watched" => {
            let telemetry = Telemetry::new(clock.clone(), DecidedBy::Memory);
            let telemetry = Arc::new(telemetry.expect("metrics can be set up"));
            endpoint(clock, Arc::clone(&telemetry) as _, &*telemetry)
        }
        other => panic!("unknown mode {other}: silent or watched"),
    };
    let requests: Vec<Bytes> = (0..KEYS).map(request).collect();
    let mut bytes = 0;
    for message in requests
        .iter()
        .cycle()
        .take(usize::try_from(calls).expect("a small number"))
    {
        bytes += answer(&endpoint, message);
    }
    println!("{mode}: {calls} calls answered with {bytes} bytes");
}

fn endpoint(clock: Clock, events: Arc<dyn Events>, meters: &dyn Meters) -> Endpoint {
    let source = Source {
        name: "bench.yaml",
        text: POLICY.as_bytes(),
    };
    let compiled = load(&[source], &PolicyDefaults::default()).expect("the policy is right");
    let store = MemoryStore::new(MemoryConfig {
        max_keys: NonZero::new(1_000_000).expect("it is not 0"),
    });
    let caps = Caps {
        descriptors: 100,
        entries: 32,
    };
    let policies = Policies::new(compiled.domains, meters);
    let pipeline = Pipeline::new(
        policies,
        Store::Memory(Arc::new(store)),
        events,
        clock,
        caps,
    );
    let limits = Limits {
        in_flight: 10_000,
        message_bytes: 4 << 20,
    };
    let service = Service::new(Arc::new(pipeline), ResponseConfig::default(), limits);
    Endpoint::new(&Arc::new(service), &HealthReporter::new()).expect("the descriptors are right")
}

/// A framed request with one descriptor, of one of the keys.
fn request(key: usize) -> Bytes {
    let message = RateLimitRequest {
        domain: "bench".to_owned(),
        descriptors: vec![RateLimitDescriptor {
            entries: vec![Entry {
                key: "user_id".to_owned(),
                value: format!("user-{key:06}"),
            }],
            ..RateLimitDescriptor::default()
        }],
        hits_addend: 0,
    };
    let encoded = message.encode_to_vec();
    let mut framed = BytesMut::new();
    framed.put_u8(0);
    framed.put_u32(u32::try_from(encoded.len()).expect("a short message"));
    framed.extend_from_slice(&encoded);
    framed.freeze()
}

/// Bytes of the answer. Nothing waits in this process, so the first look finds it.
fn answer(endpoint: &Endpoint, message: &Bytes) -> usize {
    let request = Request::post("/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("grpc-timeout", "20m")
        .body(Full::new(message.clone()).map_err(|never: Infallible| match never {}))
        .expect("the request is right");
    let response: Response<_> = endpoint
        .call::<_>(request)
        .now_or_never()
        .expect("nothing waits");
    let body = response.into_body().collect().now_or_never();
    let body = body.expect("nothing waits").expect("the call is answered");
    let trailers = body
        .trailers()
        .and_then(|trailers| trailers.get("grpc-status"));
    assert!(
        trailers.is_some_and(|status| status == "0"),
        "it is refused"
    );
    body.to_bytes().len()
}

/// Distinct keys.
const KEYS: usize = 1_000;

const POLICY: &str = "
domain: bench
descriptors:
  - {key: plan, rate_limit: {requests_per_unit: 10, unit: second}}
  - {key: path, rate_limit: {requests_per_unit: 10, unit: second}}
  - {key: user_id, rate_limit: {requests_per_unit: 1000000000, unit: hour}}
";
