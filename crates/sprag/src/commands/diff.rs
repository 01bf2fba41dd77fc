//! `sprag diff [N]`: what a trial changed.

use anyhow::Context as _;
use serde_json::json;
use sprag_engine::record::TrialId;
use sprag_engine::repo::Repo;

use super::{Recorded, TaskArgs, commit_of, print_json, println_or_stop, show};
use crate::context::Context;
use crate::error::Failure;
use crate::exit_code::ExitCode;

/// Show what a trial changed, as a unified diff
///
/// Without a number: all that the tip changed against the code the run began with. The output can be
/// given to `git apply` as it is.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: sprag diff 12\n         sprag diff | git apply")]
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
    let recorded = Recorded::load(context, &args.task)?;
    let (from, to, diff) = of(&recorded, args.trial, context)?;
    if args.json {
        let run = &recorded.page.run;
        print_json(&json!({ "run": run, "trial": args.trial, "from": from, "to": to, "diff": diff }))?;
    } else if !diff.is_empty() {
        println_or_stop(diff.trim_end_matches('\n'))?;
    }
    Ok(ExitCode::Success)
}

/// Two commits and what lies between them: a trial and its parent, or the run's beginning and its tip.
pub fn of(
    recorded: &Recorded,
    trial: Option<TrialId>,
    context: &Context,
) -> anyhow::Result<(String, String, String)> {
    let Recorded { task, state, page } = recorded;
    let repo = Repo::open_with(&task.dir, &context.environment.variables)?;
    let (from, to) = match trial {
        None => (page.base.clone(), state.tip.clone().unwrap_or_else(|| page.base.clone())),
        Some(id) => {
            let trial = state.trial(id).ok_or_else(|| show::no_trial(id, page))?;
            let commit = commit_of(&repo, state, id);
            let commit = commit.ok_or_else(|| {
                Failure::new(format!("trial {id} has no commit: nothing was proposed"))
                    .hint(format!("`sprag show {id}` says more"))
            })?;
            (trial.parent.clone(), commit)
        }
    };
    let diff = repo.diff(&from, &to).context("cannot compare the commits")?;
    Ok((from, to, diff))
}
