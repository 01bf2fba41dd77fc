//! Proposers: who edits a worktree so that there is something to try.
//!
//! A proposer may be wrong or hostile: what it did is read from the worktree by [`admit`], never from what it
//! says. Building and judging belong to others.

pub mod brief;
pub mod content;
pub mod hypotheses;
pub mod inbox;

mod admission;
mod agent;
mod answer;
mod chat;
mod command;
mod edits;
mod knobs;
mod mix;
mod offer;
mod optuna;
mod patches;
mod search;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sprag_measure::process::Cancel;

pub use admission::{Admitted, admit, content_of};
pub use agent::{AgentKind, AgentSpec, agent_names, find_program, found_agents};
pub use answer::FILE as ANSWER;
pub use chat::{ChatSpec, LOG as CHAT_LOG};
pub use edits::Edit;
pub use offer::Offer;
pub use optuna::OptunaSpec;

use crate::record::{Spending, TrialId};
use crate::repo::Repo;
use crate::state::State;
use crate::task::{Task, nearest};

/// All that a proposer may know.
#[derive(Clone, Copy)]
pub struct Brief<'a> {
    /// The task.
    pub task: &'a Task,
    /// What the ledger says so far.
    pub state: &'a State,
    /// The trial that needs a proposal.
    pub trial: TrialId,
    /// Seed of the run.
    pub seed: u64,
    /// The commit that the worktree is a checkout of: the incumbent, or the proposal to repair or to think over.
    pub from: &'a str,
    /// Its checkout, to be edited. New at every asking.
    pub worktree: &'a Path,
    /// Where files for programs that propose may be written; new at every asking.
    pub brief_dir: &'a Path,
    /// The ticked copy of the task's `hypotheses.md`.
    pub hypotheses: &'a Path,
    /// Error of the last build, when it is to be repaired.
    pub repair: Option<&'a str>,
    /// What is to be said of its own proposal before it runs: then the worktree holds that proposal.
    pub note: Option<&'a str>,
    /// What the person who runs this wants of proposers.
    pub steering: Option<&'a str>,
    /// Facts about the machine.
    pub machine: &'a BTreeMap<String, String>,
    /// The task's repository.
    pub repo: &'a Repo,
    /// Where other programs put proposals for [`inbox`].
    pub inbox: &'a Path,
    /// Asked when the run is to stop after the step under way: who only waits need not wait on.
    pub stop: &'a Cancel,
    /// Stops a proposer that takes long.
    pub cancel: &'a Cancel,
}

/// What was changed, in words.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Proposal {
    /// One line.
    pub title: String,
    /// What is expected, and why.
    pub hypothesis: Option<String>,
    /// The family of ideas it belongs to.
    pub family: Option<String>,
    /// The open line of `hypotheses.md` that it tries.
    pub idea: Option<String>,
    /// The gain that it expects, in units of the metric, positive when better.
    pub expected_gain: Option<f64>,
    /// What its proposer learned from the last decided trial.
    pub lesson: Option<String>,
}

impl Proposal {
    /// What is said here, and what is not said here as it was said before.
    #[must_use]
    pub fn or_else(self, earlier: Proposal) -> Proposal {
        Proposal {
            title: if self.title.is_empty() { earlier.title } else { self.title },
            hypothesis: self.hypothesis.or(earlier.hypothesis),
            family: self.family.or(earlier.family),
            idea: self.idea.or(earlier.idea),
            expected_gain: self.expected_gain.or(earlier.expected_gain),
            lesson: self.lesson.or(earlier.lesson),
        }
    }
}

/// Why there is no proposal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Declined {
    /// Nothing is left to propose.
    Exhausted(String),
    /// This one failed; the next may not.
    Failed(String),
    /// The run was asked to stop while nothing had come of it: the trial is asked for again when it goes on.
    Stopped,
}

/// Edits a worktree.
pub trait Proposer {
    /// Its name in the ledger.
    fn name(&self) -> &str;
    /// Edits the worktree and says what it did.
    fn propose(&mut self, brief: &Brief<'_>) -> Result<Proposal, Declined>;
    /// What the last asking cost, asked for once after each; `None` from proposers that cost nothing.
    fn spent(&mut self) -> Option<Spending> {
        None
    }
    /// True when it can mend what it proposed after a failed build.
    fn can_repair(&self) -> bool;
    /// True when it may change its mind about a proposal when it is told of an earlier trial that is nearly the same. A
    /// script would only make its change once more on top of it.
    fn can_reconsider(&self) -> bool {
        false
    }
    /// True when it has a fixed number of proposals: then many rejected in a row do not mean that it goes in
    /// circles.
    fn is_counted(&self) -> bool {
        false
    }
}

/// What proposers may spend.
#[derive(Clone, Debug, PartialEq)]
pub struct AskingLimits {
    /// US dollars of the whole run.
    pub max_usd: Option<f64>,
    /// Tokens read and written in the whole run.
    pub max_tokens: Option<u64>,
    /// Time of one asking of an agent or a model.
    pub agent_timeout: Duration,
    /// Time without a word after which an agent is started again.
    pub stall: Duration,
}

impl Default for AskingLimits {
    fn default() -> Self {
        let (agent_timeout, stall) = (Duration::from_secs(1800), Duration::from_secs(600));
        AskingLimits { max_usd: None, max_tokens: None, agent_timeout, stall }
    }
}

impl AskingLimits {
    /// The limit of the run that this spending reaches, in words.
    pub fn reached(&self, spent: Spending) -> Option<String> {
        let usd = self.max_usd.filter(|most| spent.usd.unwrap_or(0.0) >= *most);
        let tokens = self.max_tokens.filter(|most| spent.tokens() >= *most);
        usd.map(|most| format!("proposers spent the {most} USD of this run"))
            .or_else(|| tokens.map(|most| format!("proposers spent the {most} tokens of this run")))
    }
}

/// A proposer as a person names it: `search`, `optuna`, `patches:DIR`, `command:CMD`, `chat:MODEL@URL`, or an
/// agent's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProposerSpec {
    /// The built-in search over knobs.
    Search,
    /// A folder of diffs, applied in order of their names.
    Patches(PathBuf),
    /// A shell command, run in the worktree.
    Command {
        /// What the shell is given.
        command: String,
        /// Its limit.
        timeout: Duration,
    },
    /// A coding agent.
    Agent(AgentSpec),
    /// A model behind HTTP.
    Chat(ChatSpec),
    /// Whatever another program puts into the run's inbox.
    Inbox,
    /// An installed Optuna.
    Optuna(OptunaSpec),
}

/// How long a command may take to propose when nobody says otherwise.
pub const COMMAND_TIMEOUT: Duration = Duration::from_secs(3600);

/// A proposer that is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("read proposer `{spec}`: {problem}")]
pub struct SpecError {
    /// As written.
    pub spec: String,
    /// Cause and next step.
    pub problem: String,
}

/// Reads `search`, `patches:DIR`, `command:CMD`, `chat:MODEL@URL`, or an agent such as `claude`, `codex:MODEL`,
/// `acp:COMMAND`.
pub fn parse_proposer(spec: &str) -> Result<ProposerSpec, SpecError> {
    let wrong = |problem: String| SpecError { spec: spec.to_owned(), problem };
    let (kind, rest) = match spec.split_once(':') {
        Some((kind, rest)) => (kind.trim(), Some(rest.trim())),
        None => (spec.trim(), None),
    };
    match (kind, rest) {
        ("search", None) => Ok(ProposerSpec::Search),
        ("inbox", None) => Ok(ProposerSpec::Inbox),
        ("search", Some(_)) => Err(wrong("`search` takes nothing after it; write just `search`".into())),
        ("patches", Some(dir)) if !dir.is_empty() => Ok(ProposerSpec::Patches(PathBuf::from(dir))),
        ("patches", _) => Err(wrong("name a folder of diffs, as in `patches:ideas/`".into())),
        ("command", Some(command)) if !command.is_empty() => {
            Ok(ProposerSpec::Command { command: command.to_owned(), timeout: COMMAND_TIMEOUT })
        }
        ("command", _) => Err(wrong("name a shell command, as in `command:./propose.sh`".into())),
        ("optuna", Some("")) => Err(wrong("name an interpreter, as in `optuna:venv/bin/python`".into())),
        ("optuna", python) => {
            let python = python.unwrap_or(optuna::DEFAULT_PYTHON).to_owned();
            Ok(ProposerSpec::Optuna(OptunaSpec { python }))
        }
        ("chat", rest) => rest.unwrap_or_default().parse().map(ProposerSpec::Chat).map_err(wrong),
        (other, _) => match spec.trim().parse::<AgentSpec>() {
            Ok(agent) => Ok(ProposerSpec::Agent(agent)),
            Err(Some(problem)) => Err(wrong(problem)),
            Err(None) => {
                let agents: Vec<&str> = agent_names().collect();
                let near = nearest(
                    other,
                    agents
                        .iter()
                        .copied()
                        .chain(["search", "inbox", "patches", "command", "chat", "optuna", "acp"]),
                );
                let guess = near.map(|near| format!("did you mean `{near}`? ")).unwrap_or_default();
                Err(wrong(format!(
                    "{guess}there are `search`, `inbox`, `patches:DIR`, `command:CMD`, `chat:MODEL@URL`, `optuna`, `acp:COMMAND` and the agents {}",
                    agents.join(", ")
                )))
            }
        },
    }
}

impl std::str::FromStr for ProposerSpec {
    type Err = SpecError;

    fn from_str(spec: &str) -> Result<ProposerSpec, SpecError> {
        parse_proposer(spec)
    }
}

impl std::fmt::Display for ProposerSpec {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ProposerSpec::Search => formatter.write_str("search"),
            ProposerSpec::Inbox => formatter.write_str("inbox"),
            ProposerSpec::Patches(dir) => write!(formatter, "patches:{}", dir.display()),
            ProposerSpec::Command { command, .. } => write!(formatter, "command:{command}"),
            ProposerSpec::Agent(agent) => write!(formatter, "{agent}"),
            ProposerSpec::Chat(chat) => write!(formatter, "{chat}"),
            ProposerSpec::Optuna(optuna) => write!(formatter, "{optuna}"),
        }
    }
}

impl ProposerSpec {
    /// [`ProposerSpec::open_with`] no environment: a command finds only what lies in the usual folders.
    pub fn open(&self, task: &Task) -> Box<dyn Proposer> {
        self.open_with(task, &[], &AskingLimits::default())
    }

    /// Whether it can be asked here, found out before a baseline is paid for.
    ///
    /// # Errors
    /// Cause and next step.
    pub fn check(
        &self,
        environment: &[(OsString, OsString)],
        limits: &AskingLimits,
    ) -> Result<(), SpecError> {
        let checked = match self {
            ProposerSpec::Agent(agent) => agent.check(environment, limits),
            ProposerSpec::Chat(chat) => chat.check(environment, limits),
            ProposerSpec::Optuna(optuna) => optuna.check(environment),
            ProposerSpec::Command { .. } if limits.max_usd.is_some() || limits.max_tokens.is_some() => {
                Err("a command does not tell what it costs, so neither `--max-usd` nor `--max-tokens` can be kept; limit \
                     the run with `--trials` or `--for`"
                    .into())
            }
            ProposerSpec::Search
            | ProposerSpec::Inbox
            | ProposerSpec::Patches(_)
            | ProposerSpec::Command { .. } => Ok(()),
        };
        checked.map_err(|problem| SpecError { spec: self.to_string(), problem })
    }

    /// Makes the proposer. A command gets the whole environment, keys included: it is the user's own program
    /// and runs outside the sandbox. A relative folder of patches lies in the task folder.
    pub fn open_with(
        &self,
        task: &Task,
        environment: &[(OsString, OsString)],
        limits: &AskingLimits,
    ) -> Box<dyn Proposer> {
        let name = self.to_string();
        match self {
            ProposerSpec::Search => Box::new(search::Search),
            ProposerSpec::Inbox => Box::new(inbox::InboxProposer { limits: limits.clone() }),
            ProposerSpec::Patches(dir) => Box::new(patches::Patches { name, dir: task.dir.join(dir) }),
            ProposerSpec::Command { command, timeout } => Box::new(command::CommandProposer {
                name,
                command: command.clone(),
                timeout: *timeout,
                environment: environment.to_vec(),
            }),
            ProposerSpec::Chat(spec) => Box::new(chat::ChatProposer::new(spec, environment, limits)),
            ProposerSpec::Optuna(spec) => Box::new(optuna::OptunaProposer {
                name,
                spec: spec.clone(),
                environment: environment.to_vec(),
            }),
            ProposerSpec::Agent(spec) => Box::new(agent::AgentProposer {
                name,
                spec: spec.clone(),
                environment: environment.to_vec(),
                limits: limits.clone(),
                spent: None,
            }),
        }
    }
}

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod tests;
