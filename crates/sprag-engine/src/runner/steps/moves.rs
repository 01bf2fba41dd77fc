//! Moving the run's branch: keeps, decisions taken back, merges.

use super::Steps;
use crate::record::{AuditId, CommitId, Invalid, Reason, Record, TrialId};
use crate::runner::EngineError;
use crate::session::second_arms;
use crate::state::Pending;

impl Steps<'_> {
    pub(super) fn advance(&mut self, trial: TrialId) -> Result<(), EngineError> {
        let Some(to) = self.commit_of(trial) else { return Ok(()) };
        self.append(Record::AdvanceStarted { trial, from: self.tip(), to: to.clone() })?;
        self.finish_move(&Pending { trial, to, undo: false, audit: None })
    }

    pub(super) fn finish_move(&mut self, pending: &Pending) -> Result<(), EngineError> {
        let Pending { trial, to, undo, .. } = pending.clone();
        // The arm that loses its place is not executed any more, unless an audit compares with it.
        let leaves = if undo { Some(trial) } else { self.state.incumbent.filter(|old| *old != trial) };
        let leaves = leaves.filter(|arm| undo || self.state.certified != Some(*arm));
        // A person may have committed to the branch or be looking at it: neither is lost or taken by surprise.
        self.repo.move_branch(&self.branch(), &self.tip(), &to)?;
        if undo {
            self.append(Record::Undone { trial, to })?;
            self.mark_hypotheses();
        } else {
            self.append(Record::Advanced { trial, to })?;
        }
        let leaves = leaves.filter(|arm| undo || !second_arms(&self.state).contains(arm));
        leaves.map_or(Ok(()), |arm| self.forget(arm))
    }

    /// Takes the last decision back; one whose taking back was cut off is brought to its end instead.
    pub fn undo(&mut self) -> Result<TrialId, EngineError> {
        if let Some(pending) = self.state.pending.clone() {
            self.finish_move(&pending)?;
            if pending.undo {
                return Ok(pending.trial);
            }
        }
        let decided = self.state.trials.iter().filter(|trial| trial.verdict.is_some());
        let standing = decided.filter(|trial| trial.id > 0 && !trial.undone);
        let Some(last) = standing.max_by_key(|trial| trial.decision) else {
            return Err(EngineError::Refused("undo the last decision: there is none to take back".into()));
        };
        let (trial, kept, parent) = (last.id, last.kept, last.parent.clone());
        if kept {
            self.close_open(trial)?;
        }
        self.take_back(trial, if kept { parent } else { self.tip() }, None)?;
        Ok(trial)
    }

    /// Takes back what is open on a keep that is about to leave: it is not judged against another incumbent than it was
    /// made from, and may be proposed again.
    pub(super) fn close_open(&mut self, keep: TrialId) -> Result<(), EngineError> {
        let open = self.state.open_trials().map(|open| open.id).filter(|open| *open > keep);
        for open in open.collect::<Vec<TrialId>>() {
            let detail = format!("trial {keep}, on which it was built, was taken back");
            self.decide_invalid(open, Invalid::new(Reason::Proposer, detail))?;
            self.take_back(open, self.tip(), None)?;
        }
        Ok(())
    }

    pub(super) fn take_back(
        &mut self,
        trial: TrialId,
        to: CommitId,
        audit: Option<AuditId>,
    ) -> Result<(), EngineError> {
        self.append(Record::UndoStarted { trial, to: to.clone(), audit })?;
        self.finish_move(&Pending { trial, to, undo: true, audit })
    }

    /// Records that the champion is about to be merged.
    pub fn merge_started(&mut self, trial: TrialId, branch: String) -> Result<(), EngineError> {
        self.append(Record::MergeStarted { trial, branch })
    }

    /// Records that the champion was merged.
    pub fn merged(&mut self, trial: TrialId, commit: CommitId, branch: String) -> Result<(), EngineError> {
        self.append(Record::Merged { trial, commit, branch })
    }
}
