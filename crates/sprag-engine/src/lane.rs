//! A place where trials are built and executed.
//!
//! One trait, so that the loop is tested without processes and can later reach other machines. What is
//! executed and why is decided elsewhere; a lane only says what came of it.

mod listener;
mod local;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::event::{Phase, Progress};
use crate::record::{Budget, Outcome};

pub use local::Local;

/// The checked-out and built code of a trial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arm {
    /// Its sources.
    pub worktree: PathBuf,
    /// What its build kept.
    pub out: PathBuf,
    /// A checkout of the commit that the run began with, there when [`Task::needs_pristine`] says so.
    ///
    /// [`Task::needs_pristine`]: crate::task::Task::needs_pristine
    pub pristine: PathBuf,
}

/// One execution of an arm.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Job {
    /// Seed for the evaluator.
    pub seed: u64,
    /// What it may spend.
    pub budget: Budget,
    /// What it is asked for.
    pub phase: JobPhase,
    /// How long the longest execution of the baseline took, once known.
    pub longest: Option<Duration>,
}

/// What an execution is asked for; `{phase}` in commands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum JobPhase {
    /// A score within the whole budget.
    #[default]
    Run,
    /// A few steps only, and no score.
    Smoke,
    /// A score on the sealed holdout.
    Holdout,
    /// The guard commands instead of the run, and no score.
    Guard,
}

impl JobPhase {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            JobPhase::Run => "run",
            JobPhase::Smoke => "smoke",
            JobPhase::Holdout => "holdout",
            JobPhase::Guard => "guard",
        }
    }
}

/// What a lane tells while it works.
#[derive(Clone, Debug, PartialEq)]
pub enum Sign {
    /// A phase begins.
    Phase(Phase),
    /// Where it stands.
    Progress(Progress),
    /// A line of output.
    Output(String),
}

/// What the caller wants of an execution that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    /// It goes on.
    GoOn,
    /// Candidate and evaluator are stopped at once, and whatever they still answer is not listened to.
    Stop,
}

/// How a build ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BuildEnd {
    /// There is an artifact.
    Done,
    /// The compiler's complaint.
    Failed(String),
    /// It took too long: how long it had.
    TimedOut(String),
    /// A person stopped it.
    Interrupted,
}

/// How an execution ended.
#[derive(Clone, Debug, PartialEq)]
pub enum MeasureEnd {
    /// With an outcome.
    Done(Outcome),
    /// The evaluator broke down and answered nothing, which says nothing about the candidate: how it ended, and
    /// its last words.
    NoAnswer(String),
    /// The caller stopped it ([`Watch::Stop`]).
    Stopped {
        /// What was measured until then, as in [`Score`](crate::record::Score).
        facts: BTreeMap<String, f64>,
        /// The training curve as the evaluator told it under way, as in [`Score`](crate::record::Score).
        curve: Vec<[f64; 2]>,
    },
}

/// The lane itself is out of order; it says nothing about the candidate.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {source}")]
pub struct LaneError {
    /// What it tried.
    pub what: String,
    /// Why it could not.
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

impl LaneError {
    /// An error with what was tried.
    pub fn new(
        what: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> LaneError {
        LaneError { what: what.into(), source: source.into() }
    }
}

/// A place where trials are built and executed.
pub trait Lane {
    /// Builds an arm whose worktree is checked out. `longest` is the longest build seen.
    ///
    /// # Errors
    /// The lane is out of order.
    fn build(
        &mut self,
        arm: &Arm,
        longest: Option<Duration>,
        watch: &mut dyn FnMut(Sign),
    ) -> Result<BuildEnd, LaneError>;

    /// Executes a built arm to its end and has it scored, unless `watch` stops it.
    ///
    /// # Errors
    /// The lane is out of order.
    fn measure(
        &mut self,
        arm: &Arm,
        job: &Job,
        watch: &mut dyn FnMut(Sign) -> Watch,
    ) -> Result<MeasureEnd, LaneError>;
}
