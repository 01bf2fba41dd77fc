//! How near to its ceiling a class of machines comes in practice, and how it is learned from published measurements.
//!
//! Decode reads all active weights for a token, so its time is at least bytes over bandwidth. Measured is more: memory
//! reaches a part of its bandwidth, a smaller part where there is very much of it; each layer costs a time of its own for
//! starting kernels, and one for each position of the context; weights of few bits must be unpacked, which weak GPUs do
//! slowly. With more cards in a row each adds a little.
//!
//! `seconds = (bytes / (bandwidth * share / (1 + (bandwidth / knee)^power)) + layers * (layer_seconds + positions *
//! position_seconds) + packed weights * unpack_flop / flop_per_second) * (1 + row * ln nodes)`
//!
//! The form is ours; the constants are fitted with [`fit`] to the rows that a class has, by the mean of absolute
//! logarithmic errors, so that a few odd rows do not decide.

use super::device::DeviceClass;

/// Constants of a class.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Efficiency {
    /// Part of the bandwidth that is reached where there is little of it.
    pub share: f64,
    /// Bandwidth at which half of that is left, in bytes a second.
    pub knee: f64,
    /// How suddenly.
    pub power: f64,
    /// Seconds a layer and token, whatever its size.
    pub layer_seconds: f64,
    /// Seconds a layer and position of the context, besides reading the cache.
    pub position_seconds: f64,
    /// Operations to unpack a weight of few bits, at the machine's rate in half precision; where that is not known, none.
    pub unpack_flop: f64,
    /// What each e-fold of nodes in a row costs.
    pub row: f64,
    /// Part of the peak that a long prompt reaches.
    pub prefill_share: f64,
    /// Half of the range in which nine of ten measurements lie, as a logarithm.
    pub spread: f64,
}

/// What decode is predicted from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Load {
    /// Bytes that are read for a token.
    pub bytes: f64,
    /// Bytes a second of one node.
    pub bytes_per_second: f64,
    /// Operations a second of one node, where they are known.
    pub flop_per_second: Option<f64>,
    /// Weights that are read and kept in fewer than 16 bits.
    pub packed_weights: f64,
    /// Positions of the context that are looked at.
    pub positions: f64,
    /// Layers.
    pub layers: f64,
    /// Nodes in a row.
    pub nodes: f64,
}

impl Efficiency {
    /// Tokens a second of one sequence.
    pub fn decode(&self, load: Load) -> f64 {
        let reached =
            load.bytes_per_second * self.share / (1.0 + (load.bytes_per_second / self.knee).powf(self.power));
        let a_layer = self.layer_seconds + load.positions * self.position_seconds;
        let unpacking =
            load.flop_per_second.map_or(0.0, |rate| load.packed_weights * self.unpack_flop / rate);
        let alone = load.bytes / reached + load.layers * a_layer + unpacking;
        1.0 / (alone * (1.0 + self.row * load.nodes.ln()))
    }
}

/// Fitted to 89 rows of llama.cpp of 2024 on 16 NVIDIA devices (github.com/XiongjieDai/GPU-Benchmarks-on-LLM-Inference);
/// `sprag plan grade` refits it without the device that it predicts.
const NVIDIA: Efficiency = Efficiency {
    share: 0.94,
    knee: 2.17e12,
    power: 4.6,
    layer_seconds: 99e-6,
    position_seconds: 0.0,
    unpack_flop: 0.0,
    row: 0.03,
    prefill_share: 0.45,
    spread: 0.2,
};

/// Fitted to 43 rows of llama.cpp of 2024 on M1, M1 Max, M2 Ultra and M3 Max (the same source, "Apple Silicon"), and six of
/// 2025 and 2026 on M1 Max, M1 Ultra, M3 Ultra and M4 (github.com/brand-o/normiebench issues 3 and 40;
/// github.com/geerlingguy/ai-benchmarks). Each device predicted without its own rows, half of the errors are below 8.5 %; an
/// M1 Max is predicted a third too fast.
const APPLE: Efficiency = Efficiency {
    share: 0.867,
    knee: 1e15,
    power: 1.0,
    layer_seconds: 125e-6,
    position_seconds: 4.7e-8,
    unpack_flop: 5.5,
    row: 0.03,
    prefill_share: 0.5,
    spread: 0.3,
};

/// What is expected of a class. Of unified memory six rows were looked at (DGX Spark and Strix Halo with 3, 14 and 70
/// thousand million parameters, github.com/geerlingguy/ai-benchmarks and the claims that ship), of processors few: their
/// range is wide.
pub fn efficiency_of(class: DeviceClass) -> Efficiency {
    let assumed = Efficiency { knee: 1e15, power: 1.0, spread: 0.4, ..NVIDIA };
    match class {
        DeviceClass::NvidiaCuda => NVIDIA,
        DeviceClass::Apple => APPLE,
        DeviceClass::Unified => {
            Efficiency { share: 0.8, layer_seconds: 75e-6, prefill_share: 0.35, ..assumed }
        }
        DeviceClass::Cpu => Efficiency { share: 0.75, layer_seconds: 100e-6, prefill_share: 0.5, ..assumed },
    }
}

/// Mean absolute logarithmic error; one row counts for half an e-fold at most.
fn error(efficiency: &Efficiency, rows: &[(Load, f64)]) -> f64 {
    let sum: f64 =
        rows.iter().map(|(load, measured)| (efficiency.decode(*load) / measured).ln().abs().min(0.5)).sum();
    sum / rows.len().max(1) as f64
}

/// Constants for some measurements (load and tokens a second), beginning from others: one constant at a time is moved as
/// long as that helps, then by smaller steps (coordinate search: Hooke, Jeeves 1961).
pub fn fit(begin: Efficiency, rows: &[(Load, f64)]) -> Efficiency {
    let mut best = begin;
    let mut least = error(&best, rows);
    let mut step = 0.2;
    while step > 1e-3 && !rows.is_empty() {
        let mut moved = false;
        for constant in 0..7 {
            for factor in [1.0 + step, 1.0 / (1.0 + step)] {
                let mut other = best;
                match constant {
                    0 => other.share = (other.share * factor).min(1.0),
                    1 => other.knee *= factor,
                    2 => other.power *= factor,
                    3 => other.layer_seconds *= factor,
                    4 => other.position_seconds *= factor,
                    5 => other.unpack_flop *= factor,
                    _ => other.row *= factor,
                }
                let found = error(&other, rows);
                if found < least {
                    (best, least, moved) = (other, found, true);
                }
            }
        }
        if !moved {
            step /= 2.0;
        }
    }
    best
}
