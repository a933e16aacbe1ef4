//! `docs/dashboard.png`: more happens, for longer, and every panel is drawn as it was.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::bed::Bed;
use super::data::{RATE, refused_reload};
use super::load::Load;
use super::shipped;

/// A day in two minutes: more and less load, Redis slow, frozen and at last gone, another refused
/// reload.
pub(super) async fn more_to_see(bed: &Bed, load: &Load) {
    let server = &bed.redis.server;
    for (rate, seconds) in [(RATE, 12), (2 * RATE, 12), (3 * RATE, 12), (RATE, 8)] {
        load.set(rate);
        pass(seconds).await;
    }
    for _ in 0..6 {
        server.cli(&["CLIENT", "PAUSE", "150", "ALL"]).await;
        pass(1).await;
    }
    pass(10).await;
    server.freeze();
    pass(9).await;
    server.thaw();
    pass(8).await;
    load.set(2 * RATE);
    refused_reload(bed).await;
    pass(8).await;
    // What is broken should show in the first row: the picture is taken meanwhile.
    server.kill();
    pass(8).await;
}

async fn pass(seconds: u64) {
    sleep(Duration::from_secs(seconds)).await;
}

/// The load goes on meanwhile.
pub(super) async fn draw(bed: &Bed, begun: f64, file: PathBuf) {
    let (url, ended) = (bed.prometheus.url(), bed.prometheus.now().await);
    let mut command = Command::new(shipped("scripts/draw-dashboard"));
    command.args(["--prometheus", &url, "--start", &begun.to_string()]);
    command
        .args(["--end", &ended.to_string(), "--output"])
        .arg(file);
    let done = spawn_blocking(move || command.output()).await;
    let done = done.expect("no panic").expect("python3");
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
}

/// Where `make dashboard-picture` wants it.
#[expect(
    clippy::disallowed_methods,
    reason = "how `make dashboard-picture` tells the tests"
)]
pub(super) fn wanted() -> Option<PathBuf> {
    std::env::var("DASHBOARD_PICTURE").ok().map(PathBuf::from)
}
