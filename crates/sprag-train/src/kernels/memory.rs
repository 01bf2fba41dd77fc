//! Memory that is lent again and again.
//!
//! A training step asks for the same sizes as the one before. Fresh memory of these sizes would come from the
//! operating system each time, and cost a page fault for every 4 KiB and a pass to clear it.

#[cfg(feature = "model")]
mod lent;

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::Mutex;

use rayon::prelude::*;

use super::SHARE;

static POOL: Mutex<Pool> = Mutex::new(Pool::EMPTY);

/// What a processor reads at once. A vector that lies across two of them is read in two goes, and most do where
/// the allocator places numbers by their own size.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug)]
struct Line([f32; Line::WIDTH]);

impl Line {
    const WIDTH: usize = 16;
    const ZERO: Line = Line([0.0; Line::WIDTH]);
}

// SAFETY: 64 bytes of numbers, without gaps, for which every pattern is a value, and zero is one.
unsafe impl bytemuck::Zeroable for Line {}
// SAFETY: the same.
unsafe impl bytemuck::Pod for Line {}

/// What was given back, and how much is where, in lines.
struct Pool {
    /// By length.
    free: BTreeMap<usize, Vec<Vec<Line>>>,
    idle: usize,
    lent: usize,
    /// Most that was ever lent at once.
    most: usize,
}

impl Pool {
    const EMPTY: Pool = Pool { free: BTreeMap::new(), idle: 0, lent: 0, most: 0 };

    fn lend(&mut self, length: usize) -> Option<Vec<Line>> {
        self.lent += length;
        self.most = self.most.max(self.lent);
        let kept = self.free.get_mut(&length).and_then(Vec::pop)?;
        self.idle -= length;
        Some(kept)
    }

    /// Returns what is too much to keep: where sizes change all the time, what has the old ones lies idle for
    /// good.
    fn take_back(&mut self, lines: Vec<Line>) -> BTreeMap<usize, Vec<Vec<Line>>> {
        self.lent -= lines.len();
        self.idle += lines.len();
        self.free.entry(lines.len()).or_default().push(lines);
        if self.idle <= 2 * self.most {
            return BTreeMap::new();
        }
        self.idle = 0;
        std::mem::take(&mut self.free)
    }
}

/// Lines. Shorter ones come from the allocator, which is as fast.
const WORTH_KEEPING: usize = 256;

/// Numbers that go back to where they came from when they are dropped. The first one begins a line of the
/// processor's cache.
#[derive(Debug)]
pub struct Buffer {
    lines: Vec<Line>,
    length: usize,
}

impl Buffer {
    /// `length` numbers of any value: what was left there, or zeros.
    pub fn new(length: usize) -> Buffer {
        let count = length.div_ceil(Line::WIDTH);
        let kept = if count < WORTH_KEEPING { None } else { pool().lend(count) };
        Buffer { lines: kept.unwrap_or_else(|| vec![Line::ZERO; count]), length }
    }

    /// `length` zeros.
    pub fn zeros(length: usize) -> Buffer {
        let mut buffer = Buffer::new(length);
        buffer.par_chunks_mut(SHARE).for_each(|numbers| numbers.fill(0.0));
        buffer
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.lines.len() >= WORTH_KEEPING {
            let too_much = pool().take_back(std::mem::take(&mut self.lines));
            // After the lock is open again: others need not wait for the allocator.
            drop(too_much);
        }
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &bytemuck::cast_slice(&self.lines)[..self.length]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..self.length]
    }
}

/// Gives everything that nobody uses back to the allocator: other sizes are coming.
pub fn release() {
    let mut pool = pool();
    (pool.idle, pool.most) = (0, pool.lent);
    let idle = std::mem::take(&mut pool.free);
    drop(pool);
    drop(idle);
}

fn pool() -> std::sync::MutexGuard<'static, Pool> {
    // Nothing between two of its changes can panic but the allocator, after which nobody asks.
    POOL.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_that_never_come_back_do_not_pile_up() {
        let mut pool = Pool::EMPTY;
        for length in 1..1000 {
            let numbers = pool.lend(length).unwrap_or_else(|| vec![Line::ZERO; length]);
            pool.take_back(numbers);
            let kept: usize = pool.free.iter().map(|(length, all)| length * all.len()).sum();
            assert!(
                pool.idle == kept && pool.lent == 0 && pool.idle <= 2 * length,
                "{length}: {}",
                pool.idle
            );
        }
        // The same sizes over and over stay.
        let mut pool = Pool::EMPTY;
        for _ in 0..10 {
            let all: Vec<_> =
                (0..5).map(|_| pool.lend(300).unwrap_or_else(|| vec![Line::ZERO; 300])).collect();
            all.into_iter().for_each(|numbers| assert!(pool.take_back(numbers).is_empty()));
        }
    }

    #[test]
    fn a_copy_of_the_storage_is_its_own() {
        let mut buffer = Buffer::zeros(5004);
        buffer[0] = 1.0;
        let bytes = buffer.into_bytes();
        let copy = bytes.clone();
        drop(bytes);
        Buffer::new(5004).fill(7.0);
        assert_eq!(bytemuck::cast_slice::<u8, f32>(&copy)[0], 1.0);
    }
}
