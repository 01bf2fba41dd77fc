//! Where numbers come from: the metric's source, and guards, which are numbers with a limit.

use std::collections::BTreeMap;

use regex::{Regex, RegexBuilder};

use super::document::{Entry, Section, TaskError};
use super::parse::{RUN, check_placeholders, command};
use super::paths::PathSet;
use crate::record::{Direction, GuardRule, Limit};

/// What is measured.
#[derive(Clone, Debug)]
pub struct Metric {
    /// Its name, for example `val_bpb`.
    pub name: String,
    /// Which way is better.
    pub direction: Direction,
    /// Who tells its value.
    pub source: Source,
}

/// Who tells the value of the metric.
#[derive(Clone, Debug)]
pub enum Source {
    /// The evaluator.
    Evaluator,
    /// The candidate, in its output: first group of the last match.
    Pattern(Regex),
    /// The candidate, in a JSON file.
    Json(JsonValue),
    /// The status by which the run ends, from 0 to 255.
    ExitCode,
    /// The wall seconds of the run, measured from outside.
    WallSeconds,
}

impl Source {
    /// True when the candidate says itself how good it is.
    pub fn is_self_reported(&self) -> bool {
        matches!(self, Source::Pattern(_) | Source::Json(_) | Source::ExitCode)
    }
}

/// A number in a JSON file that the run writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonValue {
    /// The file, relative to where the candidate runs, with placeholders.
    pub file: String,
    /// Where in it (RFC 6901, "JavaScript Object Notation Pointer").
    pub pointer: String,
}

/// A number, or a command, that must not get worse than a limit.
#[derive(Clone, Debug)]
pub struct Guard {
    /// Its name.
    pub name: String,
    /// Where it comes from.
    pub probe: Probe,
}

/// Where the number of a guard comes from.
#[derive(Clone, Debug)]
pub enum Probe {
    /// A fact of the score, by name: `peak_memory_bytes`, `wall_seconds`, or what an evaluator tells.
    Fact(String),
    /// The candidate's output: first group of the last match.
    Pattern(Regex),
    /// A JSON file that the run writes.
    Json(JsonValue),
    /// The bytes of a file that the run or the build leaves, with placeholders.
    FileBytes(String),
    /// No number: it passes when it exits with 0.
    Command(Vec<String>),
}

impl Guard {
    /// The fact that holds its number; `None` for a command.
    pub fn fact(&self) -> Option<String> {
        match &self.probe {
            Probe::Fact(name) => Some(name.clone()),
            Probe::Pattern(_) | Probe::Json(_) => Some(format!("reported_{}", self.name)),
            Probe::FileBytes(_) => Some(format!("{}_bytes", self.name.trim_end_matches("_bytes"))),
            Probe::Command(_) => None,
        }
    }
}

/// `[metric]`; `evaluated` says whether there is an `[evaluate]` section.
pub(super) fn metric(
    section: &Section<'_>,
    evaluated: bool,
    vars: &BTreeMap<String, String>,
) -> Result<Metric, TaskError> {
    section.allow(&["name", "direction", "pattern", "json", "exit_code", "wall_seconds"])?;
    let direction = section.require("direction")?;
    let word = direction.text()?;
    Ok(Metric {
        name: section.require("name")?.non_empty_text()?.to_owned(),
        direction: word
            .parse()
            .map_err(|_| direction.error(format!("is `{word}`; write \"lower\" or \"higher\"")))?,
        source: source(section, evaluated, vars)?,
    })
}

fn source(
    section: &Section<'_>,
    evaluated: bool,
    vars: &BTreeMap<String, String>,
) -> Result<Source, TaskError> {
    let mut written = ["pattern", "json", "exit_code", "wall_seconds"]
        .into_iter()
        .filter_map(|key| section.get(key).map(|entry| (key, entry)));
    let Some((key, entry)) = written.next() else {
        return match evaluated {
            true => Ok(Source::Evaluator),
            false => Err(section.error(
                "nobody scores; add an [evaluate] section, or one of `pattern`, `json`, `exit_code` and \
                 `wall_seconds` to [metric]",
            )),
        };
    };
    if evaluated {
        return Err(
            entry.error("there is an [evaluate] section too; a score has one source, keep one of them")
        );
    }
    if let Some((_, other)) = written.next() {
        return Err(other.error(format!("there is `{key}` too; a score has one source, keep one of them")));
    }
    let set = |source: Source| match entry.boolean()? {
        true => Ok(source),
        false => Err(entry.error("is false; write true, or leave it out")),
    };
    match key {
        "pattern" => Ok(Source::Pattern(pattern(&entry)?)),
        "json" => Ok(Source::Json(json(&entry, vars)?)),
        "exit_code" => set(Source::ExitCode),
        _ => set(Source::WallSeconds),
    }
}

/// `[guards]`: a table a guard. The rules are what the run's frame keeps.
pub(super) fn guards(
    section: Option<Section<'_>>,
    vars: &BTreeMap<String, String>,
) -> Result<(Vec<Guard>, Vec<GuardRule>), TaskError> {
    let (mut guards, mut rules) = (Vec::new(), Vec::new());
    for (name, entry) in section.iter().flat_map(|section| section.entries()) {
        let good = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if name.is_empty() || !name.chars().all(good) {
            return Err(entry.error("a guard's name may hold letters, digits, `_` and `-` only"));
        }
        let guard = Guard { name: name.to_owned(), probe: probe(&entry, vars)? };
        let limit = entry.section()?.get("limit");
        match (guard.fact(), limit) {
            (Some(fact), Some(limit)) => {
                let text = limit.non_empty_text()?;
                let limit = text.parse::<Limit>().map_err(|problem| limit.error(problem))?;
                rules.push(GuardRule { name: guard.name.clone(), fact, limit });
            }
            (Some(_), None) => {
                return Err(entry.error(
                    "has no limit; write `limit = \"<= 500\"`, or `limit = \"<= 1.05 x incumbent\"`",
                ));
            }
            (None, Some(limit)) => {
                return Err(limit.error("a command has no number; it passes when it exits with 0"));
            }
            (None, None) => {}
        }
        guards.push(guard);
    }
    Ok((guards, rules))
}

fn probe(entry: &Entry<'_>, vars: &BTreeMap<String, String>) -> Result<Probe, TaskError> {
    const KINDS: [&str; 5] = ["fact", "pattern", "json", "file_size", "command"];
    let section = entry.section()?;
    section.allow(&[&KINDS[..], &["limit"]].concat())?;
    let mut written = KINDS.into_iter().filter_map(|kind| section.get(kind).map(|entry| (kind, entry)));
    let Some((kind, value)) = written.next() else {
        return Err(
            entry.error(format!("says nothing of where it comes from; write one of {}", KINDS.join(", ")))
        );
    };
    if let Some((_, other)) = written.next() {
        return Err(other.error(format!("there is `{kind}` too; a guard has one source")));
    }
    match kind {
        "fact" => Ok(Probe::Fact(value.non_empty_text()?.to_owned())),
        "pattern" => Ok(Probe::Pattern(pattern(&value)?)),
        "json" => Ok(Probe::Json(json(&value, vars)?)),
        "file_size" => Ok(Probe::FileBytes(file(&value, vars)?)),
        _ => Ok(Probe::Command(command(&value, RUN, vars)?)),
    }
}

fn json(entry: &Entry<'_>, vars: &BTreeMap<String, String>) -> Result<JsonValue, TaskError> {
    let section = entry.section()?;
    section.allow(&["file", "pointer"])?;
    let pointer = section.require("pointer")?;
    let text = pointer.text()?;
    if !text.is_empty() && !text.starts_with('/') {
        return Err(pointer.error(format!(
            "`{text}` is no JSON pointer; write `/{}`, one slash before each key",
            text.replace('.', "/")
        )));
    }
    Ok(JsonValue { file: file(&section.require("file")?, vars)?, pointer: text.to_owned() })
}

/// The first JSON file that a run in a read-only checkout could never write.
pub(super) fn unwritable<'t>(metric: &'t Metric, guards: &'t [Guard]) -> Option<&'t str> {
    let own = match &metric.source {
        Source::Json(json) => Some(json),
        _ => None,
    };
    let others = guards.iter().filter_map(|guard| match &guard.probe {
        Probe::Json(json) => Some(json),
        _ => None,
    });
    let mut files = own.into_iter().chain(others).map(|json| json.file.as_str());
    files.find(|file| !file.starts_with("{scratch}/"))
}

/// A file by a plain relative path, or below a placeholder.
fn file(entry: &Entry<'_>, vars: &BTreeMap<String, String>) -> Result<String, TaskError> {
    let text = entry.non_empty_text()?;
    check_placeholders(entry, text, RUN, vars)?;
    let below =
        ["{scratch}/", "{out}/", "{worktree}/", "{tree}/"].iter().find_map(|base| text.strip_prefix(base));
    let relative = below.unwrap_or(text);
    let plain = PathSet::new([relative]).is_ok_and(|set| set.names().next().is_some());
    if !plain || relative.contains('{') {
        return Err(entry.error(format!(
            "`{text}` must be a plain path relative to the folder of the run, or below {{scratch}} or {{out}}"
        )));
    }
    Ok(text.to_owned())
}

/// `^` and `$` stand for the ends of a line, as a candidate's output is read line by line.
fn pattern(entry: &Entry<'_>) -> Result<Regex, TaskError> {
    let pattern = RegexBuilder::new(entry.non_empty_text()?)
        .multi_line(true)
        .build()
        .map_err(|cause| entry.error(format!("is not a valid regular expression: {}", one_line(&cause))))?;
    if pattern.captures_len() < 2 {
        return Err(entry.error("has no group; put the number in parentheses, as in `^val_bpb:\\s*(\\S+)`"));
    }
    Ok(pattern)
}

fn one_line(cause: &regex::Error) -> String {
    cause.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
}
