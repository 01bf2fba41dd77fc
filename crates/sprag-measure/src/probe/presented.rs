//! What the machine presents of itself: caches and clock, as the system tells them.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// One data cache as a core sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cache {
    /// 1 is nearest to the core.
    pub level: u32,
    /// Its size.
    pub bytes: u64,
    /// Hardware threads of this machine that share it.
    pub shared_by: u32,
}

/// What is presented. Absent is what the system does not tell.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Presented {
    /// Clock that the system names, in Hz.
    #[serde(default)]
    pub clock_hz: Option<f64>,
    /// Data caches of the first processor, nearest first.
    #[serde(default)]
    pub caches: Vec<Cache>,
}

/// Reads it.
pub fn read() -> Presented {
    Presented {
        clock_hz: fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| clock_hz(&text)),
        caches: caches(Path::new("/sys/devices/system/cpu/cpu0/cache")),
    }
}

fn clock_hz(cpuinfo: &str) -> Option<f64> {
    let line = cpuinfo.lines().find(|line| line.starts_with("cpu MHz"))?;
    line.split_once(':')?.1.trim().parse::<f64>().ok().map(|megahertz| megahertz * 1e6)
}

fn caches(folder: &Path) -> Vec<Cache> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut caches: Vec<Cache> = entries
        .flatten()
        .filter_map(|entry| {
            let read = |name: &str| Some(fs::read_to_string(entry.path().join(name)).ok()?.trim().to_owned());
            if read("type")? == "Instruction" {
                return None;
            }
            let shared_by = read("shared_cpu_list").map_or(1, |list| count(&list));
            Some(Cache { level: read("level")?.parse().ok()?, bytes: size(&read("size")?)?, shared_by })
        })
        .collect();
    caches.sort_by_key(|cache| cache.level);
    caches
}

/// `32K`, `2048K`, `32M`.
fn size(text: &str) -> Option<u64> {
    let (digits, factor) = match text.strip_suffix('K') {
        Some(digits) => (digits, 1 << 10),
        None => match text.strip_suffix('M') {
            Some(digits) => (digits, 1 << 20),
            None => (text, 1),
        },
    };
    digits.parse::<u64>().ok().map(|number| number * factor)
}

/// Members of `0-3,8-11`.
fn count(list: &str) -> u32 {
    let part = |part: &str| match part.split_once('-') {
        Some((first, last)) => {
            let ends = first.trim().parse::<u32>().ok().zip(last.trim().parse::<u32>().ok());
            ends.and_then(|(first, last)| last.checked_sub(first)).map_or(0, |more| more + 1)
        }
        None => u32::from(!part.trim().is_empty()),
    };
    list.split(',').map(part).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_lists_of_the_kernel_are_read() {
        assert_eq!(
            [size("32K"), size("32M"), size("77"), size("x")],
            [Some(32 << 10), Some(32 << 20), Some(77), None]
        );
        assert_eq!([count("0-3,8-11"), count("5"), count(""), count("7-3")], [8, 1, 0, 0]);
        assert_eq!(clock_hz("model name : X\ncpu MHz\t\t: 2596.146\n"), Some(2_596_146_000.0));
        assert_eq!(clock_hz("Features : fp\n"), None);
    }

    #[test]
    fn data_caches_are_told_from_those_of_instructions() {
        let dir = tempfile::tempdir().unwrap();
        for (index, kind, level, bytes, shared) in [
            ("index0", "Data", "1", "32K", "0"),
            ("index1", "Instruction", "1", "32K", "0"),
            ("index3", "Unified", "3", "32M", "0-1"),
            ("index2", "Unified", "2", "1024K", "0"),
        ] {
            let folder = dir.path().join(index);
            fs::create_dir(&folder).unwrap();
            for (name, text) in
                [("type", kind), ("level", level), ("size", bytes), ("shared_cpu_list", shared)]
            {
                fs::write(folder.join(name), format!("{text}\n")).unwrap();
            }
        }
        fs::create_dir(dir.path().join("index9")).unwrap();
        let found: Vec<(u32, u64, u32)> =
            caches(dir.path()).iter().map(|cache| (cache.level, cache.bytes, cache.shared_by)).collect();
        assert_eq!(found, [(1, 32 << 10, 1), (2, 1 << 20, 1), (3, 32 << 20, 2)]);
        assert!(caches(Path::new("/nowhere")).is_empty());
    }
}
