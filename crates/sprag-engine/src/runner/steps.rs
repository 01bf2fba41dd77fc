//! One method for each step that `session` may ask for.

use std::path::Path;
use std::time::{Duration, Instant};

use sprag_measure::clock;

use super::lock::Lock;
use super::{
    EngineError, Layout, Setup, comparable, enough_space, litter, named_or_latest, number_of, open_repo, runs,
};
use crate::event::{Event, Observer, Phase};
use crate::gate::curve::{self, Band, Follower};
use crate::lane::{Arm, BuildEnd, Job, JobPhase, Lane, MeasureEnd, Sign, Watch};
use crate::ledger::Ledger;
use crate::proposer::{self, Brief, Declined, Proposal, Proposer};
use crate::record::{
    AuditId, Budget, CommitId, Invalid, Measure, Outcome, Proposed, Purpose, Reason, Record, RunStarted,
    Score, Stopped, TrialId, Verdict,
};
use crate::repo::{Repo, RepoError, remove_all};
use crate::session::{
    EndAudit, Rules, StartAudit, Step, certify_step, disturbance, first_rung, next_step, second_arms,
    second_budget,
};
use crate::state::{Pending, Run, State};

/// Part of a run's time that measuring the noise may take.
const NOISE_SHARE: f64 = 0.25;

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
        let mut steps =
            Steps { setup, run, layout, repo, ledger, state, lane, proposers, observer, began, _lock: lock };
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
                seed: self.setup.seed,
                proposers: self.proposers.iter().map(|proposer| proposer.name().to_owned()).collect(),
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
        self.sweep()
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
            repairs,
            circles: !self.proposers.iter().any(|one| one.is_counted()),
            max_trials: self.setup.max_trials,
            affordable_repeats: self.affordable_repeats(),
        }
    }

    /// Repeats of the baseline that fit into [`NOISE_SHARE`] of the run's time, once one was made.
    fn affordable_repeats(&self) -> Option<u32> {
        let (limit, one) = (self.setup.max_seconds?, self.typical_measure(None)?);
        Some((NOISE_SHARE * limit / one) as u32)
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
                several => self.proposers[(trial as usize - 1) % several].name().to_owned(),
            }
        };
        self.append(Record::TrialStarted { trial, proposer, parent, again, heat })?;
        Ok(Flow::On)
    }

    /// Begins a trial once more that has no proposal yet.
    fn restart(&mut self, trial: TrialId) -> Result<Flow, EngineError> {
        let heat = self.state.trial(trial).and_then(|trial| trial.heat);
        self.start_trial(trial, None, heat)
    }

    /// A trial is not begun when it would probably end after the limit, nor a heat when its first rung would.
    fn out_of_time(&self, heat: bool) -> bool {
        let Some(limit) = self.setup.max_seconds else { return false };
        let first = || self.longest_build().unwrap_or_default().as_secs_f64().min(30.0);
        let build = self.typical_build().unwrap_or_else(first);
        let needed = match first_rung(&self.state).filter(|_| heat) {
            None => build + self.typical_measure(None).unwrap_or(0.0),
            Some(budget) => {
                let run = self.typical_measure(Some(budget)).or_else(|| self.first_rung_seconds(budget));
                f64::from(self.setup.task.gate.race) * (build + run.unwrap_or(0.0))
            }
        };
        self.began.elapsed().as_secs_f64() + needed > limit
    }

    /// Executes an arm under the second budget, within the time for this run. It decides nothing, so nothing about it
    /// ends the run: without a score its pair is left out.
    fn second(&mut self, measure: Measure) -> Result<Flow, EngineError> {
        let needed =
            self.typical_measure(measure.budget).or_else(|| self.typical_measure(None)).unwrap_or(0.0);
        let limit = self.setup.max_seconds.unwrap_or(f64::INFINITY);
        if self.began.elapsed().as_secs_f64() + needed > limit {
            return self.carry_out(Step::Finish("the time for this run is used up".into()));
        }
        let (trial, number) = (measure.trial, measure.measure);
        let flow = self.measure(measure)?;
        let runs = self.state.trial(trial).into_iter().flat_map(|trial| &trial.runs);
        let invalid = runs.filter(|run| run.measure.measure == number).find_map(Run::invalid);
        if let Some(invalid) = invalid.filter(|invalid| invalid.reason != Reason::Machine) {
            let text =
                format!("no score under the second budget, the pair of trial {trial} is left out: {invalid}");
            self.warn(text, None);
        }
        if second_arms(&self.state).is_empty() {
            // The incumbent before it was executed for the last time, unless it is certified.
            self.sweep()?;
        }
        Ok(flow)
    }

    fn propose_baseline(&mut self) -> Result<(), EngineError> {
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
    fn propose(&mut self, id: TrialId) -> Result<Flow, EngineError> {
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
        let brief = Brief {
            task: &self.setup.task,
            state: &self.state,
            trial: id,
            seed: self.state.run.as_ref().map_or(self.setup.seed, |run| run.seed),
            worktree: &worktree,
            brief_dir: &brief_dir,
            hypotheses: &self.layout.hypotheses(),
            repair: broken.as_ref().map(|invalid| invalid.detail.as_str()),
            machine: &self.setup.machine,
            repo: &self.repo,
            cancel: &self.setup.kill,
        };
        let flow = match self.proposers[index].propose(&brief) {
            Ok(proposal) => {
                self.admit(id, attempt, &worktree, proposal)?;
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
    fn propose_again(&mut self, id: TrialId, earlier: TrialId) -> Result<(), EngineError> {
        let (Some(trial), Some(first)) = (self.state.trial(id), self.state.trial(earlier).cloned()) else {
            return Ok(());
        };
        let onto = trial.parent.clone();
        let Some(change) = first.proposed else { return Ok(()) };
        let proposal = Proposal {
            title: change.title,
            hypothesis: change.hypothesis,
            family: change.family,
            idea: None,
        };
        let worktree = self.layout.asking(&self.run, id, self.ledger.next_seq());
        match self.repo.replay(&first.parent, &change.commit, &onto, &message(&proposal)) {
            Ok(commit) => {
                self.checkout(&worktree, &commit)?;
                self.admit(id, 0, &worktree, proposal)?;
                Ok(self.repo.worktree_remove(&worktree)?)
            }
            Err(RepoError::Conflict { .. } | RepoError::NothingToMerge { .. }) => {
                let detail = format!("the change of trial {earlier} does not apply without what was undone");
                self.decide_invalid(id, Invalid::new(Reason::Proposer, detail))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn declined(&mut self, id: TrialId, proposer: usize, declined: Declined) -> Result<Flow, EngineError> {
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
    fn admit(
        &mut self,
        id: TrialId,
        attempt: u32,
        worktree: &Path,
        proposal: Proposal,
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
            content: admitted.content,
            paths: admitted.paths,
            insertions,
            deletions,
        };
        self.append(Record::Proposed(proposed))
    }

    fn build(&mut self, id: TrialId) -> Result<Flow, EngineError> {
        let Some(proposed) = self.state.trial(id).and_then(|trial| trial.proposed.clone()) else {
            return Ok(Flow::On);
        };
        let arm = self.arm(id);
        enough_space(&self.layout)?;
        self.checkout_arm(id, &arm, &proposed.commit)?;
        let attempt = proposed.attempt;
        self.append(Record::BuildStarted { trial: id, attempt })?;
        let began = Instant::now();
        let end = self.build_arm(id, &arm)?;
        let seconds = began.elapsed().as_secs_f64();
        if !matches!(end, BuildEnd::Done) {
            enough_space(&self.layout)?;
        }
        let (error, timed_out) = match end {
            BuildEnd::Interrupted => return Ok(Flow::Stop),
            BuildEnd::Done => (None, false),
            BuildEnd::Failed(error) => (Some(error), false),
            BuildEnd::TimedOut(error) => (Some(error), true),
        };
        let built = error.is_none();
        if built {
            self.set_ready(id, &proposed.commit)?;
        }
        if id == 0 {
            // The first build compiles every dependency; the limit is on the experiments.
            self.began = Instant::now();
        }
        self.append(Record::Built { trial: id, attempt, seconds, error, timed_out })?;
        if let Some(invalid) = self.tampered(&arm)?.filter(|_| built) {
            self.decide_invalid(id, invalid)?;
        }
        Ok(Flow::On)
    }

    fn build_arm(&mut self, id: TrialId, arm: &Arm) -> Result<BuildEnd, EngineError> {
        let (longest, typical) = (self.longest_build(), self.typical_build());
        let mut watch = watcher(&mut *self.observer, id, None, typical);
        Ok(self.lane.build(arm, longest, &mut watch)?)
    }

    fn measure(&mut self, measure: Measure) -> Result<Flow, EngineError> {
        let arm = self.arm(measure.arm);
        enough_space(&self.layout)?;
        let second = measure.purpose == Purpose::Second;
        match self.ensure_built(measure.arm, &arm)? {
            BuildEnd::Done => {}
            BuildEnd::Interrupted => return Ok(Flow::Stop),
            BuildEnd::Failed(error) | BuildEnd::TimedOut(error) if second => {
                self.append(Record::MeasureStarted(measure.clone()))?;
                let outcome = Outcome::Invalid(Invalid::new(Reason::Build, error));
                self.append(Record::Measured { measure, outcome, seconds: 0.0 })?;
                return Ok(Flow::On);
            }
            BuildEnd::Failed(error) | BuildEnd::TimedOut(error) => {
                return Err(EngineError::Refused(format!(
                    "build trial {} again: it built before and fails now: {error}",
                    measure.arm
                )));
            }
        }
        let longest = if second { self.longest_second() } else { self.longest_baseline() };
        let smoke = measure.purpose == Purpose::Smoke;
        let budget = measure.budget.unwrap_or(self.setup.task.budget);
        let phase = match measure.purpose {
            Purpose::Smoke => JobPhase::Smoke,
            Purpose::Holdout => JobPhase::Holdout,
            _ => JobPhase::Run,
        };
        let job = Job { seed: measure.seed, budget, phase, longest };
        self.append(Record::MeasureStarted(measure.clone()))?;
        let began = Instant::now();
        let expected = if smoke { None } else { self.typical_measure(measure.budget) };
        let executed = self.execute(&measure, &arm, &job, expected);
        let judged = executed.and_then(|outcome| self.judge(outcome, &arm, smoke));
        let seconds = began.elapsed().as_secs_f64();
        let outcome = match judged {
            Ok(outcome) => outcome,
            Err(error) => {
                // It says nothing about the candidate, so it must not look like an execution that killed us.
                self.append(Record::Measured { measure, outcome: Outcome::Interrupted, seconds })?;
                return Err(error);
            }
        };
        let stop = outcome == Outcome::Interrupted;
        let (outcome, earlier) = match outcome {
            Outcome::Scored(score) => {
                let (fault, earlier) = disturbance(&self.state, &measure, &score.facts);
                let outcome = match fault {
                    None => Outcome::Scored(score),
                    Some(fault) => Outcome::Invalid(Invalid {
                        facts: score.facts,
                        curve: score.curve,
                        ..Invalid::new(Reason::Machine, fault.to_string())
                    }),
                };
                (outcome, earlier)
            }
            outcome => (outcome, Vec::new()),
        };
        let number = measure.measure;
        self.append(Record::Measured { measure, outcome, seconds })?;
        for (trial, measure) in earlier {
            let detail = format!("slower than this code is, as measurement {number} shows");
            self.append(Record::Disqualified { trial, measure, detail })?;
        }
        Ok(if stop { Flow::Stop } else { Flow::On })
    }

    /// What an execution's outcome means once it is known what else happened meanwhile.
    fn judge(&self, outcome: Outcome, arm: &Arm, smoke: bool) -> Result<Outcome, EngineError> {
        if outcome == Outcome::Interrupted {
            return Ok(outcome);
        }
        if let Some(invalid) = self.tampered(arm)? {
            return Ok(Outcome::Invalid(invalid));
        }
        match outcome {
            Outcome::Invalid(_) => enough_space(&self.layout).map(|()| outcome),
            Outcome::Scored(_) if smoke => Ok(Outcome::Passed),
            outcome => Ok(outcome),
        }
    }

    /// Executes an arm; once more when the evaluator broke down, for which the candidate is not to blame.
    fn execute(
        &mut self,
        measure: &Measure,
        arm: &Arm,
        job: &Job,
        expected: Option<f64>,
    ) -> Result<Outcome, EngineError> {
        match self.execute_once(measure, arm, job, expected)? {
            Ok(outcome) => return Ok(outcome),
            Err(detail) => self.warn(format!("{detail}; the measurement is repeated"), None),
        }
        match self.execute_once(measure, arm, job, expected)? {
            Ok(outcome) => Ok(outcome),
            // Perhaps it cannot score under a budget of that kind, which is no reason to stop the run.
            Err(detail) if measure.purpose == Purpose::Second => {
                Ok(Outcome::Invalid(Invalid::new(Reason::Evaluator, detail)))
            }
            Err(detail) => Err(EngineError::Evaluator { trial: measure.trial, detail }),
        }
    }

    /// `Err` is how the evaluator broke down. A screening run whose loss leaves the incumbent's band is stopped, or
    /// spared by its seed, and then its score says so.
    fn execute_once(
        &mut self,
        measure: &Measure,
        arm: &Arm,
        job: &Job,
        expected: Option<f64>,
    ) -> Result<Result<Outcome, String>, EngineError> {
        let mut follower = self.band(measure).map(Follower::new);
        let mut left = None;
        let mut tell = watcher(&mut *self.observer, measure.trial, Some(measure.clone()), expected);
        let mut watch = |sign| {
            if let (Some(follower), Sign::Progress(progress)) = (&mut follower, &sign) {
                left = follower.take(progress);
            }
            tell(sign);
            if left.is_some() && !curve::runs_on(measure.seed) { Watch::Stop } else { Watch::GoOn }
        };
        let end = self.lane.measure(arm, job, &mut watch)?;
        Ok(match end {
            MeasureEnd::Done(Outcome::Scored(mut score)) => {
                if left.is_some() {
                    score.facts.insert(curve::WOULD_HAVE_STOPPED.to_owned(), 1.0);
                }
                Ok(Outcome::Scored(score))
            }
            MeasureEnd::Done(outcome) => Ok(outcome),
            MeasureEnd::NoAnswer(detail) => Err(detail),
            MeasureEnd::Stopped { facts, curve } => {
                let detail = left.map(|left| left.to_string()).unwrap_or_default();
                Ok(Outcome::Stopped(Stopped { facts, curve, detail }))
            }
        })
    }

    /// What a screening run is compared with while it trains, where the run's policy asks for that.
    fn band(&self, measure: &Measure) -> Option<Band> {
        let run = self.state.run.as_ref()?;
        if measure.purpose != Purpose::Screen || !run.policy.early_stop {
            return None;
        }
        let of = |arm: TrialId| -> Vec<&Score> {
            let own = self.state.runs().filter(move |run| run.measure.arm == arm);
            own.filter_map(|run| run.score()).collect()
        };
        Band::new(&of(self.state.incumbent?), &of(0), run.budget)
    }

    /// An arm that is not whole (undone decisions, a cleaned folder, a kill half-way) is built again.
    fn ensure_built(&mut self, id: TrialId, arm: &Arm) -> Result<BuildEnd, EngineError> {
        let Some(commit) = self.commit_of(id) else { return Ok(BuildEnd::Done) };
        if self.is_ready(id, arm, &commit) {
            return Ok(BuildEnd::Done);
        }
        self.checkout_arm(id, arm, &commit)?;
        let end = self.build_arm(id, arm)?;
        if end == BuildEnd::Done {
            self.set_ready(id, &commit)?;
        }
        Ok(end)
    }

    /// A clean checkout that does not count as whole until [`Steps::set_ready`] says so.
    fn checkout_arm(&self, id: TrialId, arm: &Arm, commit: &str) -> Result<(), EngineError> {
        let ready = self.layout.ready(&self.run, id);
        remove_all(&ready).map_err(EngineError::state("remove", &ready))?;
        self.checkout(&arm.worktree, commit)
    }

    fn set_ready(&self, id: TrialId, commit: &str) -> Result<(), EngineError> {
        let ready = self.layout.ready(&self.run, id);
        std::fs::write(&ready, commit).map_err(EngineError::state("write", &ready))
    }

    fn is_ready(&self, id: TrialId, arm: &Arm, commit: &str) -> bool {
        let said = std::fs::read_to_string(self.layout.ready(&self.run, id));
        // People clean folders by hand, and leave the word that they were whole.
        let kept = self.setup.task.build.iter().flat_map(|build| &build.keep);
        let mut kept = kept.filter_map(|file| Path::new(file).file_name());
        said.is_ok_and(|whole| whole == commit)
            && arm.worktree.exists()
            && (self.setup.task.build.is_none() || arm.out.exists())
            && kept.all(|file| arm.out.join(file).exists())
    }

    fn tampered(&self, arm: &Arm) -> Result<Option<Invalid>, EngineError> {
        let Some(run) = &self.state.run else { return Ok(None) };
        let detail = match self.setup.task.fixed_sha256(&arm.worktree) {
            Ok(found) if found == run.fixed_sha256 => return Ok(None),
            Ok(_) => "a fixed file is not what it was when the run began".to_owned(),
            Err(error) => error.to_string(),
        };
        // The candidate is not to blame for what changed outside its worktree.
        if self.fixed_sha256_at(&run.base)? != run.fixed_sha256 {
            let what = "a file listed under `files.external`".to_owned();
            return Err(EngineError::Changed { verb: "go on with", run: run.run.clone(), what });
        }
        Ok(Some(Invalid::new(Reason::FixedFile, detail)))
    }

    fn decide_invalid(&mut self, trial: TrialId, invalid: Invalid) -> Result<(), EngineError> {
        let line = invalid.to_string();
        self.decide(trial, Verdict::Invalid(invalid), line)
    }

    fn decide(&mut self, trial: TrialId, verdict: Verdict, reason: String) -> Result<(), EngineError> {
        let stays = matches!(verdict, Verdict::Baseline { .. } | Verdict::Win(_));
        let baseline = matches!(verdict, Verdict::Baseline { .. });
        self.append(Record::Decided { trial, verdict, reason })?;
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

    fn advance(&mut self, trial: TrialId) -> Result<(), EngineError> {
        let Some(to) = self.commit_of(trial) else { return Ok(()) };
        self.append(Record::AdvanceStarted { trial, from: self.tip(), to: to.clone() })?;
        self.finish_move(&Pending { trial, to, undo: false, audit: None })
    }

    fn finish_move(&mut self, pending: &Pending) -> Result<(), EngineError> {
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
    fn close_open(&mut self, keep: TrialId) -> Result<(), EngineError> {
        let open = self.state.open_trials().map(|open| open.id).filter(|open| *open > keep);
        for open in open.collect::<Vec<TrialId>>() {
            let detail = format!("trial {keep}, on which it was built, was taken back");
            self.decide_invalid(open, Invalid::new(Reason::Proposer, detail))?;
            self.take_back(open, self.tip(), None)?;
        }
        Ok(())
    }

    fn take_back(&mut self, trial: TrialId, to: CommitId, audit: Option<AuditId>) -> Result<(), EngineError> {
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
        Arm { worktree: self.layout.worktree(&self.run, trial), out: self.layout.out(&self.run, trial) }
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

    fn longest_build(&self) -> Option<Duration> {
        let builds = self.state.trials.iter().flat_map(|trial| &trial.builds);
        builds.map(|build| build.seconds).reduce(f64::max).map(Duration::from_secs_f64)
    }

    /// Seconds of a build with everything around it built before: of the last candidate's. The baseline's says nothing
    /// of it.
    fn typical_build(&self) -> Option<f64> {
        let candidates = self.state.trials.iter().filter(|trial| trial.id > 0).rev();
        candidates.filter_map(|trial| trial.builds.last()).map(|build| build.seconds).next()
    }

    fn longest_baseline(&self) -> Option<Duration> {
        let runs = &self.state.trial(0)?.runs;
        let full = runs.iter().filter(|run| matches!(run.outcome, Some(Outcome::Scored(_))));
        full.map(|run| run.seconds).reduce(f64::max).map(Duration::from_secs_f64)
    }

    /// How long the longest execution under the second budget took.
    fn longest_second(&self) -> Option<Duration> {
        let runs = self.state.runs().filter(|run| run.measure.purpose == Purpose::Second);
        let full = runs.filter(|run| matches!(run.outcome, Some(Outcome::Scored(_))));
        full.map(|run| run.seconds).reduce(f64::max).map(Duration::from_secs_f64)
    }

    /// Seconds of a measurement under that budget, `None` being the run's own, from the last one that was scored.
    fn typical_measure(&self, budget: Option<Budget>) -> Option<f64> {
        let runs = self.state.trials.iter().rev().flat_map(|trial| trial.runs.iter().rev());
        let mut scored = runs.filter(|run| matches!(run.outcome, Some(Outcome::Scored(_))));
        scored.find(|run| run.measure.budget == budget).map(|run| run.seconds)
    }

    /// Seconds of a run of the first rung before there was one: start and evaluation take as long as in a full one.
    fn first_rung_seconds(&self, budget: Budget) -> Option<f64> {
        let full = self.typical_measure(None)?;
        Some(match (self.setup.task.budget, budget) {
            (Budget::Seconds(whole), Budget::Seconds(part)) => (full - whole + part).max(0.0),
            _ => full,
        })
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

fn watcher<'w>(
    observer: &'w mut dyn Observer,
    trial: TrialId,
    measure: Option<Measure>,
    expected_seconds: Option<f64>,
) -> impl FnMut(Sign) + 'w {
    move |sign| {
        let event = match sign {
            Sign::Phase(phase) => Event::Phase { trial, phase, measure: measure.clone(), expected_seconds },
            Sign::Progress(progress) => Event::Progress(progress),
            Sign::Output(text) => Event::Output { trial, text },
        };
        observer.observe(&event);
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

fn message(proposal: &Proposal) -> String {
    let hypothesis = proposal.hypothesis.as_deref().unwrap_or_default();
    format!("{}\n\n{hypothesis}\n", proposal.title)
}
