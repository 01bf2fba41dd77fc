//! The one stream that console, report and other consumers live on.
//!
//! A consumer may fail or be absent; it never stops the loop.

use serde::Serialize;

use crate::ledger::Line;
use crate::record::{Measure, TrialId};

/// Something happened.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A line was appended to the ledger: the durable facts.
    Recorded {
        /// The line.
        line: Box<Line>,
    },
    /// A phase of a trial begins.
    Phase {
        /// The trial.
        trial: TrialId,
        /// The phase.
        phase: Phase,
        /// The measurement, in the phases that execute code.
        measure: Option<Measure>,
        /// How long it is expected to take, in seconds, where known.
        expected_seconds: Option<f64>,
    },
    /// Where a phase stands.
    Progress(Progress),
    /// A line that a child process wrote.
    Output {
        /// The trial.
        trial: TrialId,
        /// The text, without its newline.
        text: String,
    },
    /// Something a person should know; the loop goes on.
    Warning {
        /// What.
        text: String,
        /// The next step.
        hint: Option<String>,
    },
}

/// The phases of a trial, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// A proposer is at work.
    Propose,
    /// The build command runs.
    Build,
    /// A few steps.
    Smoke,
    /// Training, or whatever the run command does.
    Run,
    /// The evaluator scores.
    Evaluate,
    /// The guard commands run.
    Guard,
}

/// Where a phase stands; what is not known is `None`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, serde::Deserialize)]
pub struct Progress {
    /// Name of the stage as the evaluator calls it (`start`, `train`, `evaluate`).
    #[serde(default)]
    pub stage: String,
    /// Part done, 0 to 1.
    #[serde(default)]
    pub fraction: Option<f64>,
    /// Seconds into the stage.
    #[serde(default)]
    pub elapsed_seconds: Option<f64>,
    /// Tokens so far.
    #[serde(default)]
    pub tokens: Option<u64>,
    /// Tokens a second.
    #[serde(default)]
    pub tokens_per_second: Option<f64>,
    /// Last training loss, as the candidate reports it.
    #[serde(default)]
    pub loss: Option<f64>,
    /// Mean training loss of the steps since the message before this one, as the candidate reports it.
    #[serde(default)]
    pub mean_loss: Option<f64>,
    /// Optimiser steps so far.
    #[serde(default)]
    pub step: Option<u64>,
}

impl Progress {
    /// The [`Progress::stage`] in which a candidate spends its budget.
    pub const TRAINING: &'static str = "train";
}

/// Takes events; called on the loop's thread, so it must be quick.
pub trait Observer {
    /// Takes one event.
    fn observe(&mut self, event: &Event);
}

/// Keeps every event, for tests.
impl Observer for Vec<Event> {
    fn observe(&mut self, event: &Event) {
        self.push(event.clone());
    }
}

/// Drops every event.
impl Observer for () {
    fn observe(&mut self, _event: &Event) {}
}
