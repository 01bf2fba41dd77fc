//! What was proposed, and what asking for it cost.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{CommitId, TrialId};

/// How several proposers share the trials of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mix {
    /// By weight, turn by turn; who is not named has the weight 1.
    Weights(BTreeMap<String, f64>),
    /// By the certified gain that each brings for what its trials cost.
    Bandit {
        /// What an hour of this machine costs, in US dollars, so that time and money add up.
        usd_per_hour: f64,
    },
}

impl Default for Mix {
    fn default() -> Self {
        Mix::Weights(BTreeMap::new())
    }
}

/// How like an earlier trial's a change is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Near {
    /// The earlier trial.
    pub trial: TrialId,
    /// Resemblance of the changes, 0 to 1.
    pub likeness: f64,
}

/// One asking of a proposer that costs something.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Asked {
    /// The trial.
    pub trial: TrialId,
    /// The proposer.
    pub proposer: String,
    /// What it cost.
    pub spending: Spending,
    /// How it ended, one line: `proposed`, or why not.
    pub end: String,
}

/// What asking cost, as the proposer's own stream says; `None` is not known, not nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spending {
    /// Wall seconds.
    pub seconds: f64,
    /// Times that the model was called, or turns of the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turns: Option<u64>,
    /// Tokens that the model read, cached ones included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_tokens: Option<u64>,
    /// Tokens that it wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_tokens: Option<u64>,
    /// US dollars.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usd: Option<f64>,
}

impl Spending {
    /// Both together: what only one of them knows counts as it is.
    #[must_use]
    pub fn plus(self, other: Spending) -> Spending {
        fn sum<T: std::ops::Add<Output = T>>(one: Option<T>, other: Option<T>) -> Option<T> {
            match (one, other) {
                (Some(one), Some(other)) => Some(one + other),
                (one, other) => one.or(other),
            }
        }
        Spending {
            seconds: self.seconds + other.seconds,
            turns: sum(self.turns, other.turns),
            input_tokens: sum(self.input_tokens, other.input_tokens),
            output_tokens: sum(self.output_tokens, other.output_tokens),
            usd: sum(self.usd, other.usd),
        }
    }

    /// Tokens read and written.
    pub fn tokens(self) -> u64 {
        self.input_tokens.unwrap_or(0) + self.output_tokens.unwrap_or(0)
    }
}

/// A committed proposal.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Proposed {
    /// The trial.
    pub trial: TrialId,
    /// 0 for the proposal, then one for each repair after a failed build.
    pub attempt: u32,
    /// The commit that holds it.
    pub commit: CommitId,
    /// One line: what changes.
    pub title: String,
    /// What the proposer expects, and why.
    pub hypothesis: Option<String>,
    /// The family of ideas it belongs to, for example `learning rate`.
    pub family: Option<String>,
    /// The open line of `hypotheses.md` that it tries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idea: Option<String>,
    /// The gain that the proposer expects, in units of the metric, positive when better.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_gain: Option<f64>,
    /// The earlier trial that changed nearly the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub near: Option<Near>,
    /// SHA-256 of the normalised mutable files: equal means the same idea.
    pub content: String,
    /// Paths that it changes against its parent.
    pub paths: Vec<String>,
    /// Lines added.
    pub insertions: u32,
    /// Lines removed.
    pub deletions: u32,
}
