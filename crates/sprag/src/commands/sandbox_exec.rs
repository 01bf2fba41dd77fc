//! `sprag sandbox-exec`: the sandbox's launcher; started by the engine, never by people.

use std::ffi::OsString;
use std::process::ExitCode as Status;

use sprag_engine::sandbox;

/// Confine this process by a policy, then become a command
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The policy as JSON
    policy: String,
    /// The command and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

/// Does not come back when the command starts.
pub fn run(args: Args) -> Status {
    sandbox::enter(&args.policy, &args.command)
}
