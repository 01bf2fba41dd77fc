//! The brief: what a program that proposes may read, as text for people and models, and as JSON.

use std::fmt::Write;
use std::io;

use serde_json::json;

use super::Brief;
use super::hypotheses::Idea;
use crate::record::{Direction, Effect, Verdict};
use crate::state::Trial;

/// Trials shown in full in the text; all are in `history.json`.
const SHOWN: usize = 40;

/// Writes `brief.md` and `history.json`.
pub fn write(brief: &Brief<'_>, open: &[&Idea]) -> io::Result<()> {
    std::fs::create_dir_all(brief.brief_dir)?;
    std::fs::write(brief.brief_dir.join("brief.md"), text(brief, open))?;
    let history: Vec<serde_json::Value> = decided(brief).map(entry).collect();
    let history = serde_json::to_vec_pretty(&history).map_err(io::Error::other)?;
    std::fs::write(brief.brief_dir.join("history.json"), history)
}

fn decided<'b>(brief: &Brief<'b>) -> impl Iterator<Item = &'b Trial> {
    brief.state.trials.iter().filter(|trial| trial.verdict.is_some())
}

fn entry(trial: &Trial) -> serde_json::Value {
    let proposed = trial.proposed.as_ref();
    json!({
        "trial": trial.id,
        "title": trial.title(),
        "hypothesis": proposed.and_then(|proposed| proposed.hypothesis.clone()),
        "family": proposed.and_then(|proposed| proposed.family.clone()),
        "proposer": trial.proposer,
        "outcome": trial.verdict.as_ref().map(Verdict::word),
        "reason": trial.reason,
        "effect": trial.effect(),
        "gain_in_sigma": trial.effect().and_then(|effect| in_sigma(&effect, effect.gain)),
        "kept": trial.kept,
        "commit": proposed.map(|proposed| proposed.commit.clone()),
    })
}

fn in_sigma(effect: &Effect, value: f64) -> Option<f64> {
    (effect.sigma > 0.0).then(|| value / effect.sigma)
}

fn text(brief: &Brief<'_>, open: &[&Idea]) -> String {
    let mut text = String::new();
    let mut add = |part: String| {
        text.push_str(part.trim_end());
        text.push_str("\n\n");
    };
    add(format!("# Brief for trial {} of {}", brief.trial, brief.task.name));
    add(what_to_do(brief));
    if let Some(error) = brief.repair {
        add(format!(
            "## The build failed\n\nThe worktree holds the proposal as it was built. Mend it, and change nothing else.\n\n{}",
            fenced(error)
        ));
    }
    add(incumbent(brief));
    add(history(brief));
    if let Some(elsewhere) = crate::history::section(&brief.task.dir) {
        add(elsewhere);
    }
    if !open.is_empty() {
        add(ideas(open));
    }
    if !brief.machine.is_empty() {
        add(machine(brief));
    }
    if let Ok(program) = std::fs::read_to_string(brief.worktree.join("program.md")) {
        add(format!("## program.md\n\n{program}"));
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

fn what_to_do(brief: &Brief<'_>) -> String {
    let task = brief.task;
    let better = match task.metric.direction {
        Direction::Lower => "lower",
        Direction::Higher => "higher",
    };
    let paths: Vec<String> = task.files.mutable.patterns().map(|path| format!("`{path}`")).collect();
    format!(
        "Edit the files of the current folder, a checkout of the incumbent, so that `{}` gets {better} within a budget \
         of {}. One idea a trial. You may change {} and nothing else; what changes anything else, only comments or \
         seeds, or repeats an earlier trial is rejected unseen. Do not commit.\n\n\
         Say what you did in `{}`, all keys optional:\n\n\
         ```json\n{{\"title\": \"one line\", \"hypothesis\": \"what you expect, and why\", \"family\": \"kind of idea\", \
         \"idea\": 1}}\n```\n\n\
         `idea` is the number of an open idea below. `{{\"exhausted\": \"why\"}}` says that you have nothing left to \
         propose.",
        task.metric.name,
        task.budget,
        paths.join(", "),
        brief.brief_dir.join("proposal.json").display(),
    )
}

fn incumbent(brief: &Brief<'_>) -> String {
    let mut text = "## Incumbent\n\n".to_owned();
    if let Some((mean, sd, n)) = brief.state.baseline() {
        let _ = writeln!(text, "- baseline: {mean:.5}, noise of one run (sd) {sd:.5}, n = {n}");
    }
    if let Some(trial) = brief.state.incumbent.and_then(|id| brief.state.trial(id)) {
        let scores: Vec<f64> = brief.state.scores_of(trial.id).into_iter().map(|(_, score)| score).collect();
        let _ = writeln!(text, "- incumbent: trial {} ({}), {}", trial.id, trial.title(), summary(&scores));
    }
    let _ = writeln!(text, "- its code: the current folder, {}", brief.worktree.display());
    if let Ok(files) = brief.task.files.mutable_in(brief.worktree) {
        for file in files {
            let _ = writeln!(text, "  - {file}");
        }
    }
    text
}

/// Mean, standard deviation and count; both are unknown where there is too little.
fn summary(scores: &[f64]) -> String {
    let n = scores.len();
    if n == 0 {
        return "no score yet".to_owned();
    }
    let mean = scores.iter().sum::<f64>() / n as f64;
    if n == 1 {
        return format!("score {mean:.5}, n = 1");
    }
    let sd = (scores.iter().map(|score| (score - mean).powi(2)).sum::<f64>() / (n - 1) as f64).sqrt();
    format!("mean {mean:.5}, sd {sd:.5}, n = {n}")
}

fn history(brief: &Brief<'_>) -> String {
    let trials: Vec<&Trial> = decided(brief).filter(|trial| trial.id > 0).collect();
    let mut text = "## History\n\n".to_owned();
    if trials.is_empty() {
        text.push_str("Nothing was tried yet.\n");
        return text;
    }
    let left_out = trials.len().saturating_sub(SHOWN);
    if left_out > 0 {
        let _ = writeln!(text, "The first {left_out} trials are in `history.json` alone.\n");
    }
    text.push_str("Gains are in sigma (sd of one run), positive when better; in brackets the interval.\n\n");
    text.push_str("| trial | outcome | gain | change | reason |\n|---|---|---|---|---|\n");
    for trial in trials.into_iter().skip(left_out) {
        let gain = trial.effect().and_then(|effect| {
            let sigma = |value| in_sigma(&effect, value);
            Some(format!(
                "{:+.1} [{:+.1}, {:+.1}]",
                sigma(effect.gain)?,
                sigma(effect.low)?,
                sigma(effect.high)?
            ))
        });
        let word = trial.verdict.as_ref().map_or("", Verdict::word);
        let undone = if trial.undone { " (taken back)" } else { "" };
        let _ = writeln!(
            text,
            "| {} | {word}{undone} | {} | {} | {} |",
            trial.id,
            gain.unwrap_or_default(),
            cell(trial.title()),
            cell(trial.reason.as_deref().unwrap_or_default())
        );
    }
    text
}

fn cell(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

fn ideas(open: &[&Idea]) -> String {
    let mut text = "## Open ideas\n\n".to_owned();
    for (number, idea) in open.iter().enumerate() {
        let _ = writeln!(text, "{}. {}", number + 1, idea.text);
    }
    text
}

fn machine(brief: &Brief<'_>) -> String {
    let mut text = "## Machine\n\n".to_owned();
    for (name, value) in brief.machine {
        let _ = writeln!(text, "- {name}: {value}");
    }
    text
}

/// A fence longer than any within the text.
fn fenced(text: &str) -> String {
    let mut fence = "```".to_owned();
    while text.contains(&fence) {
        fence.push('`');
    }
    format!("{fence}\n{}\n{fence}", text.trim_end())
}
