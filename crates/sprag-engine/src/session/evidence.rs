//! What the ledger says of an arm: where it stands, what may be reported of it, how much one run varies.

use super::policy;
use crate::gate::level::Level;
use crate::gate::{self, Noise};
use crate::record::{MeasureId, Preset, Purpose, TrialId};
use crate::state::{Run, State};

/// Where a kept arm stands, by its own runs and those of the arms it was made from. Runs of the incumbent beside
/// the candidate `beside` are left out: they are its anchors.
pub fn level(state: &State, arm: TrialId, beside: Option<TrialId>) -> Option<Level> {
    let mut line = vec![arm];
    while let Some(parent) =
        line.last().and_then(|trial| state.trial(*trial)).and_then(|trial| trial.parent_trial)
    {
        line.push(parent);
    }
    let known: Vec<Vec<f64>> = line
        .iter()
        .rev()
        .map(|arm| {
            let anchor =
                |run: &Run| Some(run.measure.trial) == beside && run.measure.purpose == Purpose::Confirm;
            scores_where(state, *arm, |run| !anchor(run))
        })
        .collect();
    let (first, kept) = known.split_first()?;
    let start = Level::of(first)?;
    Some(kept.iter().fold(start, |level, runs| level.followed_by(runs)))
}

/// The smallest true gain over the incumbent that is kept with about that probability, in units of the metric.
///
/// `None` without statistics: there the smallest gain is kept as often as not, and none just as well.
pub fn detectable(state: &State, power: f64) -> Option<f64> {
    if policy(state).preset == Preset::Naive {
        return None;
    }
    let stands = level(state, state.incumbent?, None)?;
    gate::detectable(noise(state), stands.variance, &policy(state), power)
}

/// Scores of a kept arm that did not help to select it: repeats of the baseline, its turns as incumbent, audits.
/// As long as there are fewer than two, its own repeats count too; its screening run never does.
pub fn unbiased_scores(state: &State, arm: TrialId) -> Vec<f64> {
    let later = scores_where(state, arm, |run| !selected(run));
    if later.len() >= 2 {
        return later;
    }
    scores_where(state, arm, |run| run.measure.purpose != Purpose::Screen)
}

/// True for a run on which the decision to keep its own code rests.
fn selected(run: &Run) -> bool {
    run.measure.trial == run.measure.arm && matches!(run.measure.purpose, Purpose::Screen | Purpose::Confirm)
}

/// The noise of one run, pooled over the arms that are or were incumbents, from runs that did not select them.
/// Runs of a trial that is still open are left out: the gate counts their scatter itself.
pub fn noise(state: &State) -> Noise {
    noise_before(state, MeasureId::MAX)
}

/// The same as it was known before a measurement.
pub(super) fn noise_before(state: &State, before: MeasureId) -> Noise {
    let decided = |trial: TrialId| state.trial(trial).is_some_and(|trial| trial.verdict.is_some());
    let counts = |run: &Run| decided(run.measure.trial) && !selected(run) && run.measure.measure < before;
    let arms = state.trials.iter().map(|trial| scores_where(state, trial.id, counts));
    let arms: Vec<Vec<f64>> = arms.collect();
    Noise::pooled(arms.iter().map(Vec::as_slice))
}

/// Scores of an arm in the order in which they were made; those that a person asked for decide nothing.
fn scores_where(state: &State, arm: TrialId, which: impl Fn(&Run) -> bool) -> Vec<f64> {
    let own = state.runs().filter(|run| run.measure.arm == arm && run.measure.purpose != Purpose::Check);
    let mut runs: Vec<&Run> = own.filter(|run| which(run)).collect();
    runs.sort_by_key(|run| run.measure.measure);
    runs.into_iter().filter_map(|run| Some(run.score()?.value)).collect()
}
