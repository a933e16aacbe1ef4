//! What came of a load, for people and for machines.

use std::fmt::Write;
use std::time::Duration;

use serde_json::json;

use super::super::print_error;
use super::drive::Load;
use super::tally::Tally;

/// The progress so far, a line each second.
#[derive(Debug, Default)]
pub(super) struct Progress {
    seconds: u64,
}

impl Progress {
    /// Prints a line on standard error.
    pub(super) fn print(&mut self, last: &Tally) {
        self.seconds = self.seconds.saturating_add(1);
        if self.seconds == 1 {
            print_error("  time  answered/s      over  errors     p50      p99   longest");
        }
        print_error(format_args!(
            "{:>5}s {:>11} {:>9} {:>7} {:>8} {:>8} {:>9}",
            self.seconds,
            last.answered_count(),
            last.over_limit,
            last.failed_count().saturating_add(last.unsent),
            time(last.quantile(0.5)),
            time(last.quantile(0.99)),
            time(last.longest()),
        ));
    }
}

/// The summary, for people.
pub(super) fn text(load: &Load, took: Duration, total: &Tally) -> String {
    let mut text = String::new();
    let _written = summary(&mut text, load, took, total);
    text
}

fn summary(text: &mut String, load: &Load, took: Duration, total: &Tally) -> std::fmt::Result {
    let answered = total.answered_count();
    writeln!(
        text,
        "{answered} answers in {}: {:.0} a second, {} connections on {} threads, {}",
        time(took),
        per_second(answered, took),
        load.connections,
        load.threads,
        match load.rate {
            None => format!("{} calls under way on each", load.in_flight),
            Some(rate) => format!("{rate} calls due each second"),
        }
    )?;
    writeln!(text, "  OK          {:>12}", total.ok)?;
    writeln!(text, "  OVER_LIMIT  {:>12}", total.over_limit)?;
    for (why, count) in &total.errors {
        writeln!(text, "  error       {count:>12}  {why}")?;
    }
    if total.unsent > 0 {
        writeln!(
            text,
            "  not made    {:>12}  as many calls as --connections and --in-flight allow were under way",
            total.unsent
        )?;
    }
    if answered > 0 {
        writeln!(text, "time to the answer")?;
        for (name, share) in QUANTILES {
            writeln!(text, "  {name:<10} {:>10}", time(total.quantile(share)))?;
        }
        writeln!(text, "  {:<10} {:>10}", "longest", time(total.longest()))?;
    }
    Ok(())
}

/// The summary, for machines. Times are in seconds.
pub(super) fn json(load: &Load, took: Duration, total: &Tally) -> String {
    let quantiles: serde_json::Map<String, serde_json::Value> = QUANTILES
        .iter()
        .chain(&MORE_QUANTILES)
        .map(|(name, share)| {
            let seconds = total.quantile(*share).as_secs_f64();
            ((*name).to_owned(), json!(seconds))
        })
        .collect();
    let value = json!({
        "seconds": took.as_secs_f64(),
        "connections": load.connections,
        "threads": load.threads,
        "in_flight": load.in_flight,
        "rate": load.rate,
        "calls": load.calls,
        "answers": total.answered_count(),
        "answers_per_second": per_second(total.answered_count(), took),
        "ok": total.ok,
        "over_limit": total.over_limit,
        "errors": total.errors,
        "not_made": total.unsent,
        "latency_seconds": {
            "mean": total.mean_seconds(),
            "longest": total.longest().as_secs_f64(),
            "quantiles": quantiles,
        },
    });
    format!("{value:#}\n")
}

#[expect(clippy::cast_precision_loss, reason = "a rate for people")]
fn per_second(count: u64, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64().max(1e-9)
}

/// Three digits and a unit.
fn time(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    let (value, unit) = match seconds {
        s if s < 0.001 => (s * 1e6, "us"),
        s if s < 1.0 => (s * 1e3, "ms"),
        s => (s, "s"),
    };
    match value {
        v if v < 10.0 => format!("{v:.2} {unit}"),
        v if v < 100.0 => format!("{v:.1} {unit}"),
        v => format!("{v:.0} {unit}"),
    }
}

const QUANTILES: [(&str, f64); 5] = [
    ("p50", 0.5),
    ("p90", 0.9),
    ("p99", 0.99),
    ("p99.9", 0.999),
    ("p99.99", 0.999_9),
];

/// For machines, which draw curves.
const MORE_QUANTILES: [(&str, f64); 4] =
    [("p10", 0.1), ("p25", 0.25), ("p75", 0.75), ("p95", 0.95)];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_three_digits_and_a_unit() {
        let of = |micros| time(Duration::from_micros(micros));
        assert_eq!(
            [of(7), of(84), of(950), of(1_234), of(56_700), of(2_000_000)],
            [
                "7.00 us", "84.0 us", "950 us", "1.23 ms", "56.7 ms", "2.00 s"
            ]
        );
    }
}
