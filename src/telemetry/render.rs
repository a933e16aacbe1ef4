//! Metrics as Prometheus text.

use std::collections::HashMap;

use prometheus::proto::{Bucket, Histogram, LabelPair, Metric, MetricFamily};
use prometheus::{Encoder, Registry, TEXT_FORMAT, TextEncoder};

use super::instruments::SHARD;

/// The content type of the text.
pub const CONTENT_TYPE: &str = TEXT_FORMAT;

/// Why there is no text: a mistake in Tollgate, since all names are its own.
#[derive(Debug, thiserror::Error)]
#[error(
    "metrics cannot be written as Prometheus text; this is a bug in Tollgate, please report it"
)]
pub struct RenderError(#[from] prometheus::Error);

/// Everything in `registry`, histograms summed over the shards.
pub(super) fn text(registry: &Registry) -> Result<Vec<u8>, RenderError> {
    let mut families = registry.gather();
    for family in &mut families {
        sum_shards(family);
    }
    let mut text = Vec::new();
    TextEncoder::new().encode(&families, &mut text)?;
    Ok(text)
}

/// Replaces the metrics that differ only in their shard by their sum. Only histograms have one.
fn sum_shards(family: &mut MetricFamily) {
    let sharded = |metric: &Metric| metric.get_label().iter().any(|l| l.name() == SHARD);
    if !family.get_metric().iter().any(sharded) {
        return;
    }
    let mut sums: Vec<Metric> = Vec::new();
    let mut places: HashMap<Vec<(String, String)>, usize> = HashMap::new();
    for mut metric in family.take_metric() {
        let mut labels = metric.take_label();
        labels.retain(|label| label.name() != SHARD);
        let place = *places.entry(named(&labels)).or_insert(sums.len());
        match sums.get_mut(place) {
            Some(sum) => {
                let both = plus(sum.get_histogram(), metric.get_histogram());
                sum.set_histogram(both);
            }
            None => {
                metric.set_label(labels);
                sums.push(metric);
            }
        }
    }
    family.set_metric(sums);
}

fn named(labels: &[LabelPair]) -> Vec<(String, String)> {
    let pair = |label: &LabelPair| (label.name().to_owned(), label.value().to_owned());
    labels.iter().map(pair).collect()
}

/// Of two histograms with the same bounds.
fn plus(a: &Histogram, b: &Histogram) -> Histogram {
    let mut sum = Histogram::default();
    sum.set_sample_count(a.get_sample_count().saturating_add(b.get_sample_count()));
    sum.set_sample_sum(a.get_sample_sum() + b.get_sample_sum());
    let buckets = a.get_bucket().iter().zip(b.get_bucket()).map(|(a, b)| {
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(a.upper_bound());
        bucket.set_cumulative_count(a.cumulative_count().saturating_add(b.cumulative_count()));
        bucket
    });
    sum.set_bucket(buckets.collect());
    sum
}
