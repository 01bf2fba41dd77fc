//! The contract of a task: `task.toml`, parsed once into a valid [`Task`].
//!
//! Whatever holds a `Task` need not check it again. Running it belongs to `runner`, judging to `gate`.

mod devices;
mod document;
mod fixed;
mod metric;
mod parse;
mod paths;
mod placeholder;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use devices::Devices;
pub use document::TaskError;
pub(crate) use document::nearest;
pub(crate) use fixed::hex;
pub use metric::{Guard, JsonValue, Metric, Probe, Source};
pub use paths::PathSet;
pub use placeholder::{UnknownPlaceholder, Values, expand};

use crate::record::{Budget, GuardRule, Policy, SecondBudget};
use crate::sandbox::OnViolation;

/// Version of `task.toml` that this program reads.
pub const FORMAT: i64 = 1;

/// Name of the contract's file in a task folder.
pub const FILE: &str = "task.toml";

/// A valid task.
#[derive(Clone, Debug)]
pub struct Task {
    /// The task folder, absolute.
    pub dir: PathBuf,
    /// Its name.
    pub name: String,
    /// What a proposal may change, and what must stay.
    pub files: Files,
    /// The task's own placeholders.
    pub vars: BTreeMap<String, String>,
    /// How a worktree becomes an artifact; `None` when the source itself is run.
    pub build: Option<Build>,
    /// How the artifact is run.
    pub run: Run,
    /// Who scores; `None` when somebody else does, see [`Metric::source`].
    pub evaluate: Option<Evaluate>,
    /// What is measured.
    pub metric: Metric,
    /// What kept code must stay within besides.
    pub guards: Vec<Guard>,
    /// The limits of those guards that are numbers.
    pub guard_rules: Vec<GuardRule>,
    /// What one execution may spend.
    pub budget: Budget,
    /// What kept code may spend when it is scored once more, to tell speed from learning.
    pub second: Option<SecondBudget>,
    /// What build and run may reach.
    pub sandbox: SandboxSpec,
    /// Numbers of the gate.
    pub gate: Policy,
    /// SHA-256 of the text of `task.toml`.
    pub sha256: String,
}

/// What a proposal may change, and what must stay.
#[derive(Clone, Debug)]
pub struct Files {
    /// What a proposal may change.
    pub mutable: PathSet,
    /// What is hashed and may not change while a run lasts.
    pub fixed: PathSet,
    /// Files and folders outside the repository that are hashed too, absolute.
    pub external: Vec<PathBuf>,
}

/// How a worktree becomes an artifact.
#[derive(Clone, Debug)]
pub struct Build {
    /// Program and arguments, with placeholders.
    pub command: Vec<String>,
    /// Files, relative to `{cache}`, that are copied to `{out}` when it succeeded.
    pub keep: Vec<String>,
    /// As written; see [`Build::timeout`].
    pub timeout: Option<Duration>,
    /// Environment variables, values with placeholders.
    pub env: BTreeMap<String, String>,
}

/// How the artifact is run.
#[derive(Clone, Debug)]
pub struct Run {
    /// Program and arguments, with placeholders.
    pub command: Vec<String>,
    /// As written; see [`Run::timeout`].
    pub timeout: Option<Duration>,
    /// As written; see [`Run::silence`].
    pub silence: Option<Duration>,
    /// Where it runs.
    pub tree: RunTree,
    /// Most memory of the whole process tree.
    pub memory_bytes: Option<u64>,
    /// Environment variables, values with placeholders.
    pub env: BTreeMap<String, String>,
}

/// The folder that a candidate runs in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RunTree {
    /// Its checkout, which it may not write.
    #[default]
    ReadOnly,
    /// A copy of it that is made for one execution and thrown away: for programs that write beside their sources.
    Copy,
}

/// The folder that an evaluator runs in that follows the candidate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EvaluatorTree {
    /// The candidate's checkout.
    #[default]
    Candidate,
    /// A checkout of the commit that the run began with: no code of a candidate lies there.
    Pristine,
}

/// Who scores.
#[derive(Clone, Debug)]
pub struct Evaluate {
    /// Program and arguments, with placeholders.
    pub command: Vec<String>,
    /// True: it runs beside the candidate, joined by a socket. False: it runs after it.
    pub channel: bool,
    /// It scores a text that no other phase shows when it is asked for the phase `holdout`.
    pub holdout: bool,
    /// Where it runs.
    pub tree: EvaluatorTree,
    /// Limit of an evaluator that runs after the candidate; as written.
    pub timeout: Option<Duration>,
    /// Environment variables, values with placeholders.
    pub env: BTreeMap<String, String>,
}

/// What build and run may reach; all paths absolute.
#[derive(Clone, Debug, Default)]
pub struct SandboxSpec {
    /// Readable for build and run.
    pub read: Vec<PathBuf>,
    /// Readable for the run alone.
    pub run_read: Vec<PathBuf>,
    /// Readable for the build alone.
    pub build_read: Vec<PathBuf>,
    /// Device files that the run may read and write.
    pub devices: Devices,
    /// What follows when a run tries to open an internet socket; there is no network in either case.
    pub on_network: OnViolation,
    /// Environment variables passed through; everything else is scrubbed.
    pub env: Vec<String>,
}

impl Task {
    /// Reads `task.toml` in that folder.
    pub fn load(dir: &Path) -> Result<Task, TaskError> {
        let dir = std::path::absolute(dir).map_err(|cause| TaskError::read(dir, cause))?;
        let dir = dir.canonicalize().map_err(|cause| TaskError::read(&dir, cause))?;
        let file = dir.join(FILE);
        let text = std::fs::read_to_string(&file).map_err(|cause| TaskError::read(&file, cause))?;
        let task = Task::parse(&text, &dir)?;
        let mutable = task.files.mutable_in(&dir).map_err(|cause| TaskError::read(&dir, cause))?;
        if mutable.is_empty() {
            return Err(TaskError::Files(format!(
                "`files.mutable` in {} matches no file; proposals would have nothing to change",
                file.display()
            )));
        }
        Ok(task)
    }

    /// Parses the text of a `task.toml` that lies, or would lie, in `dir`, an absolute path.
    ///
    /// Nothing but existing links in `dir` and `[vars]` is looked up in the file system.
    pub fn parse(text: &str, dir: &Path) -> Result<Task, TaskError> {
        parse::parse(text, dir)
    }

    /// The placeholders that hold for the whole task: `{task}` and its `[vars]`.
    pub fn values(&self) -> Values {
        let values = Values::default().with("task", &self.dir);
        self.vars.iter().fold(values, |values, (name, value)| values.with(name, value))
    }

    /// A place that candidates must not see, with the readable path that would show it to them: the task's
    /// folder, which holds every trial, or what the evaluator is told of by a variable, which may be its data.
    /// `readable` is what the sandbox lets everyone read; the task's own lists are looked at too.
    pub fn exposed(&self, readable: &[PathBuf]) -> Option<(PathBuf, PathBuf)> {
        let listed = || [&self.sandbox.read, &self.sandbox.run_read, &self.sandbox.build_read];
        let shown =
            |place: &Path, by: &Path| place.starts_with(by).then(|| (place.to_owned(), by.to_owned()));
        let lists = readable.iter().chain(listed().into_iter().flatten());
        let folder = lists.into_iter().find_map(|path| shown(&self.dir, path));
        folder.or_else(|| {
            self.evaluated_paths().into_iter().find_map(|place| {
                // A path that the task lists by its own name is meant to be read.
                let listed = listed().into_iter().flatten().filter(|path| **path != place);
                readable.iter().chain(listed).find_map(|path| shown(&place, path))
            })
        })
    }

    /// Paths among the variables in the evaluator's arguments; its program is no secret.
    fn evaluated_paths(&self) -> Vec<PathBuf> {
        let arguments = self.evaluate.iter().flat_map(|evaluate| evaluate.command.iter().skip(1));
        let arguments: Vec<&String> = arguments.collect();
        let told = |name: &str| arguments.iter().any(|argument| argument.contains(&format!("{{{name}}}")));
        let values = self.vars.iter().filter(|(name, _)| told(name)).map(|(_, value)| Path::new(value));
        let paths = values.filter(|value| value.is_absolute());
        paths.map(|path| path.canonicalize().unwrap_or_else(|_| path.to_owned())).collect()
    }

    /// SHA-256 over the fixed files as they lie in `tree` (the task folder or a worktree) and over the
    /// external ones: sorted names, lengths and contents.
    pub fn fixed_sha256(&self, tree: &Path) -> Result<String, TaskError> {
        fixed::sha256(&self.files, tree)
    }

    /// True when the evaluator scores a sealed holdout when it is asked for the phase `holdout`.
    pub fn has_holdout(&self) -> bool {
        self.evaluate.as_ref().is_some_and(|evaluate| evaluate.holdout)
    }

    /// True when an evaluator needs a checkout of the commit that the run began with.
    pub fn needs_pristine(&self) -> bool {
        let evaluate = |evaluate: &Evaluate| {
            evaluate.tree == EvaluatorTree::Pristine
                || evaluate.command.iter().any(|part| part.contains("{pristine}"))
        };
        self.evaluate.as_ref().is_some_and(evaluate)
    }

    /// True when a guard is a command, which is run once a trial.
    pub fn has_guard_commands(&self) -> bool {
        self.guards.iter().any(|guard| matches!(guard.probe, Probe::Command(_)))
    }

    /// True when a command asks for its phase: only then is a smoke test more than a full run.
    pub fn has_smoke(&self) -> bool {
        let evaluate = self.evaluate.iter().flat_map(|evaluate| &evaluate.command);
        self.run.command.iter().chain(evaluate).any(|argument| argument.contains("{phase}"))
    }
}

impl Build {
    /// The limit of a build: as written, else 20 minutes before a build was seen (the first one compiles
    /// dependencies), then five times the `longest` seen, at least two minutes.
    pub fn timeout(&self, longest: Option<Duration>) -> Duration {
        let derived = longest.map_or(Duration::from_secs(1200), |longest| {
            longest.saturating_mul(5).max(Duration::from_secs(120))
        });
        self.timeout.unwrap_or(derived)
    }
}

impl Run {
    /// The limit of one execution, evaluation included: as written, else twice what the `longest`
    /// execution of the baseline took, at least half a minute more. Before the baseline is known: three
    /// times a budget of seconds and five minutes, or four hours for a budget of anything else.
    pub fn timeout(&self, budget: Budget, longest: Option<Duration>) -> Duration {
        self.timeout.unwrap_or_else(|| match (longest, budget) {
            (Some(longest), _) => {
                longest.saturating_mul(2).max(longest.saturating_add(Duration::from_secs(30)))
            }
            (None, Budget::Seconds(seconds)) => Duration::from_secs_f64(seconds * 3.0 + 300.0),
            (None, Budget::Tokens(_) | Budget::Steps(_) | Budget::Evaluations(_)) => {
                Duration::from_secs(4 * 3600)
            }
        })
    }

    /// The limit of a smoke test: two minutes, or [`Run::timeout`] where that is less.
    pub fn smoke_timeout(&self, budget: Budget, longest: Option<Duration>) -> Duration {
        self.timeout(budget, longest).min(Duration::from_secs(120))
    }

    /// How long a run may say nothing: as written, else twice a budget of seconds, at least two minutes;
    /// five minutes for a budget of anything else.
    pub fn silence(&self, budget: Budget) -> Duration {
        self.silence.unwrap_or(match budget {
            Budget::Seconds(seconds) => Duration::from_secs_f64((seconds * 2.0).max(120.0)),
            Budget::Tokens(_) | Budget::Steps(_) | Budget::Evaluations(_) => Duration::from_secs(300),
        })
    }
}

impl Files {
    /// True when a proposal may change that path, given relative to the task folder.
    pub fn is_mutable(&self, path: &str) -> bool {
        self.mutable.contains(path) && !self.fixed.contains(path) && never_mutable(path).is_none()
    }

    /// The mutable files that exist under `tree`, sorted.
    pub fn mutable_in(&self, tree: &Path) -> std::io::Result<Vec<String>> {
        let mut paths = self.mutable.files_in(tree)?;
        paths.retain(|path| self.is_mutable(path));
        Ok(paths)
    }
}

/// Why a path can never be mutable, whatever the globs say: it decides how a trial is judged, or what git
/// does with files.
fn never_mutable(path: &str) -> Option<&'static str> {
    let mut parts = path.split('/').map(str::to_ascii_lowercase);
    if path == FILE {
        Some("it decides how trials are judged")
    } else if parts.clone().next().is_some_and(|first| first == ".sprag") {
        Some("it belongs to Sprag")
    } else if parts
        .any(|part| matches!(part.as_str(), ".git" | ".gitignore" | ".gitattributes" | ".gitmodules"))
    {
        Some("it decides what git does with files")
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
