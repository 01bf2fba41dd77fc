//! Latency and bandwidth of one core over the size of what it works on: where the steps are, the caches end.

use std::hint::black_box;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::memory::read_all;
use super::{Effort, Presented, Sample};
use crate::machine::Machine;

/// Bytes that move together.
const LINE: usize = 64;
/// Loads of one go.
const LOADS: usize = 400_000;

/// One size.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rung {
    /// What is worked on.
    pub bytes: u64,
    /// From one load to the next that depends on it, in seconds; translation of addresses included, with pages of the
    /// system's own size.
    pub latency_seconds: Sample,
    /// Reading all of it in order, again and again, in bytes a second.
    pub read_bytes_per_second: Sample,
}

/// From what every first cache holds to what none does.
pub fn measure(effort: Effort, machine: &Machine, presented: &Presented) -> Vec<Rung> {
    let last = presented.caches.last().map_or(32 << 20, |cache| cache.bytes);
    let room = machine.available_memory_bytes.unwrap_or(1 << 30) / 8;
    let most = (last * 4).clamp(64 << 20, 1 << 30).min(room.max(16 << 20));
    // A quick look takes every other step.
    let steps: &[u64] = if effort == Effort::Quick { &[1] } else { &[2, 3] };
    let mut sizes: Vec<u64> = Vec::new();
    let mut size = 4 << 10;
    while size <= most {
        sizes.extend(steps.iter().map(|step| size * step / steps[0]).filter(|bytes| *bytes <= most));
        size *= 2;
    }
    sizes.into_iter().filter_map(|bytes| rung(effort, bytes)).collect()
}

fn rung(effort: Effort, bytes: u64) -> Option<Rung> {
    let lines = usize::try_from(bytes).ok()? / LINE;
    // A go over what is large takes long enough for few of them.
    let goes = if bytes > 16 << 20 { effort.goes().min(7) } else { effort.goes() };
    let chain = cycle(lines);
    let mut at = 0;
    let latencies: Vec<f64> = (0..=goes)
        .map(|_| {
            let began = Instant::now();
            for _ in 0..LOADS / 16 {
                // Sixteen at a time, so that counting costs nothing.
                for _ in 0..16 {
                    at = chain[at] as usize;
                }
            }
            black_box(at);
            began.elapsed().as_secs_f64() / LOADS as f64
        })
        .skip(1)
        .collect();
    let rounds = ((32 << 20) / (lines * LINE)).max(1);
    let reads: Vec<f64> = (0..=goes)
        .map(|_| {
            let began = Instant::now();
            for _ in 0..rounds {
                black_box(read_all(black_box(&chain)));
            }
            (rounds * lines * LINE) as f64 / began.elapsed().as_secs_f64()
        })
        .skip(1)
        .collect();
    Some(Rung { bytes, latency_seconds: Sample::of(&latencies)?, read_bytes_per_second: Sample::of(&reads)? })
}

/// Lines of which each names the first word of the next, in one cycle through all of them in no order that can be foretold (Sattolo 1986).
fn cycle(lines: usize) -> Vec<u64> {
    let mut order: Vec<u32> = (0..lines as u32).collect();
    let mut random: u64 = 0x853C_49E6_748F_EA9B;
    for last in (1..lines).rev() {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        order.swap(last, ((random >> 33) % last as u64) as usize);
    }
    let mut chain = vec![0; lines * (LINE / 8)];
    for (line, next) in order.into_iter().enumerate() {
        chain[line * (LINE / 8)] = u64::from(next) * (LINE / 8) as u64;
    }
    chain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_comes_through_every_line_before_it_is_back() {
        for lines in [2, 3, 64, 1000] {
            let chain = cycle(lines);
            let (mut at, mut steps) = (0, 0);
            loop {
                at = chain[at] as usize;
                steps += 1;
                if at == 0 {
                    break;
                }
            }
            assert_eq!(steps, lines);
        }
    }
}
