//! What a recorded run shows about its own noise: how large it is, how well that is known, whether it drifts,
//! has heavy tails, or follows the machine's speed.
//!
//! Pure: state in, numbers out. Nothing here rests on one run: what cannot be said is `None`. The gate does not
//! read this; it pools its own noise from kept arms alone.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use sprag_measure::clock;
use sprag_measure::stats::{self, Interval};

use crate::record::{Direction, MeasureId, Purpose, Record, Score, TrialId};
use crate::session;
use crate::state::{Run, State};

/// The fact that says how fast a candidate trained.
pub const THROUGHPUT: &str = "tokens_per_second";

/// Level of the interval of sigma.
pub const LEVEL: f64 = 0.95;

/// Probability with which a gain of [`Noise::detectable`] is found.
pub const POWER: f64 = 0.8;

/// Fewest runs for a kurtosis: its standard error, √(24/n), is above one below this.
pub const KURTOSIS_RUNS: usize = 20;

/// Fewest runs of one arm for a trend: with fewer no order of them is improbable at 5 %.
pub const DRIFT_RUNS: usize = 5;

/// Fewest degrees of freedom for an outlier, or for a correlation.
pub const FREEDOM: usize = 3;

/// The noise of a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Noise {
    /// Which way is better.
    pub direction: Direction,
    /// Arms with two scores or more, in order. Screening runs are left out everywhere: those that were followed
    /// by others were selected for being good.
    pub arms: Vec<Arm>,
    /// Arms with a single score besides their screening run, or with nothing but a screening run.
    pub single: usize,
    /// The standard deviation of one run; `None` without arms.
    pub sigma: Option<Sigma>,
    /// The run that lies farthest off; `None` below [`FREEDOM`] degrees of freedom, or without spread.
    pub farthest: Option<Residual>,
    /// Heaviness of the tails; `None` below [`KURTOSIS_RUNS`] runs.
    pub kurtosis: Option<Kurtosis>,
    /// Whether the scores of one code move with time; `None` when no kept arm has [`DRIFT_RUNS`] timed runs.
    pub drift: Option<Drift>,
    /// Whether scores follow speed; `None` when the runs do not tell their speed, or are too few.
    pub throughput: Option<Throughput>,
    /// The smallest true gain that the gate finds with probability [`POWER`], in units of the metric; `None`
    /// without noise.
    pub detectable: Option<f64>,
}

/// An arm that was executed more than once.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Arm {
    /// Trial whose code it is.
    pub trial: TrialId,
    /// Scores.
    pub n: usize,
    /// Their mean.
    pub mean: f64,
    /// Their standard deviation.
    pub sd: f64,
}

/// The standard deviation of one run, pooled over arms.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Sigma {
    /// Estimate with its chi-squared interval, in units of the metric; `n` counts runs. It holds for normal
    /// noise; heavy tails make the truth less certain than it says.
    pub sd: Interval,
    /// Runs less arms.
    pub degrees_of_freedom: usize,
}

/// How far one run lies from its arm's mean.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Residual {
    /// The measurement.
    pub measure: MeasureId,
    /// Trial whose code was executed.
    pub arm: TrialId,
    /// Score less the arm's mean, over its own standard error `sigma √(1 - 1/n)`.
    pub studentised: f64,
    /// Probability that the farthest of so many normal runs lies at least as far off: Bonferroni's bound on the
    /// t test of the residual against the noise without that run (Cook and Weisberg, "Residuals and Influence in
    /// Regression", 1982, section 2.2).
    pub p: f64,
}

/// Excess kurtosis of the studentised residuals: zero for normal noise, above it for heavy tails.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Kurtosis {
    /// Fourth moment over the squared second, less 3 (Fisher's g₂). Arms with few runs pull it towards zero.
    pub excess: f64,
    /// Its standard error if the noise is normal, √(24/n).
    pub standard_error: f64,
    /// Runs.
    pub n: usize,
}

/// Movement of one arm's scores with time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Drift {
    /// The kept arm with the most runs that did not decide on itself.
    pub arm: TrialId,
    /// Those runs.
    pub n: usize,
    /// Hours between the ends of the first and the last.
    pub hours: f64,
    /// Theil-Sen slope in units of the metric an hour.
    pub slope_per_hour: f64,
    /// Two-sided p-value of Mann and Kendall that there is no trend; rough below ten runs.
    pub p: f64,
}

/// Scores and speed within arms.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Throughput {
    /// Runs with a speed, in arms that have two of them or more.
    pub n: usize,
    /// Those arms.
    pub arms: usize,
    /// Standard deviation of the speed within arms, as a part of each arm's mean.
    pub relative_sd: f64,
    /// Correlation of score and speed, both less their arm's mean; `None` when one of them has no spread, or
    /// with fewer than [`FREEDOM`] degrees of freedom.
    pub correlation: Option<f64>,
    /// Two-sided p-value that there is no correlation, by Student's t with `n - arms - 1` degrees of freedom.
    pub p: Option<f64>,
}

/// When each measurement ended, in seconds since the epoch, from the times of a ledger's lines.
pub fn ended_at<'a>(lines: impl IntoIterator<Item = (&'a str, &'a Record)>) -> BTreeMap<MeasureId, i64> {
    let ends = lines.into_iter().filter_map(|(at, record)| match record {
        Record::Measured { measure, .. } => Some((measure.measure, clock::parse_rfc3339(at)?)),
        _ => None,
    });
    ends.collect()
}

/// Derives the noise of a run; `ended_at` says when measurements ended, and those it lacks have no part in the
/// drift.
pub fn of(state: &State, ended_at: &BTreeMap<MeasureId, i64>) -> Noise {
    let by_arm = by_arm(state);
    let groups: Vec<Group> = by_arm.into_iter().filter_map(|(trial, runs)| Group::of(trial, runs)).collect();
    let sigma = sigma(&groups);
    let residuals = sigma.map_or_else(Vec::new, |sigma| residuals(&groups, sigma.sd.estimate));
    let executed: BTreeSet<TrialId> = full_runs(state)
        .filter(|(run, _)| run.measure.purpose != Purpose::Check)
        .map(|(run, _)| run.measure.arm)
        .collect();
    Noise {
        direction: state.direction(),
        single: executed.len() - groups.len(),
        arms: groups.iter().map(|group| group.arm.clone()).collect(),
        farthest: sigma.and_then(|sigma| farthest(&residuals, sigma.degrees_of_freedom)),
        kurtosis: kurtosis(&residuals),
        drift: drift(state, &groups, ended_at),
        throughput: throughput(&groups),
        detectable: session::detectable(state, POWER),
        sigma,
    }
}

/// Runs with a score of the full budget.
fn full_runs(state: &State) -> impl Iterator<Item = (&Run, &Score)> {
    state.runs().filter_map(|run| Some((run, run.score()?)))
}

type Runs<'a> = Vec<(&'a Run, &'a Score)>;

fn by_arm(state: &State) -> BTreeMap<TrialId, Runs<'_>> {
    let mut arms: BTreeMap<TrialId, Runs> = BTreeMap::new();
    for (run, score) in full_runs(state) {
        if !matches!(run.measure.purpose, Purpose::Screen | Purpose::Check) {
            arms.entry(run.measure.arm).or_default().push((run, score));
        }
    }
    arms
}

/// An arm with its runs, two at least.
struct Group<'a> {
    arm: Arm,
    runs: Runs<'a>,
}

impl Group<'_> {
    fn of(trial: TrialId, runs: Runs<'_>) -> Option<Group<'_>> {
        let values: Vec<f64> = runs.iter().map(|(_, score)| score.value).collect();
        let (mean, sd) = (stats::mean(&values)?, stats::sample_sd(&values)?);
        Some(Group { arm: Arm { trial, n: values.len(), mean, sd }, runs })
    }
}

fn sigma(groups: &[Group]) -> Option<Sigma> {
    let values: Vec<Vec<f64>> =
        groups.iter().map(|group| group.runs.iter().map(|(_, score)| score.value).collect()).collect();
    let pooled = stats::pooled_sd(values.iter().map(Vec::as_slice))?;
    let freedom = pooled.degrees_of_freedom as f64;
    let end = |p: f64| Some(pooled.sd * (freedom / stats::chi_squared_quantile(p, freedom)?).sqrt());
    let (low, high) = (end(f64::midpoint(1.0, LEVEL))?, end((1.0 - LEVEL) / 2.0)?);
    let n = groups.iter().map(|group| group.arm.n).sum();
    Some(Sigma {
        sd: Interval { estimate: pooled.sd, low, high, level: LEVEL, n },
        degrees_of_freedom: pooled.degrees_of_freedom,
    })
}

/// Studentised residuals of all runs; none without spread.
fn residuals(groups: &[Group], sigma: f64) -> Vec<(MeasureId, TrialId, f64)> {
    if sigma <= 0.0 {
        return Vec::new();
    }
    let of = |group: &Group| {
        let (mean, scale, trial) =
            (group.arm.mean, sigma * (1.0 - 1.0 / group.arm.n as f64).sqrt(), group.arm.trial);
        let residual =
            move |(run, score): &(&Run, &Score)| (run.measure.measure, trial, (score.value - mean) / scale);
        group.runs.iter().map(residual).collect::<Vec<_>>()
    };
    groups.iter().flat_map(of).collect()
}

fn farthest(residuals: &[(MeasureId, TrialId, f64)], degrees_of_freedom: usize) -> Option<Residual> {
    if degrees_of_freedom < FREEDOM {
        return None;
    }
    let &(measure, arm, studentised) =
        residuals.iter().max_by(|one, other| one.2.abs().total_cmp(&other.2.abs()))?;
    let freedom = degrees_of_freedom as f64;
    // Against the noise that the other runs have; all of it may come from this one.
    let rest = ((freedom - studentised * studentised) / (freedom - 1.0)).max(0.0).sqrt();
    let t = studentised.abs() / rest;
    let p = 2.0 * residuals.len() as f64 * stats::student_t_cdf(-t, freedom - 1.0);
    Some(Residual { measure, arm, studentised, p: p.min(1.0) })
}

fn kurtosis(residuals: &[(MeasureId, TrialId, f64)]) -> Option<Kurtosis> {
    if residuals.len() < KURTOSIS_RUNS {
        return None;
    }
    let n = residuals.len() as f64;
    let moment = |power: i32| residuals.iter().map(|(_, _, value)| value.powi(power)).sum::<f64>() / n;
    Some(Kurtosis {
        excess: moment(4) / moment(2).powi(2) - 3.0,
        standard_error: (24.0 / n).sqrt(),
        n: residuals.len(),
    })
}

fn drift(state: &State, groups: &[Group], ended_at: &BTreeMap<MeasureId, i64>) -> Option<Drift> {
    let kept = |group: &&Group| state.trial(group.arm.trial).is_some_and(|trial| trial.kept);
    let series = groups.iter().filter(kept).map(|group| (group.arm.trial, timed(group, ended_at)));
    // The first of those with the most runs: it is the one that was watched for longest.
    let (arm, points) = series.rev().max_by_key(|(_, points)| points.len())?;
    if points.len() < DRIFT_RUNS {
        return None;
    }
    let values: Vec<f64> = points.iter().map(|(_, value)| *value).collect();
    Some(Drift {
        arm,
        n: points.len(),
        hours: points.last()?.0 - points.first()?.0,
        slope_per_hour: stats::theil_sen(&points)?,
        p: stats::mann_kendall(&values)?,
    })
}

/// Hours and scores in the order of time. Pairs that decided on the arm itself are left out: it was kept because
/// they came out well, so that whatever follows them looks worse.
fn timed(group: &Group, ended_at: &BTreeMap<MeasureId, i64>) -> Vec<(f64, f64)> {
    let own = |run: &Run| run.measure.trial == run.measure.arm && run.measure.purpose == Purpose::Confirm;
    let runs = group.runs.iter().filter(|(run, _)| !own(run));
    let mut points: Vec<(f64, f64)> = runs
        .filter_map(|(run, score)| Some((*ended_at.get(&run.measure.measure)? as f64 / 3600.0, score.value)))
        .collect();
    points.sort_by(|one, other| one.0.total_cmp(&other.0));
    points
}

fn throughput(groups: &[Group]) -> Option<Throughput> {
    let speed = |score: &Score| score.facts.get(THROUGHPUT).copied().filter(|speed| *speed > 0.0);
    let mut points = Vec::new();
    let mut relative: Vec<Vec<f64>> = Vec::new();
    for group in groups {
        let known: Vec<(f64, f64)> =
            group.runs.iter().filter_map(|(_, score)| Some((speed(score)?, score.value))).collect();
        let (speeds, values): (Vec<f64>, Vec<f64>) = known.iter().copied().unzip();
        let (Some(speed), Some(value)) = (stats::mean(&speeds), stats::mean(&values)) else { continue };
        if known.len() > 1 {
            relative.push(speeds.iter().map(|one| one / speed).collect());
            points.extend(known.iter().map(|(one, score)| (one / speed - 1.0, score - value)));
        }
    }
    let relative_sd = stats::pooled_sd(relative.iter().map(Vec::as_slice))?.sd;
    let freedom = points.len().checked_sub(relative.len() + 1).filter(|freedom| *freedom >= FREEDOM);
    let correlation = freedom.and_then(|_| stats::correlation(&points));
    let p = correlation.zip(freedom).map(|(r, freedom)| {
        let t = r.abs() * (freedom as f64 / (1.0 - r * r)).sqrt();
        2.0 * stats::student_t_cdf(-t, freedom as f64)
    });
    Some(Throughput { n: points.len(), arms: relative.len(), relative_sd, correlation, p })
}

#[cfg(test)]
mod tests;
