//! What the fleet and operators are told of this replica, from where it is counted.

use std::sync::Arc;

use super::alerts::Alerts;
use crate::admin::top::{TopEntry, TopQuery, TopReport, TopRule};
use crate::pipeline::Pipeline;
use crate::store::{FleetSource, Keeper, Lane};
use crate::telemetry::{RuleName, Telemetry, TopAsked, TopKey};

/// Where the store gets what it tells the fleet.
pub(super) fn source(telemetry: &Arc<Telemetry>, pipeline: &Arc<Pipeline>) -> FleetSource {
    let (telemetry, pipeline) = (Arc::clone(telemetry), Arc::clone(pipeline));
    FleetSource {
        totals: Arc::new(move || telemetry.totals()),
        domains: Arc::new(move || {
            let snapshot = pipeline.snapshot();
            let names = snapshot.policies().domain_names().into_iter();
            names.map(Arc::from).collect()
        }),
    }
}

/// Tells the other replicas of this one, and its alerts to the history in the store.
pub(super) fn keep(lane: &Lane, source: FleetSource, alerts: &Alerts) -> Keeper {
    let keeper = Keeper::telling(lane, source);
    if let Some(told) = keeper.alerts() {
        alerts.tell_fleet(told);
    }
    keeper
}

/// The keys that are limited most, as the admin listener shows them.
pub(super) fn top(telemetry: &Telemetry, asked: &TopQuery) -> TopReport {
    let top = telemetry.top(TopAsked {
        domain: asked.domain.as_deref(),
        rule: asked.rule.as_deref(),
        limit: asked.limit,
    });
    let entry = |key: TopKey| TopEntry {
        domain: key.domain.to_string(),
        rule: key.rule.to_string(),
        key: key.key,
        times: key.times,
        at_least: key.at_least,
    };
    let rule = |name: RuleName| TopRule {
        domain: name.domain.to_string(),
        rule: name.rule.to_string(),
    };
    TopReport {
        overflowing: top.overflowing.into_iter().map(rule).collect(),
        seconds: top.seconds,
        keys: top.keys.into_iter().map(entry).collect(),
    }
}
