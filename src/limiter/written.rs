//! A decided query, as it is written down where an operator asks for that.

use smallvec::SmallVec;

use super::{Answer, Status};
use crate::event::{Written, WrittenDescriptor, WrittenRuling};
use crate::model::Query;
use crate::policy::{Domain, Matched, OVERRIDE};

/// Tells of `query` and its answer, or that it has none since a rule wanted an error; `at_millis` is
/// when that was.
#[cold]
pub fn written(
    query: &Query<'_>,
    answer: Option<&Answer<'_>>,
    at_millis: u64,
    tell: impl FnOnce(Written<'_>),
) {
    let enforced = !answer
        .and_then(|answer| answer.domain)
        .is_some_and(Domain::shadow_mode);
    let statuses = answer.map_or(&[][..], |answer| &answer.statuses);
    let statuses = statuses.iter().map(Some).chain(std::iter::repeat(None));
    let described = query.descriptors.iter().zip(statuses);
    let descriptors: SmallVec<[WrittenDescriptor<'_>; 4]> = described
        .map(|(descriptor, status)| WrittenDescriptor {
            entries: &descriptor.entries,
            hits: descriptor.hits(query.hits_addend),
            rule: status.and_then(rule),
            decided: status.map(|status| (status.outcome(enforced), status.decided_by())),
            ruling: status.and_then(ruling),
        })
        .collect();
    tell(Written {
        at_millis,
        domain: query.domain,
        denied: answer.map(|answer| answer.denied),
        trace: query.trace,
        descriptors: &descriptors,
    });
}

fn rule<'p>(status: &Status<'p>) -> Option<&'p str> {
    match &status.matched {
        Matched::Override(_) => Some(OVERRIDE),
        matched => matched.rule().map(|rule| &*rule.path),
    }
}

fn ruling(status: &Status<'_>) -> Option<WrittenRuling> {
    let ruling = status.ruling.as_ref()?;
    Some(WrittenRuling {
        limit: ruling.quota.limit(),
        window_millis: ruling.quota.window().millis(),
        counted: ruling.verdict.counted,
        remaining: ruling.remaining(),
        reset_millis: ruling.verdict.reset_millis,
    })
}
