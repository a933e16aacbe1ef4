//! Policies from files to rules in force, and what it takes to make them again.

use std::path::Path;
use std::sync::Arc;

use tracing::Level;

use crate::admin::PolicyStatus;
use crate::clock::Clock;
use crate::config::policies::{
    self as policy_files, Change, Compiled, PolicyDefaults, Source, diff,
};
use crate::config::settings::Settings;
use crate::config::{Report, Severity};
use crate::event::Meters;
use crate::policy::{DomainSpec, Policies};
use crate::provider::files::{self, Fingerprint, PolicyFile, ReadError};
use crate::provider::watch::Watcher;

/// Why policies do not take effect.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LoadError {
    /// The files cannot be read.
    #[error(transparent)]
    Read(#[from] Arc<ReadError>),
    /// They are wrong.
    #[error("policies refused:\n{0}")]
    Refused(Report),
}

impl LoadError {
    /// How many errors there are, and where the first is: nothing of what the files hold.
    pub(super) fn place(&self) -> Option<String> {
        let Self::Refused(report) = self else {
            return None;
        };
        let mut problems = report.problems().iter();
        let first = problems.find(|problem| problem.severity == Severity::Error)?;
        Some(format!(
            "errors: {}, the first at {}:{}:{}",
            report.errors(),
            first.file,
            first.line,
            first.column
        ))
    }
}

/// What is under the policies path.
#[derive(Debug)]
pub(super) struct Found {
    files: Result<Arc<[PolicyFile]>, Arc<ReadError>>,
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
        Self {
            files: files.map(Arc::from).map_err(Arc::new),
            fingerprint,
        }
    }

    /// The same as policies with these defaults.
    pub(super) fn with(&self, defaults: PolicyDefaults) -> Result<Written, LoadError> {
        Ok(Written {
            files: self.files.clone()?,
            fingerprint: self.fingerprint,
            defaults,
        })
    }
}

/// Policies as they were written, and the settings that matter to them. All that follows from
/// that is made again when it is needed: a second copy of the rules, kept for good, would take ten
/// times the memory of the files.
#[derive(Clone, Debug)]
pub(super) struct Written {
    files: Arc<[PolicyFile]>,
    pub(super) fingerprint: Fingerprint,
    pub(super) defaults: PolicyDefaults,
}

impl Written {
    /// The same files with other defaults.
    pub(super) fn with(&self, defaults: PolicyDefaults) -> Self {
        Self {
            defaults,
            ..self.clone()
        }
    }

    /// The rules, not indexed.
    pub(super) fn compile(&self) -> Result<Compiled, Report> {
        policy_files::load(&sources(&self.files), &self.defaults)
    }

    fn is(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint && self.defaults == other.defaults
    }
}

/// Policies that may take effect.
#[derive(Debug)]
pub(super) struct LoadedPolicies {
    pub(super) policies: Policies,
    pub(super) status: PolicyStatus,
    pub(super) warnings: Report,
    pub(super) written: Written,
    pub(super) comparison: Option<Comparison>,
}

impl LoadedPolicies {
    /// Those to start with.
    pub(super) fn first(
        settings: &Settings,
        watcher: Option<&Watcher>,
        meters: &dyn Meters,
        clock: &Clock,
    ) -> Result<Self, LoadError> {
        let written = Found::read(settings, watcher).with(settings.policy_defaults())?;
        Self::new(written, &settings.policies.path, None, meters, clock)
    }

    /// Compiles and indexes what was `written` under `path`. The comparison with what there was `before`
    /// is left for later.
    pub(super) fn new(
        written: Written,
        path: &Path,
        before: Option<Arc<Written>>,
        meters: &dyn Meters,
        clock: &Clock,
    ) -> Result<Self, LoadError> {
        let compiled = written.compile().map_err(LoadError::Refused)?;
        let policies = Policies::of(&compiled.domains, meters);
        let status = PolicyStatus {
            path: path.display().to_string(),
            hash: Fingerprint::below(path, &written.files).to_string(),
            files: written.files.iter().map(|file| file.name.clone()).collect(),
            loaded_at_ms: clock.now().as_millis(),
            domains: policies.domain_count(),
            rules: policies.rule_count(),
            refused: None,
            refused_at: None,
        };
        let before = before.filter(|before| !before.is(&written));
        let after = compiled.domains;
        Ok(Self {
            policies,
            status,
            warnings: compiled.warnings,
            written,
            comparison: before.map(|before| Comparison { before, after }),
        })
    }
}

/// What it takes to say what new policies change. The old rules have to be compiled for that, which takes
/// as long as to compile the new ones: so it is done once these are in force.
#[derive(Debug)]
pub(super) struct Comparison {
    before: Arc<Written>,
    after: Vec<DomainSpec>,
}

/// What new policies change, for the log.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// The first few.
    pub(super) first: Vec<Change>,
    /// How many others there are.
    pub(super) more: usize,
}

impl Comparison {
    /// The changes; none if nobody would read them.
    pub(super) fn changes(self) -> Changes {
        if !tracing::enabled!(Level::INFO) {
            return Changes::default();
        }
        let Ok(before) = self.before.compile() else {
            return Changes::default();
        };
        let mut first = diff(&before.domains, &self.after);
        let more = first.len().saturating_sub(MOST_CHANGES);
        first.truncate(MOST_CHANGES);
        Changes { first, more }
    }
}

/// Files as `config` takes them.
pub(crate) fn sources(files: &[PolicyFile]) -> Vec<Source<'_>> {
    files
        .iter()
        .map(|PolicyFile { name, bytes }| Source { name, text: bytes })
        .collect()
}

/// Enough for the log; a generated policy may change by the thousand.
const MOST_CHANGES: usize = 50;

/// Where files are read and where they are compiled, the same is too large.
const _: () = assert!(files::MAX_FILE_BYTES == policy_files::MAX_FILE_BYTES as u64);
