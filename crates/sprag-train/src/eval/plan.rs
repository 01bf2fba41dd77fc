//! Which windows are asked for, in which order, and which of them are probes. Pure, apart from the entropy.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use super::corpus::Windows;
use super::splice::{Splice, Splicer};

/// Numbers that no candidate can foresee: their seed is the operating system's entropy, not the run's.
/// SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014).
pub(super) struct PrivateRandom(u64);

impl PrivateRandom {
    pub(super) fn from_system() -> Self {
        // The standard library seeds its hash maps from the operating system.
        PrivateRandom(RandomState::new().hash_one("probes"))
    }

    #[cfg(test)]
    pub(super) fn from_seed(seed: u64) -> Self {
        PrivateRandom(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `bound`, which is not 0. The bias is below `bound / 2^64`.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }

    /// From `low` to `high`.
    fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

/// One window to be answered.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Question {
    /// Number of the window.
    pub(super) window: usize,
    /// What it is asked for.
    pub(super) purpose: Purpose,
    /// What the candidate sees.
    pub(super) tokens: Vec<u32>,
    /// Where the text breaks off at a token that could not be known: what foresight is measured at.
    pub(super) splices: Vec<Splice>,
}

/// What a question is for. Only the evaluator knows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Purpose {
    /// The window itself; every window has exactly one.
    Score {
        /// How it will be, or has been, asked for again.
        probe: Option<Probe>,
    },
    /// The same window, or its beginning, again.
    Probe(Probe),
}

/// How two answers to the same tokens are drawn out of a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Probe {
    /// From this position on, other tokens.
    Suffix {
        /// First position that differs.
        from: usize,
    },
    /// Early and late.
    Again,
    /// In a request of its own and among others.
    Alone,
}

impl Purpose {
    /// The probe that the question is one half of.
    pub(super) fn probe(self) -> Option<Probe> {
        match self {
            Purpose::Score { probe } => probe,
            Purpose::Probe(probe) => Some(probe),
        }
    }
}

/// How many windows are probed in each way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Probes {
    pub(super) suffix: usize,
    pub(super) again: usize,
    pub(super) alone: usize,
}

impl Probes {
    /// One in six: 32 suffixes miss a leak that touches a tenth of all positions once in 30 times; a state
    /// or a neighbour that matters at all shows in one window.
    pub(super) fn among(windows: usize) -> Self {
        Probes {
            suffix: (windows / 8).clamp(1, 32),
            again: (windows / 64).clamp(1, 4),
            alone: (windows / 64).clamp(1, 4),
        }
    }
}

/// All questions, by request; at most `rows` in each.
pub(super) fn requests(
    windows: &Windows,
    probes: Probes,
    rows: usize,
    random: &mut PrivateRandom,
) -> Vec<Vec<Question>> {
    let splicer = Splicer::new(windows);
    let mut order: Vec<usize> = (0..windows.len()).collect();
    random.shuffle(&mut order);
    // Sorted by these numbers at the end.
    let mut placed: Vec<(f64, Question)> = Vec::new();
    let mut alone = Vec::new();
    for (rank, window) in order.into_iter().enumerate() {
        let probe = nth_probe(rank, probes, windows.seq_len(), random);
        let question = |purpose, tokens| Question { window, purpose, tokens, splices: Vec::new() };
        let inputs = || windows.inputs(window).to_vec();
        let mut place = [random.between(0.0, 1.0), random.between(0.0, 1.0)];
        match probe {
            None => {}
            Some(probe @ Probe::Suffix { from }) => {
                // Every other false suffix comes before the true one: those are the blind ones.
                place.sort_by(f64::total_cmp);
                place.rotate_left(rank % 2);
                let (tokens, mut splices) = splicer.with_other_suffix(window, from, random);
                if place[0] < place[1] {
                    // A memory answers what stood there on the first showing: that tells nothing.
                    splices.remove(0);
                }
                placed.push((place[1], Question { splices, ..question(Purpose::Probe(probe), tokens) }));
            }
            Some(probe @ Probe::Again) => {
                place = [place[0] * 0.15, 1.0 - place[1] * 0.15];
                placed.push((place[1], question(Purpose::Probe(probe), inputs())));
            }
            Some(probe @ Probe::Alone) => alone.push(question(Purpose::Probe(probe), inputs())),
        }
        placed.push((place[0], question(Purpose::Score { probe }, inputs())));
    }
    placed.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut questions = placed.into_iter().map(|(_, question)| question);
    let mut requests = Vec::new();
    loop {
        // Requests differ in size, so that a request of one row does not stand out and none can be counted on.
        let size = if random.below(4) == 0 { 1 + random.below(rows) } else { rows };
        let request: Vec<Question> = questions.by_ref().take(size).collect();
        if request.is_empty() {
            break;
        }
        requests.push(request);
    }
    for question in alone {
        let at = random.below(requests.len() + 1);
        requests.insert(at, vec![question]);
    }
    requests
}

fn nth_probe(rank: usize, probes: Probes, seq_len: usize, random: &mut PrivateRandom) -> Option<Probe> {
    let Probes { suffix, again, alone } = probes;
    if rank < suffix && seq_len > 1 {
        Some(Probe::Suffix { from: 1 + random.below(seq_len - 1) })
    } else if (suffix..suffix + again).contains(&rank) {
        Some(Probe::Again)
    } else if (suffix + again..suffix + again + alone).contains(&rank) {
        Some(Probe::Alone)
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
