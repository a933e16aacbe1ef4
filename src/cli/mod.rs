//! The command line. Each command is a file; this one says what there is.
//!
//! Exit codes: 0 done, 1 refused or failed, 2 the command line is wrong; `query` ends with the
//! last answer (0 OK, 3 over limit, 1 no answer).

mod check;
mod completions;
mod explain;
mod fetch;
mod healthcheck;
mod load;
mod policies;
mod query;
mod reset;
mod schema;
mod serve;
mod settings;
mod top;

use std::ffi::{OsStr, OsString};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::model::escaped;

/// A rate limit service for Envoy.
///
/// Envoy asks it, once per request, whether to let the request through; the limits are YAML files.
/// Try it: `tollgate check config/policies`, then `tollgate serve --policies config/policies`, then
/// in another terminal `tollgate query --addr 127.0.0.1:8081 demo user_id=alice --repeat 6`.
#[derive(Debug, Parser)]
#[command(name = "tollgate", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Serve),
    Check(check::Check),
    Explain(explain::Explain),
    Query(query::Query),
    Load(load::Load),
    Reset(reset::Reset),
    Schema(schema::Schema),
    Top(top::Top),
    Healthcheck(healthcheck::Healthcheck),
    Completions(completions::Completions),
}

/// Runs the command that the process was started with.
#[must_use]
pub fn main() -> ExitCode {
    let command = match parse() {
        Ok(cli) => cli.command,
        Err(code) => return code,
    };
    match command {
        Command::Serve(command) => command.run(),
        Command::Check(command) => command.run(),
        Command::Explain(command) => command.run(),
        Command::Query(command) => command.run(),
        Command::Load(command) => command.run(),
        Command::Reset(command) => command.run(),
        Command::Schema(command) => command.run(),
        Command::Top(command) => command.run(),
        Command::Healthcheck(command) => command.run(),
        Command::Completions(command) => command.run(),
    }
}

/// Reads the command line. clap repeats what it does not understand, so a command line that holds
/// control characters is passed to clap with these escaped.
fn parse() -> Result<Cli, ExitCode> {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let error = match Cli::try_parse_from(&arguments) {
        Ok(cli) => return Ok(cli),
        Err(error) => error,
    };
    let shown = arguments.iter().map(|argument| {
        let argument = argument.to_string_lossy();
        escaped(&argument).into_owned()
    });
    let shown: Vec<String> = shown.collect();
    let is_plain = arguments
        .iter()
        .zip(&shown)
        .all(|(given, shown)| given == OsStr::new(shown));
    if is_plain {
        // In colour, if that can be shown. Help and the version are such errors too.
        error.exit();
    }
    let error = Cli::try_parse_from(shown).err().unwrap_or(error);
    let code = u8::try_from(error.exit_code()).unwrap_or(FAILED);
    let text = error.render().to_string();
    match error.use_stderr() {
        true => print_error(text.trim_end()),
        false => print(text),
    }
    Err(ExitCode::from(code))
}

/// Tells the person at the terminal what went wrong.
fn complain(what: impl std::fmt::Display) {
    print_error(format_args!("tollgate: {what}"));
}

/// A line of several for people, beside a command's result.
#[expect(
    clippy::print_stderr,
    reason = "a command's error goes to its terminal"
)]
fn print_error(what: impl std::fmt::Display) {
    eprintln!("{}", escaped(&what.to_string()));
}

/// A command's result. It may hold text from outside, so control characters but line breaks are
/// escaped.
fn print(what: impl std::fmt::Display) {
    print_own(escaped(&what.to_string()));
}

/// A command's result that holds nothing from outside, as it is.
fn print_own(what: impl std::fmt::Display) {
    use std::io::Write;
    // A closed pipe (`| head`) is not an error worth a panic.
    let _closed = write!(std::io::stdout(), "{what}");
}

/// `1 file`, `2 files`.
fn count(many: usize, what: &str) -> String {
    let s = if many == 1 { "" } else { "s" };
    format!("{many} {what}{s}")
}

/// A runtime for a command that asks a server, or is one. What still blocks in the end (a file of a
/// file system that is gone) is not waited for.
fn block_on<F: Future>(future: F) -> std::io::Result<F::Output> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let output = runtime.block_on(future);
    runtime.shutdown_background();
    Ok(output)
}

/// The command did not do what was asked.
const FAILED: u8 = 1;
