//! Reloads, beside whatever else there is to do.
//!
//! One that follows a change of files works in short slices, so that no query waits for it, and takes
//! at least twice as long. One that an operator asks for (SIGHUP) is the emergency switch: it works at
//! full speed and waits for no other kind, and what that other one has read by then is not taken.

use std::sync::Arc;

use tokio::task::{JoinError, JoinHandle, spawn_blocking};
use tracing::error;

use crate::provider::in_background;

/// Runs reloads on threads that may block, one of each kind at a time. What is asked for while its kind
/// runs is remembered, once: what comes last is what counts.
pub(super) struct Reloads {
    work: Arc<dyn Fn(What) + Send + Sync>,
    paced: Option<JoinHandle<()>>,
    urgent: Option<JoinHandle<()>>,
    next: Option<What>,
}

/// What to read again; the later one includes the earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum What {
    Policies,
    Everything,
}

impl Reloads {
    pub(super) fn new(work: impl Fn(What) + Send + Sync + 'static) -> Self {
        Self {
            work: Arc::new(work),
            paced: None,
            urgent: None,
            next: None,
        }
    }

    /// Reloads as soon as may be.
    pub(super) fn want(&mut self, what: What) {
        self.next = self.next.max(Some(what));
        self.start();
    }

    /// Waits for the end of one that runs, and starts the next. Must be polled for that to
    /// happen; cancel-safe.
    pub(super) async fn ended(&mut self) {
        let ended = tokio::select! {
            ended = end(&mut self.urgent) => ended,
            ended = end(&mut self.paced) => ended,
        };
        if let Err(error) = ended {
            error!(%error, "reload failed; keeping the policies and settings in force");
        }
        self.start();
    }

    fn start(&mut self) {
        let Some(what) = self.next else { return };
        if self.urgent.is_some() || (what == What::Policies && self.paced.is_some()) {
            return;
        }
        self.next = None;
        let work = Arc::clone(&self.work);
        match what {
            What::Everything => {
                // What a paced one has read is not taken any more, so there has to be another.
                self.next = self.paced.is_some().then_some(What::Policies);
                self.urgent = Some(spawn_blocking(move || work(what)));
            }
            What::Policies => {
                let paced = move || in_background(|| work(what)).unwrap_or_default();
                self.paced = Some(spawn_blocking(paced));
            }
        }
    }
}

/// Waits for the end of a reload, if there is one.
async fn end(running: &mut Option<JoinHandle<()>>) -> Result<(), JoinError> {
    let Some(reload) = running else {
        return std::future::pending().await;
    };
    let ended = reload.await;
    *running = None;
    ended
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use parking_lot::Mutex;

    use super::*;

    #[tokio::test]
    async fn the_emergency_switch_waits_for_no_paced_reload() {
        let (go, gate) = mpsc::channel::<()>();
        let gate = Mutex::new(gate);
        let log = Arc::new(Mutex::new(Vec::new()));
        let done = Arc::clone(&log);
        let mut reloads = Reloads::new(move |what| {
            if what == What::Policies {
                gate.lock().recv().unwrap();
            }
            done.lock().push(what);
        });
        reloads.want(What::Policies);
        reloads.want(What::Everything);
        reloads.ended().await;
        assert_eq!(*log.lock(), [What::Everything], "the other one still waits");
        go.send(()).unwrap();
        reloads.ended().await;
        // What that one had read was not taken: there is another one.
        go.send(()).unwrap();
        reloads.ended().await;
        let all = [What::Everything, What::Policies, What::Policies];
        assert_eq!(*log.lock(), all);
        assert!(reloads.next.is_none() && reloads.paced.is_none() && reloads.urgent.is_none());
    }
}
