//! The next step of a run, as a pure function of its state.
//!
//! No process, clock or file: `runner` carries steps out and records what came of them. Asking twice without
//! recording gives the same step, which is what makes a run resumable after a kill at any moment.

use crate::gate::chain::Plan;
use crate::gate::ladder::{self, Rung};
use crate::gate::level::Level;
use crate::gate::tentative::{self, Evidence, Look};
use crate::gate::{self, Noise, audit, online};
use crate::record::{
    AuditEnd, AuditId, Budget, Direction, Effect, Invalid, Measure, MeasureId, Outcome, Policy, Preset,
    Purpose, Reason, TrialId, Verdict,
};
use crate::state::{Audit, Pending, Run, State, Trial};

/// Repairs a proposer may try after a failed build.
pub const MAX_REPAIRS: u32 = 2;

/// Rejected proposals in a row, since the last resume, after which a run ends: the proposer goes in circles.
pub const MAX_REJECTIONS: u32 = 8;

/// Executions of one arm under one seed that have no end, after which it is not executed again: what takes
/// the machine down would do so at every resume.
pub const MAX_UNFINISHED: usize = 2;

/// Executions under one seed that the machine spoilt, after which they are given up.
pub const MAX_DISTURBED: usize = 3;

/// What the session must know besides the ledger.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// The task has a build command.
    pub builds: bool,
    /// The task's evaluator can run a smoke test.
    pub smokes: bool,
    /// The task's evaluator can score on the sealed holdout.
    pub holdout: bool,
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
    /// Begin a trial that tries the change of an earlier one once more.
    TryAgain(TrialId, TrialId),
    /// Audit a beginning of the chain of keeps.
    StartAudit(StartAudit),
    /// Record how an audit ended.
    EndAudit(EndAudit),
    /// Take a keep back that an audit did not bear out.
    TakeBack(TrialId, AuditId),
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

/// An audit that is due.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StartAudit {
    /// Its number.
    pub audit: AuditId,
    /// The trial that is audited.
    pub tip: TrialId,
    /// The certified champion.
    pub against: TrialId,
    /// Keeps from the champion to the audited trial.
    pub keeps: u32,
    /// The level granted to it.
    pub level: f64,
}

/// What came of an audit.
#[derive(Clone, Debug, PartialEq)]
pub struct EndAudit {
    /// Its number.
    pub audit: AuditId,
    /// How it ended.
    pub end: AuditEnd,
    /// The evidence that the tip is better.
    pub e_value: f64,
    /// The tip's advantage, where there are pairs.
    pub effect: Option<Effect>,
    /// The holdout score to show from now on, where the holdout was asked.
    pub holdout: Option<f64>,
    /// In plain words.
    pub reason: String,
}

/// The next step of certifying what was kept so far, without new trials; `None` when nothing is left to do.
/// `now` asks for an audit of the whole chain even where the policy would wait for more keeps.
pub fn certify_step(state: &State, rules: Rules, now: bool) -> Option<Step> {
    if let Some(pending) = &state.pending {
        return Some(Step::FinishMove(pending.clone()));
    }
    if let Some(audit) = state.open_audit() {
        return Some(step_of_audit(state, audit, rules));
    }
    step_of_chain(state, now)
}

/// The next step. `state` must hold a started run.
pub fn next_step(state: &State, rules: Rules) -> Step {
    if let Some(pending) = &state.pending {
        return Step::FinishMove(pending.clone());
    }
    if let Some(audit) = state.open_audit() {
        return step_of_audit(state, audit, rules);
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
    if let Some(step) = step_of_chain(state, false) {
        return step;
    }
    if let Some(reason) = end_of_run(state, last, rules) {
        // What was kept since the last audit is audited before the run ends.
        let audits = policy(state).audit_every > 0 && state.chain.keeps > state.chain.open_at;
        let audit = if audits { step_of_chain(state, true) } else { None };
        return audit.unwrap_or(Step::Finish(reason));
    }
    match to_try_again(state) {
        Some(earlier) => Step::TryAgain(last.id + 1, earlier),
        None => Step::StartTrial(last.id + 1),
    }
}

/// Why no trial is begun any more.
fn end_of_run(state: &State, last: &Trial, rules: Rules) -> Option<String> {
    if let Some(reason) = &state.proposer_stopped {
        return Some(reason.clone());
    }
    let since = state.trials.iter().skip(state.trials_at_resume);
    let rejected = since.rev().take_while(|trial| trial.id > 0 && trial.proposed.is_none()).count();
    if rules.circles && rejected as u32 >= MAX_REJECTIONS {
        return Some(format!("the last {rejected} proposals were rejected before they ran"));
    }
    rules.max_trials.is_some_and(|most| last.id >= most).then(|| format!("{} trials were made", last.id))
}

/// A keep that was undone because of one before it, and whose change was not tried on its own since.
fn to_try_again(state: &State) -> Option<TrialId> {
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
fn step_of_chain(state: &State, now: bool) -> Option<Step> {
    let (policy, keeps) = (policy(state), state.uncertified());
    match state.chain.plan(&policy, now) {
        Plan::Wait => None,
        Plan::Undo => {
            let audit = state.audits.last().map_or(0, |audit| audit.id);
            keeps.last().map(|newest| Step::TakeBack(*newest, audit))
        }
        Plan::Audit(first) => {
            let audit = state.audits.len() as AuditId + 1;
            let certified =
                state.audits.iter().filter(|audit| audit.end == Some(AuditEnd::Certified)).count();
            Some(Step::StartAudit(StartAudit {
                audit,
                tip: *keeps.get((first as usize).checked_sub(1)?)?,
                against: state.certified?,
                keeps: first,
                level: online::level(audit, certified as u32, &policy),
            }))
        }
    }
}

fn step_of_audit(state: &State, audit: &Audit, rules: Rules) -> Step {
    let (policy, direction) = (policy(state), state.direction());
    let noise = noise_before(state, audit.first_measure);
    let pairs = audit_pairs(state, audit);
    let differences: Vec<f64> =
        pairs.iter().map(|&(tip, champion)| gate::advantage(tip, champion, direction)).collect();
    let close = |end: AuditEnd, holdout: Option<f64>, reason: String| {
        let e_value = audit::e_value(&differences, noise).unwrap_or(1.0).min(f64::MAX);
        let effect = audit_effect(&differences, noise, audit.level);
        Step::EndAudit(EndAudit { audit: audit.id, end, e_value, effect, holdout, reason })
    };
    let seed_number = pairs.len() as u32;
    let spoilt = audit_runs(state, audit).filter_map(Run::invalid);
    let spoilt: Vec<&Invalid> = spoilt.filter(|invalid| invalid.reason != Reason::Machine).collect();
    if let Some(invalid) = spoilt.first() {
        let reason = format!("an arm gave no score: {invalid}");
        return close(AuditEnd::Open, None, reason);
    }
    let (end, words) = match audit::judge(&differences, noise, audit.level, &policy) {
        None => {
            // Interleaved: the arm that goes first alternates (ABBA), as in confirmation.
            let seed = seed_of(state, audit.id, Purpose::Audit, seed_number);
            let order =
                if seed_number % 2 == 0 { [audit.tip, audit.against] } else { [audit.against, audit.tip] };
            let done = |arm: TrialId| audit_scores(state, audit, arm).any(|(used, _)| used == seed);
            let arm = if done(order[0]) { order[1] } else { order[0] };
            return measure_for_audit(state, audit, arm, Purpose::Audit, seed)
                .unwrap_or_else(|why| close(AuditEnd::Open, None, why));
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
            return measure_for_audit(state, audit, *arm, Purpose::Holdout, seed)
                .unwrap_or_else(|why| close(AuditEnd::Open, None, why));
        }
    }
    let Some(score) = asked(audit.tip) else { return close(end, None, reason) };
    let shown = state.holdout.or_else(|| asked(audit.against));
    let Rung { shown, contradicts, .. } = ladder::climb(score, shown, noise, direction);
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

fn audit_scores<'a>(state: &'a State, audit: &Audit, arm: TrialId) -> impl Iterator<Item = (u64, f64)> {
    let own = audit_runs(state, audit).filter(move |run| run.measure.arm == arm);
    own.filter_map(|run| Some((run.measure.seed, run.score()?.value)))
}

/// Complete pairs `(tip, champion)` of an audit, matched by seed.
pub fn audit_pairs(state: &State, audit: &Audit) -> Vec<(f64, f64)> {
    let other = |seed: u64| audit_scores(state, audit, audit.against).find(|(used, _)| *used == seed);
    let own = audit_scores(state, audit, audit.tip);
    own.filter_map(|(seed, score)| Some((score, other(seed)?.1))).collect()
}

fn audit_effect(differences: &[f64], noise: Noise, level: f64) -> Option<Effect> {
    let gain = sprag_measure::stats::mean(differences)?;
    let (low, high) = audit::interval(differences, noise, level)?;
    Some(Effect { gain, low, high, runs: differences.len() as u32, sigma: noise.sigma()? })
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
    if let Some(reason) = failing_incumbent(trial, incumbent) {
        return decide_invalid(trial.id, Reason::Evaluator, reason);
    }
    let screening = trial.scores(trial.id, Purpose::Screen).next().map(|(_, score)| score.value);
    let Some(screening) = screening else {
        if policy.preset != Preset::Naive && executions_since(state, incumbent) >= policy.anchor_every {
            let seed = seed_of(state, trial.id, Purpose::Anchor, 0);
            return measure(state, trial, incumbent, Purpose::Anchor, seed);
        }
        let seed = seed_of(state, trial.id, Purpose::Screen, 0);
        return measure(state, trial, trial.id, Purpose::Screen, seed);
    };
    if policy.preset == Preset::Naive {
        let best = best_kept(state, direction).unwrap_or(screening);
        return decide(trial, tentative::naive(screening, best, noise, direction, &policy));
    }
    let of = |arm: TrialId| trial.scores(arm, Purpose::Confirm).map(|(_, score)| score.value);
    let (repeats, anchors): (Vec<f64>, Vec<f64>) = (of(trial.id).collect(), of(incumbent).collect());
    // An anchor shares its seed with the repeat that follows it, and nothing is looked at between the two.
    let seed = seed_of(state, trial.id, Purpose::Confirm, repeats.len() as u32);
    if trial.scores(incumbent, Purpose::Confirm).any(|(used, _)| used == seed) {
        return measure(state, trial, trial.id, Purpose::Confirm, seed);
    }
    let looked = level(state, incumbent, Some(trial.id)).and_then(|incumbent| {
        let evidence = Evidence { incumbent, noise, screening, repeats: &repeats, anchors: &anchors };
        tentative::look(&evidence, direction, &policy)
    });
    match looked {
        None => decide_invalid(trial.id, Reason::Evaluator, "the noise floor is unknown".into()),
        Some(Look::More(_)) => {
            let due = executions_since(state, incumbent) >= policy.anchor_every;
            let arm = if due { incumbent } else { trial.id };
            measure(state, trial, arm, Purpose::Confirm, seed)
        }
        Some(look) => decide(trial, look),
    }
}

/// The verdict that a look stands for.
fn decide(trial: &Trial, look: Look) -> Step {
    let (verdict, reason) = match look {
        Look::Keep(effect) if effect.runs == 0 => {
            (Verdict::Win(effect), "one run better than the best that was kept".to_owned())
        }
        Look::Keep(effect) => {
            let reason = format!("all its {} runs together are better, beyond the noise", effect.runs + 1);
            (Verdict::Win(effect), reason)
        }
        Look::Drop(effect) | Look::More(effect) => {
            let verdict = gate::undecided(effect);
            let reason = match (&verdict, effect.runs) {
                (Verdict::Loss(_), 0) => {
                    "worse than the incumbent in the screening run, beyond the noise".into()
                }
                (Verdict::Loss(_), _) => "its repeats turn the screening run's advantage into a loss".into(),
                (_, 0) => "the screening run shows no advantage worth repeating".into(),
                (_, runs) => format!("after {runs} more runs it is not shown to be better"),
            };
            (verdict, reason)
        }
    };
    Step::Decide(trial.id, verdict, reason)
}

/// The best first run of code that was kept, which is what a loop without statistics compares with.
fn best_kept(state: &State, direction: Direction) -> Option<f64> {
    let kept = state.trials.iter().filter(|trial| trial.kept);
    let first = kept.filter_map(|trial| trial.runs.iter().find_map(|run| run.score()));
    first.map(|score| score.value).reduce(|best, one| match direction {
        Direction::Lower => best.min(one),
        Direction::Higher => best.max(one),
    })
}

/// Full executions of other code since the incumbent was executed last.
fn executions_since(state: &State, incumbent: TrialId) -> u32 {
    let scored = || state.runs().filter(|run| run.score().is_some());
    let last = scored().filter(|run| run.measure.arm == incumbent).map(|run| run.measure.measure).max();
    scored().filter(|run| Some(run.measure.measure) > last).count() as u32
}

/// Why a candidate cannot be judged: the incumbent, which is known to work, failed twice beside it.
fn failing_incumbent(trial: &Trial, incumbent: TrialId) -> Option<String> {
    let of = trial.runs.iter().filter(|run| run.measure.arm == incumbent).filter_map(Run::invalid);
    let blamed: Vec<&Invalid> = of.filter(|invalid| invalid.reason != Reason::Machine).collect();
    blamed.get(1).map(|invalid| format!("the incumbent failed twice when executed again: {invalid}"))
}

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
pub fn detectable(state: &State, power: f64) -> Option<f64> {
    let stands = level(state, state.incumbent?, None)?;
    gate::detectable(noise(state), stands.variance, &policy(state), power)
}

/// Scores of a kept arm that did not help to select it: repeats of the baseline, its turns as incumbent, audits.
/// As long as there are fewer than two, its own repeats count too; its screening run never does.
pub fn unbiased_scores(state: &State, arm: TrialId) -> Vec<f64> {
    let selected = |run: &Run| {
        run.measure.trial == arm && matches!(run.measure.purpose, Purpose::Screen | Purpose::Confirm)
    };
    let later = scores_where(state, arm, |run| !selected(run));
    if later.len() >= 2 {
        return later;
    }
    scores_where(state, arm, |run| run.measure.purpose != Purpose::Screen)
}

/// The noise of one run, pooled over the arms that are or were incumbents. Runs of a trial that is still open
/// are left out: the gate counts their scatter itself.
pub fn noise(state: &State) -> Noise {
    noise_before(state, MeasureId::MAX)
}

/// The same as it was known before a measurement.
fn noise_before(state: &State, before: MeasureId) -> Noise {
    let decided = |trial: TrialId| state.trial(trial).is_some_and(|trial| trial.verdict.is_some());
    let counts = |run: &Run| {
        let measure = &run.measure;
        decided(measure.trial) && measure.purpose != Purpose::Screen && measure.measure < before
    };
    let kept = state.trials.iter().filter(|trial| trial.kept || trial.failed_audit.is_some());
    let arms: Vec<Vec<f64>> = kept.map(|trial| scores_where(state, trial.id, counts)).collect();
    Noise::pooled(arms.iter().map(Vec::as_slice))
}

/// Scores of an arm in the order in which they were made; those that a person asked for decide nothing.
fn scores_where(state: &State, arm: TrialId, which: impl Fn(&Run) -> bool) -> Vec<f64> {
    let own = state.runs().filter(|run| run.measure.arm == arm && run.measure.purpose != Purpose::Check);
    let mut runs: Vec<&Run> = own.filter(|run| which(run)).collect();
    runs.sort_by_key(|run| run.measure.measure);
    runs.into_iter().filter_map(|run| Some(run.score()?.value)).collect()
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
    let same = trial.runs.iter().filter(|run| run.measure.arm == arm && run.measure.seed == seed);
    let disturbed: Vec<&Invalid> =
        same.filter_map(Run::invalid).filter(|invalid| invalid.reason == Reason::Machine).collect();
    if disturbed.len() >= MAX_DISTURBED {
        let last = disturbed.last().map_or("", |invalid| invalid.detail.as_str());
        let detail = format!("{} executions in a row were disturbed: {last}", disturbed.len());
        return decide_invalid(trial.id, Reason::Machine, detail);
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
        Purpose::Anchor => 6,
        Purpose::Audit => 7,
        Purpose::Holdout => 8,
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
