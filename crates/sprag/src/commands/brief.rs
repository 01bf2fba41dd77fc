//! `sprag brief [N]`: what the proposer of a trial was told.

use anyhow::Context as _;
use serde_json::json;
use sprag_engine::record::TrialId;
use sprag_engine::runner::Layout;

use super::{Recorded, TaskArgs, print_json, println_or_stop, show};
use crate::context::Context;
use crate::error::Failure;
use crate::exit_code::ExitCode;

/// Show what the proposer of a trial was told
///
/// The brief is kept as it was given: the incumbent, what was kept and what failed, near misses, open ideas, the
/// note of `sprag steer`, and your program.md. Without a number: the last one that was given.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: sprag brief 12\n         sprag brief --json | jq -r .text")]
pub struct Args {
    /// Number of the trial
    #[arg(value_name = "N")]
    trial: Option<TrialId>,
    #[command(flatten)]
    task: TaskArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Prints it.
pub fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    let Recorded { task, state, page } = Recorded::load(context, &args.task)?;
    let briefed = || state.trials.iter().rev().find(|trial| trial.brief.is_some());
    let trial = match args.trial {
        Some(id) => state.trial(id).ok_or_else(|| show::no_trial(id, &page))?,
        None => briefed().ok_or_else(|| {
            Failure::new("no proposer of this run was given a brief")
                .hint("`search` and `patches` need none; agents and commands are given one")
        })?,
    };
    let Some(sha256) = &trial.brief else {
        let failure =
            Failure::new(format!("trial {} was proposed without a brief, by {}", trial.id, trial.proposer));
        return Err(failure
            .hint("`search` and `patches` need none; agents and commands are given one")
            .into());
    };
    let path = Layout::of(&task.dir).brief_of(&page.run, trial.id);
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    if args.json {
        let proposer = &trial.proposer;
        print_json(
            &json!({ "run": page.run, "trial": trial.id, "proposer": proposer, "sha256": sha256, "text": text }),
        )?;
    } else {
        println_or_stop(text.trim_end())?;
    }
    Ok(ExitCode::Success)
}
