//! Metrics as OTLP's message, histograms summed over the cores.
//!
//! The SDK keeps a histogram for each core, as [`durations`](crate::telemetry::durations) asks it to,
//! and lets nobody change what it has collected. So it is turned into OTLP's message first, and
//! summed there.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{HistogramDataPoint, Metric};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::reader::MetricReader;
use opentelemetry_sdk::metrics::{InstrumentKind, ManualReader, Pipeline, Temporality};

use crate::telemetry::instruments::SHARD;

/// Collects all metrics when it is asked to; clones are the same one.
#[derive(Clone, Debug, Default)]
pub(in crate::telemetry) struct Reader(Arc<ManualReader>);

impl MetricReader for Reader {
    fn register_pipeline(&self, pipeline: Weak<Pipeline>) {
        self.0.register_pipeline(pipeline);
    }

    fn collect(&self, metrics: &mut ResourceMetrics) -> OTelSdkResult {
        self.0.collect(metrics)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn temporality(&self, kind: InstrumentKind) -> Temporality {
        self.0.temporality(kind)
    }
}

/// The message that tells all metrics as they are now. `collected` is what the last one was made
/// from, whose memory is used again.
pub(super) fn request(
    reader: &Reader,
    collected: &mut ResourceMetrics,
    resource: &Resource,
) -> Result<ExportMetricsServiceRequest, String> {
    let done = reader.collect(collected);
    done.map_err(|error| format!("cannot collect metrics: {error}"))?;
    let mut request = ExportMetricsServiceRequest::from(&*collected);
    for metrics in &mut request.resource_metrics {
        metrics.resource = Some(resource.clone());
        let scopes = metrics.scope_metrics.iter_mut();
        for metric in scopes.flat_map(|scope| &mut scope.metrics) {
            sum_shards(metric);
        }
    }
    Ok(request)
}

/// Replaces the points that differ only in their shard by their sum. Only histograms have one.
fn sum_shards(metric: &mut Metric) {
    let Some(Data::Histogram(histogram)) = &mut metric.data else {
        return;
    };
    let mut sums: Vec<HistogramDataPoint> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    for mut point in std::mem::take(&mut histogram.data_points) {
        point.attributes.retain(|attribute| attribute.key != SHARD);
        point.attributes.sort_by(|a, b| a.key.cmp(&b.key));
        let place = places.entry(format!("{:?}", point.attributes));
        let place = *place.or_insert(sums.len());
        match sums.get_mut(place) {
            Some(sum) => add(sum, &point),
            None => sums.push(point),
        }
    }
    histogram.data_points = sums;
}

/// Adds a point of the same bounds.
fn add(sum: &mut HistogramDataPoint, other: &HistogramDataPoint) {
    sum.count = sum.count.saturating_add(other.count);
    sum.sum = both(sum.sum, other.sum, |a, b| a + b);
    sum.min = both(sum.min, other.min, f64::min);
    sum.max = both(sum.max, other.max, f64::max);
    for (bucket, more) in sum.bucket_counts.iter_mut().zip(&other.bucket_counts) {
        *bucket = bucket.saturating_add(*more);
    }
}

fn both(a: Option<f64>, b: Option<f64>, join: fn(f64, f64) -> f64) -> Option<f64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(join(a, b)),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::metrics::v1::Histogram;

    use super::*;
    use crate::telemetry::otlp::{number, text};

    fn point(attributes: &[(&str, &str)], shard: usize, bounds: [u64; 2]) -> HistogramDataPoint {
        let mut attributes: Vec<_> = attributes.iter().map(|(k, v)| text(k, *v)).collect();
        attributes.insert(0, number(SHARD, shard));
        let count: u64 = bounds.iter().sum();
        HistogramDataPoint {
            attributes,
            count,
            sum: Some(2.5),
            bucket_counts: bounds.into(),
            explicit_bounds: vec![1.0],
            min: Some(f64::from(u32::try_from(shard).unwrap())),
            max: (shard > 0).then_some(9.0),
            ..HistogramDataPoint::default()
        }
    }

    #[test]
    fn points_that_differ_in_their_shard_are_one() {
        let ok = [("code", "OK"), ("a", "b")];
        let mut metric = Metric {
            data: Some(Data::Histogram(Histogram {
                data_points: vec![
                    point(&ok, 0, [1, 2]),
                    point(&[("code", "NO")], 0, [5, 0]),
                    point(&[ok[1], ok[0]], 1, [10, 20]),
                ],
                ..Histogram::default()
            })),
            ..Metric::default()
        };
        sum_shards(&mut metric);
        let Some(Data::Histogram(histogram)) = metric.data else {
            panic!("it was one");
        };
        let [sum, other] = &histogram.data_points[..] else {
            panic!("{:?}", histogram.data_points);
        };
        assert_eq!(sum.attributes, [text("a", "b"), text("code", "OK")]);
        assert_eq!((sum.count, &sum.bucket_counts[..]), (33, &[11, 22][..]));
        assert_eq!(
            (sum.sum, sum.min, sum.max),
            (Some(5.0), Some(0.0), Some(9.0))
        );
        assert_eq!(other.count, 5);
    }
}
