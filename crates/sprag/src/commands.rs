//! One file a subcommand: its arguments on top, with what `--help` teaches, then one `run`.

pub mod adopt;
pub mod ane;
pub mod bench;
pub mod bench_worker;
pub mod brief;
pub mod certify;
pub mod check;
pub mod claims;
pub mod data;
pub mod diff;
pub mod doctor;
pub mod gate;
pub mod history;
pub mod init;
pub mod log;
pub mod mcp;
pub mod merge;
pub mod noise;
pub mod plan;
pub mod probe;
pub mod quickstart;
pub mod report;
pub mod run;
pub mod sandbox_exec;
pub mod show;
pub mod status;
pub mod steer;
pub mod train;
pub mod undo;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Serialize;
pub use sprag_engine::adopt::shell_word as quoted;
use sprag_engine::record::{Mix, TrialId};
use sprag_engine::repo::Repo;
use sprag_engine::runner::{self, EngineError};
use sprag_engine::state::State;
use sprag_engine::task::Task;
use sprag_measure::clock;
use sprag_train::data::{Manifest, SourceFacts};

use crate::context::{Context, VERSION};
use crate::numbers;
use crate::report::model::{self, Extras, Page};

/// Which task, which of its runs.
#[derive(Clone, Debug, clap::Args)]
pub struct TaskArgs {
    /// Folder of the task, or one below it
    #[arg(long, short = 'C', value_name = "DIR", default_value = ".")]
    pub task: PathBuf,
    /// Name of the run [default: the latest]
    #[arg(long, value_name = "NAME")]
    pub run: Option<String>,
}

/// A run as it was recorded, with what views need beside it.
pub struct Recorded {
    /// The task.
    pub task: Task,
    /// The fold over the ledger.
    pub state: State,
    /// What views show.
    pub page: Page,
}

impl Recorded {
    /// Reads a run; nothing is locked or changed.
    pub fn load(context: &Context, args: &TaskArgs) -> anyhow::Result<Recorded> {
        let task = context.task(&args.task)?;
        let (state, _) = runner::load(&task.dir, args.run.as_deref())?;
        let extras = Extras {
            sprag_version: VERSION.to_owned(),
            generated_at: clock::now_rfc3339(),
            ..Extras::default()
        };
        let page = model::page(&state, extras).ok_or_else(|| empty(&task))?;
        Ok(Recorded { task, state, page })
    }

    /// The same with diffs, data and commands: for reports.
    pub fn load_whole(context: &Context, args: &TaskArgs) -> anyhow::Result<Recorded> {
        let task = context.task(&args.task)?;
        let (state, _) = runner::load(&task.dir, args.run.as_deref())?;
        let extras = extras(context, &task, &state);
        let page = model::page(&state, extras).ok_or_else(|| empty(&task))?;
        Ok(Recorded { task, state, page })
    }
}

fn empty(task: &Task) -> EngineError {
    let (run, known) = ("the latest".to_owned(), "one whose ledger is empty".to_owned());
    EngineError::NoRun { run, task: task.dir.clone(), known }
}

fn extras(context: &Context, task: &Task, state: &State) -> Extras {
    Extras {
        diffs: diffs(context, task, state),
        data: data_facts(task),
        reproduce: reproduce(state),
        sprag_version: VERSION.to_owned(),
        generated_at: clock::now_rfc3339(),
    }
}

/// The commit of a trial: the one it proposed, or the one its ref keeps when it was rejected before that.
pub fn commit_of(repo: &Repo, state: &State, trial: TrialId) -> Option<String> {
    let proposed = state.trial(trial).and_then(|trial| trial.proposed.as_ref());
    let run = &state.run.as_ref()?.run;
    proposed
        .map(|proposed| proposed.commit.clone())
        .or_else(|| repo.read_ref(&format!("refs/sprag/{run}/{trial}")).ok()?)
}

/// Diffs that can be read; a view does without the others.
fn diffs(context: &Context, task: &Task, state: &State) -> BTreeMap<TrialId, String> {
    let Ok(repo) = Repo::open_with(&task.dir, &context.environment.variables) else { return BTreeMap::new() };
    let trials = state.trials.iter().filter(|trial| trial.id > 0);
    let diff = |trial: &sprag_engine::state::Trial| {
        let commit = commit_of(&repo, state, trial.id)?;
        Some((trial.id, repo.diff(&trial.parent, &commit).ok()?))
    };
    trials.filter_map(diff).collect()
}

/// Where the data came from, when the task's `data` variable names a prepared folder.
fn data_facts(task: &Task) -> Vec<(String, String)> {
    let Some(dir) = task.vars.get("data") else { return Vec::new() };
    let Ok(manifest) = Manifest::read(Path::new(dir)) else { return Vec::new() };
    manifest_facts(&manifest)
}

/// A manifest in a few lines.
pub fn manifest_facts(manifest: &Manifest) -> Vec<(String, String)> {
    let own = |name: &str, value: String| (name.to_owned(), value);
    let source = &manifest.source;
    let corpus = &manifest.corpus;
    let mut facts = vec![
        own("source", source_words(source)),
        own(
            "text",
            format!(
                "{} in {} documents after cleaning",
                numbers::bytes(corpus.bytes as f64),
                corpus.documents
            ),
        ),
        own("text SHA-256", corpus.sha256.clone()),
    ];
    facts.extend(source.revision.iter().map(|revision| own("revision", revision.clone())));
    let tokenizer = &manifest.tokenizer;
    facts.push(own(
        "tokenizer",
        format!("byte-level BPE, {} ids, SHA-256 {}", tokenizer.vocab_size, tokenizer.sha256),
    ));
    for (split, split_facts) in &manifest.splits {
        let name = split.file_name();
        let name = name.trim_end_matches(".bin");
        let tokens = numbers::count(split_facts.tokens as f64);
        let size = numbers::bytes(split_facts.bytes as f64);
        facts.push(own(name, format!("{tokens} tokens of {size} in {} documents", split_facts.documents)));
    }
    facts
}

fn source_words(source: &SourceFacts) -> String {
    match source.parts.len() {
        0 => format!("{}, split by {}", source.name, source.split_by),
        parts => format!("{}: {parts} parts, split by {}", source.name, source.split_by),
    }
}

fn reproduce(state: &State) -> Vec<String> {
    let Some(run) = &state.run else { return Vec::new() };
    let weight = |name: &String| match &run.mix {
        Mix::Weights(weights) => {
            weights.get(name).filter(|weight| **weight != 1.0).map(|weight| format!("{weight}:{name}"))
        }
        Mix::Bandit { .. } => None,
    };
    let mut proposers: String = run
        .proposers
        .iter()
        .map(|name| format!(" --proposer {}", quoted(&weight(name).unwrap_or_else(|| name.clone()))))
        .collect();
    if let Mix::Bandit { usd_per_hour } = run.mix {
        proposers.push_str(&format!(" --mix bandit --usd-per-hour {usd_per_hour}"));
    }
    let trials = state.trials.len().saturating_sub(1);
    vec![
        "# in the task's folder, with the same data (see its hash above)".to_owned(),
        format!("git checkout {}", run.base),
        format!("sprag run --new --seed {} --trials {trials}{proposers}", run.seed),
    ]
}

/// Writes a file whole or not at all: whoever reads it meanwhile sees the old one or the new one.
pub fn write_whole(path: &Path, text: &str) -> anyhow::Result<()> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    std::fs::write(&partial, text)
        .and_then(|()| std::fs::rename(&partial, path))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Prints a value as indented JSON.
pub fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    println_or_stop(&serde_json::to_string_pretty(value)?)
}

/// Prints a line of results. A reader that went away (`| head`) ends the program quietly.
pub fn println_or_stop(line: &str) -> anyhow::Result<()> {
    use std::io::Write;
    match writeln!(std::io::stdout().lock(), "{line}") {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        other => Ok(other?),
    }
}

/// Parses `90`, `90s`, `10m`, `1.5h` into seconds.
pub fn parse_seconds(text: &str) -> Result<f64, String> {
    let number_end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(number_end);
    let factor = match unit.trim() {
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        other => return Err(format!("`{other}` is no unit of time; write 90s, 10m or 1.5h")),
    };
    let seconds =
        number.parse::<f64>().map_err(|_| format!("`{number}` is no number; write 90s, 10m or 1.5h"))?;
    let seconds = seconds * factor;
    if seconds > 0.0 && seconds.is_finite() {
        Ok(seconds)
    } else {
        Err("it must be more than nothing".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_units() {
        for (text, seconds) in
            [("90", 90.0), ("90s", 90.0), ("10m", 600.0), ("1.5h", 5400.0), ("2 min", 120.0)]
        {
            assert_eq!(parse_seconds(text), Ok(seconds));
        }
        for text in ["", "0", "-1", "ten", "5d", "1.2.3"] {
            assert!(parse_seconds(text).is_err(), "{text}");
        }
    }
}
