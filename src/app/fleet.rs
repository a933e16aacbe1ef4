//! What the fleet is told of this replica, from where it is counted.

use std::sync::Arc;

use crate::pipeline::Pipeline;
use crate::store::FleetSource;
use crate::telemetry::Telemetry;

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
