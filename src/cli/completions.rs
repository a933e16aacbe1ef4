//! `tollgate completions`.

use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;

/// Print a completion script for a shell.
///
/// For example: `tollgate completions bash > /etc/bash_completion.d/tollgate`.
#[derive(Debug, clap::Args)]
pub(super) struct Completions {
    /// The shell.
    shell: Shell,
}

impl Completions {
    pub(super) fn run(self) -> ExitCode {
        let mut script = Vec::new();
        clap_complete::generate(
            self.shell,
            &mut super::Cli::command(),
            "tollgate",
            &mut script,
        );
        super::print_own(String::from_utf8_lossy(&script));
        ExitCode::SUCCESS
    }
}
