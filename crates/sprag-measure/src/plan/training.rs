//! Training a model: operations, memory, and how many optimiser steps a time budget buys.
//!
//! Operations: six for each parameter of a matrix and token, and three times the forward ones over positions, of which a
//! causal model sees half on average (Kaplan et al. 2020; Chowdhery et al. 2022, "PaLM", appendix B, who count all).
//! Memory: weights, gradients and optimiser states as in Rajbhandari et al. 2020 ("ZeRO"); activations by counting what the
//! backward pass reads again when attention keeps no square matrix (Korthikanti et al. 2022 count the same for GPT).

use super::architecture::{Architecture, Feed, Mixer};
use super::device::{Device, DeviceClass};
use super::estimate::{Fit, Line};

/// Numbers in which matrices are multiplied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// Half precision, with weights kept in single precision beside.
    Bf16,
    /// Single precision.
    Fp32,
}

/// What is kept for each weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Optimiser {
    /// Two moments.
    AdamW,
    /// One moment for matrices; counted for all.
    Muon,
    /// Nothing.
    Sgd,
}

/// What is to be trained.
#[derive(Clone, Debug)]
pub struct Training<'a> {
    /// The model.
    pub model: &'a Architecture,
    /// Numbers of products.
    pub precision: Precision,
    /// The optimiser.
    pub optimiser: Optimiser,
    /// Positions of a sequence.
    pub seq_len: u64,
    /// Sequences of a micro-batch: what is in memory at once.
    pub batch: u64,
    /// Micro-batches of a step.
    pub grad_accum: u64,
    /// Activations of layers are computed again instead of kept.
    pub recompute: bool,
    /// Seconds to train for.
    pub seconds: f64,
}

/// The plan.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainingPlan {
    /// Operations a token, forth and back.
    pub flop_a_token: f64,
    /// How they were counted.
    pub flop_formula: String,
    /// Tokens of a step.
    pub tokens_a_step: u64,
    /// Bytes, with their formulas.
    pub bytes: Vec<Line>,
    /// Whether it fits.
    pub fit: Fit,
    /// Part of the peak that is expected: least, usual, most. Of model operations; what is computed again is not counted.
    pub mfu: [f64; 3],
    /// Tokens a second: least, usual, most, and the ceiling; `None` where nobody says what the machine computes.
    pub tokens_per_second: Option<[f64; 4]>,
    /// Steps within the budget: least, usual, most.
    pub steps: Option<[f64; 3]>,
}

/// Part of the peak that training reaches. NVIDIA: 0.3 to 0.5 are published for large models (PaLM's table 3 and later
/// reports), small ones reach less; processors: 0.64 to 0.77 of measured peaks, from this program's own step bench; the
/// others are assumed.
fn mfu(class: DeviceClass) -> [f64; 3] {
    match class {
        DeviceClass::NvidiaCuda => [0.2, 0.4, 0.55],
        DeviceClass::Apple => [0.15, 0.35, 0.6],
        DeviceClass::Unified => [0.1, 0.3, 0.5],
        DeviceClass::Cpu => [0.4, 0.65, 0.8],
    }
}

/// Numbers that a layer keeps of one token for the way back.
fn kept(d: u64, mixer: Mixer, feed: Feed) -> u64 {
    let mixing = match mixer {
        Mixer::Attention { q_heads, kv_heads, head_dim, gated, .. } => {
            (2 + u64::from(gated)) * q_heads * head_dim + 2 * kv_heads * head_dim
        }
        Mixer::Latent { heads, q_rank, kv_rank, nope_dim, rope_dim, v_dim } => {
            q_rank.unwrap_or(0) + kv_rank + rope_dim + heads * (2 * nope_dim + rope_dim + 2 * v_dim)
        }
        Mixer::DeltaNet { k_heads, v_heads, k_dim, v_dim, .. } => 4 * k_heads * k_dim + 4 * v_heads * v_dim,
        Mixer::Mamba { inner, state, .. } => 5 * inner + 2 * state,
        Mixer::Mamba2 { heads, head_dim, state, groups, .. } => 4 * heads * head_dim + 4 * groups * state,
        Mixer::Rwkv7 { .. } => 9 * d,
    };
    let feeding = match feed {
        Feed::Dense { ff } => 3 * ff,
        Feed::Plain { ff } => 2 * ff,
        Feed::None => 0,
        Feed::Experts { experts, top_k, ff, shared_ff, .. } => 3 * (top_k * ff + shared_ff) + experts,
    };
    // The residual stream before each half, and what the norms give.
    4 * d + mixing + feeding
}

/// Plans training on a machine.
pub fn train(job: &Training<'_>, device: &Device) -> TrainingPlan {
    let model = job.model;
    let matrices = model.active_params() as f64;
    let mixing = model.mixing_flop(job.seq_len / 2);
    let flop_a_token = 6.0 * matrices + 3.0 * mixing;
    let params = model.params() as f64;
    let (own, moments) = match (job.precision, job.optimiser) {
        (Precision::Bf16, Optimiser::AdamW) => (2.0 + 2.0 + 4.0, 8.0),
        (Precision::Bf16, Optimiser::Muon) => (2.0 + 2.0 + 4.0, 4.0),
        (Precision::Bf16, Optimiser::Sgd) => (2.0 + 2.0 + 4.0, 0.0),
        (Precision::Fp32, Optimiser::AdamW) => (4.0 + 4.0, 8.0),
        (Precision::Fp32, Optimiser::Muon) => (4.0 + 4.0, 4.0),
        (Precision::Fp32, Optimiser::Sgd) => (4.0 + 4.0, 0.0),
    };
    let width = if job.precision == Precision::Bf16 { 2.0 } else { 4.0 };
    let tokens = (job.batch * job.seq_len) as f64;
    let layers: Vec<u64> =
        model.blocks.iter().map(|block| kept(model.d_model, block.mixer, block.feed)).collect();
    let all: u64 = layers.iter().sum();
    let kept_numbers = match job.recompute {
        // The input of every layer, and one layer whole.
        true => model.d_model * layers.len() as u64 + layers.iter().max().copied().unwrap_or(0),
        false => all,
    };
    let what = match job.precision {
        Precision::Bf16 => "2 bf16 + 2 gradient + 4 fp32",
        Precision::Fp32 => "4 + 4 gradient",
    };
    let bytes = vec![
        Line {
            name: "weights, gradients",
            value: params * own,
            formula: format!("{params:.4e} parameters x ({what}) bytes"),
        },
        Line {
            name: "optimiser",
            value: params * moments,
            formula: format!("{params:.4e} parameters x {moments} bytes"),
        },
        Line {
            name: "activations",
            value: tokens * kept_numbers as f64 * width,
            formula: format!("{tokens} tokens x {kept_numbers} numbers kept x {width} bytes"),
        },
        Line {
            name: "logits",
            value: tokens * model.vocab as f64 * 4.0,
            formula: format!(
                "{tokens} tokens x {} x 4 bytes, where the loss is not computed in chunks",
                model.vocab
            ),
        },
    ];
    let needed: f64 = bytes.iter().map(|line| line.value).sum();
    let mfu = mfu(device.class);
    let tokens_per_second = device.flop_per_second.map(|flop| {
        let ceiling = flop / flop_a_token;
        [ceiling * mfu[0], ceiling * mfu[1], ceiling * mfu[2], ceiling]
    });
    let tokens_a_step = job.batch * job.seq_len * job.grad_accum;
    let steps = tokens_per_second.map(|[low, usual, high, _]| {
        [low, usual, high].map(|rate| rate * job.seconds / tokens_a_step as f64)
    });
    TrainingPlan {
        flop_a_token,
        flop_formula: format!("6 x {matrices:.4e} parameters in matrices + 3 x {mixing:.3e} over positions"),
        tokens_a_step,
        bytes,
        fit: Fit { needed, usable: device.usable_memory() },
        mfu,
        tokens_per_second,
        steps,
    }
}
