//! Asking for proposals, and committing what may be tried.

use std::path::Path;

use super::{Flow, Steps};
use crate::event::{Event, Phase};
use crate::proposer::{self, Brief, Declined, Proposal};
use crate::record::{Asked, Invalid, Near, Proposed, Reason, Record, TrialId, Verdict};
use crate::repo::{RepoError, remove_all};
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
        let steering = std::fs::read_to_string(self.layout.steering(&self.run)).ok();
        let hypotheses = self.layout.hypotheses();
        let mut brief = Brief {
            task: &self.setup.task,
            state: &self.state,
            trial: id,
            seed: self.state.run.as_ref().map_or(self.setup.seed, |run| run.seed),
            worktree: &worktree,
            brief_dir: &brief_dir,
            hypotheses: &hypotheses,
            note: None,
            steering: steering.as_deref().filter(|text| !text.trim().is_empty()),
            repair: broken.as_ref().map(|invalid| invalid.detail.as_str()),
            machine: &self.setup.machine,
            repo: &self.repo,
            cancel: &self.setup.kill,
        };
        let mut answer = self.proposers[index].propose(&brief);
        let mut asked = vec![(self.proposers[index].spent(), ending(&answer))];
        let mut near = self.near(id, &worktree, &trial.parent, &answer)?;
        // Shown to whoever can take it in before it runs, once.
        if let (Some(near), None, true) = (&near, &broken, self.proposers[index].can_repair()) {
            let note = self.note_on(near);
            brief.note = Some(&note);
            remove_all(&brief_dir.join(proposer::ANSWER))
                .map_err(EngineError::state("remove", &brief_dir))?;
            let second = self.proposers[index].propose(&brief);
            asked.push((self.proposers[index].spent(), ending(&second)));
            // Whoever has nothing to say on it stands by what it proposed.
            if let Ok(second) = second {
                answer = answer.map(|first| second.or_else(first));
            }
        }
        if asked.len() > 1 {
            near = self.near(id, &worktree, &trial.parent, &answer)?;
        }
        for (spending, end) in asked {
            if let Some(spending) = spending {
                self.append(Record::Asked(Asked {
                    trial: id,
                    proposer: trial.proposer.clone(),
                    spending,
                    end,
                }))?;
            }
        }
        self.keep_brief(id, &brief_dir)?;
        if let Ok(Some(lesson)) = answer.as_ref().map(|proposal| proposal.lesson.as_deref()) {
            self.learn_from(&trial.proposer, lesson)?;
        }
        let flow = match answer {
            Ok(proposal) => {
                self.admit(id, attempt, &worktree, proposal, near)?;
                Flow::On
            }
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

/// How an asking ended, in the ledger's words.
fn ending(answer: &Result<Proposal, Declined>) -> String {
    match answer {
        Ok(_) => "proposed".to_owned(),
        Err(Declined::Exhausted(reason) | Declined::Failed(reason)) => reason.clone(),
    }
}

fn message(proposal: &Proposal) -> String {
    let hypothesis = proposal.hypothesis.as_deref().unwrap_or_default();
    format!("{}\n\n{hypothesis}\n", proposal.title)
}
