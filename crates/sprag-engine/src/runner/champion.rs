//! What a person does with a run's result: take a decision back, or bring the champion home.

use super::steps::Steps;
use super::{EngineError, Setup};
use crate::event::Observer;
use crate::lane::{Arm, BuildEnd, Job, Lane, LaneError, MeasureEnd, Sign, Watch};
use crate::record::{AuditEnd, CommitId, TrialId};
use crate::repo::{Repo, RepoError};
use crate::session::unbiased_scores;
use crate::state::{Audit, State};

/// Takes back the last decision of a run: a kept trial leaves the branch, a discarded one may be proposed
/// again. Nothing is erased. Gives the trial and the state after it.
///
/// # Errors
/// There is nothing to take back, or another program works on the task.
pub fn undo(setup: Setup, observer: &mut dyn Observer) -> Result<(TrialId, State), EngineError> {
    let mut steps = open_existing(setup, observer)?;
    let trial = steps.undo()?;
    Ok((trial, steps.into_state()))
}

/// What [`merge`] did.
#[derive(Clone, Debug)]
pub struct Merged {
    /// The trial whose code it is.
    pub trial: TrialId,
    /// The commit on the user's branch.
    pub commit: CommitId,
    /// The branch.
    pub branch: String,
    /// The commit's message.
    pub message: String,
}

/// Brings the certified champion, or the `tentative` tip, to a branch of the user's (`None`: the one checked out)
/// as one commit, with the evidence in its message.
///
/// # Errors
/// Nothing was kept or certified, the branch cannot take the change, or the checkout is not clean.
pub fn merge(
    setup: Setup,
    branch: Option<&str>,
    tentative: bool,
    observer: &mut dyn Observer,
) -> Result<Merged, EngineError> {
    bring(&mut open_existing(setup, observer)?, branch, tentative)
}

pub(super) fn bring(
    steps: &mut Steps<'_>,
    branch: Option<&str>,
    tentative: bool,
) -> Result<Merged, EngineError> {
    let state = steps.state().clone();
    if state.incumbent.is_none_or(|trial| trial == 0) {
        return Err(EngineError::Refused(
            "merge the champion: no trial was kept, so there is nothing to merge".into(),
        ));
    }
    let chosen = if tentative { state.incumbent } else { state.certified };
    let Some(trial) = chosen.filter(|trial| *trial > 0) else {
        return Err(EngineError::Refused(
            "merge the champion: what was kept is tentative, no audit has certified it yet; `sprag certify` audits \
             it, and `--tentative` merges it as it is"
                .into(),
        ));
    };
    let branch = match branch {
        Some(branch) => branch.to_owned(),
        None => steps.repo().current_branch()?.ok_or_else(|| {
            EngineError::Refused(
                "merge the champion: no branch is checked out; name one with `--branch`".into(),
            )
        })?,
    };
    let code = state.trial(trial).and_then(|trial| trial.proposed.as_ref());
    let tip = code.map(|proposed| proposed.commit.clone()).unwrap_or_default();
    let base = merge_base(&state, steps.repo(), &branch)?;
    let message = evidence(&state, trial);
    // A merge that was cut off may have reached the branch: then only its record is missing.
    let cut_off = state.merging.as_ref() == Some(&(trial, branch.clone()));
    steps.merge_started(trial, branch.clone())?;
    let commit = match steps.repo().merge_into(&branch, &base, &tip, &message) {
        Err(RepoError::NothingToMerge { .. }) if cut_off => steps.repo().branch_tip(&branch)?,
        merged => merged?,
    };
    steps.merged(trial, commit.clone(), branch.clone())?;
    Ok(Merged { trial, commit, branch, message })
}

/// What the branch already holds of the run: the code that its last merge brought there, else the code that
/// the run began with. Measured from the beginning, a second win on the same line would look like a conflict.
fn merge_base(state: &State, repo: &Repo, branch: &str) -> Result<CommitId, RepoError> {
    let tip = repo.branch_tip(branch)?;
    for (trial, merged) in state.merges.iter().rev() {
        let code = state.trial(*trial).and_then(|trial| trial.proposed.as_ref());
        if let Some(code) = code
            && repo.is_ancestor(merged, &tip)?
        {
            return Ok(code.commit.clone());
        }
    }
    Ok(state.run.as_ref().map(|run| run.base.clone()).unwrap_or_default())
}

pub(super) fn open_existing(setup: Setup, observer: &mut dyn Observer) -> Result<Steps<'_>, EngineError> {
    let name = super::named_or_latest(&setup.task.dir, setup.run.as_deref())?;
    let setup = Setup { run: Some(name), new_run: false, ..setup };
    Steps::open_only(setup, Box::new(NoLane), Vec::new(), observer)
}

/// The kept trials that lead to `champion` and what they rest on, as a commit message.
pub fn evidence(state: &State, champion: TrialId) -> String {
    let Some(run) = &state.run else { return String::new() };
    let up_to = state.trials.iter().filter(|trial| trial.id > 0 && trial.id <= champion);
    let kept: Vec<_> = up_to.filter(|trial| trial.kept).collect();
    let mut text = match kept.as_slice() {
        [one] => format!("{}\n\n", one.title()),
        several => format!("Take {} improvements of {} found by sprag\n\n", several.len(), run.metric),
    };
    if let Some((mean, sd, n)) = state.baseline() {
        text += &format!("Baseline: {} {mean:.5}, sd {sd:.5} over n={n} seeds\n", run.metric);
    }
    for trial in &kept {
        let Some(effect) = trial.effect() else { continue };
        text += &format!(
            "Trial {}: {}: gain {:.5} [{:.5}, {:.5}], n={} after the first run\n",
            trial.id,
            trial.title(),
            effect.gain,
            effect.low,
            effect.high,
            effect.runs
        );
    }
    let scores = unbiased_scores(state, champion);
    if let Some(mean) = sprag_measure::stats::mean(&scores) {
        text += &format!(
            "Champion: {} {mean:.5} over n={} runs, its screening run left out\n",
            run.metric,
            scores.len()
        );
    }
    let mut audits = state.audits.iter().rev();
    match audits.find(|audit| audit.tip == champion && audit.end == Some(AuditEnd::Certified)) {
        Some(audit) => text += &audit_line(audit),
        None => text += "Not certified: no audit with fresh seeds has borne this out\n",
    }
    let machine = run.machine.get("cpu").map_or("unknown", String::as_str);
    text += &format!("Budget {} a run, run {}, seed {}, on {machine}\n", run.budget, run.run, run.seed);
    text
}

fn audit_line(audit: &Audit) -> String {
    let Some(effect) = audit.effect else { return String::new() };
    format!(
        "Certified by audit {}: gain {:.5} [{:.5}, {:.5}] over trial {} from {} pairs with fresh seeds, e-value {:.3e} at \
         level {:.3e}\n",
        audit.id,
        effect.gain,
        effect.low,
        effect.high,
        audit.against,
        effect.runs,
        audit.e_value.unwrap_or_default(),
        audit.level
    )
}

/// Audits what was kept since the certified champion, now, and bisects and undoes as the audits say. Gives the
/// state after it.
///
/// # Errors
/// There is nothing to audit, the run cannot be resumed here, or an arm cannot be built or executed any more.
pub fn certify(setup: Setup, observer: &mut dyn Observer) -> Result<State, EngineError> {
    let name = super::named_or_latest(&setup.task.dir, setup.run.as_deref())?;
    let setup = Setup { run: Some(name), new_run: false, ..setup };
    let lane = super::local_lane(&setup);
    certify_with(setup, Box::new(lane), observer)
}

pub(super) fn certify_with(
    setup: Setup,
    lane: Box<dyn Lane>,
    observer: &mut dyn Observer,
) -> Result<State, EngineError> {
    let mut steps = Steps::open_only(setup, lane, Vec::new(), observer)?;
    if steps.state().uncertified().is_empty() && steps.state().open_audit().is_none() {
        return Err(EngineError::Refused(
            "certify the tip: nothing was kept since the last certified champion".into(),
        ));
    }
    if let Some(open) = steps.state().open_trials().find(|trial| trial.heat.is_some()) {
        let detail =
            format!("trial {} is in a heat that is under way; `sprag run` brings it to its end", open.id);
        return Err(EngineError::Refused(format!("certify the tip: {detail}")));
    }
    steps.begin_or_resume()?;
    steps.certify()?;
    Ok(steps.into_state())
}

/// Undoing and merging execute nothing.
struct NoLane;

impl Lane for NoLane {
    fn build(
        &mut self,
        _: &Arm,
        _: Option<std::time::Duration>,
        _: &mut dyn FnMut(Sign),
    ) -> Result<BuildEnd, LaneError> {
        Err(LaneError::new("build", "this command executes nothing"))
    }

    fn measure(
        &mut self,
        _: &Arm,
        _: &Job,
        _: &mut dyn FnMut(Sign) -> Watch,
    ) -> Result<MeasureEnd, LaneError> {
        Err(LaneError::new("measure", "this command executes nothing"))
    }
}
