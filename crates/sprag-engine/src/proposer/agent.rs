//! Coding agents that people have installed: `claude`, `codex`, `gemini`, `opencode`, `aider`, and `acp:COMMAND`.
//!
//! The loop belongs to Sprag, not to the prompt. An agent is asked for one change in a worktree of its own; one that
//! dies, stalls, asks back, changes nothing or says that it is finished is started again from a clean worktree, with
//! one sentence on what went wrong. What it changed is read from the worktree by others, never from what it says.
//! It runs with the user's environment and network, outside of the sandbox, because it is the user's own program.

mod acp;
mod asking;
mod stream;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

pub(super) use asking::AgentProposer;

use super::AskingLimits;

/// An agent as a person names it: `claude`, `claude:MODEL`, `acp:COMMAND`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentSpec {
    /// Which one.
    pub kind: AgentKind,
    /// The model, in the agent's own words; `None` is what the agent takes by itself.
    pub model: Option<String>,
}

/// Which agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgentKind {
    /// Claude Code: `claude -p --output-format stream-json`.
    Claude,
    /// Codex: `codex exec --json`.
    Codex,
    /// Gemini CLI: `gemini -p --output-format stream-json`.
    Gemini,
    /// OpenCode: `opencode run --format json`.
    OpenCode,
    /// Aider: `aider --message`.
    Aider,
    /// Any that speaks the Agent Client Protocol on its standard streams: a shell command.
    Acp(String),
}

/// The agents with a name, and how each is installed.
const NAMED: [(&str, AgentKind, &str); 5] = [
    ("claude", AgentKind::Claude, "npm install -g @anthropic-ai/claude-code"),
    ("codex", AgentKind::Codex, "npm install -g @openai/codex"),
    ("gemini", AgentKind::Gemini, "npm install -g @google/gemini-cli"),
    ("opencode", AgentKind::OpenCode, "npm install -g opencode-ai"),
    ("aider", AgentKind::Aider, "python3 -m pip install aider-chat"),
];

/// Names of the agents that need no command.
pub fn agent_names() -> impl Iterator<Item = &'static str> {
    NAMED.iter().map(|(name, ..)| *name)
}

impl FromStr for AgentSpec {
    type Err = Option<String>;

    /// `Err(None)`: it names no agent; `Err(Some(problem))`: it does, wrongly.
    fn from_str(spec: &str) -> Result<AgentSpec, Option<String>> {
        let (name, rest) =
            spec.split_once(':').map_or((spec, None), |(name, rest)| (name, Some(rest.trim())));
        if name.trim() == "acp" {
            let command = rest.filter(|command| !command.is_empty());
            let command =
                command.ok_or(Some("name the agent's command, as in `acp:gemini --acp`".to_owned()))?;
            return Ok(AgentSpec { kind: AgentKind::Acp(command.to_owned()), model: None });
        }
        let named = NAMED.iter().find(|(known, ..)| *known == name.trim()).ok_or(None)?;
        match rest {
            Some("") => Err(Some(format!("name a model, as in `{name}:MODEL`, or write just `{name}`"))),
            model => Ok(AgentSpec { kind: named.1.clone(), model: model.map(str::to_owned) }),
        }
    }
}

impl fmt::Display for AgentSpec {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.kind, &self.model) {
            (AgentKind::Acp(command), _) => write!(formatter, "acp:{command}"),
            (kind, None) => formatter.write_str(kind.program()),
            (kind, Some(model)) => write!(formatter, "{}:{model}", kind.program()),
        }
    }
}

impl AgentKind {
    /// Its program.
    fn program(&self) -> &str {
        match self {
            AgentKind::Acp(_) => "/bin/sh",
            named => NAMED.iter().find(|(_, kind, _)| kind == named).map_or("", |(name, ..)| name),
        }
    }

    /// True when its stream tells what an asking costs in dollars.
    fn tells_cost(&self) -> bool {
        matches!(self, AgentKind::Claude | AgentKind::OpenCode | AgentKind::Aider)
    }
}

impl AgentSpec {
    /// Whether it can be asked at all, found out before a baseline is paid for.
    ///
    /// # Errors
    /// Cause and next step: the program is missing, or a limit cannot be kept.
    pub fn check(&self, environment: &[(OsString, OsString)], limits: &AskingLimits) -> Result<(), String> {
        if limits.max_usd.is_some() && !self.kind.tells_cost() {
            return Err(
                "it does not tell what it costs; limit it with `--max-tokens` instead of `--max-usd`".into(),
            );
        }
        let Some((name, _, install)) = NAMED.iter().find(|(_, kind, _)| *kind == self.kind) else {
            return Ok(());
        };
        match find_program(name, environment) {
            Some(_) => Ok(()),
            None => {
                Err(format!("there is no program `{name}` in PATH; install it with `{install}`, then log in"))
            }
        }
    }

    /// The words after the program, for one asking.
    fn arguments(&self, prompt: &str, places: &Places<'_>) -> Vec<OsString> {
        let mut words: Vec<OsString> = Vec::new();
        let mut add = |new: &[&OsStr]| words.extend(new.iter().map(|word| (*word).to_owned()));
        let text = OsStr::new;
        let model: Vec<&OsStr> = self.model.iter().flat_map(|model| [text("--model"), text(model)]).collect();
        let dir = places.brief_dir.as_os_str();
        match &self.kind {
            AgentKind::Claude => {
                add(&["-p", prompt, "--output-format", "stream-json", "--verbose"].map(text));
                // Edits without asking, no shell, no network tool: what it needs and no more.
                add(&["--permission-mode", "acceptEdits", "--allowedTools", "Read,Edit,Write,Glob,Grep"]
                    .map(text));
                add(&[text("--add-dir"), dir]);
                add(&model);
            }
            AgentKind::Codex => {
                add(&["exec", "--json", "--sandbox", "workspace-write", "--skip-git-repo-check"].map(text));
                add(&[text("--add-dir"), dir]);
                add(&model);
                add(&[text(prompt)]);
            }
            AgentKind::Gemini => {
                add(&["-p", prompt, "--output-format", "stream-json", "--approval-mode", "auto_edit"]
                    .map(text));
                add(&[text("--skip-trust"), text("--include-directories"), dir]);
                add(&model);
            }
            AgentKind::OpenCode => {
                add(&["run", "--format", "json"].map(text));
                add(&model);
                add(&[text(prompt)]);
            }
            AgentKind::Aider => {
                add(&["--message", prompt, "--yes-always", "--no-git", "--no-pretty", "--no-stream"]
                    .map(text));
                add(&["--no-check-update", "--no-show-model-warnings", "--map-tokens", "0"].map(text));
                // Its own files would lie in the worktree, where they are not allowed.
                let own = |name: &str| places.brief_dir.join(name).into_os_string();
                for (flag, name) in [
                    ("--chat-history-file", "aider.chat.md"),
                    ("--input-history-file", "aider.input"),
                    ("--read", "brief.md"),
                ] {
                    add(&[text(flag), &own(name)]);
                }
                add(&model);
                add(&places.mutable.iter().map(|path| path.as_os_str()).collect::<Vec<_>>());
                add(&[&own(super::answer::FILE)]);
            }
            AgentKind::Acp(command) => add(&["-c", command].map(text)),
        }
        words
    }
}

/// Where an asking happens.
struct Places<'a> {
    /// Brief and answer.
    brief_dir: &'a Path,
    /// Files that may change, in the worktree.
    mutable: Vec<PathBuf>,
}

/// The program of that name in `PATH`.
pub fn find_program(name: &str, environment: &[(OsString, OsString)]) -> Option<PathBuf> {
    let path = environment.iter().find(|(variable, _)| variable == "PATH").map(|(_, value)| value)?;
    std::env::split_paths(path).map(|folder| folder.join(name)).find(|program| program.is_file())
}

/// Agents whose programs are there, with where.
pub fn found_agents(environment: &[(OsString, OsString)]) -> Vec<(&'static str, PathBuf)> {
    agent_names().filter_map(|name| Some((name, find_program(name, environment)?))).collect()
}

#[cfg(test)]
mod tests;
