//! How long `/metrics` takes when there is as much to tell as there can be: a million distinct values
//! of a rule with `detailed_metric`, and ten thousand rules.
//!
//! `cargo bench --bench scrape`
#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a measurement that cannot go on has failed, and prints what it did"
)]

use std::time::Duration;

use tollgate::clock::{Clock, Stopwatch};
use tollgate::event::{Decided, DecidedBy, Events, Meters, Outcome};
use tollgate::telemetry::Telemetry;

/// As the service.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let telemetry = Telemetry::new(Clock::system(), DecidedBy::Memory);
    let telemetry = telemetry.expect("metrics can be set up");
    scrape(&telemetry, "nothing counted yet");

    let meter = telemetry.rule("shop", "user_id");
    for value in 0..VALUES {
        let label = format!("user_id=user-{value}");
        telemetry.decided(decided(meter, Some(&label), Outcome::Allowed));
    }
    scrape(
        &telemetry,
        "1,000,000 distinct values of a rule with detailed_metric",
    );

    for rule in 0..RULES {
        let meter = telemetry.rule("shop", &format!("rule-{rule}"));
        for outcome in [Outcome::Allowed, Outcome::Denied] {
            telemetry.decided(decided(meter, None, outcome));
        }
    }
    scrape(
        &telemetry,
        "and 10,000 rules, each allowed and denied: the most there can be",
    );
}

fn decided(meter: u32, label: Option<&str>, outcome: Outcome) -> Decided<'_> {
    Decided {
        meter,
        label,
        outcome,
        by: DecidedBy::Memory,
        near_limit: 0,
        exceeded: None,
    }
}

/// Prints how much there is to read and how long it takes, the median of nine.
fn scrape(telemetry: &Telemetry, what: &str) {
    let mut text = Vec::new();
    let mut times: Vec<Duration> = (0..9)
        .map(|_| {
            let watch = Stopwatch::start();
            text = telemetry.render().expect("every name is right");
            watch.elapsed()
        })
        .collect();
    times.sort_unstable();
    let text = String::from_utf8_lossy(&text);
    let series = text.lines().filter(|line| !line.starts_with('#'));
    let overflow = text
        .lines()
        .find_map(|line| line.strip_prefix("tollgate_metric_series_overflow_total "));
    println!("{what}");
    println!(
        "  {} series, {} of them decisions; {} decisions under a coarser name; {} kB in {:?}",
        series.clone().count(),
        series
            .filter(|line| line.starts_with("tollgate_decisions_total"))
            .count(),
        overflow.unwrap_or("no"),
        text.len() / 1_000,
        times.get(times.len() / 2).copied().unwrap_or_default()
    );
}

const VALUES: usize = 1_000_000;

const RULES: usize = 10_000;
