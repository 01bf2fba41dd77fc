//! `sprag gate`: look at the rule that decides, apart from any run.

mod replay;
mod simulate;

use crate::exit_code::ExitCode;

/// See what the gate risks and finds, and what it says about results from elsewhere
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: GateCommand,
}

#[derive(Debug, clap::Subcommand)]
enum GateCommand {
    Simulate(simulate::SimulateArgs),
    Replay(replay::ReplayArgs),
}

/// Does what was asked.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        GateCommand::Simulate(args) => simulate::run(args),
        GateCommand::Replay(args) => replay::run(args),
    }
}
