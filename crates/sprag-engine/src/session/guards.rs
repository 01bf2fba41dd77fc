//! Limits besides the score: what breaks one is not kept, however good it is.
//!
//! An absolute limit ends a trial with the first run that breaks it. A limit relative to the incumbent is looked at
//! when the trial would be kept, by the means over all runs of either, so that one unlucky run decides nothing.

use std::collections::BTreeMap;

use crate::record::{Invalid, Reason, TrialId};
use crate::state::{Run, State, Trial};

type Facts = BTreeMap<String, f64>;

/// The absolute limit that a run of the trial's own code broke.
pub(super) fn broken_by_a_run(state: &State, trial: &Trial) -> Option<Invalid> {
    let guards = &state.run.as_ref()?.guards;
    let absolute = || guards.iter().filter(|rule| !rule.limit.times_incumbent);
    let own = trial.runs.iter().filter(|run| run.measure.arm == trial.id).filter_map(Run::score);
    let mut broken = own.flat_map(|score| absolute().filter_map(|rule| rule.violation(&score.facts, None)));
    broken.next().map(|detail| Invalid::new(Reason::Guard, detail))
}

/// The limit relative to the incumbent that the trial breaks in the mean.
pub(super) fn broken_in_the_mean(state: &State, trial: TrialId, incumbent: TrialId) -> Option<Invalid> {
    let guards = &state.run.as_ref()?.guards;
    let (candidate, incumbent) = (mean_facts(state, trial), mean_facts(state, incumbent));
    let relative = guards.iter().filter(|rule| rule.limit.times_incumbent);
    let mut broken = relative.filter_map(|rule| rule.violation(&candidate, Some(&incumbent)));
    broken.next().map(|detail| Invalid::new(Reason::Guard, detail))
}

/// Means of the facts of an arm over its scored runs under the whole budget.
pub fn mean_facts(state: &State, arm: TrialId) -> Facts {
    let mut sums: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
    let own = state.runs().filter(|run| run.measure.arm == arm).filter_map(Run::score);
    for (name, value) in own.flat_map(|score| &score.facts) {
        let (sum, n) = sums.entry(name).or_default();
        *sum += value;
        *n += 1.0;
    }
    sums.into_iter().map(|(name, (sum, n))| (name.to_owned(), sum / n)).collect()
}
