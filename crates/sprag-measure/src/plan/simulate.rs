//! A discrete-event simulation of tasks that need resources and wait for each other. It knows nothing of models: it checks
//! the closed forms of [`super::cluster`] by playing what they summarise.

use std::cmp::Ordering;
use std::collections::{BTreeSet, BinaryHeap};

/// Something that takes time on one resource.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// What it occupies: a node, or one direction of a link.
    pub resource: usize,
    /// How long.
    pub seconds: f64,
    /// Tasks that must have ended, each with a delay after its end (the latency of a link).
    pub after: Vec<(usize, f64)>,
}

/// The moment at which a task can begin, or ends; earlier ones come first, then lower numbers.
#[derive(Clone, Copy, PartialEq)]
struct Event {
    at: f64,
    task: usize,
    ends: bool,
}

impl Eq for Event {}

impl Ord for Event {
    fn cmp(&self, other: &Event) -> Ordering {
        // The heap gives the greatest first.
        let later = other.at.total_cmp(&self.at);
        later.then(self.ends.cmp(&other.ends)).then(other.task.cmp(&self.task))
    }
}

impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Event) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// When each task ends. A resource does one task at a time; of those that wait, the one with the lowest number first.
/// Tasks may only wait for tasks with lower numbers, so there are no circles.
///
/// # Panics
/// When a task waits for one with a number that is not lower.
pub fn simulate(tasks: &[Task]) -> Vec<f64> {
    let resources = tasks.iter().map(|task| task.resource + 1).max().unwrap_or(0);
    let mut waiting: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); resources];
    let mut busy = vec![false; resources];
    let mut followers: Vec<Vec<(usize, f64)>> = vec![Vec::new(); tasks.len()];
    let mut missing = vec![0; tasks.len()];
    let mut ready_at = vec![0.0_f64; tasks.len()];
    let mut ends = vec![0.0; tasks.len()];
    let mut events = BinaryHeap::new();
    for (number, task) in tasks.iter().enumerate() {
        missing[number] = task.after.len();
        for (before, delay) in &task.after {
            assert!(*before < number, "task {number} waits for {before}");
            followers[*before].push((number, *delay));
        }
        if task.after.is_empty() {
            events.push(Event { at: 0.0, task: number, ends: false });
        }
    }
    while let Some(event) = events.pop() {
        let resource = tasks[event.task].resource;
        if event.ends {
            busy[resource] = false;
            ends[event.task] = event.at;
            for (follower, delay) in &followers[event.task] {
                ready_at[*follower] = ready_at[*follower].max(event.at + delay);
                missing[*follower] -= 1;
                if missing[*follower] == 0 {
                    events.push(Event { at: ready_at[*follower], task: *follower, ends: false });
                }
            }
        } else {
            waiting[resource].insert(event.task);
        }
        if !busy[resource]
            && let Some(next) = waiting[resource].pop_first()
        {
            busy[resource] = true;
            events.push(Event { at: event.at + tasks[next].seconds, task: next, ends: true });
        }
    }
    ends
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(resource: usize, seconds: f64, after: &[(usize, f64)]) -> Task {
        Task { resource, seconds, after: after.to_vec() }
    }

    #[test]
    fn tasks_share_resources_and_wait_for_each_other() {
        let tasks = [
            task(0, 2.0, &[]),
            task(0, 3.0, &[]),
            task(1, 1.0, &[(0, 0.5)]),
            task(1, 1.0, &[(1, 0.5)]),
            task(0, 4.0, &[(2, 0.0), (3, 0.25)]),
        ];
        assert_eq!(simulate(&tasks), [2.0, 5.0, 3.5, 6.5, 10.75]);
    }

    #[test]
    fn of_those_that_wait_the_lowest_number_comes_first() {
        let tasks = [
            task(0, 1.0, &[]),
            task(0, 1.0, &[(0, 5.0)]),
            task(0, 3.0, &[(0, 4.0)]),
            task(0, 1.0, &[(0, 5.5)]),
        ];
        // At 5 the third runs; the second and fourth wait until 8.
        assert_eq!(simulate(&tasks), [1.0, 9.0, 8.0, 10.0]);
        assert!(simulate(&[]).is_empty());
    }
}
