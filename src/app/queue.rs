//! Reloads, one at a time, beside whatever else there is to do.
//!
//! One that follows a change of files goes behind the queries: where they need all cores fully, it
//! takes what they leave, and longer. One that an operator asks for (SIGHUP) is the emergency
//! switch, and does not wait for anybody.

use std::sync::Arc;

use tokio::task::{JoinHandle, spawn_blocking};
use tracing::error;

use super::reload::Reloader;
use crate::provider::patiently;

/// Runs reloads on a thread that may block. What is asked for while one runs is remembered, once:
/// what comes last is what counts.
#[derive(Debug)]
pub(super) struct Reloads {
    reloader: Arc<Reloader>,
    running: Option<JoinHandle<()>>,
    next: Option<What>,
}

/// What to read again; the later one includes the earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum What {
    Policies,
    Everything,
}

impl Reloads {
    pub(super) fn new(reloader: Arc<Reloader>) -> Self {
        Self {
            reloader,
            running: None,
            next: None,
        }
    }

    /// Reloads as soon as no other reload runs.
    pub(super) fn want(&mut self, what: What) {
        self.next = self.next.max(Some(what));
        self.start();
    }

    /// Waits for the end of the one that runs, and starts the next. Must be polled for that to
    /// happen; cancel-safe.
    pub(super) async fn ended(&mut self) {
        match &mut self.running {
            None => std::future::pending().await,
            Some(running) => {
                if let Err(error) = running.await {
                    error!(%error, "a reload ended early; what was in force stays");
                }
            }
        }
        self.running = None;
        self.start();
    }

    fn start(&mut self) {
        if self.running.is_some() {
            return;
        }
        if let Some(what) = self.next.take() {
            let reloader = Arc::clone(&self.reloader);
            self.running = Some(spawn_blocking(move || match what {
                What::Everything => reloader.everything(),
                What::Policies => patiently(|| reloader.policies()).unwrap_or_default(),
            }));
        }
    }
}
