//! What is shipped for Prometheus and Grafana, on a real Prometheus.
//!
//! - `files`: the files are right as far as that can be told without data: promtool accepts them,
//!   the dashboard is laid out well, and nothing names a metric or a label that does not exist.
//! - `data`: a Prometheus scrapes two Tollgates under load while Redis freezes and a reload is
//!   refused; every query of every panel and rule has data then.
//!
//! `bed` starts all of that, `load` calls, `prometheus` asks, `board` and `rules` read the files,
//! `promql` reads expressions.
//!
//! `make dashboard-picture` has `data` run for two minutes with more faults, and draws the panels
//! as they were then into `docs/dashboard.png` (`picture`).

mod bed;
mod board;
mod data;
mod files;
mod load;
mod picture;
mod prometheus;
mod promql;
mod rules;

use std::path::{Path, PathBuf};

use crate::envoy::bed::ROOT;

/// A file of the repository.
fn shipped(path: &str) -> PathBuf {
    Path::new(ROOT).join(path)
}

/// Its text.
fn text(path: &str) -> String {
    std::fs::read_to_string(shipped(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}
