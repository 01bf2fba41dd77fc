//! The smallest launcher: what the hidden subcommand of the program does, for this crate's tests.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let policy = arguments.next().unwrap_or_default();
    let command: Vec<_> = arguments.collect();
    sprag_engine::sandbox::enter(&policy.to_string_lossy(), &command)
}
