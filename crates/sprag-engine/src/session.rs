//! The next step of a run, as a pure function of its state.
//!
//! No process, clock or file: `runner` carries steps out and records what came of them. Asking twice without
//! recording gives the same step, which is what makes a run resumable after a kill at any moment.

use crate::gate::{self, Confirmed, Noise, Screened};
use crate::record::{
    Budget, Direction, Invalid, Measure, MeasureId, Outcome, Policy, Purpose, Reason, TrialId, Verdict,
};
use crate::state::{Pending, Run, State, Trial};

/// Repairs a proposer may try after a failed build.
pub const MAX_REPAIRS: u32 = 2;

/// Rejected proposals in a row, since the last resume, after which a run ends: the proposer goes in circles.
pub const MAX_REJECTIONS: u32 = 8;

/// Executions of one arm under one seed that have no end, after which it is not executed again: what takes
/// the machine down would do so at every resume.
pub const MAX_UNFINISHED: usize = 2;

/// What the session must know besides the ledger.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// The task has a build command.
    pub builds: bool,
    /// The task's evaluator can run a smoke test.
    pub smokes: bool,
    /// The proposer of the open trial can mend a failed build.
    pub repairs: bool,
    /// Proposers can go on for ever without anything new. One whose proposals are counted cannot.
    pub circles: bool,
    /// Most trials, the baseline not counted.
    pub max_trials: Option<u32>,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Bring a begun branch move to its end.
    FinishMove(Pending),
    /// Begin a trial: 0 is the baseline, the others are asked of a proposer.
    StartTrial(TrialId),
    /// Ask for the open trial's proposal.
    Propose(TrialId),
    /// Ask the proposer to mend the build.
    Repair(TrialId),
    /// Build the open trial.
    Build(TrialId),
    /// Execute an arm.
    Measure(Measure),
    /// Record a decision.
    Decide(TrialId, Verdict, String),
    /// Move the branch to a winner.
    Advance(TrialId),
    /// The run is over.
    Finish(String),
}

/// The next step. `state` must hold a started run.
pub fn next_step(state: &State, rules: Rules) -> Step {
    if let Some(pending) = &state.pending {
        return Step::FinishMove(pending.clone());
    }
    if let Some(trial) = state.open_trial() {
        return step_of_trial(state, trial, rules);
    }
    let Some(last) = state.trials.last() else { return Step::StartTrial(0) };
    if matches!(last.verdict, Some(Verdict::Win(_))) && !last.kept && !last.undone {
        return Step::Advance(last.id);
    }
    if state.incumbent.is_none() {
        let why = last.reason.clone().unwrap_or_default();
        return Step::Finish(format!("the baseline has no score: {why}"));
    }
    if let Some(reason) = &state.proposer_stopped {
        return Step::Finish(reason.clone());
    }
    let since = state.trials.iter().skip(state.trials_at_resume);
    let rejected = since.rev().take_while(|trial| trial.id > 0 && trial.proposed.is_none()).count();
    if rules.circles && rejected as u32 >= MAX_REJECTIONS {
        return Step::Finish(format!("the last {rejected} proposals were rejected before they ran"));
    }
    if rules.max_trials.is_some_and(|most| last.id >= most) {
        return Step::Finish(format!("{} trials were made", last.id));
    }
    Step::StartTrial(last.id + 1)
}

fn step_of_trial(state: &State, trial: &Trial, rules: Rules) -> Step {
    let Some(proposed) = &trial.proposed else { return Step::Propose(trial.id) };
    if rules.builds {
        match trial.builds.get(proposed.attempt as usize) {
            None => return Step::Build(trial.id),
            Some(build) => {
                if let Some(invalid) = build.invalid() {
                    if proposed.attempt < MAX_REPAIRS && rules.repairs && trial.id > 0 {
                        return Step::Repair(trial.id);
                    }
                    return decide_invalid(trial.id, invalid.reason, invalid.detail);
                }
            }
        }
    }
    if let Some(invalid) = trial.invalid() {
        return Step::Decide(trial.id, invalid.verdict(), invalid.to_string());
    }
    let passed = |run: &Run| run.measure.purpose == Purpose::Smoke && run.outcome == Some(Outcome::Passed);
    if rules.smokes && !trial.runs.iter().any(passed) {
        let seed = seed_of(state, trial.id, Purpose::Smoke, 0);
        return measure(state, trial, trial.id, Purpose::Smoke, seed);
    }
    if trial.id == 0 { step_of_baseline(state, trial) } else { step_of_candidate(state, trial) }
}

fn step_of_baseline(state: &State, trial: &Trial) -> Step {
    let policy = policy(state);
    let scores: Vec<f64> = trial.scores(trial.id, Purpose::Baseline).map(|(_, score)| score.value).collect();
    let repeats = policy.baseline_repeats.max(2);
    if (scores.len() as u32) < repeats {
        let seed = seed_of(state, trial.id, Purpose::Baseline, scores.len() as u32);
        return measure(state, trial, trial.id, Purpose::Baseline, seed);
    }
    match gate::baseline(&scores) {
        Some(verdict) => {
            Step::Decide(trial.id, verdict, format!("the noise floor, from {} repeats", scores.len()))
        }
        None => decide_invalid(trial.id, Reason::Evaluator, "the repeats have no spread to compute".into()),
    }
}

fn step_of_candidate(state: &State, trial: &Trial) -> Step {
    let (policy, direction, noise) = (policy(state), state.direction(), noise(state));
    let Some(incumbent) = state.incumbent else {
        return decide_invalid(trial.id, Reason::Evaluator, "there is no incumbent to compare with".into());
    };
    let Some((_, screening)) = trial.scores(trial.id, Purpose::Screen).next() else {
        let seed = seed_of(state, trial.id, Purpose::Screen, 0);
        return measure(state, trial, trial.id, Purpose::Screen, seed);
    };
    match gate::screen(screening.value, &unbiased_scores(state, incumbent), noise, direction, &policy) {
        None => return decide_invalid(trial.id, Reason::Evaluator, "the noise floor is unknown".into()),
        Some(Screened::Dropped(effect)) => {
            let verdict = gate::undecided(effect);
            let reason = if matches!(verdict, Verdict::Loss(_)) {
                "worse than the incumbent in the screening run, beyond the noise"
            } else {
                "the screening run shows no advantage worth confirming"
            };
            return Step::Decide(trial.id, verdict, reason.into());
        }
        Some(Screened::Promising(_)) => {}
    }
    let failures = failures_of(trial, incumbent);
    if failures.len() >= 2 {
        let detail = format!("the incumbent failed twice when paired: {}", failures[1]);
        return decide_invalid(trial.id, Reason::Evaluator, detail);
    }
    let pairs = pairs(trial, incumbent);
    let next_pair = match gate::confirm(&pairs, noise, direction, &policy) {
        None | Some(Confirmed::More(_)) => pairs.len() as u32,
        Some(Confirmed::Win(effect)) => {
            let reason = format!(
                "better in {} of {} pairs, interval above zero",
                better(&pairs, direction),
                effect.pairs
            );
            return Step::Decide(trial.id, Verdict::Win(effect), reason);
        }
        Some(Confirmed::Loss(effect)) => {
            let reason = "the pairs turn the screening run's advantage into a loss".into();
            return Step::Decide(trial.id, Verdict::Loss(effect), reason);
        }
        Some(Confirmed::Inconclusive(effect)) => {
            let reason = format!("after {} pairs the interval still spans zero", effect.pairs);
            return Step::Decide(trial.id, Verdict::Inconclusive(effect), reason);
        }
    };
    // Interleaved: the arm that goes first alternates, so that drift of the machine cancels (ABBA).
    let seed = seed_of(state, trial.id, Purpose::Confirm, next_pair);
    let order = if next_pair % 2 == 0 { [trial.id, incumbent] } else { [incumbent, trial.id] };
    let done = |arm: TrialId| trial.scores(arm, Purpose::Confirm).any(|(used, _)| used == seed);
    let arm = if done(order[0]) { order[1] } else { order[0] };
    measure(state, trial, arm, Purpose::Confirm, seed)
}

fn better(pairs: &[(f64, f64)], direction: Direction) -> usize {
    pairs
        .iter()
        .filter(|&&(candidate, incumbent)| gate::advantage(candidate, incumbent, direction) > 0.0)
        .count()
}

/// Complete confirmation pairs `(candidate, incumbent)` of a trial, matched by seed.
pub fn pairs(trial: &Trial, incumbent: TrialId) -> Vec<(f64, f64)> {
    let other = |seed: u64| trial.scores(incumbent, Purpose::Confirm).find(|(used, _)| *used == seed);
    let own = trial.scores(trial.id, Purpose::Confirm);
    own.filter_map(|(seed, score)| Some((score.value, other(seed)?.1.value))).collect()
}

fn failures_of(trial: &Trial, arm: TrialId) -> Vec<String> {
    let outcomes =
        trial.runs.iter().filter(|run| run.measure.arm == arm).filter_map(|run| run.outcome.as_ref());
    let invalid = outcomes.filter_map(|outcome| match outcome {
        Outcome::Invalid(invalid) => Some(invalid.to_string()),
        _ => None,
    });
    invalid.collect()
}

/// Scores of a kept arm that did not help to select it: repeats of the baseline, and its turns as incumbent.
/// As long as there are fewer than two, its own confirmation runs count too; its screening run never does.
pub fn unbiased_scores(state: &State, arm: TrialId) -> Vec<f64> {
    let later =
        scores_where(state, arm, |measure| measure.trial != arm || measure.purpose == Purpose::Baseline);
    if later.len() >= 2 { later } else { scores_where(state, arm, |_| true) }
}

/// The noise of one run, pooled over the arms that are or were incumbents. Runs of a trial that is still open
/// are left out: the gate counts their scatter itself.
pub fn noise(state: &State) -> Noise {
    let decided = |trial: TrialId| state.trial(trial).is_some_and(|trial| trial.verdict.is_some());
    let kept = state.trials.iter().filter(|trial| trial.kept);
    let arms: Vec<Vec<f64>> =
        kept.map(|trial| scores_where(state, trial.id, |measure| decided(measure.trial))).collect();
    Noise::pooled(arms.iter().map(Vec::as_slice))
}

fn scores_where(state: &State, arm: TrialId, which: impl Fn(&Measure) -> bool) -> Vec<f64> {
    let runs = state.trials.iter().flat_map(|trial| &trial.runs);
    let used = runs.filter(|run| {
        run.measure.arm == arm && run.measure.purpose != Purpose::Screen && which(&run.measure)
    });
    used.filter_map(|run| match &run.outcome {
        Some(Outcome::Scored(score)) => Some(score.value),
        _ => None,
    })
    .collect()
}

fn policy(state: &State) -> Policy {
    state.run.as_ref().map_or_else(Policy::default, |run| run.policy)
}

fn decide_invalid(trial: TrialId, reason: Reason, detail: String) -> Step {
    let invalid = Invalid::new(reason, detail);
    let line = invalid.to_string();
    Step::Decide(trial, Verdict::Invalid(invalid), line)
}

fn measure(state: &State, trial: &Trial, arm: TrialId, purpose: Purpose, seed: u64) -> Step {
    let same = trial.runs.iter().filter(|run| run.measure.arm == arm && run.measure.seed == seed);
    let unfinished = same.filter(|run| run.outcome.is_none()).count();
    if unfinished >= MAX_UNFINISHED {
        let detail = format!(
            "sprag was killed {unfinished} times while it executed trial {arm} under seed {seed}: \
             perhaps it takes the machine down"
        );
        return decide_invalid(trial.id, Reason::Crash, detail);
    }
    let measure: MeasureId = state.next_measure;
    Step::Measure(Measure { measure, trial: trial.id, arm, seed, purpose })
}

/// The seed of an execution: a function of the run's seed alone, so that a resumed run asks for the same
/// one, and both arms of a pair share it. Below 2^53, so that every JSON reader keeps it exact.
fn seed_of(state: &State, trial: TrialId, purpose: Purpose, repeat: u32) -> u64 {
    let seed = state.run.as_ref().map_or(0, |run| run.seed);
    let purpose = match purpose {
        Purpose::Baseline => 1,
        Purpose::Smoke => 2,
        Purpose::Screen => 3,
        Purpose::Confirm => 4,
        Purpose::Check => 5,
    };
    [u64::from(trial), purpose, u64::from(repeat)].into_iter().fold(seed, split_mix) >> 11
}

/// One step of SplitMix64 (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators").
pub fn split_mix(state: u64, salt: u64) -> u64 {
    let mut mixed = state.wrapping_add(salt.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

impl std::fmt::Display for Budget {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Budget::Seconds(seconds) => write!(formatter, "{seconds}s"),
            Budget::Tokens(tokens) => write!(formatter, "{tokens}tokens"),
        }
    }
}

#[cfg(test)]
mod tests;
