//! What lies under a policies path: which files count, and which folders and links lead to them.

use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::files::ReadError;
use crate::pace;

/// What a walk has seen. After an error it holds what was seen before.
#[derive(Debug, Default)]
pub(super) struct Tree {
    /// Policy files, in name order.
    pub(super) files: Vec<Found>,
    /// The folder itself and those in it, as they were reached.
    pub(super) folders: Vec<PathBuf>,
    /// Entries that are symbolic links, whatever they point to.
    pub(super) links: Vec<PathBuf>,
    entries: usize,
}

/// A policy file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) path: PathBuf,
    pub(super) stamp: Stamp,
}

/// Tells one state of a file from the next, mostly: content can change without it, if ever so
/// quickly, and it can change without the content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Tree {
    /// Walks `path`, a policy file of any name or a folder of `*.yaml` and `*.yml` files. Names
    /// that start with a dot are left out, links are followed.
    pub(super) fn fill(&mut self, path: &Path) -> Result<(), ReadError> {
        if path.as_os_str().is_empty() {
            return Err(ReadError::NoPath);
        }
        let metadata = fs::metadata(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => ReadError::Missing(path.to_owned()),
            _ => unreadable(path, error),
        })?;
        if metadata.is_dir() {
            self.folder(path, &mut vec![identity(&metadata)])
        } else {
            self.file(path.to_owned(), &metadata)
        }
    }

    /// `above` are this folder and those that it was reached through.
    fn folder(&mut self, path: &Path, above: &mut Vec<(u64, u64)>) -> Result<(), ReadError> {
        self.folders.push(path.to_owned());
        let mut names = Vec::new();
        for entry in fs::read_dir(path).map_err(|error| unreadable(path, error))? {
            pace::step(1);
            names.push(entry.map_err(|error| unreadable(path, error))?.file_name());
        }
        self.entries = self.entries.saturating_add(names.len());
        if self.entries > MAX_ENTRIES {
            return Err(ReadError::TooManyEntries(path.to_owned()));
        }
        // Two hundred thousand names take a tenth of a second.
        names.sort_unstable_by(|a, b| {
            pace::step(1);
            a.cmp(b)
        });
        for name in names {
            if !is_hidden(&name) && name != LOST_AND_FOUND {
                self.entry(path.join(&name), above)?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, path: PathBuf, above: &mut Vec<(u64, u64)>) -> Result<(), ReadError> {
        // Two system calls.
        pace::step(8);
        if fs::symlink_metadata(&path).is_ok_and(|entry| entry.is_symlink()) {
            self.links.push(path.clone());
        }
        let metadata = match fs::metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) if is_policy(&path) => return Err(unreadable(&path, error)),
            // A link to nowhere that would not be read anyway.
            Err(_) => return Ok(()),
        };
        if metadata.is_dir() {
            let here = identity(&metadata);
            if above.contains(&here) {
                return Err(ReadError::Loop(path));
            }
            above.push(here);
            self.folder(&path, above)?;
            above.pop();
            Ok(())
        } else if is_policy(&path) {
            self.file(path, &metadata)
        } else {
            Ok(())
        }
    }

    fn file(&mut self, path: PathBuf, metadata: &Metadata) -> Result<(), ReadError> {
        if !metadata.is_file() {
            return Err(ReadError::NotAFile(path));
        }
        if self.files.len() >= MAX_FILES {
            return Err(ReadError::TooManyFiles(path));
        }
        let stamp = Stamp {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        };
        self.files.push(Found { path, stamp });
        Ok(())
    }
}

/// Whether a file of a folder counts, by its name.
pub(super) fn is_policy(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension == "yaml" || extension == "yml")
}

/// Also how Kubernetes marks the folders behind a mounted ConfigMap: following them would read
/// every file twice.
fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

fn identity(folder: &Metadata) -> (u64, u64) {
    (folder.dev(), folder.ino())
}

fn unreadable(path: &Path, error: io::Error) -> ReadError {
    ReadError::Unreadable {
        path: path.to_owned(),
        error,
    }
}

/// Most policy files: far more than anybody writes, and few enough to read in a moment.
pub(super) const MAX_FILES: usize = 10_000;

/// Most entries of all folders, files that do not count included: a path like `/` is a mistake.
pub(super) const MAX_ENTRIES: usize = 200_000;

/// The root of an ext file system has it, and only root may look inside.
const LOST_AND_FOUND: &str = "lost+found";
