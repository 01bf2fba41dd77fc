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
