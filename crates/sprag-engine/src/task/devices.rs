//! Device files that candidates may open, such as those of a GPU: names and globs below `/dev`.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use super::paths::PathSet;

/// The only folder of devices.
const FOLDER: &str = "/dev";

/// Patterns of device files. Whether a machine has them is looked up when a candidate starts.
#[derive(Clone, Debug, Default)]
pub struct Devices {
    /// Relative to `/dev`.
    set: PathSet,
}

impl Devices {
    pub(super) fn add(&mut self, pattern: &str) -> Result<(), String> {
        let below = Path::new(pattern).strip_prefix(FOLDER).ok().and_then(Path::to_str);
        let below = below.filter(|below| !below.is_empty() && !below.split('/').any(|part| part == ".."));
        let Some(below) = below else {
            return Err("must lie below /dev, as in \"/dev/nvidia*\"".into());
        };
        self.set.add(below)
    }

    /// The patterns as written.
    pub fn patterns(&self) -> impl Iterator<Item = String> {
        self.set.patterns().map(|pattern| format!("{FOLDER}/{pattern}"))
    }

    /// Those that this machine has, sorted. Character devices alone: a disk would be a way around every rule
    /// for files.
    pub fn present(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        if self.set.patterns().next().is_some() {
            self.find(Path::new(FOLDER), &mut found);
        }
        found.sort();
        found
    }

    fn find(&self, folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(kind) = entry.file_type() else { continue };
            let path = entry.path();
            if kind.is_dir() {
                self.find(&path, found);
            } else if kind.is_char_device() && self.matches(&path) {
                found.push(path);
            }
        }
    }

    fn matches(&self, path: &Path) -> bool {
        let below = path.strip_prefix(FOLDER).ok().and_then(Path::to_str);
        below.is_some_and(|below| self.set.contains(below))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn devices(patterns: &[&str]) -> Result<Devices, String> {
        let mut devices = Devices::default();
        for pattern in patterns {
            devices.add(pattern)?;
        }
        Ok(devices)
    }

    #[test]
    fn only_what_lies_below_dev_is_a_device() {
        for bad in
            ["/etc/passwd", "nvidia0", "/dev", "/dev/", "/dev/../etc/passwd", "/devices/a", "/dev/[", ""]
        {
            assert!(devices(&[bad]).is_err(), "{bad}");
        }
        let patterns: Vec<String> = devices(&["/dev/nvidia*", "/dev/dri"]).unwrap().patterns().collect();
        assert_eq!(patterns, ["/dev/nvidia*", "/dev/dri"]);
    }

    #[test]
    fn a_glob_does_not_cross_folders_and_a_folder_holds_all_below_it() {
        let devices = devices(&["/dev/nvidia*", "/dev/dri"]).unwrap();
        for (path, expected) in [
            ("/dev/nvidia0", true),
            ("/dev/nvidiactl", true),
            ("/dev/nvidia-caps/nvidia-cap1", false),
            ("/dev/dri/renderD128", true),
            ("/dev/sda", false),
            ("/nvidia0", false),
        ] {
            assert_eq!(devices.matches(Path::new(path)), expected, "{path}");
        }
    }

    #[test]
    fn character_devices_of_this_machine_are_found() {
        assert_eq!(
            devices(&["/dev/nul?", "/dev/no-such-device"]).unwrap().present(),
            [Path::new("/dev/null")]
        );
        assert!(devices(&[]).unwrap().present().is_empty());
        // A folder, links and sockets are no devices.
        assert!(devices(&["/dev/shm", "/dev/fd"]).unwrap().present().is_empty());
    }
}
