//! One hash over everything that a trial may not change.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::{Files, TaskError};

/// SHA-256 over the fixed files in `tree` and the external ones: for each, in order, its name, whether it
/// is a link, and its content, each with its length so that no two different sets hash alike.
pub(super) fn sha256(files: &Files, tree: &Path) -> Result<String, TaskError> {
    let names = files.fixed.files_in(tree).map_err(|cause| TaskError::read(tree, cause))?;
    for pattern in files.fixed.names() {
        if tree.join(pattern).symlink_metadata().is_err() {
            return Err(TaskError::Files(format!(
                "fixed file `{pattern}` does not exist in {}; create it or take it out of `files.fixed`",
                tree.display()
            )));
        }
    }
    let mut hash = Sha256::new();
    for name in names {
        if files.mutable.contains(&name) {
            return Err(TaskError::Files(format!(
                "`{name}` is both mutable and fixed; narrow `files.mutable` or `files.fixed`"
            )));
        }
        add_file(&mut hash, &name, &tree.join(&name))?;
    }
    for external in &files.external {
        for path in files_below(external)? {
            add_file(&mut hash, &path.to_string_lossy(), &path)?;
        }
    }
    Ok(hex(&hash.finalize()))
}

fn add_file(hash: &mut Sha256, name: &str, path: &Path) -> Result<(), TaskError> {
    let read = |cause| TaskError::read(path, cause);
    add_bytes(hash, name.as_bytes());
    if path.symlink_metadata().map_err(read)?.file_type().is_symlink() {
        let target = std::fs::read_link(path).map_err(read)?;
        add_bytes(hash, b"link");
        add_bytes(hash, target.as_os_str().as_encoded_bytes());
    } else {
        add_bytes(hash, b"file");
    }
    let mut file = std::fs::File::open(path).map_err(read)?;
    hash.update(file.metadata().map_err(read)?.len().to_le_bytes());
    std::io::copy(&mut file, hash).map_err(read)?;
    Ok(())
}

fn add_bytes(hash: &mut Sha256, bytes: &[u8]) {
    hash.update((bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
}

fn files_below(path: &Path) -> Result<Vec<PathBuf>, TaskError> {
    let read = |cause| TaskError::read(path, cause);
    if !path.metadata().map_err(read)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(read)? {
        let entry = entry.map_err(read)?;
        // A link to a folder is not followed: it may lead back up.
        if entry.file_type().map_err(read)?.is_symlink() && entry.path().is_dir() {
            continue;
        }
        files.extend(files_below(&entry.path())?);
    }
    files.sort();
    Ok(files)
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
