//! Everything that needs a running server, in one binary.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod alerts;
mod attacks;
mod bench_report;
mod build_context;
mod calls;
mod cli;
mod conformance;
mod cores;
mod counters;
mod dashboard;
mod envoy;
mod escapes;
mod explain;
mod faults;
mod fleet;
mod harness;
mod http;
mod instructions;
mod load;
mod logs;
mod metrics_doc;
mod otlp;
mod process;
mod proto;
mod protocol;
mod reactions;
mod readme;
mod redis;
mod reload;
mod serve;
mod service;
mod shutdown;
mod stress;
mod suite;
mod topology;
mod window;
mod wire;

/// Whether golden files are to be written anew instead of compared (`make golden`).
#[expect(
    clippy::disallowed_methods,
    reason = "how `make golden` tells the tests"
)]
fn update_golden() -> bool {
    std::env::var("UPDATE_GOLDEN").is_ok_and(|value| value == "1")
}
