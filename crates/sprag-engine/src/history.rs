//! Results of other loops: taken in as hints for proposers, and our own written in their form.
//!
//! Foreign scores have no seeds and come from another machine, so they never enter the ledger or the statistics.
//! They lie below `.sprag/history/`, where a brief reads them as data.

mod foreign;

use std::io;
use std::path::Path;

pub use foreign::{Entry, Foreign, ForeignError, Status, read};

use crate::gate::replay::{self, Results, Row};
use crate::record::{Reason, TrialId, Verdict};
use crate::runner::Layout;
use crate::state::{State, Trial};

/// Most results of one source that a brief shows: those that were kept, and the last of the others.
const SHOWN: usize = 24;

/// Stores results; those of the same name are replaced.
///
/// # Errors
/// The folder cannot be written.
pub fn store(task_dir: &Path, foreign: &Foreign) -> io::Result<std::path::PathBuf> {
    let folder = Layout::of(task_dir).history();
    std::fs::create_dir_all(&folder)?;
    let path = folder.join(format!("{}.json", file_name(&foreign.source)));
    let partial = path.with_extension("partial");
    std::fs::write(&partial, serde_json::to_vec_pretty(foreign).map_err(io::Error::other)?)?;
    std::fs::rename(&partial, &path)?;
    Ok(path)
}

fn file_name(source: &str) -> String {
    let good = |c: char| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '-' };
    source.chars().map(good).collect()
}

/// All that was stored, by name. A file that cannot be read is left out: these are hints.
pub fn stored(task_dir: &Path) -> Vec<Foreign> {
    let Ok(entries) = std::fs::read_dir(Layout::of(task_dir).history()) else { return Vec::new() };
    let paths = entries.flatten().map(|entry| entry.path());
    let mut paths: Vec<_> = paths.filter(|path| path.extension().is_some_and(|end| end == "json")).collect();
    paths.sort();
    let read = |path: std::path::PathBuf| serde_json::from_slice(&std::fs::read(path).ok()?).ok();
    paths.into_iter().filter_map(read).collect()
}

/// What other loops recorded, one line each, what was kept first and of each kind the newest first. The texts are
/// somebody else's.
pub fn rows(task_dir: &Path) -> Vec<String> {
    let row = |foreign: &Foreign, entry: &Entry| {
        let score = entry.score.map(|score| format!(" {} {score:.6}", foreign.metric)).unwrap_or_default();
        format!("{}{score}: {} ({})", entry.status.word(), entry.description, foreign.source)
    };
    let of = |foreign: &Foreign| {
        let rows = shown(&foreign.entries).into_iter().map(|entry| row(foreign, entry));
        rows.collect::<Vec<String>>()
    };
    stored(task_dir).iter().flat_map(of).collect()
}

/// What was kept, then the rest, each newest first, as many as a brief may show.
fn shown(entries: &[Entry]) -> Vec<&Entry> {
    let newest =
        |kept: bool| entries.iter().rev().filter(move |entry| (entry.status == Status::Keep) == kept);
    newest(true).chain(newest(false)).take(SHOWN).collect()
}

/// Our run as another loop would have recorded it, and the trials that have no row there.
#[derive(Clone, Debug, PartialEq)]
pub struct Exported {
    /// The rows.
    pub results: Results,
    /// Trials that were never executed under the whole budget, for which the form has no word: rejected, outrun,
    /// stopped early or still open.
    pub left_out: Vec<TrialId>,
}

/// Turns a run into rows: `keep` for what stands, `discard` for other scores (their mean), `crash` for what was
/// built or executed in vain.
pub fn export(metric: &str, state: &State) -> Exported {
    let mut exported =
        Exported { results: Results { metric: metric.to_owned(), rows: Vec::new() }, left_out: Vec::new() };
    for trial in &state.trials {
        match status(state, trial) {
            Some(status) => {
                let line = exported.results.rows.len() + 2;
                exported.results.rows.push(row(line, state, trial, status));
            }
            None => exported.left_out.push(trial.id),
        }
    }
    exported
}

/// The text of the rows.
pub fn tsv(results: &Results) -> String {
    replay::write(results)
}

fn status(state: &State, trial: &Trial) -> Option<replay::Status> {
    let scores: Vec<f64> = state.scores_of(trial.id).into_iter().map(|(_, score)| score).collect();
    let mean = (!scores.is_empty()).then(|| scores.iter().sum::<f64>() / scores.len() as f64);
    match (trial.verdict.as_ref()?, mean) {
        (Verdict::Invalid(invalid), None) if failed(invalid.reason) => Some(replay::Status::Crash),
        (Verdict::Baseline { .. } | Verdict::Win(_), Some(mean))
            if trial.id == 0 || trial.kept && !trial.undone =>
        {
            Some(replay::Status::Keep(mean))
        }
        (_, Some(mean)) => Some(replay::Status::Discard(mean)),
        _ => None,
    }
}

/// True for what was built or executed; the rest was rejected unseen, or the machine was to blame.
fn failed(reason: Reason) -> bool {
    let unseen =
        [Reason::Proposer, Reason::Empty, Reason::Duplicate, Reason::SeedOnly, Reason::OutsideMutable];
    !unseen.contains(&reason) && reason != Reason::Machine && reason != Reason::Evaluator
}

fn row(line: usize, state: &State, trial: &Trial, status: replay::Status) -> Row {
    let commit = trial.proposed.as_ref().map_or(trial.parent.as_str(), |proposed| proposed.commit.as_str());
    let memory_gb = match status {
        replay::Status::Crash => 0.0,
        _ => memory(state, trial.id),
    };
    let description = if trial.id == 0 { "baseline" } else { trial.title() };
    Row {
        line,
        commit: commit.chars().take(7).collect(),
        status,
        memory_gb,
        description: description.to_owned(),
    }
}

/// Most memory of its executions in GiB: that of the device where a fact tells it, else that of its processes.
fn memory(state: &State, trial: TrialId) -> f64 {
    let scores = || state.runs().filter(|run| run.measure.arm == trial).filter_map(|run| run.score());
    let most = |name: &str| scores().filter_map(|score| score.facts.get(name).copied()).reduce(f64::max);
    most("peak_vram_mb")
        .map(|mib| mib / 1024.0)
        .or_else(|| Some(most("peak_memory_bytes")? / 1024f64.powi(3)))
        .unwrap_or(0.0)
}

#[cfg(test)]
mod tests;
