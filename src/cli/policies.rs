//! Policies for the commands that read them without serving.

use std::path::PathBuf;

use crate::config::Report;
use crate::config::policies::{Compiled, PolicyDefaults, Source, load};
use crate::provider::files::{self, PolicyFile, ReadError};

/// Files that were read, and what they say.
#[derive(Debug)]
pub(super) struct Checked {
    /// How many files there were.
    pub(super) files: usize,
    /// Their rules, or what is wrong with them.
    pub(super) compiled: Result<Compiled, Report>,
}

/// Reads and compiles the policies under `paths` with the defaults of an empty settings file.
pub(super) fn check(paths: &[PathBuf], merge_domains: bool) -> Result<Checked, ReadError> {
    let mut found: Vec<PolicyFile> = Vec::new();
    for path in paths {
        found.extend(files::read(path)?);
    }
    let sources: Vec<Source<'_>> = found
        .iter()
        .map(|file| Source {
            name: &file.name,
            text: &file.bytes,
        })
        .collect();
    let defaults = PolicyDefaults {
        merge_domains,
        ..PolicyDefaults::default()
    };
    Ok(Checked {
        files: sources.len(),
        compiled: load(&sources, &defaults),
    })
}
