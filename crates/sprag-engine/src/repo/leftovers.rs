//! What a kill in the middle of git leaves in the repository: locks and private files of ours, of which a
//! locked ref would stop every resume.
//!
//! Only what Sprag alone writes is looked at: the user's own locks may belong to a git that is at work.

use std::fs;
use std::path::{Path, PathBuf};

use super::worktree::remove_all;
use super::{Repo, RepoError};

/// Folders of refs that nobody else writes.
const OUR_REFS: [&str; 2] = ["refs/sprag", "refs/heads/sprag"];

/// Beginning of the names of our private files: indexes and folders for merging.
const OUR_FILES: &str = "sprag-";

impl Repo {
    /// Locks and private files of ours. Only who holds the task's lock knows that nobody is using them.
    pub fn leftovers(&self) -> Vec<PathBuf> {
        let own = entries(&self.common).filter(|path| name(path).starts_with(OUR_FILES));
        let mut found: Vec<PathBuf> = own.collect();
        for folder in OUR_REFS {
            locks(&self.common.join(folder), &mut found);
        }
        found.sort();
        found
    }

    /// Removes the [`Repo::leftovers`]; the caller holds the task's lock.
    pub fn remove_leftovers(&self) -> Result<(), RepoError> {
        for path in self.leftovers() {
            remove_all(&path).map_err(RepoError::io("remove", &path))?;
        }
        Ok(())
    }
}

/// Git allows no ref whose name ends in `.lock`, so these are locks.
fn locks(folder: &Path, found: &mut Vec<PathBuf>) {
    for path in entries(folder) {
        if path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) {
            locks(&path, found);
        } else if name(&path).ends_with(".lock") {
            found.push(path);
        }
    }
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
