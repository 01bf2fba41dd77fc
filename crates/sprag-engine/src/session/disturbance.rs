//! Whether the machine disturbed an execution, from what the ledger knows of its speed and load.
//!
//! Pure: gathers what `gate::throughput` judges by.

use std::collections::BTreeMap;

use sprag_measure::machine::Load;

use crate::gate::throughput::{self, Answer, Fault, FaultKind, History, RATE};
use crate::record::{Budget, Measure, MeasureId, Outcome, Purpose, Reason, TrialId};
use crate::state::{Run, State};

/// Whether the machine disturbed an execution that ended now with these facts, and which earlier ones of the same
/// code under the same budget it is now known to have disturbed: a budget in seconds measures the machine, too.
pub fn disturbance(
    state: &State,
    measure: &Measure,
    facts: &BTreeMap<String, f64>,
) -> (Option<Fault>, Vec<(TrialId, MeasureId)>) {
    let budget = measure.budget.or(state.run.as_ref().map(|run| run.budget));
    let wall = matches!(budget, Some(Budget::Seconds(_)));
    // Under a part of the budget, starting up and warming up are another share of it: such speeds do not compare.
    let raced = |purpose: Purpose| matches!(purpose, Purpose::Smoke | Purpose::Race | Purpose::Guard);
    if !wall || raced(measure.purpose) {
        return (None, Vec::new());
    }
    let mut runs: Vec<&Run> = state.runs().filter(|run| !raced(run.measure.purpose)).collect();
    runs.sort_by_key(|run| run.measure.measure);
    let spoilt = |run: &Run| run.invalid().is_some_and(|invalid| invalid.reason == Reason::Machine);
    let apart = |run: &Run| matches!(run.measure.purpose, Purpose::Holdout | Purpose::Second);
    // Speeds under one budget say little of those under another.
    let same = |run: &Run| run.measure.budget == measure.budget;
    runs.retain(|run| same(run) && (run.score().is_some() || spoilt(run) || apart(run)));
    let mut rates: BTreeMap<TrialId, Vec<(f64, &Run)>> = BTreeMap::new();
    for run in &runs {
        if let Some(rate) = facts_of(run).and_then(|facts| facts.get(RATE)) {
            rates.entry(run.measure.arm).or_default().push((*rate, run));
        }
    }
    let own = rates.remove(&measure.arm).unwrap_or_default();
    let own_rates: Vec<f64> = own.iter().map(|(rate, _)| *rate).collect();
    let others: Vec<Vec<f64>> =
        rates.values().map(|runs| runs.iter().map(|(rate, _)| *rate).collect()).collect();
    let loads: Vec<Load> = runs.iter().filter_map(|run| throughput::load(facts_of(run)?)).collect();
    let history = History { own: &own_rates, others: &others, loads: &loads };
    let judged = throughput::judge(RATE, facts.get(RATE).copied(), throughput::load(facts), &history);
    let fault = match judged.answer {
        // The baseline's repeats are where the usual load is learnt, and they judge nobody: those that were slow are told
        // by one another.
        Answer::Fault(fault) if measure.purpose == Purpose::Baseline && fault.kind != FaultKind::Slow => None,
        Answer::Fault(fault) => Some(fault),
        Answer::Sound | Answer::CannotTell(_) => None,
    };
    let earlier = judged.earlier.iter().filter_map(|at| own.get(*at)).map(|(_, run)| *run);
    // What the holdout answered was heard.
    let earlier = earlier
        .filter(|run| !spoilt(run) && run.measure.purpose != Purpose::Holdout)
        .map(|run| (run.measure.trial, run.measure.measure));
    (fault, earlier.collect())
}

fn facts_of(run: &Run) -> Option<&BTreeMap<String, f64>> {
    run.outcome.as_ref().and_then(Outcome::facts)
}
