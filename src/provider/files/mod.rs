//! Policy files, read whole.
//!
//! [`read`] returns every file that counts, in name order, or an error; never a part of them, and
//! never none: an empty set of policies would let everything pass. All of it was there at one
//! moment: it reads twice and starts over if anything changed, so that two halves of two versions
//! never become policies. It does not look into the files.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::walk::{MAX_ENTRIES, MAX_FILES, Tree};
use crate::pace;

/// A policy file as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyFile {
    /// Its path, as it is shown to people.
    pub name: String,
    /// What is in it.
    pub bytes: Vec<u8>,
}

/// Reads `path`: a file of any name, or a folder. Of a folder, and the folders in it, `*.yaml` and
/// `*.yml` count, in the order of their paths; names that start with a dot do not. Links are
/// followed. Blocks while it reads.
///
/// # Errors
///
/// [`ReadError`], for a missing or unreadable path, and for anything that leaves doubt which
/// policies are meant.
pub fn read(path: &Path) -> Result<Vec<PolicyFile>, ReadError> {
    for attempt in 1..=ATTEMPTS {
        match contents(path) {
            Ok(files) if files.is_empty() => return Err(ReadError::Empty(path.to_owned())),
            Ok(files) if is_still(path, &files)? => return Ok(files),
            Ok(_) => {}
            Err(error) if error.is_gone() && attempt < ATTEMPTS => {}
            Err(error) => return Err(error),
        }
    }
    Err(ReadError::Changing(path.to_owned()))
}

/// Why policies could not be read. Each says what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Files changed each time that they were read.
    #[error(
        "policies at {} change faster than they can be read; write them elsewhere and rename the \
         finished folder into place", .0.display()
    )]
    Changing(PathBuf),
    /// The folder has no policy file.
    #[error(
        "policies folder {} has no policy file (*.yaml or *.yml; names that start with a dot do \
         not count), and without rules everything would be allowed; put a policy there, or point \
         the policies path at the folder that has them", .0.display()
    )]
    Empty(PathBuf),
    /// A link leads back to a folder that it is in.
    #[error("{} is a link to a folder that contains it; remove the link", .0.display())]
    Loop(PathBuf),
    /// Nothing is there.
    #[error(
        "policies path {} does not exist; create it, or point the policies path at the file or \
         folder that has the policies", .0.display()
    )]
    Missing(PathBuf),
    /// The path is empty.
    #[error("the policies path is empty; name the file or folder that has the policies")]
    NoPath,
    /// A pipe, socket or device.
    #[error("{} is not a file or folder; remove it or rename it to end otherwise", .0.display())]
    NotAFile(PathBuf),
    /// A file is too large.
    #[error(
        "policy file {} is larger than {} MiB; is it a policy? split it, or move it elsewhere",
        .0.display(), MAX_FILE_BYTES >> 20
    )]
    TooLarge(PathBuf),
    /// There is too much to look through.
    #[error(
        "policies folder has more than {MAX_ENTRIES} entries, up to {}; point the policies path \
         at a folder that has only policies", .0.display()
    )]
    TooManyEntries(PathBuf),
    /// There are too many files.
    #[error(
        "policies folder has more than {MAX_FILES} policy files, {} is one too many; merge some, \
         or point the policies path at a folder that has only policies", .0.display()
    )]
    TooManyFiles(PathBuf),
    /// All files together are too large.
    #[error(
        "policy files are larger than {} MiB together, {} is one too many; point the policies \
         path at a folder that has only policies", MAX_TOTAL_BYTES >> 20, .0.display()
    )]
    TooMuch(PathBuf),
    /// The system refused.
    #[error("cannot read {}: {error}; {}", path.display(), advice(error))]
    Unreadable {
        /// What was to be read.
        path: PathBuf,
        /// Why not.
        #[source]
        error: io::Error,
    },
}

impl ReadError {
    /// Something was there a moment ago.
    fn is_gone(&self) -> bool {
        matches!(self, Self::Unreadable { error, .. } if error.kind() == io::ErrorKind::NotFound)
    }
}

/// Tells contents apart: of files, or of the reason why there are none. BLAKE3 over names and bytes;
/// it is shown as its first 16 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// That of what [`read`] returned.
    #[must_use]
    pub fn of(read: &Result<Vec<PolicyFile>, ReadError>) -> Self {
        let mut parts = Parts::default();
        match read {
            Ok(files) => {
                for file in files {
                    parts.add(file.name.as_bytes());
                    parts.add(&file.bytes);
                }
            }
            // No list of files has an odd number of parts.
            Err(error) => parts.add(error.to_string().as_bytes()),
        }
        parts.finish()
    }

    /// That of files by their names below `root`: the same files have the same one on every
    /// replica, wherever it keeps them.
    #[must_use]
    pub fn below(root: &Path, files: &[PolicyFile]) -> Self {
        let mut parts = Parts::default();
        for file in files {
            let name = Path::new(&file.name);
            let name = name.strip_prefix(root).unwrap_or(name);
            parts.add(name.as_os_str().as_encoded_bytes());
            parts.add(&file.bytes);
        }
        parts.finish()
    }
}

/// Texts of which none runs over into the next.
#[derive(Default)]
struct Parts(blake3::Hasher);

impl Parts {
    fn add(&mut self, bytes: &[u8]) {
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.0.update(&length.to_le_bytes());
        for piece in bytes.chunks(HASHED_AT_ONCE) {
            self.0.update(piece);
            pace::step(16);
        }
    }

    fn finish(self) -> Fingerprint {
        Fingerprint(*self.0.finalize().as_bytes())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .take(BYTES_SHOWN)
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// One pass over everything.
fn contents(path: &Path) -> Result<Vec<PolicyFile>, ReadError> {
    let mut left = MAX_TOTAL_BYTES;
    let mut files = Vec::new();
    for path in found(path)? {
        let bytes = content(&path)?;
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        left = left
            .checked_sub(length)
            .ok_or_else(|| ReadError::TooMuch(path.clone()))?;
        files.push(PolicyFile {
            name: shown(&path),
            bytes,
        });
    }
    Ok(files)
}

/// Whether a second pass sees the same. Then all of it was there at once, between the two; times
/// of change are too coarse to tell that.
fn is_still(path: &Path, files: &[PolicyFile]) -> Result<bool, ReadError> {
    let found = found(path)?;
    if found.len() != files.len() {
        return Ok(false);
    }
    for (path, file) in found.iter().zip(files) {
        let same = shown(path) == file.name
            && match is_content(path, &file.bytes) {
                Ok(same) => same,
                Err(error) if error.is_gone() => false,
                Err(error) => return Err(error),
            };
        if !same {
            return Ok(false);
        }
    }
    Ok(true)
}

fn found(path: &Path) -> Result<Vec<PathBuf>, ReadError> {
    let mut tree = Tree::default();
    tree.fill(path)?;
    Ok(tree.files.into_iter().map(|found| found.path).collect())
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// Whether a file holds these bytes.
fn is_content(path: &Path, bytes: &[u8]) -> Result<bool, ReadError> {
    let unreadable = |error| ReadError::Unreadable {
        path: path.to_owned(),
        error,
    };
    let mut rest = bytes;
    let mut pieces = Pieces::of(open(path)?);
    while let Some(piece) = pieces.read_next().map_err(unreadable)? {
        match rest.strip_prefix(piece) {
            Some(after) => rest = after,
            None => return Ok(false),
        }
    }
    Ok(rest.is_empty())
}

/// Opens a file. Something else may have taken its place since it was found: a pipe without a writer would
/// block, and is refused instead.
fn open(path: &Path) -> Result<File, ReadError> {
    let unreadable = |error| ReadError::Unreadable {
        path: path.to_owned(),
        error,
    };
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(NON_BLOCKING);
    let file = options.open(path).map_err(unreadable)?;
    if file.metadata().map_err(unreadable)?.is_file() {
        Ok(file)
    } else {
        Err(ReadError::NotAFile(path.to_owned()))
    }
}

fn content(path: &Path) -> Result<Vec<u8>, ReadError> {
    let unreadable = |error| ReadError::Unreadable {
        path: path.to_owned(),
        error,
    };
    let file = open(path)?;
    // All room at once: to move megabytes into a larger buffer takes long. The length is a hint.
    let length = file.metadata().map_or(0, |metadata| metadata.len());
    let room = usize::try_from(length.min(MAX_FILE_BYTES).saturating_add(1)).unwrap_or(0);
    let mut bytes = Vec::with_capacity(room);
    let mut pieces = Pieces::of(file);
    while let Some(piece) = pieces.read_next().map_err(unreadable)? {
        bytes.extend_from_slice(piece);
    }
    if u64::try_from(bytes.len()).is_ok_and(|length| length <= MAX_FILE_BYTES) {
        Ok(bytes)
    } else {
        Err(ReadError::TooLarge(path.to_owned()))
    }
}

/// A file, read piece by piece, with a pause point after each, up to one byte more than it may have.
struct Pieces {
    file: io::Take<File>,
    piece: Box<[u8]>,
}

impl Pieces {
    fn of(file: File) -> Self {
        Self {
            file: file.take(MAX_FILE_BYTES.saturating_add(1)),
            piece: vec![0; READ_AT_ONCE].into(),
        }
    }

    /// The next piece; none at the end of the file.
    fn read_next(&mut self) -> io::Result<Option<&[u8]>> {
        let length = loop {
            match self.file.read(&mut self.piece) {
                Ok(length) => break length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        };
        pace::step(32);
        Ok(self.piece.get(..length).filter(|piece| !piece.is_empty()))
    }
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "give the user that runs tollgate the right to read it",
        io::ErrorKind::NotFound => "it is a link to something that does not exist: repair it",
        _ => "repair it, or move it out of the policies folder",
    }
}

/// Bytes: some ten microseconds.
const HASHED_AT_ONCE: usize = 16 << 10;

/// Bytes: some twenty microseconds.
const READ_AT_ONCE: usize = 64 << 10;

/// `O_NONBLOCK`; regular files are read all the same.
const NON_BLOCKING: i32 = OFlags::NONBLOCK.bits().cast_signed();

/// Enough of a fingerprint to tell two versions apart at a glance.
const BYTES_SHOWN: usize = 8;

/// How often to start over when files change while they are read.
const ATTEMPTS: u32 = 3;

/// Most of one file: a hundred thousand rules take a sixth of it.
pub const MAX_FILE_BYTES: u64 = 64 << 20;

/// Most of all files.
const MAX_TOTAL_BYTES: u64 = 256 << 20;

#[cfg(test)]
mod tests;
