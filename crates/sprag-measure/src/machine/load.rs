//! What else the processors did while something ran: time that other processes used, and time that a
//! hypervisor gave to others.
//!
//! Linux counts both in `/proc/stat` (proc_stat(5)). A lower clock is not among what is counted: the files
//! that tell it give a moment, not a span.

use std::time::Duration;

/// Shares of the capacity of all processors that this process may use, over a span of time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Load {
    /// What processes (the kernel's included) used that are neither this one nor its children, from 0 to 1.
    pub other_processes: f64,
    /// What a hypervisor gave to others while something here wanted to run, from 0 to 1.
    pub steal: f64,
}

/// Why the load over a span is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnknownLoad {
    /// The system does not count, or not in a way that is known here.
    #[error("this system does not count what its processors do")]
    NotCounted,
    /// The system counts in ticks, and the span has too few of them.
    #[error("the time was too short to count in")]
    TooShort,
}

/// Counts from its start on.
///
/// ```
/// use std::time::Duration;
/// use sprag_measure::machine::{LoadMeter, UnknownLoad};
/// let meter = LoadMeter::start();
/// // Too short a span on Linux, not counted elsewhere.
/// assert!(matches!(meter.finish(Duration::ZERO), Err(UnknownLoad::TooShort | UnknownLoad::NotCounted)));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct LoadMeter {
    start: Option<Times>,
    own: Duration,
}

impl LoadMeter {
    /// Begins to count.
    pub fn start() -> LoadMeter {
        LoadMeter { start: super::platform::processor_times(), own: own_time() }
    }

    /// The load since the start, `children` being the processor time of the child processes that ran and
    /// ended meanwhile ([`crate::process::Finished::cpu`]). What children used that is not in it counts as
    /// other processes'.
    ///
    /// # Errors
    /// It is not known.
    pub fn finish(self, children: Duration) -> Result<Load, UnknownLoad> {
        let own = own_time().saturating_sub(self.own) + children;
        let (Some(start), Some(end)) = (self.start, super::platform::processor_times()) else {
            return Err(UnknownLoad::NotCounted);
        };
        between(start, end, own)
    }
}

/// Shortest span: a tick is a hundredth of a second, and two counts may each be one off on every processor.
const SHORTEST: Duration = Duration::from_secs(1);

/// What processors did since the system started, added up.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Times {
    /// Processors that were counted.
    pub(super) processors: u32,
    /// In processes, their own code and the kernel's.
    pub(super) processes: Duration,
    /// All of it, interrupts and idling included.
    pub(super) total: Duration,
    /// Given to others by a hypervisor; a part of `total`.
    pub(super) steal: Duration,
}

fn between(start: Times, end: Times, own: Duration) -> Result<Load, UnknownLoad> {
    // A processor that was switched on or off meanwhile takes its whole count with it.
    if start.processors != end.processors || end.processors == 0 {
        return Err(UnknownLoad::NotCounted);
    }
    let total = end.total.saturating_sub(start.total);
    if total < SHORTEST * end.processors {
        return Err(UnknownLoad::TooShort);
    }
    let share = |time: Duration| time.as_secs_f64() / total.as_secs_f64();
    let processes = end.processes.saturating_sub(start.processes);
    let steal = end.steal.saturating_sub(start.steal);
    // Processes' own time is exact while processors are sampled by the tick: slightly more than all is none.
    Ok(Load { other_processes: share(processes.saturating_sub(own)), steal: share(steal) })
}

/// The text of `/proc/stat`; only processors for which `counts` holds are added up. `None` when it cannot be
/// read or has none of them.
#[cfg(any(target_os = "linux", test))]
pub(super) fn read_stat(text: &str, ticks_per_second: u64, counts: impl Fn(usize) -> bool) -> Option<Times> {
    let mut times = Times::default();
    for line in text.lines() {
        let Some((number, ticks)) = line.strip_prefix("cpu").and_then(|rest| rest.split_once(' ')) else {
            continue;
        };
        // The first line, without a number, is the sum of all processors.
        if !number.parse().is_ok_and(&counts) {
            continue;
        }
        let ticks: Vec<u64> = ticks.split_ascii_whitespace().map_while(|text| text.parse().ok()).collect();
        // Time of guests, behind these eight, is a part of the first two.
        let [user, nice, system, idle, iowait, irq, softirq, steal, ..] = ticks[..] else { return None };
        let time = |ticks: u64| Duration::from_secs_f64(ticks as f64 / ticks_per_second as f64);
        times.processors += 1;
        times.processes += time(user + nice + system);
        times.steal += time(steal);
        times.total += time(user + nice + system + idle + iowait + irq + softirq + steal);
    }
    (times.processors > 0).then_some(times)
}

/// Processor time of this process, all threads together.
fn own_time() -> Duration {
    // SAFETY: `rusage` is plain data for which all zeroes is a value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live, writable local of the type that getrusage wants. With a valid first
    // argument the call cannot fail; zeroes would stand for no time.
    unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) };
    let duration = |time: libc::timeval| {
        let micros = Duration::from_micros(u64::try_from(time.tv_usec).unwrap_or(0));
        Duration::from_secs(u64::try_from(time.tv_sec).unwrap_or(0)) + micros
    };
    duration(usage.ru_utime) + duration(usage.ru_stime)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two processors of a machine of four, 100 ticks a second: 10 s each.
    const BEFORE: &str = "cpu  9 9 9 9 9 9 9 9 0 0\n\
        cpu0 100 0 100 1000 0 0 0 0 0 0\n\
        cpu1 0 0 0 0 0 0 0 0 0 0\n\
        cpu2 0 0 0 0 0 0 0 0 0 0\n\
        intr 5 6\n\
        cpu11 0 0 0 0 0 0 0 0 0 0\n";
    const AFTER: &str = "cpu  9 9 9 9 9 9 9 9 0 0\n\
        cpu0 700 100 200 1150 20 10 20 0 5 0\n\
        cpu1 800 0 0 100 0 0 0 100 0 0\n\
        cpu2 1000 0 0 0 0 0 0 0 0 0\n\
        intr 5 6\n\
        cpu11 0 0 0 0 0 0 0 0 0 0\n";

    fn times(text: &str) -> Times {
        read_stat(text, 100, |cpu| cpu < 2).expect("two processors")
    }

    #[test]
    fn other_processes_are_what_is_left_of_this_process_its_children_and_idling() {
        let load = between(times(BEFORE), times(AFTER), Duration::from_secs(12)).unwrap();
        assert!((load.other_processes - 4.0 / 20.0).abs() < 1e-9, "{load:?}");
        assert!((load.steal - 1.0 / 20.0).abs() < 1e-9, "{load:?}");
        let all_ours = between(times(BEFORE), times(AFTER), Duration::from_secs(17)).unwrap();
        assert_eq!(all_ours.other_processes, 0.0);
    }

    #[test]
    fn a_short_span_and_a_changed_number_of_processors_are_unknown() {
        assert_eq!(between(times(BEFORE), times(BEFORE), Duration::ZERO), Err(UnknownLoad::TooShort));
        let one = read_stat(AFTER, 100, |cpu| cpu == 0).unwrap();
        assert_eq!(between(times(BEFORE), one, Duration::ZERO), Err(UnknownLoad::NotCounted));
    }

    #[test]
    fn what_is_no_count_is_unknown() {
        assert_eq!(read_stat("", 100, |_| true), None);
        assert_eq!(read_stat("cpu 1 2 3 4 5 6 7 8\n", 100, |_| true), None);
        assert_eq!(read_stat("cpu0 1 2 3 four\n", 100, |_| true), None);
        assert_eq!(read_stat(BEFORE, 100, |_| false), None);
    }

    /// This process works for a second and more of processor time: that is its own, never others'.
    #[test]
    #[cfg(target_os = "linux")]
    fn work_of_this_process_is_not_others() {
        let meter = LoadMeter::start();
        let began = own_time();
        let mut sum = 0u64;
        // Other tests of this process may work beside this one: its time may pass faster than the clock.
        let clock = std::time::Instant::now();
        while own_time() - began < Duration::from_millis(1500)
            || clock.elapsed() < Duration::from_millis(1500)
        {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        let as_own = meter.finish(Duration::ZERO).unwrap();
        // The same span, as if this process had not worked.
        let as_others = LoadMeter { own: own_time(), ..meter }.finish(Duration::ZERO).unwrap();
        assert!(as_own.other_processes < as_others.other_processes, "{as_own:?} {as_others:?}");
        assert!((0.0..=1.0).contains(&as_own.other_processes) && (0.0..=1.0).contains(&as_own.steal));
    }
}
