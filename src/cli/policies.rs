//! Policies for the commands that read them without serving: as `serve` would, except that what
//! cannot be read does not hide the problems of what can.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::app::policies;
use crate::config::Report;
use crate::config::policies::{Compiled, PolicyDefaults, load};
use crate::provider::files::{self, PolicyFile, ReadError};

/// Files that were read, and what they say.
#[derive(Debug)]
pub(super) struct Checked {
    /// How many files there were.
    pub(super) files: usize,
    /// What could not be read.
    pub(super) unread: Vec<ReadError>,
    /// The rules of the others, or what is wrong with them.
    pub(super) compiled: Result<Compiled, Report>,
}

/// Reads and compiles the policies under `paths`.
pub(super) fn check(paths: &[PathBuf], defaults: &PolicyDefaults) -> Checked {
    let mut found = Found::default();
    for path in paths {
        found.add(path);
    }
    let sources = policies::sources(&found.files);
    Checked {
        files: sources.len(),
        compiled: load(&sources, defaults),
        unread: found.unread,
    }
}

#[derive(Debug, Default)]
struct Found {
    files: Vec<PolicyFile>,
    unread: Vec<ReadError>,
    /// Folders that were looked through one entry at a time, by their real paths.
    seen: BTreeSet<PathBuf>,
    /// Those that are still open, the innermost last.
    open: Vec<PathBuf>,
}

impl Found {
    fn add(&mut self, path: &Path) {
        self.take(path, files::read(path));
    }

    fn take(&mut self, path: &Path, read: Result<Vec<PolicyFile>, ReadError>) {
        match read {
            Ok(mut files) => self.files.append(&mut files),
            // One bad entry refuses the whole folder; the others are still to be looked at.
            Err(
                ReadError::Loop(_)
                | ReadError::NotAFile(_)
                | ReadError::TooLarge(_)
                | ReadError::Unreadable { .. },
            ) if path.is_dir() => self.add_folder(path),
            Err(error) => self.unread.push(error),
        }
    }

    fn add_folder(&mut self, folder: &Path) {
        let real = match fs::canonicalize(folder) {
            Ok(real) => real,
            Err(error) => return self.unread.push(unreadable(folder, error)),
        };
        if self.open.contains(&real) {
            self.unread.push(ReadError::Loop(folder.to_owned()));
        } else if self.seen.insert(real.clone()) {
            self.open.push(real);
            match names(folder) {
                Ok(names) => self.add_entries(folder, names),
                Err(error) => self.unread.push(unreadable(folder, error)),
            }
            self.open.pop();
        }
    }

    fn add_entries(&mut self, folder: &Path, names: Vec<OsString>) {
        for name in names {
            let path = folder.join(&name);
            let is_hidden = name.as_encoded_bytes().starts_with(b".");
            match fs::metadata(&path) {
                _ if is_hidden => {}
                Ok(entry) if entry.is_dir() => match files::read(&path) {
                    // Nothing in one of several folders is no mistake.
                    Err(ReadError::Empty(_)) => {}
                    read => self.take(&path, read),
                },
                Ok(_) if is_policy(&path) => self.add(&path),
                Err(error) if is_policy(&path) => self.unread.push(unreadable(&path, error)),
                Ok(_) | Err(_) => {}
            }
        }
    }
}

/// The names in a folder, in order.
fn names(folder: &Path) -> io::Result<Vec<OsString>> {
    let entries = fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.file_name()));
    let mut names: Vec<OsString> = entries.collect::<Result<_, _>>()?;
    names.sort_unstable();
    Ok(names)
}

fn unreadable(path: &Path, error: io::Error) -> ReadError {
    ReadError::Unreadable {
        path: path.to_owned(),
        error,
    }
}

fn is_policy(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension == "yaml" || extension == "yml")
}
