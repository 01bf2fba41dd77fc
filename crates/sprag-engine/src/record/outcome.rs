//! What came of an execution: a score, or why there is none.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Verdict;

/// What came of a measurement. A crash has no metric.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The evaluator gave a score.
    Scored(Score),
    /// It ran a smoke test and all was well.
    Passed,
    /// No score, and why.
    Invalid(Invalid),
    /// The person or a limit of the run stopped it; it says nothing about the candidate.
    Interrupted,
    /// Stopped early because its curve had left the incumbent's band; no score, and no fault of the candidate's.
    Stopped(Stopped),
}

/// What was seen of an execution that the loop stopped.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stopped {
    /// What was measured until then, as in [`Score`].
    #[serde(default)]
    pub facts: BTreeMap<String, f64>,
    /// The training curve as far as it went, as in [`Score`].
    #[serde(default)]
    pub curve: Vec<[f64; 2]>,
    /// Where it left the band.
    #[serde(default)]
    pub detail: String,
}

/// A score with what was seen beside it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// The primary metric.
    pub value: f64,
    /// Everything else that is a number, name to value, the unit being the last word of the name
    /// (`tokens_per_second`, `peak_memory_bytes`, `evaluation_seconds`). Names that begin with
    /// `reported_` were said by the candidate, the others were measured.
    #[serde(default)]
    pub facts: BTreeMap<String, f64>,
    /// The candidate's own training curve, thinned; x is elapsed seconds, tokens, steps or evaluations, as the budget's
    /// kind.
    #[serde(default)]
    pub curve: Vec<[f64; 2]>,
    /// Optimiser steps at each point of the curve, as the candidate told them; empty where they are not known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub curve_steps: Vec<f64>,
    /// True when the candidate printed its own score (metric patterns).
    #[serde(default)]
    pub self_reported: bool,
}

/// Why there is no score.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Invalid {
    /// The class.
    pub reason: Reason,
    /// What exactly, at most a few lines.
    pub detail: String,
    /// What was seen all the same, as in [`Score`]; empty in a verdict.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub facts: BTreeMap<String, f64>,
    /// The training curve as far as it went, as in [`Score`]; empty in a verdict.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub curve: Vec<[f64; 2]>,
}

impl Invalid {
    /// Without facts and curve.
    pub fn new(reason: Reason, detail: impl Into<String>) -> Invalid {
        Invalid { reason, detail: detail.into(), facts: BTreeMap::new(), curve: Vec::new() }
    }

    /// For a verdict: facts and curve stay with the measurement they come from.
    pub fn verdict(&self) -> Verdict {
        Verdict::Invalid(Invalid::new(self.reason, self.detail.clone()))
    }
}

impl Outcome {
    /// What was measured besides a score, with a score or without.
    pub fn facts(&self) -> Option<&BTreeMap<String, f64>> {
        match self {
            Outcome::Scored(score) => Some(&score.facts),
            Outcome::Invalid(invalid) => Some(&invalid.facts),
            Outcome::Stopped(stopped) => Some(&stopped.facts),
            Outcome::Passed | Outcome::Interrupted => None,
        }
    }

    /// The training curve, with a score or without.
    pub fn curve(&self) -> &[[f64; 2]] {
        match self {
            Outcome::Scored(score) => &score.curve,
            Outcome::Invalid(invalid) => &invalid.curve,
            Outcome::Stopped(stopped) => &stopped.curve,
            Outcome::Passed | Outcome::Interrupted => &[],
        }
    }
}

/// Classes of invalidity. `Display` is the word shown to people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// No proposal: the proposer failed.
    Proposer,
    /// Proposal: nothing changed.
    Empty,
    /// Proposal: the same normalised content was tried before.
    Duplicate,
    /// Proposal: only what the noise depends on changed (seed, shuffling).
    SeedOnly,
    /// Proposal: touches files that may not change.
    OutsideMutable,
    /// The build failed, repairs included.
    Build,
    /// The build took too long.
    BuildTimeout,
    /// The candidate ended with an error.
    Crash,
    /// It ended with an error after the sandbox refused it something, or was killed for it.
    Denied,
    /// It did not end in its time.
    Timeout,
    /// It said nothing for too long.
    Silence,
    /// It used more memory than allowed.
    Memory,
    /// It started too many processes.
    Processes,
    /// It wrote more output or more files than allowed.
    Output,
    /// A fixed file changed under way.
    FixedFile,
    /// Training diverged: NaN or explosion.
    Diverged,
    /// Training went on past the budget.
    Overtime,
    /// Earlier answers depend on later tokens.
    Causality,
    /// The same question got another answer.
    State,
    /// An answer is not a finite number.
    NonFinite,
    /// An answer has the wrong shape.
    Shape,
    /// The candidate does not speak the protocol.
    Protocol,
    /// The run ended well but there is no metric in it.
    NoMetric,
    /// A guard of the task does not hold, whatever the score.
    Guard,
    /// The evaluator itself failed: nobody's fault but the task's.
    Evaluator,
    /// The machine was slower than usual while it ran, for reasons outside the candidate: the execution is
    /// repeated.
    Machine,
}

impl Reason {
    /// The word shown to people.
    pub fn word(self) -> &'static str {
        match self {
            Reason::Proposer => "proposer",
            Reason::Empty => "empty",
            Reason::Duplicate => "duplicate",
            Reason::SeedOnly => "seed-only",
            Reason::OutsideMutable => "outside-mutable",
            Reason::Build => "build",
            Reason::BuildTimeout => "build-timeout",
            Reason::Crash => "crash",
            Reason::Denied => "denied",
            Reason::Timeout => "timeout",
            Reason::Silence => "silence",
            Reason::Memory => "memory",
            Reason::Processes => "processes",
            Reason::Output => "output",
            Reason::FixedFile => "fixed-file",
            Reason::Diverged => "diverged",
            Reason::Overtime => "overtime",
            Reason::Causality => "causality",
            Reason::State => "state",
            Reason::NonFinite => "non-finite",
            Reason::Shape => "shape",
            Reason::Protocol => "protocol",
            Reason::NoMetric => "no-metric",
            Reason::Guard => "guard",
            Reason::Evaluator => "evaluator",
            Reason::Machine => "machine",
        }
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.pad(self.word())
    }
}

impl std::fmt::Display for Invalid {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.detail.lines().find(|line| !line.trim().is_empty()) {
            Some(line) => write!(formatter, "{}: {}", self.reason, line.trim()),
            None => write!(formatter, "{}", self.reason),
        }
    }
}
