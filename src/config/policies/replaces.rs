//! Names of rules and who replaces whom: what only shows when a whole domain is known.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::config::report::{Path, Pos, Problem, Report, Severity};
use crate::config::suggest::{nearest, quoted};

/// The names in a domain.
#[derive(Debug, Default)]
pub(super) struct Names<'t> {
    known: BTreeSet<&'t str>,
    replaced: Vec<Replaced<'t>>,
}

/// One entry of a `replaces`.
#[derive(Debug)]
struct Replaced<'t> {
    file: &'t Arc<str>,
    pos: Pos,
    path: String,
    /// The rule that replaces.
    by: &'t str,
    name: &'t str,
}

impl<'t> Names<'t> {
    /// Adds a rule: the path of its `rate_limit`, its name if it has one, and what it replaces.
    pub(super) fn add(
        &mut self,
        file: &'t Arc<str>,
        path: &Path<'_>,
        name: &'t str,
        replaces: &[(&'t str, Pos)],
    ) {
        if !name.is_empty() {
            self.known.insert(name);
        }
        if !replaces.is_empty() {
            let path = path.key("replaces").to_string();
            self.replaced
                .extend(replaces.iter().map(|(replaced, pos)| Replaced {
                    file,
                    pos: *pos,
                    path: path.clone(),
                    by: name,
                    name: replaced,
                }));
        }
    }

    /// Warns of names that no rule has, and of rules that replace each other.
    pub(super) fn note(&self, report: &mut Report) {
        let pairs: HashMap<(&str, &str), &Replaced<'_>> = self
            .replaced
            .iter()
            .map(|replaced| ((replaced.by, replaced.name), replaced))
            .collect();
        let mut hints = 0..MAX_HINTS;
        for replaced in &self.replaced {
            let said = if !self.known.contains(replaced.name) {
                let near = hints
                    .next()
                    .and_then(|_| nearest(replaced.name, self.known.iter().copied()));
                let hint = near.map(|near| format!("did you mean {}?", quoted(near)));
                (
                    format!("no rule of this domain is named {}", quoted(replaced.name)),
                    hint,
                )
            } else if let Some(back) = pairs.get(&(replaced.name, replaced.by)) {
                (
                    format!(
                        "{} and {} replace each other: a request that matches both is not limited",
                        quoted(replaced.by),
                        quoted(replaced.name)
                    ),
                    Some(format!(
                        "the other is in {}:{}:{}",
                        back.file, back.pos.line, back.pos.column
                    )),
                )
            } else {
                continue;
            };
            report.push(Problem {
                severity: Severity::Warning,
                file: Arc::clone(replaced.file),
                line: replaced.pos.line,
                column: replaced.pos.column,
                path: replaced.path.clone(),
                message: said.0,
                hint: said.1,
            });
        }
    }
}

/// Every hint compares a name with all others, so only the first slips get one.
const MAX_HINTS: usize = 100;
