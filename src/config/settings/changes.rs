//! What may change while the service runs.

use std::collections::BTreeSet;
use std::fmt;

use super::{Alerts, Settings, table};

impl Settings {
    /// What `new` changes, for a reload: `defaults`, `domains`, the log level and `alerts`, save
    /// for who is told, take effect at once; for the rest a restart is needed.
    #[must_use]
    pub fn changes(&self, new: &Self) -> Changes {
        let passwords = self.store.redis.other_passwords(&new.store.redis);
        let (old, mut new) = (table::leaves(self), table::leaves(new));
        for path in passwords {
            if let Some(shown) = new.get_mut(path) {
                shown.push_str(" (another password)");
            }
        }
        let paths: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        let changed = paths
            .into_iter()
            .filter(|path| old.get(*path) != new.get(*path));
        let mut changes = Changes::default();
        for path in changed {
            let change = SettingChange {
                path: path.clone(),
                old: old.get(path).filter(|text| !text.is_empty()).cloned(),
                new: new.get(path).filter(|text| !text.is_empty()).cloned(),
            };
            if applies_at_once(path) {
                changes.applied.push(change);
            } else {
                changes.needs_restart.push(change);
            }
        }
        changes
    }

    /// These settings with those of `new` that take effect at once.
    #[must_use]
    pub fn reloaded(&self, new: &Self) -> Self {
        let mut settings = self.clone();
        settings.defaults = new.defaults.clone();
        settings.domains = new.domains.clone();
        settings.telemetry.log.level = new.telemetry.log.level;
        settings.alerts = Alerts {
            alertmanager_url: settings.alerts.alertmanager_url,
            ..new.alerts.clone()
        };
        settings
    }
}

/// The differences between two settings, in the order of their paths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// What takes effect at once.
    pub applied: Vec<SettingChange>,
    /// What does not before a restart.
    pub needs_restart: Vec<SettingChange>,
}

/// One setting that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingChange {
    /// The setting.
    pub path: String,
    /// Its value, if it had one.
    pub old: Option<String>,
    /// Its new value, if it has one.
    pub new: Option<String>,
}

/// `telemetry.log.level: info -> debug`
impl fmt::Display for SettingChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "unset".to_owned());
        write!(
            f,
            "{}: {} -> {}",
            self.path,
            shown(&self.old),
            shown(&self.new)
        )
    }
}

fn applies_at_once(path: &str) -> bool {
    let alerts = path.starts_with("alerts.") && path != "alerts.alertmanager_url";
    alerts
        || path.starts_with("defaults.")
        || path.starts_with("domains.")
        || path == "telemetry.log.level"
}
