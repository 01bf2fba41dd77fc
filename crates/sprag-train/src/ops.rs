//! The operations a language model is made of.
//!
//! Activations are `[rows, seq, width]`, split into heads `[rows, heads, seq, dim]`; weights are `[in, out]`.
//! In single precision on the CPU they run by [`kernels`](crate::kernels), with gradients written by hand
//! (`cpu`); elsewhere they are plain Burn operations (`plain`), which Burn's compiler fuses. Either way the
//! results are ordinary tensors of Burn's graph: any other Burn operation may stand beside them.

mod cpu;
mod fused;
mod plain;
mod precision;

use burn::tensor::{Device, Int, Tensor};

use crate::kernels::activation::Activation;

pub(crate) use fused::{is_on_cpu, numbers, numbers_mut, storage, tensor, tensor_of};
pub(crate) use precision::precision;
pub use precision::{Choice, Precision, set_precision};

/// Added to mean squares before a root is taken.
const EPSILON: f64 = crate::kernels::norm::EPSILON as f64;
const LARGEST_SHIFT: f64 = crate::kernels::loss::LARGEST_SHIFT as f64;

/// Rows of `table` by token.
///
/// # Panics
/// A token is not below `vocab` (on the CPU).
pub fn embedding(
    table: Tensor<2>,       // [vocab, width]
    tokens: Tensor<2, Int>, // [rows, seq]
) -> Tensor<3> {
    if is_on_cpu(&table) { cpu::embedding(table, tokens) } else { plain::embedding(table, tokens) }
}

/// `x` times `weight`, without bias, as one matrix product over all tokens.
pub fn linear(
    x: Tensor<3>,      // [rows, seq, in]
    weight: Tensor<2>, // [in, out]
) -> Tensor<3> {
    if is_on_cpu(&x) && is_on_cpu(&weight) {
        cpu::linear(x, weight, precision())
    } else {
        plain::linear(x, weight) // [rows, seq, out]
    }
}

/// Queries, keys and values: three [`linear`] layers of one input, whose gradients meet in one pass. So all three
/// belong to one call of `backward`.
pub fn qkv(
    x: Tensor<3>,            // [rows, seq, width]
    weights: [Tensor<2>; 3], // [width, heads * dim], [width, kv_heads * dim] twice
) -> [Tensor<3>; 3] {
    if is_on_cpu(&x) && weights.iter().all(is_on_cpu) {
        cpu::qkv(x, weights, precision())
    } else {
        weights.map(|weight| plain::linear(x.clone(), weight)) // [rows, seq, heads * dim] ..
    }
}

/// `x + f(rms_norm(x))`: what each part of a layer adds to the residual stream (pre-norm, Xiong et al.,
/// <https://arxiv.org/abs/2002.04745>).
pub fn residual(
    x: Tensor<3>, // [rows, seq, width]
    f: impl FnOnce(Tensor<3>) -> Tensor<3>,
) -> Tensor<3> {
    if !is_on_cpu(&x) {
        return x.clone() + f(plain::rms_norm(x)); // [rows, seq, width]
    }
    let [stream, normed] = cpu::norm_branch(x);
    let added = f(normed);
    if is_on_cpu(&added) { cpu::add(stream, added) } else { stream + added }
}

/// Scales the last dimension to a root mean square of one. There is no learned gain (Zhang and Sennrich,
/// <https://arxiv.org/abs/1910.07467>, without it).
pub fn rms_norm<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    if is_on_cpu(&x) { cpu::rms_norm(x) } else { plain::rms_norm(x) }
}

/// Angles of rotary position embeddings (Su et al., <https://arxiv.org/abs/2104.09864>), made once a model.
#[derive(Clone, Debug)]
pub struct Rotary {
    cos: Tensor<4>, // [1, 1, max_seq, dim / 2]
    sin: Tensor<4>, // [1, 1, max_seq, dim / 2]
}

impl Rotary {
    /// Angles for positions below `max_seq`; the slowest pair of channels turns once in about
    /// `2 pi base` tokens. `dim`, the width of a head, must be even.
    pub fn new(max_seq: usize, dim: usize, base: f64, device: &Device) -> Self {
        assert!(dim.is_multiple_of(2), "the width of a head must be even, not {dim}");
        let half = dim / 2;
        let device = device.clone().inner();
        let position = Tensor::<1, Int>::arange(0..max_seq as i64, &device).float(); // [max_seq]
        let pair = Tensor::<1, Int>::arange(0..half as i64, &device).float(); // [half]
        let frequency = (pair * (-base.ln() / half as f64)).exp(); // [half]
        let angle = position.reshape([1, 1, max_seq, 1]) * frequency.reshape([1, 1, 1, half]);
        Rotary { cos: angle.clone().cos(), sin: angle.sin() }
    }
}

/// Turns channel pairs `(i, i + dim / 2)` of each head by the angle of their position.
pub fn rotary(
    x: Tensor<4>, // [rows, heads, seq, dim]
    angles: &Rotary,
) -> Tensor<4> {
    plain::rotary(x, angles)
}

/// [`rotary`], then [`rms_norm`] of each head, then times `scale`: queries and keys whose products are bounded
/// (Henry et al., <https://arxiv.org/abs/2010.04245>, with root mean squares).
pub fn rotary_norm(
    x: Tensor<4>, // [rows, heads, seq, dim]
    angles: &Rotary,
    scale: f64,
) -> Tensor<4> {
    if is_on_cpu(&x) { cpu::rotary_norm(x, angles, scale) } else { plain::rotary_norm(x, angles, scale) }
}

/// Splits the width into heads: `[rows, seq, heads * dim]` to `[rows, heads, seq, dim]`. Nothing is moved.
pub fn split_heads(x: Tensor<3>, heads: usize) -> Tensor<4> {
    let [rows, seq, width] = x.dims();
    x.reshape([rows, seq, heads, width / heads]).swap_dims(1, 2)
}

/// Puts the heads side by side again: `[rows, heads, seq, dim]` to `[rows, seq, heads * dim]`. What the
/// operations here return is not moved.
pub fn join_heads(x: Tensor<4>) -> Tensor<3> {
    let [rows, heads, seq, dim] = x.dims();
    x.swap_dims(1, 2).reshape([rows, seq, heads * dim])
}

/// Causal attention, scaled by the root of the head's width.
///
/// With fewer key heads than query heads, neighbouring query heads share one (grouped-query attention,
/// Ainslie et al., <https://arxiv.org/abs/2305.13245>). With a `window`, a token sees itself and the
/// `window - 1` tokens before it. On the CPU no more than a block of rows of the weights is ever in memory.
///
/// # Panics
/// `heads` is no multiple of `kv_heads`.
pub fn attention(
    query: Tensor<4>, // [rows, heads, seq, dim]
    key: Tensor<4>,   // [rows, kv_heads, seq, dim]
    value: Tensor<4>, // [rows, kv_heads, seq, dim]
    window: Option<usize>,
) -> Tensor<4> {
    if is_on_cpu(&query) && is_on_cpu(&key) && is_on_cpu(&value) {
        cpu::attention(query, key, value, window.unwrap_or(usize::MAX), precision())
    } else {
        plain::attention(query, key, value, window) // [rows, heads, seq, dim]
    }
}

/// `max(x, 0)^2` (So et al., <https://arxiv.org/abs/2109.08668>): what [`mlp`] has between its layers.
pub fn squared_relu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    activate(x, Activation::SquaredRelu)
}

/// GELU in its form with a hyperbolic tangent (Hendrycks and Gimpel, <https://arxiv.org/abs/1606.08415>).
pub fn gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    activate(x, Activation::Gelu)
}

/// `x sigmoid(x)` (Elfwing et al., <https://arxiv.org/abs/1702.03118>).
pub fn silu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    activate(x, Activation::Silu)
}

fn activate<const D: usize>(x: Tensor<D>, f: Activation) -> Tensor<D> {
    if is_on_cpu(&x) { cpu::activate(x, f) } else { plain::activate(x, f) }
}

/// Two linear layers with the square of ReLU between them (So et al., <https://arxiv.org/abs/2109.08668>).
pub fn mlp(
    x: Tensor<3>,    // [rows, seq, width]
    up: Tensor<2>,   // [width, hidden]
    down: Tensor<2>, // [hidden, width]
) -> Tensor<3> {
    if is_on_cpu(&x) && is_on_cpu(&up) && is_on_cpu(&down) {
        cpu::mlp(x, up, down, precision())
    } else {
        plain::mlp(x, up, down) // [rows, seq, width]
    }
}

/// Two linear layers, the first gated by the SiLU of a third (Shazeer, <https://arxiv.org/abs/2002.05202>).
pub fn swiglu(
    x: Tensor<3>,    // [rows, seq, width]
    gate: Tensor<2>, // [width, hidden]
    up: Tensor<2>,   // [width, hidden]
    down: Tensor<2>, // [hidden, width]
) -> Tensor<3> {
    let weights = [gate, up, down];
    if is_on_cpu(&x) && weights.iter().all(is_on_cpu) {
        cpu::swiglu(x, weights, precision())
    } else {
        plain::swiglu(x, weights) // [rows, seq, width]
    }
}

/// `x` and `first`, each times its weight, added up: a residual stream that can look back at the embedding.
pub fn mix(
    x: Tensor<3>,       // [rows, seq, width]
    first: Tensor<3>,   // [rows, seq, width]
    weights: Tensor<2>, // [1, 2]
) -> Tensor<3> {
    if is_on_cpu(&x) && is_on_cpu(&first) && is_on_cpu(&weights) {
        cpu::mix(x, first, weights)
    } else {
        plain::mix(x, first, weights) // [rows, seq, width]
    }
}

/// Bends logits into `-cap..cap` by a scaled hyperbolic tangent (Gemma 2,
/// <https://arxiv.org/abs/2408.00118>). An infinite cap leaves them alone.
pub fn softcap<const D: usize>(logits: Tensor<D>, cap: f64) -> Tensor<D> {
    if !cap.is_finite() {
        return logits;
    }
    if is_on_cpu(&logits) { cpu::softcap(logits, cap) } else { plain::softcap(logits, cap) }
}

/// Mean negative log-likelihood of the targets in nats a token, from logits before [`softcap`].
pub fn loss(
    logits: Tensor<3>,       // [rows, seq, vocab]
    targets: Tensor<2, Int>, // [rows, seq]
    cap: f64,
) -> Tensor<1> {
    let [rows, seq, vocab] = logits.dims();
    let logits = softcap(logits.reshape([rows * seq, vocab]), cap); // [tokens, vocab]
    let target = logits.clone().gather(1, targets.reshape([rows * seq, 1])); // [tokens, 1]
    // A known bound serves as the shift that keeps `exp` finite: it costs no pass over the logits.
    let total = if cap <= LARGEST_SHIFT {
        (logits - cap).exp().sum_dim(1).log() + cap // [tokens, 1]
    } else {
        let peak = logits.clone().detach().max_dim(1); // [tokens, 1]
        (logits - peak.clone()).exp().sum_dim(1).log() + peak
    };
    (total - target).mean()
}

/// The same as [`loss`] of [`linear`]`(hidden, head)`. On the CPU it is one pass, forth and back, that never
/// holds all logits.
///
/// # Panics
/// A target is not below `vocab` (on the CPU).
pub fn head_loss(
    hidden: Tensor<3>,       // [rows, seq, width]
    head: Tensor<2>,         // [width, vocab]
    targets: Tensor<2, Int>, // [rows, seq]
    cap: f64,
) -> Tensor<1> {
    if is_on_cpu(&hidden) && is_on_cpu(&head) {
        cpu::head_loss(hidden, head, targets, cap, precision())
    } else {
        plain::head_loss(hidden, head, targets, cap)
    }
}

/// Floating-point operations that training on one token takes: 6 for each weight that a token is multiplied
/// with, and 12 for each layer, channel of attention and token attended to (Chowdhery et al.,
/// <https://arxiv.org/abs/2204.02311>, appendix B). Embedding tables are looked up and do not count.
pub fn flops_per_token(
    matrix_parameters: usize,
    layers: usize,
    attention_width: usize,
    context: usize,
) -> f64 {
    6.0 * matrix_parameters as f64 + 12.0 * (layers * attention_width * context) as f64
}

/// Bytes that training on one token moves through memory at least, in single precision. Each micro-batch reads the weights
/// once forth and twice back, and adds to the gradients; each step reads and writes the weights and two moments. Of each layer
/// a token's activations (four of the residual stream, queries, keys, values and what attention gives, twice the MLP's inside)
/// are written once and read once. What stays in caches moves less; what does not fit there, more.
pub fn bytes_per_token(
    parameters: usize,
    tokens_per_micro_batch: usize,
    grad_accum: usize,
    layers: usize,
    width: usize,
    mlp_width: usize,
) -> f64 {
    let (weights, tokens) = (parameters as f64, (tokens_per_micro_batch * grad_accum) as f64);
    let of_weights = weights * (4.0 * (3.0 + 2.0) * grad_accum as f64 + 4.0 * (1.0 + 2.0 + 4.0));
    let of_activations = (layers * (8 * width + 2 * mlp_width)) as f64 * 4.0 * 2.0;
    of_weights / tokens + of_activations
}

#[cfg(test)]
mod tests;
