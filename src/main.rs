//! Parses the command line, calls the library, maps the result to an exit code.

use std::process::ExitCode;

/// mimalloc: a decision allocates for its messages, and the system's allocator costs more.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    tollgate::cli::main()
}
