//! Where each setting comes from: its place in the file, its variable or its flag.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::policies::positions;
use crate::config::report::{Pos, Problem, Report, Said, Severity};

/// The origin of every setting that is not at its default, by the setting's path.
#[derive(Debug, Default)]
pub(super) struct Origins(BTreeMap<String, (Arc<str>, Pos)>);

impl Origins {
    /// Those that the file called `name` writes, at the places of their values.
    pub(super) fn of_file(name: &str, text: &str) -> Self {
        let file: Arc<str> = name.into();
        let found = positions(text).into_iter();
        Self(
            found
                .map(|(path, pos)| (path, (Arc::clone(&file), pos)))
                .collect(),
        )
    }

    /// The setting at `path` comes from this variable or flag.
    pub(super) fn set(&mut self, path: String, source: &str) {
        self.0.insert(path, (source.into(), Pos::default()));
    }

    /// Notes a problem with the setting at `path`, where it was written.
    pub(super) fn note(&self, report: &mut Report, severity: Severity, path: &str, said: Said) {
        let (file, pos) = match self.0.get(path) {
            Some((file, pos)) => (Arc::clone(file), *pos),
            None => ("settings".into(), Pos::default()),
        };
        let (message, hint) = said.into_parts();
        report.push(Problem {
            severity,
            file,
            line: pos.line,
            column: pos.column,
            path: path.to_owned(),
            message,
            hint,
        });
    }
}
