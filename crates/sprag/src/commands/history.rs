//! `sprag history`: results of other loops, in and out.

use std::path::PathBuf;

use serde_json::json;
use sprag_engine::history;
use sprag_engine::record::Direction;
use sprag_engine::repo::Repo;

use super::{Recorded, TaskArgs, print_json, println_or_stop};
use crate::context::Context;
use crate::error::Failure;
use crate::exit_code::ExitCode;
use crate::ui::tame;

/// Take in what another loop recorded, or write a run in its form
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: HistoryCommand,
}

#[derive(Debug, clap::Subcommand)]
enum HistoryCommand {
    /// Let proposers know what another loop tried
    ///
    /// FILE is a results.tsv with the five columns of karpathy/autoresearch, or a log.jsonl of pi-autoresearch or
    /// codex-autoresearch. Its scores have no seeds and come from another machine, so they never enter the ledger or
    /// the statistics: briefs show them as hints. The same file again replaces what it said before.
    #[command(after_help = "Example: sprag history import results.tsv
         sprag history import .auto/log.jsonl --dry-run")]
    Import(ImportArgs),
    /// Write a run as karpathy's results.tsv
    ///
    /// One line a trial: commit, the mean of its scores, memory in GB (GiB, as there), keep, discard or crash, and the
    /// title. Trials that were rejected unseen, outrun or stopped early have no word in that form and are left out.
    #[command(after_help = "Example: sprag history export --out results.tsv")]
    Export(ExportArgs),
}

#[derive(Debug, clap::Args)]
struct ImportArgs {
    /// The record
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    task: TaskArgs,
    /// Show what is read, and store nothing
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct ExportArgs {
    #[command(flatten)]
    task: TaskArgs,
    /// File to write [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Does what was asked.
pub fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    match args.command {
        HistoryCommand::Import(args) => import(args, context),
        HistoryCommand::Export(args) => export(args, context),
    }
}

fn import(args: ImportArgs, context: &Context) -> anyhow::Result<ExitCode> {
    let task = context.task(&args.task.task)?;
    let path = args.file.display();
    let text = std::fs::read_to_string(&args.file).map_err(|error| {
        Failure::new(format!("cannot read {path}: {error}")).hint("name a results.tsv or a log.jsonl")
    })?;
    let name = args.file.file_name().unwrap_or_default().to_string_lossy();
    let foreign = history::read(&name, &text)
        .map_err(|error| Failure::new(format!("cannot import {path}: {error}")).hint(error.hint()))?;
    let stored = if args.dry_run {
        None
    } else {
        let repo = Repo::open_with(&task.dir, &context.environment.variables)?;
        repo.exclude(".sprag/")?;
        let failed = |error| Failure::new(format!("cannot store it below {}: {error}", task.dir.display()));
        Some(history::store(&task.dir, &foreign).map_err(failed)?)
    };
    if args.json {
        print_json(&json!({ "history": foreign, "stored": stored }))?;
        return Ok(ExitCode::Success);
    }
    let metric = tame(&foreign.metric);
    println_or_stop(&format!("{} results, metric {metric}", foreign.entries.len()))?;
    for entry in &foreign.entries {
        let score = entry.score.map_or_else(String::new, |score| format!("{score:.6}"));
        let (word, what) = (entry.status.word(), tame(&entry.description));
        println_or_stop(&format!("{:<9} {word:<13} {score:>14}  {what}", tame(&entry.commit)))?;
    }
    if foreign.metric != task.metric.name {
        eprintln!("note: this task's metric is {}; the hints may be about something else", task.metric.name);
    }
    match stored {
        Some(path) => {
            println_or_stop(&format!("stored for briefs, outside the statistics: {}", path.display()))?
        }
        None => println_or_stop("nothing was stored")?,
    }
    Ok(ExitCode::Success)
}

fn export(args: ExportArgs, context: &Context) -> anyhow::Result<ExitCode> {
    let Recorded { task, state, .. } = Recorded::load(context, &args.task)?;
    let exported = history::export(&task.metric.name, &state);
    let text = history::tsv(&exported.results);
    if let Some(path) = &args.out {
        let failed = |error| Failure::new(format!("cannot write {}: {error}", path.display()));
        std::fs::write(path, &text).map_err(failed)?;
    }
    let rows = exported.results.rows.len();
    if args.json {
        let left_out = &exported.left_out;
        print_json(&json!({ "out": args.out, "rows": rows, "left_out": left_out, "text": text }))?;
        return Ok(ExitCode::Success);
    }
    match &args.out {
        Some(path) => println_or_stop(&format!("wrote {rows} rows to {}", path.display()))?,
        None => println_or_stop(text.trim_end())?,
    }
    if !exported.left_out.is_empty() {
        let trials: Vec<String> = exported.left_out.iter().map(ToString::to_string).collect();
        eprintln!(
            "note: left out, because the form has no word for how they ended: trials {}",
            trials.join(", ")
        );
    }
    if task.metric.direction == Direction::Higher {
        eprintln!(
            "note: {} is better when higher; readers of this form take lower for better",
            task.metric.name
        );
    }
    Ok(ExitCode::Success)
}
