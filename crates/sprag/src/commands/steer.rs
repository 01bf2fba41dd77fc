//! `sprag steer [TEXT]`: what the person who runs this wants of proposers.

use std::fs;
use std::io::ErrorKind;

use anyhow::Context as _;
use serde_json::json;
use sprag_engine::runner::{self, Layout};
use sprag_engine::task::Task;

use super::{TaskArgs, print_json, println_or_stop, write_whole};
use crate::context::Context;
use crate::exit_code::ExitCode;

/// Tell proposers what you want of them
///
/// The note stands in every brief from the next one on, until another replaces it; it also works while a run is under
/// way. Without a text it is shown.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: sprag steer 'leave the learning rates alone, try smaller batches'
         sprag steer --clear")]
pub struct Args {
    /// The note
    #[arg(value_name = "TEXT", conflicts_with = "clear")]
    text: Option<String>,
    #[command(flatten)]
    task: TaskArgs,
    /// Take the note back
    #[arg(long)]
    clear: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Writes, shows or removes it.
pub fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    let task = context.task(&args.task.task)?;
    let text = if args.clear { Some("") } else { args.text.as_deref() };
    let (run, note) = put(&task, args.task.run.as_deref(), text)?;
    if args.json {
        print_json(&json!({ "run": run, "note": note }))?;
        return Ok(ExitCode::Success);
    }
    println_or_stop(&match note {
        Some(note) => format!("steering  {run}: {note}"),
        None => format!("steering  {run}: there is no note"),
    })?;
    Ok(ExitCode::Success)
}

/// Replaces the note of a run, or takes it back where the text is empty; `None` leaves it. The run's name and the note.
pub fn put(task: &Task, run: Option<&str>, text: Option<&str>) -> anyhow::Result<(String, Option<String>)> {
    let (state, _) = runner::load(&task.dir, run)?;
    let run = state.run.map(|run| run.run).unwrap_or_default();
    let path = Layout::of(&task.dir).steering(&run);
    let cannot = |what: &str| format!("cannot {what} {}", path.display());
    match text.map(str::trim) {
        None => {}
        Some("") => match fs::remove_file(&path) {
            Err(cause) if cause.kind() != ErrorKind::NotFound => return Err(cause).context(cannot("remove")),
            _ => {}
        },
        Some(text) => write_whole(&path, &format!("{text}\n"))?,
    }
    let note =
        fs::read_to_string(&path).ok().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    Ok((run, note))
}
