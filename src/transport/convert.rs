//! Between the wire's messages and the model.

use envoy_types::pb::google::protobuf::{Duration, Struct};

use super::wire;
use super::{ResponseConfig, headers, metadata, verdicts};
use crate::event::CallTrace;
use crate::limiter::{Answer, Ruling, Status};
use crate::model::{Descriptor, Entry, OverrideLimit, Query, Unit};
use crate::policy::Matched;

/// The query that `request` asks; borrows its texts. `trace` is what is recorded of the call.
pub(super) fn query<'r>(
    request: &'r wire::RateLimitRequest,
    trace: Option<&CallTrace>,
) -> Query<'r> {
    Query {
        domain: &request.domain,
        descriptors: request.descriptors.iter().map(descriptor).collect(),
        hits_addend: request.hits_addend,
        trace: trace.map(|trace| trace.recorded.span),
    }
}

fn descriptor(descriptor: &wire::RateLimitDescriptor) -> Descriptor<'_> {
    Descriptor {
        entries: descriptor.entries.iter().map(entry).collect(),
        limit: descriptor.limit.map(|limit| OverrideLimit {
            requests_per_unit: limit.requests_per_unit,
            unit: limit.unit,
            unit_multiplier: limit.unit_multiplier,
        }),
        hits_addend: descriptor.hits_addend,
        is_negative_hits: descriptor.is_negative_hits,
    }
}

fn entry(entry: &wire::Entry) -> Entry<'_> {
    Entry {
        key: &entry.key,
        value: &entry.value,
    }
}

/// The response that says `answer`.
pub(super) fn response(
    query: &Query<'_>,
    answer: &Answer<'_>,
    config: ResponseConfig,
) -> wire::RateLimitResponse {
    wire::RateLimitResponse {
        overall_code: code(answer.denied),
        statuses: answer.statuses.iter().map(status).collect(),
        response_headers_to_add: headers::headers(answer, config.headers),
        dynamic_metadata: dynamic_metadata(query, answer, config),
    }
}

/// The response to a call that is too large to be read.
pub(super) fn over() -> wire::RateLimitResponse {
    wire::RateLimitResponse {
        overall_code: wire::OVER_LIMIT,
        ..wire::RateLimitResponse::default()
    }
}

/// None unless the settings ask for something in it.
fn dynamic_metadata(
    query: &Query<'_>,
    answer: &Answer<'_>,
    config: ResponseConfig,
) -> Option<Struct> {
    let mut metadata = config
        .dynamic_metadata
        .then(|| metadata::metadata(query, answer));
    if config.verdicts {
        let told = verdicts::verdicts(query, answer);
        let fields = &mut metadata.get_or_insert_default().fields;
        fields.insert(verdicts::FIELD.to_owned(), told);
    }
    metadata
}

fn status(status: &Status<'_>) -> wire::DescriptorStatus {
    match (&status.matched, &status.ruling) {
        (Matched::Unlimited(_), _) => wire::DescriptorStatus {
            code: wire::OK,
            limit_remaining: u32::MAX,
            ..wire::DescriptorStatus::default()
        },
        (_, None) => wire::DescriptorStatus {
            code: wire::OK,
            ..Default::default()
        },
        (_, Some(ruling)) => wire::DescriptorStatus {
            code: code(status.is_over()),
            current_limit: Some(current_limit(status, ruling)),
            limit_remaining: ruling.remaining(),
            duration_until_reset: Some(Duration {
                seconds: i64::try_from(ruling.reset_seconds()).unwrap_or(i64::MAX),
                nanos: 0,
            }),
        },
    }
}

fn current_limit(status: &Status<'_>, ruling: &Ruling) -> wire::RateLimit {
    let window = ruling.quota.window();
    wire::RateLimit {
        requests_per_unit: ruling.quota.limit(),
        unit: unit(window.unit()),
        name: status
            .rule()
            .and_then(|rule| rule.name.clone())
            .unwrap_or_default(),
        unit_multiplier: Some(window.multiplier()).filter(|&multiplier| multiplier > 1),
    }
}

const fn code(over: bool) -> i32 {
    if over { wire::OVER_LIMIT } else { wire::OK }
}

/// The number in `RateLimitResponse.RateLimit.Unit`; a week came late.
pub(super) const fn unit(unit: Unit) -> i32 {
    match unit {
        Unit::Second => 1,
        Unit::Minute => 2,
        Unit::Hour => 3,
        Unit::Day => 4,
        Unit::Month => 5,
        Unit::Year => 6,
        Unit::Week => 7,
    }
}
