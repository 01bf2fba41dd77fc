//! Asking for proposals, and committing what may be tried.

use std::path::Path;

use super::asking::{Answered, Asking};
use super::{Flow, Steps};
use crate::event::{Event, Phase};
use crate::proposer::{self, Declined, Proposal};
use crate::record::{Asked, Invalid, Near, Proposed, Reason, Record, TrialId, Verdict};
use crate::repo::RepoError;
use crate::runner::EngineError;

impl Steps<'_> {
    pub(super) fn propose_baseline(&mut self) -> Result<(), EngineError> {
        let commit = self.tip();
        let arm = self.arm(0);
        self.checkout(&arm.worktree, &commit)?;
        let content = proposer::content_of(&self.setup.task, &arm.worktree)?;
        self.repo.set_ref(&self.trial_ref(0), &commit, None)?;
        let title = "baseline".to_owned();
        let proposed = Proposed { commit, title, content, ..Proposed::default() };
        self.append(Record::Proposed(proposed))?;
        Ok(())
    }

    /// Asks for a proposal, or for its repair, and commits what may be tried.
    pub(super) fn propose(&mut self, id: TrialId) -> Result<Flow, EngineError> {
        let Some(trial) = self.state.trial(id).cloned() else { return Ok(Flow::On) };
        self.emit(Event::Phase { trial: id, phase: Phase::Propose, measure: None, expected_seconds: None });
        let broken = trial.proposed.as_ref().and_then(|_| trial.builds.last()?.invalid());
        let attempt = trial.builds.len() as u32;
        let from = trial.proposed.as_ref().map_or(&trial.parent, |proposed| &proposed.commit);
        let Some(index) = self.proposers.iter().position(|one| one.name() == trial.proposer) else {
            // A resumed run may have other proposers: the trial that waits for a gone one starts again.
            return self.restart(id);
        };
        let line = self.ledger.next_seq();
        let (worktree, brief_dir) =
            (self.layout.asking(&self.run, id, line), self.layout.brief(&self.run, id, line));
        self.checkout(&worktree, from)?;
        std::fs::create_dir_all(&brief_dir).map_err(EngineError::state("create", &brief_dir))?;
        // Taken out while it is asked: what it is told rests on the rest of this.
        let mut proposer = self.proposers.remove(index);
        let asking = Asking {
            trial: id,
            parent: &trial.parent,
            from,
            worktree: &worktree,
            brief_dir: &brief_dir,
            broken: broken.as_ref(),
        };
        let answered = self.ask(&mut *proposer, &asking);
        self.proposers.insert(index, proposer);
        let Answered { result, near, askings } = answered?;
        for (spending, end) in askings {
            if let Some(spending) = spending {
                self.asked(Asked { trial: id, proposer: trial.proposer.clone(), spending, end })?;
            }
        }
        self.keep_brief(id, &brief_dir)?;
        if let Some(lesson) = result.as_ref().ok().and_then(|proposal| proposal.lesson.as_deref()) {
            self.learn_from(&trial.proposer, lesson)?;
        }
        let flow = match result {
            Ok(proposal) => {
                self.admit(id, attempt, &worktree, proposal, near)?;
                Flow::On
            }
            Err(Declined::Stopped) => Flow::Stop,
            Err(_) if self.setup.kill.is_cancelled() => Flow::Stop,
            Err(declined) => match broken {
                // A proposal that was built is decided on: that nobody mends it does not make it vanish.
                Some(invalid) => {
                    self.decide_invalid(id, invalid)?;
                    Flow::On
                }
                None => self.declined(id, index, declined)?,
            },
        };
        self.repo.worktree_remove(&worktree)?;
        Ok(flow)
    }

    /// Records what an asking cost; a limit that it cannot be held against is said.
    fn asked(&mut self, asked: Asked) -> Result<(), EngineError> {
        let limits = &self.setup.asking;
        let unknown = [
            (limits.max_usd.is_some() && asked.spending.usd.is_none(), "dollars", "--max-usd"),
            (limits.max_tokens.is_some() && asked.spending.tokens() == 0, "tokens", "--max-tokens"),
        ];
        for (_, what, flag) in unknown.into_iter().filter(|(unknown, ..)| *unknown) {
            let text = format!(
                "{} did not tell the {what} of its last asking, which `{flag}` cannot count",
                asked.proposer
            );
            self.warn(text, None);
        }
        self.append(Record::Asked(asked))
    }

    /// Proposes the change of an earlier trial again, on the code that an audit left.
    pub(super) fn propose_again(&mut self, id: TrialId, earlier: TrialId) -> Result<(), EngineError> {
        let (Some(trial), Some(first)) = (self.state.trial(id), self.state.trial(earlier).cloned()) else {
            return Ok(());
        };
        let onto = trial.parent.clone();
        let Some(change) = first.proposed else { return Ok(()) };
        let proposal = Proposal {
            title: change.title,
            hypothesis: change.hypothesis,
            family: change.family,
            expected_gain: change.expected_gain,
            ..Proposal::default()
        };
        let worktree = self.layout.asking(&self.run, id, self.ledger.next_seq());
        match self.repo.replay(&first.parent, &change.commit, &onto, &message(&proposal)) {
            Ok(commit) => {
                self.checkout(&worktree, &commit)?;
                self.admit(id, 0, &worktree, proposal, None)?;
                Ok(self.repo.worktree_remove(&worktree)?)
            }
            Err(RepoError::Conflict { .. } | RepoError::NothingToMerge { .. }) => {
                let detail = format!("the change of trial {earlier} does not apply without what was undone");
                self.decide_invalid(id, Invalid::new(Reason::Proposer, detail))
            }
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn declined(
        &mut self,
        id: TrialId,
        proposer: usize,
        declined: Declined,
    ) -> Result<Flow, EngineError> {
        match declined {
            Declined::Exhausted(reason) => {
                self.proposers.remove(proposer);
                self.forget(id)?;
                if !self.proposers.is_empty() {
                    return self.restart(id);
                }
                self.append(Record::ProposerStopped { trial: id, reason })?;
            }
            Declined::Failed(detail) => {
                self.decide_invalid(id, Invalid::new(Reason::Proposer, detail))?;
            }
            Declined::Stopped => return Ok(Flow::Stop),
        }
        Ok(Flow::On)
    }

    /// Commits what may be tried. What is executed is a checkout of that commit, never the worktree that the
    /// proposer had: there lie files that git ignores, and perhaps a process that still writes.
    pub(super) fn admit(
        &mut self,
        id: TrialId,
        attempt: u32,
        worktree: &Path,
        proposal: Proposal,
        near: Option<Near>,
    ) -> Result<(), EngineError> {
        let Some(trial) = self.state.trial(id) else { return Ok(()) };
        let (parent, earlier) = (trial.parent.clone(), trial.proposed.clone());
        if let Some(earlier) = earlier {
            let name = format!("{}-a{}", self.trial_ref(id), earlier.attempt);
            self.repo.set_ref(&name, &earlier.commit, None)?;
        }
        let admitted = proposer::admit(&self.setup.task, &self.repo, worktree, &parent, &self.state, id)?;
        let admitted = match admitted {
            Ok(admitted) => admitted,
            Err(invalid) => {
                // Rejected before it costs anything, yet not lost: whatever it changed stays reachable.
                if invalid.reason != Reason::Empty {
                    let commit = self.repo.commit_all(worktree, &message(&proposal), &parent)?;
                    self.repo.set_ref(&self.trial_ref(id), &commit, None)?;
                }
                let reason = format!("{}: rejected, {invalid}", proposal.title);
                return self.decide(id, Verdict::Invalid(invalid), reason);
            }
        };
        let commit = self.repo.commit_all(worktree, &message(&proposal), &parent)?;
        self.repo.set_ref(&self.trial_ref(id), &commit, None)?;
        let (insertions, deletions) = self.repo.diff_stat(&parent, &commit)?;
        let proposed = Proposed {
            trial: id,
            attempt,
            commit,
            title: proposal.title,
            hypothesis: proposal.hypothesis,
            family: proposal.family,
            idea: proposal.idea,
            expected_gain: proposal.expected_gain,
            near,
            content: admitted.content,
            paths: admitted.paths,
            insertions,
            deletions,
        };
        self.append(Record::Proposed(proposed))
    }
}

fn message(proposal: &Proposal) -> String {
    let hypothesis = proposal.hypothesis.as_deref().unwrap_or_default();
    format!("{}\n\n{hypothesis}\n", proposal.title)
}
