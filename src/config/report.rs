//! Problems and where they are: what the operator sees when policies or settings are refused.
//!
//! A [`Report`] takes every problem of every file and prints them in the order of the files, one
//! line each: `file:line:column: path: message (hint)`. A warning says so before its path. Only
//! errors refuse.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use crate::pace;

/// Everything that was found in a set of policy files, or in the settings.
#[derive(Clone, Debug, Default)]
pub struct Report {
    problems: Vec<Problem>,
    /// Errors that no longer fitted.
    omitted_errors: usize,
    /// Warnings that no longer fitted.
    omitted_warnings: usize,
}

impl Report {
    /// The most problems that are kept. A file can hold millions, and a person reads the first few;
    /// the rest are counted.
    pub const MAX_PROBLEMS: usize = 10_000;

    /// What was kept, sorted by file, line and column.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// How many errors there are, those that were not kept included.
    #[must_use]
    pub fn errors(&self) -> usize {
        self.count(Severity::Error)
            .saturating_add(self.omitted_errors)
    }

    /// How many warnings there are, those that were not kept included.
    #[must_use]
    pub fn warnings(&self) -> usize {
        self.count(Severity::Warning)
            .saturating_add(self.omitted_warnings)
    }

    /// Whether nothing at all was found.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    fn count(&self, severity: Severity) -> usize {
        self.problems
            .iter()
            .filter(|problem| problem.severity == severity)
            .count()
    }

    pub(in crate::config) fn push(&mut self, problem: Problem) {
        if self.problems.len() < Self::MAX_PROBLEMS {
            self.problems.push(problem);
            return;
        }
        match problem.severity {
            Severity::Error => self.omitted_errors = self.omitted_errors.saturating_add(1),
            Severity::Warning => self.omitted_warnings = self.omitted_warnings.saturating_add(1),
        }
    }

    /// Puts the problems in the order of the files' names, lines and columns. The same sentence
    /// about the same place, seen through two aliases, stays once.
    pub(in crate::config) fn sort(&mut self) {
        self.problems.sort_by(|a, b| {
            pace::step(1);
            (&a.file, a.line, a.column, &a.path).cmp(&(&b.file, b.line, b.column, &b.path))
        });
        self.problems.dedup_by(|a, b| {
            pace::step(1);
            a == b
        });
    }
}

/// One line per problem, and a last one if some were left out.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in pace::each(&self.problems).enumerate() {
            if index > 0 {
                f.write_char('\n')?;
            }
            write!(f, "{problem}")?;
        }
        let omitted = self.omitted_errors.saturating_add(self.omitted_warnings);
        if omitted > 0 {
            let s = if omitted == 1 { "" } else { "s" };
            write!(f, "\nand {omitted} more problem{s}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Report {}

/// One thing that is wrong, or looks wrong, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Whether it refuses what it is about.
    pub severity: Severity,
    /// The file's name, as it was given; or an environment variable's.
    pub file: Arc<str>,
    /// The line, counted from 1; 0 if the problem is not in one place.
    pub line: u32,
    /// The column in characters, counted from 1.
    pub column: u32,
    /// Where it stands in the document: `descriptors[2].rate_limit.unit`. Empty for the whole file.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        f.write_str(": ")?;
        if self.severity == Severity::Warning {
            f.write_str("warning: ")?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

/// What a problem does to the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// It is refused.
    Error,
    /// It takes effect, but perhaps not as meant.
    Warning,
}

/// A place in a file, counted from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::config) struct Pos {
    pub(in crate::config) line: u32,
    pub(in crate::config) column: u32,
}

/// A place in a document, built on the way down and written only when there is something to say.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) enum Path<'p> {
    Root,
    Key(&'p Self, &'p str),
    Index(&'p Self, usize),
    /// As somebody else wrote it.
    Written(&'p str),
}

impl<'p> Path<'p> {
    pub(in crate::config) const fn key(&'p self, key: &'p str) -> Self {
        Path::Key(self, key)
    }

    pub(in crate::config) const fn index(&'p self, index: usize) -> Self {
        Path::Index(self, index)
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Path::Root => Ok(()),
            Path::Written(path) => f.write_str(path),
            Path::Key(parent, key) => {
                write!(f, "{parent}")?;
                if !matches!(parent, Path::Root) {
                    f.write_char('.')?;
                }
                if is_plain(key) {
                    f.write_str(key)
                } else {
                    f.write_str(&super::suggest::quoted(key))
                }
            }
            Path::Index(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

/// The problems of one file on their way into the report.
#[derive(Debug)]
pub(in crate::config) struct Notes<'r> {
    pub(in crate::config) file: Arc<str>,
    pub(in crate::config) report: &'r mut Report,
}

impl<'r> Notes<'r> {
    pub(in crate::config) fn new(file: &Arc<str>, report: &'r mut Report) -> Self {
        Self {
            file: Arc::clone(file),
            report,
        }
    }

    /// How many errors there are so far, in all files.
    pub(in crate::config) fn errors(&self) -> usize {
        self.report.errors()
    }

    pub(in crate::config) fn error(&mut self, pos: Pos, path: &Path<'_>, said: impl Into<Said>) {
        self.push(Severity::Error, pos, path, said.into());
    }

    pub(in crate::config) fn warning(&mut self, pos: Pos, path: &Path<'_>, said: impl Into<Said>) {
        self.push(Severity::Warning, pos, path, said.into());
    }

    /// Whether further problems are only counted, so that hints need not be looked for.
    pub(in crate::config) fn is_full(&self) -> bool {
        self.report.problems.len() >= Report::MAX_PROBLEMS
    }

    fn push(&mut self, severity: Severity, pos: Pos, path: &Path<'_>, said: Said) {
        pace::step(1);
        self.report.push(Problem {
            severity,
            file: Arc::clone(&self.file),
            line: pos.line,
            column: pos.column,
            path: path.to_string(),
            message: said.message,
            hint: said.hint,
        });
    }
}

/// A problem's message, with or without a hint.
#[derive(Clone, Debug)]
pub(in crate::config) struct Said {
    message: String,
    hint: Option<String>,
}

impl From<&str> for Said {
    fn from(message: &str) -> Self {
        Self::from(message.to_owned())
    }
}

impl From<String> for Said {
    fn from(message: String) -> Self {
        Self {
            message,
            hint: None,
        }
    }
}

impl Said {
    pub(in crate::config) fn with_hint(
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self {
            message: message.into(),
            hint: Some(hint.into()),
        }
    }

    pub(in crate::config) fn into_parts(self) -> (String, Option<String>) {
        (self.message, self.hint)
    }
}

fn is_plain(key: &str) -> bool {
    !key.is_empty()
        && key.len() <= 60
        && key
            .chars()
            .all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '<'))
}
