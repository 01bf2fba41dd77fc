//! Scores the user's working tree against the incumbent. Commits and records nothing.

use std::path::Path;

use serde::Serialize;
use sprag_measure::{clock, stats};

use super::lock::Lock;
use super::{EngineError, Layout, Setup, comparable, enough_space, load, open_repo};
use crate::event::{Event, Observer};
use crate::gate::tentative::{self, Evidence, Look};
use crate::lane::{Arm, BuildEnd, Job, JobPhase, Lane, MeasureEnd, Sign, Watch};
use crate::record::{
    Effect, Invalid, Measure, Outcome, Preset, Purpose, Reason, RunStarted, Stopped, TrialId,
};
use crate::session::{best_kept, level, mean_facts, noise, split_mix, unbiased_scores};
use crate::state::State;

/// What a check found.
#[derive(Clone, Debug, Serialize)]
pub struct CheckReport {
    /// Name of the metric.
    pub metric: String,
    /// Mutable files that differ from the commit that the run began with; without a run, from the one checked out.
    pub changed: Vec<String>,
    /// Seed of the measurement.
    pub seed: u64,
    /// What came of it.
    pub outcome: Outcome,
    /// The incumbent, if a run has one.
    pub incumbent: Option<Incumbent>,
    /// Gain over the incumbent, from this one run; `None` without an incumbent or a score.
    pub effect: Option<Effect>,
    /// True when the loop would go on to confirm it with pairs.
    pub promising: bool,
}

/// What the check is compared with.
#[derive(Clone, Debug, Serialize)]
pub struct Incumbent {
    /// Its trial.
    pub trial: TrialId,
    /// Mean of its scores that were not used to select it.
    pub mean: f64,
    /// Noise of one run.
    pub sigma: f64,
    /// Scores that the mean rests on.
    pub n: usize,
}

/// Builds, smoke-tests and scores the working tree once.
///
/// # Errors
/// Another program works on the task, files outside the mutable ones differ from the commit, or the task is
/// not what it was when the run began.
pub fn check(setup: Setup, observer: &mut dyn Observer) -> Result<CheckReport, EngineError> {
    let task = &setup.task;
    let layout = Layout::of(&task.dir);
    let _lock = Lock::take(&layout, &format!("with `sprag check` since {}", clock::now_rfc3339()))?;
    let repo = open_repo(&setup)?;
    repo.exclude(".sprag/")?;
    repo.remove_leftovers()?;
    let state = match load(&task.dir, setup.run.as_deref()) {
        Ok((state, _)) => state,
        Err(EngineError::NoRun { .. }) if setup.run.is_none() => State::default(),
        Err(error) => return Err(error),
    };
    let [worktree, pristine] = ["check", "check-pristine"].map(|name| layout.worktrees().join(name));
    let arm = Arm { worktree, out: layout.outs().join("check"), pristine };
    clear(&repo, &arm)?;
    enough_space(&layout)?;
    // Against what the run began with: its scores hold for those fixed files alone.
    let base = match &state.run {
        Some(run) => run.base.clone(),
        None => repo.head()?,
    };
    repo.worktree_add(&arm.worktree, &base)?;
    if task.needs_pristine() {
        repo.worktree_add(&arm.pristine, &base)?;
    }
    let changed = compares(&setup, &state, &arm.worktree).and_then(|()| copy_mutable(&setup, &arm.worktree));
    let scored = changed.and_then(|changed| Ok((changed, score(&setup, &arm, &state, observer)?)));
    clear(&repo, &arm)?;
    let (changed, (seed, outcome)) = scored?;
    let incumbent = state.incumbent.and_then(|trial| {
        let scores = unbiased_scores(&state, trial);
        let (mean, sigma) = (stats::mean(&scores)?, noise(&state).sigma()?);
        Some(Incumbent { trial, mean, sigma, n: scores.len() })
    });
    let screened = match (&outcome, &incumbent, &state.run) {
        (Outcome::Scored(score), Some(incumbent), Some(run)) => {
            look(&state, run, incumbent.trial, score.value)
        }
        _ => None,
    };
    let (effect, promising) = match screened {
        Some(Look::More(effect) | Look::Keep(effect)) => (Some(effect), true),
        Some(Look::Drop(effect)) => (Some(effect), false),
        None => (None, false),
    };
    let metric = task.metric.name.clone();
    Ok(CheckReport { metric, changed, seed, outcome, incumbent, effect, promising })
}

/// What the run's gate says of one run of a candidate.
fn look(state: &State, run: &RunStarted, incumbent: TrialId, screening: f64) -> Option<Look> {
    let noise = noise(state);
    if run.policy.preset == Preset::Naive {
        let best = best_kept(state, run.direction)?;
        return Some(tentative::naive(screening, best, noise, run.direction, &run.policy));
    }
    let incumbent = level(state, incumbent, None)?;
    let evidence = Evidence { incumbent, noise, screening, repeats: &[], anchors: &[] };
    tentative::look(&evidence, run.direction, &run.policy)
}

/// A score is told against those of the run, so it must be made as they were.
fn compares(setup: &Setup, state: &State, base: &Path) -> Result<(), EngineError> {
    let Some(run) = &state.run else { return Ok(()) };
    comparable("compare with", run, setup, &setup.task.fixed_sha256(base)?)
}

/// Copies the mutable files of the user's checkout; other differences are refused by name.
fn copy_mutable(setup: &Setup, worktree: &Path) -> Result<Vec<String>, EngineError> {
    let task = &setup.task;
    let list =
        |tree: &Path| task.files.mutable_in(tree).map_err(EngineError::state("list the files of", tree));
    let (ours, theirs) = (list(&task.dir)?, list(worktree)?);
    let mut changed = Vec::new();
    for path in &ours {
        let (from, to) = (task.dir.join(path), worktree.join(path));
        let bytes = std::fs::read(&from).map_err(EngineError::state("read", &from))?;
        if std::fs::read(&to).is_ok_and(|old| old == bytes) {
            continue;
        }
        if let Some(parent) = to.parent() {
            std::fs::create_dir_all(parent).map_err(EngineError::state("create", parent))?;
        }
        std::fs::write(&to, bytes).map_err(EngineError::state("write", &to))?;
        changed.push(path.clone());
    }
    for path in theirs.iter().filter(|path| !ours.contains(path)) {
        let gone = worktree.join(path);
        std::fs::remove_file(&gone).map_err(EngineError::state("remove", &gone))?;
        changed.push(path.clone());
    }
    if task.fixed_sha256(&task.dir)? != task.fixed_sha256(worktree)? {
        let what = "check the working tree: a fixed file differs from the commit that the run began with (without a run, from the last commit); take that change back, or begin a new run with it";
        return Err(EngineError::Refused(what.into()));
    }
    Ok(changed)
}

fn score(
    setup: &Setup,
    arm: &Arm,
    state: &State,
    observer: &mut dyn Observer,
) -> Result<(u64, Outcome), EngineError> {
    let task = &setup.task;
    let mut lane = super::local_lane(setup);
    let trial = state.trials.len() as TrialId;
    let stamp =
        clock::now_rfc3339().bytes().fold(setup.seed, |mixed, byte| split_mix(mixed, u64::from(byte)));
    let seed = stamp >> 11;
    let measure = Measure {
        measure: state.next_measure,
        trial,
        arm: trial,
        seed,
        purpose: Purpose::Check,
        budget: None,
    };
    let mut watch = |sign: Sign| {
        let measure = Some(measure.clone());
        observer.observe(&match sign {
            Sign::Phase(phase) => Event::Phase { trial, phase, measure, expected_seconds: None },
            Sign::Progress(progress) => Event::Progress(progress),
            Sign::Output(text) => Event::Output { trial, text },
        });
    };
    match lane.build(arm, None, &mut watch)? {
        BuildEnd::Done => {}
        BuildEnd::Interrupted => return Ok((seed, Outcome::Interrupted)),
        BuildEnd::Failed(detail) => {
            return Ok((seed, Outcome::Invalid(Invalid::new(Reason::Build, detail))));
        }
        BuildEnd::TimedOut(detail) => {
            return Ok((seed, Outcome::Invalid(Invalid::new(Reason::BuildTimeout, detail))));
        }
    }
    let mut watch = |sign| {
        watch(sign);
        Watch::GoOn
    };
    let mut job = Job { seed, budget: task.budget, phase: JobPhase::Smoke, longest: None };
    if task.has_smoke() {
        let smoke = outcome(trial, lane.measure(arm, &job, &mut watch)?)?;
        if matches!(smoke, Outcome::Invalid(_) | Outcome::Interrupted | Outcome::Stopped(_)) {
            return Ok((seed, smoke));
        }
    }
    job.phase = JobPhase::Run;
    let scored = outcome(trial, lane.measure(arm, &job, &mut watch)?)?;
    let Outcome::Scored(score) = &scored else { return Ok((seed, scored)) };
    let incumbent = state.incumbent.map(|incumbent| mean_facts(state, incumbent));
    let mut broken =
        task.guard_rules.iter().filter_map(|rule| rule.violation(&score.facts, incumbent.as_ref()));
    if let Some(detail) = broken.next() {
        return Ok((seed, Outcome::Invalid(Invalid::new(Reason::Guard, detail))));
    }
    if task.has_guard_commands() {
        job.phase = JobPhase::Guard;
        let guarded = outcome(trial, lane.measure(arm, &job, &mut watch)?)?;
        if guarded != Outcome::Passed {
            return Ok((seed, guarded));
        }
    }
    Ok((seed, scored))
}

/// A person is there to ask again, so nothing is repeated here.
fn outcome(trial: TrialId, end: MeasureEnd) -> Result<Outcome, EngineError> {
    match end {
        MeasureEnd::Done(outcome) => Ok(outcome),
        MeasureEnd::Stopped { facts, curve } => {
            Ok(Outcome::Stopped(Stopped { facts, curve, detail: String::new() }))
        }
        MeasureEnd::NoAnswer(detail) => Err(EngineError::Evaluator { trial, detail }),
    }
}

fn clear(repo: &crate::repo::Repo, arm: &Arm) -> Result<(), EngineError> {
    for tree in [&arm.worktree, &arm.pristine].into_iter().filter(|tree| tree.exists()) {
        repo.worktree_remove(tree)?;
    }
    if arm.out.exists() {
        std::fs::remove_dir_all(&arm.out).map_err(EngineError::state("remove", &arm.out))?;
    }
    Ok(())
}
