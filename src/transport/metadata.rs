//! Dynamic metadata: what was asked, and the metadata of the rules that let it pass. The shape is
//! envoyproxy/ratelimit's, so filters that read it keep working.

use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{ListValue, Struct, Value as ProtoValue};

use crate::limiter::Answer;
use crate::model::{Descriptor, Entry, OverrideLimit, Query, Value};
use crate::policy::Matched;

/// The metadata of an answer.
pub(super) fn metadata(query: &Query<'_>, answer: &Answer<'_>) -> Struct {
    let mut fields = vec![
        ("domain".to_owned(), string(text(query.domain))),
        (
            "descriptors".to_owned(),
            list(query.descriptors.iter().map(descriptor)),
        ),
    ];
    if query.hits_addend > 0 {
        fields.push((
            "hitsAddend".to_owned(),
            number(f64::from(query.hits_addend)),
        ));
    }
    let merged = merged(answer);
    if !merged.is_empty() {
        fields.push(("metadata".to_owned(), map(&merged)));
    }
    Struct {
        fields: fields.into_iter().collect(),
    }
}

fn descriptor(descriptor: &Descriptor<'_>) -> ProtoValue {
    let entry = |entry: &Entry<'_>| string(format!("{}={}", text(entry.key), text(entry.value)));
    let mut fields = vec![(
        "entries".to_owned(),
        list(descriptor.entries.iter().map(entry)),
    )];
    if let Some(limit) = descriptor.limit {
        fields.push(("limit".to_owned(), string(limit_text(limit))));
    }
    if let Some(hits) = descriptor.hits_addend {
        #[expect(clippy::cast_precision_loss, reason = "JSON's numbers are doubles")]
        fields.push(("hitsAddend".to_owned(), number(hits as f64)));
    }
    structure(fields)
}

/// The limit that came with the request, in protobuf's text format, which leaves out what is zero.
fn limit_text(limit: OverrideLimit) -> String {
    let mut fields = Vec::new();
    if limit.requests_per_unit > 0 {
        fields.push(format!("requests_per_unit:{}", limit.requests_per_unit));
    }
    match limit.unit {
        0 => {}
        1 => fields.push("unit:SECOND".into()),
        2 => fields.push("unit:MINUTE".into()),
        3 => fields.push("unit:HOUR".into()),
        4 => fields.push("unit:DAY".into()),
        5 => fields.push("unit:MONTH".into()),
        6 => fields.push("unit:YEAR".into()),
        // Envoy's enum of overrides knows no week.
        other => fields.push(format!("unit:{other}")),
    }
    if let Some(units) = limit.unit_multiplier {
        fields.push(format!("unit_multiplier:{{value:{units}}}"));
    }
    fields.join(" ")
}

/// The metadata of all rules that passed, first come first served; maps are merged into each
/// other, lists and scalars are not.
fn merged(answer: &Answer<'_>) -> Vec<(String, Value)> {
    let mut merged = Vec::new();
    for status in &answer.statuses {
        let Matched::Limited(rule, ..) = &status.matched else {
            continue;
        };
        if let (false, Some(Value::Map(fields))) = (status.is_over(), &rule.metadata) {
            merge(&mut merged, fields);
        }
    }
    merged
}

fn merge(into: &mut Vec<(String, Value)>, from: &[(String, Value)]) {
    for (name, value) in from {
        match into.iter_mut().find(|(present, _)| present == name) {
            None => into.push((name.clone(), value.clone())),
            Some((_, Value::Map(present))) => {
                if let Value::Map(fields) = value {
                    merge(present, fields);
                }
            }
            Some(_) => {}
        }
    }
}

fn proto(value: &Value) -> ProtoValue {
    match value {
        Value::Bool(value) => flag(*value),
        Value::List(items) => list(items.iter().map(proto)),
        Value::Map(fields) => map(fields),
        Value::Null => kind(Kind::NullValue(0)),
        Value::Number(value) => number(*value),
        Value::String(value) => string(value.clone()),
    }
}

fn map(fields: &[(String, Value)]) -> ProtoValue {
    structure(
        fields
            .iter()
            .map(|(name, value)| (name.clone(), proto(value))),
    )
}

pub(super) fn structure(fields: impl IntoIterator<Item = (String, ProtoValue)>) -> ProtoValue {
    kind(Kind::StructValue(Struct {
        fields: fields.into_iter().collect(),
    }))
}

pub(super) fn flag(value: bool) -> ProtoValue {
    kind(Kind::BoolValue(value))
}

pub(super) fn list(values: impl Iterator<Item = ProtoValue>) -> ProtoValue {
    kind(Kind::ListValue(ListValue {
        values: values.collect(),
    }))
}

pub(super) fn number(value: f64) -> ProtoValue {
    kind(Kind::NumberValue(value))
}

pub(super) fn string(value: String) -> ProtoValue {
    kind(Kind::StringValue(value))
}

fn kind(kind: Kind) -> ProtoValue {
    ProtoValue { kind: Some(kind) }
}

/// Envoy refuses a response with strings that are not UTF-8; odd bytes become U+FFFD here.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
