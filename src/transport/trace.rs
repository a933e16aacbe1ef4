//! Calls that are recorded: what their headers say of a trace, and what is told of their answers.

use std::time::Duration;

use http::HeaderMap;

use crate::event::{
    CallEnd, CallTrace, MAX_DESCRIPTORS, MAX_TEXT, TracedDecision, TracedDescriptor,
};
use crate::limiter::Answer;
use crate::model::{Query, Sampler, TraceParent};
use crate::policy::{Domain, Matched, OVERRIDE};

/// The record of a call with these headers, if it is recorded.
pub(super) fn begin(sampler: Sampler, headers: &HeaderMap) -> Option<Box<CallTrace>> {
    let parent = headers
        .get(TRACEPARENT)
        .and_then(|text| TraceParent::parse(text.as_bytes()));
    let recorded = sampler.sample(parent, || fastrand::u64(..))?;
    Some(Box::new(CallTrace {
        recorded,
        // Without a parent it says nothing of this trace.
        state: parent.and_then(|_| state(headers)),
        duration: Duration::ZERO,
        started: None,
        ended: CallEnd::Abandoned,
        decided: None,
    }))
}

/// Takes down what was decided. Of the request there is its domain only, and values where a rule
/// wants them in its metrics.
pub(super) fn note(trace: &mut CallTrace, query: &Query<'_>, answer: &Answer<'_>) {
    let enforced = !answer.domain.is_some_and(Domain::shadow_mode);
    let described = query.descriptors.iter().zip(&answer.statuses);
    let descriptors: Vec<TracedDescriptor> = described
        .take(MAX_DESCRIPTORS)
        .map(|(descriptor, status)| {
            let label = match &status.matched {
                Matched::Limited(_, _, path) => Domain::label(descriptor, path),
                _ => None,
            };
            let rule = match (&label, &status.matched) {
                (Some(label), _) => label,
                (None, Matched::Override(_)) => OVERRIDE,
                (None, matched) => matched.rule().map_or("", |rule| &rule.path),
            };
            TracedDescriptor {
                rule: clipped(rule).into(),
                outcome: status.outcome(enforced),
                by: status.decided_by(),
            }
        })
        .collect();
    trace.decided = Some(TracedDecision {
        domain: clipped(&String::from_utf8_lossy(query.domain)).into(),
        denied: answer.denied,
        more: answer.statuses.len().saturating_sub(descriptors.len()),
        descriptors,
    });
}

/// What tracing systems want to be handed on, if it is no longer than the standard asks for.
fn state(headers: &HeaderMap) -> Option<Box<str>> {
    let mut state = String::new();
    for part in headers.get_all(TRACESTATE) {
        let part = part.to_str().ok()?.trim();
        if state.len().saturating_add(part.len()) >= LONGEST_STATE {
            return None;
        }
        if !state.is_empty() && !part.is_empty() {
            state.push(',');
        }
        state.push_str(part);
    }
    (!state.is_empty()).then(|| state.into())
}

fn clipped(text: &str) -> &str {
    let end = text.floor_char_boundary(MAX_TEXT);
    text.get(..end).unwrap_or_default()
}

const TRACEPARENT: &str = "traceparent";

const TRACESTATE: &str = "tracestate";

/// Bytes of a `tracestate` that everybody should be able to hand on.
const LONGEST_STATE: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    fn followed(pairs: &[(&'static str, &str)]) -> Option<Box<CallTrace>> {
        begin(Sampler::new(0.0, true).unwrap(), &headers(pairs))
    }

    #[test]
    fn a_call_of_a_recorded_trace_is_recorded_in_it() {
        assert_eq!(followed(&[]), None);
        let unsampled = PARENT.replace("-01", "-00");
        assert_eq!(followed(&[("traceparent", &unsampled)]), None);
        assert_eq!(followed(&[("traceparent", "odd")]), None);
        let trace = followed(&[("traceparent", PARENT)]).unwrap();
        let parent = TraceParent::parse(PARENT.as_bytes()).unwrap();
        assert_eq!(trace.recorded.parent, Some(parent.span));
        assert_eq!((trace.state, trace.ended), (None, CallEnd::Abandoned));
    }

    #[test]
    fn what_the_trace_carries_is_kept_if_it_is_short() {
        let state = |parts: &[&str]| {
            let mut pairs = vec![("traceparent", PARENT)];
            pairs.extend(parts.iter().map(|part| ("tracestate", *part)));
            followed(&pairs).unwrap().state
        };
        assert_eq!(state(&["a=1, b=2", "c=3"]).as_deref(), Some("a=1, b=2,c=3"));
        assert_eq!(state(&["", " "]), None);
        assert_eq!(state(&[&"x".repeat(600)]), None);
        assert_eq!(state(&["\u{e4}=1"]), None);
    }

    #[test]
    fn texts_are_cut_between_characters() {
        let text = "\u{e4}".repeat(150);
        assert_eq!(clipped(&text).len(), MAX_TEXT);
        assert_eq!(clipped(&format!("x{text}")).len(), MAX_TEXT - 1);
        assert_eq!(clipped("short"), "short");
    }
}
