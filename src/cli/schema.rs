//! `tollgate schema`: for editors.

use std::process::ExitCode;

/// Print the JSON schema of policy files, for editors.
///
/// For example: `tollgate schema > tollgate.schema.json`, and as the first line of a policy file
/// `# yaml-language-server: $schema=tollgate.schema.json`.
#[derive(Debug, clap::Args)]
pub(super) struct Schema {}

impl Schema {
    #[expect(clippy::unused_self, reason = "commands have one shape")]
    pub(super) fn run(self) -> ExitCode {
        super::print(format!("{:#}\n", crate::config::policies::schema()));
        ExitCode::SUCCESS
    }
}
