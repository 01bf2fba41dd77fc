//! Finds what a crash, a kill or a person's cleaning left behind, and mends what can be mended.

use std::path::Path;

use serde::Serialize;

use super::lock::Lock;
use super::{Layout, litter, load, runs};
use crate::ledger;
use crate::repo::Repo;
use crate::task::Task;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// All is well.
    Fine,
    /// Worth knowing; runs go on.
    Note,
    /// Stands in the way of a run.
    Problem,
}

/// One thing that the doctor looked at.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// What.
    pub what: String,
    /// How bad.
    pub severity: Severity,
    /// The next step, where there is one.
    pub hint: Option<String>,
    /// True when it was mended now.
    pub fixed: bool,
}

impl Finding {
    /// All is well.
    pub fn fine(what: impl Into<String>) -> Finding {
        Finding { what: what.into(), severity: Severity::Fine, hint: None, fixed: false }
    }

    /// Worth knowing.
    pub fn note(what: impl Into<String>, hint: impl Into<String>) -> Finding {
        Finding { what: what.into(), severity: Severity::Note, hint: Some(hint.into()), fixed: false }
    }

    /// In the way.
    pub fn problem(what: impl Into<String>, hint: impl Into<String>) -> Finding {
        Finding { what: what.into(), severity: Severity::Problem, hint: Some(hint.into()), fixed: false }
    }
}

/// Examines a task's folder; with `fix` it also removes what is stale, provided that nothing runs there.
pub fn doctor(task_dir: &Path, fix: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    let task = match Task::load(task_dir) {
        Ok(task) => {
            findings.push(Finding::fine(format!("task `{}` is valid", task.name)));
            task
        }
        Err(error) => {
            findings.push(Finding::problem(
                error.to_string(),
                "mend task.toml, or begin with `sprag init gpt DIR`",
            ));
            return findings;
        }
    };
    let layout = Layout::of(&task.dir);
    let repo = match Repo::open(&task.dir) {
        Ok(repo) => repo,
        Err(error) => {
            findings.push(Finding::problem(
                error.to_string(),
                "a task is a git repository with one commit at least",
            ));
            return findings;
        }
    };
    if !layout.root().exists() {
        findings.push(Finding::fine("nothing was run here yet"));
        return findings;
    }
    let lock = Lock::take(&layout, "with `sprag doctor`");
    match &lock {
        Ok(_) => findings
            .push(Finding::fine("no other program works on this task; a lock left by a crash ends with it")),
        Err(error) => {
            findings.push(Finding::note(error.to_string(), "let it finish before `sprag doctor --fix`"))
        }
    }
    if lock.is_ok() {
        git_leftovers(&repo, fix, &mut findings);
    }
    let fix = fix && lock.is_ok();
    examine_runs(&task, &layout, &mut findings);
    stale_folders(&task, &layout, &repo, fix, &mut findings);
    findings
}

fn examine_runs(task: &Task, layout: &Layout, findings: &mut Vec<Finding>) {
    for run in runs(&task.dir) {
        match ledger::read(&layout.ledger(&run)) {
            Ok(contents) if contents.torn_bytes > 0 => findings.push(Finding::note(
                format!("the ledger of {run} has a torn last line of {} bytes", contents.torn_bytes),
                "`sprag run` cuts it off aloud and goes on; nothing recorded is lost",
            )),
            Ok(contents) => {
                findings.push(Finding::fine(format!("{run}: {} ledger lines in order", contents.lines.len())))
            }
            Err(error) => {
                findings.push(Finding::problem(error.to_string(), "restore the file, or `sprag run --new`"))
            }
        }
    }
}

/// Locks and private files that a kill in the middle of git left, where nobody is at work.
fn git_leftovers(repo: &Repo, fix: bool, findings: &mut Vec<Finding>) {
    let leftovers = repo.leftovers();
    if fix && let Err(error) = repo.remove_leftovers() {
        findings.push(Finding::problem(error.to_string(), "mend the permissions of `.git`"));
    }
    for path in leftovers {
        let hint = "`sprag doctor --fix` removes it, and so does the next `sprag run`";
        let note = Finding::note(format!("{} is left over", path.display()), hint);
        findings.push(Finding { fixed: fix && !path.exists(), ..note });
    }
}

/// Worktrees and build outputs that belong to no arm that can still be executed.
fn stale_folders(task: &Task, layout: &Layout, repo: &Repo, fix: bool, findings: &mut Vec<Finding>) {
    let mut live = Vec::new();
    for run in runs(&task.dir) {
        let Ok((state, _)) = load(&task.dir, Some(&run)) else { return };
        live.push((format!("{run}-"), litter::live(&state)));
    }
    for folder in [layout.worktrees(), layout.outs()] {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let of = |prefix: &str| litter::trial_of(&name, prefix);
            if live.iter().any(|(prefix, trials)| of(prefix).is_some_and(|trial| trials.contains(&trial))) {
                continue;
            }
            let path = entry.path();
            let hint = "`sprag doctor --fix` removes it; its commit stays under refs/sprag";
            let mut finding = Finding::note(format!("{} is left over", path.display()), hint);
            if fix {
                let _ = repo.worktree_remove(&path);
                finding.fixed = !path.exists() || std::fs::remove_dir_all(&path).is_ok();
            }
            findings.push(finding);
        }
    }
    if fix {
        match repo.prune() {
            Ok(()) => findings.push(Finding::fine("git's list of worktrees agrees with the folders")),
            Err(error) => {
                findings.push(Finding::problem(error.to_string(), "run `git worktree prune` in the task"))
            }
        }
    }
}
