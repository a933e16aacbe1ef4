//! `tollgate check`: compile policies, tell every problem.

use std::path::PathBuf;
use std::process::ExitCode;

use super::count;
use super::policies::{self, Checked};
use crate::config::policies::Compiled;
use crate::config::settings::{Loaded, Overrides};

/// Check policy files, and with --config the settings, and print every problem.
///
/// One line each, as compilers print them: `file:line:column: path: message (hint)`. What the
/// settings say about rules (`defaults`, `domains`, `policies.merge_domains`) holds as it would for
/// `serve`: from the file, if one is given, and from TOLLGATE_* variables. Files that the settings
/// name (passwords, certificates, keys, the token) are read, so check where it is to be served. Exits 0
/// if there are no problems (warnings aside), 1 if there are.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    tollgate check config/policies\n  \
    tollgate check --config config/tollgate.yaml")]
pub(super) struct Check {
    /// Policy files, or folders of them; without any, those that the settings name
    #[arg(required_unless_present = "config")]
    paths: Vec<PathBuf>,
    /// The settings file that they are to be served with; it is checked too
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Let several files share a domain (the setting policies.merge_domains)
    #[arg(long)]
    merge_domains: bool,
}

impl Check {
    pub(super) fn run(self) -> ExitCode {
        let loaded = super::settings::load_to_serve(self.config.as_deref(), Overrides::default());
        let Loaded { settings, warnings } = match loaded {
            Ok(loaded) => loaded,
            Err(error) => {
                super::complain(error);
                return ExitCode::from(super::FAILED);
            }
        };
        if !warnings.is_empty() {
            super::print(format!("{warnings}\n"));
        }
        let paths = if self.paths.is_empty() {
            vec![settings.policies.path.clone()]
        } else {
            self.paths
        };
        let mut defaults = settings.policy_defaults();
        defaults.merge_domains |= self.merge_domains;
        show(policies::check(&paths, &defaults), warnings.warnings())
    }
}

fn show(checked: Checked, settings_warnings: usize) -> ExitCode {
    let (report, domains) = match checked.compiled {
        Ok(Compiled { domains, warnings }) => (warnings, domains.len()),
        Err(report) => (report, 0),
    };
    if !report.is_empty() {
        super::print(format!("{report}\n"));
    }
    for error in &checked.unread {
        super::complain(error);
    }
    let files = count(checked.files, "file");
    let errors = report.errors().saturating_add(checked.unread.len());
    let warnings = report.warnings().saturating_add(settings_warnings);
    let warnings = count(warnings, "warning");
    if errors > 0 {
        let errors = count(errors, "error");
        super::complain(format!("{errors}, {warnings} in {files}"));
        return ExitCode::from(super::FAILED);
    }
    let domains = count(domains, "domain");
    super::print(format!("{files}, {domains}: no errors, {warnings}\n"));
    ExitCode::SUCCESS
}
