//! Racing: the trials of a heat are halved on growing parts of the budget, and the one that is left is judged.
//!
//! Successive halving (Jamieson, Talwalkar 2016, "Non-stochastic best arm identification and hyperparameter
//! optimization"; Li et al. 2018, "Hyperband"; Li et al. 2020, "A system for massively parallel hyperparameter
//! tuning"). Those papers also let a survivor go on from where it stopped; here it never does. Each rung is a whole
//! run under a smaller budget, which the candidate is told before it starts: its warmup, plateau and warmdown fit into
//! it, and equal parts of the schedule are compared. The middle of one run is never compared with the end of another.
//!
//! Everything follows from who is open, what they scored and the policy, so a resumed run decides as one that went
//! through.

use super::{Rules, Step, end_of_run, measure, policy, seed_of, step_of_judging, step_of_preparation};
use crate::gate::advantage;
use crate::record::{Budget, Purpose, Raced, TrialId, Verdict};
use crate::state::{State, Trial};

/// What is due of the trials that are open, be it a heat or one alone; `None` when none is.
pub(super) fn step(state: &State, rules: Rules) -> Option<Step> {
    let open: Vec<&Trial> = state.open_trials().collect();
    let first = *open.first()?;
    if let Some(due) = open.iter().find_map(|trial| step_of_preparation(state, trial, rules)) {
        return Some(due);
    }
    if let (Some(heat), Some(last)) = (joinable(state), state.trials.last())
        && end_of_run(state, last, rules).is_none()
    {
        return Some(Step::Join(last.id + 1, heat));
    }
    let race = policy(state).race.max(1);
    // A rung that would send everyone on is left out.
    let rung = (1..=race.ilog2()).find(|rung| open.len() > go_on(race, *rung));
    Some(
        rung.map_or_else(
            || step_of_judging(state, first, rules),
            |rung| step_of_rung(state, &open, race, rung),
        ),
    )
}

/// The newest heat, by its first trial, while others may still join: it is not full, none of it was executed under a
/// budget, and the incumbent is what it began with.
pub(super) fn joinable(state: &State) -> Option<TrialId> {
    let heat = state.heat();
    let first = heat.last()?.heat?;
    let began = |trial: &Trial| trial.runs.iter().any(|run| run.measure.purpose != Purpose::Smoke);
    let waits = heat.iter().all(|trial| trial.parent_trial == state.incumbent && !began(trial));
    (waits && (heat.len() as u32) < policy(state).race).then_some(first)
}

/// The budget of the first rung of a heat; `None` without racing.
pub fn first_rung(state: &State) -> Option<Budget> {
    let run = state.run.as_ref().filter(|run| run.policy.race > 1)?;
    Some(run.budget.part(run.policy.race))
}

/// How many go on from a rung, the first being 1: half of the heat, then half of those.
fn go_on(race: u32, rung: u32) -> usize {
    (race >> rung) as usize
}

/// Executes who has not run in the rung yet, all under one seed, then sends the last of them home until half is left.
fn step_of_rung(state: &State, open: &[&Trial], race: u32, rung: u32) -> Step {
    let whole = state.run.as_ref().map(|run| run.budget).unwrap_or_default();
    let budget = whole.part(race >> (rung - 1));
    let heat = open[0].heat.unwrap_or(open[0].id);
    let seed = seed_of(state, heat, Purpose::Race, rung);
    if let Some(trial) = open.iter().find(|trial| trial.raced(seed).is_none()) {
        return match measure(state, trial, trial.id, Purpose::Race, seed) {
            Step::Measure(measure) => {
                Step::Measure(crate::record::Measure { budget: Some(budget), ..measure })
            }
            given_up => given_up,
        };
    }
    // Best first; the sort is stable, so a tie goes to the earlier trial.
    let ran = state.heat().iter().filter_map(|trial| Some((trial, trial.raced(seed)?)));
    let mut places: Vec<(usize, &Trial, f64)> = ran.map(|(trial, score)| (0, trial, score)).collect();
    places.sort_by(|(_, _, a), (_, _, b)| advantage(*b, *a, state.direction()).total_cmp(&0.0));
    places.iter_mut().enumerate().for_each(|(at, (place, ..))| *place = at + 1);
    let of = places.len() as u32;
    places.retain(|(_, trial, _)| trial.verdict.is_none());
    let (place, last, score) = places[places.len() - 1];
    let (_, against, best) = places[go_on(race, rung) - 1];
    let behind = advantage(best, score, state.direction());
    let reason = if behind > 0.0 {
        format!(
            "place {place} of {of} on {budget}: {behind:.5} behind trial {}, the last to go on",
            against.id
        )
    } else {
        format!("place {place} of {of} on {budget}: level with trial {}, which is earlier", against.id)
    };
    let raced = Raced { place: place as u32, of, against: against.id, behind: behind.max(0.0), budget };
    Step::Decide(last.id, Verdict::Raced(raced), reason)
}
