//! The second budget: after a keep, the kept code and the incumbent before it once more under a budget of the other
//! kind, so that it can be told why it is better.
//!
//! Pairs under shared seeds, interleaved. They decide nothing and are compared with nothing else; one that cannot be
//! had is left out.

use serde::Serialize;
use sprag_measure::stats::{self, Interval};

use super::evidence::noise_before;
use super::{Step, execution, seed_of};
use crate::gate;
use crate::gate::cause::{self, Cause};
use crate::gate::throughput::RATE;
use crate::record::{
    Budget, Effect, Measure, MeasureId, Outcome, Purpose, Reason, SecondBudget, TrialId, Verdict,
};
use crate::state::{Run, State, Trial};

/// Pairs under the second budget of each kept trial.
pub const SECOND_PAIRS: u32 = 2;

/// The fact that says how many tokens a run was served.
const TOKENS: &str = "train_tokens";

/// A keep under both budgets.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Second {
    /// The second budget.
    pub budget: Budget,
    /// The trial it is compared with: the incumbent before it.
    pub against: TrialId,
    /// The gain in its verdict, under the first budget.
    pub first: Effect,
    /// Gains of the complete pairs under the second budget, in units of the metric, positive when better.
    pub differences: Vec<f64>,
    /// Their mean with its interval, `gate::cause::gain`; `None` without pairs.
    pub gain: Option<Interval>,
    /// Their standard deviation; `None` below two.
    pub sd: Option<f64>,
    /// Its speed over the incumbent's, both under the first budget; `None` where it is not known.
    pub speed: Option<Interval>,
    /// Why it is better.
    pub cause: Cause,
    /// Why pairs are missing that were tried, one line each.
    pub skipped: Vec<String>,
}

/// The second budget of a run: `None` without one, before the baseline is known, or where it is to be equal in tokens
/// and no run of the baseline told how many it was served.
pub fn second_budget(state: &State) -> Option<Budget> {
    match state.run.as_ref()?.second? {
        SecondBudget::Fixed(budget) => Some(budget),
        SecondBudget::EqualTokens => {
            // What the first pair had stays: a run of the baseline may be found to be spoilt later.
            let used = state.runs().filter(|run| run.measure.purpose == Purpose::Second);
            let first = used.min_by_key(|run| run.measure.measure).and_then(|run| run.measure.budget);
            first.or_else(|| equal_tokens(state))
        }
    }
}

fn equal_tokens(state: &State) -> Option<Budget> {
    state.baseline()?;
    let baseline = state.trial(0)?.scores(0, Purpose::Baseline);
    let tokens: Vec<f64> = baseline.filter_map(|(_, score)| score.facts.get(TOKENS).copied()).collect();
    let median = stats::median(&tokens)?.round();
    (median >= 1.0 && median.is_finite()).then_some(Budget::Tokens(median as u64))
}

/// What is known of a trial under both budgets; `None` for one that did not win, without a second budget, and for one
/// that was taken back before a pair was tried.
pub fn second(state: &State, trial: &Trial) -> Option<Second> {
    let (budget, against) = (second_budget(state)?, trial.parent_trial?);
    let (Some(first), Some(Verdict::Win(_))) = (trial.effect(), &trial.verdict) else {
        return None;
    };
    let begun = runs_of(trial).map(|run| run.measure.measure).min();
    if !trial.kept && begun.is_none() {
        return None;
    }
    let direction = state.direction();
    let differences: Vec<f64> = second_pairs(trial, against)
        .iter()
        .map(|&(candidate, incumbent)| gate::advantage(candidate, incumbent, direction))
        .collect();
    // What was known then: the word does not change with what the run does later.
    let before = begun.unwrap_or(MeasureId::MAX);
    let gain = cause::gain(&differences, noise_before(state, before));
    let speed = cause::speed(&rates(state, trial.id, before), &rates(state, against, before));
    let evidence = cause::Evidence {
        first: state.run.as_ref()?.budget,
        gain: first.gain,
        second: budget,
        second_gain: gain,
        speed,
    };
    let skipped = (0..SECOND_PAIRS)
        .filter_map(|pair| match pair_of(state, trial, against, pair) {
            Pair::Skipped(why) => Some(why),
            Pair::Done | Pair::Due(_) => None,
        })
        .collect();
    let sd = stats::sample_sd(&differences);
    Some(Second {
        budget,
        against,
        first,
        gain,
        sd,
        speed,
        cause: cause::judge(&evidence),
        differences,
        skipped,
    })
}

/// Arms that wait to be executed under the second budget: the last keep and the incumbent before it.
pub fn second_arms(state: &State) -> Vec<TrialId> {
    due(state).map_or_else(Vec::new, |(trial, against, _)| vec![trial.id, against])
}

/// The next execution under the second budget.
pub(super) fn step_of_second(state: &State) -> Option<Step> {
    let budget = second_budget(state)?;
    let (_, _, measure) = due(state)?;
    Some(Step::Measure(Measure { budget: Some(budget), ..measure }))
}

/// The kept trial whose pairs are not complete, the incumbent before it, and what is to be executed. Only the newest
/// keep: the code of the others is not there any more.
fn due(state: &State) -> Option<(&Trial, TrialId, Measure)> {
    second_budget(state)?;
    let trial = state.trial(state.incumbent?).filter(|trial| trial.kept && trial.id > 0)?;
    let against = trial.parent_trial?;
    (0..SECOND_PAIRS).find_map(|pair| match pair_of(state, trial, against, pair) {
        Pair::Due(measure) => Some((trial, against, measure)),
        Pair::Done | Pair::Skipped(_) => None,
    })
}

/// Where a pair stands.
enum Pair {
    /// Both arms have a score.
    Done,
    /// One of them gave none, and why.
    Skipped(String),
    /// What is to be executed next, the budget left out.
    Due(Measure),
}

fn pair_of(state: &State, trial: &Trial, against: TrialId, pair: u32) -> Pair {
    let seed = seed_of(state, trial.id, Purpose::Second, pair);
    // Interleaved: the arm that goes first alternates (ABBA), as in audits.
    let order = if pair.is_multiple_of(2) { [trial.id, against] } else { [against, trial.id] };
    let own = || runs_of(trial).filter(|run| run.measure.seed == seed);
    let failed =
        own().find_map(|run| Some((run, run.invalid().filter(|one| one.reason != Reason::Machine)?)));
    if let Some((run, invalid)) = failed {
        return Pair::Skipped(format!("trial {} gave no score: {invalid}", run.measure.arm));
    }
    let done = |arm: TrialId| own().any(|run| run.measure.arm == arm && value(run).is_some());
    let Some(arm) = order.into_iter().find(|arm| !done(*arm)) else { return Pair::Done };
    match execution(state, trial, arm, Purpose::Second, seed) {
        Ok(measure) => Pair::Due(measure),
        Err(invalid) => Pair::Skipped(invalid.to_string()),
    }
}

/// Executions of a trial and of the incumbent before it under the second budget.
fn runs_of(trial: &Trial) -> impl Iterator<Item = &Run> {
    trial.runs.iter().filter(|run| run.measure.purpose == Purpose::Second)
}

fn value(run: &Run) -> Option<f64> {
    match &run.outcome {
        Some(Outcome::Scored(score)) => Some(score.value),
        _ => None,
    }
}

/// Complete pairs `(candidate, incumbent)` under the second budget, matched by seed.
fn second_pairs(trial: &Trial, against: TrialId) -> Vec<(f64, f64)> {
    let of = |arm: TrialId| trial.scores(arm, Purpose::Second);
    let other = |seed: u64| of(against).find(|(used, _)| *used == seed).map(|(_, score)| score.value);
    of(trial.id).filter_map(|(seed, score)| Some((score.value, other(seed)?))).collect()
}

/// Speeds of an arm's full runs under the first budget, before a measurement.
fn rates(state: &State, arm: TrialId, before: MeasureId) -> Vec<f64> {
    let own = state.runs().filter(|run| run.measure.arm == arm && run.measure.measure < before);
    own.filter_map(|run| run.score()?.facts.get(RATE).copied()).collect()
}
