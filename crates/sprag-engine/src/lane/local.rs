//! The lane on this machine: processes under limits, inside the sandbox, with the evaluator beside them.

mod alone;
mod endings;
mod reading;
mod tree;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use sprag_measure::machine::LoadMeter;
use sprag_measure::process::{
    self, Cancel, Command, End, Finished, Heartbeat, Limits, ProcessError, Stdin, Stream,
};

use super::listener::Listener;
use super::{Arm, BuildEnd, Job, JobPhase, Lane, LaneError, MeasureEnd, Sign, Watch};
use crate::evaluator::Message;
use crate::event::Phase;
use crate::record::{Invalid, Outcome, Reason};
use crate::repo::remove_all;
use crate::sandbox::{self, Confinement, Network, OnViolation, Policy};
use crate::task::{EvaluatorTree, RunTree, Task, Values, expand};
use endings::{add_load, classify, combine, facts_of, first_errors, with_tail};
use reading::{Left, Reading};

/// Output of one candidate after which it is stopped.
const OUTPUT_BYTES: u64 = 64 << 20;
/// Largest file that a candidate may write.
const FILE_BYTES: u64 = 1 << 30;
/// Largest file that a build may write.
const BUILD_FILE_BYTES: u64 = 8 << 30;
/// Time for a candidate to leave after its last answer, and for an evaluator after its candidate is gone.
const LEAVE: Duration = Duration::from_secs(10);
/// Time for a candidate to be seen dead after its evaluator gave up on it.
const DYING: Duration = Duration::from_secs(1);

/// Processes and threads of one candidate on a machine with that many cores: numeric libraries start several
/// threads a core.
fn candidate_processes(cores: u32) -> u32 {
    cores.saturating_mul(8).max(256)
}

/// Processes and threads of one build: each of a compiler's jobs has threads of its own.
fn build_processes(cores: u32) -> u32 {
    cores.saturating_mul(16).max(1024)
}

fn cores() -> u32 {
    std::thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(u32::MAX))
}

/// This machine.
#[derive(Debug)]
pub struct Local {
    /// The task.
    pub task: Task,
    /// How children are confined.
    pub confinement: Confinement,
    /// This program, for `{sprag}`.
    pub sprag: PathBuf,
    /// Variables from which a task's list is passed through.
    pub environment: Vec<(OsString, OsString)>,
    /// Build cache shared by the trials.
    pub cache: PathBuf,
    /// The only folder that a candidate may write.
    pub scratch: PathBuf,
    /// Memory of a candidate when the task sets no limit.
    pub default_memory_bytes: Option<u64>,
    /// Stops the children at once.
    pub kill: Cancel,
}

impl Lane for Local {
    fn build(
        &mut self,
        arm: &Arm,
        longest: Option<Duration>,
        watch: &mut dyn FnMut(Sign),
    ) -> Result<BuildEnd, LaneError> {
        let Some(build) = &self.task.build else { return Ok(BuildEnd::Done) };
        watch(Sign::Phase(Phase::Build));
        self.fresh_scratch()?;
        for dir in [&arm.out, &self.cache] {
            fs::create_dir_all(dir)
                .map_err(|error| LaneError::new(format!("create {}", dir.display()), error))?;
        }
        let values = self.values(arm);
        let command = self.command(&build.command, &build.env, &values, &arm.worktree)?;
        let spec = &self.task.sandbox;
        let policy = Policy {
            read: [&spec.read[..], &spec.build_read[..]].concat(),
            write: vec![arm.worktree.clone(), arm.out.clone(), self.cache.clone(), self.scratch.clone()],
            processes: build_processes(cores()),
            file_bytes: BUILD_FILE_BYTES,
            on_network: OnViolation::Refuse,
            ..self.policy()
        };
        let limits = Limits {
            wall: Some(build.timeout(longest)),
            memory_bytes: self.default_memory_bytes,
            processes: Some(build_processes(cores())),
            output_bytes: Some(OUTPUT_BYTES),
            gentle: Duration::from_secs(2),
            ..Limits::default()
        };
        let command = self.confine(command, &policy);
        let mut log = Vec::new();
        let finished = process::run(command, &limits, &self.kill, &mut |_, line| {
            if log.len() < 10_000 {
                log.push(line.to_owned());
            }
            watch(Sign::Output(line.to_owned()));
        })
        .map_err(|error| LaneError::new("run the build command", error))?;
        match finished.end {
            End::Exited(0) => {}
            End::Cancelled => return Ok(BuildEnd::Interrupted),
            End::TimedOut => {
                let limit = build.timeout(longest).as_secs();
                return Ok(BuildEnd::TimedOut(format!("the build did not end within {limit} s")));
            }
            end => {
                log.push(format!("the build {end}"));
                return Ok(BuildEnd::Failed(first_errors(&log)));
            }
        }
        for file in &build.keep {
            let (from, to) =
                (self.cache.join(file), arm.out.join(Path::new(file).file_name().unwrap_or_default()));
            // A link could hand over what the build may not read.
            if !from.symlink_metadata().is_ok_and(|kept| kept.is_file()) {
                let detail = format!(
                    "the build succeeded but left no file {} to keep; see `build.keep`",
                    from.display()
                );
                return Ok(BuildEnd::Failed(detail));
            }
            copy_synced(&from, &to)
                .map_err(|error| LaneError::new(format!("keep {}", from.display()), error))?;
        }
        Ok(BuildEnd::Done)
    }

    fn measure(
        &mut self,
        arm: &Arm,
        job: &Job,
        watch: &mut dyn FnMut(Sign) -> Watch,
    ) -> Result<MeasureEnd, LaneError> {
        self.fresh_scratch()?;
        let end = self.execute(arm, job, watch);
        // The outcome stands whatever becomes of the litter; the next execution empties the folder again.
        let _ = self.fresh_scratch();
        end
    }
}

impl Local {
    /// One execution in an empty scratch folder.
    fn execute(
        &self,
        arm: &Arm,
        job: &Job,
        watch: &mut dyn FnMut(Sign) -> Watch,
    ) -> Result<MeasureEnd, LaneError> {
        let smoke = job.phase == JobPhase::Smoke;
        let tree = self.tree(arm)?;
        let values = self.values(arm).with("seed", job.seed.to_string()).with("phase", job.phase.word());
        let values = values.with("budget", job.budget.to_string()).with("tree", &tree);
        let left = Left { tree: &tree, values: &values };
        reading::remove_stale(&self.task, &left)?;
        let policy = self.run_policy(arm, &tree)?;
        let mut listener = Listener::new(watch, job.budget, &self.kill);
        let limits = self.limits(job);
        // A candidate that runs in a copy finds its sources there by either name.
        let own = values.clone().with("worktree", &tree);
        if job.phase == JobPhase::Guard {
            let mut outcome = self.guard_commands(&own, &tree, &policy, &limits, &mut listener)?;
            self.check_copy(&mut outcome, arm, &tree);
            return Ok(MeasureEnd::Done(outcome));
        }
        let command = self.command(&self.task.run.command, &self.task.run.env, &own, &tree)?;
        let command = self.confine(command, &policy);
        listener.tell(Sign::Phase(if smoke { Phase::Smoke } else { Phase::Run }));
        let mut reading = Reading::new(&self.task);
        let meter = LoadMeter::start();
        let Execution { mut end, cpu } = match &self.task.evaluate {
            Some(evaluate) => {
                let beside = evaluate.channel;
                let dir = match evaluate.tree {
                    _ if beside => &self.task.dir,
                    EvaluatorTree::Candidate => &arm.worktree,
                    EvaluatorTree::Pristine => &arm.pristine,
                };
                let values = values.clone().with("pristine", &arm.pristine);
                let evaluator = self.command(&evaluate.command, &evaluate.env, &values, dir)?;
                if beside {
                    self.measure_beside(command, evaluator, &limits, &mut reading, &mut listener)?
                } else {
                    let wall = evaluate.timeout.or(limits.wall);
                    let run = After { evaluator, wall, smoke, tree: &tree, arm };
                    self.measure_after(command, run, &limits, &mut reading, &mut listener)?
                }
            }
            None => self.measure_alone(command, &limits, smoke, &left, &mut reading, &mut listener)?,
        };
        if let MeasureEnd::Done(outcome) = &mut end {
            reading.add_guards(outcome, &left);
            // Whoever is scored afterwards was looked at before that.
            if self.task.evaluate.as_ref().is_none_or(|evaluate| evaluate.channel) {
                self.check_copy(outcome, arm, &tree);
            }
        }
        // Where it is not known there is no fact.
        if let (MeasureEnd::Done(outcome), Ok(load)) = (&mut end, meter.finish(cpu)) {
            add_load(outcome, load);
        }
        Ok(end)
    }

    /// The folder that the candidate runs in.
    fn tree(&self, arm: &Arm) -> Result<PathBuf, LaneError> {
        match self.task.run.tree {
            RunTree::ReadOnly => Ok(arm.worktree.clone()),
            RunTree::Copy => {
                let copy = self.scratch.join("tree");
                tree::copy(&arm.worktree, &copy)?;
                Ok(copy)
            }
        }
    }

    fn run_policy(&self, arm: &Arm, tree: &Path) -> Result<Policy, LaneError> {
        let spec = &self.task.sandbox;
        let keep = match self.task.run.tree {
            RunTree::ReadOnly => Vec::new(),
            RunTree::Copy => tree::fixed_files(&self.task, tree)?,
        };
        Ok(Policy {
            read: [&spec.read[..], &spec.run_read[..], &[arm.out.clone(), arm.worktree.clone()]].concat(),
            write: vec![self.scratch.clone()],
            keep,
            devices: spec.devices.present(),
            on_network: spec.on_network,
            ..self.policy()
        })
    }

    /// The fixed files of a copy that is thrown away are looked at, too: what the candidate measured by changed ones
    /// is no score.
    fn check_copy(&self, outcome: &mut Outcome, arm: &Arm, tree: &Path) {
        if self.task.run.tree == RunTree::ReadOnly || !matches!(outcome, Outcome::Scored(_) | Outcome::Passed)
        {
            return;
        }
        let detail = match (self.task.fixed_sha256(tree), self.task.fixed_sha256(&arm.worktree)) {
            (Ok(found), Ok(expected)) if found == expected => return,
            (Ok(_), Ok(_)) => "a fixed file of its copy changed while it ran".to_owned(),
            (Err(cause), _) | (_, Err(cause)) => cause.to_string(),
        };
        let invalid = Invalid::new(Reason::FixedFile, detail);
        let facts = outcome.facts().cloned().unwrap_or_default();
        *outcome = Outcome::Invalid(Invalid { facts, curve: outcome.curve().to_vec(), ..invalid });
    }

    fn policy(&self) -> Policy {
        Policy {
            read: Vec::new(),
            write: Vec::new(),
            keep: Vec::new(),
            devices: Vec::new(),
            network: Network::None,
            on_network: OnViolation::Kill,
            processes: candidate_processes(cores()),
            file_bytes: FILE_BYTES,
            open_files: 1024,
        }
    }

    fn limits(&self, job: &Job) -> Limits {
        let run = &self.task.run;
        let wall = if job.phase == JobPhase::Smoke {
            run.smoke_timeout(job.budget, job.longest)
        } else {
            run.timeout(job.budget, job.longest)
        };
        Limits {
            wall: Some(wall),
            silence: Some(run.silence(job.budget)),
            heartbeat: Some(Heartbeat::default()),
            memory_bytes: run.memory_bytes.or(self.default_memory_bytes),
            processes: Some(candidate_processes(cores())),
            output_bytes: Some(OUTPUT_BYTES),
            gentle: Duration::ZERO,
        }
    }

    fn values(&self, arm: &Arm) -> Values {
        let values = self.task.values().with("worktree", &arm.worktree).with("out", &arm.out);
        values.with("cache", &self.cache).with("scratch", &self.scratch).with("sprag", &self.sprag)
    }

    /// A command with its placeholders filled in and a scrubbed environment.
    fn command(
        &self,
        template: &[String],
        env: &BTreeMap<String, String>,
        values: &Values,
        dir: &Path,
    ) -> Result<Command, LaneError> {
        let fill =
            |text: &String| expand(text, values).map_err(|error| LaneError::new("fill in a command", error));
        let words = template.iter().map(fill).collect::<Result<Vec<OsString>, LaneError>>()?;
        let (program, args) =
            words.split_first().ok_or_else(|| LaneError::new("start a command", "it is empty"))?;
        let mut command = Command::new(program, dir).args(args.iter().cloned());
        for (name, value) in &self.environment {
            let passed = name == "PATH" || self.task.sandbox.env.iter().any(|wanted| name == wanted.as_str());
            if passed && !env.contains_key(&*name.to_string_lossy()) {
                command = command.env(name, value);
            }
        }
        for home in ["HOME", "TMPDIR"].into_iter().filter(|home| !env.contains_key(*home)) {
            command = command.env(home, &self.scratch);
        }
        for (name, value) in env {
            command = command.env(name, fill(value)?);
        }
        Ok(command)
    }

    fn confine(&self, command: Command, policy: &Policy) -> Command {
        match &self.confinement {
            Confinement::Sandboxed(launcher) => sandbox::wrap(command, policy, launcher),
            Confinement::Unsandboxed => command,
        }
    }

    fn fresh_scratch(&self) -> Result<(), LaneError> {
        // A candidate may have made folders that deny their owner access.
        let wipe = || remove_all(&self.scratch).and_then(|()| fs::create_dir_all(&self.scratch));
        wipe().map_err(|error| LaneError::new(format!("empty {}", self.scratch.display()), error))
    }

    /// Candidate and evaluator at the same time, joined by a socket.
    fn measure_beside(
        &self,
        candidate: Command,
        evaluator: Command,
        limits: &Limits,
        reading: &mut Reading<'_>,
        listener: &mut Listener<'_>,
    ) -> Result<Execution, LaneError> {
        let (ours, theirs) = UnixStream::pair().map_err(|error| LaneError::new("make the channel", error))?;
        let candidate = candidate.stdin(Stdin::Socket(OwnedFd::from(theirs)));
        let evaluator = evaluator.stdin(Stdin::Socket(OwnedFd::from(ours)));
        let heartbeat = limits.heartbeat.clone().unwrap_or_default();
        let evaluator_limits = Limits { wall: limits.wall.map(|wall| wall + LEAVE), ..Limits::default() };
        let (stop_candidate, stop_evaluator) = (Cancel::default(), Cancel::default());
        let (tell, told) = channel();
        let mut answer: Option<Outcome> = None;
        let mut ends: [Option<Result<Finished, ProcessError>>; 2] = [None, None];
        let mut left_alone: Option<Instant> = None;
        let mut dismissed: Option<Instant> = None;
        let mut phase = Phase::Run;
        std::thread::scope(|scope| {
            for (who, command, limits, stop) in [
                (Who::Candidate, candidate, limits, &stop_candidate),
                (Who::Evaluator, evaluator, &evaluator_limits, &stop_evaluator),
            ] {
                let tell: Sender<Told> = tell.clone();
                scope.spawn(move || {
                    let say = |stream: Stream, line: &str| {
                        drop(tell.send(Told::Line(who, stream, line.to_owned())))
                    };
                    let mut say = say;
                    let end = process::run(command, limits, stop, &mut say);
                    let _ = tell.send(Told::Ended(who, Box::new(end)));
                });
            }
            while ends.iter().any(Option::is_none) {
                match told.recv_timeout(Duration::from_millis(50)) {
                    Ok(Told::Line(Who::Evaluator, Stream::Stdout, line)) => {
                        heartbeat.beat();
                        match Message::parse(&line) {
                            Some(Message::Progress(progress)) => {
                                if progress.stage == "evaluate" && phase == Phase::Run {
                                    phase = Phase::Evaluate;
                                    listener.tell(Sign::Phase(phase));
                                }
                                listener.tell(Sign::Progress(progress));
                            }
                            Some(message) => answer = message.outcome(),
                            None => listener.tell(Sign::Output(line)),
                        }
                    }
                    Ok(Told::Line(who, _, line)) => {
                        if who == Who::Candidate {
                            reading.line(&line);
                        }
                        listener.tell(Sign::Output(line));
                    }
                    Ok(Told::Ended(who, end)) => {
                        ends[who as usize] = Some(*end);
                        left_alone.get_or_insert_with(Instant::now);
                        if who == Who::Evaluator
                            && !matches!(answer, Some(Outcome::Scored(_) | Outcome::Passed))
                        {
                            dismissed = Some(Instant::now());
                        }
                    }
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => break,
                }
                // One that is dying is let die: how it ended says more than the connection that broke.
                if dismissed.is_some_and(|since| since.elapsed() > DYING) {
                    stop_candidate.cancel();
                }
                let overstayed = left_alone.is_some_and(|since| since.elapsed() > LEAVE);
                if listener.stop.is_cancelled() || overstayed {
                    stop_candidate.cancel();
                    stop_evaluator.cancel();
                }
            }
        });
        if self.kill.is_cancelled() {
            return Ok(Execution::done(Outcome::Interrupted, Duration::ZERO));
        }
        let [Some(candidate), Some(evaluator)] = ends else {
            return Err(LaneError::new("run candidate and evaluator", "one of them never ended"));
        };
        let candidate = candidate.map_err(|error| LaneError::new("run the candidate", error))?;
        let evaluator = evaluator.map_err(|error| LaneError::new("run the evaluator", error))?;
        let cpu = candidate.cpu + evaluator.cpu;
        let stopped = listener.end(facts_of(&candidate));
        let end = stopped.unwrap_or_else(|| combine(answer, &candidate, &evaluator));
        Ok(Execution { end, cpu })
    }

    /// The candidate first, then the evaluator over what it left.
    fn measure_after(
        &self,
        candidate: Command,
        run: After<'_>,
        limits: &Limits,
        reading: &mut Reading<'_>,
        listener: &mut Listener<'_>,
    ) -> Result<Execution, LaneError> {
        let After { evaluator, wall, smoke, tree, arm } = run;
        let candidate = self.run_alone(candidate, limits, reading, listener)?;
        if let Some(end) = self.without_score(&candidate, listener) {
            return Ok(Execution { end, cpu: candidate.cpu });
        }
        // Before it is scored: an evaluator may rest on the fixed files of the copy.
        let mut passed = Outcome::Passed;
        self.check_copy(&mut passed, arm, tree);
        if passed != Outcome::Passed {
            return Ok(Execution::done(passed, candidate.cpu));
        }
        listener.tell(Sign::Phase(Phase::Evaluate));
        let mut answer = None;
        let limits = Limits { wall, ..Limits::default() };
        let stop = listener.stop.clone();
        let evaluator =
            process::run(evaluator, &limits, &stop, &mut |stream, line| match Message::parse(line) {
                Some(Message::Progress(progress)) => listener.tell(Sign::Progress(progress)),
                Some(message) if stream == Stream::Stdout => answer = message.outcome(),
                _ => listener.tell(Sign::Output(line.to_owned())),
            })
            .map_err(|error| LaneError::new("run the evaluator", error))?;
        let cpu = candidate.cpu + evaluator.cpu;
        if self.kill.is_cancelled() {
            return Ok(Execution::done(Outcome::Interrupted, cpu));
        }
        if let Some(end) = listener.end(facts_of(&candidate)) {
            return Ok(Execution { end, cpu });
        }
        match combine(answer, &candidate, &evaluator) {
            MeasureEnd::Done(Outcome::Scored(_)) if smoke => Ok(Execution::done(Outcome::Passed, cpu)),
            end => Ok(Execution { end, cpu }),
        }
    }

    fn run_alone(
        &self,
        command: Command,
        limits: &Limits,
        reading: &mut Reading<'_>,
        listener: &mut Listener<'_>,
    ) -> Result<Finished, LaneError> {
        let stop = listener.stop.clone();
        let mut hear = |_: Stream, line: &str| {
            reading.line(line);
            listener.tell(Sign::Output(line.to_owned()));
        };
        process::run(command, limits, &stop, &mut hear)
            .map_err(|error| LaneError::new("run the candidate", error))
    }

    /// How an execution ended whose candidate ended like this, if that leaves nothing to score.
    fn without_score(&self, finished: &Finished, listener: &Listener<'_>) -> Option<MeasureEnd> {
        if self.kill.is_cancelled() {
            return Some(MeasureEnd::Done(Outcome::Interrupted));
        }
        let stopped = listener.end(facts_of(finished));
        stopped.or_else(|| classify(finished).map(|invalid| MeasureEnd::Done(Outcome::Invalid(invalid))))
    }
}

/// What follows a candidate.
struct After<'a> {
    evaluator: Command,
    /// The evaluator's limit.
    wall: Option<Duration>,
    smoke: bool,
    /// Where the candidate ran.
    tree: &'a Path,
    arm: &'a Arm,
}

/// How an execution ended, and the processor time of its processes.
struct Execution {
    end: MeasureEnd,
    cpu: Duration,
}

impl Execution {
    fn done(outcome: Outcome, cpu: Duration) -> Execution {
        Execution { end: MeasureEnd::Done(outcome), cpu }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Candidate = 0,
    Evaluator = 1,
}

enum Told {
    Line(Who, Stream, String),
    Ended(Who, Box<Result<Finished, ProcessError>>),
}

/// Copies a file and has it on the disk before the ledger says that the build is done.
fn copy_synced(from: &Path, to: &Path) -> std::io::Result<()> {
    let partial = to.with_extension("partial");
    fs::copy(from, &partial)?;
    fs::File::open(&partial)?.sync_all()?;
    fs::rename(partial, to)
}

#[cfg(test)]
mod tests;
