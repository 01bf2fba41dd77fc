//! Numbers that a candidate leaves: in its output, in JSON files, as sizes of files.
//!
//! What it leaves is hostile: a file is opened without following links, must lie where it may write, and is
//! bounded in size.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::lane::LaneError;
use crate::record::{Invalid, Outcome, Reason};
use crate::task::{Guard, JsonValue, Probe, Source, Task, Values, expand};

/// Largest JSON file that is read.
const JSON_BYTES: u64 = 16 << 20;

/// Follows the output of one execution, and reads afterwards what it left.
pub(super) struct Reading<'t> {
    task: &'t Task,
    metric: Option<String>,
    guards: Vec<Option<String>>,
}

/// Where an execution may have left files.
pub(super) struct Left<'a> {
    /// The folder it ran in.
    pub(super) tree: &'a Path,
    /// Placeholders of its command.
    pub(super) values: &'a Values,
}

impl<'t> Reading<'t> {
    pub(super) fn new(task: &'t Task) -> Reading<'t> {
        Reading { task, metric: None, guards: vec![None; task.guards.len()] }
    }

    /// Takes a line of the candidate's output in.
    pub(super) fn line(&mut self, line: &str) {
        if let Source::Pattern(pattern) = &self.task.metric.source {
            last_match(pattern, line, &mut self.metric);
        }
        for (guard, found) in self.task.guards.iter().zip(&mut self.guards) {
            if let Probe::Pattern(pattern) = &guard.probe {
                last_match(pattern, line, found);
            }
        }
    }

    /// The last text that the metric's pattern found.
    pub(super) fn found(&self) -> Option<&str> {
        self.metric.as_deref()
    }

    /// Adds the guards' numbers to a score. A number that is not there makes it invalid.
    pub(super) fn add_guards(&self, outcome: &mut Outcome, left: &Left<'_>) {
        let Outcome::Scored(score) = outcome else { return };
        for (guard, found) in self.task.guards.iter().zip(&self.guards) {
            match value(guard, found.as_deref(), left) {
                None => {}
                Some(Ok((fact, value))) => drop(score.facts.insert(fact, value)),
                Some(Err(why)) => {
                    let detail = format!("guard `{}`: {why}", guard.name);
                    let invalid = Invalid::new(Reason::Guard, detail);
                    let (facts, curve) = (std::mem::take(&mut score.facts), std::mem::take(&mut score.curve));
                    *outcome = Outcome::Invalid(Invalid { facts, curve, ..invalid });
                    return;
                }
            }
        }
    }
}

fn last_match(pattern: &regex::Regex, line: &str, found: &mut Option<String>) {
    if let Some(group) = pattern.captures(line).and_then(|captures| captures.get(1)) {
        *found = Some(group.as_str().trim().to_owned());
    }
}

/// The fact and number of a guard that is read here; facts are there already, commands have none.
fn value(guard: &Guard, found: Option<&str>, left: &Left<'_>) -> Option<Result<(String, f64), String>> {
    let number = match &guard.probe {
        Probe::Fact(_) | Probe::Command(_) => return None,
        Probe::Pattern(pattern) => match found {
            Some(text) => number(text),
            None => Err(format!("no line of the output matches `{}`", pattern.as_str())),
        },
        Probe::Json(json) => json_value(json, left),
        Probe::FileBytes(file) => open(file, left).map(|(_, bytes)| bytes as f64),
    };
    let fact = guard.fact()?;
    Some(number.map(|number| (fact, number)))
}

/// A finite number, as people and programs write it.
pub(super) fn number(text: &str) -> Result<f64, String> {
    match text.trim().replace('_', "").parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(value),
        Ok(value) => Err(format!("it is {value}, which is no finite number")),
        Err(_) => Err(format!("`{}` is no number", text.chars().take(80).collect::<String>())),
    }
}

/// The number at a pointer in a JSON file; a text that holds a number counts.
pub(super) fn json_value(json: &JsonValue, left: &Left<'_>) -> Result<f64, String> {
    let JsonValue { file, pointer } = json;
    let (opened, bytes) = open(file, left)?;
    if bytes > JSON_BYTES {
        return Err(format!("{file} has {bytes} bytes; at most {JSON_BYTES} are read"));
    }
    let mut text = Vec::new();
    opened.take(JSON_BYTES).read_to_end(&mut text).map_err(|cause| format!("read {file}: {cause}"))?;
    let document: serde_json::Value =
        serde_json::from_slice(&text).map_err(|cause| format!("{file} is not JSON: {cause}"))?;
    match document.pointer(pointer) {
        Some(serde_json::Value::Number(number)) => {
            number.as_f64().ok_or_else(|| format!("{pointer} of {file} is out of range"))
        }
        Some(serde_json::Value::String(text)) => {
            number(text).map_err(|why| format!("{pointer} of {file}: {why}"))
        }
        Some(other) => Err(format!("{pointer} of {file} is {}, no number", kind(other))),
        None => Err(format!("{file} has nothing at {pointer}; {}", keys(&document))),
    }
}

fn kind(value: &serde_json::Value) -> &'static str {
    match value {
        serde_json::Value::Null => "null",
        serde_json::Value::Bool(_) => "a boolean",
        serde_json::Value::Array(_) => "a list",
        serde_json::Value::Object(_) => "an object",
        serde_json::Value::Number(_) | serde_json::Value::String(_) => "a value",
    }
}

fn keys(document: &serde_json::Value) -> String {
    match document.as_object() {
        Some(object) => {
            let names: Vec<String> = object.keys().take(8).map(|key| format!("/{key}")).collect();
            format!("at its top it has {}", names.join(", "))
        }
        None => format!("it is {}", kind(document)),
    }
}

/// Opens a plain file of the candidate's, with its size.
fn open(file: &str, left: &Left<'_>) -> Result<(File, u64), String> {
    let path = place(file, left)?;
    let roots = [Some(left.tree.to_owned()), dir(left, "scratch"), dir(left, "out")];
    let missing = |cause: std::io::Error| match cause.kind() {
        std::io::ErrorKind::NotFound => format!("the run left no {file}"),
        _ => format!("open {file}: {cause}"),
    };
    let parent = path.parent().unwrap_or(&path).canonicalize().map_err(missing)?;
    let inside = |root: PathBuf| root.canonicalize().is_ok_and(|root| parent.starts_with(root));
    if !roots.into_iter().flatten().any(inside) {
        return Err(format!("{file} leads out of the folders that the run may write"));
    }
    let opened = fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(&path)
        .map_err(|cause| match cause.raw_os_error() {
            Some(libc::ELOOP) => format!("{file} is a symbolic link; a plain file is read"),
            _ => missing(cause),
        })?;
    let metadata = opened.metadata().map_err(|cause| format!("look at {file}: {cause}"))?;
    match metadata.is_file() {
        true => Ok((opened, metadata.len())),
        false => Err(format!("{file} is not a plain file")),
    }
}

fn dir(left: &Left<'_>, name: &str) -> Option<PathBuf> {
    left.values.get(name).map(PathBuf::from)
}

fn place(file: &str, left: &Left<'_>) -> Result<PathBuf, String> {
    let filled: OsString = expand(file, left.values).map_err(|cause| cause.to_string())?;
    Ok(left.tree.join(filled))
}

/// Removes what lies where results are awaited: a result counts only when this execution wrote it.
pub(super) fn remove_stale(task: &Task, left: &Left<'_>) -> Result<(), LaneError> {
    let metric = match &task.metric.source {
        Source::Json(json) => Some(&json.file),
        _ => None,
    };
    let guards = task.guards.iter().filter_map(|guard| match &guard.probe {
        Probe::Json(json) => Some(&json.file),
        _ => None,
    });
    for file in metric.into_iter().chain(guards) {
        let path = place(file, left).map_err(|why| LaneError::new("find a result", why))?;
        match fs::remove_file(&path) {
            Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => {
                return Err(LaneError::new(format!("remove the old {}", path.display()), cause));
            }
            _ => {}
        }
    }
    Ok(())
}
