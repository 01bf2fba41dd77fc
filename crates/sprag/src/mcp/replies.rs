//! What tools take and answer; the schemas that clients see are made from these.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sprag_engine::proposer::Edit;

/// What to do now.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Next {
    /// True while the run goes on: do not end your turn.
    pub r#continue: bool,
    /// What to do now, in words.
    pub next: String,
}

/// A mean with its spread and count.
#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
pub struct Mean {
    /// The mean.
    pub mean: f64,
    /// Standard deviation of one run; absent where there is one run alone.
    pub sd: Option<f64>,
    /// Runs.
    pub n: usize,
}

/// A gain over something, positive when better.
#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
pub struct Gain {
    /// The estimate, in units of the metric.
    pub estimate: f64,
    /// Lower end of its interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Runs that it rests on.
    pub n: usize,
}

/// For `start`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub struct StartArgs {
    /// Who proposes: `inbox` (you, the default), `search`, or one that the person who started this server allowed.
    #[serde(default)]
    pub proposers: Vec<String>,
    /// Most trials in the whole run.
    #[serde(default)]
    pub trials: Option<u32>,
    /// Begin no trial that would end later than so many minutes from now.
    #[serde(default)]
    pub minutes: Option<f64>,
    /// Begin a new run even if there is an unfinished one.
    #[serde(default)]
    pub new: bool,
}

/// Of `start`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Started {
    /// True when a run that was stopped goes on.
    pub resumed: bool,
    /// Who proposes.
    pub proposers: Vec<String>,
    #[serde(flatten)]
    pub next: Next,
}

/// Of `status`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Status {
    /// The task.
    pub task: String,
    /// The run; absent before the first.
    pub run: Option<String>,
    /// `none`, `running`, `waiting_for_proposal`, `stopped` or `finished`.
    pub standing: String,
    /// The metric, and which side is better: `lower` or `higher`.
    pub metric: String,
    /// Which side is better.
    pub better: String,
    /// The baseline.
    pub baseline: Option<Mean>,
    /// The trial that was kept last.
    pub tip: Option<u32>,
    /// The tip's gain over the baseline.
    pub gain: Option<Gain>,
    /// The certified champion; 0 is the baseline.
    pub certified: Option<u32>,
    /// Trials so far, the baseline not counted.
    pub trials: u32,
    /// The same and more, as people read it.
    pub text: String,
    #[serde(flatten)]
    pub next: Next,
}

/// For `history`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub struct HistoryArgs {
    /// Most trials to list; 30 when it is absent.
    #[serde(default)]
    pub limit: Option<usize>,
    /// Only those that ended like this: `win`, `loss`, `inconclusive`, `outrun`, `stopped`, `invalid`, `undone`, `open`.
    #[serde(default)]
    pub outcome: Option<String>,
}

/// One trial in a list.
#[derive(Debug, Serialize, JsonSchema)]
pub struct TrialLine {
    /// Its number.
    pub trial: u32,
    /// How it ended.
    pub outcome: String,
    /// What changed.
    pub title: String,
    /// Family of ideas.
    pub family: Option<String>,
    /// Who proposed it.
    pub proposer: String,
    /// Gain over the incumbent of its time in standard deviations of one run, positive when better.
    pub gain_in_sigma: Option<f64>,
    /// What it taught, or why it was decided so.
    pub lesson: Option<String>,
}

/// Of `history`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Listed {
    /// Newest first.
    pub trials: Vec<TrialLine>,
    /// Trials that were left out.
    pub left_out: usize,
}

/// For `show`.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct ShowArgs {
    /// The trial; 0 is the baseline.
    pub trial: u32,
}

/// Of `show`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Shown {
    /// As people read it.
    pub text: String,
    /// What it changed against the incumbent of its time; empty for the baseline.
    pub diff: String,
}

/// Of `brief`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct BriefText {
    /// The trial that it is for.
    pub trial: u32,
    /// `proposal`, `repair`, `second_thought`, or `nothing` when none is wanted and this is the last one.
    pub wanted: String,
    /// The brief.
    pub text: String,
    #[serde(flatten)]
    pub next: Next,
}

/// For `check`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub struct CheckArgs {
    /// Most seconds to wait for the result; 45 when it is absent, at most 300.
    #[serde(default)]
    pub seconds: Option<f64>,
}

/// Of `check`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Checked {
    /// False while it goes on.
    pub done: bool,
    /// True when the loop would run it again; absent without a comparison.
    pub promising: Option<bool>,
    /// The score of the one run.
    pub score: Option<f64>,
    /// Gain over the incumbent, from this one run.
    pub gain: Option<Gain>,
    /// As people read it.
    pub text: String,
    /// What to do now, in words.
    pub next: String,
}

/// For `propose`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub struct ProposeArgs {
    /// One line: what changes.
    pub title: String,
    /// What you expect, and why.
    pub hypothesis: String,
    /// The kind of idea, for example `learning rate`.
    pub family: String,
    /// The gain that you expect, in units of the metric, positive when better.
    #[serde(default)]
    pub expected_gain: Option<f64>,
    /// What the last decided trial taught, in at most two sentences.
    #[serde(default)]
    pub lesson: Option<String>,
    /// The number of the open idea in the brief that this tries.
    #[serde(default)]
    pub idea: Option<usize>,
    /// The changes, in order: all are carried out, or none.
    #[serde(default)]
    pub edits: Vec<Edit>,
    /// A unified diff with `a/` and `b/` paths, in the place of edits.
    #[serde(default)]
    pub patch: Option<String>,
}

/// Of `propose`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Proposed {
    /// True when it is tried.
    pub accepted: bool,
    /// The trial that it is.
    pub trial: Option<u32>,
    /// Why it cannot be tried; no trial was spent.
    pub refused: Option<String>,
    #[serde(flatten)]
    pub next: Next,
}

/// For `wait`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub struct WaitArgs {
    /// The trial whose verdict is waited for; absent: until a proposal is wanted or the run ends.
    #[serde(default)]
    pub trial: Option<u32>,
    /// Most seconds; 45 when it is absent, at most 300. Many clients give up after 60.
    #[serde(default)]
    pub seconds: Option<f64>,
}

/// Of `wait`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Waited {
    /// `verdict`, `proposal_wanted`, `ended`, or `nothing_yet`.
    pub event: String,
    /// The trial that was decided last.
    pub trial: Option<u32>,
    /// How it ended.
    pub outcome: Option<String>,
    /// Its gain over the incumbent of its time.
    pub gain: Option<Gain>,
    /// The decision in plain words, and what the run does now.
    pub text: String,
    #[serde(flatten)]
    pub next: Next,
}

/// For `steer`.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct SteerArgs {
    /// The note; empty takes it back.
    pub note: String,
}

/// Of `steer`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Steered {
    /// The run.
    pub run: String,
    /// The note that stands now.
    pub note: Option<String>,
}

/// For `stop`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub struct StopArgs {
    /// At once: the measurement under way is lost and made again when the run resumes.
    #[serde(default)]
    pub now: bool,
}

/// Of `stop`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Stopped {
    /// False while the step under way is not recorded yet.
    pub stopped: bool,
    #[serde(flatten)]
    pub next: Next,
}
