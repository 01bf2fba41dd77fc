//! Threads that stay where they are put and begin together.

use std::sync::Barrier;
use std::time::Instant;

use super::Effort;

/// Processors that this process may use, by their numbers; just the count where they have none.
pub fn usable() -> Vec<usize> {
    #[cfg(target_os = "linux")]
    if let Ok(set) = rustix::thread::sched_getaffinity(None) {
        let most = rustix::thread::CpuSet::MAX_CPU;
        return (0..most).filter(|cpu| set.is_set(*cpu)).collect();
    }
    (0..std::thread::available_parallelism().map_or(1, |n| n.get())).collect()
}

/// Keeps the current thread on a processor, where the system allows that; elsewhere it wanders.
fn stay(cpu: usize) {
    #[cfg(target_os = "linux")]
    {
        let mut set = rustix::thread::CpuSet::new();
        set.set(cpu);
        // A processor that was taken away meanwhile: the thread wanders, and the spread shows it.
        let _ = rustix::thread::sched_setaffinity(None, &set);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = cpu;
}

/// Gives each of the processors a part of the work, `goes` times, and times each go from the first thread that begins
/// to the last that ends.
///
/// `prepare` makes a thread's own data, on that thread, so that its memory is near; `work` does one go.
pub fn timed<T>(
    cores: &[usize],
    goes: u32,
    prepare: &(dyn Fn(usize) -> T + Sync),
    work: &(dyn Fn(&mut T) + Sync),
) -> Vec<f64> {
    let barrier = Barrier::new(cores.len());
    let spans: Vec<Vec<(Instant, Instant)>> = std::thread::scope(|scope| {
        let threads: Vec<_> = cores
            .iter()
            .enumerate()
            .map(|(index, cpu)| {
                let barrier = &barrier;
                scope.spawn(move || {
                    stay(*cpu);
                    let mut own = prepare(index);
                    // Once for nothing: pages, caches and clocks settle.
                    work(&mut own);
                    let go = |_| {
                        barrier.wait();
                        let begin = Instant::now();
                        work(&mut own);
                        (begin, Instant::now())
                    };
                    (0..goes).map(go).collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_default()).collect()
    });
    let span = |go: usize| {
        let own = || spans.iter().filter_map(move |spans| spans.get(go));
        let begin = own().map(|span| span.0).min()?;
        let end = own().map(|span| span.1).max()?;
        Some(end.duration_since(begin).as_secs_f64())
    };
    (0..goes as usize).filter_map(span).collect()
}

/// Times each of several works in visits, all of them before any is visited again: a machine that is disturbed for a
/// moment is disturbed in some goes of many works, and not in all of one. The rates of each.
pub fn visits(effort: Effort, works: usize, go: &mut dyn FnMut(usize, u32) -> Vec<f64>) -> Vec<Vec<f64>> {
    const VISITS: u32 = 3;
    let mut rates = vec![Vec::new(); works];
    for visit in 0..VISITS {
        let share = |visit: u32| effort.goes() * visit / VISITS;
        let goes = share(visit + 1) - share(visit);
        for (at, rates) in rates.iter_mut().enumerate().filter(|_| goes > 0) {
            rates.extend(go(at, goes));
        }
    }
    rates
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_work_has_all_of_its_goes_in_three_visits() {
        let mut order = Vec::new();
        let rates = visits(Effort::Quick, 2, &mut |at, goes| {
            order.push((at, goes));
            vec![1.0; goes as usize]
        });
        assert_eq!(order, [(0, 1), (1, 1), (0, 2), (1, 2), (0, 2), (1, 2)]);
        assert_eq!(rates.iter().map(Vec::len).collect::<Vec<_>>(), [5, 5]);
    }

    #[test]
    fn threads_begin_together_and_all_go() {
        let cores = usable();
        let counted = std::sync::atomic::AtomicU32::new(0);
        let seconds = timed(&cores, 4, &|index| index, &|_| {
            counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        });
        assert_eq!(seconds.len(), 4);
        // Once for nothing on each thread.
        assert_eq!(counted.into_inner() as usize, 5 * cores.len());
    }
}
