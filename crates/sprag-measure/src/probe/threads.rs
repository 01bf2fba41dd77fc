//! Threads that stay where they are put and begin together.

use std::sync::Barrier;
use std::time::Instant;

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
