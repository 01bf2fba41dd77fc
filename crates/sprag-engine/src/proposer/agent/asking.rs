//! One asking: the agent is started, heard, stopped where it must be, and started again where it can help.

use std::ffi::OsString;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use sprag_measure::process::{self, Cancel, Command, End, Limits, Stdin, Stream};

use super::acp::Client;
use super::stream::Heard;
use super::{AgentKind, AgentSpec, Places};
use crate::proposer::{AskingLimits, Brief, Declined, Proposal, Proposer, answer, brief};
use crate::record::Spending;
use crate::repo::{ChangeKind, remove_all};

/// Starts of an agent within one asking.
const STARTS: u32 = 3;
/// First wait for a model that is busy; it doubles.
const FIRST_WAIT: Duration = Duration::from_secs(10);
/// Longest wait at a time where no time is told.
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// Output after which an agent is stopped.
const OUTPUT_BYTES: u64 = 256 << 20;

/// The proposer.
pub struct AgentProposer {
    pub(in crate::proposer) name: String,
    pub(in crate::proposer) spec: AgentSpec,
    pub(in crate::proposer) environment: Vec<(OsString, OsString)>,
    pub(in crate::proposer) limits: AskingLimits,
    pub(in crate::proposer) spent: Option<Spending>,
}

/// How one start ended.
enum Started {
    /// It changed something.
    Changed,
    /// It may do better when it is told this.
    Again(String),
    /// The model is busy.
    Busy(Option<u64>, String),
    /// It is of no use to start it once more.
    Over(String),
}

impl Proposer for AgentProposer {
    fn name(&self) -> &str {
        &self.name
    }

    fn can_repair(&self) -> bool {
        true
    }

    fn can_reconsider(&self) -> bool {
        true
    }

    fn spent(&mut self) -> Option<Spending> {
        self.spent.take()
    }

    fn propose(&mut self, brief: &Brief<'_>) -> Result<Proposal, Declined> {
        let began = Instant::now();
        self.spent = Some(Spending::default());
        let result = self.ask(brief, began);
        if let Some(spent) = &mut self.spent {
            spent.seconds = began.elapsed().as_secs_f64();
        }
        result
    }
}

impl AgentProposer {
    fn ask(&mut self, brief: &Brief<'_>, began: Instant) -> Result<Proposal, Declined> {
        let told = brief::tell(brief, brief::Reader::Files)?;
        let (mut note, mut wait, mut start) = (None::<String>, FIRST_WAIT, 0);
        loop {
            let Some(left) = self.limits.agent_timeout.checked_sub(began.elapsed()) else {
                return Err(Declined::Failed(self.too_long(note.as_deref())));
            };
            match self.start(brief, note.as_deref(), left, start)? {
                Started::Changed => return answer::read(brief)?.into_proposal(brief, &told.open),
                Started::Over(why) => return Err(Declined::Failed(why)),
                Started::Busy(told, why) => {
                    let pause = told.map_or(wait, Duration::from_secs);
                    wait = (wait * 2).min(LONGEST_WAIT);
                    if pause >= self.limits.agent_timeout.saturating_sub(began.elapsed()) {
                        return Err(Declined::Failed(format!("its model is busy: {why}")));
                    }
                    if brief.cancel.sleep(pause) {
                        return Err(Declined::Failed("stopped while its model was busy".into()));
                    }
                }
                Started::Again(why) => {
                    start += 1;
                    if start >= STARTS {
                        return Err(Declined::Failed(format!("after {start} starts: {why}")));
                    }
                    note = Some(why);
                }
            }
            clean(brief)?;
        }
    }

    fn too_long(&self, last: Option<&str>) -> String {
        let limit = self.limits.agent_timeout.as_secs();
        match last {
            Some(last) => format!("it took longer than {limit} s; before that: {last}"),
            None => format!("it took longer than {limit} s"),
        }
    }

    /// Starts the agent once and looks at what it did.
    fn start(
        &mut self,
        brief: &Brief<'_>,
        note: Option<&str>,
        left: Duration,
        start: u32,
    ) -> Result<Started, Declined> {
        let places = Places {
            brief_dir: brief.brief_dir,
            mutable: brief
                .task
                .files
                .mutable_in(brief.worktree)
                .map_err(|cause| Declined::Failed(format!("list the mutable files: {cause}")))?
                .into_iter()
                .map(|path| brief.worktree.join(path))
                .collect(),
        };
        let prompt = prompt(brief, note);
        let command = Command::new(self.spec.kind.program(), brief.worktree)
            .args(self.spec.arguments(&prompt, &places));
        let command = with_environment(command, &self.environment, brief);
        let limits = Limits {
            wall: Some(left),
            silence: Some(self.limits.stall),
            output_bytes: Some(OUTPUT_BYTES),
            gentle: Duration::from_secs(5),
            ..Limits::default()
        };
        let earlier = brief.state.spent.plus(self.spent.unwrap_or_default());
        let mut hearing = Hearing {
            kind: self.spec.kind.clone(),
            heard: Heard::default(),
            client: None,
            last: String::new(),
            stop: brief.cancel.below(),
            earlier,
            limits: self.limits.clone(),
            over: None,
        };
        let command = match &self.spec.kind {
            AgentKind::Acp(_) => hearing.connect(command, brief, &prompt)?,
            _ => command,
        };
        let stop = hearing.stop.clone();
        let finished = process::run(command, &limits, &stop, &mut |stream, line| hearing.line(stream, line));
        if let Some(spent) = &mut self.spent {
            *spent = spent.plus(hearing.heard.spent());
        }
        let finished = finished.map_err(|cause| Declined::Failed(cause.to_string()))?;
        for (name, tail) in [("stdout", &finished.stdout), ("stderr", &finished.stderr)] {
            let _ = std::fs::write(brief.brief_dir.join(format!("agent-{start}.{name}.log")), tail.text());
        }
        if brief.cancel.is_cancelled() {
            return Ok(Started::Over("stopped".into()));
        }
        Ok(hearing.judge(finished.end, changed(brief), brief))
    }
}

/// What is listened to while an agent runs.
struct Hearing {
    kind: AgentKind,
    heard: Heard,
    client: Option<(Client, UnixStream)>,
    /// The last line of its standard error.
    last: String,
    stop: Cancel,
    /// What the whole run spent before.
    earlier: Spending,
    limits: AskingLimits,
    /// The limit of the run that it ran into.
    over: Option<String>,
}

impl Hearing {
    /// Joins an agent that is talked to, and says the first word.
    fn connect(&mut self, command: Command, brief: &Brief<'_>, prompt: &str) -> Result<Command, Declined> {
        let (ours, theirs) =
            UnixStream::pair().map_err(|cause| Declined::Failed(format!("make a socket: {cause}")))?;
        let (client, first) = Client::new(brief, prompt);
        self.client = Some((client, ours));
        self.say(vec![first]);
        Ok(command.stdin(Stdin::Socket(OwnedFd::from(theirs))))
    }

    fn line(&mut self, stream: Stream, line: &str) {
        if stream == Stream::Stderr {
            if !line.trim().is_empty() {
                self.last = line.trim().chars().take(300).collect();
            }
            self.heard.complaint(line);
            return;
        }
        match &mut self.client {
            Some((client, _)) => {
                let answers = client.line(line, &mut self.heard);
                let ended = client.ended();
                self.say(answers);
                if ended {
                    self.stop.cancel();
                }
            }
            None => self.heard.line(&self.kind, line),
        }
        let all = self.earlier.plus(self.heard.spent());
        if let Some(limit) = self.limits.reached(all) {
            self.over = Some(limit);
            self.stop.cancel();
        }
    }

    fn say(&mut self, lines: Vec<String>) {
        let Some((_, socket)) = &mut self.client else { return };
        for line in lines {
            // An agent that is gone does not listen; how it ended is seen elsewhere.
            let _ = writeln!(socket, "{line}");
        }
    }

    fn judge(self, end: End, changed: bool, brief: &Brief<'_>) -> Started {
        if let Some(limit) = self.over {
            return Started::Over(limit);
        }
        let spoke = self.client.as_ref().is_some_and(|(client, _)| client.ended());
        let ended_well = end == End::Exited(0) || spoke;
        let why = self.heard.failure.clone().filter(|why| !why.trim().is_empty());
        if !ended_well || why.is_some() {
            let why = why.unwrap_or_else(|| match self.last.is_empty() {
                true => format!("it {end}"),
                false => format!("it {end}: {}", self.last),
            });
            return match (self.heard.busy, end) {
                (Some(told), _) => Started::Busy(told, short(&why)),
                (None, End::TimedOut) => {
                    Started::Over(format!("it took longer than {} s", self.limits.agent_timeout.as_secs()))
                }
                (None, End::Silent) => Started::Again(format!(
                    "you said nothing for {} s and were stopped",
                    self.limits.stall.as_secs()
                )),
                // A change of a dying agent may be half of one.
                _ => Started::Again(format!("you ended with an error: {}", short(&why))),
            };
        }
        let exhausted = answer::read(brief).ok().and_then(|answer| answer.exhausted);
        match (changed, exhausted) {
            (_, Some(why)) => Started::Again(format!(
                "you said that nothing is left to try ({}); find another family of ideas",
                short(&why)
            )),
            (true, None) => Started::Changed,
            (false, None) => {
                let said =
                    self.heard.said.map(|said| format!(" and said: {}", short(&said))).unwrap_or_default();
                Started::Again(format!(
                    "you changed no file that may change{said}. Nobody answers questions: decide and edit"
                ))
            }
        }
    }
}

/// The user's environment, without what would lead git elsewhere.
pub(super) fn with_environment(
    mut command: Command,
    environment: &[(OsString, OsString)],
    brief: &Brief<'_>,
) -> Command {
    command.env = environment.to_vec();
    command
        .env
        .retain(|(name, _)| !["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"].iter().any(|git| name == git));
    command
        .env("SPRAG_BRIEF", brief.brief_dir.join("brief.md"))
        .env("SPRAG_BRIEF_DIR", brief.brief_dir)
        .env("SPRAG_TASK", &brief.task.dir)
        .env("SPRAG_TRIAL", brief.trial.to_string())
}

/// The prompt is short: what there is to know stands in the brief.
fn prompt(brief: &Brief<'_>, note: Option<&str>) -> String {
    let paths: Vec<String> = brief.task.files.mutable.patterns().map(|path| format!("`{path}`")).collect();
    let mut text = format!(
        "You propose one change to the program in the current folder; a loop around you builds it, runs it and judges \
         it. First read the brief, {}. Then edit {} and nothing else: one idea, carried out completely. Then write {} \
         as the brief says, and stop. Do not run the program, do not commit, do not ask: nobody is there to answer.",
        brief.brief_dir.join("brief.md").display(),
        paths.join(", "),
        brief.brief_dir.join(answer::FILE).display(),
    );
    if let Some(note) = note {
        text.push_str(" The last time ");
        text.push_str(note);
        text.push('.');
    }
    text
}

fn short(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut cut: String = line.chars().filter(|c| !c.is_control()).take(200).collect();
    if cut.len() < line.len() {
        cut.push_str("...");
    }
    cut
}

/// True when there is something to try: a file that differs from what the agent was given, whether it may or not,
/// which others judge, or a proposal that it was asked to think over and lets stand.
fn changed(brief: &Brief<'_>) -> bool {
    let changes = brief.repo.changes(brief.worktree, brief.from).unwrap_or_default();
    brief.note.is_some() || changes.iter().any(|change| change.kind != ChangeKind::Ignored)
}

/// A new worktree in the place of the old one, and no answer beside the brief.
fn clean(brief: &Brief<'_>) -> Result<(), Declined> {
    let failed = |cause: &dyn std::fmt::Display| Declined::Failed(format!("make a clean worktree: {cause}"));
    let stale: PathBuf = brief.brief_dir.join(answer::FILE);
    remove_all(&stale).map_err(|cause| failed(&cause))?;
    brief.repo.worktree_add(brief.worktree, brief.from).map_err(|cause| failed(&cause))
}
