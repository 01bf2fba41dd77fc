//! The tree below a child: who is in it, what it uses, and its end.
//!
//! A process is known by number and start time, so that a number used again is not mistaken for it.

#[cfg(target_os = "linux")]
#[path = "tree/proc.rs"]
mod source;
#[cfg(not(target_os = "linux"))]
#[path = "tree/ps.rs"]
mod source;
// The parser of `ps` is pure and so is tested everywhere.
#[cfg(all(test, target_os = "linux"))]
#[path = "tree/ps.rs"]
#[expect(dead_code, reason = "only its parser is used on this platform")]
mod ps;

use std::collections::{BTreeMap, HashSet};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

/// One process at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Entry {
    pid: i32,
    parent: i32,
    group: i32,
    session: i32,
    /// Start time in the system's own unit; 0 where it is not known.
    start: u64,
    cpu: Duration,
    memory_bytes: u64,
    zombie: bool,
}

/// What one look at the tree shows.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Look {
    pub(super) processes: u32,
    pub(super) memory_bytes: u64,
}

/// The child and its descendants.
pub(super) struct Tree {
    root: Pid,
    /// Everything that was ever seen in the tree, as last seen.
    seen: BTreeMap<i32, Entry>,
    /// Processor time of those that are gone from `seen` because their number was used again.
    lost_cpu: Duration,
    peak_memory_bytes: u64,
}

/// How far a look goes.
#[derive(Clone, Copy, PartialEq)]
enum Depth {
    /// From known processes down.
    Known,
    /// All processes of the machine, to find those whose parents are gone.
    All,
}

impl Tree {
    pub(super) fn new(root: Pid) -> Tree {
        Tree { root, seen: BTreeMap::new(), lost_cpu: Duration::ZERO, peak_memory_bytes: 0 }
    }

    /// Looks at the descendants of what is known.
    pub(super) fn look(&mut self) -> Look {
        summarise(&self.refresh(Depth::Known))
    }

    /// Looks at the whole machine for members that lost their parent.
    pub(super) fn look_everywhere(&mut self) -> Look {
        summarise(&self.refresh(Depth::All))
    }

    /// Memory in which shared pages count once; `None` where the system does not tell.
    pub(super) fn proportional_memory_bytes(&mut self) -> Option<u64> {
        let live = self.refresh(Depth::Known);
        live.iter().map(|entry| source::proportional_memory_bytes(entry.pid)).sum()
    }

    pub(super) fn peak_memory_bytes(&self) -> u64 {
        self.peak_memory_bytes
    }

    /// Processor time of everything that was seen.
    pub(super) fn cpu(&self) -> Duration {
        self.lost_cpu + self.seen.values().map(|entry| entry.cpu).sum::<Duration>()
    }

    /// Asks the process group to end.
    pub(super) fn terminate(&self) {
        // Fails only when the group is already gone.
        let _ = kill_process_group(self.root, Signal::TERM);
    }

    /// Ends every member. The root must not have been reaped: its number names the group.
    pub(super) fn kill(&mut self) {
        // Stopped parents do not end, so their children stay findable until all are known.
        let mut stopped = BTreeMap::new();
        let _ = kill_process_group(self.root, Signal::STOP);
        for _ in 0..100 {
            let live = self.refresh(Depth::All);
            if live.is_empty() {
                return;
            }
            let fresh: Vec<Entry> = live
                .into_iter()
                .filter(|entry| stopped.insert(entry.pid, entry.start) != Some(entry.start))
                .collect();
            if fresh.is_empty() {
                break;
            }
            fresh.iter().for_each(|entry| source::signal(entry.pid, entry.start, Signal::STOP));
        }
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            let _ = kill_process_group(self.root, Signal::KILL);
            let live = self.refresh(Depth::All);
            if live.is_empty() || Instant::now() > deadline {
                // Past the deadline something hangs in the kernel: it dies when that call returns.
                return;
            }
            live.iter().for_each(|entry| source::signal(entry.pid, entry.start, Signal::KILL));
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Ends processes outside the known tree that still hold the writing end of an output pipe and are
    /// younger than the root.
    pub(super) fn kill_pipe_holders(&self, pipe_inodes: &[u64]) {
        let Some(root) = self.seen.get(&self.root.as_raw_nonzero().get()) else { return };
        for entry in source::pipe_writers(pipe_inodes) {
            if entry.start >= root.start {
                source::signal(entry.pid, entry.start, Signal::KILL);
            }
        }
    }

    /// Updates `seen` and returns the live members.
    fn refresh(&mut self, depth: Depth) -> Vec<Entry> {
        let root = self.root.as_raw_nonzero().get();
        let members = match depth {
            Depth::Known => {
                let mut known: Vec<i32> = self.live_seen();
                if !known.contains(&root) {
                    known.push(root);
                }
                source::descendants(&known)
            }
            Depth::All => {
                let all = source::all();
                self.forget_reused(&all);
                members(root, &self.seen, all)
            }
        };
        self.forget_reused(&members);
        for entry in &members {
            self.seen.insert(entry.pid, *entry);
            if !entry.zombie {
                self.peak_memory_bytes = self.peak_memory_bytes.max(source::high_water_bytes(entry.pid));
            }
        }
        // What was not met again is gone; its last state still counts.
        let met: HashSet<i32> = members.iter().map(|member| member.pid).collect();
        for (pid, entry) in &mut self.seen {
            if !met.contains(pid) {
                entry.zombie = true;
            }
        }
        let live: Vec<Entry> = members.into_iter().filter(|entry| !entry.zombie).collect();
        self.peak_memory_bytes = self.peak_memory_bytes.max(summarise(&live).memory_bytes);
        live
    }

    fn live_seen(&self) -> Vec<i32> {
        self.seen.values().filter(|entry| !entry.zombie).map(|entry| entry.pid).collect()
    }

    fn forget_reused(&mut self, current: &[Entry]) {
        for entry in current {
            if self.seen.get(&entry.pid).is_some_and(|seen| seen.start != entry.start)
                && let Some(seen) = self.seen.remove(&entry.pid)
            {
                self.lost_cpu += seen.cpu;
            }
        }
    }
}

fn summarise(live: &[Entry]) -> Look {
    Look {
        processes: u32::try_from(live.len()).unwrap_or(u32::MAX),
        memory_bytes: live.iter().map(|entry| entry.memory_bytes).sum(),
    }
}

/// Those of all processes that belong to the tree: known ones, members of a group or session that a known
/// one leads, and their descendants.
fn members(root: i32, seen: &BTreeMap<i32, Entry>, all: Vec<Entry>) -> Vec<Entry> {
    let ours = |pid: i32| pid == root || seen.contains_key(&pid);
    let (mut members, mut others): (Vec<Entry>, Vec<Entry>) =
        all.into_iter().partition(|entry| ours(entry.pid) || ours(entry.group) || ours(entry.session));
    let mut from = 0;
    while from < members.len() {
        let parents: HashSet<i32> = members[from..].iter().map(|entry| entry.pid).collect();
        from = members.len();
        let (children, rest) = others.into_iter().partition(|entry| parents.contains(&entry.parent));
        members.extend::<Vec<Entry>>(children);
        others = rest;
    }
    members
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(pid: i32, parent: i32, group: i32, session: i32) -> Entry {
        Entry { pid, parent, group, session, start: 0, cpu: Duration::ZERO, memory_bytes: 0, zombie: false }
    }

    #[test]
    fn members_are_found_by_parent_group_and_session() {
        let all = vec![
            entry(1, 0, 1, 1),
            entry(50, 1, 50, 50),
            entry(100, 50, 100, 50),
            entry(101, 100, 100, 50),
            entry(102, 101, 102, 102),
            entry(103, 1, 100, 50),
            entry(104, 1, 104, 60),
            entry(105, 104, 105, 105),
            entry(106, 1, 106, 50),
        ];
        let seen = BTreeMap::from([(60, entry(60, 100, 60, 60))]);
        let mut pids: Vec<i32> = members(100, &seen, all).iter().map(|entry| entry.pid).collect();
        pids.sort_unstable();
        assert_eq!(pids, [100, 101, 102, 103, 104, 105]);
    }

    #[test]
    fn a_reused_number_is_not_taken_for_the_old_process() {
        let mut tree = Tree::new(Pid::from_raw(100).expect("not zero"));
        let mut old = entry(60, 100, 60, 60);
        (old.start, old.cpu) = (5, Duration::from_secs(2));
        tree.seen.insert(60, old);
        let mut new = entry(60, 1, 60, 60);
        new.start = 9;
        tree.forget_reused(&[new]);
        assert!(members(100, &tree.seen, vec![new]).is_empty());
        assert_eq!(tree.cpu(), Duration::from_secs(2));
    }
}
