//! Building and executing arms.

use std::path::Path;
use std::time::Instant;

use super::{Flow, Steps};
use crate::event::{Event, Observer};
use crate::gate::curve::{self, Band, Follower};
use crate::lane::{Arm, BuildEnd, Job, JobPhase, MeasureEnd, Sign, Watch};
use crate::record::{Invalid, Measure, MeasureId, Outcome, Purpose, Reason, Record, Score, Stopped, TrialId};
use crate::repo::remove_all;
use crate::roofline;
use crate::runner::{EngineError, enough_space};
use crate::session::{Step, disturbance, second_arms};
use crate::state::Run;

impl Steps<'_> {
    pub(super) fn build(&mut self, id: TrialId) -> Result<Flow, EngineError> {
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

    pub(super) fn build_arm(&mut self, id: TrialId, arm: &Arm) -> Result<BuildEnd, EngineError> {
        let (longest, typical) = (self.longest_build(), self.typical_build());
        let mut watch = watcher(&mut *self.observer, id, None, typical);
        Ok(self.lane.build(arm, longest, &mut watch)?)
    }

    pub(super) fn measure(&mut self, measure: Measure) -> Result<Flow, EngineError> {
        let arm = self.arm(measure.arm);
        enough_space(&self.layout)?;
        self.check_out_pristine(false)?;
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
        let smoke = matches!(measure.purpose, Purpose::Smoke | Purpose::Guard);
        let budget = measure.budget.unwrap_or(self.setup.task.budget);
        let phase = match measure.purpose {
            Purpose::Smoke => JobPhase::Smoke,
            Purpose::Holdout => JobPhase::Holdout,
            Purpose::Guard => JobPhase::Guard,
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
        let (outcome, earlier) = self.undisturbed(&measure, outcome);
        let number = measure.measure;
        self.append(Record::Measured { measure, outcome, seconds })?;
        for (trial, measure) in earlier {
            let detail = format!("slower than this code is, as measurement {number} shows");
            self.append(Record::Disqualified { trial, measure, detail })?;
        }
        Ok(if stop { Flow::Stop } else { Flow::On })
    }

    /// The outcome, or that the machine disturbed the execution; and earlier ones that it is now known to have
    /// disturbed.
    fn undisturbed(&self, measure: &Measure, outcome: Outcome) -> (Outcome, Vec<(TrialId, MeasureId)>) {
        let Outcome::Scored(score) = outcome else { return (outcome, Vec::new()) };
        let (fault, earlier) = disturbance(&self.state, measure, &score.facts);
        let Some(fault) = fault else { return (Outcome::Scored(score), earlier) };
        let Score { facts, curve, .. } = score;
        let invalid = Invalid::new(Reason::Machine, fault.to_string());
        (Outcome::Invalid(Invalid { facts, curve, ..invalid }), earlier)
    }

    /// Executes an arm under the second budget, within the time for this run. It decides nothing, so nothing about it
    /// ends the run: without a score its pair is left out.
    pub(super) fn second(&mut self, measure: Measure) -> Result<Flow, EngineError> {
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

    /// What an execution's outcome means once it is known what else happened meanwhile.
    pub(super) fn judge(&self, outcome: Outcome, arm: &Arm, smoke: bool) -> Result<Outcome, EngineError> {
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
    pub(super) fn execute(
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
    pub(super) fn execute_once(
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
        let machine = &self.setup.machine;
        Ok(match end {
            MeasureEnd::Done(Outcome::Scored(mut score)) => {
                roofline::add_shares(&mut score.facts, machine);
                if left.is_some() {
                    score.facts.insert(curve::WOULD_HAVE_STOPPED.to_owned(), 1.0);
                }
                Ok(Outcome::Scored(score))
            }
            MeasureEnd::Done(outcome) => Ok(outcome),
            MeasureEnd::NoAnswer(detail) => Err(detail),
            MeasureEnd::Stopped { mut facts, curve } => {
                roofline::add_shares(&mut facts, machine);
                let detail = left.map(|left| left.to_string()).unwrap_or_default();
                Ok(Outcome::Stopped(Stopped { facts, curve, detail }))
            }
        })
    }

    /// What a screening run is compared with while it trains, where the run's policy asks for that.
    pub(super) fn band(&self, measure: &Measure) -> Option<Band> {
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
    pub(super) fn ensure_built(&mut self, id: TrialId, arm: &Arm) -> Result<BuildEnd, EngineError> {
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
    pub(super) fn checkout_arm(&self, id: TrialId, arm: &Arm, commit: &str) -> Result<(), EngineError> {
        let ready = self.layout.ready(&self.run, id);
        remove_all(&ready).map_err(EngineError::state("remove", &ready))?;
        self.checkout(&arm.worktree, commit)
    }

    pub(super) fn set_ready(&self, id: TrialId, commit: &str) -> Result<(), EngineError> {
        let ready = self.layout.ready(&self.run, id);
        std::fs::write(&ready, commit).map_err(EngineError::state("write", &ready))
    }

    pub(super) fn is_ready(&self, id: TrialId, arm: &Arm, commit: &str) -> bool {
        let said = std::fs::read_to_string(self.layout.ready(&self.run, id));
        // People clean folders by hand, and leave the word that they were whole.
        let kept = self.setup.task.build.iter().flat_map(|build| &build.keep);
        let mut kept = kept.filter_map(|file| Path::new(file).file_name());
        said.is_ok_and(|whole| whole == commit)
            && arm.worktree.exists()
            && (self.setup.task.build.is_none() || arm.out.exists())
            && kept.all(|file| arm.out.join(file).exists())
    }

    pub(super) fn tampered(&self, arm: &Arm) -> Result<Option<Invalid>, EngineError> {
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
