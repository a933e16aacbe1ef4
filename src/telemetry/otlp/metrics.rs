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
use opentelemetry_proto::tonic::metrics::v1::{
    self as otlp, Gauge, Histogram, HistogramDataPoint, Metric, ScopeMetrics, Sum,
};
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

/// The messages that tell all metrics as they are now, none of them too large for a receiver.
/// `collected` is what the last ones were made from, whose memory is used again.
pub(super) fn requests(
    reader: &Reader,
    collected: &mut ResourceMetrics,
    resource: &Resource,
) -> Result<Vec<ExportMetricsServiceRequest>, String> {
    let done = reader.collect(collected);
    done.map_err(|error| format!("cannot collect metrics: {error}"))?;
    let collected = ExportMetricsServiceRequest::from(&*collected);
    let mut messages = Vec::new();
    for metrics in collected.resource_metrics {
        for ScopeMetrics {
            scope,
            metrics,
            schema_url,
        } in metrics.scope_metrics
        {
            for metrics in pieces(metrics, MOST_POINTS) {
                let scope_metrics = vec![ScopeMetrics {
                    scope: scope.clone(),
                    metrics,
                    schema_url: schema_url.clone(),
                }];
                let resource_metrics = vec![otlp::ResourceMetrics {
                    resource: Some(resource.clone()),
                    scope_metrics,
                    schema_url: String::new(),
                }];
                messages.push(ExportMetricsServiceRequest { resource_metrics });
            }
        }
    }
    Ok(messages)
}

/// The metrics, summed over the cores, in pieces of so many points at most. A metric of more is in
/// several, as OTLP allows.
fn pieces(metrics: Vec<Metric>, most: usize) -> Vec<Vec<Metric>> {
    let mut pieces = Vec::new();
    let (mut piece, mut room) = (Vec::new(), most);
    for mut metric in metrics {
        sum_shards(&mut metric);
        loop {
            let rest = split_off(&mut metric, room);
            room = room.saturating_sub(points(&metric));
            piece.push(metric);
            let Some(rest) = rest else { break };
            pieces.push(std::mem::take(&mut piece));
            room = most;
            metric = rest;
        }
        if room == 0 {
            pieces.push(std::mem::take(&mut piece));
            room = most;
        }
    }
    if !piece.is_empty() {
        pieces.push(piece);
    }
    pieces
}

fn points(metric: &Metric) -> usize {
    match &metric.data {
        Some(Data::Gauge(gauge)) => gauge.data_points.len(),
        Some(Data::Histogram(histogram)) => histogram.data_points.len(),
        Some(Data::Sum(sum)) => sum.data_points.len(),
        // None of ours.
        Some(Data::ExponentialHistogram(_) | Data::Summary(_)) | None => 1,
    }
}

/// Takes the points off for which there is no room, as the same metric.
fn split_off(metric: &mut Metric, room: usize) -> Option<Metric> {
    if points(metric) <= room {
        return None;
    }
    let data = match metric.data.as_mut()? {
        Data::Gauge(gauge) => Data::Gauge(Gauge {
            data_points: gauge.data_points.split_off(room),
        }),
        Data::Histogram(histogram) => Data::Histogram(Histogram {
            data_points: histogram.data_points.split_off(room),
            ..*histogram
        }),
        Data::Sum(sum) => Data::Sum(Sum {
            data_points: sum.data_points.split_off(room),
            ..*sum
        }),
        Data::ExponentialHistogram(_) | Data::Summary(_) => return None,
    };
    Some(Metric {
        data: Some(data),
        name: metric.name.clone(),
        description: metric.description.clone(),
        unit: metric.unit.clone(),
        metadata: metric.metadata.clone(),
    })
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

/// Points in a message: with the longest names of rules they take some 1.2 MB, and collectors take 4
/// MiB unless told otherwise.
const MOST_POINTS: usize = 2_000;

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::metrics::v1::NumberDataPoint;
    use proptest::prelude::*;

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

    proptest! {
        #[test]
        fn pieces_have_all_points_in_order_and_none_too_many(
            sizes in prop::collection::vec(0_usize..20, 0..12),
            most in 1_usize..15,
        ) {
            let mut next = 0;
            let metrics = sizes.iter().enumerate().map(|(index, size)| Metric {
                name: format!("metric{index}"),
                data: Some(Data::Sum(Sum {
                    data_points: (0..*size)
                        .map(|_| {
                            next += 1;
                            NumberDataPoint { time_unix_nano: next, ..NumberDataPoint::default() }
                        })
                        .collect(),
                    is_monotonic: true,
                    aggregation_temporality: 2,
                })),
                ..Metric::default()
            });
            let metrics: Vec<Metric> = metrics.collect();
            let pieces = pieces(metrics, most);
            let mut seen = Vec::new();
            for piece in &pieces {
                prop_assert!(piece.iter().map(points).sum::<usize>() <= most);
                for metric in piece {
                    let Some(Data::Sum(sum)) = &metric.data else { panic!("it was one") };
                    prop_assert!(sum.is_monotonic && sum.aggregation_temporality == 2);
                    seen.extend(sum.data_points.iter().map(|point| point.time_unix_nano));
                }
            }
            prop_assert_eq!(seen, (1..=next).collect::<Vec<u64>>());
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
