//! Families of ideas, and what proposers expected of them.

use std::collections::BTreeMap;

use serde::Serialize;
use sprag_measure::stats::{self, Interval};

use crate::record::{AuditEnd, TrialId};
use crate::state::{State, Trial};

/// What became of the ideas of one family.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Family {
    /// Its name, as [`family_name`] writes it.
    pub name: String,
    /// Trials that were decided.
    pub tried: u32,
    /// Of these, kept and not taken back.
    pub kept: u32,
    /// Of these, below a certified champion.
    pub certified: u32,
    /// Of these, without a score.
    pub invalid: u32,
    /// Mean gain over the incumbent in sigma, with a two-sided interval at 95 %; `None` below two estimates.
    pub gain: Option<Interval>,
    /// The mean where there is one estimate alone, as there is no interval.
    pub mean_gain: Option<f64>,
    /// The newest trial.
    pub last: TrialId,
}

/// How well a proposer foresees the effect of its changes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Predictions {
    /// The proposer; empty for all together.
    pub proposer: String,
    /// Decided trials with an expectation and an estimate.
    pub n: u32,
    /// Share of them whose gain has the sign that was expected, 0 to 1.
    pub right_sign: f64,
    /// Mean distance of expectation and estimate, in sigma.
    pub mean_error_sigmas: f64,
    /// Mean of what was expected, in sigma.
    pub mean_expected_sigmas: f64,
    /// Mean of what was measured, in sigma.
    pub mean_measured_sigmas: f64,
}

/// One spelling for a family: lower case, words joined by single spaces.
pub fn family_name(name: &str) -> String {
    let words = name.split(|c: char| c.is_whitespace() || c == '-' || c == '_' || c == '/');
    words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ").to_lowercase()
}

/// Every family that was tried, the most tried first, then by name. Ideas without a family are `other`.
pub fn families(state: &State) -> Vec<Family> {
    let certified = certified(state);
    let mut groups: BTreeMap<String, Vec<&Trial>> = BTreeMap::new();
    for trial in state.trials.iter().filter(|trial| trial.id > 0 && trial.verdict.is_some()) {
        let family = trial.proposed.as_ref().and_then(|proposed| proposed.family.as_deref()).map(family_name);
        let family = family.filter(|name| !name.is_empty()).unwrap_or_else(|| "other".to_owned());
        groups.entry(family).or_default().push(trial);
    }
    let mut families: Vec<Family> =
        groups.into_iter().map(|(name, trials)| family(name, &trials, &certified)).collect();
    families.sort_by(|a, b| b.tried.cmp(&a.tried).then_with(|| a.name.cmp(&b.name)));
    families
}

fn family(name: String, trials: &[&Trial], certified: &[TrialId]) -> Family {
    let count = |of: &dyn Fn(&Trial) -> bool| trials.iter().filter(|trial| of(trial)).count() as u32;
    let gains: Vec<f64> = trials.iter().filter_map(|trial| gain_in_sigma(trial)).collect();
    Family {
        name,
        tried: trials.len() as u32,
        kept: count(&|trial| trial.kept),
        certified: count(&|trial| certified.contains(&trial.id)),
        invalid: count(&|trial| trial.effect().is_none()),
        gain: stats::mean_interval(&gains, 0.95),
        mean_gain: stats::mean(&gains),
        last: trials.last().map_or(0, |trial| trial.id),
    }
}

/// Kept trials that an audit bore out: the certified champion and what it was made from.
pub(super) fn certified(state: &State) -> Vec<TrialId> {
    let audited = state.audits.iter().any(|audit| audit.end == Some(AuditEnd::Certified));
    let mut line = Vec::new();
    let mut at = state.certified.filter(|_| audited);
    while let Some(trial) = at.filter(|trial| *trial > 0) {
        line.push(trial);
        at = state.trial(trial).and_then(|trial| trial.parent_trial);
    }
    line
}

pub(super) fn gain_in_sigma(trial: &Trial) -> Option<f64> {
    let effect = trial.effect()?;
    (effect.sigma > 0.0).then(|| effect.gain / effect.sigma)
}

/// All expectations together; `None` when none was declared and measured.
pub fn predictions(state: &State) -> Option<Predictions> {
    let all: Vec<(f64, f64)> = state.trials.iter().filter_map(foreseen).collect();
    score(String::new(), &all)
}

/// The same for each proposer that declared any, by name.
pub fn predictions_by_proposer(state: &State) -> Vec<Predictions> {
    let mut groups: BTreeMap<&str, Vec<(f64, f64)>> = BTreeMap::new();
    for trial in &state.trials {
        if let Some(pair) = foreseen(trial) {
            groups.entry(&trial.proposer).or_default().push(pair);
        }
    }
    groups.into_iter().filter_map(|(name, pairs)| score(name.to_owned(), &pairs)).collect()
}

/// What was expected and what was measured, in sigma.
fn foreseen(trial: &Trial) -> Option<(f64, f64)> {
    let effect = trial.effect().filter(|effect| effect.sigma > 0.0)?;
    let expected = trial.proposed.as_ref()?.expected_gain?;
    Some((expected / effect.sigma, effect.gain / effect.sigma))
}

fn score(proposer: String, pairs: &[(f64, f64)]) -> Option<Predictions> {
    let mean = |of: &dyn Fn(&(f64, f64)) -> f64| stats::mean(&pairs.iter().map(of).collect::<Vec<_>>());
    Some(Predictions {
        proposer,
        n: pairs.len() as u32,
        right_sign: mean(&|(expected, gain)| f64::from(u8::from((*expected > 0.0) == (*gain > 0.0))))?,
        mean_error_sigmas: mean(&|(expected, gain)| (expected - gain).abs())?,
        mean_expected_sigmas: mean(&|(expected, _)| *expected)?,
        mean_measured_sigmas: mean(&|(_, gain)| *gain)?,
    })
}
