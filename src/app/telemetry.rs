//! Telemetry as the settings want it, and what operators change of it.

use std::sync::Arc;
use std::time::Duration;

use tracing::info;

use super::configure;
use crate::admin::LogLevel;
use crate::clock::Clock;
use crate::config::settings::Settings;
use crate::telemetry::logs::LogHandle;
use crate::telemetry::{SetUpError, Telemetry};

/// Starts it.
pub(super) fn start(settings: &Settings, clock: &Clock) -> Result<Arc<Telemetry>, SetUpError> {
    let push = settings.push();
    for (signal, target) in [
        (
            "metrics",
            push.as_ref().and_then(|push| push.metrics.as_ref()),
        ),
        ("spans", push.as_ref().and_then(|push| push.traces.as_ref())),
    ] {
        if let Some(target) = target {
            let (endpoint, protocol) = (&target.endpoint, target.protocol.name());
            info!(signal, %endpoint, protocol, "pushing to an otlp receiver");
        }
    }
    let usual_by = configure::usual_source(settings);
    Telemetry::pushing(clock.clone(), usual_by, push).map(Arc::new)
}

/// The log, as the admin listener changes it.
pub(super) fn log_level(log: Option<&LogHandle>) -> Option<Arc<dyn LogLevel>> {
    log.map(|log| Arc::new(Level(log.clone())) as Arc<dyn LogLevel>)
}

struct Level(LogHandle);

impl LogLevel for Level {
    fn level(&self) -> &'static str {
        self.0.level().name()
    }

    fn set_level(&self, name: &str) -> Result<(), String> {
        let level = name.parse().map_err(|error| format!("{error}"))?;
        self.0.set_level(level).map_err(|error| error.to_string())
    }
}

/// How long the end of the service may wait until what is still to be told has been taken.
pub(super) const LAST_WORDS: Duration = Duration::from_secs(1);
