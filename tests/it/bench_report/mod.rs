//! What `scripts/bench` makes of results that were saved: tables, verdicts, pictures. Nothing is
//! measured; the figures in `results.json` are made up so that every verdict occurs.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

const RESULTS: &str = "tests/it/bench_report/results.json";

/// Runs the script on saved results. Its pictures go to the folder.
fn report(results: &Path, out: &Path) -> Output {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new("python3");
    command.arg(root.join("scripts/bench")).arg("--report");
    command.arg(results).arg("--out").arg(out);
    command.current_dir(root).output().expect("python3")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn every_budget_is_told_with_its_verdict() {
    let folder = tempfile::tempdir().unwrap();
    let done = report(Path::new(RESULTS), folder.path());
    let told = text(&done.stdout);
    assert_eq!(text(&done.stderr), "");
    for line in [
        "| memory: CPU for each decision, x noop | 1.08 ± 0.02 | 1.1 | met |",
        "| Redis: CPU for each decision, x noop | 1.55 ± 0.1 | 1.5 | within the noise |",
        "| Redis: Redis' own CPU, x noop's | 0.9 ± 0.02 | 0.8 | NOT MET |",
        "| Redis: script calls for each decision | 0.016 ± 0.001 | 0.05 | met |",
        "| memory: p50 with one call in flight, x noop | 1.05 ± 0.02 | 1.15 | met |",
        "| Redis: p50 with one call in flight, x noop | 2.3 ± 0.02 | 2.2 | NOT MET |",
        "| 100,000 rules: CPU of a whole call, x 10 rules | 1.02 ± 0.026 | 1.5 | met |",
        "| 100,000 rules: instructions of a match, x 10 rules (make count-instructions) | 1.01 | 1.5 | met |",
        "| 100,000 rules: start until ready | 0.3 ± 0.05 s | 1 s | met |",
        "| memory: bytes for each key, fixed_window | 82.3 B | 120 B | met |",
        "| memory: longest pause of a sweep (sliding_log) | 1.04 ± 0.06 ms | 1 ms | within the noise |",
        "| 100,000 rules: p99 during a reload, x control | 1.4 ± 0.1 | 1.5 | met |",
        "| 100,000 rules: a changed file in force, at the latest | 1.8 s | 5 s | met |",
        "| 100,000 rules, all cores busy: a changed file in force, at the latest | 5.5 s | 5 s | NOT MET |",
        "| 10,000,000 distinct keys: resident memory, x the ceiling | 1.02 | 1 | NOT MET |",
        "| 10,000,000 distinct keys: a limited key let through, of 9 times | 1 | 0 | NOT MET |",
        "| 10,000,000 distinct keys: p99 of other keys, x control | 1.05 ± 0.06 | 1.5 | met |",
        "NOT MEASURED: flood of distinct keys: part 2 of 5: calls came to nothing",
    ] {
        assert!(told.lines().any(|told| told == line), "{line}\n{told}");
    }
    // Something was not measured.
    assert_eq!(done.status.code(), Some(1));
    let written = std::fs::read_to_string(folder.path().join("bench.md")).unwrap();
    assert_eq!(written, told);
}

#[test]
fn each_figure_stands_beside_what_the_noop_service_takes() {
    let folder = tempfile::tempdir().unwrap();
    let done = report(Path::new(RESULTS), folder.path());
    let told = text(&done.stdout);
    for part in [
        "| 1 call in flight | noop | 5.00 |",
        "|  | redis | 7.75 (x 1.55 ± 0.10) | 4.50 (x 0.90 ± 0.02) |",
        "p50 24 us (x 0.48 of noop's call)",
        "| 1 | 0.82 + 0.00 | 100% + 0% |",
    ] {
        assert!(told.contains(part), "{part}\n{told}");
    }
}

#[test]
fn the_curves_have_a_line_for_each_server() {
    let folder = tempfile::tempdir().unwrap();
    report(Path::new(RESULTS), folder.path());
    let picture = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    // Two loads with three servers; two panels with three servers, and Redis itself in one.
    for (name, lines) in [("latency.svg", 6), ("cost.svg", 7)] {
        let svg = picture(name);
        assert_eq!(svg.matches("<polyline").count(), lines, "{name}");
        assert!(svg.ends_with("</svg>\n") && !svg.contains("nan"), "{name}");
    }
}

#[test]
fn parts_that_were_not_measured_are_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let results = part(folder.path(), &["machine", "pairs", "seconds", "store"]);
    let done = report(&results, folder.path());
    let told = text(&done.stdout);
    assert_eq!((done.status.code(), text(&done.stderr)), (Some(0), ""));
    assert!(told.contains("bytes for each key"), "{told}");
    assert!(
        !told.contains("CPU") && !told.contains("NOT MEASURED"),
        "{told}"
    );
    assert!(!folder.path().join("latency.svg").exists());
}

#[test]
fn a_file_that_holds_no_results_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let done = report(&folder.path().join("none.json"), folder.path());
    assert_eq!(done.status.code(), Some(1));
    let told = text(&done.stderr);
    assert!(
        told.starts_with("scripts/bench: ") && told.contains("none.json"),
        "{told}"
    );
}

/// The results with these parts only.
fn part(folder: &Path, keep: &[&str]) -> PathBuf {
    let whole = Path::new(env!("CARGO_MANIFEST_DIR")).join(RESULTS);
    let mut results: Value = serde_json::from_slice(&std::fs::read(whole).unwrap()).unwrap();
    let parts = results.as_object_mut().unwrap();
    parts.retain(|name, _| keep.contains(&name.as_str()));
    parts.insert("failed".to_owned(), serde_json::json!({}));
    let file = folder.join("part.json");
    std::fs::write(&file, results.to_string()).unwrap();
    file
}
