//! What a proposer did to a worktree, whatever it did to git's own files there.
//!
//! Nothing that the proposer could have touched is believed: the comparison uses an index of its own and
//! the repository's folder, never the worktree's `.git`, index or HEAD.

use std::fs;
use std::path::{Path, PathBuf};

use super::git::Arg;
use super::{Repo, RepoError};
use crate::record::CommitId;

/// One difference between a worktree and a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Path relative to the worktree; the name of a folder ends in `/`.
    pub path: String,
    /// What happened.
    pub kind: ChangeKind,
}

/// What happened to a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// A new regular file.
    Added,
    /// Other content.
    Modified,
    /// It is gone.
    Deleted,
    /// Its permission to be executed changed, and perhaps its content.
    Mode,
    /// It is a symbolic link now.
    Symlink,
    /// It is, or holds, a repository of its own (a submodule, a file named `.git`).
    Repository,
    /// It is neither file, folder nor link; or it cannot be read; or its name is not UTF-8.
    Special,
    /// A new file or folder that git is told to ignore: never part of a commit.
    Ignored,
}

struct Snapshot {
    tree: String,
    changes: Vec<Change>,
}

impl Repo {
    /// Differences between a worktree and a commit, untracked and ignored files included, sorted by path.
    ///
    /// A damaged `.git` file of the worktree is mended on the way.
    pub fn changes(&self, worktree: &Path, commit: &str) -> Result<Vec<Change>, RepoError> {
        Ok(self.snapshot(worktree, commit)?.changes)
    }

    /// Commits everything in the worktree but what git ignores and what no commit can hold, as a child of
    /// `parent`. No ref, index or HEAD moves.
    pub fn commit_all(&self, worktree: &Path, message: &str, parent: &str) -> Result<CommitId, RepoError> {
        let tree = self.snapshot(worktree, parent)?.tree;
        self.git(&self.dir, &[], &[&"commit-tree", &"-p", &parent, &"-m", &message, &tree])
    }

    fn snapshot(&self, worktree: &Path, commit: &str) -> Result<Snapshot, RepoError> {
        self.repair_link(worktree)?;
        let index = self.private_index(worktree);
        let snapshot = self.snapshot_with(worktree, commit, &index);
        let _ = fs::remove_file(&index);
        snapshot
    }

    /// A file for an index that nobody else uses.
    fn private_index(&self, worktree: &Path) -> PathBuf {
        let name = worktree.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        self.common.join(format!("sprag-index-{name}-{}", std::process::id()))
    }

    fn snapshot_with(&self, worktree: &Path, commit: &str, index: &Path) -> Result<Snapshot, RepoError> {
        let env: [(&str, Arg); 3] =
            [("GIT_DIR", &self.common), ("GIT_WORK_TREE", &worktree), ("GIT_INDEX_FILE", &index)];
        self.git(worktree, &env, &[&"read-tree", &commit])?;
        let list: [Arg; 6] =
            [&"ls-files", &"-z", &"--others", &"--ignored", &"--exclude-standard", &"--directory"];
        let ignored = split(&self.output(worktree, &env, &list)?.stdout);
        let mut refused = Vec::new();
        scan(worktree, "", &ignored, &mut refused)?;

        let mut add: Vec<String> = ["add", "--all", "--", "."].map(str::to_owned).to_vec();
        for change in &refused {
            // A folder with a repository of its own would be taken for a submodule, or refused aloud.
            let path = match change.kind {
                ChangeKind::Repository => parent_of(&change.path).unwrap_or(&change.path),
                _ => &change.path,
            };
            add.push(format!(":(exclude,literal){path}"));
        }
        let add: Vec<Arg> = add.iter().map(|arg| arg as Arg).collect();
        self.git(worktree, &env, &add)?;
        let tree = self.git(worktree, &env, &[&"write-tree"])?;
        let diff: [Arg; 6] = [&"diff-tree", &"-r", &"-z", &"--no-renames", &commit, &tree];
        let mut changes = parse_raw(&self.output(&self.dir, &[], &diff)?.stdout);
        changes.extend(refused);
        changes.extend(ignored.into_iter().map(|path| Change { path, kind: ChangeKind::Ignored }));
        changes.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Snapshot { tree, changes })
    }
}

fn parent_of(path: &str) -> Option<&str> {
    path.rsplit_once('/').map(|(parent, _)| parent)
}

fn split(bytes: &[u8]) -> Vec<String> {
    let parts = bytes.split(|byte| *byte == 0).filter(|part| !part.is_empty());
    parts.map(|part| String::from_utf8_lossy(part).into_owned()).collect()
}

/// Reads `:<old mode> <new mode> <old> <new> <status>` and the path after it, each ended by NUL.
fn parse_raw(bytes: &[u8]) -> Vec<Change> {
    let mut parts = bytes.split(|byte| *byte == 0);
    let mut changes = Vec::new();
    while let (Some(facts), Some(path)) = (parts.next(), parts.next()) {
        let facts = String::from_utf8_lossy(facts);
        let mut facts = facts.trim_start_matches(':').split(' ');
        let (old, new) = (facts.next().unwrap_or_default(), facts.next().unwrap_or_default());
        let kind = match (old, new) {
            _ if std::str::from_utf8(path).is_err() => ChangeKind::Special,
            (_, "000000") => ChangeKind::Deleted,
            (_, "120000") => ChangeKind::Symlink,
            (_, "160000") => ChangeKind::Repository,
            ("000000", _) => ChangeKind::Added,
            (old, new) if old == new => ChangeKind::Modified,
            _ => ChangeKind::Mode,
        };
        changes.push(Change { path: String::from_utf8_lossy(path).into_owned(), kind });
    }
    changes
}

/// Finds what git would pass over in silence or choke on. Ignored folders are not entered.
fn scan(root: &Path, below: &str, ignored: &[String], found: &mut Vec<Change>) -> Result<(), RepoError> {
    use std::os::unix::fs::PermissionsExt;
    let dir = root.join(below);
    let entries = match fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(_) => {
            found.push(Change { path: format!("{below}/"), kind: ChangeKind::Special });
            return Ok(());
        }
    };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if below.is_empty() { name.clone() } else { format!("{below}/{name}") };
        let Ok(metadata) = entry.metadata() else { continue };
        let kind = metadata.file_type();
        if name.eq_ignore_ascii_case(".git") {
            if !below.is_empty() {
                found.push(Change { path, kind: ChangeKind::Repository });
            } else if name != ".git" {
                found.push(Change { path, kind: ChangeKind::Special });
            }
        } else if kind.is_dir() {
            if !ignored.iter().any(|ignored| ignored.strip_suffix('/') == Some(&path)) {
                scan(root, &path, ignored, found)?;
            }
        } else if !(kind.is_file() || kind.is_symlink())
            || (kind.is_file() && metadata.permissions().mode() & 0o400 == 0)
        {
            found.push(Change { path, kind: ChangeKind::Special });
        }
    }
    Ok(())
}
