//! Policies from files to rules in force.

use crate::admin::PolicyStatus;
use crate::clock::Clock;
use crate::config::Report;
use crate::config::policies::{self as policy_files, Source};
use crate::config::settings::Settings;
use crate::event::Meters;
use crate::policy::{DomainSpec, Policies};
use crate::provider::files::{self, PolicyFile, ReadError};

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

/// Reads the policies that `settings` name.
pub(super) fn load(
    settings: &Settings,
    meters: &dyn Meters,
    clock: &Clock,
) -> Result<LoadedPolicies, LoadError> {
    let files = files::read(&settings.policies.path)?;
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
        hash: hash(&files),
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

/// The same for the same files, on every replica.
fn hash(files: &[PolicyFile]) -> String {
    let mut hasher = blake3::Hasher::new();
    for PolicyFile { name, bytes } in files {
        for part in [name.as_bytes(), bytes] {
            hasher.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
            hasher.update(part);
        }
    }
    hasher
        .finalize()
        .to_hex()
        .chars()
        .take(HASH_DIGITS)
        .collect()
}

/// Enough to tell two versions apart at a glance.
const HASH_DIGITS: usize = 16;
