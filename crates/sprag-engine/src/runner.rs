//! Carries out a run: asks `session` for the next step, does it, records what came of it.
//!
//! Every intent is in the ledger before its effect, so a kill at any moment loses nothing recorded and
//! [`run`] picks up where the last line left off. What is decided and why belongs to `session` and `gate`.

mod champion;
mod check;
mod doctor;
mod layout;
mod lock;
mod steps;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use sprag_measure::process::Cancel;

pub use champion::{Merged, evidence, merge, undo};
pub use check::{CheckReport, check};
pub use doctor::{Finding, Severity, doctor};
pub use layout::Layout;

use crate::event::Observer;
use crate::lane::{Lane, LaneError, Local};
use crate::ledger::{self, LedgerError, Line};
use crate::proposer::ProposerSpec;
use crate::repo::{Repo, RepoError};
use crate::sandbox::Confinement;
use crate::state::State;
use crate::task::{Task, TaskError};

/// Everything a run needs from the outside.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The task.
    pub task: Task,
    /// Name of the run; `None` is the latest one, or a new one where there is none.
    pub run: Option<String>,
    /// Begin a new run even if there is an unfinished one.
    pub new_run: bool,
    /// Who proposes; several take turns.
    pub proposers: Vec<ProposerSpec>,
    /// Seed of a new run; a resumed one keeps its own.
    pub seed: u64,
    /// Most trials in the whole run, the baseline not counted.
    pub max_trials: Option<u32>,
    /// No trial is begun that would probably end later than this, counted from now or from the end of the
    /// baseline's build, which compiles every dependency.
    pub max_seconds: Option<f64>,
    /// How children are confined.
    pub confinement: Confinement,
    /// What the sandbox enforces here, and what it lacks, for the ledger.
    pub sandbox_facts: (Vec<String>, Vec<String>),
    /// This program, for `{sprag}` in commands.
    pub sprag_program: PathBuf,
    /// Version of this program.
    pub sprag_version: String,
    /// Ambient variables, from which tasks may have some passed through.
    pub environment: Vec<(OsString, OsString)>,
    /// Facts about the machine.
    pub machine: BTreeMap<String, String>,
    /// Memory that a candidate may use when the task sets no limit.
    pub default_memory_bytes: Option<u64>,
    /// Stop after the step under way is recorded.
    pub cancel: Cancel,
    /// Stop at once; the measurement under way is lost.
    pub kill: Cancel,
}

/// A run cannot start or go on. Everything recorded so far is intact.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The task is not valid, or its files cannot be read.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// Git refused something.
    #[error(transparent)]
    Repo(#[from] RepoError),
    /// The ledger cannot be read or written.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The machine refused something.
    #[error(transparent)]
    Lane(#[from] LaneError),
    /// A folder or file of the run's state.
    #[error("{what} {path}: {source}")]
    State {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// Another program works on this task.
    #[error("work on {task}: another sprag has been at it {holder}")]
    Locked {
        /// The task's folder.
        task: PathBuf,
        /// Who holds the lock, as far as it said.
        holder: String,
    },
    /// There is no such run.
    #[error("find run `{run}` of {task}; there is {known}")]
    NoRun {
        /// The run asked for.
        run: String,
        /// The task's folder.
        task: PathBuf,
        /// The runs there are.
        known: String,
    },
    /// The task changed since the run began.
    #[error("resume run `{run}`: {what} changed since it began, so its scores would not compare")]
    Changed {
        /// The run.
        run: String,
        /// What changed.
        what: String,
    },
    /// The request does not fit the run's state.
    #[error("{0}")]
    Refused(String),
}

impl EngineError {
    /// What to do next, where there is something better to say than the message itself.
    pub fn hint(&self) -> Option<String> {
        match self {
            EngineError::Locked { .. } => Some(
                "wait for it, or stop it with Ctrl-C; the lock ends with its holder, however it dies".into(),
            ),
            EngineError::NoRun { .. } => Some("`sprag run` begins one".into()),
            EngineError::Changed { .. } => {
                Some("take the change back, or begin a new run with `sprag run --new`".into())
            }
            EngineError::Ledger(LedgerError::Io { .. }) | EngineError::State { .. } => {
                Some("free space or mend permissions, then start the same command again: it resumes".into())
            }
            _ => None,
        }
    }

    fn state(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> EngineError {
        let path = path.to_owned();
        move |source| EngineError::State { what, path, source }
    }
}

/// Starts or resumes a run and carries it on until it is finished or stopped.
///
/// # Errors
/// See [`EngineError`]; what was recorded stays, and the same call resumes.
pub fn run(setup: Setup, observer: &mut dyn Observer) -> Result<State, EngineError> {
    let layout = Layout::of(&setup.task.dir);
    let lane = Local {
        task: setup.task.clone(),
        confinement: setup.confinement.clone(),
        sprag: setup.sprag_program.clone(),
        environment: setup.environment.clone(),
        cache: layout.cache(),
        scratch: layout.scratch(),
        default_memory_bytes: setup.default_memory_bytes,
        kill: setup.kill.clone(),
    };
    let proposers =
        setup.proposers.iter().map(|spec| spec.open_with(&setup.task, &setup.environment)).collect();
    run_with(setup, Box::new(lane), proposers, observer)
}

/// [`run`] with any lane and proposers.
///
/// # Errors
/// As [`run`].
pub fn run_with(
    setup: Setup,
    lane: Box<dyn Lane>,
    proposers: Vec<Box<dyn crate::proposer::Proposer>>,
    observer: &mut dyn Observer,
) -> Result<State, EngineError> {
    let mut steps = steps::Steps::open(setup, lane, proposers, observer)?;
    steps.run()?;
    Ok(steps.into_state())
}

/// Names of a task's runs, in the order in which they began; one without a first line is about to.
pub fn runs(task_dir: &Path) -> Vec<String> {
    let layout = Layout::of(task_dir);
    let Ok(entries) = std::fs::read_dir(layout.runs()) else { return Vec::new() };
    let folders = entries.flatten().filter(|entry| entry.path().join("ledger.jsonl").is_file());
    let mut runs: Vec<String> = folders.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    runs.sort_by_cached_key(|run| {
        let began = ledger::began_at(&layout.ledger(run));
        (began.is_none(), began, number_of(run), run.clone())
    });
    runs
}

/// Reads a run without locking or changing anything; `None` is the latest one.
///
/// # Errors
/// There is no such run, or its ledger cannot be read.
pub fn load(task_dir: &Path, run: Option<&str>) -> Result<(State, Vec<Line>), EngineError> {
    let name = named_or_latest(task_dir, run)?;
    let lines = ledger::read(&Layout::of(task_dir).ledger(&name))?.lines;
    let state = State::fold(lines.iter().map(|line| (line.at.as_str(), &line.record)));
    Ok((state, lines))
}

fn named_or_latest(task_dir: &Path, run: Option<&str>) -> Result<String, EngineError> {
    let known = runs(task_dir);
    let found = match run {
        Some(name) => known.iter().find(|known| *known == name).cloned(),
        None => known.last().cloned(),
    };
    found.ok_or_else(|| EngineError::NoRun {
        run: run.unwrap_or("the latest").to_owned(),
        task: task_dir.to_owned(),
        known: if known.is_empty() { "none yet".into() } else { known.join(", ") },
    })
}

/// `run-7` has number 7; other names have 0.
fn number_of(run: &str) -> u32 {
    run.strip_prefix("run-").and_then(|number| number.parse().ok()).unwrap_or(0)
}

fn open_repo(setup: &Setup) -> Result<Repo, EngineError> {
    Ok(Repo::open_with(&setup.task.dir, &setup.environment)?)
}

#[cfg(test)]
mod tests;
