//! Worktrees of trials, added by git and removed by hand: a proposer may have damaged any file in one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{Repo, RepoError};

impl Repo {
    /// Checks a commit out into a fresh folder, on no branch. What lay there before is removed.
    pub fn worktree_add(&self, path: &Path, commit: &str) -> Result<(), RepoError> {
        self.worktree_remove(path)?;
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(RepoError::io("create", parent))?;
        }
        self.git(
            &self.dir,
            &[],
            &[&"worktree", &"add", &"--quiet", &"--detach", &"--force", &path, &commit],
        )?;
        Ok(())
    }

    /// Removes a worktree, whatever state it is in, and git's notes on it.
    pub fn worktree_remove(&self, path: &Path) -> Result<(), RepoError> {
        // Looked up first: the path's links can be resolved only while it exists.
        let notes = self.notes_of(path);
        remove_all(path).map_err(RepoError::io("remove", path))?;
        match notes {
            Some(notes) => remove_all(&notes).map_err(RepoError::io("remove", &notes)),
            None => Ok(()),
        }
    }

    /// Forgets the worktrees below `.sprag/` whose folders are gone. The user's own worktrees are left
    /// alone, even those on a disk that is not there now.
    pub fn prune(&self) -> Result<(), RepoError> {
        let ours = self.dir.join(".sprag");
        for (notes, worktree) in self.worktrees() {
            if worktree.starts_with(&ours) && !worktree.exists() {
                remove_all(&notes).map_err(RepoError::io("remove", &notes))?;
            }
        }
        Ok(())
    }

    /// Makes the worktree's `.git` the file that git wrote when the worktree was added.
    pub(super) fn repair_link(&self, worktree: &Path) -> Result<(), RepoError> {
        fs::create_dir_all(worktree).map_err(RepoError::io("create", worktree))?;
        let link = worktree.join(".git");
        let wanted = self.notes_of(worktree).map(|notes| format!("gitdir: {}\n", notes.display()));
        let is_file = link.symlink_metadata().is_ok_and(|metadata| metadata.is_file());
        if is_file && wanted.is_some() && fs::read_to_string(&link).ok() == wanted {
            return Ok(());
        }
        remove_all(&link).map_err(RepoError::io("remove", &link))?;
        match wanted {
            Some(text) => fs::write(&link, text).map_err(RepoError::io("write", &link)),
            None => Ok(()),
        }
    }

    /// Git's notes on that worktree.
    pub(super) fn notes_of(&self, worktree: &Path) -> Option<PathBuf> {
        let parent = worktree.parent()?;
        let parent = parent.canonicalize().unwrap_or_else(|_| parent.to_owned());
        let resolved = parent.join(worktree.file_name()?);
        self.worktrees()
            .into_iter()
            .find(|(_, path)| *path == resolved || path == worktree)
            .map(|(notes, _)| notes)
    }

    /// Git's notes on linked worktrees, each with the worktree's folder.
    fn worktrees(&self) -> Vec<(PathBuf, PathBuf)> {
        let Ok(entries) = fs::read_dir(self.common.join("worktrees")) else { return Vec::new() };
        let entries = entries.flatten().map(|entry| entry.path());
        entries
            .filter_map(|notes| {
                let link = fs::read_to_string(notes.join("gitdir")).ok()?;
                let worktree = Path::new(link.trim_end_matches('\n')).parent()?.to_owned();
                Some((notes, worktree))
            })
            .collect()
    }
}

/// Removes a file, a link or a folder, even one that denies its owner access; what is absent is fine.
pub(crate) fn remove_all(path: &Path) -> io::Result<()> {
    let metadata = match path.symlink_metadata() {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    if !metadata.is_dir() {
        return fs::remove_file(path);
    }
    fs::remove_dir_all(path).or_else(|_| {
        allow_access(path)?;
        fs::remove_dir_all(path)
    })
}

fn allow_access(dir: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            allow_access(&entry.path())?;
        }
    }
    Ok(())
}
