//! One trial's proposer is asked, and once more when its change is nearly that of an earlier trial.

use std::path::Path;

use super::Steps;
use crate::proposer::{self, Brief, Declined, Proposal, Proposer};
use crate::record::{CommitId, Invalid, Near, Spending, TrialId};
use crate::repo::remove_all;
use crate::runner::EngineError;

/// Where and what for a proposer is asked.
pub(super) struct Asking<'a> {
    pub(super) trial: TrialId,
    /// Commit that the proposal is compared with.
    pub(super) parent: &'a str,
    /// Commit that the worktree is a checkout of.
    pub(super) from: &'a str,
    pub(super) worktree: &'a Path,
    pub(super) brief_dir: &'a Path,
    /// The build that is to be mended.
    pub(super) broken: Option<&'a Invalid>,
}

/// What came of it.
pub(super) struct Answered {
    pub(super) result: Result<Proposal, Declined>,
    /// The earlier trial that the proposal nearly repeats.
    pub(super) near: Option<Near>,
    /// What each asking cost, where it costs anything, and how it ended.
    pub(super) askings: Vec<(Option<Spending>, String)>,
}

impl Steps<'_> {
    pub(super) fn ask(
        &self,
        proposer: &mut dyn Proposer,
        asking: &Asking<'_>,
    ) -> Result<Answered, EngineError> {
        let steering = std::fs::read_to_string(self.layout.steering(&self.run)).ok();
        let (hypotheses, inbox) = (self.layout.hypotheses(), self.layout.inbox(&self.run));
        let brief = Brief {
            task: &self.setup.task,
            state: &self.state,
            trial: asking.trial,
            seed: self.state.run.as_ref().map_or(self.setup.seed, |run| run.seed),
            from: asking.from,
            worktree: asking.worktree,
            brief_dir: asking.brief_dir,
            hypotheses: &hypotheses,
            note: None,
            steering: steering.as_deref().filter(|text| !text.trim().is_empty()),
            repair: asking.broken.map(|invalid| invalid.detail.as_str()),
            machine: &self.setup.machine,
            repo: &self.repo,
            inbox: &inbox,
            stop: &self.setup.cancel,
            cancel: &self.setup.kill,
        };
        let result = proposer.propose(&brief);
        let mut askings = vec![(proposer.spent(), ending(&result))];
        let Ok(first) = result else { return Ok(Answered { result, near: None, askings }) };
        let (commit, near) = self.near(asking)?;
        let again = near.filter(|_| asking.broken.is_none() && proposer.can_reconsider());
        let Some(shown) = again else { return Ok(Answered { result: Ok(first), near, askings }) };
        let answer = asking.brief_dir.join(proposer::ANSWER);
        remove_all(&answer).map_err(EngineError::state("remove", &answer))?;
        let note = self.note_on(&shown);
        let second = proposer.propose(&Brief { from: &commit, note: Some(&note), ..brief });
        askings.push((proposer.spent(), ending(&second)));
        match second {
            Ok(second) => {
                let (_, near) = self.near(asking)?;
                Ok(Answered { result: Ok(second.or_else(first)), near, askings })
            }
            // Nothing is lost: it is asked for once more when the run goes on.
            Err(Declined::Stopped) => Ok(Answered { result: Err(Declined::Stopped), near: None, askings }),
            // Whoever has nothing more to say stands by what it proposed first.
            Err(_) => {
                self.checkout(asking.worktree, &commit)?;
                Ok(Answered { result: Ok(first), near, askings })
            }
        }
    }

    /// What the worktree holds now, as a commit without a name, and the earlier trial whose change it nearly repeats.
    fn near(&self, asking: &Asking<'_>) -> Result<(CommitId, Option<Near>), EngineError> {
        let commit = self.repo.commit_all(asking.worktree, "look", asking.parent)?;
        let near = self.nearest_change(asking.trial, asking.parent, &commit)?;
        Ok((commit, near))
    }
}

/// How an asking ended, in the ledger's words.
fn ending(answer: &Result<Proposal, Declined>) -> String {
    match answer {
        Ok(_) => "proposed".to_owned(),
        Err(Declined::Exhausted(reason) | Declined::Failed(reason)) => reason.clone(),
        Err(Declined::Stopped) => "stopped".to_owned(),
    }
}
