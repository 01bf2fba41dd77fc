//! Whether a proposal may be tried at all: checked before it costs anything.

use std::collections::BTreeMap;
use std::path::Path;

use super::content;
use crate::record::{Invalid, Reason, TrialId};
use crate::repo::{Change, ChangeKind, Repo, RepoError};
use crate::state::State;
use crate::task::{Task, TaskError};

/// A proposal that may be tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// SHA-256 of its normalised mutable files.
    pub content: String,
    /// Paths that it changes, sorted.
    pub paths: Vec<String>,
}

/// SHA-256 of the normalised mutable files of a tree.
pub fn content_of(task: &Task, tree: &Path) -> Result<String, TaskError> {
    Ok(content::sha256(&mutable_files(task, tree)?))
}

/// The mutable files of a tree. A link counts as what its target's name says; it is refused elsewhere.
pub(super) fn mutable_files(task: &Task, tree: &Path) -> Result<BTreeMap<String, Vec<u8>>, TaskError> {
    let paths = task.files.mutable_in(tree).map_err(|cause| TaskError::read(tree, cause))?;
    let mut files = BTreeMap::new();
    for path in paths {
        let full = tree.join(&path);
        let read = |cause| TaskError::read(&full, cause);
        let content = match full.symlink_metadata().map_err(read)?.is_symlink() {
            true => std::fs::read_link(&full).map_err(read)?.into_os_string().into_encoded_bytes(),
            false => std::fs::read(&full).map_err(read)?,
        };
        files.insert(path, content);
    }
    Ok(files)
}

/// Looks at what a proposer did to a worktree, compared with the commit it started from.
///
/// Refused: changes outside the mutable files, and of another kind than contents; no change; the content of an
/// earlier trial, comments and layout aside; a change of seeds alone. The outer error is git's or the disk's.
pub fn admit(
    task: &Task,
    repo: &Repo,
    worktree: &Path,
    parent: &str,
    state: &State,
    trial: TrialId,
) -> Result<Result<Admitted, Invalid>, RepoError> {
    let changes = repo.changes(worktree, parent)?;
    let (ignored, changes): (Vec<Change>, Vec<Change>) =
        changes.into_iter().partition(|change| change.kind == ChangeKind::Ignored);
    let invalid = |reason, detail: String| Ok(Err(Invalid::new(reason, detail)));

    let outside: Vec<String> = changes.iter().filter_map(|change| refusal(task, change)).collect();
    if !outside.is_empty() {
        return invalid(Reason::OutsideMutable, outside.join("; "));
    }
    if changes.is_empty() {
        let seen = match ignored.as_slice() {
            [] => "no file changed".to_owned(),
            some => format!("no file changed but what git ignores: {}", names(some)),
        };
        return invalid(Reason::Empty, seen);
    }
    let content = content_of(task, worktree).map_err(|cause| unreadable(worktree, cause))?;
    if let Some(earlier) = state.contents().get(content.as_str()).filter(|earlier| **earlier != trial) {
        let title = state.trial(*earlier).map_or("", |earlier| earlier.title());
        return invalid(
            Reason::Duplicate,
            format!("comments and layout aside it is trial {earlier} again ({title})"),
        );
    }
    if let Some(paths) = seeds_alone(repo, worktree, parent, &changes)? {
        return invalid(
            Reason::SeedOnly,
            format!("only seeds changed, in {paths}; the evaluator sets the seed"),
        );
    }
    Ok(Ok(Admitted { content, paths: changes.into_iter().map(|change| change.path).collect() }))
}

fn refusal(task: &Task, change: &Change) -> Option<String> {
    let path = &change.path;
    match change.kind {
        ChangeKind::Symlink => Some(format!("{path} became a symbolic link")),
        ChangeKind::Repository => Some(format!("{path} is a git repository within the task")),
        ChangeKind::Special => Some(format!("{path} is not a readable plain file")),
        ChangeKind::Mode => Some(format!("the file mode of {path} changed")),
        ChangeKind::Ignored => None,
        _ if task.files.is_mutable(path) => None,
        ChangeKind::Added => Some(format!("{path} was added outside the mutable files")),
        ChangeKind::Modified => Some(format!("{path} changed and is not mutable")),
        ChangeKind::Deleted => Some(format!("{path} was deleted and is not mutable")),
    }
}

fn names(changes: &[Change]) -> String {
    let mut names: Vec<&str> = changes.iter().take(5).map(|change| change.path.as_str()).collect();
    if changes.len() > names.len() {
        names.push("...");
    }
    names.join(", ")
}

/// The changed paths, when nothing but seeds (and comments) changed in any of them.
fn seeds_alone(
    repo: &Repo,
    worktree: &Path,
    parent: &str,
    changes: &[Change],
) -> Result<Option<String>, RepoError> {
    let mut seeds = false;
    for change in changes {
        if change.kind != ChangeKind::Modified {
            return Ok(None);
        }
        let before = repo.show(parent, &change.path)?.unwrap_or_default();
        let full = worktree.join(&change.path);
        let after = std::fs::read(&full).map_err(RepoError::io("read", &full))?;
        let (Ok(before), Ok(after)) = (String::from_utf8(before), String::from_utf8(after)) else {
            return Ok(None);
        };
        if content::seed_only(&change.path, &before, &after) {
            seeds = true;
        } else if content::normalise(&change.path, &before) != content::normalise(&change.path, &after) {
            return Ok(None);
        }
    }
    Ok(seeds.then(|| names(changes)))
}

fn unreadable(worktree: &Path, cause: TaskError) -> RepoError {
    match cause {
        TaskError::Read { path, cause } => RepoError::Io { what: "read", path, source: cause },
        other => RepoError::Io {
            what: "read",
            path: worktree.to_owned(),
            source: std::io::Error::other(other.to_string()),
        },
    }
}
