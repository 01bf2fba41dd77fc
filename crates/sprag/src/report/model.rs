//! What the report shows, derived from a run's state: levels, intervals, shares of time, facts.
//!
//! Pure: state and a few texts in, [`Page`] out. Pictures belong to `plot`, words and layout to `html`;
//! `status`, `log` and `show` print parts of the same page, so all views agree.

mod derive;

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use sprag_engine::memory::{Family, Plateau, Predictions, Yield};
use sprag_engine::record::{
    AuditEnd, AuditId, Budget, Direction, Measure, Policy, Raced, Spending, TrialId, Verdict,
};
use sprag_engine::session::Second;
use sprag_engine::state::{EarlyStops, Trial};
use sprag_measure::stats::{self, Interval, mean};

pub use derive::page;

/// Version of the JSON form of a page.
pub const FORMAT: u32 = 1;

/// Probability with which a gain of the detectable size is found.
pub const DETECTABLE_POWER: f64 = 0.8;

/// What a page needs besides the state.
#[derive(Clone, Debug, Default)]
pub struct Extras {
    /// Diff of each trial against its parent, where it could be read.
    pub diffs: BTreeMap<TrialId, String>,
    /// Where the data came from, name and value.
    pub data: Vec<(String, String)>,
    /// Commands that repeat the run.
    pub reproduce: Vec<String>,
    /// Version of the program that makes the page.
    pub sprag_version: String,
    /// Now, RFC 3339.
    pub generated_at: String,
}

/// Everything a report says.
#[derive(Clone, Debug, Serialize)]
pub struct Page {
    /// Version of this form.
    pub format: u32,
    /// Name of the task.
    pub task: String,
    /// Name of the run.
    pub run: String,
    /// Name of the metric.
    pub metric: String,
    /// Which way is better.
    pub direction: Direction,
    /// What a trial may spend.
    pub budget: Budget,
    /// The gate's numbers.
    pub policy: Policy,
    /// Seed of the run.
    pub seed: u64,
    /// Names of the proposers.
    pub proposers: Vec<String>,
    /// Version of the program that started the run.
    pub sprag_version: String,
    /// Version of the program that made the page.
    pub made_by: String,
    /// When it was made.
    pub generated_at: String,
    /// When the run started.
    pub started_at: String,
    /// When the last line was written.
    pub updated_at: String,
    /// Why it ended, if it ended.
    pub finished: Option<String>,
    /// Times it was resumed.
    pub resumed: u32,
    /// Torn lines that were repaired.
    pub repaired: u32,
    /// Commit it started from.
    pub base: String,
    /// SHA-256 of `task.toml`.
    pub task_sha256: String,
    /// SHA-256 over the fixed files.
    pub fixed_sha256: String,
    /// Decimals that the noise leaves meaning to.
    pub decimals: usize,
    /// The answer, once the baseline is known.
    pub headline: Option<Headline>,
    /// The noise floor, once there is a repeat of the baseline.
    pub noise: Option<Noise>,
    /// Trial whose code is the certified champion.
    pub certified: Option<TrialId>,
    /// Keeps since then that no audit has certified.
    pub tentative: usize,
    /// Audits in order.
    pub audits: Vec<AuditView>,
    /// What became of ideas, by family.
    pub families: Vec<Family>,
    /// What each proposer brought, and what its trials cost.
    pub yields: Vec<Yield>,
    /// How well proposers foresee effects: all together, then each where there are several.
    pub predictions: Vec<Predictions>,
    /// What is asked for because the run stands still.
    pub plateau: Option<Plateau>,
    /// What proposers cost.
    pub spent: Spending,
    /// The candidate tells its own score.
    pub self_reported: bool,
    /// Most false certifications that all audits so far have in expectation: the sum of their levels.
    pub expected_false_certifications: f64,
    /// The score that is shown of the sealed holdout.
    pub holdout: Option<f64>,
    /// Times the holdout was asked.
    pub holdout_queries: u32,
    /// Executions that the machine disturbed, which were made again.
    pub disturbed: usize,
    /// Screening runs that were stopped early or would have been, and how often that was or would have been wrong.
    pub early_stops: EarlyStops,
    /// How many trials ended how.
    pub counts: Counts,
    /// Where the time went.
    pub time: TimeSplit,
    /// What scoring costs, where the evaluator told it apart.
    pub scoring: Option<Scoring>,
    /// The trials in order.
    pub trials: Vec<TrialView>,
    /// Facts about the machine.
    pub machine: BTreeMap<String, String>,
    /// What the sandbox enforced.
    pub sandbox: Vec<String>,
    /// What it lacked.
    pub sandbox_missing: Vec<String>,
    /// Where the data came from.
    pub data: Vec<(String, String)>,
    /// Commands that repeat the run.
    pub reproduce: Vec<String>,
}

/// One audit as views show it.
#[derive(Clone, Debug, Serialize)]
pub struct AuditView {
    /// Number.
    pub id: AuditId,
    /// The trial that was audited.
    pub tip: TrialId,
    /// The certified champion then.
    pub against: TrialId,
    /// Keeps between the two.
    pub keeps: u32,
    /// The level granted to it.
    pub level: f64,
    /// How it ended; `None` while it is under way.
    pub end: Option<AuditEnd>,
    /// The evidence that the tip is better.
    pub e_value: Option<f64>,
    /// The tip's advantage, with an interval that holds however often the pairs were looked at.
    pub effect: Option<EffectView>,
    /// In plain words.
    pub reason: Option<String>,
}

/// A mean that is never shown without its spread and count.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// Mean.
    pub mean: f64,
    /// Standard deviation of one value; `None` below two values.
    pub sd: Option<f64>,
    /// Values.
    pub n: usize,
}

impl Estimate {
    /// Of some values; `None` without any.
    pub fn of(values: &[f64]) -> Option<Estimate> {
        Some(Estimate { mean: mean(values)?, sd: stats::sample_sd(values), n: values.len() })
    }
}

/// An estimate of a true score.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Standing {
    /// The estimate, `gate::level`.
    pub mean: f64,
    /// Its standard error.
    pub standard_error: f64,
}

/// The answer of the run.
#[derive(Clone, Debug, Serialize)]
pub struct Headline {
    /// The last trial that was kept.
    pub tip: TrialId,
    /// Its title.
    pub title: String,
    /// Its own runs. Its screening run is left out: it was selected for being good.
    pub score: Estimate,
    /// Where it stands: its own runs with what the code that it was made from showed, so that luck in the runs that
    /// selected it is pulled back. `None` without statistics.
    pub standing: Option<Standing>,
    /// The baseline's score.
    pub baseline: Estimate,
    /// Advantage over the baseline, positive when better; `None` while the baseline is the tip.
    pub gain: Option<Interval>,
    /// Advantage that a candidate must really have to win with probability [`DETECTABLE_POWER`].
    pub detectable: Option<f64>,
}

/// The noise floor.
#[derive(Clone, Debug, Serialize)]
pub struct Noise {
    /// The repeats.
    pub repeats: Vec<Repeat>,
    /// Their summary.
    pub score: Estimate,
    /// Correlation of throughput and score over the repeats, where both vary.
    pub throughput_correlation: Option<f64>,
}

/// One repeat of the baseline.
#[derive(Clone, Debug, Serialize)]
pub struct Repeat {
    /// Seed.
    pub seed: u64,
    /// Score.
    pub value: f64,
    /// Throughput, where the evaluator said it.
    pub tokens_per_second: Option<f64>,
}

/// How many trials ended how; the baseline is not counted.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Counts {
    /// Better, and still kept.
    pub wins: u32,
    /// Not better.
    pub losses: u32,
    /// Cannot be told.
    pub inconclusive: u32,
    /// Behind others of their heat.
    pub outrun: u32,
    /// Stopped early.
    pub stopped: u32,
    /// Decisions taken back.
    pub undone: u32,
    /// Not decided yet.
    pub open: u32,
    /// Without a score, by reason.
    pub invalid: BTreeMap<String, u32>,
}

impl Counts {
    /// All of them.
    pub fn total(&self) -> u32 {
        let compared = self.wins + self.losses + self.inconclusive;
        compared + self.outrun + self.stopped + self.undone + self.open + self.invalid_total()
    }

    /// Trials without a score.
    pub fn invalid_total(&self) -> u32 {
        self.invalid.values().sum()
    }
}

/// Seconds by use, over all trials.
#[derive(Clone, Debug, Default, Serialize)]
pub struct TimeSplit {
    /// From each trial's start to its decision, and what it was executed for under the second budget.
    pub total_seconds: f64,
    /// Builds.
    pub build_seconds: f64,
    /// Smoke tests.
    pub smoke_seconds: f64,
    /// Training, as far as the evaluator told it apart.
    pub train_seconds: f64,
    /// Scoring, as far as the evaluator told it apart.
    pub evaluation_seconds: f64,
    /// The rest of the executions: start-up, shutdown, runs that were stopped.
    pub other_run_seconds: f64,
    /// Everything else: proposing, git, deciding, recording.
    pub engine_seconds: f64,
}

/// What scoring costs a run.
#[derive(Clone, Debug, Serialize)]
pub struct Scoring {
    /// Seconds, over all runs with a score.
    pub seconds: Estimate,
    /// Their mean as a part of the budget; `None` for a budget that is not in seconds.
    pub share: Option<f64>,
}

/// `2.20 s ± 0.26 s a run (sd, n=28), 11.0 % of the budget`.
impl fmt::Display for Scoring {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Estimate { mean, sd, n } = self.seconds;
        match sd {
            Some(sd) => write!(formatter, "{mean:.2} s ± {sd:.2} s a run (sd, n={n})")?,
            None => write!(formatter, "{mean:.2} s (n={n}, spread unknown)")?,
        }
        self.share.map_or(Ok(()), |share| write!(formatter, ", {:.1} % of the budget", 100.0 * share))
    }
}

/// How a trial ended; each has a shape of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mark {
    /// The baseline.
    Baseline,
    /// Better and kept.
    Win,
    /// Not better.
    Loss,
    /// Cannot be told.
    Inconclusive,
    /// Behind others of its heat, on a part of the budget.
    Outrun,
    /// Stopped early, because its curve had left the incumbent's band.
    Stopped,
    /// Without a score.
    Invalid,
    /// Decided, and the decision taken back.
    Undone,
    /// Not decided yet.
    Open,
}

impl Mark {
    /// All, in the order of a legend.
    pub const ALL: [Mark; 9] = [
        Mark::Baseline,
        Mark::Win,
        Mark::Loss,
        Mark::Inconclusive,
        Mark::Outrun,
        Mark::Stopped,
        Mark::Invalid,
        Mark::Undone,
        Mark::Open,
    ];

    /// The word in views.
    pub fn word(self) -> &'static str {
        match self {
            Mark::Baseline => "BASELINE",
            Mark::Win => "WIN",
            Mark::Loss => "LOSS",
            Mark::Inconclusive => "INCONCLUSIVE",
            Mark::Outrun => "OUTRUN",
            Mark::Stopped => "STOPPED",
            Mark::Invalid => "INVALID",
            Mark::Undone => "UNDONE",
            Mark::Open => "OPEN",
        }
    }

    /// The word in style sheets.
    pub fn class(self) -> &'static str {
        match self {
            Mark::Baseline => "baseline",
            Mark::Win => "win",
            Mark::Loss => "loss",
            Mark::Inconclusive => "inconclusive",
            Mark::Outrun => "outrun",
            Mark::Stopped => "stopped",
            Mark::Invalid => "invalid",
            Mark::Undone => "undone",
            Mark::Open => "open",
        }
    }

    /// How a trial ended.
    pub fn of(trial: &Trial) -> Mark {
        if trial.undone {
            return Mark::Undone;
        }
        match &trial.verdict {
            Some(Verdict::Baseline { .. }) => Mark::Baseline,
            Some(Verdict::Win(_)) => Mark::Win,
            Some(Verdict::Loss(_)) => Mark::Loss,
            Some(Verdict::Inconclusive(_)) => Mark::Inconclusive,
            Some(Verdict::Raced(_)) => Mark::Outrun,
            Some(Verdict::Invalid(_)) => Mark::Invalid,
            Some(Verdict::Stopped { .. }) => Mark::Stopped,
            None => Mark::Open,
        }
    }
}

/// One trial as views show it.
#[derive(Clone, Debug, Serialize)]
pub struct TrialView {
    /// Number.
    pub id: TrialId,
    /// How it ended.
    pub mark: Mark,
    /// What changed.
    pub title: String,
    /// What the proposer expected.
    pub hypothesis: Option<String>,
    /// Family of ideas.
    pub family: Option<String>,
    /// Who proposed it.
    pub proposer: String,
    /// The decision's reason.
    pub reason: Option<String>,
    /// Class of invalidity and detail.
    pub invalid: Option<(String, String)>,
    /// Its commit.
    pub commit: Option<String>,
    /// Where it left its heat, if it was outrun.
    pub raced: Option<Raced>,
    /// Incumbent that it was measured against.
    pub parent_trial: Option<TrialId>,
    /// Paths it changes.
    pub paths: Vec<String>,
    /// Lines added.
    pub insertions: u32,
    /// Lines removed.
    pub deletions: u32,
    /// Advantage over its incumbent.
    pub effect: Option<EffectView>,
    /// Where it stands on the metric's axis: of kept code `gate::level`, of other code its incumbent's level moved by
    /// its advantage. Under the naive policy kept code stands at the mean of its own runs.
    pub level: Option<f64>,
    /// Interval of its level, lower value first.
    pub level_interval: Option<[f64; 2]>,
    /// The incumbent's level while it was tried.
    pub incumbent_level: Option<f64>,
    /// What is known of a keep under both budgets; `None` without a second budget.
    pub second: Option<Second>,
    /// Wall seconds of its builds.
    pub build_seconds: f64,
    /// Attempts to build.
    pub builds: usize,
    /// The last build's error.
    pub build_error: Option<String>,
    /// Wall seconds of its executions.
    pub run_seconds: f64,
    /// Every execution.
    pub measurements: Vec<MeasurementView>,
    /// Training curves of candidate and incumbent.
    pub curves: Vec<Curve>,
    /// Means of what was measured besides the score.
    pub facts: Vec<FactView>,
    /// Its diff against its parent.
    pub diff: Option<String>,
    /// When it started.
    pub started_at: String,
    /// When it was decided.
    pub decided_at: Option<String>,
}

/// An advantage, with its size in standard deviations of one run.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct EffectView {
    /// Estimate in units of the metric, positive when better.
    pub gain: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// The candidate's repeats; 0: one screening run alone.
    pub runs: u32,
    /// Standard deviation of one run.
    pub sigma: f64,
    /// `gain / sigma`; `None` without noise.
    pub sigmas: Option<f64>,
}

/// One execution.
#[derive(Clone, Debug, Serialize)]
pub struct MeasurementView {
    /// What was executed.
    pub measure: Measure,
    /// How it ended, in a word.
    pub outcome: String,
    /// More about the end.
    pub detail: Option<String>,
    /// The score.
    pub value: Option<f64>,
    /// The candidate printed the score itself.
    pub self_reported: bool,
    /// Wall seconds.
    pub seconds: f64,
}

/// One training curve.
#[derive(Clone, Debug, Serialize)]
pub struct Curve {
    /// Trial whose code it is.
    pub arm: TrialId,
    /// True for the trial's own code.
    pub candidate: bool,
    /// Seed.
    pub seed: u64,
    /// Spent budget against loss.
    pub points: Vec<[f64; 2]>,
}

/// A fact's means.
#[derive(Clone, Debug, Serialize)]
pub struct FactView {
    /// Name, the unit last.
    pub name: String,
    /// Mean over the candidate's runs.
    pub candidate: Option<f64>,
    /// Mean over the incumbent's runs beside them.
    pub incumbent: Option<f64>,
}
