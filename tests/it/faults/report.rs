//! What was measured, as Markdown tables: printed, and kept where `make faults` wants them.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::time::Duration;

use super::report_file;
use super::run::{Pair, Run};

/// Rows of the table that all scenarios share.
pub(super) fn pairs(name: &str, pairs: &[Pair]) {
    let mut rows = Vec::new();
    for (number, (control, faulted)) in (1..).zip(pairs) {
        let number: u32 = number;
        rows.push(row(&format!("{name}, {number} without"), control));
        rows.push(row(&format!("{name}, {number}"), faulted));
    }
    table(RUNS, &rows);
}

/// Rows under a header; it is written once.
pub(super) fn table(header: &str, rows: &[String]) {
    let columns = header.matches('|').count() - 1;
    let rule = format!("|{}", "---|".repeat(columns));
    let text = rows.join("\n");
    print(&format!("{header}\n{rule}\n{text}"));
    let Some(file) = report_file() else { return };
    let written = std::fs::read_to_string(&file).unwrap_or_default();
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(file)
        .expect("a report");
    if !written.contains(header) {
        writeln!(file, "\n{header}\n{rule}").expect("a report");
    }
    writeln!(file, "{text}").expect("a report");
}

fn row(name: &str, run: &Run) -> String {
    let [ok, limited, other] = run.answers;
    let latencies = [500, 900, 990, 999, 1_000].map(|per_mille| millis(run.quantile(per_mille)));
    let (recovery, note) = match &run.mended {
        None => ("-".to_owned(), ""),
        Some(mended) => (millis(mended.after), mended.note.as_str()),
    };
    format!(
        "| {name} | {} | {ok} | {limited} | {other} | {} | {} | {} | {} (longest {} ms) | {recovery} | {note} |",
        run.requests,
        run.counts.error,
        run.counts.allowed,
        latencies.join(" | "),
        run.stalls.count,
        millis(run.stalls.longest),
    )
}

/// Milliseconds with one decimal.
pub(super) fn millis(time: Duration) -> String {
    let tenths = (time.as_micros() + 50) / 100;
    format!("{}.{}", tenths / 10, tenths % 10)
}

const RUNS: &str = "| run | requests | 200 | 429 | other | error | failure_mode_allowed \
    | p50 ms | p90 | p99 | p99.9 | max | stalls over 5 ms | recovery ms | |";

#[expect(clippy::print_stdout, reason = "what was measured is to be read")]
fn print(text: &str) {
    println!("{text}");
}

#[test]
fn times_are_rounded_to_tenths() {
    let of = |micros| millis(Duration::from_micros(micros));
    assert_eq!([49, 50, 999, 12_345].map(of), ["0.0", "0.1", "1.0", "12.3"]);
}
