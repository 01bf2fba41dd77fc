//! The next step of a run, as a pure function of its state.
//!
//! No process, clock or file: `runner` carries steps out and records what came of them. Asking twice without
//! recording gives the same step, which is what makes a run resumable after a kill at any moment.

mod audits;
mod disturbance;
mod evidence;
mod guards;
mod heat;
mod second;

use crate::gate;
use crate::gate::tentative::{self, Evidence, Look};
use crate::record::{
    AuditEnd, AuditId, Budget, Direction, Effect, Invalid, Measure, MeasureId, Outcome, Policy, Preset,
    Purpose, Reason, TrialId, Verdict,
};
use crate::state::{Pending, Run, State, Trial};
use audits::{step_of_audit, step_of_chain, to_try_again};
use second::step_of_second;

pub use audits::audit_pairs;
pub use disturbance::disturbance;
pub use evidence::{detectable, level, noise, unbiased_scores};
pub use guards::mean_facts;
pub use heat::first_rung;
pub use second::{SECOND_PAIRS, Second, second, second_arms, second_budget};

/// Repairs a proposer may try after a failed build.
pub const MAX_REPAIRS: u32 = 2;

/// Rejected proposals in a row, since the last resume, after which a run ends: the proposer goes in circles.
pub const MAX_REJECTIONS: u32 = 8;

/// Executions of one arm under one seed that have no end, after which it is not executed again: what takes
/// the machine down would do so at every resume.
pub const MAX_UNFINISHED: usize = 2;

/// Executions under one seed that the machine spoilt, after which they are given up.
pub const MAX_DISTURBED: usize = 4;

/// How the reason of a trial begins that cannot be judged because of its incumbent.
const FAILING_INCUMBENT: &str = "the incumbent failed twice when executed again";

/// Repeats of the baseline below which no noise is worth the name, however little time there is.
pub const LEAST_REPEATS: u32 = 5;

/// What the session must know besides the ledger.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// The task has a build command.
    pub builds: bool,
    /// The task's evaluator can run a smoke test.
    pub smokes: bool,
    /// The task's evaluator can score on the sealed holdout.
    pub holdout: bool,
    /// The task has guard commands.
    pub guards: bool,
    /// The proposer of the open trial can mend a failed build.
    pub repairs: bool,
    /// Proposers can go on for ever without anything new. One whose proposals are counted cannot.
    pub circles: bool,
    /// Most trials, the baseline not counted.
    pub max_trials: Option<u32>,
    /// Repeats of the baseline that the run's time has room for; never fewer than [`LEAST_REPEATS`] are made.
    pub affordable_repeats: Option<u32>,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Bring a begun branch move to its end.
    FinishMove(Pending),
    /// Begin a trial: 0 is the baseline, the others are asked of a proposer.
    StartTrial(TrialId),
    /// Begin a trial that joins a heat: its number, and the number of the heat's first trial, perhaps itself.
    Join(TrialId, TrialId),
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
    /// It says nothing of the tip: the machine, or the champion's code, gave it no chance.
    pub gave_up: bool,
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
    if let Some(winner) = state.winner() {
        return Some(Step::Advance(winner.id));
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
    if let Some(step) = heat::step(state, rules) {
        return step;
    }
    let Some(last) = state.trials.last() else { return Step::StartTrial(0) };
    if let Some(winner) = state.winner() {
        return Step::Advance(winner.id);
    }
    if state.incumbent.is_none() {
        let why = last.reason.clone().unwrap_or_default();
        return Step::Finish(format!("the baseline has no score: {why}"));
    }
    if let Some(step) = step_of_second(state) {
        return step;
    }
    if let Some(step) = step_of_chain(state, false) {
        return step;
    }
    if let Some(reason) = end_of_run(state, last, rules) {
        // What was kept since the last audit is audited before the run ends.
        let keeps = state.uncertified().len() as u32;
        let audits = policy(state).audit_every > 0 && keeps > state.chain.open_at;
        let audit = if audits { step_of_chain(state, true) } else { None };
        return audit.unwrap_or(Step::Finish(reason));
    }
    match to_try_again(state) {
        Some(earlier) => Step::TryAgain(last.id + 1, earlier),
        None if policy(state).race > 1 => {
            let next = last.id + 1;
            Step::Join(next, heat::joinable(state).unwrap_or(next))
        }
        None => Step::StartTrial(last.id + 1),
    }
}

/// Why no trial is begun any more.
fn end_of_run(state: &State, last: &Trial, rules: Rules) -> Option<String> {
    if let Some(reason) = &state.proposer_stopped {
        return Some(reason.clone());
    }
    // What an audit has tried again was not asked of a proposer.
    let since = state.trials.iter().skip(state.trials_at_resume).filter(|trial| trial.again.is_none());
    let rejected = since.rev().take_while(|trial| trial.id > 0 && trial.proposed.is_none()).count();
    if rules.circles && rejected as u32 >= MAX_REJECTIONS {
        return Some(format!("the last {rejected} proposals were rejected before they ran"));
    }
    let failing = |trial: &&Trial| matches!(&trial.verdict, Some(Verdict::Invalid(invalid)) if invalid.detail.starts_with(FAILING_INCUMBENT));
    let since = state.trials.iter().skip(state.trials_at_resume).rev();
    if since.take_while(failing).count() >= 2 {
        return Some("the incumbent gives no score any more; `sprag undo` takes it back".to_owned());
    }
    rules.max_trials.is_some_and(|most| last.id >= most).then(|| format!("{} trials were made", last.id))
}

/// What is due before a trial may be executed under a budget: proposal, build, smoke test. `None` when all is done.
fn step_of_preparation(state: &State, trial: &Trial, rules: Rules) -> Option<Step> {
    let Some(proposed) = &trial.proposed else { return Some(Step::Propose(trial.id)) };
    if rules.builds {
        match trial.builds.get(proposed.attempt as usize) {
            None => return Some(Step::Build(trial.id)),
            Some(build) => {
                if let Some(invalid) = build.invalid() {
                    if proposed.attempt < MAX_REPAIRS && rules.repairs && trial.id > 0 {
                        return Some(Step::Repair(trial.id));
                    }
                    return Some(decide_invalid(trial.id, invalid.reason, invalid.detail));
                }
            }
        }
    }
    if let Some(invalid) = trial.invalid() {
        return Some(Step::Decide(trial.id, invalid.verdict(), invalid.to_string()));
    }
    let passed = |run: &Run| run.measure.purpose == Purpose::Smoke && run.outcome == Some(Outcome::Passed);
    if rules.smokes && !trial.runs.iter().any(passed) {
        let seed = seed_of(state, trial.id, Purpose::Smoke, 0);
        return Some(measure(state, trial, trial.id, Purpose::Smoke, seed));
    }
    // A baseline that does not pass is found out before its repeats are paid for.
    if trial.id == 0 { step_of_guards(state, trial, rules) } else { None }
}

/// The guard commands, once a trial.
fn step_of_guards(state: &State, trial: &Trial, rules: Rules) -> Option<Step> {
    let passed = |run: &Run| run.measure.purpose == Purpose::Guard && run.outcome == Some(Outcome::Passed);
    if !rules.guards || trial.runs.iter().any(passed) {
        return None;
    }
    let seed = seed_of(state, trial.id, Purpose::Guard, 0);
    Some(measure(state, trial, trial.id, Purpose::Guard, seed))
}

/// What is due of a trial that is ready to be executed and is alone.
fn step_of_judging(state: &State, trial: &Trial, rules: Rules) -> Step {
    if let Some(broken) = guards::broken_by_a_run(state, trial) {
        return decide_invalid(trial.id, broken.reason, broken.detail);
    }
    if trial.id == 0 { step_of_baseline(state, trial, rules) } else { step_of_candidate(state, trial, rules) }
}

fn step_of_baseline(state: &State, trial: &Trial, rules: Rules) -> Step {
    let policy = policy(state);
    let scores: Vec<f64> = trial.scores(trial.id, Purpose::Baseline).map(|(_, score)| score.value).collect();
    // Fewer repeats make wider quantiles; they are not made up for later.
    let affordable = rules.affordable_repeats.map_or(u32::MAX, |repeats| repeats.max(LEAST_REPEATS));
    let repeats = policy.baseline_repeats.min(affordable).max(2);
    if (scores.len() as u32) < repeats {
        let seed = first_seed(state, trial.id, Purpose::Baseline, |seed| {
            has(trial, trial.id, Purpose::Baseline, seed)
        });
        return measure(state, trial, trial.id, Purpose::Baseline, seed);
    }
    match gate::baseline(&scores) {
        Some(verdict) => {
            Step::Decide(trial.id, verdict, format!("the noise floor, from {} repeats", scores.len()))
        }
        None => decide_invalid(trial.id, Reason::Evaluator, "the repeats have no spread to compute".into()),
    }
}

fn step_of_candidate(state: &State, trial: &Trial, rules: Rules) -> Step {
    let (policy, direction, noise) = (policy(state), state.direction(), noise(state));
    let Some(incumbent) = state.incumbent else {
        return decide_invalid(trial.id, Reason::Evaluator, "there is no incumbent to compare with".into());
    };
    if let Some(reason) = failing_incumbent(trial, incumbent) {
        return decide_invalid(trial.id, Reason::Evaluator, reason);
    }
    if let Some(detail) = trial.stopped() {
        let verdict = Verdict::Stopped { detail: detail.to_owned() };
        return Step::Decide(trial.id, verdict, format!("stopped early: {detail}"));
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
        let look = tentative::naive(screening, best, noise, direction, &policy);
        return step_of_look(state, trial, incumbent, look, rules).unwrap_or_else(|| decide(trial, look));
    }
    let of = |arm: TrialId| trial.scores(arm, Purpose::Confirm).map(|(_, score)| score.value);
    let (repeats, anchors): (Vec<f64>, Vec<f64>) = (of(trial.id).collect(), of(incumbent).collect());
    // An anchor shares its seed with the repeat that follows it, and nothing is looked at between the two.
    let seed =
        first_seed(state, trial.id, Purpose::Confirm, |seed| has(trial, trial.id, Purpose::Confirm, seed));
    if has(trial, incumbent, Purpose::Confirm, seed) {
        return measure(state, trial, trial.id, Purpose::Confirm, seed);
    }
    let looked = level(state, incumbent, Some(trial.id)).and_then(|incumbent| {
        let evidence = Evidence { incumbent, noise, screening, repeats: &repeats, anchors: &anchors };
        tentative::look(&evidence, direction, &policy)
    });
    match looked {
        None => decide_invalid(trial.id, Reason::Evaluator, "the noise floor is unknown".into()),
        Some(look @ Look::More(_)) => {
            if let Some(step) = step_of_look(state, trial, incumbent, look, rules) {
                return step;
            }
            let due = executions_since(state, incumbent) >= policy.anchor_every;
            let arm = if due { incumbent } else { trial.id };
            measure(state, trial, arm, Purpose::Confirm, seed)
        }
        Some(look) => {
            step_of_look(state, trial, incumbent, look, rules).unwrap_or_else(|| decide(trial, look))
        }
    }
}

/// What the guards have to say before repeats are paid for, or before it is kept.
fn step_of_look(state: &State, trial: &Trial, incumbent: TrialId, look: Look, rules: Rules) -> Option<Step> {
    if matches!(look, Look::Drop(_)) {
        return None;
    }
    if let Some(step) = step_of_guards(state, trial, rules) {
        return Some(step);
    }
    let kept = matches!(look, Look::Keep(_));
    let broken = guards::broken_in_the_mean(state, trial.id, incumbent).filter(|_| kept)?;
    Some(decide_invalid(trial.id, broken.reason, broken.detail))
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

/// True when that arm has a score of that purpose under that seed, on behalf of this trial.
fn has(trial: &Trial, arm: TrialId, purpose: Purpose, seed: u64) -> bool {
    trial.scores(arm, purpose).any(|(used, _)| used == seed)
}

/// The first seed of a list that is not used up. Scores do not only come, they may be disqualified later: the number
/// of those that are there says nothing of which are missing.
fn first_seed(state: &State, trial: TrialId, purpose: Purpose, used: impl Fn(u64) -> bool) -> u64 {
    let seeds = (0..u32::MAX).map(|number| seed_of(state, trial, purpose, number));
    seeds.into_iter().find(|seed| !used(*seed)).unwrap_or_default()
}

/// The best first run of code that was kept, which is what a loop without statistics compares with.
pub fn best_kept(state: &State, direction: Direction) -> Option<f64> {
    let kept = state.trials.iter().filter(|trial| trial.kept);
    let own = |run: &&Run, trial: &Trial| run.measure.arm == trial.id && run.measure.trial == trial.id;
    let first = kept.filter_map(|trial| trial.runs.iter().filter(|run| own(run, trial)).find_map(Run::score));
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
    blamed.get(1).map(|invalid| format!("{FAILING_INCUMBENT}: {invalid}"))
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
    match execution(state, trial, arm, purpose, seed) {
        Ok(measure) => Step::Measure(measure),
        Err(invalid) => decide_invalid(trial.id, invalid.reason, invalid.detail),
    }
}

/// An execution under the task's own budget; `Err` says why it is not made again.
fn execution(
    state: &State,
    trial: &Trial,
    arm: TrialId,
    purpose: Purpose,
    seed: u64,
) -> Result<Measure, Invalid> {
    let same = trial.runs.iter().filter(|run| run.measure.arm == arm && run.measure.seed == seed);
    let unfinished = same.filter(|run| run.outcome.is_none()).count();
    if unfinished >= MAX_UNFINISHED {
        let detail = format!(
            "sprag was killed {unfinished} times while it executed trial {arm} under seed {seed}: \
             perhaps it takes the machine down"
        );
        return Err(Invalid::new(Reason::Crash, detail));
    }
    let same = trial.runs.iter().filter(|run| run.measure.arm == arm && run.measure.seed == seed);
    let disturbed: Vec<&Invalid> =
        same.filter_map(Run::invalid).filter(|invalid| invalid.reason == Reason::Machine).collect();
    if disturbed.len() >= MAX_DISTURBED {
        let last = disturbed.last().map_or("", |invalid| invalid.detail.as_str());
        let detail = format!("{} executions in a row were disturbed: {last}", disturbed.len());
        return Err(Invalid::new(Reason::Machine, detail));
    }
    let measure: MeasureId = state.next_measure;
    Ok(Measure { measure, trial: trial.id, arm, seed, purpose, budget: None })
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
        Purpose::Second => 9,
        Purpose::Race => 10,
        Purpose::Guard => 11,
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
            Budget::Steps(steps) => write!(formatter, "{steps}steps"),
            Budget::Evaluations(evaluations) => write!(formatter, "{evaluations}evaluations"),
        }
    }
}

#[cfg(test)]
mod tests;
