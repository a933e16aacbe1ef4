//! Metrics as Prometheus text.

use std::collections::HashMap;

use prometheus::proto::{Bucket, Counter, Histogram, LabelPair, Metric, MetricFamily};
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
        if family.name() == CPU {
            mend_cpu(family);
        }
    }
    let mut text = Vec::new();
    TextEncoder::new().encode(&families, &mut text)?;
    Ok(text)
}

/// The CPU time to a hundredth of a second; the crate tells whole seconds.
fn mend_cpu(family: &mut MetricFamily) {
    let Some(seconds) = cpu_seconds() else {
        return;
    };
    for metric in family.mut_metric() {
        let mut counter = Counter::default();
        counter.set_value(seconds);
        metric.set_counter(counter);
    }
}

/// What this process has used, by `/proc` (Linux counts in hundredths of a second there, whatever
/// its clock is).
fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The command's name stands in parentheses, and may hold any; user and system time are the
    // 12th and 13th word behind it.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut words = rest.split_ascii_whitespace().skip(11);
    let mut ticks = || words.next()?.parse::<u32>().ok();
    Some((f64::from(ticks()?) + f64::from(ticks()?)) / 100.0)
}

/// The metric of the process collector.
const CPU: &str = "process_cpu_seconds_total";

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
