//! What each tool does, without the protocol: it starts, looks, waits and offers. All of it may block.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use sprag_engine::proposer::inbox::{self, Parcel, Receipt, Waiting, Wanted};
use sprag_engine::proposer::{Offer, ProposerSpec};
use sprag_engine::record::{Effect, Outcome};
use sprag_engine::runner::{self, CheckReport, Layout};
use sprag_engine::task::Task;
use sprag_measure::process::Cancel;

use super::replies::{
    BriefText, CheckArgs, Checked, Gain, HistoryArgs, Listed, Mean, Next, ProposeArgs, Proposed, ShowArgs,
    Shown, StartArgs, Started, Status, SteerArgs, Steered, StopArgs, Stopped, TrialLine, WaitArgs, Waited,
};
use crate::commands::{Recorded, TaskArgs, check, diff, show, status, steer};
use crate::context::Context;
use crate::error;
use crate::report::model::{Estimate, Mark, TrialView};

/// How long a tool waits where nobody says otherwise; many clients give up after 60 s.
const PATIENCE: f64 = 45.0;
/// The longest that anybody may ask for.
const MOST_PATIENCE: f64 = 300.0;
/// How long a start is watched for refusing at once.
const FIRST_LOOK: Duration = Duration::from_millis(1500);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(100);
/// How long an offer waits to be taken.
const OFFERED: Duration = Duration::from_secs(20);
/// How long a stop is waited for.
const STOPPING: Duration = Duration::from_secs(10);
/// Trials in a list where nobody says otherwise.
const LISTED: usize = 30;

/// One task, and what this server carries on for its client.
pub struct Desk {
    context: Context,
    task: PathBuf,
    /// Proposers that the client may start, besides `inbox` and `search`.
    allowed: Vec<ProposerSpec>,
    allow_unsandboxed: bool,
    kill: Cancel,
    work: Mutex<Option<Work>>,
}

/// A run or a check on a thread of its own.
struct Work {
    what: &'static str,
    cancel: Cancel,
    kill: Cancel,
    thread: JoinHandle<()>,
    end: Arc<Mutex<Option<Result<Done, String>>>>,
}

/// What a thread leaves behind.
#[derive(Clone)]
enum Done {
    Run,
    Check(Box<CheckReport>),
}

const RUN: &str = "run";
const CHECK: &str = "check";

/// What a run does now.
enum Standing {
    /// There is none yet.
    None,
    /// A proposal is wanted.
    Wanted(Waiting),
    /// A program carries it on.
    Running,
    /// Nobody does.
    Stopped,
    /// It ended.
    Finished(String),
}

impl Desk {
    /// `kill` ends what is carried on.
    pub fn new(
        context: Context,
        task: PathBuf,
        allowed: Vec<ProposerSpec>,
        allow_unsandboxed: bool,
        kill: Cancel,
    ) -> Desk {
        Desk { context, task, allowed, allow_unsandboxed, kill, work: Mutex::default() }
    }

    /// Ends what is carried on, at once, and waits for it.
    pub fn close(&self) {
        self.kill.cancel();
        if let Some(work) = self.work().take() {
            work.cancel.cancel();
            // A thread that panicked has nothing to tell any more.
            let _ = work.thread.join();
        }
    }

    /// See the tool.
    pub fn start(&self, args: StartArgs) -> Result<Started, String> {
        let mut work = self.work();
        if let Some(busy) = work.as_ref().filter(|work| !work.thread.is_finished()) {
            return Err(format!("a {} is under way; `wait` for it, or `stop` it first", busy.what));
        }
        let proposers = self.proposers(&args.proposers)?;
        let task = self.load_task()?;
        let resumed = !args.new && runner::load(&task.dir, None).is_ok();
        let mut setup = self.context.setup(task, None).map_err(told)?;
        for proposer in &proposers {
            proposer.check(&setup.environment, &setup.asking).map_err(|error| error.to_string())?;
        }
        self.context.wall_in(&mut setup, self.allow_unsandboxed).map_err(told)?;
        let names = proposers.iter().map(ToString::to_string).collect();
        setup.proposers = proposers;
        setup.new_run = args.new;
        setup.seed = 1;
        setup.max_trials = args.trials.filter(|trials| *trials > 0);
        setup.max_seconds = args.minutes.filter(|minutes| *minutes > 0.0).map(|minutes| minutes * 60.0);
        let (cancel, kill) = (Cancel::default(), self.kill.below());
        (setup.cancel, setup.kill) = (cancel.clone(), kill.clone());
        *work = Some(Work::begin(RUN, cancel, kill, move || {
            runner::run(setup, &mut ()).map(|_| Done::Run).map_err(|error| told(error.into()))
        })?);
        drop(work);
        let began = Instant::now();
        while began.elapsed() < FIRST_LOOK {
            if let Some(Err(why)) = self.ended(RUN) {
                // Told here, and not again by the next `wait`.
                *self.work() = None;
                return Err(why);
            }
            std::thread::sleep(LOOK);
        }
        let next = "call `wait`: the baseline is measured before anything is proposed";
        Ok(Started { resumed, proposers: names, next: go_on(next) })
    }

    fn proposers(&self, names: &[String]) -> Result<Vec<ProposerSpec>, String> {
        if names.is_empty() {
            return Ok(vec![ProposerSpec::Inbox]);
        }
        let mut allowed = vec![ProposerSpec::Inbox, ProposerSpec::Search];
        allowed.extend(self.allowed.iter().cloned());
        let find = |name: &String| {
            let known: Vec<String> = allowed.iter().map(|spec| format!("`{spec}`")).collect();
            let spec = allowed.iter().find(|spec| spec.to_string() == *name).cloned();
            spec.ok_or_else(|| {
                format!(
                    "the proposer `{name}` is not allowed here; there are {}. The person who starts this server allows \
                     others with `sprag mcp --proposer`",
                    known.join(", ")
                )
            })
        };
        names.iter().map(find).collect()
    }

    /// See the tool.
    pub fn status(&self) -> Result<Status, String> {
        let task = self.load_task()?;
        let better = task.metric.direction.word().to_owned();
        let (standing, next) = self.standing_of(&task);
        let empty = Status {
            task: task.name.clone(),
            run: None,
            standing: standing.word().to_owned(),
            metric: task.metric.name.clone(),
            better,
            baseline: None,
            tip: None,
            gain: None,
            certified: None,
            trials: 0,
            text: "there is no run yet".to_owned(),
            next,
        };
        let Ok(Recorded { state, page, .. }) = self.recorded() else { return Ok(empty) };
        let headline = page.headline.as_ref();
        let running = status::is_running(&Layout::of(&task.dir));
        let runs = runner::runs(&task.dir).len();
        Ok(Status {
            run: Some(page.run.clone()),
            baseline: headline.map(|headline| mean(&headline.baseline)),
            tip: headline.map(|headline| headline.tip),
            gain: headline.and_then(|headline| headline.gain).map(|gain| Gain {
                estimate: gain.estimate,
                low: gain.low,
                high: gain.high,
                n: gain.n,
            }),
            certified: page.certified,
            trials: page.counts.total(),
            text: status::lines(&page, &state, running, runs).join("\n"),
            ..empty
        })
    }

    /// See the tool.
    pub fn history(&self, args: &HistoryArgs) -> Result<Listed, String> {
        let Recorded { state, page, .. } = self.recorded()?;
        if let Some(outcome) = &args.outcome
            && !Mark::ALL.iter().any(|mark| mark.class() == outcome)
        {
            let known: Vec<&str> = Mark::ALL.iter().map(|mark| mark.class()).collect();
            return Err(format!("`{outcome}` is no outcome; there are {}", known.join(", ")));
        }
        let wanted =
            |trial: &&TrialView| args.outcome.as_deref().is_none_or(|outcome| trial.mark.class() == outcome);
        let all: Vec<&TrialView> = page.trials.iter().rev().filter(wanted).collect();
        let limit = args.limit.unwrap_or(LISTED);
        let line = |trial: &&TrialView| {
            let told = state.trial(trial.id);
            let effect = told.and_then(|trial| trial.effect()).filter(|effect| effect.sigma > 0.0);
            TrialLine {
                trial: trial.id,
                outcome: trial.mark.class().to_owned(),
                title: trial.title.clone(),
                family: trial.family.clone(),
                proposer: trial.proposer.clone(),
                gain_in_sigma: effect.map(|effect| effect.gain / effect.sigma),
                lesson: told.and_then(|trial| trial.lesson.clone()).or_else(|| trial.reason.clone()),
            }
        };
        let trials: Vec<TrialLine> = all.iter().take(limit).map(line).collect();
        Ok(Listed { left_out: all.len() - trials.len(), trials })
    }

    /// See the tool.
    pub fn show(&self, args: &ShowArgs) -> Result<Shown, String> {
        let recorded = self.recorded()?;
        let page = &recorded.page;
        let trial = page.trials.get(args.trial as usize);
        let trial = trial.ok_or_else(|| told(show::no_trial(args.trial, page).into()))?;
        // A trial that never came to a proposal has no diff, and all else can still be shown.
        let diff = diff::of(&recorded, Some(args.trial), &self.context).map(|(_, _, diff)| diff);
        Ok(Shown { text: show::lines(trial, page, false).join("\n"), diff: diff.unwrap_or_default() })
    }

    /// See the tool.
    pub fn brief(&self) -> Result<BriefText, String> {
        let task = self.load_task()?;
        let (standing, next) = self.standing_of(&task);
        let read = |path: &std::path::Path| {
            std::fs::read_to_string(path)
                .map_err(|cause| format!("cannot read the brief: {cause}; call `wait`"))
        };
        if let Standing::Wanted(waiting) = standing {
            let text = read(&waiting.brief)?;
            let wanted = match waiting.wanted {
                Wanted::Proposal => "proposal",
                Wanted::Repair => "repair",
                Wanted::SecondThought => "second_thought",
            };
            return Ok(BriefText {
                trial: waiting.trial,
                wanted: wanted.to_owned(),
                text,
                next: go_on("call `propose` with what the brief asks for"),
            });
        }
        let Recorded { state, page, .. } = self.recorded()?;
        let briefed = state.trials.iter().rev().find(|trial| trial.brief.is_some());
        let trial =
            briefed.ok_or("there is no brief yet: one is written when a proposal is wanted; call `wait`")?.id;
        let text = read(&Layout::of(&task.dir).brief_of(&page.run, trial))?;
        Ok(BriefText { trial, wanted: "nothing".to_owned(), text, next })
    }

    /// See the tool.
    pub fn check(&self, args: &CheckArgs) -> Result<Checked, String> {
        let mut work = self.work();
        let idle = work.as_ref().is_none_or(|work| work.what != CHECK);
        if work.as_ref().is_some_and(|work| work.what == RUN && !work.thread.is_finished()) {
            return Err(
                "a run is under way, and one program at a time works on a task; `stop` it first".into()
            );
        }
        if idle {
            let mut setup = self.context.setup(self.load_task()?, None).map_err(told)?;
            self.context.wall_in(&mut setup, self.allow_unsandboxed).map_err(told)?;
            let (cancel, kill) = (Cancel::default(), self.kill.below());
            (setup.cancel, setup.kill) = (cancel.clone(), kill.clone());
            *work = Some(Work::begin(CHECK, cancel, kill, move || {
                let report = runner::check(setup, &mut ()).map_err(|error| told(error.into()))?;
                Ok(Done::Check(Box::new(report)))
            })?);
        }
        drop(work);
        let until = Instant::now() + patience(args.seconds);
        while Instant::now() < until {
            if let Some(end) = self.ended(CHECK) {
                *self.work() = None;
                let Done::Check(report) = end? else { return Err("the check left no report".into()) };
                return Ok(checked(&report));
            }
            std::thread::sleep(LOOK);
        }
        Ok(Checked {
            done: false,
            promising: None,
            score: None,
            gain: None,
            text: "the check goes on".to_owned(),
            next: "call `check` again for the result".to_owned(),
        })
    }

    /// See the tool.
    pub fn propose(&self, args: ProposeArgs) -> Result<Proposed, String> {
        let task = self.load_task()?;
        let (standing, next) = self.standing_of(&task);
        let Standing::Wanted(_) = standing else {
            let refused = Some("no proposal is wanted now".to_owned());
            return Ok(Proposed { accepted: false, trial: None, refused, next });
        };
        let filled = |text: String| Some(text).filter(|text| !text.trim().is_empty());
        let offer = Offer {
            title: filled(args.title),
            hypothesis: filled(args.hypothesis),
            family: filled(args.family),
            expected_gain: args.expected_gain,
            lesson: args.lesson.and_then(filled),
            idea: args.idea,
            edits: args.edits,
            exhausted: None,
        };
        let parcel = Parcel { offer, patch: args.patch.and_then(filled) };
        let inbox = self.inbox(&task)?;
        let receipt = inbox::offer(&inbox, &parcel, OFFERED)
            .map_err(|cause| format!("cannot write the offer: {cause}"))?;
        Ok(match receipt {
            Some(Receipt::Accepted(trial)) => Proposed {
                accepted: true,
                trial: Some(trial),
                refused: None,
                next: go_on(&format!("call `wait` with trial {trial} until its verdict is there")),
            },
            Some(Receipt::Refused(why)) => Proposed {
                accepted: false,
                trial: None,
                refused: Some(why),
                next: go_on("mend the proposal and call `propose` again; no trial was spent"),
            },
            None => {
                let refused = Some("nobody took the proposal; the run may have moved on".to_owned());
                Proposed { accepted: false, trial: None, refused, next: go_on("call `wait`, then `brief`") }
            }
        })
    }

    /// See the tool.
    pub fn wait(&self, args: &WaitArgs) -> Result<Waited, String> {
        let task = self.load_task()?;
        let until = Instant::now() + patience(args.seconds);
        loop {
            if let Some(Err(why)) = self.ended(RUN) {
                // Told once: a new start has a new end.
                *self.work() = None;
                return Err(why);
            }
            let (standing, next) = self.standing_of(&task);
            let recorded = self.recorded().ok();
            let decided = |trial: u32| {
                let page = &recorded.as_ref()?.page;
                page.trials.get(trial as usize).filter(|trial| trial.mark != Mark::Open)
            };
            let event = match (&standing, args.trial.map(decided)) {
                (_, Some(Some(_))) => Some("verdict"),
                // A build that is to be mended comes before its verdict.
                (Standing::Wanted(_), _) => Some("proposal_wanted"),
                (Standing::Running, _) => None,
                (Standing::None | Standing::Stopped | Standing::Finished(_), _) => Some("ended"),
            };
            let late = Instant::now() >= until;
            if event.is_none() && !late {
                self.until_change(&task, until);
                continue;
            }
            let last = match args.trial.and_then(decided) {
                Some(trial) => Some(trial),
                None => recorded.as_ref().and_then(|recorded| {
                    let decided = recorded.state.trials.iter().filter(|trial| trial.decision.is_some());
                    let last = decided.max_by_key(|trial| trial.decision)?.id;
                    recorded.page.trials.get(last as usize)
                }),
            };
            let next = if event.is_none() { go_on("nothing happened yet: call `wait` again") } else { next };
            let text = last.and_then(|trial| trial.reason.clone()).unwrap_or_else(|| standing.text());
            return Ok(Waited {
                event: event.unwrap_or("nothing_yet").to_owned(),
                trial: last.map(|trial| trial.id),
                outcome: last.map(|trial| trial.mark.class().to_owned()),
                gain: last
                    .and_then(|trial| recorded.as_ref()?.state.trial(trial.id)?.effect())
                    .map(|effect| gain(&effect)),
                text,
                next,
            });
        }
    }

    /// See the tool.
    pub fn steer(&self, args: &SteerArgs) -> Result<Steered, String> {
        let (run, note) = steer::put(&self.load_task()?, None, Some(&args.note)).map_err(told)?;
        Ok(Steered { run, note })
    }

    /// See the tool.
    pub fn stop(&self, args: &StopArgs) -> Result<Stopped, String> {
        let task = self.load_task()?;
        let mut work = self.work();
        let Some(under_way) = work.as_ref().filter(|work| !work.thread.is_finished()) else {
            let elsewhere = status::is_running(&Layout::of(&task.dir));
            return Err(match elsewhere {
                true => "another program carries the run on: a person stops it there with Ctrl-C".to_owned(),
                false => "nothing is under way; `start` begins or resumes a run".to_owned(),
            });
        };
        under_way.cancel.cancel();
        if args.now {
            under_way.kill.cancel();
        }
        let until = Instant::now() + STOPPING;
        while !under_way.thread.is_finished() && Instant::now() < until {
            std::thread::sleep(LOOK);
        }
        let stopped = under_way.thread.is_finished();
        if stopped {
            *work = None;
        }
        let next = match stopped {
            true => "everything recorded stays; `start` resumes the run",
            false => "the step under way is finished first; call `stop` again, or with `now` to lose it",
        };
        Ok(Stopped { stopped, next: Next { r#continue: false, next: next.to_owned() } })
    }

    fn work(&self) -> MutexGuard<'_, Option<Work>> {
        // What lies behind the lock is whole, whoever panicked while holding it.
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How the last work of that kind ended, if it did.
    fn ended(&self, what: &str) -> Option<Result<Done, String>> {
        let work = self.work();
        let work = work.as_ref().filter(|work| work.what == what && work.thread.is_finished())?;
        let end = work.end.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Some(end.unwrap_or_else(|| Err(format!("the {what} broke down; `start` resumes what was recorded"))))
    }

    /// Waits until something moves, without reading the ledger: what is being measured must not be disturbed.
    fn until_change(&self, task: &Task, until: Instant) {
        let layout = Layout::of(&task.dir);
        let latest = runner::runs(&task.dir).pop();
        let look = || {
            let length = |run: &String| layout.ledger(run).metadata().map(|found| found.len()).ok();
            let waiting = latest.as_ref().and_then(|run| inbox::waiting(&layout.inbox(run)));
            (latest.as_ref().and_then(length), waiting, self.busy() || status::is_running(&layout))
        };
        let (before, began) = (look(), Instant::now());
        // Another run may have begun meanwhile.
        while look() == before && began.elapsed() < FIRST_LOOK && Instant::now() < until {
            std::thread::sleep(LOOK);
        }
    }

    fn load_task(&self) -> Result<Task, String> {
        self.context.task(&self.task).map_err(told)
    }

    fn recorded(&self) -> Result<Recorded, String> {
        Recorded::load(&self.context, &TaskArgs { task: self.task.clone(), run: None }).map_err(told)
    }

    fn inbox(&self, task: &Task) -> Result<PathBuf, String> {
        let (state, _) = runner::load(&task.dir, None).map_err(|error| told(error.into()))?;
        let run = state.run.map(|run| run.run).unwrap_or_default();
        Ok(Layout::of(&task.dir).inbox(&run))
    }

    /// What the latest run does, and what its client does now.
    fn standing_of(&self, task: &Task) -> (Standing, Next) {
        let Ok((state, _)) = runner::load(&task.dir, None) else {
            let next = if self.busy() { go_on("call `wait`") } else { over("call `start`") };
            return (if self.busy() { Standing::Running } else { Standing::None }, next);
        };
        let layout = Layout::of(&task.dir);
        let run = state.run.as_ref().map(|run| run.run.clone()).unwrap_or_default();
        if self.busy() || status::is_running(&layout) {
            return match inbox::waiting(&layout.inbox(&run)) {
                Some(waiting) => {
                    let next = propose(&waiting);
                    (Standing::Wanted(waiting), next)
                }
                None => (Standing::Running, go_on("call `wait`")),
            };
        }
        match state.finished {
            Some(reason) => {
                let next = over(
                    "the run is over: tell the person what `status` says; `sprag certify` and `sprag merge` are theirs, and \
                     `start` with more trials goes on",
                );
                (Standing::Finished(reason), next)
            }
            None => {
                (Standing::Stopped, over("the run is stopped: `start` resumes it, if the person wants that"))
            }
        }
    }

    fn busy(&self) -> bool {
        self.work().as_ref().is_some_and(|work| work.what == RUN && !work.thread.is_finished())
    }
}

impl Work {
    fn begin(
        what: &'static str,
        cancel: Cancel,
        kill: Cancel,
        act: impl FnOnce() -> Result<Done, String> + Send + 'static,
    ) -> Result<Work, String> {
        let end = Arc::new(Mutex::new(None));
        let place = Arc::clone(&end);
        let thread = std::thread::Builder::new().name(what.to_owned()).spawn(move || {
            let done = act();
            *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(done);
        });
        let thread = thread.map_err(|cause| format!("cannot start a thread: {cause}"))?;
        Ok(Work { what, cancel, kill, thread, end })
    }
}

impl Standing {
    fn word(&self) -> &'static str {
        match self {
            Standing::None => "none",
            Standing::Wanted(_) => "waiting_for_proposal",
            Standing::Running => "running",
            Standing::Stopped => "stopped",
            Standing::Finished(_) => "finished",
        }
    }

    fn text(&self) -> String {
        match self {
            Standing::Finished(reason) => format!("finished: {reason}"),
            other => other.word().replace('_', " "),
        }
    }
}

fn go_on(next: &str) -> Next {
    Next { r#continue: true, next: next.to_owned() }
}

fn over(next: &str) -> Next {
    Next { r#continue: false, next: next.to_owned() }
}

/// What a client does that is asked for something.
fn propose(waiting: &Waiting) -> Next {
    let trial = waiting.trial;
    go_on(&match waiting.wanted {
        Wanted::Proposal => format!("call `brief`, then `propose` a change for trial {trial}"),
        Wanted::Repair => {
            format!(
                "trial {trial} does not build: call `brief` for the error, then `propose` edits that mend it"
            )
        }
        Wanted::SecondThought => format!(
            "trial {trial} is nearly an earlier one: call `brief`, then `propose` edits that make it something else, or \
             none and a hypothesis that says why it should end differently"
        ),
    })
}

fn patience(asked: Option<f64>) -> Duration {
    let asked = asked.filter(|seconds| seconds.is_finite()).unwrap_or(PATIENCE);
    Duration::from_secs_f64(asked.clamp(0.0, MOST_PATIENCE))
}

fn mean(estimate: &Estimate) -> Mean {
    Mean { mean: estimate.mean, sd: estimate.sd, n: estimate.n }
}

fn gain(effect: &Effect) -> Gain {
    let n = effect.runs.max(1) as usize;
    Gain { estimate: effect.gain, low: effect.low, high: effect.high, n }
}

fn checked(report: &CheckReport) -> Checked {
    let score = match &report.outcome {
        Outcome::Scored(score) => Some(score.value),
        _ => None,
    };
    let next = match (score, report.promising) {
        (None, _) => "mend what the text says, then check again",
        (Some(_), true) => "promising: propose it in a run, where repeats decide",
        (Some(_), false) => "not worth running again: try something else",
    };
    Checked {
        done: true,
        promising: report.effect.as_ref().map(|_| report.promising),
        score,
        gain: report.effect.as_ref().map(gain),
        text: check::lines(report).join("\n"),
        next: next.to_owned(),
    }
}

fn told(error: anyhow::Error) -> String {
    error::lines(&error).join("; ")
}
