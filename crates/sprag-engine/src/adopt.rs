//! Looks at a repository that nobody prepared, and guesses its `task.toml`, with a reason for every line.
//!
//! Pure: a listing of files with their text, facts about the machine and the person's wishes in; guesses,
//! questions and a contract out. Reading the repository, asking and writing belong to the program.

mod assembly;
pub mod contract;
mod draft;
mod environment;
mod guess;
mod helix;
mod metric;
mod plain;
mod program;
mod session;
mod tree;
mod words;
mod yaml;

use std::path::PathBuf;

pub use assembly::task_name;
pub use contract::{Contract, Guard, Metric, MetricSource, render};
pub use environment::{Machine, Python, Rust, Venv};
pub use guess::{Confidence, Evidence, Reason};
pub use tree::{Source, Tree};
pub use words::shell_word;

use crate::record::Direction;
use draft::Draft;

/// What the person says, by flags or by answering: it settles a guess before anything is looked at.
#[derive(Clone, Debug, Default)]
pub struct Wishes {
    /// The command that runs one experiment, as typed in a shell.
    pub run: Option<String>,
    /// Name of the metric.
    pub metric: Option<String>,
    /// Where the metric is found in the output.
    pub pattern: Option<String>,
    /// A JSON file that holds the metric, and the pointer to it.
    pub result: Option<(String, String)>,
    /// The metric is the time that the command takes.
    pub wall_time: bool,
    /// Which way is better.
    pub direction: Option<Direction>,
    /// What may change.
    pub mutable: Vec<String>,
    /// What may not.
    pub fixed: Vec<String>,
    /// Seconds that one execution may spend.
    pub budget: Option<f64>,
    /// The Python environment.
    pub venv: Option<PathBuf>,
}

/// Something that the repository does not say, or says twice.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Question {
    /// What is asked.
    pub text: String,
    /// Answers that were found; there may be none.
    pub choices: Vec<Choice>,
    /// The flag that settles it with any other answer, with a placeholder for it.
    pub flag: &'static str,
}

/// One answer to a question.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Choice {
    /// The flag with this answer.
    pub flag: String,
    /// The answer alone; what [`Wishes::answer`] takes.
    pub value: String,
    /// Why it may be this one.
    pub why: String,
}

/// What came of looking.
#[derive(Clone, Debug)]
pub struct Adoption {
    /// One for each guess, in the order of the file.
    pub reasons: Vec<Reason>,
    /// What must be settled first; a contract is written only when there is none.
    pub questions: Vec<Question>,
    /// The contract, as far as it is known.
    pub contract: Option<Contract>,
    /// What the person should know and the file cannot say.
    pub warnings: Vec<String>,
    /// Commands to carry out once before the first run.
    pub first: Vec<String>,
    /// Records of another loop that lie in the repository.
    pub histories: Vec<String>,
}

impl Wishes {
    /// Takes the answer to a question, which is named by its flag.
    pub fn answer(&mut self, flag: &str, value: &str) -> Result<(), String> {
        let name = flag.split_whitespace().next().unwrap_or_default();
        match name {
            "--run" => self.run = Some(value.to_owned()),
            "--metric" => self.metric = Some(value.to_owned()),
            "--pattern" => self.pattern = Some(value.to_owned()),
            "--mutable" => self.mutable = value.split_whitespace().map(str::to_owned).collect(),
            "--venv" => self.venv = Some(PathBuf::from(value)),
            "--wall-time" => self.wall_time = true,
            "--result" => self.result = Some(result(value)?),
            "--direction" => self.direction = Some(value.parse()?),
            other => return Err(format!("`{other}` cannot be answered here; give it on the command line")),
        }
        Ok(())
    }
}

/// Reads `FILE#/pointer`.
pub fn result(text: &str) -> Result<(String, String), String> {
    match text.split_once('#') {
        Some((file, pointer)) if !file.is_empty() && pointer.starts_with('/') => {
            Ok((file.to_owned(), pointer.to_owned()))
        }
        _ => Err(format!("`{text}` is not FILE#/POINTER; write for example results.json#/loss")),
    }
}

/// Guesses. What the person wishes comes first, then files that other loops keep for themselves, then the
/// habits of `program.md`, then what a project of that language usually has.
pub fn adopt(name: &str, tree: &Tree, wishes: &Wishes, machine: &Machine) -> Adoption {
    let mut draft = Draft::of(wishes, tree);
    helix::fill(&mut draft, tree);
    session::fill(&mut draft, tree);
    program::fill(&mut draft, tree);
    plain::fill(&mut draft, tree, wishes);
    assembly::finish(name, draft, tree, wishes, machine)
}

#[cfg(test)]
mod tests;
