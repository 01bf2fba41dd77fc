//! What an evaluation says while it runs and when it ends, as the lines that the loop reads.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::Facts;
use crate::data::DataError;

/// Least time between two events of one stage.
const EVENT_EVERY: Duration = Duration::from_millis(250);

/// Something to show while an evaluation runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum EvalEvent {
    /// How far it is; at most four a second.
    Progress {
        /// What is going on.
        stage: Stage,
        /// Part of the stage that is done, 0 to 1.
        fraction: f64,
        /// Since the stage began.
        elapsed_seconds: f64,
        /// Tokens trained on, or answered, so far.
        tokens: u64,
        /// Tokens a second, trained on or answered.
        tokens_per_second: f64,
        /// Training loss that the candidate last reported.
        #[serde(skip_serializing_if = "Option::is_none")]
        loss: Option<f64>,
        /// Mean training loss of the steps that it reported since the event before.
        #[serde(skip_serializing_if = "Option::is_none")]
        mean_loss: Option<f64>,
        /// Optimiser steps that it reported.
        step: u64,
    },
}

impl EvalEvent {
    /// The event as one line of JSON, without its newline.
    pub fn to_json_line(&self) -> String {
        json_line(self)
    }
}

/// What is going on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The candidate starts.
    Start,
    /// It trains.
    Train,
    /// It answers.
    Evaluate,
}

/// What came of an evaluation.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum EvalOutcome {
    /// A score.
    #[serde(rename = "score")]
    Scored {
        /// Validation bits per byte.
        value: f64,
        /// What was measured beside it; `reported_*` was said by the candidate.
        facts: Facts,
        /// The training loss that the candidate reported, thinned: seconds, tokens or steps as the budget
        /// is, then nats a token.
        curve: Vec<[f64; 2]>,
        /// Optimiser steps that it had reported at each point of the curve.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        curve_steps: Vec<f64>,
    },
    /// A smoke test without a fault.
    Passed,
    /// No score, and why.
    Invalid {
        /// The class, as the loop's records name it.
        reason: &'static str,
        /// What exactly.
        detail: String,
        /// As far as it came: what a score would have beside it.
        #[serde(skip_serializing_if = "Facts::is_empty")]
        facts: Facts,
        /// The same of the training loss.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        curve: Vec<[f64; 2]>,
    },
}

impl EvalOutcome {
    /// The outcome as one line of JSON, without its newline.
    pub fn to_json_line(&self) -> String {
        json_line(self)
    }
}

fn json_line(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("names and finite numbers are always JSON")
}

/// The evaluator itself failed; nothing is known about the candidate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvalError {
    /// The data cannot be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The data contradicts itself.
    #[error("the prepared data is damaged: {0}")]
    Damaged(String),
    /// Too little text to score on.
    #[error("the validation split holds {windows} window(s) of {seq_len} tokens, too few to score and probe")]
    TooFewWindows {
        /// Windows there are.
        windows: usize,
        /// Their length.
        seq_len: u32,
    },
    /// No token of the validation windows stands for text.
    #[error("the validation windows hold special tokens alone")]
    NothingToScore,
    /// The socket cannot be used.
    #[error("cannot use the socket to the candidate: {0}")]
    Socket(std::io::Error),
}

impl EvalError {
    /// What to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            EvalError::Data(error) => error.hint(),
            EvalError::Damaged(_) => Some("prepare the data again with `sprag data prepare`"),
            EvalError::TooFewWindows { .. } | EvalError::NothingToScore => {
                Some("prepare more text, or ask for shorter windows with `--max-seq-len`")
            }
            EvalError::Socket(_) => Some("the evaluator's standard input must be a Unix stream socket"),
        }
    }
}

/// Passes events on, not too many.
pub(super) struct Reporter<'a> {
    on_event: &'a mut dyn FnMut(EvalEvent),
    last: Option<(Stage, Instant)>,
}

impl<'a> Reporter<'a> {
    pub(super) fn new(on_event: &'a mut dyn FnMut(EvalEvent)) -> Self {
        Reporter { on_event, last: None }
    }

    /// Emits what `event` makes, unless the stage had an event just now.
    pub(super) fn progress(&mut self, stage: Stage, event: impl FnOnce() -> EvalEvent) {
        let now = Instant::now();
        let due = self.last.is_none_or(|(last, at)| last != stage || now - at >= EVENT_EVERY);
        if due {
            self.last = Some((stage, now));
            (self.on_event)(event());
        }
    }
}
