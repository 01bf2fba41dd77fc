//! `hypotheses.md`: one idea a line with a checkbox, ticked off with its outcome.
//!
//! The task's own file is never written: a copy of it below `.sprag/` is, and takes over what people add.

use std::io;
use std::path::Path;

use crate::state::Trial;

/// Name of the file in a task folder.
pub const FILE: &str = "hypotheses.md";

/// A line with a checkbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idea {
    /// The idea itself, without box and outcome.
    pub text: String,
    /// It was tried.
    pub done: bool,
    /// Where it is in the file, from 0.
    line: usize,
}

/// The ideas in the text of a file: lines that begin with `- [ ]` or `- [x]` (`*` and `+` serve too).
pub fn parse(text: &str) -> Vec<Idea> {
    text.lines().enumerate().filter_map(|(number, line)| idea(number, line)).collect()
}

fn idea(number: usize, line: &str) -> Option<Idea> {
    let rest = line.trim_start().strip_prefix(['-', '*', '+'])?.trim_start().strip_prefix('[')?;
    let (mark, text) = rest.split_once(']')?;
    let done = match mark.trim() {
        "" => false,
        "x" | "X" => true,
        _ => return None,
    };
    let text = without_outcome(text.trim());
    (!text.is_empty()).then(|| Idea { text: text.to_owned(), done, line: number })
}

/// Cuts off ` (trial 7: ...)` at the end.
fn without_outcome(text: &str) -> &str {
    match text.rfind(" (trial ") {
        Some(at) if text.ends_with(')') => text[..at].trim_end(),
        _ => text,
    }
}

/// Brings lines that people added to the task's file, and boxes they ticked there, into the copy, and returns
/// the copy's ideas.
pub fn refresh(task_file: &Path, copy: &Path) -> io::Result<Vec<Idea>> {
    let (own, copied) = (read(task_file)?, read(copy)?);
    let merged = merge(own.as_deref().unwrap_or_default(), copied.as_deref().unwrap_or_default());
    if copied.as_deref() != Some(merged.as_str()) && !merged.is_empty() {
        write(copy, &merged)?;
    }
    Ok(parse(&merged))
}

fn merge(own: &str, copied: &str) -> String {
    if copied.is_empty() {
        return own.to_owned();
    }
    let mut lines: Vec<String> = copied.lines().map(str::to_owned).collect();
    let known = parse(copied);
    for (idea, line) in parse(own).iter().map(|idea| (idea, own.lines().nth(idea.line).unwrap_or_default())) {
        match known.iter().find(|known| known.text == idea.text) {
            None => lines.push(line.to_owned()),
            Some(known) if idea.done && !known.done => lines[known.line] = line.to_owned(),
            Some(_) => {}
        }
    }
    lines.join("\n") + "\n"
}

/// Brings the copy's boxes into agreement with the ledger: an idea is ticked off with what came of the first
/// trial of it that stands, and not ticked any more when that trial was taken back. Boxes that people ticked, and
/// outcomes that other runs wrote, stay as they are.
pub fn mark(copy: &Path, trials: &[Trial]) -> io::Result<()> {
    let Some(text) = read(copy)? else { return Ok(()) };
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for idea in parse(&text) {
        let line = &mut lines[idea.line];
        let of_idea = |trial: &&Trial| trial.idea() == Some(idea.text.as_str());
        let ours = trials.iter().filter(of_idea).find(|trial| line.contains(&named(trial)));
        if idea.done && !ours.is_some_and(|trial| trial.undone) {
            continue;
        }
        let indent = &line[..line.len() - line.trim_start().len()];
        let standing = trials.iter().filter(of_idea).find(|trial| trial.verdict.is_some() && !trial.undone);
        *line = match standing {
            Some(trial) => format!("{indent}- [x] {} {}", idea.text, outcome(trial)),
            None if idea.done => format!("{indent}- [ ] {}", idea.text),
            None => continue,
        };
    }
    let marked = lines.join("\n") + "\n";
    if marked == text { Ok(()) } else { write(copy, &marked) }
}

/// How an outcome begins that this trial wrote.
fn named(trial: &Trial) -> String {
    format!(" (trial {}: ", trial.id)
}

fn outcome(trial: &Trial) -> String {
    let word = trial.verdict.as_ref().map_or("no verdict", |verdict| verdict.word());
    match trial.effect() {
        Some(effect) => {
            let sigmas = if effect.sigma > 0.0 {
                format!(" = {:+.1} sigma", effect.gain / effect.sigma)
            } else {
                String::new()
            };
            format!("{}{word}, gain {:+.4}{sigmas})", named(trial).trim_start(), effect.gain)
        }
        None => format!("{}{word})", named(trial).trim_start()),
    }
}

fn read(path: &Path) -> io::Result<Option<String>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(cause),
    }
}

/// Replaces the file as a whole, so that a reader never sees half of it.
fn write(path: &Path, text: &str) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let new = path.with_extension("md.new");
    std::fs::write(&new, text)?;
    std::fs::rename(&new, path)
}

#[cfg(test)]
mod tests;
