//! Brings the champion to a branch of the user's: one commit, or nothing at all.

use std::path::{Path, PathBuf};

use super::git::{Arg, accept};
use super::{Repo, RepoError, short};
use crate::record::CommitId;

impl Repo {
    /// Applies what changed from `base` to `champion` to a branch, as one commit with that message.
    ///
    /// Changes made on the branch since `base` stay. A branch that is checked out somewhere is updated there,
    /// which needs a checkout without uncommitted changes; of others only the ref moves.
    pub fn merge_into(
        &self,
        branch: &str,
        base: &str,
        champion: &str,
        message: &str,
    ) -> Result<CommitId, RepoError> {
        let name = format!("refs/heads/{branch}");
        let tip = self.branch_tip(branch)?;
        let checkout = self.checkout_of(&name)?;
        if let Some(dir) = &checkout {
            self.refuse_dirty(branch, dir)?;
        }
        let tree = self.merged_tree(branch, base, &tip, champion)?;
        if tree == self.tree_of(&tip)? {
            return Err(RepoError::NothingToMerge { branch: branch.to_owned() });
        }
        let commit = self.commit_as_user(&tree, &tip, message)?;
        match checkout {
            Some(dir) => {
                let args: [Arg; 5] = [&"merge", &"--quiet", &"--ff-only", &"--no-verify-signatures", &commit];
                accept(self.as_user(&dir, &[], &args)?, &dir, &args)?;
            }
            None => self.set_ref(&name, &commit, Some(&tip))?,
        }
        Ok(commit)
    }

    /// A commit of Sprag's on top of `onto` with what changed from `parent` to `commit`.
    pub fn replay(
        &self,
        parent: &str,
        commit: &str,
        onto: &str,
        message: &str,
    ) -> Result<CommitId, RepoError> {
        let name = short(onto);
        let tree = self.merged_tree(name, parent, onto, commit)?;
        if tree == self.tree_of(onto)? {
            return Err(RepoError::NothingToMerge { branch: name.to_owned() });
        }
        self.git(&self.dir, &[], &[&"commit-tree", &"-p", &onto, &"-m", &message, &tree])
    }

    /// The commit that a branch of the user's is at.
    pub fn branch_tip(&self, branch: &str) -> Result<CommitId, RepoError> {
        let tip = self.read_ref(&format!("refs/heads/{branch}"))?;
        tip.ok_or_else(|| RepoError::NoBranch { branch: branch.to_owned() })
    }

    /// The folder where a branch is checked out.
    pub(super) fn checkout_of(&self, name: &str) -> Result<Option<PathBuf>, RepoError> {
        let list = self.git(&self.dir, &[], &[&"worktree", &"list", &"--porcelain"])?;
        let mut folder = None;
        for line in list.lines() {
            if let Some(path) = line.strip_prefix("worktree ") {
                folder = Some(PathBuf::from(path));
            } else if line.strip_prefix("branch ") == Some(name) {
                return Ok(folder.filter(|folder| folder.exists()));
            }
        }
        Ok(None)
    }

    /// Untracked files are no obstacle: git itself refuses to overwrite one.
    fn refuse_dirty(&self, branch: &str, dir: &Path) -> Result<(), RepoError> {
        let args: [Arg; 3] = [&"status", &"--porcelain", &"--untracked-files=no"];
        let status = accept(self.as_user(dir, &[], &args)?, dir, &args)?;
        let text = String::from_utf8_lossy(&status.stdout).into_owned();
        let paths: Vec<String> =
            text.lines().filter_map(|line| line.get(3..)).take(5).map(str::to_owned).collect();
        if paths.is_empty() {
            return Ok(());
        }
        Err(RepoError::Dirty { branch: branch.to_owned(), dir: dir.to_owned(), paths })
    }

    fn tree_of(&self, commit: &str) -> Result<String, RepoError> {
        self.git(&self.dir, &[], &[&"rev-parse", &"--verify", &format!("{commit}^{{tree}}")])
    }

    /// Merges path by path: a proposal changes few files, and renames are none of its business.
    fn merged_tree(&self, branch: &str, base: &str, tip: &str, champion: &str) -> Result<String, RepoError> {
        let index = self.common.join(format!("sprag-index-merge-{}", std::process::id()));
        let merged = self.merged_tree_with(branch, base, tip, champion, &index);
        let _ = std::fs::remove_file(&index);
        merged
    }

    fn merged_tree_with(
        &self,
        branch: &str,
        base: &str,
        tip: &str,
        champion: &str,
        index: &Path,
    ) -> Result<String, RepoError> {
        let env: [(&str, Arg); 1] = [("GIT_INDEX_FILE", &index)];
        self.git(&self.dir, &env, &[&"read-tree", &tip])?;
        let changed: [Arg; 7] =
            [&"diff-tree", &"-r", &"-z", &"--no-renames", &"--name-only", &base, &champion];
        let changed = self.git(&self.dir, &[], &changed)?;
        let mut conflicts = Vec::new();
        for path in changed.split('\0').filter(|path| !path.is_empty()) {
            let at = |commit: &str| self.entry(commit, path);
            let (old, ours, theirs) = (at(base)?, at(tip)?, at(champion)?);
            let entry = if ours == old || ours == theirs {
                theirs
            } else {
                match self.merge_file(old, ours, theirs)? {
                    Some(merged) => Some(merged),
                    None => {
                        conflicts.push(path.to_owned());
                        continue;
                    }
                }
            };
            match entry {
                Some((mode, blob)) => {
                    let info = format!("{mode},{blob},{path}");
                    self.git(
                        &self.dir,
                        &env,
                        &[&"update-index", &"--add", &"--replace", &"--cacheinfo", &info],
                    )?;
                }
                None => {
                    self.git(&self.dir, &env, &[&"update-index", &"--force-remove", &"--", &path])?;
                }
            }
        }
        if !conflicts.is_empty() {
            let champion = short(champion).to_owned();
            return Err(RepoError::Conflict { branch: branch.to_owned(), champion, paths: conflicts });
        }
        self.git(&self.dir, &env, &[&"write-tree"])
    }

    /// Mode and object of a path at a commit.
    fn entry(&self, commit: &str, path: &str) -> Result<Option<(String, String)>, RepoError> {
        let listed = self.git(&self.dir, &[], &[&"ls-tree", &"-z", &commit, &"--", &path])?;
        Ok(listed.split('\0').find_map(|entry| {
            let (facts, name) = entry.split_once('\t')?;
            let mut facts = facts.split(' ');
            let (mode, _, object) = (facts.next()?, facts.next()?, facts.next()?);
            (name == path).then(|| (mode.to_owned(), object.to_owned()))
        }))
    }

    /// Merges three versions of a file by lines; `None` is a conflict.
    fn merge_file(
        &self,
        old: Option<(String, String)>,
        ours: Option<(String, String)>,
        theirs: Option<(String, String)>,
    ) -> Result<Option<(String, String)>, RepoError> {
        let (Some(old), Some(ours), Some(theirs)) = (old, ours, theirs) else { return Ok(None) };
        let folder = self.common.join(format!("sprag-merge-{}", std::process::id()));
        std::fs::create_dir_all(&folder).map_err(RepoError::io("create", &folder))?;
        let merged = self.merge_in(&folder, [&ours.1, &old.1, &theirs.1]);
        let _ = std::fs::remove_dir_all(&folder);
        Ok(merged?.map(|blob| (theirs.0, blob)))
    }

    fn merge_in(&self, folder: &Path, versions: [&str; 3]) -> Result<Option<String>, RepoError> {
        for (name, blob) in ["ours", "old", "theirs"].iter().zip(versions) {
            let content = self.output(&self.dir, &[], &[&"cat-file", &"blob", &blob])?.stdout;
            let file = folder.join(name);
            std::fs::write(&file, content).map_err(RepoError::io("write", &file))?;
        }
        // Exit status is the number of conflicts, or 255 (and 128) when it cannot be merged at all.
        let output = self.hermetic(folder, &[], &[&"merge-file", &"--quiet", &"ours", &"old", &"theirs"])?;
        if !output.success() {
            return Ok(None);
        }
        let merged = folder.join("ours");
        Ok(Some(self.git(&self.dir, &[], &[&"hash-object", &"-w", &"--no-filters", &"--", &merged])?))
    }

    /// A commit in the user's name where git knows it, else in Sprag's.
    fn commit_as_user(&self, tree: &str, parent: &str, message: &str) -> Result<CommitId, RepoError> {
        let known: [Arg; 4] = [&"-c", &"user.useConfigOnly=true", &"var", &"GIT_AUTHOR_IDENT"];
        if !self.as_user(&self.dir, &[], &known)?.success() {
            return self.git(&self.dir, &[], &[&"commit-tree", &"-p", &parent, &"-m", &message, &tree]);
        }
        let args: [Arg; 6] = [&"commit-tree", &"-p", &parent, &"-m", &message, &tree];
        Ok(accept(self.as_user(&self.dir, &[], &args)?, &self.dir, &args)?.text())
    }
}
