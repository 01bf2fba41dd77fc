//! `sprag merge`: bring the champion home.

use serde_json::json;
use sprag_engine::runner;

use super::{TaskArgs, print_json, println_or_stop};
use crate::context::Context;
use crate::exit_code::ExitCode;
use crate::numbers;
use crate::ui::tame;

/// Bring the certified champion to your branch, as one commit with the evidence in its message
///
/// What was kept since the last audit that certified is tentative and stays behind; `sprag certify` audits it.
/// The checkout must be clean. Nothing else of yours is touched by any command of sprag.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: sprag merge --branch main")]
pub struct Args {
    #[command(flatten)]
    task: TaskArgs,
    /// Branch to bring it to [default: the one checked out]
    #[arg(long)]
    branch: Option<String>,
    /// Bring the tip, even if no audit has certified it
    #[arg(long)]
    tentative: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Does it.
pub fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    let task = context.task(&args.task.task)?;
    let setup = context.setup(task, args.task.run)?;
    let merged = runner::merge(setup, args.branch.as_deref(), args.tentative, &mut ())?;
    if args.json {
        let runner::Merged { trial, commit, branch, message } = &merged;
        print_json(&json!({ "trial": trial, "commit": commit, "branch": branch, "message": message }))?;
        return Ok(ExitCode::Success);
    }
    let commit = numbers::short_commit(&merged.commit);
    println_or_stop(&format!("merged trial {} into {} as {commit}:", merged.trial, tame(&merged.branch)))?;
    for line in merged.message.lines() {
        println_or_stop(format!("  {}", tame(line)).trim_end())?;
    }
    Ok(ExitCode::Success)
}
