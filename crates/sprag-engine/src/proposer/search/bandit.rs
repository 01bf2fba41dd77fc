//! Which family of knobs to try next: UCB1-tuned over what earlier trials were worth.

use std::collections::BTreeMap;

use crate::record::Verdict;
use crate::state::State;

/// One family, as the bandit sees it.
pub struct Arm {
    /// What its trials were worth, each within 0 and 1.
    pub rewards: Vec<f64>,
    /// Decides between equals.
    pub tie: u64,
}

/// Rewards of all decided trials by family, whoever proposed them; trials taken back do not count.
pub fn rewards(state: &State) -> BTreeMap<String, Vec<f64>> {
    let mut rewards: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for trial in state.trials.iter().filter(|trial| !trial.undone) {
        let family = trial.proposed.as_ref().and_then(|proposed| proposed.family.clone());
        if let (Some(family), Some(reward)) = (family, trial.verdict.as_ref().and_then(reward)) {
            rewards.entry(family).or_default().push(reward);
        }
    }
    rewards
}

/// A win is worth 1. Otherwise the gain in sigma, shrunk towards zero by how little it rests on (prior: a
/// gain of one sigma either way), from -1 (worth nothing) to 1 (worth as much as a win).
fn reward(verdict: &Verdict) -> Option<f64> {
    match verdict {
        Verdict::Baseline { .. } => None,
        Verdict::Win(_) => Some(1.0),
        Verdict::Loss(effect) | Verdict::Inconclusive(effect) => {
            Some(((effect.shrunken_sigmas() + 1.0) / 2.0).clamp(0.0, 1.0))
        }
        // Not compared with the incumbent, and others did better: less than a candidate that changes nothing.
        Verdict::Raced(_) => Some(0.25),
        // Left the incumbent's band: as a loss by a sigma or more.
        Verdict::Invalid(_) | Verdict::Stopped { .. } => Some(0.0),
    }
}

/// The arm to pull: one never pulled, else that of the highest upper confidence bound. `None` without arms.
pub fn choose(arms: &[Arm]) -> Option<usize> {
    let pulls: usize = arms.iter().map(|arm| arm.rewards.len()).sum();
    let bound = |arm: &Arm| {
        let n = arm.rewards.len() as f64;
        if arm.rewards.is_empty() {
            return f64::INFINITY;
        }
        let mean = arm.rewards.iter().sum::<f64>() / n;
        let variance = arm.rewards.iter().map(|reward| (reward - mean).powi(2)).sum::<f64>() / n;
        let log = (pulls as f64).ln();
        mean + (log / n * (variance + (2.0 * log / n).sqrt()).min(0.25)).sqrt()
    };
    let order = |a: &&Arm, b: &&Arm| bound(a).total_cmp(&bound(b)).then(a.tie.cmp(&b.tie));
    arms.iter().enumerate().max_by(|(_, a), (_, b)| order(a, b)).map(|(at, _)| at)
}
