//! What is due about the keeps since the certified champion: audits, bisection, taking back, trying again.

use std::collections::BTreeSet;

use super::evidence::noise_before;
use super::{EndAudit, Rules, StartAudit, Step, measure, policy, seed_of};
use crate::gate::chain::Plan;
use crate::gate::ladder::{self, Rung};
use crate::gate::{self, Noise, audit, online};
use crate::record::{AuditEnd, AuditId, Effect, Invalid, Outcome, Purpose, Reason, TrialId};
use crate::state::{Audit, Run, State, Trial};

/// A keep that was undone because of one before it, and whose change was not tried on its own since.
pub(super) fn to_try_again(state: &State) -> Option<TrialId> {
    let undone_by = |trial: TrialId| state.trial(trial).and_then(|trial| trial.failed_audit);
    let waits = |trial: &&Trial| {
        trial.failed_audit.is_some()
            && trial.again.is_none()
            && trial.parent_trial.is_some_and(|parent| undone_by(parent) == trial.failed_audit)
            && !state.trials.iter().any(|other| other.again == Some(trial.id))
    };
    state.trials.iter().find(waits).map(|trial| trial.id)
}

/// What is due about the keeps since the certified champion.
pub(super) fn step_of_chain(state: &State, now: bool) -> Option<Step> {
    let (policy, keeps) = (policy(state), state.uncertified());
    match state.chain.plan(keeps.len() as u32, &policy, now) {
        Plan::Wait => None,
        Plan::Undo => {
            let audit = state.audits.last().map_or(0, |audit| audit.id);
            keeps.last().map(|newest| Step::TakeBack(*newest, audit))
        }
        Plan::Audit(first) => {
            let audit = state.audits.len() as AuditId + 1;
            let certified =
                state.audits.iter().filter(|audit| audit.end == Some(AuditEnd::Certified)).count();
            let tip = *keeps.get((first as usize).checked_sub(1)?)?;
            if !state.trial(tip).is_some_and(|trial| trial.kept) {
                return None;
            }
            Some(Step::StartAudit(StartAudit {
                audit,
                tip,
                against: state.certified?,
                keeps: first,
                level: online::level(audit, certified as u32, &policy),
            }))
        }
    }
}

pub(super) fn step_of_audit(state: &State, audit: &Audit, rules: Rules) -> Step {
    let (policy, direction) = (policy(state), state.direction());
    let noise = noise_before(state, audit.first_measure);
    let pairs = audit_pairs(state, audit);
    let differences: Vec<f64> =
        pairs.iter().map(|&(tip, champion)| gate::advantage(tip, champion, direction)).collect();
    let ended = |end: AuditEnd, holdout: Option<f64>, gave_up: bool, reason: String| {
        let e_value = audit::e_value(&differences, noise).unwrap_or(1.0).min(f64::MAX);
        let effect = audit_effect(&differences, noise, audit.level);
        Step::EndAudit(EndAudit { audit: audit.id, end, e_value, effect, holdout, gave_up, reason })
    };
    let close = |end: AuditEnd, holdout: Option<f64>, reason: String| ended(end, holdout, false, reason);
    let give_up = |reason: String| ended(AuditEnd::Open, None, true, reason);
    let spoilt = audit_runs(state, audit).filter_map(|run| Some((run.measure.arm, run.invalid()?)));
    let spoilt: Vec<(TrialId, &Invalid)> =
        spoilt.filter(|(_, invalid)| invalid.reason != Reason::Machine).collect();
    match spoilt.first() {
        Some((arm, invalid)) if *arm == audit.tip => {
            return close(AuditEnd::Failed, None, format!("the tip gave no score: {invalid}"));
        }
        Some((_, invalid)) => return give_up(format!("the champion gave no score: {invalid}")),
        None => {}
    }
    let (end, words) = match audit::judge(&differences, noise, audit.level, &policy) {
        None => {
            // Interleaved: the arm that goes first alternates (ABBA), as in confirmation.
            let seed_of = |number: u32| seed_of(state, audit.id, Purpose::Audit, number);
            let done = |arm: TrialId, number: u32| {
                audit_scores(state, audit, arm).any(|(used, _)| used == seed_of(number))
            };
            let whole = |number: &u32| done(audit.tip, *number) && done(audit.against, *number);
            // A score may have been disqualified since: the first pair that is not whole, not the next number.
            let number = (0..u32::MAX).find(|number| !whole(number)).unwrap_or_default();
            let order = if number.is_multiple_of(2) {
                [audit.tip, audit.against]
            } else {
                [audit.against, audit.tip]
            };
            let arm = if done(order[0], number) { order[1] } else { order[0] };
            return measure_for_audit(state, audit, arm, Purpose::Audit, seed_of(number))
                .unwrap_or_else(give_up);
        }
        Some(AuditEnd::Certified) => (AuditEnd::Certified, "better than the last certified champion"),
        Some(AuditEnd::Failed) => (AuditEnd::Failed, "the pairs do not bear the gain out"),
        Some(AuditEnd::Open) => (AuditEnd::Open, "the pairs speak for it, not loudly enough"),
    };
    let reason = format!("{words}, over {} pairs with fresh seeds", differences.len());
    if end != AuditEnd::Certified || !rules.holdout {
        return close(end, None, reason);
    }
    // The champion first, where nothing is shown of the holdout yet: one score alone says nothing.
    let mut arms = vec![audit.tip];
    if state.holdout.is_none() {
        arms.insert(0, audit.against);
    }
    let asked = |arm: TrialId| {
        let own = audit_runs(state, audit).filter(|run| run.measure.arm == arm);
        own.filter(|run| run.measure.purpose == Purpose::Holdout).find_map(|run| match &run.outcome {
            Some(Outcome::Scored(score)) => Some(score.value),
            _ => None,
        })
    };
    for arm in &arms {
        if asked(*arm).is_none() {
            if ladder::left(state.holdout_queries(), &policy) == 0 {
                return close(end, None, format!("{reason}; the holdout's queries are spent"));
            }
            let seed = seed_of(state, audit.id, Purpose::Holdout, u32::from(*arm == audit.tip));
            return measure_for_audit(state, audit, *arm, Purpose::Holdout, seed).unwrap_or_else(give_up);
        }
    }
    let Some(score) = asked(audit.tip) else { return close(end, None, reason) };
    let shown = state.holdout.or_else(|| asked(audit.against));
    let Rung { shown, contradicts } = ladder::climb(score, shown, noise, direction);
    if contradicts {
        let reason = format!("{reason}, but on the sealed holdout it is worse than what is shown of it");
        return close(AuditEnd::Failed, Some(shown), reason);
    }
    close(end, Some(shown), reason)
}

/// An execution for an audit; `Err` says why it is given up.
fn measure_for_audit(
    state: &State,
    audit: &Audit,
    arm: TrialId,
    purpose: Purpose,
    seed: u64,
) -> Result<Step, String> {
    let Some(trial) = state.trial(audit.tip) else { return Err("the audited trial is gone".into()) };
    match measure(state, trial, arm, purpose, seed) {
        Step::Decide(_, _, why) => Err(why),
        step => Ok(step),
    }
}

/// Executions of an audit, in order.
fn audit_runs<'a>(state: &'a State, audit: &Audit) -> impl Iterator<Item = &'a Run> {
    let first = audit.first_measure;
    let runs = state.trial(audit.tip).into_iter().flat_map(|trial| &trial.runs);
    runs.filter(move |run| {
        run.measure.measure >= first && matches!(run.measure.purpose, Purpose::Audit | Purpose::Holdout)
    })
}

fn audit_scores(state: &State, audit: &Audit, arm: TrialId) -> impl Iterator<Item = (u64, f64)> {
    let own = audit_runs(state, audit).filter(move |run| run.measure.arm == arm);
    own.filter_map(|run| Some((run.measure.seed, run.score()?.value)))
}

/// Complete pairs `(tip, champion)` of an audit, matched by seed.
pub fn audit_pairs(state: &State, audit: &Audit) -> Vec<(f64, f64)> {
    let other = |seed: u64| audit_scores(state, audit, audit.against).find(|(used, _)| *used == seed);
    let mut seen = BTreeSet::new();
    let own = audit_scores(state, audit, audit.tip).filter(|(seed, _)| seen.insert(*seed));
    own.filter_map(|(seed, score)| Some((score, other(seed)?.1))).collect()
}

fn audit_effect(differences: &[f64], noise: Noise, level: f64) -> Option<Effect> {
    let gain = sprag_measure::stats::mean(differences)?;
    let (low, high) = audit::interval(differences, noise, level)?;
    Some(Effect { gain, low, high, runs: differences.len() as u32, sigma: noise.sigma()? })
}
