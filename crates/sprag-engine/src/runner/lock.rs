//! One program at a time on a task. The lock is the system's, so it ends with its holder, however it dies.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::time::Duration;

use super::{EngineError, Layout};

/// How often the lock is asked for, and the time in between: a look at it (`sprag status`) holds it for a
/// moment and is no other program at work.
const ATTEMPTS: u32 = 20;
const BETWEEN: Duration = Duration::from_millis(20);

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
        match try_often(&file) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = file.read_to_string(&mut holder);
                let holder = format!("({})", holder.trim());
                return Err(EngineError::Locked { task: layout.task().to_owned(), holder });
            }
            Err(TryLockError::Error(error)) => return Err(fail()(error)),
        }
        let holder = format!("{who}, process {}\n", std::process::id());
        let written = file.set_len(0).and_then(|()| file.rewind());
        written.and_then(|()| file.write_all(holder.as_bytes())).map_err(fail())?;
        Ok(Lock { file })
    }
}

fn try_often(file: &File) -> Result<(), TryLockError> {
    for _ in 1..ATTEMPTS {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => std::thread::sleep(BETWEEN),
            settled => return settled,
        }
    }
    file.try_lock()
}

impl Drop for Lock {
    /// Unlocked by name: a child being started may hold a copy of the descriptor for a moment.
    fn drop(&mut self) {
        let _ = self.file.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_is_named_with_its_process() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::of(folder.path());
        let held = Lock::take(&layout, "since noon").unwrap();
        let error = Lock::take(&layout, "later").unwrap_err().to_string();
        assert!(error.contains(&format!("(since noon, process {})", std::process::id())), "{error}");
        drop(held);
        Lock::take(&layout, "later").unwrap();
    }

    #[test]
    fn who_only_looks_at_the_lock_stops_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::of(folder.path());
        drop(Lock::take(&layout, "before").unwrap());
        let looker = File::open(layout.lock()).unwrap();
        looker.try_lock().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(BETWEEN);
                looker.unlock().unwrap();
            });
            Lock::take(&layout, "run").unwrap();
        });
    }
}
