//! The task's git repository: worktrees, commits, refs, merging.
//!
//! Git is called through the process door and is hermetic: no hooks, no signing, no filters, no global or
//! system configuration, an identity of its own. The user's checkout is touched by [`Repo::merge_into`]
//! alone. Which changes are allowed belongs to `proposer`.

mod changes;
#[cfg(test)]
pub(crate) mod fixture;
mod git;
mod leftovers;
mod merge;
mod worktree;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use sprag_measure::process::ProcessError;

pub use changes::{Change, ChangeKind};
pub(crate) use worktree::remove_all;

use crate::record::CommitId;

/// A git repository whose top folder is the task folder.
#[derive(Clone, Debug)]
pub struct Repo {
    dir: PathBuf,
    /// The `.git` folder that all worktrees share.
    common: PathBuf,
    environment: Vec<(OsString, OsString)>,
    empty_tree: String,
}

/// Why git could not do something.
#[derive(Debug, thiserror::Error)]
pub enum RepoError {
    /// Git did not start.
    #[error("run git: {0}; install git 2.31 or newer, or add it to PATH")]
    Start(#[from] ProcessError),
    /// Git refused.
    #[error("git {command} in {}: {detail}", dir.display())]
    Git {
        /// The subcommand.
        command: String,
        /// Where it ran.
        dir: PathBuf,
        /// What git said.
        detail: String,
    },
    /// The folder is not the top of a repository.
    #[error("open {} as a git repository: {detail}; run `git init` there and commit the task", dir.display())]
    NotARepository {
        /// The folder.
        dir: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// The repository has no commit.
    #[error("start from a commit of {}: there is none; commit the task's files", dir.display())]
    NoCommit {
        /// The folder.
        dir: PathBuf,
    },
    /// A file operation failed.
    #[error("{what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// There is no such branch.
    #[error("merge into `{branch}`: there is no such branch; create it with `git branch {branch}`")]
    NoBranch {
        /// The branch.
        branch: String,
    },
    /// The branch is checked out with changes that are not committed.
    #[error(
        "merge into `{branch}`: {} has uncommitted changes ({}); commit or stash them and merge again",
        dir.display(),
        paths.join(", ")
    )]
    Dirty {
        /// The branch.
        branch: String,
        /// Where it is checked out.
        dir: PathBuf,
        /// Some of the changed paths.
        paths: Vec<String>,
    },
    /// The branch and the champion changed the same lines.
    #[error(
        "merge into `{branch}`: it changed the same places of {} since the run began; \
         settle it by hand with `git merge {champion}`",
        paths.join(", ")
    )]
    Conflict {
        /// The branch.
        branch: String,
        /// The champion's commit, abbreviated.
        champion: String,
        /// The paths in conflict.
        paths: Vec<String>,
    },
    /// The run's branch is not where the run left it.
    #[error(
        "move `{branch}` on from {}: it is at {} now; keep what was committed there with \
         `git branch my-work {branch}`, put the branch back with `git branch --force {branch} {expected}`, \
         and start the same command again",
        short(expected),
        short(found)
    )]
    Moved {
        /// The branch.
        branch: String,
        /// Where the run left it.
        expected: CommitId,
        /// Where it is.
        found: CommitId,
    },
    /// The run's branch is checked out: files there would not follow when it moves.
    #[error(
        "move `{branch}` on: it is checked out in {}; check out another branch there, \
         or the commit alone with `git checkout --detach`, and start the same command again",
        dir.display()
    )]
    CheckedOut {
        /// The branch.
        branch: String,
        /// Where.
        dir: PathBuf,
    },
    /// The branch holds the champion's changes already.
    #[error("merge into `{branch}`: it holds these changes already")]
    NothingToMerge {
        /// The branch.
        branch: String,
    },
}

/// A commit as people read it.
fn short(commit: &str) -> &str {
    commit.get(..12).unwrap_or(commit)
}

impl RepoError {
    pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> RepoError {
        let path = path.to_owned();
        move |source| RepoError::Io { what, path, source }
    }
}

impl Repo {
    /// [`Repo::open_with`] no environment: git is looked for in the usual folders.
    pub fn open(dir: &Path) -> Result<Repo, RepoError> {
        Repo::open_with(dir, &[])
    }

    /// Opens the repository whose top is `dir`. Of the environment `PATH`, `HOME`, `XDG_CONFIG_HOME` and
    /// `TMPDIR` are used, the first to find git, the others when the user's own checkout is updated.
    pub fn open_with(dir: &Path, environment: &[(OsString, OsString)]) -> Result<Repo, RepoError> {
        let not_a_repository = |detail: String| RepoError::NotARepository { dir: dir.to_owned(), detail };
        let dir = dir.canonicalize().map_err(|cause| not_a_repository(cause.to_string()))?;
        let environment = git::environment(environment);
        let mut repo = Repo { common: dir.join(".git"), dir, environment, empty_tree: String::new() };
        let dir = repo.dir.clone();
        let asked = repo.git(&dir, &[], &[&"rev-parse", &"--show-toplevel", &"--git-common-dir"]);
        let answer = asked.map_err(|cause| match cause {
            RepoError::Git { detail, .. } => not_a_repository(detail),
            other => other,
        })?;
        let (top, common) = answer.split_once('\n').unwrap_or((&answer, ".git"));
        if Path::new(top).canonicalize().ok().as_ref() != Some(&dir) {
            return Err(not_a_repository(format!("the repository's top folder is {top}")));
        }
        let common = dir.join(common);
        repo.common = common.canonicalize().map_err(RepoError::io("open", &common))?;
        repo.empty_tree = repo.git(&dir, &[], &[&"hash-object", &"-t", &"tree", &"/dev/null"])?;
        Ok(repo)
    }

    /// The repository's top folder, links resolved.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The commit that the user has checked out.
    pub fn head(&self) -> Result<CommitId, RepoError> {
        let head =
            self.try_git(&self.dir, &[], &[&"rev-parse", &"--verify", &"--quiet", &"HEAD^{commit}"])?;
        head.ok_or_else(|| RepoError::NoCommit { dir: self.dir.clone() })
    }

    /// The branch that the user has checked out; `None` when no branch is.
    pub fn current_branch(&self) -> Result<Option<String>, RepoError> {
        self.try_git(&self.dir, &[], &[&"symbolic-ref", &"--quiet", &"--short", &"HEAD"])
    }

    /// The commit that a revision names.
    pub fn resolve(&self, revision: &str) -> Result<CommitId, RepoError> {
        let commit = format!("{revision}^{{commit}}");
        self.git(&self.dir, &[], &[&"rev-parse", &"--verify", &"--end-of-options", &commit])
    }

    /// The commit that a ref, given by its full name, points at.
    pub fn read_ref(&self, name: &str) -> Result<Option<CommitId>, RepoError> {
        let commit = format!("{name}^{{commit}}");
        self.try_git(&self.dir, &[], &[&"rev-parse", &"--verify", &"--quiet", &"--end-of-options", &commit])
    }

    /// True when `descendant` holds the history of `ancestor`; false for an ancestor that git forgot.
    pub fn is_ancestor(&self, ancestor: &str, descendant: &str) -> Result<bool, RepoError> {
        if self.read_ref(ancestor)?.is_none() {
            return Ok(false);
        }
        let asked: [&dyn AsRef<std::ffi::OsStr>; 4] =
            [&"merge-base", &"--is-ancestor", &ancestor, &descendant];
        Ok(self.try_git(&self.dir, &[], &asked)?.is_some())
    }

    /// Points a ref at a commit. With `expected` it fails unless the ref is there now.
    pub fn set_ref(&self, name: &str, commit: &str, expected: Option<&str>) -> Result<(), RepoError> {
        match expected {
            Some(expected) => self.git(&self.dir, &[], &[&"update-ref", &name, &commit, &expected])?,
            None => self.git(&self.dir, &[], &[&"update-ref", &name, &commit])?,
        };
        Ok(())
    }

    /// Moves a branch of ours from where we left it. One that is at its goal already stays; one that is gone
    /// is made anew. Refused while it is checked out or holds something else.
    pub fn move_branch(&self, branch: &str, from: &str, to: &str) -> Result<(), RepoError> {
        let name = format!("refs/heads/{branch}");
        let at = self.read_ref(&name)?;
        if at.as_deref() == Some(to) {
            return Ok(());
        }
        if let Some(dir) = self.checkout_of(&name)? {
            return Err(RepoError::CheckedOut { branch: branch.to_owned(), dir });
        }
        match at {
            Some(found) if found != from => {
                let (branch, expected) = (branch.to_owned(), from.to_owned());
                Err(RepoError::Moved { branch, expected, found })
            }
            at => self.set_ref(&name, to, at.as_deref()),
        }
    }

    /// Deletes a ref; one that is not there is no error.
    pub fn delete_ref(&self, name: &str) -> Result<(), RepoError> {
        self.git(&self.dir, &[], &[&"update-ref", &"-d", &name]).map(drop)
    }

    /// Refs whose full names begin with `prefix` (whole parts), with what they point at, sorted by name.
    pub fn list_refs(&self, prefix: &str) -> Result<Vec<(String, CommitId)>, RepoError> {
        let format = "--format=%(refname) %(objectname)";
        let text = self.git(&self.dir, &[], &[&"for-each-ref", &format, &prefix])?;
        Ok(text.lines().filter_map(|line| line.split_once(' ')).map(|(n, c)| (n.into(), c.into())).collect())
    }

    /// The difference between two commits as a unified diff.
    pub fn diff(&self, from: &str, to: &str) -> Result<String, RepoError> {
        let plain: [&dyn AsRef<std::ffi::OsStr>; 7] =
            [&"diff", &"--no-color", &"--no-ext-diff", &"--no-textconv", &from, &to, &"--"];
        let output = self.output(&self.dir, &[], &plain)?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Lines added and removed between two commits.
    pub fn diff_stat(&self, from: &str, to: &str) -> Result<(u32, u32), RepoError> {
        let text =
            self.git(&self.dir, &[], &[&"diff-tree", &"-r", &"--numstat", &"--no-renames", &from, &to])?;
        Ok(text.lines().fold((0, 0), |(added, removed), line| {
            let mut numbers = line.split('\t').map(|number| number.parse().unwrap_or(0));
            (added + numbers.next().unwrap_or(0), removed + numbers.next().unwrap_or(0))
        }))
    }

    /// A file's content at a commit; `None` when there is no such file.
    pub fn show(&self, commit: &str, path: &str) -> Result<Option<Vec<u8>>, RepoError> {
        let listed = self.git(&self.dir, &[], &[&"ls-tree", &"-z", &commit, &"--", &path])?;
        let blob = listed.split('\0').find_map(|entry| {
            let (facts, name) = entry.split_once('\t')?;
            let mut facts = facts.split(' ').skip(1);
            (name == path && facts.next() == Some("blob")).then(|| facts.next()).flatten()
        });
        let Some(blob) = blob else { return Ok(None) };
        Ok(Some(self.output(&self.dir, &[], &[&"cat-file", &"blob", &blob])?.stdout))
    }

    /// All files of a commit, sorted.
    pub fn files(&self, commit: &str) -> Result<Vec<String>, RepoError> {
        let listed = self.git(&self.dir, &[], &[&"ls-tree", &"-r", &"-z", &"--name-only", &commit])?;
        Ok(listed.split('\0').filter(|name| !name.is_empty()).map(str::to_owned).collect())
    }

    /// Applies a patch file to a worktree: all of it or nothing. Nothing outside the worktree can be reached.
    pub fn apply(&self, worktree: &Path, patch: &Path) -> Result<(), RepoError> {
        // Git 2.47 dies of a null pointer when `apply` is told where attributes come from.
        let plain = Repo { empty_tree: String::new(), ..self.clone() };
        plain.git(worktree, &[], &[&"apply", &"--whitespace=nowarn", &"--", &patch]).map(drop)
    }

    /// Has git ignore a pattern in this repository, without a change to any tracked file.
    pub fn exclude(&self, pattern: &str) -> Result<(), RepoError> {
        let path = self.common.join("info").join("exclude");
        // A link may lead to a file that the user shares between repositories: that one is written.
        let path = path.canonicalize().unwrap_or(path);
        let mut text = match std::fs::read(&path) {
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            read => read.map_err(RepoError::io("read", &path))?,
        };
        if text.split(|byte| *byte == b'\n').any(|line| line == pattern.as_bytes()) {
            return Ok(());
        }
        if text.last().is_some_and(|last| *last != b'\n') {
            text.push(b'\n');
        }
        text.extend_from_slice(pattern.as_bytes());
        text.push(b'\n');
        // The file is the user's: it is replaced as a whole or stays as it is.
        let partial = path.with_extension("sprag-partial");
        std::fs::create_dir_all(self.common.join("info")).map_err(RepoError::io("create", &path))?;
        std::fs::write(&partial, text).map_err(RepoError::io("write", &partial))?;
        std::fs::rename(&partial, &path).map_err(RepoError::io("write", &path))
    }
}

#[cfg(test)]
mod tests;
