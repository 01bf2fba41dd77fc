//! Carries out a run: asks `session` for the next step, does it, records what came of it.
//!
//! Every intent is in the ledger before its effect, so a kill at any moment loses nothing recorded and
//! [`run`] picks up where the last line left off. What is decided and why belongs to `session` and `gate`.

mod champion;
mod check;
mod doctor;
mod layout;
mod litter;
mod lock;
mod steps;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use sprag_measure::machine;
use sprag_measure::process::Cancel;
use sprag_measure::units::Bytes;

pub use champion::{Merged, certify, evidence, merge, undo};
pub use check::{CheckReport, check};
pub use doctor::{Finding, Severity, doctor};
pub use layout::Layout;

use crate::event::Observer;
use crate::lane::{Lane, LaneError, Local};
use crate::ledger::{self, LedgerError, Line};
use crate::proposer::{AskingLimits, ProposerSpec};
use crate::record::{Mix, RunStarted, TrialId};
use crate::repo::{Repo, RepoError};
use crate::sandbox::Confinement;
use crate::state::State;
use crate::task::{Task, TaskError};

/// Free space below which nothing is built or executed.
const FREE_DISK: Bytes = Bytes::from_mib(256);

/// Part of the memory by which one machine may seem to differ from itself.
const SAME_MEMORY: f64 = 0.03;

/// Everything a run needs from the outside.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The task.
    pub task: Task,
    /// Name of the run; `None` is the latest one, or a new one where there is none.
    pub run: Option<String>,
    /// Begin a new run even if there is an unfinished one.
    pub new_run: bool,
    /// Who proposes.
    pub proposers: Vec<ProposerSpec>,
    /// How several share the trials.
    pub mix: Mix,
    /// What they may spend.
    pub asking: AskingLimits,
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
    /// The disk is so full that builds and candidates would fail for it.
    #[error(
        "go on: the disk of {path} has {free} free, and below {FREE_DISK} candidates would be blamed for it"
    )]
    DiskFull {
        /// The folder of the state.
        path: PathBuf,
        /// What may still be written.
        free: Bytes,
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
    /// The evaluator broke down, in a run twice in a row. The trial stays open.
    #[error("score trial {trial}: {detail}")]
    Evaluator {
        /// The trial.
        trial: TrialId,
        /// How the evaluator ended, and its last words.
        detail: String,
    },
    /// The task changed since the run began.
    #[error("{verb} run `{run}`: {what} changed since it began, so its scores would not compare")]
    Changed {
        /// What was asked for: `resume`, or `compare with`.
        verb: &'static str,
        /// The run.
        run: String,
        /// What changed.
        what: String,
    },
    /// The run began on another machine.
    #[error("{verb} run `{run}` on this machine: {what}, so its scores would not compare")]
    OtherMachine {
        /// What was asked for: `resume`, or `compare with`.
        verb: &'static str,
        /// The run.
        run: String,
        /// Which fact differs, then and now.
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
            EngineError::Evaluator { .. } => Some(
                "mend what stopped the evaluator (its last words are above), then start the same command again: \
                 it goes on with this trial"
                    .into(),
            ),
            EngineError::NoRun { .. } => Some("`sprag run` begins one".into()),
            EngineError::Changed { .. } => {
                Some("take the change back, or begin a new run with `sprag run --new`".into())
            }
            EngineError::OtherMachine { .. } => {
                Some("go on where it began, or measure this machine with `sprag run --new`".into())
            }
            EngineError::DiskFull { .. } => {
                Some("free some space, then start the same command again: it resumes".into())
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
    let lane = local_lane(&setup);
    let proposers = setup
        .proposers
        .iter()
        .map(|spec| spec.open_with(&setup.task, &setup.environment, &setup.asking))
        .collect();
    run_with(setup, Box::new(lane), proposers, observer)
}

/// This machine, for the task at hand.
fn local_lane(setup: &Setup) -> Local {
    let layout = Layout::of(&setup.task.dir);
    Local {
        task: setup.task.clone(),
        confinement: setup.confinement.clone(),
        sprag: setup.sprag_program.clone(),
        environment: setup.environment.clone(),
        cache: layout.cache(),
        scratch: layout.scratch(),
        default_memory_bytes: setup.default_memory_bytes,
        kill: setup.kill.clone(),
    }
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

/// A full disk must not decide on a candidate, so it is looked for around everything that writes.
fn enough_space(layout: &Layout) -> Result<(), EngineError> {
    let path = layout.root().to_owned();
    let looked = machine::free_disk_bytes(&path);
    let free = Bytes(looked.map_err(EngineError::state("look for free space below", &path))?);
    if free < FREE_DISK { Err(EngineError::DiskFull { path, free }) } else { Ok(()) }
}

/// Whether scores made now compare with the run's; `fixed_sha256` is of its base, with the external files as
/// they are now.
fn comparable(
    verb: &'static str,
    run: &RunStarted,
    setup: &Setup,
    fixed_sha256: &str,
) -> Result<(), EngineError> {
    let changed = |what: &str| EngineError::Changed { verb, run: run.run.clone(), what: what.into() };
    if run.task_sha256 != setup.task.sha256 {
        return Err(changed("task.toml"));
    }
    if run.fixed_sha256 != fixed_sha256 {
        return Err(changed("a file listed under `files.external`"));
    }
    match other_machine(&run.machine, &setup.machine) {
        Some(what) => Err(EngineError::OtherMachine { verb, run: run.run.clone(), what }),
        None => Ok(()),
    }
}

/// The first fact that decides how fast code runs and differs; what is unknown differs from nothing.
fn other_machine(then: &BTreeMap<String, String>, now: &BTreeMap<String, String>) -> Option<String> {
    let differs = |name: &str, same: fn(&str, &str) -> bool| {
        let (then, now) = (then.get(name)?, now.get(name)?);
        (!same(then, now)).then(|| format!("its `{name}` was {then} and is {now}"))
    };
    differs("cpu", |then, now| then == now)
        .or_else(|| differs("usable_cores", |then, now| then == now))
        .or_else(|| differs("memory_bytes", about_equal))
}

/// Equal but for what kernel and firmware take for themselves, which changes from boot to boot.
fn about_equal(then: &str, now: &str) -> bool {
    match (then.parse::<f64>(), now.parse::<f64>()) {
        (Ok(then), Ok(now)) => (then - now).abs() <= SAME_MEMORY * then.max(now),
        _ => then == now,
    }
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
