//! The task that `init command` writes: a command that prints a number, in a repository of its own.
//!
//! Its example is shell and awk, which every machine has; a person's own command is taken as it is.

use std::path::Path;

use anyhow::Context as _;
use sprag_engine::adopt::task_name;
use sprag_engine::record::Direction;
use sprag_engine::runner::EngineError;
use sprag_engine::task::{FILE, Task};

use crate::context::Context;
use crate::error::Failure;

const MEASURE: &str = include_str!("command/measure.sh");
const SETTINGS: &str = include_str!("command/settings.txt");
const PROPOSE: &str = include_str!("command/propose.sh");
const PROGRAM: &str = include_str!("command/program.md");

/// A person's own command.
#[derive(Clone, Debug)]
pub struct Own {
    /// As typed in a shell.
    pub run: String,
    /// Name of the metric.
    pub metric: String,
    /// Which way is better.
    pub direction: Direction,
    /// Where it stands in the output.
    pub pattern: Option<String>,
    /// What may change.
    pub mutable: Vec<String>,
}

impl Own {
    /// The example's.
    fn example() -> Own {
        Own {
            run: "sh measure.sh {seed}".to_owned(),
            metric: "loss".to_owned(),
            direction: Direction::Lower,
            pattern: None,
            mutable: vec!["settings.txt".to_owned()],
        }
    }
}

/// Writes the task and commits it to a new repository; nothing is left of a task that would not be valid.
pub fn write(dir: &Path, own: Option<&Own>, context: &Context) -> anyhow::Result<()> {
    if dir.join(FILE).exists() || dir.join(".git").exists() {
        let failure = Failure::new(format!("{} holds a task or a repository already", dir.display()));
        return Err(failure
            .hint("choose another folder, or use `sprag adopt` there; nothing was changed")
            .into());
    }
    let example = Own::example();
    let fixed: &[&str] = if own.is_some() { &[] } else { &["measure.sh", "propose.sh"] };
    let text = task_toml(dir, own.unwrap_or(&example), fixed);
    std::fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let refused = |error| anyhow::Error::from(EngineError::from(error));
    Task::parse(&text, dir).map_err(refused)?;
    let mut files = vec![(FILE, text.as_str())];
    if own.is_none() {
        files.extend([
            ("measure.sh", MEASURE),
            ("settings.txt", SETTINGS),
            ("propose.sh", PROPOSE),
            ("program.md", PROGRAM),
        ]);
    }
    if let Some((name, _)) = files.iter().find(|(name, _)| dir.join(name).exists()) {
        let failure = Failure::new(format!("{} exists and would be overwritten", dir.join(name).display()));
        return Err(failure.hint("choose an empty folder, or name your own command with --run").into());
    }
    for (name, text) in &files {
        let path = dir.join(name);
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if let Err(error) = Task::load(dir) {
        std::fs::remove_file(dir.join(FILE)).context("cannot take task.toml back")?;
        return Err(refused(error));
    }
    super::commit(dir, &context.environment)
}

fn task_toml(dir: &Path, own: &Own, fixed: &[&str]) -> String {
    let list = |words: &[String]| {
        let words: Vec<String> = words.iter().map(super::quoted).collect();
        format!("[{}]", words.join(", "))
    };
    let name = task_name(&dir.file_name().unwrap_or_default().to_string_lossy());
    let fixed: Vec<String> = fixed.iter().map(|name| (*name).to_owned()).collect();
    // In a shell, so that what was typed means what it means there.
    let command = ["/bin/sh", "-c", &own.run].map(str::to_owned);
    let pattern = own.pattern.clone().unwrap_or_else(|| {
        let name: String =
            own.metric.chars().map(|c| if c.is_alphanumeric() || c == '_' { c } else { '.' }).collect();
        format!(r"^{name}\s*[:=]?\s*(\S+)")
    });
    let direction = own.direction.word();
    format!(
        r#"# The contract of this task; every key is described in docs/task.md of Sprag.
format = 1
name = {name}

[files]
# What proposals may change: names and globs.
mutable = {mutable}
# What is hashed and may not change while a run lasts.
fixed = {fixed}

[run]
# Started in a checkout of the trial; {{seed}} is another one in each repeat.
command = {command}
timeout_seconds = 300

[metric]
name = {metric}
direction = "{direction}"
# First group of the last match in the output. Whoever prints it may be the code under test, so reports call the score
# self-reported; an [evaluate] section with a command of its own takes it out of that code's hands.
pattern = {pattern}

[budget]
# The command decides how much it does: one execution is one evaluation.
evaluations = 1
"#,
        name = super::quoted(name),
        mutable = list(&own.mutable),
        fixed = list(&fixed),
        command = list(&command),
        metric = super::quoted(&own.metric),
        pattern = super::quoted(&pattern),
    )
}
