//! `sprag gate`: look at the rule that decides, apart from any run.

mod replay;

use crate::exit_code::ExitCode;

/// See what the gate's statistics say about results from elsewhere
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: GateCommand,
}

#[derive(Debug, clap::Subcommand)]
enum GateCommand {
    Replay(replay::ReplayArgs),
}

/// Does what was asked.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        GateCommand::Replay(args) => replay::run(args),
    }
}
