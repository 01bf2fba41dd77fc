//! A random order of `0..n` that needs no memory: any position can be asked for.
//!
//! A balanced Feistel network (Luby and Rackoff, 1988) permutes the next power of four; values outside
//! `0..n` are walked on until they fall inside (Black and Rogaway, "Ciphers with arbitrary finite domains",
//! 2002). Good enough to shuffle data, not meant to hide anything.

const ROUNDS: usize = 6;

/// One order of `0..n`, chosen by a key.
#[derive(Clone, Debug)]
pub(crate) struct Permutation {
    len: u64,
    half_bits: u32,
    keys: [u64; ROUNDS],
}

impl Permutation {
    /// The order of `0..len` with this key.
    pub(crate) fn new(len: u64, key: u64) -> Permutation {
        let bits = u64::BITS - len.saturating_sub(1).leading_zeros();
        let mut state = key;
        let keys = std::array::from_fn(|_| next_random(&mut state));
        Permutation { len, half_bits: bits.div_ceil(2).max(1), keys }
    }

    /// What stands at `position`, which must be below `len`.
    pub(crate) fn at(&self, position: u64) -> u64 {
        debug_assert!(position < self.len);
        let mut value = position;
        loop {
            value = self.network(value);
            if value < self.len {
                return value;
            }
        }
    }

    fn network(&self, value: u64) -> u64 {
        let mask = (1u64 << self.half_bits) - 1;
        let (mut left, mut right) = (value >> self.half_bits, value & mask);
        for key in self.keys {
            (left, right) = (right, left ^ (mix(right ^ key) & mask));
        }
        left << self.half_bits | right
    }
}

/// SplitMix64 (Steele, Lea and Flood, 2014): the next of a sequence of well-mixed numbers.
pub(crate) fn next_random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mix(*state)
}

/// The finalizer of SplitMix64: every input bit moves about half of the output bits.
pub(crate) fn mix(mut value: u64) -> u64 {
    value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_comes_exactly_once() {
        for len in [1, 2, 3, 4, 5, 16, 17, 1000, 4097] {
            let permutation = Permutation::new(len, 42);
            let mut seen: Vec<u64> = (0..len).map(|position| permutation.at(position)).collect();
            seen.sort_unstable();
            assert_eq!(seen, (0..len).collect::<Vec<_>>());
        }
    }

    #[test]
    fn another_key_gives_another_order() {
        let order = |key| {
            let permutation = Permutation::new(1000, key);
            (0..1000).map(|position| permutation.at(position)).collect::<Vec<_>>()
        };
        assert_eq!(order(1), order(1));
        assert_ne!(order(1), order(2));
        assert_ne!(order(1), (0..1000).collect::<Vec<_>>());
    }

    /// Neighbours must not stay near each other: the mean distance of a random order of `0..n` is `n / 3`.
    #[test]
    fn neighbours_are_far_apart() {
        let permutation = Permutation::new(10_000, 7);
        let distances = (0..9_999).map(|at| permutation.at(at).abs_diff(permutation.at(at + 1)));
        let mean = distances.sum::<u64>() as f64 / 9_999.0;
        assert!((mean - 3333.0).abs() < 200.0, "mean distance {mean}");
    }
}
