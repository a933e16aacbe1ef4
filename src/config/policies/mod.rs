//! Policy files: text in, checked domains out, or everything that is wrong with it.
//!
//! Bytes -> saphyr-parser's events -> a tree of nodes with places (`reader`, `node`) -> maps of
//! known fields (`walk`, `fields`) -> [`DomainSpec`]s (`compile`, `limit`). Each step notes what it
//! finds and goes on, so one [`Report`] holds every problem of every file.
//!
//! Promises: no input makes it panic, and time and memory are bounded by the size of the files
//! (aliases counted as what they stand for). A policy with one error yields nothing.
//!
//! It does not open files (`provider` does) and does not index rules (`policy` does).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::{Algorithm, DeniedHits, OnStoreFailure};
use crate::policy::DomainSpec;

mod compile;
mod diff;
mod fields;
mod flat;
mod grammar;
mod input;
mod limit;
mod metadata;
mod node;
mod positions;
mod reader;
mod replaces;
mod rule_path;
mod schema;
mod text;
mod unreachable;
mod walk;

#[cfg(test)]
mod conformance_tests;
#[cfg(test)]
mod golden_tests;
#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod tests;

pub use diff::{Change, Kind as ChangeKind, diff};
pub(in crate::config) use positions::positions;
pub use schema::{policy_table, schema};

use super::Report;
use super::report::{Notes, Path, Pos};

/// The largest policy file in bytes.
pub const MAX_FILE_BYTES: usize = 64 * 1024 * 1024;

/// A policy file.
#[derive(Clone, Copy, Debug)]
pub struct Source<'t> {
    /// What to call it in a report.
    pub name: &'t str,
    /// Its bytes.
    pub text: &'t [u8],
}

/// What holds for rules that do not say otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyDefaults {
    /// What a denied request costs. `charged` is for fixed windows only; others take `free` then.
    pub denied_hits: DeniedHits,
    /// How hits are counted.
    pub algorithm: Algorithm,
    /// Percentage of denials that are enforced, 0..=100.
    pub enforce_percent: u8,
    /// Over limit is told, never enforced.
    pub shadow_mode: bool,
    /// How checks are decided without the store that all replicas share.
    pub on_store_failure: OnStoreFailure,
    /// The entry whose value keeps counters in one slot of a Redis Cluster.
    pub colocate_by: Option<Arc<[u8]>>,
    /// What single domains have instead.
    pub domains: BTreeMap<String, DomainDefaults>,
    /// Files of one domain are joined; otherwise a second one is a problem.
    pub merge_domains: bool,
}

impl Default for PolicyDefaults {
    fn default() -> Self {
        Self {
            denied_hits: DeniedHits::default(),
            algorithm: Algorithm::default(),
            enforce_percent: 100,
            shadow_mode: false,
            on_store_failure: OnStoreFailure::default(),
            colocate_by: None,
            domains: BTreeMap::new(),
            merge_domains: false,
        }
    }
}

/// What holds in one domain instead of the defaults for all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DomainDefaults {
    /// Percentage of denials that are enforced, 0..=100.
    pub enforce_percent: Option<u8>,
    /// Over limit is told, never enforced.
    pub shadow_mode: Option<bool>,
}

/// Policies that may take effect.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// The domains, in the order of the files.
    pub domains: Vec<DomainSpec>,
    /// What looks wrong but was accepted. It holds no errors.
    pub warnings: Report,
}

/// Reads policy files. Rules keep the order of `sources`, so give them in the order of their names.
/// No sources are no rules: whether that is meant is for the caller to know.
///
/// # Errors
/// If any of them has an error; the report then has the problems of all, warnings included.
pub fn load(sources: &[Source<'_>], defaults: &PolicyDefaults) -> Result<Compiled, Report> {
    let mut report = Report::default();
    let mut texts: Vec<(Arc<str>, Cow<'_, str>)> = Vec::with_capacity(sources.len());
    for source in sources {
        let name: Arc<str> = source.name.into();
        if let Some(text) = text::read(source.text, &mut Notes::new(&name, &mut report)) {
            texts.push((name, text));
        }
    }
    let mut files = Vec::with_capacity(texts.len());
    for (name, text) in &texts {
        if let Some(raw) = parse(text, &mut Notes::new(name, &mut report)) {
            files.push((Arc::clone(name), raw));
        }
    }
    let domains = compile::domains(&files, defaults, &mut report);
    report.sort();
    if report.errors() > 0 {
        return Err(report);
    }
    Ok(Compiled {
        domains,
        warnings: report,
    })
}

fn parse<'t>(text: &'t str, notes: &mut Notes<'_>) -> Option<walk::RawMap<'t>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let before = notes.errors();
    match reader::read(text, notes) {
        Some(document) => walk::policy(document, notes),
        None => {
            // Nothing in it, rather than nothing that could be read.
            if notes.errors() == before {
                let start = Pos { line: 1, column: 1 };
                notes.error(start, &Path::Root, compile::empty_domain());
            }
            None
        }
    }
}
