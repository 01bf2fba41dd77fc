//! What each proposer brought, and what its trials cost.

use serde::Serialize;

use super::families::certified;
use crate::record::{Purpose, Spending};
use crate::state::{State, Trial};

/// One proposer's trials.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Yield {
    /// Its name.
    pub proposer: String,
    /// Its trials, those under way included.
    pub tried: u32,
    /// Of these, not decided yet.
    pub open: u32,
    /// Of these, kept and not taken back.
    pub kept: u32,
    /// Of these, below a certified champion.
    pub certified: u32,
    /// Of these, decided without a score.
    pub invalid: u32,
    /// Sum of the gains of its certified trials, in sigma, shrunken by how little each rests on.
    pub certified_gain_sigmas: f64,
    /// The same for kept trials that no audit was asked about yet.
    pub tentative_gain_sigmas: f64,
    /// Wall hours of asking, building and running its trials; audits and repeats of others are not among them.
    pub hours: f64,
    /// What asking it cost, as far as it tells.
    pub spending: Spending,
}

impl Yield {
    /// What its trials cost in US dollars when an hour of this machine costs so many.
    pub fn cost(&self, usd_per_hour: f64) -> f64 {
        self.spending.usd.unwrap_or(0.0) + self.hours * usd_per_hour
    }
}

/// Every proposer that began a trial, in the order of their first ones. Repetitions of a change after an audit are
/// nobody's.
pub fn yields(state: &State) -> Vec<Yield> {
    let certified = certified(state);
    let mut yields: Vec<Yield> = Vec::new();
    for trial in state.trials.iter().filter(|trial| trial.id > 0 && trial.again.is_none()) {
        let at = yields.iter().position(|one| one.proposer == trial.proposer).unwrap_or_else(|| {
            yields.push(Yield { proposer: trial.proposer.clone(), ..Yield::default() });
            yields.len() - 1
        });
        if let Some(one) = yields.get_mut(at) {
            add(one, trial, certified.contains(&trial.id));
        }
    }
    yields
}

fn add(one: &mut Yield, trial: &Trial, certified: bool) {
    let spending = trial.asked.iter().fold(Spending::default(), |sum, asked| sum.plus(asked.spending));
    let own = |purpose| {
        matches!(
            purpose,
            Purpose::Smoke | Purpose::Screen | Purpose::Confirm | Purpose::Race | Purpose::Guard
        )
    };
    let runs = trial.runs.iter().filter(|run| own(run.measure.purpose));
    let seconds = spending.seconds
        + trial.builds.iter().map(|build| build.seconds).sum::<f64>()
        + runs.map(|run| run.seconds).sum::<f64>();
    one.tried += 1;
    one.open += u32::from(trial.verdict.is_none());
    one.kept += u32::from(trial.kept);
    one.certified += u32::from(certified);
    one.invalid += u32::from(trial.verdict.is_some() && trial.effect().is_none());
    one.hours += seconds / 3600.0;
    one.spending = one.spending.plus(spending);
    let gain = trial.effect().map_or(0.0, |effect| effect.shrunken_sigmas().max(0.0));
    if certified {
        one.certified_gain_sigmas += gain;
    } else if trial.kept {
        one.tentative_gain_sigmas += gain;
    }
}

/// The share of keeps that audits bear out, as far as it is known: of those that audits of this run decided on, and of
/// two more that are taken to be even.
pub fn borne_out(state: &State) -> f64 {
    let borne_out = certified(state).len() as f64;
    let taken_back = state.trials.iter().filter(|trial| trial.failed_audit.is_some()).count() as f64;
    (borne_out + 1.0) / (borne_out + taken_back + 2.0)
}
