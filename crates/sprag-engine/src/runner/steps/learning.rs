//! What is written down so that the loop does not run in circles: lessons, plateaus, likeness of changes, briefs.

use std::path::Path;

use sha2::{Digest, Sha256};

use super::Steps;
use crate::memory::novelty;
use crate::memory::{cut_lesson, lesson, plateau};
use crate::proposer::{self, brief};
use crate::record::{Near, Record, TrialId};
use crate::runner::EngineError;
use crate::task::hex;

/// Earlier trials that a change is compared with.
const COMPARED: usize = 200;

impl Steps<'_> {
    /// Writes the lesson of the trial that was decided last, unless it is there. Ledgers of earlier programs get one for
    /// that trial alone.
    pub(super) fn learn(&mut self) -> Result<(), EngineError> {
        let last = self.state.trials.iter().filter(|trial| trial.decision.is_some());
        let Some(last) = last.max_by_key(|trial| trial.decision).filter(|trial| trial.lesson.is_none())
        else {
            return Ok(());
        };
        let Some(text) = lesson(&self.state, last) else { return Ok(()) };
        let trial = last.id;
        self.append(Record::Lesson { trial, text, by: "sprag".to_owned() })
    }

    /// A proposer's own words on the trial that was decided last.
    pub(super) fn learn_from(&mut self, proposer: &str, text: &str) -> Result<(), EngineError> {
        let decided = self.state.trials.iter().filter(|trial| trial.id > 0 && trial.decision.is_some());
        // Of one that never came to be there is nothing to learn.
        let decided = decided.filter(|trial| trial.proposed.is_some());
        let Some(trial) = decided.max_by_key(|trial| trial.decision).map(|trial| trial.id) else {
            return Ok(());
        };
        self.append(Record::Lesson { trial, text: cut_lesson(text), by: proposer.to_owned() })
    }

    /// Says once that the run stands still, and once more whenever something else is asked for.
    pub(super) fn notice_plateau(&mut self, trial: TrialId) -> Result<(), EngineError> {
        let Some(now) = plateau(&self.state) else { return Ok(()) };
        if self.state.plateau.is_some_and(|before| before.stage == now.stage) {
            return Ok(());
        }
        self.append(Record::Plateau { trial, without_win: now.without_win, stage: now.stage })
    }

    /// Keeps what a proposer was told; proposers that read no brief leave none.
    pub(super) fn keep_brief(&mut self, trial: TrialId, brief_dir: &Path) -> Result<(), EngineError> {
        let Ok(text) = std::fs::read(brief_dir.join(brief::FILE)) else { return Ok(()) };
        let kept = self.layout.brief_of(&self.run, trial);
        let folder = kept.parent().map_or(Ok(()), std::fs::create_dir_all);
        folder.and_then(|()| std::fs::write(&kept, &text)).map_err(EngineError::state("write", &kept))?;
        // What a model was asked and answered is for people; a trial is no worse without it.
        let _ = std::fs::copy(brief_dir.join(proposer::CHAT_LOG), kept.with_extension("chat.jsonl"));
        let sha256 = hex(&Sha256::digest(&text));
        self.append(Record::Briefed { trial, version: brief::VERSION, sha256 })
    }

    /// The earlier trial whose change a commit nearly repeats.
    pub(super) fn nearest_change(
        &self,
        id: TrialId,
        parent: &str,
        commit: &str,
    ) -> Result<Option<Near>, EngineError> {
        let earlier = self.state.tried().filter(|trial| trial.id > 0 && trial.id != id);
        let mut earlier: Vec<TrialId> = earlier.map(|trial| trial.id).collect();
        let earlier = earlier.split_off(earlier.len().saturating_sub(COMPARED));
        if earlier.is_empty() {
            return Ok(None);
        }
        for trial in &earlier {
            self.look_at_change(*trial)?;
        }
        let change = novelty::shingles(&self.repo.diff(parent, commit)?);
        let changes = self.changes.borrow();
        let earlier = earlier.iter().filter_map(|trial| Some((*trial, changes.get(trial)?)));
        let nearest = novelty::nearest(&change, earlier);
        Ok(nearest.map(|(trial, likeness)| Near { trial, likeness }))
    }

    /// Reads what an earlier trial changed, once.
    fn look_at_change(&self, id: TrialId) -> Result<(), EngineError> {
        let Some(trial) = self.state.trial(id).filter(|_| !self.changes.borrow().contains_key(&id)) else {
            return Ok(());
        };
        let Some(proposed) = &trial.proposed else { return Ok(()) };
        let diff = self.repo.diff(&trial.parent, &proposed.commit)?;
        self.changes.borrow_mut().insert(id, novelty::shingles(&diff));
        Ok(())
    }

    /// What the proposer of a near duplicate is told.
    pub(super) fn note_on(&self, near: &Near) -> String {
        let told = self
            .state
            .trial(near.trial)
            .and_then(|trial| trial.lesson.clone().or_else(|| trial.reason.clone()));
        let told = told.map(|told| format!(" (\"{}\")", told.replace('"', "'"))).unwrap_or_default();
        format!(
            "The worktree holds your change. It is {:.0} % like what trial {} changed{told}. Change it so that it tries \
             something else, or leave it as it is and say in the hypothesis why it should end differently now.",
            near.likeness * 100.0,
            near.trial
        )
    }
}
