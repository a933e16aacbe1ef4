//! Tollgate's own messages are Envoy's, byte for byte.

use bytes::Bytes;
use envoy_types::pb::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use envoy_types::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::{
    Entry, RateLimitOverride,
};
use envoy_types::pb::envoy::service::ratelimit::v3::{
    RateLimitRequest, RateLimitResponse, rate_limit_response,
};
use envoy_types::pb::google::protobuf::{Duration, UInt64Value};
use proptest::prelude::*;
use prost::Message;
use tollgate::transport::wire;

fn descriptors() -> impl Strategy<Value = RateLimitDescriptor> {
    let entries = prop::collection::vec(("\\PC{0,5}", "\\PC{0,9}"), 0..4);
    let limit = prop::option::of((any::<u32>(), 0..7_i32));
    (
        entries,
        limit,
        prop::option::of(any::<u64>()),
        any::<bool>(),
    )
        .prop_map(
            |(entries, limit, hits, is_negative_hits)| RateLimitDescriptor {
                entries: entries
                    .into_iter()
                    .map(|(key, value)| Entry { key, value })
                    .collect(),
                limit: limit.map(|(requests_per_unit, unit)| RateLimitOverride {
                    requests_per_unit,
                    unit,
                }),
                hits_addend: hits.map(|value| UInt64Value { value }),
                is_negative_hits,
            },
        )
}

proptest! {
    #[test]
    fn requests_have_the_same_bytes(
        domain in "\\PC{0,9}",
        descriptors in prop::collection::vec(descriptors(), 0..4),
        hits_addend in any::<u32>(),
    ) {
        let theirs = RateLimitRequest { domain, descriptors, hits_addend }.encode_to_vec();
        let ours = wire::RateLimitRequest::decode(Bytes::from(theirs.clone())).unwrap();
        prop_assert_eq!(ours.encode_to_vec(), theirs);
    }

    #[test]
    fn responses_have_the_same_bytes(
        codes in prop::collection::vec(0..3_i32, 0..4),
        numbers in any::<(u32, u32, i64)>(),
        unit in 0..8_i32,
        name in "\\PC{0,9}",
    ) {
        let (requests_per_unit, limit_remaining, seconds) = numbers;
        let ours = wire::RateLimitResponse {
            overall_code: codes.first().copied().unwrap_or(1),
            statuses: codes
                .iter()
                .map(|&code| wire::DescriptorStatus {
                    code,
                    current_limit: Some(wire::RateLimit {
                        requests_per_unit,
                        unit,
                        name: name.clone(),
                        unit_multiplier: None,
                    }),
                    limit_remaining,
                    duration_until_reset: Some(Duration { seconds, nanos: 0 }),
                })
                .collect(),
            ..wire::RateLimitResponse::default()
        };
        let theirs = RateLimitResponse::decode(Bytes::from(ours.encode_to_vec())).unwrap();
        prop_assert_eq!(theirs.encode_to_vec(), ours.encode_to_vec());
        prop_assert_eq!(theirs.statuses.len(), codes.len());
        let expected = rate_limit_response::RateLimit {
            requests_per_unit,
            unit,
            name,
        };
        for status in theirs.statuses {
            prop_assert_eq!(status.current_limit.unwrap(), expected.clone());
        }
    }
}

#[test]
fn a_window_of_several_units_is_field_four() {
    let limit = wire::RateLimit {
        unit_multiplier: Some(5),
        ..wire::RateLimit::default()
    };
    assert_eq!(limit.encode_to_vec(), [4 << 3 | 2, 2, 1 << 3, 5]);
    let limit = wire::RateLimitOverride {
        unit_multiplier: Some(5),
        ..Default::default()
    };
    assert_eq!(limit.encode_to_vec(), [3 << 3 | 2, 2, 1 << 3, 5]);
}
