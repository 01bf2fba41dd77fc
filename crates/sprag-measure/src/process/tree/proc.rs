//! Processes as Linux shows them under `/proc`.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};

use super::Entry;

/// All processes of the machine that can be seen.
pub(super) fn all() -> Vec<Entry> {
    numbers("/proc").filter_map(entry).collect()
}

/// These processes, as far as they exist, and everything below them.
pub(super) fn descendants(known: &[i32]) -> Vec<Entry> {
    let (mut found, mut met) = (Vec::new(), HashSet::new());
    let mut open = known.to_vec();
    while let Some(pid) = open.pop() {
        if !met.insert(pid) {
            continue;
        }
        let Some(entry) = entry(pid) else { continue };
        found.push(entry);
        for task in numbers(format!("/proc/{pid}/task")) {
            let children =
                fs::read_to_string(format!("/proc/{pid}/task/{task}/children")).unwrap_or_default();
            open.extend(children.split_ascii_whitespace().filter_map(|pid| pid.parse::<i32>().ok()));
        }
    }
    found
}

/// Memory of a process in which a page shared by n counts 1/n; 0 when it is gone or may not be asked.
pub(super) fn proportional_memory_bytes(pid: i32) -> Option<u64> {
    let Ok(text) = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) else {
        // Gone in the meantime, unless the file is missing for a live process: then nothing is known.
        return (!Path::new(&format!("/proc/{pid}")).exists()).then_some(0);
    };
    kibibytes(&text, "Pss:")
}

/// Largest resident memory of a process so far; 0 when it is gone.
pub(super) fn high_water_bytes(pid: i32) -> u64 {
    let status = fs::read(format!("/proc/{pid}/status")).unwrap_or_default();
    kibibytes(&String::from_utf8_lossy(&status), "VmHWM:").unwrap_or(0)
}

/// Sends a signal unless the process with that number started at another time.
pub(super) fn signal(pid: i32, start: u64, signal: Signal) {
    let Some(pid) = Pid::from_raw(pid) else { return };
    // Errors mean that it is gone, or not ours to signal: then nothing can be done about it.
    match pidfd_open(pid, PidfdFlags::empty()) {
        // With the descriptor open the number cannot come to mean another process any more.
        Ok(descriptor) => {
            if start_time(pid.as_raw_nonzero().get()) == Some(start) {
                let _ = pidfd_send_signal(descriptor, signal);
            }
        }
        Err(rustix::io::Errno::NOSYS) => {
            let _ = kill_process(pid, signal);
        }
        Err(_) => {}
    }
}

/// Processes other than this one that hold the writing end of one of these pipes.
pub(super) fn pipe_writers(inodes: &[u64]) -> Vec<Entry> {
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    let holds = |pid: i32| {
        numbers(format!("/proc/{pid}/fd")).any(|descriptor| {
            let is_ours = fs::metadata(format!("/proc/{pid}/fd/{descriptor}"))
                .is_ok_and(|metadata| inodes.contains(&metadata.ino()) && is_pipe(pid, descriptor));
            is_ours && is_writing(pid, descriptor)
        })
    };
    numbers("/proc").filter(|pid| *pid != own && holds(*pid)).filter_map(entry).collect()
}

fn is_pipe(pid: i32, descriptor: i32) -> bool {
    fs::read_link(format!("/proc/{pid}/fd/{descriptor}"))
        .is_ok_and(|link| link.to_string_lossy().starts_with("pipe:"))
}

fn is_writing(pid: i32, descriptor: i32) -> bool {
    let text = fs::read_to_string(format!("/proc/{pid}/fdinfo/{descriptor}")).unwrap_or_default();
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| i32::from_str_radix(flags.trim(), 8).ok());
    flags.is_some_and(|flags| flags & libc::O_ACCMODE != libc::O_RDONLY)
}

/// Entries of a folder that are numbers.
fn numbers(path: impl AsRef<Path>) -> impl Iterator<Item = i32> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn start_time(pid: i32) -> Option<u64> {
    parse_stat(&fs::read(format!("/proc/{pid}/stat")).ok()?).map(|entry| entry.start)
}

fn entry(pid: i32) -> Option<Entry> {
    parse_stat(&fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// `NAME   123 kB` as bytes.
fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// Reads `/proc/<pid>/stat`; fields are numbered as in proc_pid_stat(5).
fn parse_stat(stat: &[u8]) -> Option<Entry> {
    let stat = String::from_utf8_lossy(stat);
    let pid = stat.split(' ').next()?.parse().ok()?;
    // The name may hold anything, parentheses and line ends included, but the last `)` closes it.
    let fields: Vec<&str> = stat[stat.rfind(')')? + 1..].split_ascii_whitespace().collect();
    let field = |number: usize| fields.get(number - 3).copied();
    let number = |index: usize| field(index)?.parse::<u64>().ok();
    let ticks = number(14)? + number(15)?;
    let state = field(3)?;
    Some(Entry {
        pid,
        parent: field(4)?.parse().ok()?,
        group: field(5)?.parse().ok()?,
        session: field(6)?.parse().ok()?,
        start: number(22)?,
        cpu: Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64),
        memory_bytes: number(24)? * rustix::param::page_size() as u64,
        zombie: matches!(state, "Z" | "X" | "x"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_full_of_parentheses_is_read_past() {
        let stat =
            b"42 (a) S 1 (b\n) R 7 8 9 0 -1 0 0 0 0 0 150 50 0 0 20 0 1 0 777 1000 3 18446744073709551615";
        let entry = parse_stat(stat).expect("well formed");
        assert_eq!((entry.pid, entry.parent, entry.group, entry.session), (42, 7, 8, 9));
        assert_eq!((entry.start, entry.zombie), (777, false));
        assert_eq!(entry.memory_bytes, 3 * rustix::param::page_size() as u64);
        assert_eq!(parse_stat(b"42 (a) S 1"), None);
    }

    #[test]
    fn this_process_is_seen_with_its_memory() {
        let own = i32::try_from(std::process::id()).expect("fits");
        let entry = entry(own).expect("it runs");
        assert!(entry.memory_bytes > 0 && high_water_bytes(own) > 0 && !entry.zombie);
        assert!(proportional_memory_bytes(own).is_some_and(|bytes| bytes > 0));
        assert!(all().iter().any(|entry| entry.pid == own));
    }
}
