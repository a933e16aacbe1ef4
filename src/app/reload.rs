//! What happens when settings or policies change under a running Tollgate: read, check, compare,
//! swap; or keep what is in force and say why.
//!
//! Settings that rules are compiled with (`defaults`, `domains`) and the rules themselves change
//! together or not at all. If the files cannot be used, new settings still take effect, on the last
//! good files: they are the emergency switch, and an emergency is when files are broken.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::{Mutex, MutexGuard};
use tracing::{debug, error, info, warn};

use super::configure;
use super::policies::{Comparison, Found, LoadError, LoadedPolicies, Written};
use crate::admin::{Status, brief};
use crate::config::settings::{Loaded, SettingChange, Settings};
use crate::event::{Events, Reloaded};
use crate::pipeline::Pipeline;
use crate::policy::Policies;
use crate::provider::files::Fingerprint;
use crate::provider::watch::Watcher;
use crate::telemetry::Telemetry;
use crate::telemetry::logs::{Level, LogHandle};

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
    /// The policies in force.
    pub(super) in_force: Arc<ArcSwap<Written>>,
    /// Held while what was read takes effect.
    pub(super) turn: Mutex<Turn>,
}

/// Whose turn it is to take effect.
#[derive(Debug)]
pub(super) struct Turn {
    /// What the files were when they were read last.
    last: Fingerprint,
    /// How many emergency reloads have begun.
    number: u64,
    /// What another reload had read was not taken for that reason.
    void: bool,
}

impl Turn {
    /// Files that have been read take effect at the start.
    pub(super) const fn first(files: Fingerprint) -> Self {
        Self {
            last: files,
            number: 0,
            void: false,
        }
    }
}

impl std::fmt::Debug for Reloader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reloader").finish_non_exhaustive()
    }
}

impl Reloader {
    /// Reads settings and policies again (SIGHUP): the emergency switch.
    pub(super) fn everything(&self) {
        debug!("reading settings and policies again");
        let turn = self.begin_turn();
        match (self.reread)() {
            Ok(loaded) => self.settings_and_policies(loaded, turn),
            Err(why) => {
                error!(
                    "settings refused; keeping those in force: {}",
                    brief(&why, "/config_dump")
                );
                self.status.settings_refused(why);
                self.take(&self.read(), turn);
            }
        }
    }

    /// Reads the policies again, since they may have changed; what was read already is left alone.
    pub(super) fn policies(&self) {
        let (turn, before, void) = {
            let mut turn = self.turn.lock();
            (turn.number, turn.last, std::mem::take(&mut turn.void))
        };
        let found = self.read();
        let is_new = void || found.fingerprint != before;
        debug!(is_new, "policies read");
        if is_new {
            self.take(&found, turn);
        }
    }

    /// What others have read so far does not take effect any more: it is read again here.
    fn begin_turn(&self) -> u64 {
        let mut turn = self.turn.lock();
        turn.number = turn.number.saturating_add(1);
        turn.number
    }

    /// What is there now.
    fn read(&self) -> Found {
        let found = Found::read(&self.settings.load(), self.watcher.as_ref());
        self.turn.lock().last = found.fingerprint;
        found
    }

    /// Takes over what may change while running, and says what may not.
    fn settings_and_policies(&self, loaded: Loaded, turn: u64) {
        let Loaded { settings, warnings } = loaded;
        configure::log_warnings(&warnings);
        let old = self.settings.load_full();
        let needs_restart = old.changes(&settings).needs_restart;
        if !needs_restart.is_empty() {
            warn!(
                changes = list(&needs_restart),
                "settings changed that need a restart; keeping the old values"
            );
        }
        let mut new = old.reloaded(&settings);
        // Until all is told, whoever listened before or wants to from now on hears it.
        let level = configure::level(&new);
        self.set_level(level.max(configure::level(&old)));
        let found = self.read();
        match self.together(&new, &found, turn) {
            Ok(()) => self.status.settings_accepted(),
            Err(why) => {
                let refused = new.clone();
                new.defaults = old.defaults.clone();
                new.domains = old.domains.clone();
                self.refuse_settings(&list(&new.changes(&refused).applied), &why);
                self.take(&found, turn);
            }
        }
        self.pipeline.sample().replace(new.decision_log());
        let applied = old.changes(&new).applied;
        self.settings.store(Arc::new(new));
        if !applied.is_empty() {
            info!(changes = list(&applied), "settings reloaded");
        }
        self.set_level(level);
    }

    /// Puts what was found in force by `new` settings. If that cannot be, puts what is in force
    /// already in force by them.
    ///
    /// Errors if that cannot be either: then the settings are at fault, and nothing has changed.
    fn together(&self, new: &Settings, found: &Found, turn: u64) -> Result<(), LoadError> {
        let defaults = new.policy_defaults();
        let error = match self.load(found.with(defaults.clone())) {
            Ok(loaded) => {
                self.accept(loaded, turn);
                return Ok(());
            }
            Err(error) => error,
        };
        let in_force = self.in_force.load_full();
        if in_force.defaults != defaults {
            let mut loaded = self.load(Ok(in_force.with(defaults)))?;
            loaded.status.refused = Some(error.to_string());
            self.swap(loaded, turn);
        }
        self.refuse(&error, turn);
        Ok(())
    }

    /// Puts what was found in force by the settings in force.
    fn take(&self, found: &Found, turn: u64) {
        let defaults = self.in_force.load().defaults.clone();
        match self.load(found.with(defaults)) {
            Ok(loaded) => self.accept(loaded, turn),
            Err(error) => self.refuse(&error, turn),
        }
    }

    fn load(&self, written: Result<Written, LoadError>) -> Result<LoadedPolicies, LoadError> {
        LoadedPolicies::new(
            written?,
            &self.settings.load().policies.path,
            Some(self.in_force.load_full()),
            &*self.telemetry,
            self.pipeline.clock(),
        )
    }

    fn accept(&self, loaded: LoadedPolicies, turn: u64) {
        if self.swap(loaded, turn) {
            self.telemetry.reloaded(Reloaded { accepted: true });
        }
    }

    /// Puts policies in force, unless an emergency reload has begun since their turn. Whether it did.
    fn swap(&self, loaded: LoadedPolicies, turn: u64) -> bool {
        let LoadedPolicies {
            policies,
            status,
            warnings,
            written,
            comparison,
        } = loaded;
        let old = {
            let Some(_held) = self.in_turn(turn) else {
                return false;
            };
            let old = self.pipeline.set_policies(policies);
            self.in_force.store(Arc::new(written));
            self.status.accepted(status.clone());
            old
        };
        info!(
            rules = status.rules,
            domains = status.domains,
            hash = status.hash,
            "policies reloaded"
        );
        let changes = comparison.map(Comparison::changes).unwrap_or_default();
        for change in &changes.first {
            // It names a domain and a rule, of any length.
            info!("{}", brief(&change.to_string(), "the policy files"));
        }
        if changes.more > 0 {
            info!("and {} more changes", changes.more);
        }
        tell_warnings(&warnings.to_string());
        free_when_unused(old);
        true
    }

    /// Nobody else takes effect while that is held. None if an emergency reload has begun since: what
    /// came before it has to be read again.
    fn in_turn(&self, number: u64) -> Option<MutexGuard<'_, Turn>> {
        let mut turn = self.turn.lock();
        if turn.number == number {
            return Some(turn);
        }
        turn.void = true;
        None
    }

    /// Says why what was read is not taken, unless an emergency reload has begun since.
    fn refuse(&self, error: &LoadError, turn: u64) {
        let why = error.to_string();
        {
            let Some(_held) = self.in_turn(turn) else {
                return;
            };
            self.status.refused(why.clone(), error.place());
        }
        error!(
            "policies refused; keeping those in force: {}",
            brief(&why, "/config_dump")
        );
        self.telemetry.reloaded(Reloaded { accepted: false });
    }

    fn refuse_settings(&self, changes: &str, why: &LoadError) {
        let why = format!("{changes}: with that, the policies in force would be refused: {why}");
        error!(
            "settings refused; keeping those in force, except for the log level: {}",
            brief(&why, "/config_dump")
        );
        self.status.settings_refused(why);
    }

    fn set_level(&self, level: Level) {
        if let Some(log) = &self.log
            && let Err(error) = log.set_level(level)
        {
            warn!(%error, "cannot change the log level; keeping the old one");
        }
    }
}

/// Says what looks wrong in policies that take effect all the same.
pub(super) fn tell_warnings(warnings: &str) {
    if !warnings.is_empty() {
        warn!(
            "policies accepted with warnings:\n{}",
            brief(warnings, "`tollgate check`")
        );
    }
}

/// Drops policies here, where it may take long, once no query refers to them any more.
fn free_when_unused(old: Arc<Policies>) {
    let mut patience = 1000_u32;
    while Arc::strong_count(&old) > 1 && patience > 0 {
        std::thread::park_timeout(Duration::from_millis(1));
        patience = patience.saturating_sub(1);
    }
    drop(old);
}

fn list(changes: &[SettingChange]) -> String {
    let changes: Vec<String> = changes.iter().map(ToString::to_string).collect();
    changes.join(", ")
}
