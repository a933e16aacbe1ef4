//! What happens when settings or policies change under a running Tollgate: read, check, compare,
//! swap; or keep what is in force and say why.

use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tracing::{error, info, warn};

use super::configure;
use super::policies::{self, Found, LoadError, LoadedPolicies};
use crate::admin::Status;
use crate::config::policies::diff;
use crate::config::settings::{Loaded, SettingChange, Settings};
use crate::event::{Events, Reloaded};
use crate::pipeline::Pipeline;
use crate::policy::DomainSpec;
use crate::provider::files::Fingerprint;
use crate::provider::watch::Watcher;
use crate::telemetry::Telemetry;
use crate::telemetry::logs::LogHandle;

/// Rereads; every method may block and belongs on a thread that may.
pub(super) struct Reloader {
    pub(super) settings: Arc<ArcSwap<Settings>>,
    pub(super) reread: Box<dyn Fn() -> Result<Loaded, String> + Send + Sync>,
    pub(super) log: Option<LogHandle>,
    pub(super) telemetry: Arc<Telemetry>,
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) status: Arc<Status>,
    /// Has to know what was read, and when.
    pub(super) watcher: Option<Watcher>,
    /// What the files were when they were read last.
    pub(super) last: Mutex<Fingerprint>,
    /// The rules in force as they were written.
    pub(super) specs: Mutex<Vec<DomainSpec>>,
}

impl std::fmt::Debug for Reloader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reloader").finish_non_exhaustive()
    }
}

impl Reloader {
    /// Reads settings and policies again (SIGHUP): the emergency switch.
    pub(super) fn everything(&self) {
        match (self.reread)() {
            Ok(loaded) => self.apply(loaded),
            Err(error) => error!("the settings in force stay: {error}"),
        }
        let (found, _) = self.read();
        self.take(found);
    }

    /// Reads the policies again, since they may have changed; what was read already is left alone.
    pub(super) fn policies(&self) {
        let (found, is_new) = self.read();
        if is_new {
            self.take(found);
        }
    }

    /// What is there now, and whether it is not what was there before.
    fn read(&self) -> (Found, bool) {
        let found = Found::read(&self.settings.load(), self.watcher.as_ref());
        let now = found.fingerprint;
        let is_new = std::mem::replace(&mut *self.last.lock(), now) != now;
        (found, is_new)
    }

    /// Takes over what may change while running, and says what may not.
    fn apply(&self, loaded: Loaded) {
        if !loaded.warnings.is_empty() {
            warn!("settings have warnings:\n{}", loaded.warnings);
        }
        let changes = self.settings.load().changes(&loaded.settings);
        if !changes.needs_restart.is_empty() {
            warn!(
                "these settings need a restart: {}",
                list(&changes.needs_restart)
            );
        }
        if changes.applied.is_empty() {
            return;
        }
        let settings = self.settings.load().reloaded(&loaded.settings);
        if let Some(log) = &self.log
            && let Err(error) = log.set_level(configure::level(&settings))
        {
            warn!(%error, "the log level stays");
        }
        self.settings.store(Arc::new(settings));
        info!("settings in force anew: {}", list(&changes.applied));
    }

    /// Puts in force what was read.
    fn take(&self, found: Found) {
        let settings = self.settings.load();
        let loaded = policies::load(found, &settings, &*self.telemetry, self.pipeline.clock());
        self.telemetry.reloaded(Reloaded {
            accepted: loaded.is_ok(),
        });
        match loaded {
            Ok(loaded) => self.accept(loaded),
            Err(error) => self.refuse(&error),
        }
    }

    fn accept(&self, loaded: LoadedPolicies) {
        let LoadedPolicies {
            policies,
            status,
            warnings,
            specs,
        } = loaded;
        if !warnings.is_empty() {
            warn!("policies have warnings:\n{warnings}");
        }
        info!(
            rules = status.rules,
            domains = status.domains,
            hash = status.hash,
            "policies in force anew"
        );
        for change in diff(&self.specs.lock(), &specs).iter().take(MOST_CHANGES) {
            info!("{change}");
        }
        self.pipeline.set_policies(policies);
        self.status.accepted(status);
        *self.specs.lock() = specs;
    }

    fn refuse(&self, error: &LoadError) {
        error!("the policies in force stay: {error}");
        self.status.refused(error.to_string());
    }
}

fn list(changes: &[SettingChange]) -> String {
    let changes: Vec<String> = changes.iter().map(ToString::to_string).collect();
    changes.join(", ")
}

/// Runs work that reads files and compiles rules beside the runtime that accepts connections.
pub(super) async fn off_the_runtime(work: impl FnOnce() + Send + 'static) {
    if let Err(error) = tokio::task::spawn_blocking(work).await {
        error!(%error, "a reload ended early; what was in force stays");
    }
}

/// Enough for the log; a generated policy may change by the thousand.
const MOST_CHANGES: usize = 50;
