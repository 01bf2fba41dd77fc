//! Folders that the compiler reads and writes, and compiled programs that outlive the process.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::runtime::{RuntimeError, Weights};

/// What the compiler leaves in a program's folder.
const COMPILED: [&str; 2] = ["net.plist", "data"];

fn failed(path: &Path, error: &io::Error) -> RuntimeError {
    RuntimeError::System(format!("{}: {error}", path.display()))
}

/// A program's folder, where the framework looks for it; readable by its owner alone, gone when it is dropped.
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Writes text and weights.
    pub fn write(identifier: &str, text: &str, weights: &Weights) -> Result<Folder, RuntimeError> {
        // The name is what the framework made of the content: letters and digits, and no way up.
        if identifier.is_empty()
            || !identifier.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
        {
            return Err(RuntimeError::System(format!("the framework names a model `{identifier}`")));
        }
        let path = super::objects::temporary_folder().join(identifier);
        let inner = path.join("weights");
        // What a process that died left there was this very program.
        let wrong = |error: io::Error| failed(&path, &error);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&inner).map_err(wrong)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).map_err(wrong)?;
        let folder = Folder { path: path.clone() };
        fs::write(path.join("model.mil"), text).map_err(wrong)?;
        for (name, bytes) in weights {
            let file = name.strip_prefix("@model_path/weights/").filter(|name| !name.contains(['/', '\0']));
            let file = file.filter(|name| !matches!(*name, "" | "." | ".."));
            let file = file.ok_or_else(|| RuntimeError::Weights {
                path: name.clone(),
                problem: "weight files are named @model_path/weights/NAME".to_owned(),
            })?;
            fs::write(inner.join(file), bytes).map_err(wrong)?;
        }
        Ok(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // The framework may have removed it: then there is nothing left to do.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Compiled programs by the hash of their content.
pub struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// In a folder.
    pub fn new(folder: PathBuf) -> Cache {
        Cache { folder }
    }

    fn of(&self, key: &[u8; 32]) -> PathBuf {
        self.folder.join(key.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
    }

    /// Puts what was compiled before into a program's folder; says whether there was any.
    pub fn restore(&self, key: &[u8; 32], folder: &Folder) -> Result<bool, RuntimeError> {
        let kept = self.of(key);
        if !COMPILED.iter().all(|name| kept.join(name).is_file()) {
            return Ok(false);
        }
        for name in COMPILED {
            fs::copy(kept.join(name), folder.path.join(name)).map_err(|error| failed(&kept, &error))?;
        }
        Ok(true)
    }

    /// Keeps what was compiled: whole or not at all.
    pub fn keep(&self, key: &[u8; 32], folder: &Folder) -> Result<(), RuntimeError> {
        if !COMPILED.iter().all(|name| folder.path.join(name).is_file()) {
            return Ok(());
        }
        let (kept, partial) = (self.of(key), self.of(key).with_extension(format!("{}", std::process::id())));
        let wrong = |error: io::Error| failed(&kept, &error);
        fs::create_dir_all(&partial).map_err(wrong)?;
        for name in COMPILED {
            fs::copy(folder.path.join(name), partial.join(name)).map_err(wrong)?;
        }
        if fs::rename(&partial, &kept).is_err() {
            // Another process kept the same before.
            fs::remove_dir_all(&partial).map_err(wrong)?;
        }
        Ok(())
    }
}
