//! Says when policies may have changed and stand still again.
//!
//! [`Watcher::changed`] returns once for every burst of changes after which the files read
//! differently than whoever reads them last did: edits in place, files renamed over, added or removed, the folder
//! replaced, gone or back, any link on the way turned elsewhere (Kubernetes' `..data`). A touch or
//! a temporary file of an editor changes nothing and is not told. Reading a folder that is gone
//! fails, and that is a change too: whoever reads then finds out, and keeps what it has.
//!
//! The kernel's notices are the fast way; a slow poll of names, sizes and times finds what they
//! miss (network file systems) and replaces them where there are none. Nothing ends the watching:
//! what fails is logged and tried again. It does not read policies for anybody; see
//! [`files`](super::files).

mod debounce;
mod eyes;
mod plan;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};

use super::background::in_background;
use super::files::Fingerprint;
use debounce::Debounce;
use eyes::{Eyes, KERNEL, Open};

/// When to look at the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatchConfig {
    /// How long nothing must have happened before the files are looked at.
    pub debounce: Duration,
    /// How long changes may go on before they are looked at all the same.
    pub longest: Duration,
    /// How often to look for changes that nobody told.
    pub poll: Duration,
}

impl Default for WatchConfig {
    fn default() -> Self {
        Self {
            debounce: Duration::from_millis(250),
            longest: Duration::from_secs(2),
            poll: Duration::from_secs(5),
        }
    }
}

/// Watches a policies path until it is dropped.
#[derive(Debug)]
pub struct Watcher {
    changes: Arc<Notify>,
    known: Arc<Known>,
    task: JoinHandle<()>,
}

impl Watcher {
    /// Starts to watch `path`, which need not exist. What is there when this returns is what later
    /// changes are compared with: start before you read for the first time, and no change is lost.
    pub async fn start(path: PathBuf, config: WatchConfig) -> Self {
        let changes = Arc::new(Notify::new());
        let tell = Arc::clone(&changes);
        let watch = Watch::start(path, config, KERNEL).await;
        let known = Arc::clone(&watch.known);
        let task = tokio::spawn(watch.run(move |changed| {
            if changed {
                tell.notify_one();
            }
        }));
        Self {
            changes,
            known,
            task,
        }
    }

    /// Tells what was read just now, so that later looks are compared with it. Whoever reads at
    /// other times than when [`Watcher::changed`] returns must tell, or a change that is taken back
    /// between two looks stays unseen: they read it, and no look ever did.
    pub fn was_read(&self, what: Fingerprint) {
        if self.known.replace(what) {
            // What was seen last may be older than what was read, or newer.
            self.known.noise.notify_one();
        }
    }

    /// Waits until the files read differently than when this last returned, than at the start, or
    /// than [`Watcher::was_read`] told, and have been quiet. Cancel-safe.
    pub async fn changed(&self) {
        self.changes.notified().await;
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The watching itself: sleeps, and has the eyes look.
struct Watch {
    path: PathBuf,
    config: WatchConfig,
    open: Open,
    eyes: Option<Eyes>,
    known: Arc<Known>,
}

/// What is shared with those who read the files.
#[derive(Debug, Default)]
struct Known {
    /// What was seen or read last; none if looking failed.
    last: Mutex<Option<Fingerprint>>,
    /// Something may have changed.
    noise: Arc<Notify>,
}

impl Known {
    /// Takes over what was seen or read; says whether it is another than before.
    fn replace(&self, what: Fingerprint) -> bool {
        self.last.lock().replace(what) != Some(what)
    }
}

impl Watch {
    async fn start(path: PathBuf, config: WatchConfig, open: Open) -> Self {
        let mut watch = Self {
            path,
            config,
            open,
            eyes: None,
            known: Arc::default(),
        };
        // There are no queries yet that could wait for it.
        let seen = watch.with_eyes(Eyes::look).await;
        watch.note(seen);
        watch
    }

    /// Watches for good. After each look, `tell` hears whether it saw anything new.
    async fn run(mut self, tell: impl Fn(bool)) {
        let mut debounce = Debounce::new(self.config.debounce, self.config.longest);
        let poll = self.config.poll.max(Duration::from_millis(1));
        let mut poll = interval_at(Instant::now() + poll, poll);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.known.noise.notified() => debounce.noise(Instant::now()),
                _ = poll.tick() => {
                    if self.differs().await {
                        debounce.noise(Instant::now());
                    }
                }
                () = until(debounce.due()) => {
                    debounce.looked();
                    tell(self.look().await);
                }
            }
        }
    }

    /// Looks at the files; says whether they read differently than before.
    /// If looking itself failed, they may.
    async fn look(&mut self) -> bool {
        let seen = self.with_eyes(|eyes| in_background(|| eyes.look())).await;
        let changed = self.note(seen.flatten());
        tracing::debug!(changed, "policies looked at");
        changed
    }

    fn note(&self, seen: Option<Fingerprint>) -> bool {
        let Some(now) = seen else {
            *self.known.last.lock() = None;
            return true;
        };
        self.known.replace(now)
    }

    async fn differs(&mut self) -> bool {
        let differs = self.with_eyes(|eyes| in_background(|| eyes.differs()));
        differs.await.flatten().unwrap_or(true)
    }

    /// Runs `work` where it may block.
    async fn with_eyes<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Eyes) -> T + Send + 'static,
    ) -> Option<T> {
        let mut eyes = self.eyes.take().unwrap_or_else(|| {
            Eyes::new(self.path.clone(), Arc::clone(&self.known.noise), self.open)
        });
        let done = spawn_blocking(move || {
            let result = work(&mut eyes);
            (eyes, result)
        });
        match done.await {
            Ok((eyes, result)) => {
                self.eyes = Some(eyes);
                Some(result)
            }
            Err(error) => {
                tracing::error!(%error, "looking for changed policies failed; retrying");
                None
            }
        }
    }
}

async fn until(when: Option<Instant>) {
    match when {
        Some(when) => sleep_until(when).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
