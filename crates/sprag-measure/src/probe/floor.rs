//! What is paid before anything is done: the clock, threads, processes, the disk.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::{Effort, Sample};
use crate::{clock, process};

/// Floor costs in seconds. Absent is what could not be measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Floor {
    /// The smallest step of the clock.
    pub timer_resolution_seconds: f64,
    /// One reading of the clock.
    #[serde(default)]
    pub timer_overhead_seconds: Option<Sample>,
    /// Starting a thread that does nothing, and waiting for it.
    #[serde(default)]
    pub thread_start_seconds: Option<Sample>,
    /// From one thread that wakes another until that one runs: half of a round trip.
    #[serde(default)]
    pub thread_wake_seconds: Option<Sample>,
    /// Starting `true` and waiting for it, within limits as a candidate's.
    #[serde(default)]
    pub process_start_seconds: Option<Sample>,
    /// Writing 4 KiB and having the disk confirm it.
    #[serde(default)]
    pub fsync_seconds: Option<Sample>,
}

/// Measures them.
pub fn measure(effort: Effort, folder: &Path) -> Floor {
    let goes = effort.goes();
    let times = |act: &mut dyn FnMut() -> Option<f64>| {
        let values: Vec<f64> = (0..goes).filter_map(|_| act()).collect();
        Sample::of(&values)
    };
    Floor {
        timer_resolution_seconds: clock::resolution().as_secs_f64(),
        timer_overhead_seconds: times(&mut || {
            Some(per(20_000, &mut || {
                std::hint::black_box(Instant::now());
            }))
        }),
        thread_start_seconds: times(&mut || {
            Some(per(50, &mut || {
                // A thread that cannot be started shows as a longer time of all of them.
                let _ = std::thread::spawn(|| {}).join();
            }))
        }),
        thread_wake_seconds: times(&mut || Some(wake(2_000))),
        process_start_seconds: times(&mut || {
            let began = Instant::now();
            let words: [&str; 0] = [];
            let output =
                process::output("true", words, Path::new("/"), &[("PATH".into(), "/bin:/usr/bin".into())]);
            output.ok().filter(process::Output::success).map(|_| began.elapsed().as_secs_f64())
        }),
        fsync_seconds: fsync(goes, folder),
    }
}

/// Seconds of one of so many.
fn per(count: u32, act: &mut dyn FnMut()) -> f64 {
    let began = Instant::now();
    (0..count).for_each(|_| act());
    began.elapsed().as_secs_f64() / f64::from(count)
}

/// Two threads that wake each other in turn.
fn wake(rounds: u32) -> f64 {
    let (turn, main) = (AtomicBool::new(false), std::thread::current());
    std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            for _ in 0..rounds {
                while !turn.load(Ordering::Acquire) {
                    std::thread::park();
                }
                turn.store(false, Ordering::Release);
                main.unpark();
            }
        });
        let began = Instant::now();
        for _ in 0..rounds {
            turn.store(true, Ordering::Release);
            other.thread().unpark();
            while turn.load(Ordering::Acquire) {
                std::thread::park();
            }
        }
        began.elapsed().as_secs_f64() / f64::from(rounds) / 2.0
    })
}

/// `None` where the folder cannot be written.
fn fsync(goes: u32, folder: &Path) -> Option<Sample> {
    let path = folder.join(format!("sprag-probe-{}", std::process::id()));
    let mut file = File::create(&path).ok()?;
    let go = |_| {
        let began = Instant::now();
        file.seek(SeekFrom::Start(0))
            .and_then(|_| file.write_all(&[7; 4096]))
            .and_then(|()| file.sync_all())
            .ok()?;
        Some(began.elapsed().as_secs_f64())
    };
    let values: Vec<f64> = (0..goes).filter_map(go).collect();
    // Left behind, it would be found by its name.
    let _ = std::fs::remove_file(&path);
    Sample::of(&values)
}
