//! `sprag log`: the trials of a run, one line each.

use super::{Recorded, TaskArgs, println_or_stop};
use crate::context::Context;
use crate::exit_code::ExitCode;
use crate::report::model::TrialView;
use crate::ui::words;

/// List the trials of a run, one line each
///
/// A gain is positive when better. It stands with its interval and what it rests on: one screening run, or
/// repeats under fresh seeds.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: sprag log --verdict win\n         sprag log --json | jq .title")]
pub struct Args {
    #[command(flatten)]
    task: TaskArgs,
    /// Only trials that ended like this
    #[arg(long, value_name = "VERDICT",
          value_parser = ["baseline", "win", "loss", "inconclusive", "outrun", "stopped", "invalid", "undone", "open"])]
    verdict: Option<String>,
    /// Print one JSON object a trial
    #[arg(long)]
    json: bool,
}

/// Prints them.
pub fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    let Recorded { page, .. } = Recorded::load(context, &args.task)?;
    let wanted =
        |trial: &&TrialView| args.verdict.as_deref().is_none_or(|verdict| verdict == trial.mark.class());
    if !args.json {
        println_or_stop(&words::floor(&page))?;
    }
    for trial in page.trials.iter().filter(wanted) {
        if args.json {
            println_or_stop(&serde_json::to_string(trial)?)?;
        } else {
            println_or_stop(&words::trial_line(trial, &page, context.terminal.colour_out))?;
        }
    }
    Ok(ExitCode::Success)
}
