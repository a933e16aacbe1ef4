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

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::{Algorithm, DeniedHits, OnStoreFailure};
use crate::policy::DomainSpec;

mod compile;
mod diff;
mod fields;
mod flat;
mod grammar;
mod limit;
mod metadata;
mod node;
mod positions;
mod reader;
mod replaces;
mod rule_path;
mod schema;
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
    let mut files = Vec::with_capacity(sources.len());
    for source in sources {
        let name: Arc<str> = source.name.into();
        if let Some(raw) = parse(source.text, &mut Notes::new(&name, &mut report)) {
            files.push((name, raw));
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

fn parse<'t>(bytes: &'t [u8], notes: &mut Notes<'_>) -> Option<walk::RawMap<'t>> {
    if bytes.len() > MAX_FILE_BYTES {
        let mib = MAX_FILE_BYTES / 1024 / 1024;
        let said = format!("the file is larger than {mib} MiB");
        notes.error(Pos::default(), &Path::Root, said);
        return None;
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let valid = bytes.get(..error.valid_up_to()).unwrap_or_default();
            notes.error(end_of(valid), &Path::Root, "the file is not UTF-8");
            return None;
        }
    };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let before = notes.errors();
    match reader::read(text, notes) {
        Some(document) => walk::policy(&document, notes),
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

/// The place right after `text`.
fn end_of(text: &[u8]) -> Pos {
    let text = String::from_utf8_lossy(text);
    let last = text.rsplit('\n').next().unwrap_or_default();
    let place = |count: usize| u32::try_from(count.saturating_add(1)).unwrap_or(u32::MAX);
    Pos {
        line: place(text.bytes().filter(|b| *b == b'\n').count()),
        column: place(last.chars().count()),
    }
}
