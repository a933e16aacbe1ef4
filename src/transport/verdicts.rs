//! Dynamic metadata that says how each limit ruled: for tests of exactness, and for logs that must
//! be able to say later why a request was denied.
//!
//! Costs an allocation for nearly every value, so it is off unless `response.verdicts` asks for it.
//! The counter's key is made again here, so that answers without verdicts do not carry it.

use envoy_types::pb::google::protobuf::Value as ProtoValue;

use super::metadata::{flag, list, number, string, structure};
use crate::limiter::{Answer, Ruling};
use crate::model::{Descriptor, Key, Query};
use crate::policy::{Domain, Matched, OVERRIDE};

/// The name of the list in the metadata.
pub(super) const FIELD: &str = "verdicts";

/// A struct for each descriptor of `query` that had a limit, in order. Times are in milliseconds.
pub(super) fn verdicts(query: &Query<'_>, answer: &Answer<'_>) -> ProtoValue {
    let told = query
        .descriptors
        .iter()
        .zip(&answer.statuses)
        .enumerate()
        .filter_map(|(index, (descriptor, status))| {
            let key = key(answer.domain?, descriptor, &status.matched)?;
            let rule = match status.rule() {
                Some(rule) => &*rule.path,
                None => OVERRIDE,
            };
            Some(verdict(index, rule, &key, status.ruling.as_ref()?))
        });
    list(told)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "JSON's numbers are doubles; times, windows and counts lie below 2^53"
)]
fn verdict(index: usize, rule: &str, key: &Key, ruling: &Ruling) -> ProtoValue {
    let Ruling { quota, verdict, .. } = ruling;
    let fields = [
        ("descriptor", number(index as f64)),
        ("rule", string(rule.to_owned())),
        ("key", string(key.to_string())),
        ("source", string(verdict.source.name().to_owned())),
        ("at", number(verdict.at.as_millis() as f64)),
        ("window", number(quota.window().millis() as f64)),
        ("algorithm", string(quota.algorithm().name().to_owned())),
        ("limit", number(f64::from(quota.limit()))),
        ("counted", number(verdict.counted as f64)),
        ("remaining", number(f64::from(verdict.remaining))),
        ("over", flag(verdict.over)),
        ("shadow", flag(ruling.shadow)),
    ];
    structure(fields.map(|(name, value)| (name.to_owned(), value)))
}

/// The counter that was asked.
fn key(domain: &Domain, descriptor: &Descriptor<'_>, matched: &Matched<'_>) -> Option<Key> {
    match matched {
        Matched::Limited(_, quota, path) => Some(domain.key(descriptor, path, quota)),
        Matched::Override(quota) => Some(domain.override_key(descriptor, quota)),
        Matched::Nothing(_) | Matched::Replaced(_) | Matched::Unlimited(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::sync::Arc;

    use envoy_types::pb::google::protobuf::Struct;
    use envoy_types::pb::google::protobuf::value::Kind;

    use super::*;
    use crate::clock::{Clock, Timestamp};
    use crate::event::Silence;
    use crate::model::{Entry, OverrideLimit};
    use crate::pipeline::{Caps, Pipeline};
    use crate::policy::testing::{per_minute, policies};
    use crate::store::{MemoryConfig, MemoryStore, Store};
    use crate::transport::{ResponseConfig, convert};

    const NOON: u64 = 1_795_521_600_000;

    fn pipeline() -> Pipeline {
        let mut only_told = per_minute("plan=gold", 3);
        only_told.shadow_mode = true;
        Pipeline::new(
            policies("shop", vec![per_minute("user", 1), only_told]),
            Store::Memory(Arc::new(MemoryStore::new(MemoryConfig {
                max_keys: NonZeroU32::MAX,
            }))),
            Arc::new(Silence),
            Clock::manual(Timestamp::from_millis(NOON)),
            Caps {
                descriptors: 10,
                entries: 10,
            },
        )
    }

    fn descriptor<'a>(key: &'a str, value: &'a str) -> Descriptor<'a> {
        let entry = Entry {
            key: key.as_bytes(),
            value: value.as_bytes(),
        };
        Descriptor {
            entries: [entry].into_iter().collect(),
            ..Descriptor::default()
        }
    }

    /// The dynamic metadata that `descriptors` are answered with.
    fn metadata(
        pipeline: &Pipeline,
        descriptors: &[Descriptor<'_>],
        config: ResponseConfig,
    ) -> Option<Struct> {
        let query = Query {
            domain: b"shop",
            descriptors: descriptors.iter().cloned().collect(),
            hits_addend: 0,
            trace: None,
        };
        let snapshot = pipeline.snapshot();
        let answer = snapshot.answer(&query, pipeline.store().memory()).unwrap();
        convert::response(&query, &answer, config).dynamic_metadata
    }

    const TOLD: ResponseConfig = ResponseConfig {
        headers: crate::transport::HeaderStyle::None,
        dynamic_metadata: false,
        verdicts: true,
    };

    /// Each verdict as JSON, which is easier to compare.
    fn told(metadata: &Struct) -> Vec<serde_json::Value> {
        let Some(Kind::ListValue(list)) = &metadata.fields[FIELD].kind else {
            panic!("no list: {metadata:?}");
        };
        list.values.iter().map(json).collect()
    }

    fn json(value: &ProtoValue) -> serde_json::Value {
        match value.kind.as_ref().unwrap() {
            Kind::BoolValue(flag) => (*flag).into(),
            Kind::NumberValue(number) => (*number).into(),
            Kind::StringValue(text) => text.clone().into(),
            Kind::StructValue(fields) => fields
                .fields
                .iter()
                .map(|(name, value)| (name.clone(), json(value)))
                .collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_limit_of_a_query_says_how_it_ruled() {
        let with_request = Descriptor {
            limit: Some(OverrideLimit {
                requests_per_unit: 9,
                unit: 3,
                unit_multiplier: None,
            }),
            hits_addend: Some(4),
            ..descriptor("user", "bob")
        };
        let descriptors = [
            descriptor("user", "alice"),
            descriptor("nobody", "limits"),
            with_request,
        ];
        let metadata = metadata(&pipeline(), &descriptors, TOLD).unwrap();
        assert_eq!(
            metadata.fields.len(),
            1,
            "nothing else was asked for: {metadata:?}"
        );
        assert_eq!(
            told(&metadata),
            [
                serde_json::json!({
                    "descriptor": 0.0,
                    "rule": "user",
                    "key": "{shop|user=alice}:window:60s",
                    "source": "memory",
                    "at": 1_795_521_600_000.0,
                    "window": 60_000.0,
                    "algorithm": "fixed_window",
                    "limit": 1.0,
                    "counted": 1.0,
                    "remaining": 0.0,
                    "over": false,
                    "shadow": false,
                }),
                serde_json::json!({
                    "descriptor": 2.0,
                    "rule": "(override)",
                    "key": "{shop|user=bob}:override:window:3600s",
                    "source": "memory",
                    "at": 1_795_521_600_000.0,
                    "window": 3_600_000.0,
                    "algorithm": "fixed_window",
                    "limit": 9.0,
                    "counted": 4.0,
                    "remaining": 5.0,
                    "over": false,
                    "shadow": false,
                }),
            ]
        );
    }

    #[test]
    fn a_denial_and_one_that_is_only_told_are_told_apart() {
        let pipeline = pipeline();
        let ask = |descriptor: Descriptor<'_>| {
            let descriptor = Descriptor {
                hits_addend: Some(4),
                ..descriptor
            };
            let metadata = metadata(&pipeline, &[descriptor], TOLD).unwrap();
            let verdict = told(&metadata).remove(0);
            (verdict["over"].clone(), verdict["shadow"].clone())
        };
        assert_eq!(ask(descriptor("user", "x")), (true.into(), false.into()));
        assert_eq!(ask(descriptor("plan", "gold")), (true.into(), true.into()));
    }

    #[test]
    fn verdicts_stand_beside_the_rest_only_where_they_are_asked_for() {
        let pipeline = pipeline();
        let names = |dynamic_metadata, verdicts| {
            let config = ResponseConfig {
                dynamic_metadata,
                verdicts,
                ..TOLD
            };
            let metadata = metadata(&pipeline, &[descriptor("user", "y")], config)?;
            let mut names: Vec<String> = metadata.fields.into_keys().collect();
            names.sort_unstable();
            Some(names.join(" "))
        };
        assert_eq!(names(false, false), None);
        assert_eq!(names(true, false).unwrap(), "descriptors domain");
        assert_eq!(names(true, true).unwrap(), "descriptors domain verdicts");
        assert_eq!(names(false, true).unwrap(), "verdicts");
    }

    #[test]
    fn a_query_that_nothing_limits_has_an_empty_list() {
        let metadata = metadata(&pipeline(), &[descriptor("nobody", "limits")], TOLD);
        assert!(told(&metadata.unwrap()).is_empty());
    }
}
