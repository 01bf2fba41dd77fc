//! `sprag status`: where a run stands.

use std::fs::OpenOptions;

use serde_json::json;
use sprag_engine::runner::{self, Layout};
use sprag_engine::state::State;

use super::{Recorded, TaskArgs, print_json, println_or_stop};
use crate::context::Context;
use crate::exit_code::ExitCode;
use crate::numbers;
use crate::report::model::Page;
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
    for line in lines(&page, &state, running, all.len()) {
        println_or_stop(&line)?;
    }
    Ok(ExitCode::Success)
}

/// The run at a glance, as people read it.
pub fn lines(page: &Page, state: &State, running: bool, runs: usize) -> Vec<String> {
    let standing = match (&page.finished, running) {
        (_, true) => "a sprag works on this task now".to_owned(),
        (Some(reason), false) => format!("finished: {reason}"),
        (None, false) => "stopped; `sprag run` resumes it".to_owned(),
    };
    let mut lines = vec![
        words::floor(page),
        format!("run       {} of task {} ({runs} in all), {standing}", page.run, page.task),
    ];
    match &page.headline {
        None => lines.push("baseline  not measured yet".to_owned()),
        Some(headline) => lines.extend(words::headline(headline, page).into_iter().skip(1)),
    }
    lines.push(format!("trials    {}", words::counts(&page.counts)));
    lines.extend(words::yields(page));
    if page.counts.invalid_total() > 0 {
        lines.push(format!("invalid   {}", words::reasons(&page.counts)));
    }
    let total = numbers::duration(page.time.total_seconds);
    lines.push(format!("time      {total}; last line at {}", page.updated_at));
    let tip = numbers::short_commit(state.tip.as_deref().unwrap_or("-"));
    lines.push(format!("branch    sprag/{} at {tip}", page.run));
    lines
}

/// True while some program holds the task's lock.
pub fn is_running(layout: &Layout) -> bool {
    let file = OpenOptions::new().read(true).open(layout.lock());
    file.is_ok_and(|file| matches!(file.try_lock(), Err(std::fs::TryLockError::WouldBlock)))
}
