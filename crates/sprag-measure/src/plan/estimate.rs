//! One model on one machine: bytes, whether they fit, and rates with their ceilings. Each line says its formula with its
//! numbers.

use super::architecture::Architecture;
use super::device::Device;
use super::efficiency::{Load, efficiency_of};
use super::quant::Quant;

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Job<'a> {
    /// The model.
    pub model: &'a Architecture,
    /// The format of its weights.
    pub quant: Quant,
    /// Bytes of the weights and of the embedding, where a file tells them exactly.
    pub exact: Option<(u64, u64)>,
    /// Positions.
    pub context: u64,
    /// Sequences at once.
    pub batch: u64,
    /// Bytes of a number in the cache.
    pub cache_bytes: f64,
}

/// A quantity, its formula with numbers, and what it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// What it is.
    pub name: &'static str,
    /// In its own unit.
    pub value: f64,
    /// How it was found.
    pub formula: String,
}

/// Whether it fits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fit {
    /// Bytes that are needed.
    pub needed: f64,
    /// Bytes that may be used; the largest size that the machine is sold with.
    pub usable: f64,
}

impl Fit {
    /// True when it fits.
    pub fn fits(self) -> bool {
        self.needed <= self.usable
    }
}

/// Rates of one phase, in tokens a second over all sequences.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// Nothing can be faster.
    pub ceiling: f64,
    /// What is expected.
    pub expected: f64,
    /// Nine of ten lie above.
    pub low: f64,
    /// Nine of ten lie below; never above the ceiling.
    pub high: f64,
}

/// The plan.
#[derive(Clone, Debug, PartialEq)]
pub struct Estimate {
    /// Bytes, with their formulas.
    pub bytes: Vec<Line>,
    /// Whether it fits.
    pub fit: Fit,
    /// Decode.
    pub decode: Rates,
    /// Prefill; `None` where nobody says what the machine computes.
    pub prefill: Option<Rates>,
    /// How the rates were found.
    pub rates: Vec<Line>,
    /// What would make it fit, where it does not.
    pub remedies: Vec<String>,
}

/// Bytes for the program itself and its work buffers, about what llama.cpp reserves.
fn overhead(model: &Architecture, batch: u64) -> f64 {
    let scratch = 4.0 * (model.vocab + 8 * model.d_model) as f64 * 512.0;
    0.3e9 + scratch.min(2e9) + batch as f64 * 1e6
}

/// Bytes of all that must lie in memory, by what they are for, and their sum.
pub(super) fn needed(job: &Job<'_>) -> (Vec<Line>, f64) {
    let (params, model) = (job.model.params() as f64, job.model);
    let weights = match job.exact {
        Some((bytes, _)) => {
            Line { name: "weights", value: bytes as f64, formula: "the sizes of the file's tensors".into() }
        }
        None => Line {
            name: "weights",
            value: params * job.quant.bits / 8.0,
            formula: format!("{params:.4e} parameters x {} bits / 8", job.quant.bits),
        },
    };
    let batch = job.batch as f64;
    let cache = Line {
        name: "KV cache",
        value: model.cache_bytes(job.context, job.cache_bytes) * batch,
        formula: format!(
            "{:.0} bytes a position (windows respected) x {} positions x {} sequences",
            model.cache_bytes(job.context, job.cache_bytes) / job.context.max(1) as f64,
            job.context,
            job.batch
        ),
    };
    let state = Line {
        name: "recurrent state",
        value: model.state_bytes() * batch,
        formula: format!("fp32 states and bf16 convolution inputs x {} sequences", job.batch),
    };
    let rest = Line {
        name: "buffers",
        value: overhead(model, job.batch),
        formula: "program, logits and activations of 512 positions".into(),
    };
    let lines = vec![weights, cache, state, rest];
    let sum = lines.iter().map(|line| line.value).sum();
    (lines, sum)
}

/// Bytes of weights that are read for some tokens at once.
pub(super) fn weights_read(job: &Job<'_>, tokens: f64) -> f64 {
    let model = job.model;
    match job.exact {
        // What is not experts is read whole; of experts the same part of bytes as of parameters.
        Some((bytes, embedding)) => {
            let looked_up = if model.tied { 0 } else { embedding };
            let all = (model.params() - if model.tied { 0 } else { model.vocab * model.d_model }) as f64;
            (bytes - looked_up.min(bytes)) as f64 * (model.read_params(tokens) / all).min(1.0)
        }
        None => model.read_params(tokens) * job.quant.bits / 8.0,
    }
}

/// Bytes of cache and states that are read and written for one token of one sequence.
pub(super) fn context_read(job: &Job<'_>) -> f64 {
    job.model.cache_bytes(job.context, job.cache_bytes) + 2.0 * job.model.state_bytes()
}

/// Bytes of all that must lie in memory.
pub fn bytes_needed(job: &Job<'_>) -> f64 {
    needed(job).1
}

/// Bytes that are read (of states also written) for one token of one sequence.
pub fn bytes_a_token(job: &Job<'_>) -> f64 {
    weights_read(job, 1.0) + context_read(job)
}

/// What decoding so many tokens at once asks of a machine: all layers of one node, weights and one context read.
pub(super) fn load_on(job: &Job<'_>, device: &Device, tokens: f64) -> Load {
    let bytes = weights_read(job, tokens);
    let packed = if job.quant.bits < 16.0 { bytes * 8.0 / job.quant.bits } else { 0.0 };
    let attending = job.model.attending_layers();
    Load {
        bytes: bytes + context_read(job),
        bytes_per_second: device.bytes_per_second,
        flop_per_second: device.flop_per_second,
        packed_weights: packed,
        // Layers without attention, and windows, look at less.
        positions: job.context as f64 * attending / job.model.blocks.len().max(1) as f64,
        layers: job.model.blocks.len() as f64,
        nodes: 1.0,
    }
}

/// Plans a job on a machine.
pub fn estimate(job: &Job<'_>, device: &Device) -> Estimate {
    let (bytes, sum) = needed(job);
    let fit = Fit { needed: sum, usable: device.usable_memory() };
    let model = job.model;
    let efficiency = efficiency_of(device.class);
    let batch = job.batch as f64;
    let active = weights_read(job, batch);
    // Weights are read once for all sequences, caches and states for each; a state is read and written.
    let cache = context_read(job);
    let read = active + cache * batch;
    let compute = device.flop_per_second.map(|flop| flop / model.flop_a_token(job.context));
    let by_memory = device.bytes_per_second / read * batch;
    let ceiling = compute.map_or(by_memory, |compute| compute.min(by_memory));
    let load = Load { bytes: read, ..load_on(job, device, batch) };
    let expected = (efficiency.decode(load) * batch).min(ceiling);
    let around = |expected: f64, ceiling: f64| Rates {
        ceiling,
        expected,
        low: expected * (-efficiency.spread).exp(),
        high: (expected * efficiency.spread.exp()).min(ceiling),
    };
    let prefill_flop = model.prompt_flop_a_token(job.context);
    let prefill = device.flop_per_second.map(|flop| {
        let ceiling = flop / prefill_flop;
        around(ceiling * efficiency.prefill_share, ceiling)
    });
    let mut rates = vec![
        Line {
            name: "read a token",
            value: read,
            formula: format!(
                "{active:.4e} bytes of active weights + {cache:.4e} of cache and state x {} sequences",
                job.batch
            ),
        },
        Line {
            name: "decode ceiling",
            value: ceiling,
            formula: format!(
                "{:.4e} bytes/s / {read:.4e} bytes x {} sequences",
                device.bytes_per_second, job.batch
            ),
        },
    ];
    if let (Some(flop), Some(prefill)) = (device.flop_per_second, prefill) {
        rates.push(Line {
            name: "prefill ceiling",
            value: prefill.ceiling,
            formula: format!(
                "{flop:.4e} FLOP/s / {prefill_flop:.4e} FLOP a token (2 x active parameters + attention; the output matrix \
                 once)"
            ),
        });
    }
    let remedies = if fit.fits() { Vec::new() } else { remedies(job, device, fit) };
    Estimate { bytes, fit, decode: around(expected, ceiling), prefill, rates, remedies }
}

/// What would make it fit: less context, another format, another machine.
fn remedies(job: &Job<'_>, device: &Device, fit: Fit) -> Vec<String> {
    let mut remedies = Vec::new();
    let with = |context: u64, quant: Quant| {
        let exact = job.exact.filter(|_| quant == job.quant);
        needed(&Job { context, quant, exact, ..job.clone() }).1
    };
    if with(1, job.quant) <= fit.usable {
        // The longest that fits, by halving.
        let (mut low, mut high) = (1, job.context);
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if with(middle, job.quant) <= fit.usable { low = middle } else { high = middle }
        }
        remedies.push(format!("a context of {low} positions"));
    }
    let narrower = super::quant::quants()
        .iter()
        .find(|quant| quant.bits < job.quant.bits && with(job.context, **quant) <= fit.usable);
    remedies.extend(narrower.map(|quant| format!("weights in {} ({} bits)", quant.name, quant.bits)));
    let larger = super::device::devices().iter().filter(|other| {
        other.name != device.name && other.usable_memory() >= fit.needed && !other.is_projected()
    });
    let least = |device: &Device| {
        let enough = device
            .memory_bytes
            .iter()
            .copied()
            .filter(|bytes| bytes * device.class.usable_memory() >= fit.needed);
        enough.fold(f64::INFINITY, f64::min)
    };
    let smallest = larger.min_by(|a, b| least(a).total_cmp(&least(b)));
    remedies.extend(
        smallest
            .map(|device| format!("a machine such as {} with {:.0} GB", device.name, least(device) / 1e9)),
    );
    remedies
}
