//! What the ledger remembers: one [`Record`] a line, documented for readers of files in `docs/format.md`.
//!
//! Plain data. Writing belongs to `ledger`, meaning to `state`.

mod guard;
mod outcome;
mod policy;
mod proposal;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::memory::Stage;
pub use guard::{GuardRule, Limit, Side};
pub use outcome::{Invalid, Outcome, Reason, Score, Stopped};
pub use policy::{Policy, Preset};
pub use proposal::{Asked, Mix, Near, Proposed, Spending};

/// Version of the ledger's lines that this program writes.
pub const FORMAT: u32 = 1;

/// Number of a trial within a run; trial 0 is the baseline.
pub type TrialId = u32;

/// Number of a measurement within a run, counted over all trials.
pub type MeasureId = u32;

/// Number of an audit within a run, from 1.
pub type AuditId = u32;

/// A git object name, 40 or 64 hexadecimal digits.
pub type CommitId = String;

/// One durable fact. Intents (`*_started`) are written before their effect, the others after it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Record {
    /// A run begins: everything that must not change while it lasts.
    RunStarted(Box<RunStarted>),
    /// The program took the run up again after a stop or a crash.
    RunResumed {
        /// Version of the program that resumed it.
        sprag_version: String,
        /// What the sandbox enforces now; `None` in lines of versions that did not say.
        #[serde(default)]
        sandbox: Option<Vec<String>>,
        /// What the sandbox lacks now.
        #[serde(default)]
        sandbox_missing: Vec<String>,
        /// Facts about the machine now.
        #[serde(default)]
        machine: BTreeMap<String, String>,
    },
    /// A torn last line was cut off before the run went on.
    LedgerRepaired {
        /// Bytes that were dropped.
        dropped_bytes: u64,
    },
    /// A proposer is about to be asked for this trial.
    TrialStarted {
        /// The trial.
        trial: TrialId,
        /// Name of the proposer.
        proposer: String,
        /// Commit that the proposal starts from.
        parent: CommitId,
        /// The trial whose change is tried once more, because what it was made on failed an audit.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        again: Option<TrialId>,
        /// The first trial of the heat that it belongs to; `None` for one that does not race.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        heat: Option<TrialId>,
    },
    /// A proposal was committed under `refs/sprag/<run>/<trial>`.
    Proposed(Proposed),
    /// A proposer that costs something was asked, whatever came of it.
    Asked(Asked),
    /// What a proposer was told, kept beside the ledger.
    Briefed {
        /// The trial.
        trial: TrialId,
        /// Version of the brief's text.
        version: u32,
        /// SHA-256 of the text.
        sha256: String,
    },
    /// The run stands still, and from this trial on proposers are asked for something else.
    Plateau {
        /// The trial that is about to be proposed.
        trial: TrialId,
        /// Trials since the last keep.
        without_win: u32,
        /// What is asked for.
        stage: Stage,
    },
    /// What a decided trial taught, in at most two sentences.
    Lesson {
        /// The trial.
        trial: TrialId,
        /// The lesson.
        text: String,
        /// Who says so: `sprag` by rule, or the name of a proposer.
        by: String,
    },
    /// The proposer has nothing more to offer, or failed.
    ProposerStopped {
        /// The trial that got no proposal.
        trial: TrialId,
        /// Why.
        reason: String,
    },
    /// The trial's worktree is about to be built.
    BuildStarted {
        /// The trial.
        trial: TrialId,
        /// 0 for the proposal, then one for each repair.
        attempt: u32,
    },
    /// The build ended.
    Built {
        /// The trial.
        trial: TrialId,
        /// The attempt of `build_started`.
        attempt: u32,
        /// Wall seconds.
        seconds: f64,
        /// `None` when it succeeded.
        error: Option<String>,
        /// It was stopped because it took too long.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        timed_out: bool,
    },
    /// One execution of a trial's code is about to start.
    MeasureStarted(Measure),
    /// It ended, with a score or without.
    Measured {
        /// What was executed.
        #[serde(flatten)]
        measure: Measure,
        /// What came of it.
        outcome: Outcome,
        /// Wall seconds of the whole execution, start-up and evaluation included.
        seconds: f64,
    },
    /// An earlier execution turns out to have been disturbed by the machine: its score does not count any more.
    Disqualified {
        /// The trial on whose behalf it was made.
        trial: TrialId,
        /// The measurement.
        measure: MeasureId,
        /// How it is known.
        detail: String,
    },
    /// The gate, or a rule before it, decided on the trial.
    Decided {
        /// The trial.
        trial: TrialId,
        /// The decision.
        verdict: Verdict,
        /// In plain words, one line.
        reason: String,
    },
    /// The run's branch is about to move to a kept trial's commit.
    AdvanceStarted {
        /// The trial.
        trial: TrialId,
        /// Where the branch is.
        from: CommitId,
        /// Where it goes.
        to: CommitId,
    },
    /// The branch has moved.
    Advanced {
        /// The trial.
        trial: TrialId,
        /// Where the branch is now.
        to: CommitId,
    },
    /// The last decision is about to be taken back; nothing is erased.
    UndoStarted {
        /// The trial whose decision is taken back.
        trial: TrialId,
        /// Where the branch goes.
        to: CommitId,
        /// The audit that did not bear it out; `None` when a person takes it back.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        audit: Option<AuditId>,
    },
    /// The decision was taken back.
    Undone {
        /// The trial.
        trial: TrialId,
        /// Where the branch is now.
        to: CommitId,
    },
    /// The tip, or a beginning of the chain of keeps that leads to it, is about to be audited.
    AuditStarted {
        /// Number of the audit.
        audit: AuditId,
        /// The trial that is audited.
        tip: TrialId,
        /// The certified champion.
        against: TrialId,
        /// Keeps from the champion to the audited trial.
        keeps: u32,
        /// The level granted to this audit.
        level: f64,
    },
    /// The audit ended.
    Audited {
        /// Number of the audit.
        audit: AuditId,
        /// How.
        end: AuditEnd,
        /// The evidence that the tip is better, as a bet against it not being better: one over the level certifies.
        e_value: f64,
        /// The tip's advantage, with an interval that is valid however often the pairs were looked at; `None`
        /// without pairs.
        effect: Option<Effect>,
        /// The holdout score that is shown from now on, where the holdout was asked.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        holdout: Option<f64>,
        /// It says nothing of the tip: the machine, or the champion's code, gave it no chance.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        gave_up: bool,
        /// In plain words, one line.
        reason: String,
    },
    /// The champion is about to be brought to a branch of the user's.
    MergeStarted {
        /// Trial whose code it is.
        trial: TrialId,
        /// That branch.
        branch: String,
    },
    /// The champion was brought to a branch of the user's.
    Merged {
        /// Trial whose code it is.
        trial: TrialId,
        /// The new commit on the user's branch.
        commit: CommitId,
        /// That branch.
        branch: String,
    },
    /// The run ended by itself: limits reached, nothing left to try.
    RunFinished {
        /// Why.
        reason: String,
    },
}

/// The frame of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunStarted {
    /// The run's name; its branch is `sprag/<run>`.
    pub run: String,
    /// Version of the program.
    pub sprag_version: String,
    /// Name of the task.
    pub task: String,
    /// SHA-256 of `task.toml`.
    pub task_sha256: String,
    /// Commit the run starts from.
    pub base: CommitId,
    /// SHA-256 over the fixed files, names and contents.
    pub fixed_sha256: String,
    /// Name of the metric, for example `val_bpb`.
    pub metric: String,
    /// Which way is better.
    pub direction: Direction,
    /// What a trial may spend.
    pub budget: Budget,
    /// What a kept trial and the incumbent before it may spend when they are executed once more to tell why it is
    /// better; `None` where the task asks for no such thing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub second: Option<SecondBudget>,
    /// Numbers of the gate that decide in this run.
    pub policy: Policy,
    /// Limits that what is kept stays within.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub guards: Vec<GuardRule>,
    /// Seed from which every seed of the run is derived.
    pub seed: u64,
    /// Names of the proposers.
    pub proposers: Vec<String>,
    /// How they share the trials.
    #[serde(default)]
    pub mix: Mix,
    /// What the sandbox enforces here, one phrase each; empty with `--allow-unsandboxed`.
    pub sandbox: Vec<String>,
    /// What it lacks here; not empty only with `--allow-unsandboxed`.
    pub sandbox_missing: Vec<String>,
    /// Facts about the machine, by name (`cpu`, `cores`, `memory_bytes`, ...).
    pub machine: BTreeMap<String, String>,
}

/// Which way is better.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// A smaller score is better.
    #[default]
    Lower,
    /// A larger score is better.
    Higher,
}

impl Direction {
    /// The word for the better side.
    pub fn word(self) -> &'static str {
        match self {
            Direction::Lower => "lower",
            Direction::Higher => "higher",
        }
    }
}

impl std::str::FromStr for Direction {
    type Err = String;

    fn from_str(text: &str) -> Result<Direction, String> {
        match text {
            "lower" => Ok(Direction::Lower),
            "higher" => Ok(Direction::Higher),
            other => Err(format!("`{other}` is no direction; write lower or higher")),
        }
    }
}

/// What one execution of a candidate may spend.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "amount", rename_all = "snake_case")]
pub enum Budget {
    /// Seconds of training on the evaluator's clock.
    Seconds(f64),
    /// Tokens served.
    Tokens(u64),
    /// Steps of training; what counts as one is the evaluator's to say. `sprag train eval` counts batches served.
    Steps(u64),
    /// Evaluations of a function, episodes of an agent: whatever the run command is told to count.
    Evaluations(u64),
}

impl Budget {
    /// How much of its own kind.
    pub fn amount(self) -> f64 {
        match self {
            Budget::Seconds(seconds) => seconds,
            Budget::Tokens(count) | Budget::Steps(count) | Budget::Evaluations(count) => count as f64,
        }
    }

    /// One of so many equal parts; of what is counted at least one. `parts` must not be 0.
    #[must_use]
    pub fn part(self, parts: u32) -> Budget {
        let share = |whole: u64| (whole / u64::from(parts)).max(1);
        match self {
            Budget::Seconds(seconds) => Budget::Seconds(seconds / f64::from(parts)),
            Budget::Tokens(tokens) => Budget::Tokens(share(tokens)),
            Budget::Steps(steps) => Budget::Steps(share(steps)),
            Budget::Evaluations(evaluations) => Budget::Evaluations(share(evaluations)),
        }
    }
}

impl Default for Budget {
    fn default() -> Self {
        Budget::Seconds(0.0)
    }
}

/// The budget under which kept code is scored besides the first one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecondBudget {
    /// As written; of another kind than the first.
    Fixed(Budget),
    /// As many tokens as the full runs of the baseline were served in the median, known after the baseline.
    EqualTokens,
}

/// One execution of a trial's code.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measure {
    /// Number of the measurement.
    pub measure: MeasureId,
    /// Trial on whose behalf it is made.
    pub trial: TrialId,
    /// Trial whose code is executed: the trial itself, or the incumbent it is paired with.
    pub arm: TrialId,
    /// Seed given to the evaluator.
    pub seed: u64,
    /// What it is for.
    pub purpose: Purpose,
    /// What it may spend, where that is not the run's own budget: the second one, or a part in a race.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
}

/// What a measurement is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// The noise floor: a repeat of the baseline.
    Baseline,
    /// A few steps, to see whether it runs at all; never a score.
    Smoke,
    /// First full execution of a candidate.
    Screen,
    /// Paired with the other arm under the same seed.
    Confirm,
    /// `sprag check`: asked for by a person, decides nothing.
    Check,
    /// The incumbent again, so that what candidates are compared with is not old.
    Anchor,
    /// One arm of a pair of an audit.
    Audit,
    /// Scored on the sealed holdout instead of the validation text; compared with nothing else.
    Holdout,
    /// One arm of a pair under the second budget, after a keep; it decides nothing and is compared with nothing else.
    Second,
    /// A whole run under a part of the budget; compared with nothing but the others of that rung of the heat.
    Race,
    /// The task's guard commands, once a trial; never a score.
    Guard,
}

impl Purpose {
    /// True for an execution under the run's whole own budget that is scored on the validation text.
    pub fn scores(self) -> bool {
        !matches!(self, Purpose::Smoke | Purpose::Holdout | Purpose::Second | Purpose::Race | Purpose::Guard)
    }
}

/// How an audit ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuditEnd {
    /// The tip is better: it is the certified champion now.
    Certified,
    /// The pairs, or the holdout, speak against it.
    Failed,
    /// The pairs speak for it, not loudly enough.
    Open,
}

impl AuditEnd {
    /// The word shown to people.
    pub fn word(self) -> &'static str {
        match self {
            AuditEnd::Certified => "CERTIFIED",
            AuditEnd::Failed => "FAILED",
            AuditEnd::Open => "OPEN",
        }
    }
}

/// What was decided on a trial.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Verdict {
    /// The noise floor is known; there is an incumbent.
    Baseline {
        /// Mean score of the repeats.
        mean: f64,
        /// Their standard deviation.
        sd: f64,
        /// How many.
        n: u32,
    },
    /// Better than the incumbent.
    Win(Effect),
    /// Not better.
    Loss(Effect),
    /// The interval still spans zero and the pairs are spent.
    Inconclusive(Effect),
    /// Behind others of its heat on a part of the budget: neither better nor worse than the incumbent, with which it
    /// was not compared.
    Raced(Raced),
    /// No score.
    Invalid(Invalid),
    /// Its screening run was stopped early: no score, nothing kept, and no crash either.
    Stopped {
        /// Where its curve left the incumbent's band.
        detail: String,
    },
}

/// Where a trial left its heat.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Raced {
    /// Its place in the rung, from 1.
    pub place: u32,
    /// Trials that ran in the rung.
    pub of: u32,
    /// The last one that went on.
    pub against: TrialId,
    /// How much worse than that one it was, in units of the metric; not negative.
    pub behind: f64,
    /// What each run of the rung could spend.
    pub budget: Budget,
}

/// Advantage over the incumbent, positive when better whatever the direction of the metric.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Effect {
    /// Point estimate, in units of the metric.
    pub gain: f64,
    /// Lower end of the two-sided interval at level 1 - 2 alpha.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Runs of the candidate it rests on, its screening run left out; 0 when it rests on that one alone.
    #[serde(alias = "pairs")]
    pub runs: u32,
    /// The noise that was assumed: standard deviation of one run.
    pub sigma: f64,
}

impl Effect {
    /// The gain in sigma, shrunken towards zero by how little it rests on: times prior variance / (prior variance +
    /// variance of a difference of that many runs), the prior being a gain of one sigma either way.
    pub fn shrunken_sigmas(&self) -> f64 {
        if self.sigma.is_nan() || self.sigma <= 0.0 {
            return self.gain.signum() * if self.gain == 0.0 { 0.0 } else { 1.0 };
        }
        let variance = 2.0 / f64::from(self.runs.max(1));
        self.gain / self.sigma / (1.0 + variance)
    }
}

impl Verdict {
    /// The word shown to people.
    pub fn word(&self) -> &'static str {
        match self {
            Verdict::Baseline { .. } => "BASELINE",
            Verdict::Win(_) => "WIN",
            Verdict::Loss(_) => "LOSS",
            Verdict::Inconclusive(_) => "INCONCLUSIVE",
            Verdict::Raced(_) => "OUTRUN",
            Verdict::Invalid(_) => "INVALID",
            Verdict::Stopped { .. } => "STOPPED",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_outcome_reads_and_writes_as_before_when_nothing_was_seen() {
        let old = r#"{"invalid":{"reason":"crash","detail":"exit 1"}}"#;
        let outcome: Outcome = serde_json::from_str(old).unwrap();
        assert_eq!(outcome, Outcome::Invalid(Invalid::new(Reason::Crash, "exit 1")));
        assert_eq!(serde_json::to_string(&outcome).unwrap(), old);
    }

    #[test]
    fn lines_without_a_second_budget_read_and_write_as_before() {
        let old = r#"{"measure":3,"trial":1,"arm":0,"seed":9,"purpose":"confirm"}"#;
        let measure: Measure = serde_json::from_str(old).unwrap();
        assert_eq!((measure.budget, serde_json::to_string(&measure).unwrap().as_str()), (None, old));
        let started = serde_json::to_value(RunStarted::default()).unwrap();
        assert!(started.get("second").is_none());
        assert_eq!(serde_json::from_value::<RunStarted>(started).unwrap(), RunStarted::default());
        // Through a flattened field, as `measured` holds it.
        let second = Measure { purpose: Purpose::Second, budget: Some(Budget::Tokens(500_000)), ..measure };
        let line = Record::Measured { measure: second, outcome: Outcome::Passed, seconds: 1.0 };
        let text = serde_json::to_string(&line).unwrap();
        assert!(text.contains(r#""budget":{"kind":"tokens","amount":500000}"#), "{text}");
        assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), line);
        for (second, json) in [
            (SecondBudget::EqualTokens, r#""equal_tokens""#),
            (SecondBudget::Fixed(Budget::Seconds(2.5)), r#"{"fixed":{"kind":"seconds","amount":2.5}}"#),
        ] {
            assert_eq!(serde_json::to_string(&second).unwrap(), json);
            assert_eq!(serde_json::from_str::<SecondBudget>(json).unwrap(), second);
        }
    }

    #[test]
    fn lines_without_a_heat_or_a_part_of_the_budget_read_and_write_as_before() {
        for old in [
            r#"{"type":"trial_started","trial":1,"proposer":"p","parent":"c"}"#,
            r#"{"type":"measure_started","measure":3,"trial":1,"arm":1,"seed":5,"purpose":"screen"}"#,
        ] {
            let record: Record = serde_json::from_str(old).unwrap();
            assert_eq!(serde_json::to_string(&record).unwrap(), old);
        }
        assert_eq!(serde_json::from_str::<Policy>(r#"{"alpha":0.1}"#).unwrap().race, 1);
        let budget = Budget::Tokens(10).part(4);
        let raced = Verdict::Raced(Raced { place: 3, of: 4, against: 1, behind: 0.5, budget });
        let line = serde_json::to_string(&raced).unwrap();
        assert_eq!(serde_json::from_str::<Verdict>(&line).unwrap(), raced);
        assert_eq!((budget, Budget::Tokens(3).part(16)), (Budget::Tokens(2), Budget::Tokens(1)));
    }

    #[test]
    fn a_stopped_outcome_comes_back_with_what_was_seen() {
        let line = r#"{"stopped":{"facts":{"train_seconds":3.5},"curve":[[0.5,8.0]],"detail":"it left"}}"#;
        let outcome: Outcome = serde_json::from_str(line).unwrap();
        assert_eq!(outcome.facts().unwrap()["train_seconds"], 3.5);
        assert_eq!(outcome.curve(), [[0.5, 8.0]]);
        assert_eq!(serde_json::to_string(&outcome).unwrap(), line);
    }

    #[test]
    fn a_policy_of_a_program_before_early_stopping_does_not_stop() {
        let mut old = serde_json::to_value(Policy::default()).unwrap();
        assert_eq!(old.as_object_mut().unwrap().remove("early_stop"), Some(true.into()));
        let old: Policy = serde_json::from_value(old).unwrap();
        assert_eq!(old, Policy { early_stop: false, ..Policy::default() });
        let stops = Preset::ALL.map(|preset| preset.policy().early_stop);
        assert_eq!(stops, [true, true, false, false]);
    }

    #[test]
    fn a_verdict_leaves_facts_and_curve_to_the_measurement() {
        let facts = BTreeMap::from([("train_seconds".to_owned(), 3.5)]);
        let invalid = Invalid { facts, curve: vec![[0.5, 8.0]], ..Invalid::new(Reason::Overtime, "late") };
        let outcome = Outcome::Invalid(invalid.clone());
        assert_eq!(
            serde_json::from_str::<Outcome>(&serde_json::to_string(&outcome).unwrap()).unwrap(),
            outcome
        );
        assert_eq!((outcome.facts(), outcome.curve()), (Some(&invalid.facts), &invalid.curve[..]));
        assert_eq!(invalid.verdict(), Verdict::Invalid(Invalid::new(Reason::Overtime, "late")));
    }
}
