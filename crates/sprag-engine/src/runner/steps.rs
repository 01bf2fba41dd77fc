//! One method for each step that `session` may ask for; those that propose, execute and move the branch have rooms of
//! their own.

mod asking;
mod executing;
mod learning;
mod moves;
mod proposing;
mod timing;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use sprag_measure::clock;

use super::lock::Lock;
use super::{
    EngineError, Layout, Setup, comparable, enough_space, litter, named_or_latest, number_of, open_repo, runs,
};
use crate::event::{Event, Observer};
use crate::lane::{Arm, Lane};
use crate::ledger::Ledger;
use crate::memory::novelty::Shingles;
use crate::proposer::{self, Proposer};
use crate::record::{CommitId, Invalid, Purpose, Record, RunStarted, TrialId, Verdict};
use crate::repo::Repo;
use crate::session::{EndAudit, Rules, StartAudit, Step, certify_step, next_step, second_budget};
use crate::state::State;

/// A run that is being carried out.
pub struct Steps<'a> {
    setup: Setup,
    run: String,
    layout: Layout,
    repo: Repo,
    ledger: Ledger,
    state: State,
    lane: Box<dyn Lane>,
    proposers: Vec<Box<dyn Proposer>>,
    observer: &'a mut dyn Observer,
    began: Instant,
    /// Changes of earlier trials, as far as they were looked at.
    changes: RefCell<BTreeMap<TrialId, Shingles>>,
    _lock: Lock,
}

/// Whether the run goes on after a step.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    On,
    Stop,
}

impl<'a> Steps<'a> {
    /// Takes the lock, opens or begins the ledger, and brings branch and state into agreement.
    pub fn open(
        setup: Setup,
        lane: Box<dyn Lane>,
        proposers: Vec<Box<dyn Proposer>>,
        observer: &'a mut dyn Observer,
    ) -> Result<Steps<'a>, EngineError> {
        let mut steps = Steps::open_only(setup, lane, proposers, observer)?;
        steps.begin_or_resume()?;
        Ok(steps)
    }

    /// [`Steps::open`] without executing anything later: the run is neither begun nor resumed.
    pub fn open_only(
        setup: Setup,
        lane: Box<dyn Lane>,
        proposers: Vec<Box<dyn Proposer>>,
        observer: &'a mut dyn Observer,
    ) -> Result<Steps<'a>, EngineError> {
        let layout = Layout::of(&setup.task.dir);
        let lock = Lock::take(&layout, &format!("since {}", clock::now_rfc3339()))?;
        let repo = open_repo(&setup)?;
        repo.exclude(".sprag/")?;
        repo.remove_leftovers()?;
        let run = name_of_run(&setup, &repo)?;
        let (ledger, contents) = Ledger::open(&layout.ledger(&run))?;
        let state = State::fold(contents.lines.iter().map(|line| (line.at.as_str(), &line.record)));
        let torn_bytes = contents.torn_bytes;
        let began = Instant::now();
        let mut steps = Steps {
            setup,
            run,
            layout,
            repo,
            ledger,
            state,
            lane,
            proposers,
            observer,
            began,
            changes: RefCell::default(),
            _lock: lock,
        };
        if torn_bytes > 0 {
            steps.warn(
                format!("the ledger's last line was torn: {torn_bytes} bytes of it were cut off"),
                Some("nothing recorded is lost; the step it belonged to is done again".into()),
            );
            steps.append(Record::LedgerRepaired { dropped_bytes: torn_bytes })?;
        }
        Ok(steps)
    }

    /// Writes the run's first line, or that it goes on, and brings branch and folders into agreement with it.
    pub(super) fn begin_or_resume(&mut self) -> Result<(), EngineError> {
        enough_space(&self.layout)?;
        let task = &self.setup.task;
        if let Some(run) = self.state.run.clone() {
            comparable("resume", &run, &self.setup, &self.fixed_sha256_at(&run.base)?)?;
            self.append(Record::RunResumed {
                sprag_version: self.setup.sprag_version.clone(),
                sandbox: Some(self.setup.sandbox_facts.0.clone()),
                sandbox_missing: self.setup.sandbox_facts.1.clone(),
                machine: self.setup.machine.clone(),
            })?;
        } else {
            let base = self.repo.head()?;
            let record = RunStarted {
                run: self.run.clone(),
                sprag_version: self.setup.sprag_version.clone(),
                task: task.name.clone(),
                task_sha256: task.sha256.clone(),
                fixed_sha256: self.fixed_sha256_at(&base)?,
                base,
                metric: task.metric.name.clone(),
                direction: task.metric.direction,
                budget: task.budget,
                second: task.second,
                policy: task.gate,
                guards: task.guard_rules.clone(),
                seed: self.setup.seed,
                proposers: self.proposers.iter().map(|proposer| proposer.name().to_owned()).collect(),
                mix: self.setup.mix.clone(),
                sandbox: self.setup.sandbox_facts.0.clone(),
                sandbox_missing: self.setup.sandbox_facts.1.clone(),
                machine: self.setup.machine.clone(),
            };
            self.append(Record::RunStarted(Box::new(record)))?;
        }
        // Found out now, not after a trial was paid for; a move that was cut off is finished as the next step.
        if self.state.pending.is_none() {
            self.repo.move_branch(&self.branch(), &self.tip(), &self.tip())?;
        }
        self.mark_hypotheses();
        // A kill between a decision and its lesson.
        self.learn()?;
        self.sweep()?;
        self.check_out_pristine(true)
    }

    /// The commit that the run began with, for evaluators that ask for it: made anew when a program takes the run up.
    fn check_out_pristine(&self, anew: bool) -> Result<(), EngineError> {
        let pristine = self.layout.pristine(&self.run);
        let base = self.state.run.as_ref().map(|run| run.base.clone()).unwrap_or_default();
        if !self.setup.task.needs_pristine() || (pristine.exists() && !anew) {
            return Ok(());
        }
        self.checkout(&pristine, &base)
    }

    /// Removes what a kill between a decision and its cleaning left behind. Nobody is asked now, so no worktree
    /// for that is worth keeping.
    fn sweep(&self) -> Result<(), EngineError> {
        let live = litter::live(&self.state);
        for (path, trial) in litter::of_run(&self.layout, &self.run) {
            if !live.contains(&trial) || litter::is_asking(&self.layout, &path) {
                self.repo.worktree_remove(&path)?;
            }
        }
        Ok(self.repo.prune()?)
    }

    /// Hash of the fixed files at a commit, and of the external ones as they are now.
    fn fixed_sha256_at(&self, commit: &str) -> Result<String, EngineError> {
        let tree = self.layout.worktrees().join(format!("{}-fixed", self.run));
        self.checkout(&tree, commit)?;
        let sha256 = self.setup.task.fixed_sha256(&tree);
        self.repo.worktree_remove(&tree)?;
        Ok(sha256?)
    }

    /// Carries steps out until the run is finished or stopped.
    pub fn run(&mut self) -> Result<(), EngineError> {
        while !self.setup.cancel.is_cancelled() && !self.setup.kill.is_cancelled() {
            let step = next_step(&self.state, self.rules());
            if self.carry_out(step)? == Flow::Stop {
                break;
            }
        }
        Ok(())
    }

    /// Audits what was kept since the certified champion until nothing is left to audit, or until stopped.
    pub fn certify(&mut self) -> Result<(), EngineError> {
        let mut now = self.state.open_audit().is_none();
        while !self.setup.cancel.is_cancelled() && !self.setup.kill.is_cancelled() {
            let Some(step) = certify_step(&self.state, self.rules(), now) else { return Ok(()) };
            now = now && !matches!(step, Step::StartAudit(_));
            if self.carry_out(step)? == Flow::Stop {
                break;
            }
        }
        Ok(())
    }

    /// The state after the last step.
    pub fn into_state(self) -> State {
        self.state
    }

    fn rules(&self) -> Rules {
        let open = self.state.open_trial().map(|trial| trial.proposer.as_str());
        let repairs = self.proposers.iter().any(|one| Some(one.name()) == open && one.can_repair());
        Rules {
            builds: self.setup.task.build.is_some(),
            smokes: self.setup.task.has_smoke(),
            holdout: self.setup.task.has_holdout(),
            guards: self.setup.task.has_guard_commands(),
            repairs,
            circles: !self.proposers.iter().any(|one| one.is_counted()),
            max_trials: self.setup.max_trials,
            affordable_repeats: self.affordable_repeats(),
        }
    }

    fn carry_out(&mut self, step: Step) -> Result<Flow, EngineError> {
        match step {
            Step::FinishMove(pending) => self.finish_move(&pending)?,
            Step::StartTrial(trial) => return self.start_trial(trial, None, None),
            Step::Join(trial, heat) => return self.start_trial(trial, None, Some(heat)),
            Step::TryAgain(trial, earlier) => return self.start_trial(trial, Some(earlier), None),
            Step::StartAudit(StartAudit { audit, tip, against, keeps, level }) => {
                self.append(Record::AuditStarted { audit, tip, against, keeps, level })?;
            }
            Step::EndAudit(EndAudit { audit, end, e_value, effect, holdout, gave_up, reason }) => {
                self.append(Record::Audited { audit, end, e_value, effect, holdout, gave_up, reason })?;
                // The last champion, and a beginning of the chain, may be executed for the last time.
                self.sweep()?;
            }
            Step::TakeBack(trial, audit) => {
                let to = self.state.trial(trial).map(|trial| trial.parent.clone()).unwrap_or_default();
                self.close_open(trial)?;
                self.take_back(trial, to, Some(audit))?;
            }
            Step::Propose(0) => self.propose_baseline()?,
            Step::Propose(trial) => match self.state.trial(trial).and_then(|trial| trial.again) {
                Some(earlier) => self.propose_again(trial, earlier)?,
                None => return self.propose(trial),
            },
            Step::Repair(trial) => return self.propose(trial),
            Step::Build(trial) => return self.build(trial),
            Step::Measure(measure) if measure.purpose == Purpose::Second => return self.second(measure),
            Step::Measure(measure) => return self.measure(measure),
            Step::Decide(trial, verdict, reason) => self.decide(trial, verdict, reason)?,
            Step::Advance(trial) => self.advance(trial)?,
            Step::Finish(reason) => {
                self.append(Record::RunFinished { reason })?;
                return Ok(Flow::Stop);
            }
        }
        Ok(Flow::On)
    }

    fn start_trial(
        &mut self,
        trial: TrialId,
        again: Option<TrialId>,
        heat: Option<TrialId>,
    ) -> Result<Flow, EngineError> {
        // Who joins others was counted when the first of them began.
        let joins = heat.is_some_and(|first| first < trial);
        if trial > 0
            && !joins
            && let Some(reason) = self.setup.asking.reached(self.state.spent)
        {
            return self.carry_out(Step::Finish(reason));
        }
        if trial > 0 && !joins && self.out_of_time(heat.is_some()) {
            let reason = "the time for this run is used up".to_owned();
            return self.carry_out(Step::Finish(reason));
        }
        let parent = self.tip();
        let proposer = if trial == 0 {
            "baseline".to_owned()
        } else if again.is_some() {
            "again".to_owned()
        } else {
            match self.proposers.len() {
                0 if joins => {
                    let reason = "there is no proposer".to_owned();
                    self.append(Record::ProposerStopped { trial, reason })?;
                    return Ok(Flow::On);
                }
                0 => return self.carry_out(Step::Finish("there is no proposer".into())),
                _ => {
                    let names: Vec<&str> = self.proposers.iter().map(|one| one.name()).collect();
                    names[self.setup.mix.choose(&names, &self.state)].to_owned()
                }
            }
        };
        if again.is_none() && trial > 0 {
            self.notice_plateau(trial)?;
        }
        self.append(Record::TrialStarted { trial, proposer, parent, again, heat })?;
        Ok(Flow::On)
    }

    /// Begins a trial once more that has no proposal yet.
    fn restart(&mut self, trial: TrialId) -> Result<Flow, EngineError> {
        let heat = self.state.trial(trial).and_then(|trial| trial.heat);
        self.start_trial(trial, None, heat)
    }

    fn decide_invalid(&mut self, trial: TrialId, invalid: Invalid) -> Result<(), EngineError> {
        let line = invalid.to_string();
        self.decide(trial, Verdict::Invalid(invalid), line)
    }

    fn decide(&mut self, trial: TrialId, verdict: Verdict, reason: String) -> Result<(), EngineError> {
        let stays = matches!(verdict, Verdict::Baseline { .. } | Verdict::Win(_));
        let baseline = matches!(verdict, Verdict::Baseline { .. });
        self.append(Record::Decided { trial, verdict, reason })?;
        self.learn()?;
        let asked = self.state.run.as_ref().is_some_and(|run| run.second.is_some());
        if baseline && asked && second_budget(&self.state).is_none() {
            let text = "there is no second budget: no run of the baseline tells its `train_tokens`";
            let hint = "write the number, as in `[budget] second = { tokens = 500_000 }`";
            self.warn(text.into(), Some(hint.into()));
        }
        self.mark_hypotheses();
        if !stays {
            self.forget(trial)?;
        }
        Ok(())
    }

    /// Ticking is a courtesy to people; it may not stop the loop.
    fn mark_hypotheses(&mut self) {
        if let Err(error) = proposer::hypotheses::mark(&self.layout.hypotheses(), &self.state.trials) {
            self.warn(format!("cannot tick off hypotheses: {error}"), None);
        }
    }

    /// The state so far.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The task's repository.
    pub fn repo(&self) -> &Repo {
        &self.repo
    }

    /// Removes the folders of a trial that is not executed any more.
    fn forget(&mut self, id: TrialId) -> Result<(), EngineError> {
        for (path, _) in litter::of_run(&self.layout, &self.run).into_iter().filter(|(_, trial)| *trial == id)
        {
            self.repo.worktree_remove(&path)?;
        }
        Ok(())
    }

    /// A clean checkout of a commit, whatever lay there before.
    fn checkout(&self, worktree: &Path, commit: &str) -> Result<(), EngineError> {
        Ok(self.repo.worktree_add(worktree, commit)?)
    }

    fn arm(&self, trial: TrialId) -> Arm {
        Arm {
            worktree: self.layout.worktree(&self.run, trial),
            out: self.layout.out(&self.run, trial),
            pristine: self.layout.pristine(&self.run),
        }
    }

    fn commit_of(&self, trial: TrialId) -> Option<CommitId> {
        Some(self.state.trial(trial)?.proposed.as_ref()?.commit.clone())
    }

    fn tip(&self) -> CommitId {
        self.state.tip.clone().unwrap_or_default()
    }

    fn branch(&self) -> String {
        format!("sprag/{}", self.run)
    }

    fn trial_ref(&self, trial: TrialId) -> String {
        format!("refs/sprag/{}/{trial}", self.run)
    }

    fn append(&mut self, record: Record) -> Result<(), EngineError> {
        let line = self.ledger.append(&clock::now_rfc3339(), &record)?;
        self.state.apply(&line.at, &record);
        self.emit(Event::Recorded { line: Box::new(line) });
        Ok(())
    }

    fn warn(&mut self, text: String, hint: Option<String>) {
        self.emit(Event::Warning { text, hint });
    }

    fn emit(&mut self, event: Event) {
        self.observer.observe(&event);
    }

    #[cfg(test)]
    pub(super) fn set_seconds(&mut self, seconds: f64) {
        self.setup.max_seconds = Some(seconds);
    }

    /// Carries one step out.
    #[cfg(test)]
    pub(super) fn step(&mut self) -> Result<(), EngineError> {
        let step = next_step(&self.state, self.rules());
        self.carry_out(step).map(|_| ())
    }

    #[cfg(test)]
    pub(super) fn set_fuse(&mut self, appends: u64, dies: crate::ledger::Dies) {
        self.ledger.fuse = Some((appends, dies));
    }
}

fn name_of_run(setup: &Setup, repo: &Repo) -> Result<String, EngineError> {
    let known = runs(&setup.task.dir);
    match &setup.run {
        Some(name) if setup.new_run && known.contains(name) => Err(EngineError::Refused(format!(
            "begin run `{name}`: there is one of that name; choose another"
        ))),
        Some(name) if setup.new_run || known.contains(name) => valid_name(name),
        Some(name) => named_or_latest(&setup.task.dir, Some(name)),
        None if setup.new_run || known.is_empty() => {
            // Refs outlive a `.sprag` folder that a person removed: their ideas are not overwritten.
            let refs = repo.list_refs("refs/sprag")?;
            let used = refs.iter().filter_map(|(name, _)| name.split('/').nth(2));
            let highest = known.iter().map(String::as_str).chain(used).map(number_of).max().unwrap_or(0);
            Ok(format!("run-{}", highest + 1))
        }
        None => named_or_latest(&setup.task.dir, None),
    }
}

/// A run's name becomes a folder and part of a branch.
fn valid_name(name: &str) -> Result<String, EngineError> {
    let plain = |character: char| character.is_ascii_alphanumeric() || matches!(character, '-' | '_');
    if !name.is_empty() && name.len() <= 64 && name.chars().all(plain) && !name.starts_with('-') {
        return Ok(name.to_owned());
    }
    Err(EngineError::Refused(format!("begin run `{name}`: a name has letters, digits, `-` and `_` only")))
}
