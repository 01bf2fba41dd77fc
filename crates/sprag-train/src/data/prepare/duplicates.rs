//! Finds texts that are copies, or almost copies, of an earlier one.
//!
//! MinHash (Broder, "On the resemblance and containment of documents", 1997) over runs of five words, with one
//! hash per run (one-permutation hashing; Li, Owen and Zhang, 2012) and empty bins filled from others (Shrivastava,
//! "Optimal densification", 2017). Candidates come from banded buckets (Leskovec et al., "Mining of massive
//! datasets", chapter 3) and are compared by the share of equal bins, which estimates the Jaccard similarity.

use std::collections::{HashMap, HashSet};

use super::shares::stable_hash;
use crate::data::permutation::{mix, next_random};

/// Words in a run. Shorter runs find likeness of vocabulary rather than of text.
const RUN_WORDS: usize = 5;
const BINS: usize = 128;
/// Eight bins a band: pairs above a similarity of about (1/16)^(1/8) = 0.71 mostly become candidates.
const BAND_BINS: usize = 8;
/// Estimated similarity from which two texts count as the same.
const SAME: f64 = 0.8;
const EMPTY: u32 = u32::MAX;

/// What is remembered of a text instead of the text.
#[derive(Clone, Debug)]
pub(crate) struct Fingerprint {
    exact: u64,
    bins: Box<[u32; BINS]>,
}

impl Fingerprint {
    /// The fingerprint of a text.
    pub(crate) fn of(text: &str) -> Fingerprint {
        let mut bins = Box::new([EMPTY; BINS]);
        let mut put = |hash: u64| {
            let bin = &mut bins[hash as usize % BINS];
            *bin = (*bin).min((hash >> 32) as u32 & !1);
        };
        let mut run = [0u64; RUN_WORDS];
        let mut words = 0;
        for word in words_of(text.as_bytes()) {
            run[words % RUN_WORDS] = word;
            words += 1;
            if words >= RUN_WORDS {
                put(run_hash(&run, words));
            }
        }
        if words < RUN_WORDS {
            put(run_hash(&run, words));
        }
        fill_empty(&mut bins);
        Fingerprint { exact: Fingerprint::digest(text), bins }
    }

    /// The part of a fingerprint that only an equal text has.
    pub(crate) fn digest(text: &str) -> u64 {
        stable_hash(text.as_bytes())
    }

    /// The digest of the text.
    pub(crate) fn exact(&self) -> u64 {
        self.exact
    }

    fn similarity(&self, other: &Fingerprint) -> f64 {
        let equal = self.bins.iter().zip(other.bins.iter()).filter(|(bin, theirs)| bin == theirs).count();
        equal as f64 / BINS as f64
    }
}

/// Hashes (FNV-1a) of the runs of letters, digits, underscores and non-ASCII bytes.
fn words_of(text: &[u8]) -> impl Iterator<Item = u64> + '_ {
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_' || !byte.is_ascii();
    text.split(move |byte| !is_word(byte)).filter(|word| !word.is_empty()).map(|word| {
        let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        word.iter().fold(0xcbf2_9ce4_8422_2325, step)
    })
}

/// One hash of the last words, the oldest first.
fn run_hash(run: &[u64; RUN_WORDS], words: usize) -> u64 {
    let add = |hash: u64, word: u64| (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    mix((0..RUN_WORDS).fold(0, |hash, at| add(hash, run[(words + at) % RUN_WORDS])))
}

/// Gives every empty bin the value of a full one, chosen by the bin's number alone.
fn fill_empty(bins: &mut [u32; BINS]) {
    let original = *bins;
    if original.iter().all(|bin| *bin == EMPTY) {
        return;
    }
    for (number, bin) in bins.iter_mut().enumerate().filter(|(_, bin)| **bin == EMPTY) {
        let mut state = number as u64;
        while *bin == EMPTY {
            *bin = original[next_random(&mut state) as usize % BINS];
        }
    }
}

/// Why a text is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Copy {
    /// Equal, byte by byte.
    Exact,
    /// Almost equal.
    Near,
}

/// The texts met so far.
#[derive(Default)]
pub(crate) struct Seen {
    exact: HashSet<u64>,
    kept: Vec<Fingerprint>,
    buckets: HashMap<u64, Vec<u32>>,
}

impl Seen {
    /// Whether a text is a copy of an earlier one; if not, it is remembered.
    pub(crate) fn check(&mut self, fingerprint: Fingerprint) -> Option<Copy> {
        if !self.exact.insert(fingerprint.exact) {
            return Some(Copy::Exact);
        }
        let bands: Vec<u64> = fingerprint.bins.chunks(BAND_BINS).enumerate().map(band_hash).collect();
        let candidates = bands.iter().filter_map(|band| self.buckets.get(band)).flatten();
        let near = candidates.map(|&other| &self.kept[other as usize]);
        if near.into_iter().any(|other| fingerprint.similarity(other) >= SAME) {
            return Some(Copy::Near);
        }
        let number = self.kept.len() as u32;
        for band in bands {
            self.buckets.entry(band).or_default().push(number);
        }
        self.kept.push(fingerprint);
        None
    }
}

fn band_hash((number, bins): (usize, &[u32])) -> u64 {
    bins.iter().fold(number as u64, |hash, bin| mix(hash.rotate_left(17) ^ u64::from(*bin)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A text of so many random words.
    fn words(count: usize, seed: u64) -> Vec<String> {
        let mut state = seed;
        (0..count).map(|_| format!("w{}", next_random(&mut state) % 5000)).collect()
    }

    /// What becomes of `second` after `first`.
    fn check(first: &str, second: &str, expected: Option<Copy>) {
        let mut seen = Seen::default();
        assert_eq!(seen.check(Fingerprint::of(first)), None);
        assert_eq!(seen.check(Fingerprint::of(second)), expected);
    }

    #[test]
    fn equal_texts_are_exact_copies() {
        check("fn main() {}", "fn main() {}", Some(Copy::Exact));
    }

    #[test]
    fn a_new_year_and_new_spacing_make_a_near_copy() {
        let text = words(300, 1);
        let mut other = text.clone();
        other[5] = "2025".to_owned();
        other[200] = "changed".to_owned();
        check(&text.join(" "), &other.join("\n  "), Some(Copy::Near));
    }

    #[test]
    fn texts_that_share_half_are_both_kept() {
        let (first, second) = (words(400, 1), words(400, 2));
        let mixed = [&first[..200], &second[200..]].concat();
        check(&first.join(" "), &mixed.join(" "), None);
    }

    #[test]
    fn short_texts_differ_by_one_word() {
        check("pub mod a;", "pub mod b;", None);
        check("", "!", Some(Copy::Near));
    }
}
