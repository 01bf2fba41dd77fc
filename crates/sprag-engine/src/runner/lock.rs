//! One program at a time on a task. The lock is the system's, so it ends with its holder, however it dies.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};

use super::{EngineError, Layout};

/// Held until dropped.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Lock {
    /// Takes the lock; `who` is told to others that want it.
    ///
    /// # Errors
    /// Another program holds it, or the task's folder cannot be written.
    pub fn take(layout: &Layout, who: &str) -> Result<Lock, EngineError> {
        let path = layout.lock();
        let fail = || EngineError::state("lock", &path);
        std::fs::create_dir_all(layout.root()).map_err(EngineError::state("create", layout.root()))?;
        let mut options = OpenOptions::new();
        let mut file =
            options.read(true).write(true).create(true).truncate(false).open(&path).map_err(fail())?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = file.read_to_string(&mut holder);
                let holder = format!("({})", holder.trim());
                return Err(EngineError::Locked { task: layout.task().to_owned(), holder });
            }
            Err(TryLockError::Error(error)) => return Err(fail()(error)),
        }
        let written = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{who}"));
        written.map_err(fail())?;
        Ok(Lock { file })
    }
}

impl Drop for Lock {
    /// Unlocked by name: a child being started may hold a copy of the descriptor for a moment.
    fn drop(&mut self) {
        let _ = self.file.unlock();
    }
}
