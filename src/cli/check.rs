//! `tollgate check`: compile policies, tell every problem.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::config::policies::{PolicyDefaults, Source, load};
use crate::provider::files::{self, PolicyFile};

/// Check policy files and print every problem.
///
/// One line each, as compilers print them: `file:line:column: path: message (hint)`. Exits 0 if
/// there are none (warnings aside), 1 if there are.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  tollgate check config/policies")]
pub(super) struct Check {
    /// Policy files, or folders of them
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// Let several files share a domain (the setting policies.merge_domains)
    #[arg(long)]
    merge_domains: bool,
}

impl Check {
    pub(super) fn run(self) -> ExitCode {
        let mut files: Vec<PolicyFile> = Vec::new();
        for path in &self.paths {
            match files::read(path) {
                Ok(found) => files.extend(found),
                Err(error) => {
                    super::complain(error);
                    return ExitCode::from(super::FAILED);
                }
            }
        }
        let sources: Vec<Source<'_>> = files
            .iter()
            .map(|file| Source {
                name: &file.name,
                text: &file.bytes,
            })
            .collect();
        let defaults = PolicyDefaults {
            merge_domains: self.merge_domains,
            ..PolicyDefaults::default()
        };
        match load(&sources, &defaults) {
            Ok(compiled) => {
                if !compiled.warnings.is_empty() {
                    super::print(format!("{}\n", compiled.warnings));
                }
                super::print(format!(
                    "{} files, {} domains: no errors, {} warnings\n",
                    sources.len(),
                    compiled.domains.len(),
                    compiled.warnings.warnings()
                ));
                ExitCode::SUCCESS
            }
            Err(report) => {
                super::print(format!("{report}\n"));
                super::complain(format!(
                    "{} errors, {} warnings in {} files",
                    report.errors(),
                    report.warnings(),
                    sources.len()
                ));
                ExitCode::from(super::FAILED)
            }
        }
    }
}
