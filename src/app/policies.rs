//! Policies from files to rules in force.

use crate::admin::PolicyStatus;
use crate::clock::Clock;
use crate::config::Report;
use crate::config::policies::{self as policy_files, Source};
use crate::config::settings::Settings;
use crate::event::Meters;
use crate::policy::{DomainSpec, Policies};
use crate::provider::files::{self, Fingerprint, PolicyFile, ReadError};
use crate::provider::watch::Watcher;

/// Why policies do not take effect.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The files cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// They are wrong.
    #[error("policies refused:\n{0}")]
    Refused(Report),
}

/// Policies that may take effect.
#[derive(Debug)]
pub(super) struct LoadedPolicies {
    pub(super) policies: Policies,
    pub(super) status: PolicyStatus,
    pub(super) warnings: Report,
    /// The rules as they were written, to be compared with the next ones.
    pub(super) specs: Vec<DomainSpec>,
}

/// What is under the policies path.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) files: Result<Vec<PolicyFile>, ReadError>,
    pub(super) fingerprint: Fingerprint,
}

impl Found {
    /// Reads what `settings` name, and tells the watcher, so that it knows what to compare with.
    pub(super) fn read(settings: &Settings, watcher: Option<&Watcher>) -> Self {
        let files = files::read(&settings.policies.path);
        let fingerprint = Fingerprint::of(&files);
        if let Some(watcher) = watcher {
            watcher.was_read(fingerprint);
        }
        Self { files, fingerprint }
    }
}

/// Compiles what was read by the rules of `settings`.
pub(super) fn load(
    found: Found,
    settings: &Settings,
    meters: &dyn Meters,
    clock: &Clock,
) -> Result<LoadedPolicies, LoadError> {
    let files = found.files?;
    let sources: Vec<Source<'_>> = files
        .iter()
        .map(|PolicyFile { name, bytes }| Source { name, text: bytes })
        .collect();
    let compiled =
        policy_files::load(&sources, &settings.policy_defaults()).map_err(LoadError::Refused)?;
    let specs = compiled.domains.clone();
    let policies = Policies::new(compiled.domains, meters);
    let status = PolicyStatus {
        path: settings.policies.path.display().to_string(),
        hash: found.fingerprint.to_string(),
        files: files.into_iter().map(|file| file.name).collect(),
        loaded_at_ms: clock.now().as_millis(),
        domains: policies.domain_count(),
        rules: policies.rule_count(),
        refused: None,
    };
    Ok(LoadedPolicies {
        policies,
        status,
        warnings: compiled.warnings,
        specs,
    })
}
