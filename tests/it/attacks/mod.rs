//! Hostile clients against a real process, and an honest caller beside each: what the process's memory
//! grows by, and how many honest calls are refused or late.
//!
//! `make test` runs each in small ([`SMALL`]); `make attack` runs them at full size against the release
//! and prints the table.

mod grpc;
mod http;
mod raw;
mod target;

use std::path::PathBuf;
use std::sync::OnceLock;

use tokio::sync::{Mutex, MutexGuard};

/// How large the attacks are.
#[derive(Clone, Copy, Debug)]
struct Size {
    /// HTTP/2 connections of those attacks that use several.
    connections: usize,
    /// Streams of each.
    streams: u32,
    /// Bytes sent in messages that never end.
    message_bytes: usize,
    /// Calls of the honest caller.
    honest_calls: usize,
}

/// As the attacks were found.
const FULL: Size = Size {
    connections: 20,
    streams: 4000,
    message_bytes: 813_000_000,
    honest_calls: 800,
};

/// Large enough that a process without bounds takes more than is allowed.
const SMALL: Size = Size {
    connections: 12,
    streams: 4000,
    message_bytes: 200_000_000,
    honest_calls: 100,
};

impl Size {
    fn chosen() -> Self {
        if report_file().is_some() { FULL } else { SMALL }
    }
}

/// One at a time, so that each has the memory and the cores for itself.
async fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::const_new(());
    ALONE.lock().await
}

/// Where `make attack` wants the table.
#[expect(
    clippy::disallowed_methods,
    reason = "how `make attack` tells the tests"
)]
fn report_file() -> Option<PathBuf> {
    static FILE: OnceLock<Option<PathBuf>> = OnceLock::new();
    let read = || std::env::var("ATTACK_REPORT").ok().map(PathBuf::from);
    FILE.get_or_init(read).clone()
}
