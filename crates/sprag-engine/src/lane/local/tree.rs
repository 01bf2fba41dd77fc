//! The folder that a candidate runs in when its program writes beside its sources: a copy for one execution.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::lane::LaneError;
use crate::task::Task;

/// Fixed files that are mounted read-only; more are watched by their hash alone, which counts in any case.
const MOUNTED: usize = 512;

/// Copies a checkout, its git file left out. Links are copied as links.
pub(super) fn copy(from: &Path, to: &Path) -> Result<(), LaneError> {
    let failed = |cause| LaneError::new(format!("copy {} to {}", from.display(), to.display()), cause);
    copy_below(from, to, true).map_err(failed)
}

fn copy_below(from: &Path, to: &Path, top: bool) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type()?;
        if top && entry.file_name() == ".git" {
            continue;
        }
        if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(&source)?, &target)?;
        } else if kind.is_dir() {
            copy_below(&source, &target, false)?;
        } else if kind.is_file() {
            // On file systems that can, the copy shares its blocks until it is written.
            fs::copy(&source, &target)?;
        }
    }
    Ok(())
}

/// The fixed files of a copy.
pub(super) fn fixed_files(task: &Task, tree: &Path) -> Result<Vec<PathBuf>, LaneError> {
    let names = task.files.fixed.files_in(tree);
    let names = names.map_err(|cause| LaneError::new("list the fixed files", cause))?;
    Ok(names
        .into_iter()
        .take(MOUNTED)
        .map(|name| tree.join(name))
        .filter(|path| !path.is_symlink())
        .collect())
}
