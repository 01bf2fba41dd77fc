//! `sprag undo`: take the last decision back.

use serde_json::json;
use sprag_engine::runner;

use super::{TaskArgs, print_json, println_or_stop};
use crate::context::Context;
use crate::exit_code::ExitCode;

/// Take the last decision back; nothing is erased
///
/// A kept trial leaves the run's branch, which goes back to the incumbent before it. The trial stays in the
/// ledger, marked as taken back, and its commit stays reachable.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: sprag undo")]
pub struct Args {
    #[command(flatten)]
    task: TaskArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Does it.
pub fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    let task = context.task(&args.task.task)?;
    let setup = context.setup(task, args.task.run)?;
    let (trial, state) = runner::undo(setup, &mut ())?;
    if args.json {
        print_json(&json!({ "trial": trial, "incumbent": state.incumbent, "commit": state.tip }))?;
    } else {
        let title = state.trial(trial).map(|trial| trial.title()).unwrap_or_default();
        println_or_stop(&format!("took back the decision on trial {trial}: {}", crate::ui::tame(title)))?;
        println_or_stop(&format!("the incumbent is trial {}", state.incumbent.unwrap_or(0)))?;
    }
    Ok(ExitCode::Success)
}
