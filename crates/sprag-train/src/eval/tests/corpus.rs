//! A corpus without files: a noisy cycle through the ids, so that there is something to learn.

use super::super::Corpus;
use super::super::plan::PrivateRandom;

pub(in super::super) const VOCAB: u32 = 12;
pub(in super::super) const BOS: u32 = 0;

/// Ids 1 to 11 stand for as many bytes; each is followed by the next one, seven times out of ten.
pub(in super::super) struct Counting {
    train: PrivateRandom,
    bytes: Vec<u32>,
}

impl Default for Counting {
    fn default() -> Self {
        Counting { train: PrivateRandom::from_seed(1), bytes: (0..VOCAB).collect() }
    }
}

fn window(random: &mut PrivateRandom, len: usize) -> Vec<u32> {
    let mut id = BOS;
    let mut window = vec![BOS];
    while window.len() < len {
        let ids = (VOCAB - 1) as usize;
        id = if random.below(10) < 7 { id % (VOCAB - 1) + 1 } else { 1 + random.below(ids) as u32 };
        window.push(id);
    }
    window
}

impl Corpus for Counting {
    fn vocab_size(&self) -> u32 {
        VOCAB
    }

    fn bos(&self) -> u32 {
        BOS
    }

    fn byte_lengths(&self) -> &[u32] {
        &self.bytes
    }

    fn is_special(&self, id: u32) -> bool {
        id == BOS
    }

    fn next_batch(&mut self, rows: u32, seq_len: u32) -> Vec<u32> {
        (0..rows).flat_map(|_| window(&mut self.train, seq_len as usize + 1)).collect()
    }

    fn validation_windows(&self, count: u64, seq_len: u32) -> Vec<Vec<u32>> {
        let mut random = PrivateRandom::from_seed(2);
        (0..count).map(|_| window(&mut random, seq_len as usize + 1)).collect()
    }
}

/// 256 ids of three bytes each. What follows an id is a matter of rank: the token of rank `r` comes with a
/// probability in proportion to `1 / (r + 1)`, which leaves 4.3 nats a token to the best of models.
pub(in super::super) struct Babbling {
    train: PrivateRandom,
    bytes: Vec<u32>,
}

impl Default for Babbling {
    fn default() -> Self {
        Babbling { train: PrivateRandom::from_seed(1), bytes: vec![3; Self::VOCAB as usize] }
    }
}

impl Babbling {
    pub(in super::super) const VOCAB: u32 = 256;

    /// Probabilities of what follows `before`, by id: the best of models.
    pub(in super::super) fn probabilities(before: u32) -> Vec<f64> {
        let ranks = Self::VOCAB - 1;
        let total: f64 = (1..=ranks).map(|rank| 1.0 / f64::from(rank)).sum();
        let mut probabilities = vec![0.0; Self::VOCAB as usize];
        for rank in 0..ranks {
            let id = 1 + (rank + before * 37) % ranks;
            probabilities[id as usize] = 1.0 / f64::from(rank + 1) / total;
        }
        probabilities
    }

    fn window(random: &mut PrivateRandom, len: usize) -> Vec<u32> {
        let mut window = vec![BOS];
        while let (Some(&before), true) = (window.last(), window.len() < len) {
            let mut left = random.below(1 << 30) as f64 / f64::from(1 << 30);
            let probabilities = Self::probabilities(before);
            let passed = probabilities.iter().take_while(|&&probability| {
                left -= probability;
                left >= 0.0
            });
            window.push((passed.count() as u32).min(Self::VOCAB - 1));
        }
        window
    }
}

impl Corpus for Babbling {
    fn vocab_size(&self) -> u32 {
        Self::VOCAB
    }

    fn bos(&self) -> u32 {
        BOS
    }

    fn byte_lengths(&self) -> &[u32] {
        &self.bytes
    }

    fn is_special(&self, id: u32) -> bool {
        id == BOS
    }

    fn next_batch(&mut self, rows: u32, seq_len: u32) -> Vec<u32> {
        (0..rows).flat_map(|_| Self::window(&mut self.train, seq_len as usize + 1)).collect()
    }

    fn validation_windows(&self, count: u64, seq_len: u32) -> Vec<Vec<u32>> {
        let mut random = PrivateRandom::from_seed(2);
        (0..count).map(|_| Self::window(&mut random, seq_len as usize + 1)).collect()
    }
}
