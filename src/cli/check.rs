//! `tollgate check`: compile policies, tell every problem.

use std::path::PathBuf;
use std::process::ExitCode;

use super::policies;
use crate::config::policies::Compiled;

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
        let checked = match policies::check(&self.paths, self.merge_domains) {
            Ok(checked) => checked,
            Err(error) => {
                super::complain(error);
                return ExitCode::from(super::FAILED);
            }
        };
        let files = checked.files;
        match checked.compiled {
            Ok(Compiled { domains, warnings }) => {
                if !warnings.is_empty() {
                    super::print(format!("{warnings}\n"));
                }
                let (domains, warnings) = (domains.len(), warnings.warnings());
                super::print(format!(
                    "{files} files, {domains} domains: no errors, {warnings} warnings\n"
                ));
                ExitCode::SUCCESS
            }
            Err(report) => {
                super::print(format!("{report}\n"));
                let (errors, warnings) = (report.errors(), report.warnings());
                super::complain(format!(
                    "{errors} errors, {warnings} warnings in {files} files"
                ));
                ExitCode::from(super::FAILED)
            }
        }
    }
}
