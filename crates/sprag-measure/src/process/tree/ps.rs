//! Processes as `ps` lists them, for systems without a Linux `/proc` (macOS).
//!
//! `ps` gives no start time that can be compared cheaply, so a number used again is not recognised here.

use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::Entry;

/// All processes of the machine.
#[expect(clippy::disallowed_methods, reason = "this module tree is the door to child processes")]
pub(super) fn all() -> Vec<Entry> {
    let mut command = Command::new("/bin/ps");
    command.args(["-A", "-o", "pid=,ppid=,pgid=,rss=,time=,stat="]).env_clear().env("LC_ALL", "C");
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output();
    output.map(|output| parse(&String::from_utf8_lossy(&output.stdout))).unwrap_or_default()
}

/// These processes, as far as they exist, and everything below them.
pub(super) fn descendants(known: &[i32]) -> Vec<Entry> {
    let all = all();
    let mut found: Vec<Entry> = all.iter().copied().filter(|entry| known.contains(&entry.pid)).collect();
    let mut next = 0;
    while next < found.len() {
        let parent = found[next].pid;
        let fresh: Vec<Entry> = (all.iter().copied())
            .filter(|entry| entry.parent == parent && !found.iter().any(|seen| seen.pid == entry.pid))
            .collect();
        found.extend(fresh);
        next += 1;
    }
    found
}

/// Not known here.
pub(super) fn proportional_memory_bytes(_pid: i32) -> Option<u64> {
    None
}

/// Not known here.
pub(super) fn high_water_bytes(_pid: i32) -> u64 {
    0
}

/// Sends a signal.
pub(super) fn signal(pid: i32, _start: u64, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        // An error means that it is gone, or not ours to signal.
        let _ = kill_process(pid, signal);
    }
}

/// Not known here.
pub(super) fn pipe_writers(_inodes: &[u64]) -> Vec<Entry> {
    Vec::new()
}

pub(super) fn parse(text: &str) -> Vec<Entry> {
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Entry> {
    let mut fields = line.split_ascii_whitespace();
    let mut number = || fields.next()?.parse::<i32>().ok();
    let (pid, parent, group) = (number()?, number()?, number()?);
    let kibibytes: u64 = fields.next()?.parse().ok()?;
    let cpu = parse_time(fields.next()?)?;
    let zombie = fields.next()?.starts_with('Z');
    Some(Entry {
        pid,
        parent,
        group,
        // Group 0 and session 0 belong to the kernel; no child has them.
        session: 0,
        start: 0,
        cpu,
        memory_bytes: kibibytes * 1024,
        zombie,
    })
}

/// `[[days-]hours:]minutes:seconds[.fraction]`.
fn parse_time(text: &str) -> Option<Duration> {
    let (days, rest) = text.split_once('-').unwrap_or(("0", text));
    let mut seconds = 0.0;
    for part in rest.split(':') {
        seconds = seconds * 60.0 + part.parse::<f64>().ok()?;
    }
    Duration::try_from_secs_f64(seconds + days.parse::<f64>().ok()? * 86_400.0).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_both_kinds_of_ps_are_read() {
        let entries =
            parse("  101     1   101   2048   1:02.50 Ss+\n 102 101 101 0 1-00:00:01 Z\nnonsense\n");
        assert_eq!(entries.len(), 2);
        assert_eq!((entries[0].pid, entries[0].parent, entries[0].group), (101, 1, 101));
        assert_eq!((entries[0].memory_bytes, entries[0].cpu), (2 << 20, Duration::from_millis(62_500)));
        assert!(!entries[0].zombie && entries[1].zombie);
        assert_eq!(entries[1].cpu, Duration::from_secs(86_401));
    }
}
