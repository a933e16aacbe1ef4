//! Spans as OTLP's messages, named as OpenTelemetry names such calls.

use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link, SpanKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};

use super::queue::{Finished, StoreSpan};
use super::{number, text};
use crate::event::{CallEnd, CallTrace, TracedDecision, TracedDescriptor};
use crate::telemetry::durations::RPC_METHOD;

/// The message that tells of these.
pub(super) fn request(finished: Vec<Finished>, resource: &Resource) -> ExportTraceServiceRequest {
    let spans = finished.into_iter().filter_map(|finished| match finished {
        Finished::Call { call, at } => Some(call_span(call, at)),
        Finished::Store(span) => store_span(&span),
    });
    let scope_spans = ScopeSpans {
        scope: Some(InstrumentationScope {
            name: "tollgate".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..InstrumentationScope::default()
        }),
        spans: spans.collect(),
        ..ScopeSpans::default()
    };
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(resource.clone()),
            scope_spans: vec![scope_spans],
            ..ResourceSpans::default()
        }],
    }
}

/// A call of the rate limit service. What was decided of each descriptor is an event of it.
fn call_span(call: CallTrace, at: u64) -> Span {
    let (code, error) = match call.ended {
        CallEnd::Answered => ("OK", None),
        CallEnd::Abandoned => (
            "CANCELLED",
            Some("the caller had gone before the answer was out"),
        ),
        CallEnd::Refused(code) => (code.name(), Some("refused")),
    };
    let mut attributes = vec![
        text("rpc.system.name", "grpc"),
        text("rpc.method", RPC_METHOD),
        text("rpc.status_code", code),
    ];
    if error.is_some() {
        attributes.push(text("error.type", code));
    }
    let mut events = Vec::new();
    let mut dropped_events_count = 0;
    if let Some(TracedDecision {
        domain,
        denied,
        descriptors,
        more,
    }) = call.decided
    {
        let overall = if denied { "OVER_LIMIT" } else { "OK" };
        attributes.push(text("tollgate.domain", domain));
        attributes.push(text("tollgate.overall_code", overall));
        let many = descriptors.len().saturating_add(more);
        attributes.push(number("tollgate.descriptors", many));
        events = descriptors
            .into_iter()
            .map(|descriptor| decision(descriptor, at))
            .collect();
        dropped_events_count = u32::try_from(more).unwrap_or(u32::MAX);
    }
    let own = call.recorded.span;
    let parent = call.recorded.parent;
    Span {
        trace_id: own.trace_id().to_vec(),
        span_id: own.span_id().to_vec(),
        trace_state: call.state.map(String::from).unwrap_or_default(),
        parent_span_id: parent.map_or_else(Vec::new, |parent| parent.span_id().to_vec()),
        flags: SAMPLED | KNOWN | if parent.is_some() { REMOTE } else { 0 },
        name: RPC_METHOD.to_owned(),
        kind: SpanKind::Server.into(),
        attributes,
        events,
        dropped_events_count,
        status: Some(status(error.map(|why| format!("{code}: {why}")))),
        ..timed(at, call.duration)
    }
}

fn decision(descriptor: TracedDescriptor, at: u64) -> Event {
    let mut attributes = vec![
        text("tollgate.outcome", descriptor.outcome.name()),
        text("tollgate.source", descriptor.by.name()),
    ];
    if !descriptor.rule.is_empty() {
        attributes.push(text("tollgate.rule", descriptor.rule));
    }
    Event {
        time_unix_nano: at,
        name: "tollgate.decision".to_owned(),
        attributes,
        ..Event::default()
    }
}

/// A call to a shared store: the child of the first query's call that is recorded, linked to those of
/// the others. None if there are none.
fn store_span(call: &StoreSpan) -> Option<Span> {
    let (first, others) = call.traced.split_first()?;
    let own = first.sibling(|| fastrand::u64(..));
    let links = others.iter().take(MOST_LINKS).map(|other| Link {
        trace_id: other.trace_id().to_vec(),
        span_id: other.span_id().to_vec(),
        flags: SAMPLED | KNOWN,
        ..Link::default()
    });
    let more = others.len().saturating_sub(MOST_LINKS);
    let failed = call.result != "ok";
    Some(Span {
        trace_id: own.trace_id().to_vec(),
        span_id: own.span_id().to_vec(),
        parent_span_id: first.span_id().to_vec(),
        flags: SAMPLED | KNOWN,
        name: format!("EVALSHA {}", call.operation.name()),
        kind: SpanKind::Client.into(),
        attributes: store_attributes(call, failed),
        links: links.collect(),
        dropped_links_count: u32::try_from(more).unwrap_or(u32::MAX),
        status: Some(status(failed.then(|| call.result.to_owned()))),
        ..timed(call.at, call.duration)
    })
}

fn store_attributes(call: &StoreSpan, failed: bool) -> Vec<KeyValue> {
    let mut attributes = vec![
        text("db.system.name", "redis"),
        text("db.operation.name", "EVALSHA"),
        text("db.stored_procedure.name", call.operation.name()),
        text("tollgate.store", call.store.name()),
        number("tollgate.checks", call.checks),
    ];
    // As OpenTelemetry has it: one query is no batch.
    if call.queries > 1 {
        attributes.push(number("db.operation.batch.size", call.queries));
    }
    let (host, port) = match call.node.rsplit_once(':') {
        Some((host, port)) if !call.node.starts_with("unix:") => (host, port.parse().ok()),
        _ => (call.node.strip_prefix("unix:").unwrap_or(&call.node), None),
    };
    attributes.push(text("server.address", host.trim_matches(['[', ']'])));
    if let Some(port) = port {
        attributes.push(number("server.port", port));
    }
    if failed {
        attributes.push(text("error.type", call.result));
    }
    attributes
}

/// A span that ended then, having lasted so long.
fn timed(at: u64, duration: Duration) -> Span {
    let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    Span {
        start_time_unix_nano: at.saturating_sub(nanos),
        end_time_unix_nano: at,
        ..Span::default()
    }
}

fn status(error: Option<String>) -> Status {
    match error {
        None => Status::default(),
        Some(message) => Status {
            message,
            code: StatusCode::Error.into(),
        },
    }
}

/// Bits of a span's flags: it is recorded; whether its parent is elsewhere is known; and it is.
const SAMPLED: u32 = 1;
const KNOWN: u32 = 0x100;
const REMOTE: u32 = 0x200;

/// OpenTelemetry's usual limit.
const MOST_LINKS: usize = 128;

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::common::v1::any_value::Value;

    use super::*;
    use crate::event::{
        Code, DecidedBy, Operation, Outcome, StoreCalled, StoreName, TracedQueries,
    };
    use crate::model::{Recorded, TraceRef};

    fn span(trace: u128, span: u64) -> TraceRef {
        TraceRef::new(trace, span).unwrap()
    }

    fn call(ended: CallEnd) -> CallTrace {
        CallTrace {
            recorded: Recorded {
                span: span(7, 1),
                parent: Some(span(7, 2)),
            },
            state: Some("a=b".into()),
            duration: Duration::from_micros(30),
            started: None,
            ended,
            decided: Some(TracedDecision {
                domain: "shop".into(),
                denied: true,
                descriptors: vec![TracedDescriptor {
                    rule: "user_id".into(),
                    outcome: Outcome::Denied,
                    by: DecidedBy::Store,
                }],
                more: 3,
            }),
        }
    }

    fn attributes(of: &[KeyValue]) -> Vec<String> {
        let shown = |attribute: &KeyValue| {
            let value = attribute.value.clone().unwrap().value.unwrap();
            match value {
                Value::StringValue(text) => format!("{}={text}", attribute.key),
                Value::IntValue(number) => format!("{}={number}", attribute.key),
                other => panic!("{other:?}"),
            }
        };
        of.iter().map(shown).collect()
    }

    const METHOD: &str = "rpc.method=envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";

    #[test]
    fn an_answered_call_tells_what_was_decided() {
        let told = call_span(call(CallEnd::Answered), 1_000_000);
        assert_eq!(told.trace_id, span(7, 1).trace_id());
        assert_eq!(told.parent_span_id, [0, 0, 0, 0, 0, 0, 0, 2]);
        assert_eq!((told.flags, told.trace_state.as_str()), (0x301, "a=b"));
        assert_eq!(
            (told.start_time_unix_nano, told.end_time_unix_nano),
            (970_000, 1_000_000)
        );
        assert_eq!(
            attributes(&told.attributes),
            [
                "rpc.system.name=grpc",
                METHOD,
                "rpc.status_code=OK",
                "tollgate.domain=shop",
                "tollgate.overall_code=OVER_LIMIT",
                "tollgate.descriptors=4",
            ]
        );
        assert_eq!(told.status, Some(Status::default()));
        assert_eq!(
            attributes(&told.events[0].attributes),
            [
                "tollgate.outcome=denied",
                "tollgate.source=store",
                "tollgate.rule=user_id"
            ]
        );
        assert_eq!((told.events.len(), told.dropped_events_count), (1, 3));
    }

    #[test]
    fn a_call_that_failed_or_was_given_up_is_an_error() {
        for (ended, code, message) in [
            (
                CallEnd::Refused(Code::DeadlineExceeded),
                "DEADLINE_EXCEEDED",
                "DEADLINE_EXCEEDED: refused",
            ),
            (
                CallEnd::Abandoned,
                "CANCELLED",
                "CANCELLED: the caller had gone before the answer was out",
            ),
        ] {
            let root = CallTrace {
                recorded: Recorded {
                    span: span(7, 1),
                    parent: None,
                },
                decided: None,
                ..call(ended)
            };
            let told = call_span(root, 0);
            let status = told.status.unwrap();
            assert_eq!((status.code, status.message.as_str()), (2, message));
            assert!(told.parent_span_id.is_empty() && told.events.is_empty());
            assert_eq!(told.flags, 0x101);
            let attributes = attributes(&told.attributes);
            assert!(
                attributes.contains(&format!("error.type={code}")),
                "{attributes:?}"
            );
            assert!(attributes.contains(&format!("rpc.status_code={code}")));
        }
    }

    #[test]
    fn a_call_to_the_store_is_a_child_of_the_first_and_linked_to_the_others() {
        let spans: Vec<TraceRef> = (1..=140).map(|number| span(number, 5)).collect();
        let store_call = |spans, node, result| StoreCalled {
            store: StoreName::PerSecond,
            operation: Operation::Decide,
            result,
            duration: Duration::from_micros(1),
            queries: 200,
            checks: 300,
            domains: &[],
            traced: TracedQueries {
                spans,
                node,
                started: None,
            },
        };
        let told = |call| store_span(&StoreSpan::new(call, 5_000));
        assert_eq!(told(store_call(&[], "h:1", "ok")), None);
        let one = told(store_call(&spans, "[::1]:6379", "timeout")).unwrap();
        assert_eq!(one.trace_id, spans[0].trace_id());
        assert_eq!(one.parent_span_id, spans[0].span_id());
        assert_ne!(one.span_id, one.parent_span_id);
        assert_eq!((one.links.len(), one.dropped_links_count), (128, 11));
        assert_eq!(one.links[0].trace_id, spans[1].trace_id());
        assert_eq!(
            (one.start_time_unix_nano, one.end_time_unix_nano),
            (4_000, 5_000)
        );
        assert_eq!(one.name, "EVALSHA decide");
        assert_eq!(one.status.unwrap().message, "timeout");
        assert_eq!(
            attributes(&one.attributes),
            [
                "db.system.name=redis",
                "db.operation.name=EVALSHA",
                "db.stored_procedure.name=decide",
                "tollgate.store=per_second",
                "tollgate.checks=300",
                "db.operation.batch.size=200",
                "server.address=::1",
                "server.port=6379",
                "error.type=timeout",
            ]
        );
        let unix = told(store_call(&spans[..1], "unix:/run/r:7", "ok")).unwrap();
        let shown = attributes(&unix.attributes);
        assert!(
            shown.contains(&"server.address=/run/r:7".to_owned()),
            "{shown:?}"
        );
        assert!(unix.links.is_empty() && unix.status == Some(Status::default()));
    }
}
