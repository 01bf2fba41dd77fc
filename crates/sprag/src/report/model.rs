//! What the report shows, derived from a run's state: levels, intervals, shares of time, facts.
//!
//! Pure: state and a few texts in, [`Page`] out. Pictures belong to `plot`, words and layout to `html`;
//! `status`, `log` and `show` print parts of the same page, so all views agree.

use std::collections::BTreeMap;

use serde::Serialize;
use sprag_engine::record::{Budget, Direction, Measure, Outcome, Policy, Purpose, Score, TrialId, Verdict};
use sprag_engine::state::{Run, State, Trial};
use sprag_engine::{gate, session};

use sprag_measure::clock;
use sprag_measure::stats::{self, Interval, mean};

use crate::numbers;

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
    /// How many trials ended how.
    pub counts: Counts,
    /// Where the time went.
    pub time: TimeSplit,
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

/// The answer of the run.
#[derive(Clone, Debug, Serialize)]
pub struct Headline {
    /// Trial whose code is the champion.
    pub champion: TrialId,
    /// Its title.
    pub title: String,
    /// Its score. Its screening run is left out: it was selected for being good.
    pub score: Estimate,
    /// The baseline's score.
    pub baseline: Estimate,
    /// Advantage over the baseline, positive when better; `None` while the baseline is the champion.
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
        self.wins + self.losses + self.inconclusive + self.undone + self.open + self.invalid_total()
    }

    /// Trials without a score.
    pub fn invalid_total(&self) -> u32 {
        self.invalid.values().sum()
    }
}

/// Seconds by use, over all trials.
#[derive(Clone, Debug, Default, Serialize)]
pub struct TimeSplit {
    /// From each trial's start to its decision.
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
    /// Without a score.
    Invalid,
    /// Decided, and the decision taken back.
    Undone,
    /// Not decided yet.
    Open,
}

impl Mark {
    /// All, in the order of a legend.
    pub const ALL: [Mark; 7] =
        [Mark::Baseline, Mark::Win, Mark::Loss, Mark::Inconclusive, Mark::Invalid, Mark::Undone, Mark::Open];

    /// The word in views.
    pub fn word(self) -> &'static str {
        match self {
            Mark::Baseline => "BASELINE",
            Mark::Win => "WIN",
            Mark::Loss => "LOSS",
            Mark::Inconclusive => "INCONCLUSIVE",
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
            Some(Verdict::Invalid(_)) => Mark::Invalid,
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
    /// Where it stands on the metric's axis: its incumbent's level moved by its advantage.
    pub level: Option<f64>,
    /// Interval of its level, lower value first.
    pub level_interval: Option<[f64; 2]>,
    /// The incumbent's level while it was tried.
    pub incumbent_level: Option<f64>,
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
    /// Pairs; 0: one screening run alone.
    pub pairs: u32,
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

/// Derives the page; `None` before the run has a frame.
pub fn page(state: &State, extras: Extras) -> Option<Page> {
    let run = state.run.clone()?;
    let levels = Levels::of(state);
    let mut diffs = extras.diffs;
    let trials: Vec<TrialView> =
        state.trials.iter().map(|trial| trial_view(state, trial, &levels, diffs.remove(&trial.id))).collect();
    let noise = noise(state);
    let sigma = noise.as_ref().and_then(|noise| noise.score.sd);
    Some(Page {
        format: FORMAT,
        decimals: numbers::decimals(sigma),
        headline: headline(state, &run.policy),
        noise,
        counts: counts(state),
        time: time_split(state),
        trials,
        task: run.task,
        run: run.run,
        metric: run.metric,
        direction: run.direction,
        budget: run.budget,
        policy: run.policy,
        seed: run.seed,
        proposers: run.proposers,
        sprag_version: run.sprag_version,
        made_by: extras.sprag_version,
        generated_at: extras.generated_at,
        started_at: state.started_at.clone().unwrap_or_default(),
        updated_at: state.updated_at.clone().unwrap_or_default(),
        finished: state.finished.clone(),
        resumed: state.resumed,
        repaired: state.repaired,
        base: run.base,
        task_sha256: run.task_sha256,
        fixed_sha256: run.fixed_sha256,
        machine: run.machine,
        sandbox: run.sandbox,
        sandbox_missing: run.sandbox_missing,
        data: extras.data,
        reproduce: extras.reproduce,
    })
}

/// Where each code stands on the metric's axis: the baseline's mean, then each win's gain added up.
struct Levels {
    of: BTreeMap<TrialId, f64>,
    sign: f64,
}

impl Levels {
    fn of(state: &State) -> Levels {
        // A gain moves the level down when lower is better.
        let sign = if state.direction() == Direction::Lower { -1.0 } else { 1.0 };
        let mut levels = Levels { of: BTreeMap::new(), sign };
        for trial in &state.trials {
            let level = match &trial.verdict {
                Some(Verdict::Baseline { mean, .. }) => Some(*mean),
                Some(Verdict::Win(effect)) => levels.moved(trial.parent_trial, effect.gain),
                _ => None,
            };
            if let Some(level) = level {
                levels.of.insert(trial.id, level);
            }
        }
        levels
    }

    fn get(&self, trial: Option<TrialId>) -> Option<f64> {
        self.of.get(&trial?).copied()
    }

    fn moved(&self, parent: Option<TrialId>, gain: f64) -> Option<f64> {
        Some(self.get(parent)? + self.sign * gain)
    }
}

fn trial_view(state: &State, trial: &Trial, levels: &Levels, diff: Option<String>) -> TrialView {
    let proposed = trial.proposed.as_ref();
    let effect = trial.effect();
    let (level, level_interval) = match (&trial.verdict, effect) {
        (Some(Verdict::Baseline { mean, sd, n }), _) => {
            let n = f64::from(*n);
            let interval =
                stats::interval(*mean, sd / n.sqrt(), n - 1.0, 1.0 - 2.0 * alpha(state), n as usize);
            (Some(*mean), interval.map(|interval| [interval.low, interval.high]))
        }
        (_, Some(effect)) => {
            let ends = [effect.low, effect.high].map(|gain| levels.moved(trial.parent_trial, gain));
            let interval = match ends {
                [Some(one), Some(other)] => Some([one.min(other), one.max(other)]),
                _ => None,
            };
            (levels.moved(trial.parent_trial, effect.gain), interval)
        }
        _ => (None, None),
    };
    TrialView {
        id: trial.id,
        mark: Mark::of(trial),
        title: if trial.id == 0 { "the code as it was".to_owned() } else { trial.title().to_owned() },
        hypothesis: proposed.and_then(|proposed| proposed.hypothesis.clone()),
        family: proposed.and_then(|proposed| proposed.family.clone()),
        proposer: trial.proposer.clone(),
        reason: trial.reason.clone(),
        invalid: match &trial.verdict {
            Some(Verdict::Invalid(invalid)) => Some((invalid.reason.to_string(), invalid.detail.clone())),
            _ => None,
        },
        commit: proposed.map(|proposed| proposed.commit.clone()),
        parent_trial: trial.parent_trial,
        paths: proposed.map(|proposed| proposed.paths.clone()).unwrap_or_default(),
        insertions: proposed.map_or(0, |proposed| proposed.insertions),
        deletions: proposed.map_or(0, |proposed| proposed.deletions),
        effect: effect.map(|effect| EffectView {
            gain: effect.gain,
            low: effect.low,
            high: effect.high,
            pairs: effect.pairs,
            sigma: effect.sigma,
            sigmas: (effect.sigma > 0.0).then(|| effect.gain / effect.sigma),
        }),
        level,
        level_interval,
        incumbent_level: levels.get(trial.parent_trial),
        build_seconds: trial.builds.iter().map(|build| build.seconds).sum(),
        builds: trial.builds.len(),
        build_error: trial.builds.last().and_then(|build| build.error.clone()),
        run_seconds: trial.runs.iter().map(|run| run.seconds).sum(),
        measurements: trial.runs.iter().map(measurement_view).collect(),
        curves: curves(state, trial),
        facts: facts(trial),
        diff,
        started_at: trial.started_at.clone(),
        decided_at: trial.decided_at.clone(),
    }
}

fn measurement_view(run: &Run) -> MeasurementView {
    let (outcome, detail, score): (String, Option<String>, Option<&Score>) = match &run.outcome {
        None => ("not finished".to_owned(), None, None),
        Some(Outcome::Passed) => ("passed".to_owned(), None, None),
        Some(Outcome::Interrupted) => ("interrupted".to_owned(), None, None),
        Some(Outcome::Invalid(invalid)) => {
            (format!("invalid: {}", invalid.reason), Some(invalid.detail.clone()), None)
        }
        Some(Outcome::Scored(score)) => ("scored".to_owned(), None, Some(score)),
    };
    MeasurementView {
        measure: run.measure.clone(),
        outcome,
        detail,
        value: score.map(|score| score.value),
        self_reported: score.is_some_and(|score| score.self_reported),
        seconds: run.seconds,
    }
}

fn scored(run: &Run) -> Option<&Score> {
    match &run.outcome {
        Some(Outcome::Scored(score)) => Some(score),
        _ => None,
    }
}

/// The candidate's curves and its incumbent's beside them; an incumbent that did not run in this trial
/// lends the curve of its own last run.
fn curves(state: &State, trial: &Trial) -> Vec<Curve> {
    let curve_of = |run: &Run| {
        let points: Vec<[f64; 2]> =
            scored(run)?.curve.iter().copied().filter(|point| point.iter().all(|x| x.is_finite())).collect();
        let candidate = run.measure.arm == trial.id;
        (points.len() > 1).then(|| Curve { arm: run.measure.arm, candidate, seed: run.measure.seed, points })
    };
    let mut curves: Vec<Curve> = trial.runs.iter().filter_map(curve_of).collect();
    let has_incumbent = curves.iter().any(|curve| !curve.candidate);
    if let (false, false, Some(parent)) = (curves.is_empty(), has_incumbent, trial.parent_trial) {
        let earlier = state.trials[..trial.id as usize].iter().flat_map(|trial| &trial.runs);
        curves.extend(earlier.filter(|run| run.measure.arm == parent).filter_map(curve_of).last());
    }
    curves
}

fn facts(trial: &Trial) -> Vec<FactView> {
    let mut sums: BTreeMap<&str, [(f64, u32); 2]> = BTreeMap::new();
    for run in &trial.runs {
        let arm = usize::from(run.measure.arm != trial.id);
        for (name, value) in scored(run).into_iter().flat_map(|score| &score.facts) {
            let (sum, n) = &mut sums.entry(name).or_default()[arm];
            *sum += value;
            *n += 1;
        }
    }
    let mean = |(sum, n): (f64, u32)| (n > 0).then(|| sum / f64::from(n));
    sums.into_iter()
        .map(|(name, [candidate, incumbent])| FactView {
            name: name.to_owned(),
            candidate: mean(candidate),
            incumbent: mean(incumbent),
        })
        .collect()
}

fn alpha(state: &State) -> f64 {
    state.run.as_ref().map_or(0.05, |run| run.policy.alpha)
}

fn headline(state: &State, policy: &Policy) -> Option<Headline> {
    let (mean, sd, n) = state.baseline()?;
    let champion = state.trial(state.incumbent?)?;
    let mut scores = session::unbiased_scores(state, champion.id);
    if scores.is_empty() {
        scores = state.scores_of(champion.id).into_iter().map(|(_, value)| value).collect();
    }
    let n = n as usize;
    let baseline = Estimate { mean, sd: (n > 1).then_some(sd), n };
    let score = if champion.id == 0 { baseline } else { Estimate::of(&scores)? };
    Some(Headline {
        champion: champion.id,
        title: if champion.id == 0 { "the baseline".to_owned() } else { champion.title().to_owned() },
        score,
        baseline,
        gain: (champion.id != 0).then(|| gain_over(score, baseline, state.direction(), policy)).flatten(),
        detectable: gate::detectable(session::noise(state), policy, DETECTABLE_POWER),
    })
}

/// Difference of two means with the baseline's noise taken for both: a champion that ran once has no spread
/// of its own.
fn gain_over(score: Estimate, baseline: Estimate, direction: Direction, policy: &Policy) -> Option<Interval> {
    let inverse = 1.0 / score.n as f64 + 1.0 / baseline.n as f64;
    let gain = gate::advantage(score.mean, baseline.mean, direction);
    let freedom = baseline.n as f64 - 1.0;
    stats::interval(gain, baseline.sd? * inverse.sqrt(), freedom, 1.0 - 2.0 * policy.alpha, score.n)
}

fn noise(state: &State) -> Option<Noise> {
    let baseline = state.trials.first()?;
    let repeats: Vec<Repeat> = baseline
        .scores(0, Purpose::Baseline)
        .map(|(seed, score)| Repeat {
            seed,
            value: score.value,
            tokens_per_second: score.facts.get("tokens_per_second").copied(),
        })
        .collect();
    let values: Vec<f64> = repeats.iter().map(|repeat| repeat.value).collect();
    let pairs: Vec<(f64, f64)> =
        repeats.iter().filter_map(|repeat| Some((repeat.tokens_per_second?, repeat.value))).collect();
    Some(Noise { score: Estimate::of(&values)?, throughput_correlation: stats::correlation(&pairs), repeats })
}

fn counts(state: &State) -> Counts {
    let mut counts = Counts::default();
    for trial in &state.trials {
        match Mark::of(trial) {
            Mark::Baseline => {}
            Mark::Win => counts.wins += 1,
            Mark::Loss => counts.losses += 1,
            Mark::Inconclusive => counts.inconclusive += 1,
            Mark::Undone => counts.undone += 1,
            Mark::Open if trial.id == 0 => {}
            Mark::Open => counts.open += 1,
            Mark::Invalid => {
                if let Some(Verdict::Invalid(invalid)) = &trial.verdict {
                    *counts.invalid.entry(invalid.reason.to_string()).or_default() += 1;
                }
            }
        }
    }
    counts
}

fn time_split(state: &State) -> TimeSplit {
    let mut time = TimeSplit::default();
    for trial in &state.trials {
        let end = trial.decided_at.as_deref().or(state.updated_at.as_deref());
        let span = end.and_then(|end| seconds_between(&trial.started_at, end));
        time.total_seconds += span.unwrap_or(0.0).max(0.0);
        time.build_seconds += trial.builds.iter().map(|build| build.seconds).sum::<f64>();
        for run in &trial.runs {
            if run.measure.purpose == Purpose::Smoke {
                time.smoke_seconds += run.seconds;
                continue;
            }
            let fact =
                |name: &str| scored(run).and_then(|score| score.facts.get(name)).copied().unwrap_or(0.0);
            let (train, evaluation) = (fact("train_seconds"), fact("evaluation_seconds"));
            time.train_seconds += train;
            time.evaluation_seconds += evaluation;
            time.other_run_seconds += (run.seconds - train - evaluation).max(0.0);
        }
    }
    let accounted = time.build_seconds
        + time.smoke_seconds
        + time.train_seconds
        + time.evaluation_seconds
        + time.other_run_seconds;
    time.engine_seconds = (time.total_seconds - accounted).max(0.0);
    time
}

fn seconds_between(start: &str, end: &str) -> Option<f64> {
    Some((clock::parse_rfc3339(end)? - clock::parse_rfc3339(start)?) as f64)
}
