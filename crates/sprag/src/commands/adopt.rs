//! `sprag adopt`: write the contract of a repository that nobody prepared.

mod ask;
mod look;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::json;
use sprag_engine::adopt::{self, Adoption, Question, Wishes};
use sprag_engine::record::Direction;
use sprag_engine::repo::Repo;
use sprag_engine::runner::EngineError;
use sprag_engine::task::{FILE, Task};

use super::{parse_seconds, print_json, println_or_stop, quoted};
use crate::context::Context;
use crate::error::Failure;
use crate::exit_code::ExitCode;
use crate::ui::tame;

/// Write a task.toml for a git repository as it is, and explain each guess
///
/// Nothing else in the repository is changed, nothing is committed, and the file is kept out of `git status`.
/// Looked at are program.md (karpathy/autoresearch), .auto/ and autoresearch.* (pi-autoresearch,
/// codex-autoresearch), helix.yaml, METRIC lines, and what Python, Cargo, make, just and npm projects usually have.
/// What cannot be known is asked for, on a terminal at once, and nothing is written until it is settled by one of
/// the flags.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: sprag adopt autoresearch --dry-run
         sprag adopt . --run 'make bench' --metric seconds --mutable 'src/*.c'")]
pub struct Args {
    /// The repository's top folder
    #[arg(value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// Show what would be written, and why; write nothing
    #[arg(long)]
    dry_run: bool,
    /// Replace a task.toml that is there
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    wishes: WishArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What settles a guess.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "What settles a guess")]
struct WishArgs {
    /// Command that runs one experiment
    #[arg(long, value_name = "CMD")]
    run: Option<String>,
    /// Name of the metric
    #[arg(long, value_name = "NAME")]
    metric: Option<String>,
    /// Regular expression that finds the metric in the output, the number in parentheses
    #[arg(long, value_name = "RE", conflicts_with_all = ["result", "wall_time"])]
    pattern: Option<String>,
    /// JSON file that holds the metric, with the pointer to it
    #[arg(long, value_name = "FILE#/POINTER", value_parser = adopt::result, conflicts_with = "wall_time")]
    result: Option<(String, String)>,
    /// The metric is the time that the command takes
    #[arg(long)]
    wall_time: bool,
    /// Which way is better: lower or higher
    #[arg(long, value_name = "WAY")]
    direction: Option<Direction>,
    /// Files that may change; may be given several times
    #[arg(long, value_name = "GLOB")]
    mutable: Vec<String>,
    /// Files that must stay; may be given several times
    #[arg(long, value_name = "GLOB")]
    fixed: Vec<String>,
    /// Time that one execution spends
    #[arg(long, value_name = "TIME", value_parser = parse_seconds)]
    budget: Option<f64>,
    /// Python environment that trials share [default: .venv, where there is one]
    #[arg(long, value_name = "DIR")]
    venv: Option<PathBuf>,
}

impl From<WishArgs> for Wishes {
    fn from(args: WishArgs) -> Wishes {
        let WishArgs { run, metric, pattern, result, wall_time, direction, mutable, fixed, budget, venv } =
            args;
        Wishes { run, metric, pattern, result, wall_time, direction, mutable, fixed, budget, venv }
    }
}

/// Looks, asks, writes.
pub fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    let dir = args.dir.canonicalize().with_context(|| format!("cannot open {}", args.dir.display()))?;
    let file = dir.join(FILE);
    if file.exists() && !args.force && !args.dry_run {
        let failure = Failure::new(format!("{} is there already; nothing was changed", file.display()));
        return Err(failure.hint("`--dry-run` shows what would be written, `--force` replaces it").into());
    }
    let repo = Repo::open_with(&dir, &context.environment.variables)?;
    let tree = look::tree(&repo)?;
    let name = dir.file_name().map_or_else(|| "task".to_owned(), |name| name.to_string_lossy().into_owned());
    let mut wishes = Wishes::from(args.wishes);
    let mut adoption = guess(&name, &tree, &wishes, &dir, context)?;
    if !args.json && !args.dry_run && ask::possible() {
        while let Some(question) = adoption.questions.first() {
            if !ask::settle(question, &mut wishes)? {
                break;
            }
            adoption = guess(&name, &tree, &wishes, &dir, context)?;
        }
    }
    let text = adoption.contract.as_ref().map(|contract| adopt::render(contract, &adoption.reasons));
    let writes = text.as_deref().filter(|_| !args.dry_run);
    if let Some(text) = writes {
        write(&repo, &file, text)?;
    }
    if args.json {
        print_json(&view(&dir, &adoption, text.as_deref(), writes.is_some()))?;
        let open = adoption.contract.is_none();
        return Ok(if open { ExitCode::Failure } else { ExitCode::Success });
    }
    explain(&adoption)?;
    let Some(text) = &text else { return Err(unsettled(&adoption.questions).into()) };
    if args.dry_run {
        if let Err(error) = Task::parse(text, &dir) {
            println_or_stop(&format!("note: it would be refused: {}", tame(&error.to_string())))?;
        }
        println_or_stop(&format!("\n{} would be:\n\n{}", file.display(), text.trim_end()))?;
    } else {
        next(&adoption, &args.dir, &file, context)?;
    }
    Ok(ExitCode::Success)
}

fn guess(
    name: &str,
    tree: &adopt::Tree,
    wishes: &Wishes,
    dir: &Path,
    context: &Context,
) -> anyhow::Result<Adoption> {
    let machine = look::machine(dir, wishes.venv.as_deref(), context)?;
    Ok(adopt::adopt(name, tree, wishes, &machine))
}

/// Parsed before it is written, and read back as every other command will; kept out of git's sight first.
fn write(repo: &Repo, file: &Path, text: &str) -> anyhow::Result<()> {
    let refused =
        |error| anyhow::Error::from(EngineError::from(error)).context("cannot write a valid task.toml");
    Task::parse(text, repo.dir()).map_err(refused)?;
    repo.exclude(&format!("/{FILE}"))?;
    repo.exclude(".sprag/")?;
    let partial = file.with_extension("toml.partial");
    std::fs::write(&partial, text)
        .and_then(|()| std::fs::rename(&partial, file))
        .with_context(|| format!("cannot write {}", file.display()))?;
    Task::load(repo.dir()).map_err(refused)?;
    Ok(())
}

fn view(dir: &Path, adoption: &Adoption, text: Option<&str>, written: bool) -> serde_json::Value {
    json!({
        "format": 1,
        "dir": dir,
        "written": written,
        "guesses": adoption.reasons,
        "questions": adoption.questions,
        "warnings": adoption.warnings,
        "first": adoption.first,
        "histories": adoption.histories,
        "task_toml": text,
    })
}

/// Guesses, then what to know, then what is open.
fn explain(adoption: &Adoption) -> anyhow::Result<()> {
    for reason in &adoption.reasons {
        println_or_stop(&format!("{:<20} {}", reason.key, tame(&reason.value)))?;
        println_or_stop(&format!("{:<20}   {}", "", tame(&reason.sentence())))?;
    }
    let self_reported =
        adoption.contract.as_ref().is_some_and(|contract| contract.metric.source.self_reported());
    let notes = adoption.warnings.iter().map(String::as_str);
    for note in notes.chain(self_reported.then_some(adopt::contract::SELF_REPORTED)) {
        println_or_stop(&format!("note: {}", tame(note)))?;
    }
    for question in &adoption.questions {
        println_or_stop(&format!("open: {}", tame(&question.text)))?;
        for choice in &question.choices {
            println_or_stop(&format!("      {:<28} {}", tame(&choice.flag), tame(&choice.why)))?;
        }
    }
    Ok(())
}

fn unsettled(questions: &[Question]) -> Failure {
    let flags: Vec<&str> = questions.iter().map(|question| question.flag).collect();
    let count = match questions.len() {
        1 => "one question is open".to_owned(),
        count => format!("{count} questions are open"),
    };
    Failure::new(format!("{count}, so nothing was written"))
        .hint(format!("settle it with {}", flags.join(" and ")))
}

fn next(adoption: &Adoption, dir: &Path, file: &Path, context: &Context) -> anyhow::Result<()> {
    println_or_stop(&format!("wrote {}", file.display()))?;
    let program = context.program_word();
    let here = dir == Path::new(".");
    let task = if here { String::new() } else { format!(" --task {}", quoted(&dir.to_string_lossy())) };
    let place = if here { String::new() } else { format!(" (in {})", dir.display()) };
    for command in &adoption.first {
        println_or_stop(&format!("first: {command}{place}"))?;
    }
    for history in &adoption.histories {
        let file = if here { quoted(history) } else { quoted(&dir.join(history).to_string_lossy()) };
        println_or_stop(&format!("next: {program} history import {file}{task}   # what another loop tried"))?;
    }
    for (command, what) in [
        ("doctor", "what stands in the way of a run"),
        ("check", "one run of the code as it is"),
        ("run", "the loop"),
    ] {
        println_or_stop(&format!("next: {program} {command}{task}   # {what}"))?;
    }
    Ok(())
}
