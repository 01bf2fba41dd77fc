//! Bandwidth of main memory, by kind of transfer and number of threads.
//!
//! STREAM counts the bytes that a program asks for. A store to a line that is not in the cache reads it first
//! (write-allocate), so plain stores may move more than is counted; stores past the caches do not. Both are named.

use std::hint::black_box;

use serde::{Deserialize, Serialize};

use super::threads::{timed, visits};
use super::{Effort, Sample};
use crate::machine::Machine;

/// What moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transfer {
    /// `sum += a`.
    Read,
    /// `a = s`.
    Write,
    /// `a = s`, past the caches.
    WritePast,
    /// `a = b`.
    Copy,
    /// `a = b`, past the caches.
    CopyPast,
    /// `a = b + s * c`.
    Triad,
    /// `a = b + s * c`, past the caches.
    TriadPast,
}

impl Transfer {
    /// All that this machine can do.
    fn all() -> &'static [Transfer] {
        use Transfer::{Copy, CopyPast, Read, Triad, TriadPast, Write, WritePast};
        if cfg!(target_arch = "x86_64") {
            &[Read, Write, WritePast, Copy, CopyPast, Triad, TriadPast]
        } else {
            &[Read, Write, Copy, Triad]
        }
    }

    /// Words of an element that are counted.
    fn words(self) -> usize {
        match self {
            Transfer::Read | Transfer::Write | Transfer::WritePast => 1,
            Transfer::Copy | Transfer::CopyPast => 2,
            Transfer::Triad | Transfer::TriadPast => 3,
        }
    }

    /// Bytes that move for each that is counted, where a store of a line that is not cached reads it first. Some processors
    /// know better for long runs of stores.
    pub fn traffic(self) -> f64 {
        match self {
            Transfer::Write => 2.0,
            Transfer::Copy => 1.5,
            Transfer::Triad => 4.0 / 3.0,
            Transfer::Read | Transfer::WritePast | Transfer::CopyPast | Transfer::TriadPast => 1.0,
        }
    }

    /// For people.
    pub fn word(self) -> &'static str {
        match self {
            Transfer::Read => "read",
            Transfer::Write => "write",
            Transfer::WritePast => "write past caches",
            Transfer::Copy => "copy",
            Transfer::CopyPast => "copy past caches",
            Transfer::Triad => "Triad",
            Transfer::TriadPast => "Triad past caches",
        }
    }
}

/// One kind of transfer on a number of threads.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bandwidth {
    /// What moves.
    pub transfer: Transfer,
    /// On so many threads, each on a core of its own.
    pub threads: u32,
    /// Bytes a second, counted as STREAM counts; [`Transfer::traffic`] says what moves besides.
    pub bytes_per_second: Sample,
}

/// Arrays that are four times what the caches hold, and not more than the memory lends.
fn elements(effort: Effort, machine: &Machine) -> usize {
    let wanted: u64 = match effort {
        Effort::Quick => 192 << 20,
        Effort::Normal => 256 << 20,
        Effort::Thorough => 512 << 20,
    };
    let room = machine.available_memory_bytes.unwrap_or(1 << 30) / 6;
    usize::try_from(wanted.min(room) / 8).unwrap_or(1 << 20)
}

pub fn measure(effort: Effort, machine: &Machine, cores: &[usize]) -> Vec<Bandwidth> {
    let elements = elements(effort, machine);
    let mut counts: Vec<usize> = match effort {
        Effort::Thorough => (1..=cores.len()).collect(),
        Effort::Quick | Effort::Normal => {
            std::iter::successors(Some(1), |n| Some(n * 2)).take_while(|n| *n < cores.len()).collect()
        }
    };
    if counts.last() != Some(&cores.len()) {
        counts.push(cores.len());
    }
    let works: Vec<(usize, Transfer)> = counts
        .iter()
        .flat_map(|threads| Transfer::all().iter().map(|transfer| (*threads, *transfer)))
        .collect();
    let rates = visits(effort, works.len(), &mut |at, goes| {
        let (threads, transfer) = works[at];
        let part = elements / threads;
        let seconds = timed(
            &cores[..threads],
            goes,
            &|_| [vec![1.0; part], vec![2.0; part], vec![0.5; part]],
            &|[a, b, c]| go(transfer, a, b, c),
        );
        let bytes = (transfer.words() * part * threads * 8) as f64;
        seconds.iter().map(|seconds| bytes / seconds).collect()
    });
    let one = |((threads, transfer), rates): ((usize, Transfer), Vec<f64>)| {
        Some(Bandwidth { transfer, threads: threads as u32, bytes_per_second: Sample::of(&rates)? })
    };
    works.into_iter().zip(rates).filter_map(one).collect()
}

/// What memory gives at a moment, in bytes a second: the medians of a few goes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct MemoryNow {
    /// `sum += a`, in one stream a core or in eight at once, whichever is faster.
    pub read: f64,
    /// The same in one stream a core, as a product of a matrix with a vector reads.
    pub read_one_stream: f64,
    /// Triad with all that moves counted: the larger of plain stores, whose lines are read first, and of stores past the
    /// caches.
    pub triad: f64,
}

/// Bytes of each of the three arrays: more than caches hold, and quickly made.
const NOW_BYTES: usize = 64 << 20;
const NOW_GOES: u32 = 5;

/// Measures it on these cores, in about a third of a second; `None` where the arrays have no room.
pub fn memory_now(cores: &[usize], machine: &Machine) -> Option<MemoryNow> {
    let room = machine.available_memory_bytes.unwrap_or(1 << 30);
    if cores.is_empty() || room < 4 * NOW_BYTES as u64 {
        return None;
    }
    let part = NOW_BYTES / 8 / cores.len();
    let rate = |transfer: Transfer| {
        let make = &|_: usize| [vec![1.0; part], vec![2.0; part], vec![0.5; part]];
        let seconds = timed(cores, NOW_GOES, make, &|[a, b, c]| go(transfer, a, b, c));
        let bytes = (transfer.words() * part * cores.len() * 8) as f64 * transfer.traffic();
        crate::stats::median(&seconds).map(|seconds| bytes / seconds)
    };
    let triads = [Transfer::Triad, Transfer::TriadPast];
    let known = triads.into_iter().filter(|transfer| Transfer::all().contains(transfer));
    let triad = known.filter_map(rate).fold(0.0, f64::max);
    // A core that waits for one stream's lines could fetch those of others meanwhile.
    let seconds = timed(cores, NOW_GOES, &|_| vec![1.0; part], &|a| {
        black_box(sum_streams(a));
    });
    let streams = crate::stats::median(&seconds).map(|seconds| (part * cores.len() * 8) as f64 / seconds);
    let read_one_stream = rate(Transfer::Read)?;
    Some(MemoryNow { read: read_one_stream.max(streams.unwrap_or(0.0)), read_one_stream, triad })
}

/// Reads memory on these cores for about so long: bytes a second; `None` where the arrays have no room.
pub(super) fn sustained(machine: &Machine, cores: &[usize], span: std::time::Duration) -> Option<f64> {
    let now = memory_now(cores, machine)?;
    let part = NOW_BYTES / 8 / cores.len();
    let bytes = (part * cores.len() * 8) as f64;
    let goes = (span.as_secs_f64() * now.read_one_stream / bytes).clamp(1.0, 1e6) as u32;
    let seconds = timed(cores, goes, &|_| vec![1.0; part], &|a| {
        black_box(sum(a));
    });
    Some(bytes * seconds.len() as f64 / seconds.iter().sum::<f64>())
}

/// The sum, reading from eight places at once.
fn sum_streams(a: &[f64]) -> f64 {
    const STREAMS: usize = 8;
    const LINE: usize = 8;
    let part = a.len() / STREAMS / LINE * LINE;
    let mut lanes = [0.0; LINE];
    for at in (0..part).step_by(LINE) {
        for stream in 0..STREAMS {
            let begin = stream * part + at;
            for (lane, value) in lanes.iter_mut().zip(&a[begin..begin + LINE]) {
                *lane += *value;
            }
        }
    }
    let rest: f64 = a[STREAMS * part..].iter().sum();
    lanes.iter().sum::<f64>() + rest
}

fn go(transfer: Transfer, a: &mut [f64], b: &[f64], c: &[f64]) {
    let scale = black_box(3.0);
    match transfer {
        Transfer::Read => {
            black_box(sum(a));
        }
        Transfer::Write => a.fill(scale),
        Transfer::Copy => copy(a, b),
        Transfer::Triad => {
            for ((a, b), c) in a.iter_mut().zip(b).zip(c) {
                *a = *b + scale * *c;
            }
        }
        #[cfg(target_arch = "x86_64")]
        Transfer::WritePast => past::write(a, scale),
        #[cfg(target_arch = "x86_64")]
        Transfer::CopyPast => past::copy(a, b),
        #[cfg(target_arch = "x86_64")]
        Transfer::TriadPast => past::triad(a, b, c, scale),
        #[cfg(not(target_arch = "x86_64"))]
        Transfer::WritePast | Transfer::CopyPast | Transfer::TriadPast => {}
    }
    black_box(&a);
}

/// Adds nothing, of which the compiler does not know that it is nothing: else it would call `memcpy`, which may store
/// past the caches.
fn copy(a: &mut [f64], b: &[f64]) {
    let nothing = black_box(0.0);
    for (a, b) in a.iter_mut().zip(b) {
        *a = *b + nothing;
    }
}

/// Sixteen sums at a time: the adder does not limit.
fn sum(a: &[f64]) -> f64 {
    let mut lanes = [0.0; 16];
    for chunk in a.chunks_exact(16) {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane += *value;
        }
    }
    lanes.iter().sum()
}

/// Reads whole words in order, as wide as the processor can.
pub fn read_all(words: &[u64]) -> u64 {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2")]
        fn with_avx2(words: &[u64]) -> u64 {
            lanes::<32>(words)
        }
        #[target_feature(enable = "avx512f")]
        fn with_avx512(words: &[u64]) -> u64 {
            lanes::<64>(words)
        }
        if std::arch::is_x86_feature_detected!("avx512f") {
            // SAFETY: the processor has it.
            return unsafe { with_avx512(words) };
        }
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has it.
            return unsafe { with_avx2(words) };
        }
    }
    lanes::<16>(words)
}

#[inline(always)]
fn lanes<const N: usize>(words: &[u64]) -> u64 {
    let mut lanes = [0_u64; N];
    for chunk in words.chunks_exact(N) {
        for (lane, word) in lanes.iter_mut().zip(chunk) {
            *lane = lane.wrapping_add(*word);
        }
    }
    lanes.iter().fold(0, |sum, lane| sum.wrapping_add(*lane))
}

/// Stores past the caches (`movntpd`): whole lines at a time where the processor has AVX-512, else pairs of numbers, which
/// every x86-64 processor has.
#[cfg(target_arch = "x86_64")]
mod past {
    use std::arch::x86_64::{
        _mm_add_pd, _mm_loadu_pd, _mm_mul_pd, _mm_set1_pd, _mm_sfence, _mm_stream_pd, _mm512_add_pd,
        _mm512_loadu_pd, _mm512_mul_pd, _mm512_set1_pd, _mm512_stream_pd,
    };

    /// Bytes of a line, and numbers in it.
    const LINE: usize = 64;
    const NUMBERS: usize = LINE / 8;

    fn wide() -> bool {
        std::arch::is_x86_feature_detected!("avx512f")
    }

    /// Numbers before the first line that begins in a slice, and whole lines from there.
    fn lines(a: &[f64]) -> (usize, usize) {
        let skip = a.as_ptr().align_offset(LINE).min(a.len());
        (skip, (a.len() - skip) / NUMBERS)
    }

    pub fn write(a: &mut [f64], value: f64) {
        let (skip, lines) = lines(a);
        #[target_feature(enable = "avx512f")]
        unsafe fn whole(to: *mut f64, lines: usize, value: f64) {
            let value = _mm512_set1_pd(value);
            for line in 0..lines {
                // SAFETY: the caller gives so many whole lines.
                unsafe { _mm512_stream_pd(to.add(line * NUMBERS), value) };
            }
        }
        // SAFETY: lines lie within the slice and begin at multiples of 64 bytes; wide stores only where they are known.
        unsafe {
            let to = a.as_mut_ptr().add(skip);
            if wide() {
                whole(to, lines, value);
            } else {
                let value = _mm_set1_pd(value);
                for pair in 0..lines * NUMBERS / 2 {
                    _mm_stream_pd(to.add(2 * pair), value);
                }
            }
            _mm_sfence();
        }
    }

    pub fn copy(a: &mut [f64], b: &[f64]) {
        assert!(b.len() >= a.len());
        let (skip, lines) = lines(a);
        #[target_feature(enable = "avx512f")]
        unsafe fn whole(to: *mut f64, from: *const f64, lines: usize) {
            for line in 0..lines {
                let at = line * NUMBERS;
                // SAFETY: the caller gives so many whole lines of both.
                unsafe { _mm512_stream_pd(to.add(at), _mm512_loadu_pd(from.add(at))) };
            }
        }
        // SAFETY: lines lie within both slices; stores begin at multiples of 64 bytes, loads need not; wide ones only
        // where they are known.
        unsafe {
            let (to, from) = (a.as_mut_ptr().add(skip), b.as_ptr().add(skip));
            if wide() {
                whole(to, from, lines);
            } else {
                for pair in 0..lines * NUMBERS / 2 {
                    _mm_stream_pd(to.add(2 * pair), _mm_loadu_pd(from.add(2 * pair)));
                }
            }
            _mm_sfence();
        }
    }

    pub fn triad(a: &mut [f64], b: &[f64], c: &[f64], scale: f64) {
        assert!(b.len() >= a.len() && c.len() >= a.len());
        let (skip, lines) = lines(a);
        #[target_feature(enable = "avx512f")]
        unsafe fn whole(to: *mut f64, [b, c]: [*const f64; 2], lines: usize, scale: f64) {
            let scale = _mm512_set1_pd(scale);
            for line in 0..lines {
                let at = line * NUMBERS;
                // SAFETY: the caller gives so many whole lines of all three.
                unsafe {
                    let product = _mm512_mul_pd(scale, _mm512_loadu_pd(c.add(at)));
                    _mm512_stream_pd(to.add(at), _mm512_add_pd(_mm512_loadu_pd(b.add(at)), product));
                }
            }
        }
        // SAFETY: lines lie within the three slices; stores begin at multiples of 64 bytes, loads need not; wide ones only
        // where they are known.
        unsafe {
            let to = a.as_mut_ptr().add(skip);
            let (b, c) = (b.as_ptr().add(skip), c.as_ptr().add(skip));
            if wide() {
                whole(to, [b, c], lines, scale);
            } else {
                let scale = _mm_set1_pd(scale);
                for pair in 0..lines * NUMBERS / 2 {
                    let product = _mm_mul_pd(scale, _mm_loadu_pd(c.add(2 * pair)));
                    _mm_stream_pd(to.add(2 * pair), _mm_add_pd(_mm_loadu_pd(b.add(2 * pair)), product));
                }
            }
            _mm_sfence();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_transfer_does_what_its_name_says_whatever_the_alignment() {
        for offset in 0..3 {
            for transfer in Transfer::all() {
                let (b, c) = (vec![2.0; 133], vec![5.0; 133]);
                let mut a = vec![1.0; 133 + offset];
                go(*transfer, &mut a[offset..], &b, &c);
                let expected = match transfer {
                    Transfer::Read => 1.0,
                    Transfer::Write | Transfer::WritePast => 3.0,
                    Transfer::Copy | Transfer::CopyPast => 2.0,
                    Transfer::Triad | Transfer::TriadPast => 17.0,
                };
                // Less than a line at both ends may be left out by those that store past the caches.
                let middle = &a[offset + 8..offset + 125];
                assert!(middle.iter().all(|value| *value == expected), "{transfer:?} {a:?}");
                assert!(
                    a[offset..].iter().all(|value| [1.0, expected].contains(value)),
                    "{transfer:?} {a:?}"
                );
                assert!(a[..offset].iter().all(|value| *value == 1.0));
            }
        }
        assert_eq!(sum(&vec![1.0; 128]), 128.0);
        assert_eq!((sum_streams(&vec![1.0; 1000]), sum_streams(&[1.0; 3])), (1000.0, 3.0));
        assert_eq!(read_all(&[2; 64]), 128);
    }
}
