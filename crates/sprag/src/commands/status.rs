//! `sprag status`: where a run stands.

use std::fs::OpenOptions;

use serde_json::json;
use sprag_engine::runner::{self, Layout};

use super::{Recorded, TaskArgs, print_json, println_or_stop};
use crate::context::Context;
use crate::exit_code::ExitCode;
use crate::numbers;
use crate::ui::words;

/// Show where a run stands: what is certified, the tip, counts, noise floor, time
///
/// Reads the ledger alone: it disturbs no run that is under way.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: sprag status --task sprag-quickstart/task")]
pub struct Args {
    #[command(flatten)]
    pub(super) task: TaskArgs,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// Prints it.
pub fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    let Recorded { task, state, page } = Recorded::load(context, &args.task)?;
    let running = is_running(&Layout::of(&task.dir));
    let all = runner::runs(&task.dir);
    if args.json {
        print_json(&json!({
            "format": page.format, "task": page.task, "run": page.run, "runs": all, "running": running,
            "finished": page.finished, "metric": page.metric, "direction": page.direction, "budget": page.budget,
            "headline": page.headline, "counts": page.counts, "time": page.time, "noise": page.noise,
            "families": page.families, "yields": page.yields, "predictions": page.predictions, "plateau": page.plateau, "spent": page.spent,
            "certified": page.certified, "tip_commit": state.tip, "updated_at": page.updated_at,
        }))?;
        return Ok(ExitCode::Success);
    }
    let standing = match (&page.finished, running) {
        (_, true) => "a sprag works on this task now".to_owned(),
        (Some(reason), false) => format!("finished: {reason}"),
        (None, false) => "stopped; `sprag run` resumes it".to_owned(),
    };
    println_or_stop(&words::floor(&page))?;
    println_or_stop(&format!(
        "run       {} of task {} ({} in all), {standing}",
        page.run,
        page.task,
        all.len()
    ))?;
    match &page.headline {
        None => println_or_stop("baseline  not measured yet")?,
        Some(headline) => {
            for line in words::headline(headline, &page).into_iter().skip(1) {
                println_or_stop(&line)?;
            }
        }
    }
    println_or_stop(&format!("trials    {}", words::counts(&page.counts)))?;
    for line in words::yields(&page) {
        println_or_stop(&line)?;
    }
    if page.counts.invalid_total() > 0 {
        println_or_stop(&format!("invalid   {}", words::reasons(&page.counts)))?;
    }
    println_or_stop(&format!(
        "time      {}; last line at {}",
        numbers::duration(page.time.total_seconds),
        page.updated_at
    ))?;
    println_or_stop(&format!(
        "branch    sprag/{} at {}",
        page.run,
        numbers::short_commit(state.tip.as_deref().unwrap_or("-"))
    ))?;
    Ok(ExitCode::Success)
}

/// True while some program holds the task's lock.
fn is_running(layout: &Layout) -> bool {
    let file = OpenOptions::new().read(true).open(layout.lock());
    file.is_ok_and(|file| matches!(file.try_lock(), Err(std::fs::TryLockError::WouldBlock)))
}
