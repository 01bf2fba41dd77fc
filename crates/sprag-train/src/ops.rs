//! The operations a language model is made of, each written once in plain Burn operations.
//!
//! Model code calls these and nothing below them, so that a faster kernel for one of them reaches every
//! candidate by an exchange in this module alone. Activations are `[rows, seq, width]`, split into heads
//! `[rows, heads, seq, dim]`; weights are `[in, out]`.

mod head_loss;

use burn::tensor::module::{self, attention as fused_attention};
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Bool, Device, Int, Tensor, activation};

pub use head_loss::head_loss;

/// Added to mean squares before a root is taken.
const EPSILON: f64 = 1e-6;
/// Up to this softcap the cap itself serves as the shift that keeps sums of exponentials in range: twice as
/// far below it they are still no denormals.
const LARGEST_SHIFT: f64 = 30.0;

/// Rows of `table` by token.
pub fn embedding(
    table: Tensor<2>,       // [vocab, width]
    tokens: Tensor<2, Int>, // [rows, seq]
) -> Tensor<3> {
    module::embedding(table, tokens) // [rows, seq, width]
}

/// `x` times `weight`, without bias, as one matrix product over all tokens.
pub fn linear(
    x: Tensor<3>,      // [rows, seq, in]
    weight: Tensor<2>, // [in, out]
) -> Tensor<3> {
    let ([rows, seq, width], [_, out]) = (x.dims(), weight.dims());
    let x = x.reshape([rows * seq, width]); // [tokens, in]
    x.matmul(weight).reshape([rows, seq, out])
}

/// Scales the last dimension to a root mean square of one. There is no learned gain (Zhang and Sennrich,
/// <https://arxiv.org/abs/1910.07467>, without it).
pub fn rms_norm<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let mean_square = x.clone().square().mean_dim(D - 1); // [.., 1]
    x * mean_square.add_scalar(EPSILON).sqrt().recip()
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
    let [_, _, seq, dim] = x.dims();
    let half = dim / 2;
    let cos = angles.cos.clone().narrow(2, 0, seq); // [1, 1, seq, half]
    let sin = angles.sin.clone().narrow(2, 0, seq); // [1, 1, seq, half]
    let left = x.clone().narrow(3, 0, half); // [rows, heads, seq, half]
    let right = x.narrow(3, half, half); // [rows, heads, seq, half]
    let turned_left = left.clone() * cos.clone() - right.clone() * sin.clone();
    let turned_right = left * sin + right * cos;
    Tensor::cat(vec![turned_left, turned_right], 3)
}

/// Splits the width into heads: `[rows, seq, heads * dim]` to `[rows, heads, seq, dim]`.
pub fn split_heads(x: Tensor<3>, heads: usize) -> Tensor<4> {
    let [rows, seq, width] = x.dims();
    x.reshape([rows, seq, heads, width / heads]).swap_dims(1, 2)
}

/// Puts the heads side by side again: `[rows, heads, seq, dim]` to `[rows, seq, heads * dim]`.
pub fn join_heads(x: Tensor<4>) -> Tensor<3> {
    let [rows, heads, seq, dim] = x.dims();
    x.swap_dims(1, 2).reshape([rows, seq, heads * dim])
}

/// Causal attention, scaled by the root of the head's width.
///
/// With fewer key heads than query heads, neighbouring query heads share one (grouped-query attention,
/// Ainslie et al., <https://arxiv.org/abs/2305.13245>). With a `window`, a token sees itself and the
/// `window - 1` tokens before it.
pub fn attention(
    query: Tensor<4>, // [rows, heads, seq, dim]
    key: Tensor<4>,   // [rows, kv_heads, seq, dim]
    value: Tensor<4>, // [rows, kv_heads, seq, dim]
    window: Option<usize>,
) -> Tensor<4> {
    if query.is_autodiff() || key.is_autodiff() || value.is_autodiff() {
        attention_composed(query, key, value, window)
    } else {
        attention_fused(query, key, value, window)
    }
}

/// What gradients flow through.
fn attention_composed(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    window: Option<usize>,
) -> Tensor<4> {
    let ([rows, heads, seq, dim], kv_heads) = (query.dims(), key.dims()[1]);
    let group = heads / kv_heads;
    // Query heads that share a key head are stacked as further positions: fewer, larger products, and no
    // copies of keys and values.
    let query = query * (dim as f64).powf(-0.5);
    let query = query.reshape([rows, kv_heads, group * seq, dim]);
    let scores = query.matmul(key.swap_dims(2, 3)); // [rows, kv_heads, group * seq, seq]
    let hidden = hidden_positions(seq, window, &scores.device()).repeat_dim(0, group); // [group * seq, seq]
    let scores = scores.mask_fill(hidden.unsqueeze(), f32::NEG_INFINITY);
    let weights = activation::softmax(scores, 3); // [rows, kv_heads, group * seq, seq]
    weights.matmul(value).reshape([rows, heads, seq, dim])
}

/// The same on a plain device, by the backend's own kernel.
fn attention_fused(query: Tensor<4>, key: Tensor<4>, value: Tensor<4>, window: Option<usize>) -> Tensor<4> {
    let ([rows, heads, seq, _], kv_heads) = (query.dims(), key.dims()[1]);
    let shared = |x: Tensor<4>| {
        let [_, _, _, dim] = x.dims();
        let x = x.reshape([rows, kv_heads, 1, seq * dim]);
        x.expand([rows, kv_heads, heads / kv_heads, seq * dim]).reshape([rows, heads, seq, dim])
    };
    let mask = window.filter(|window| *window < seq).map(|window| {
        let hidden = hidden_positions(seq, Some(window), &query.device());
        hidden.unsqueeze::<4>().expand([rows, heads, seq, seq])
    });
    let options = AttentionModuleOptions { is_causal: true, ..Default::default() };
    fused_attention(query, shared(key), shared(value), mask, None, options)
}

/// True where a position (row) must not see another (column).
fn hidden_positions(seq: usize, window: Option<usize>, device: &Device) -> Tensor<2, Bool> {
    let future = Tensor::<2, Bool>::tril_mask([seq, seq], 0, device); // true above the diagonal
    match window {
        Some(window) if window < seq => {
            let past = Tensor::<2, Bool>::triu_mask([seq, seq], 1 - window.max(1) as i64, device);
            future.bool_or(past)
        }
        _ => future,
    }
}

/// Two linear layers with the square of ReLU between them (So et al., <https://arxiv.org/abs/2109.08668>).
pub fn mlp(
    x: Tensor<3>,    // [rows, seq, width]
    up: Tensor<2>,   // [width, hidden]
    down: Tensor<2>, // [hidden, width]
) -> Tensor<3> {
    let hidden = activation::relu(linear(x, up)).square(); // [rows, seq, hidden]
    linear(hidden, down)
}

/// Bends logits into `-cap..cap` by a scaled hyperbolic tangent (Gemma 2,
/// <https://arxiv.org/abs/2408.00118>). An infinite cap leaves them alone.
pub fn softcap<const D: usize>(logits: Tensor<D>, cap: f64) -> Tensor<D> {
    if !cap.is_finite() {
        return logits;
    }
    // tanh(x) = 2 sigmoid(2 x) - 1, and the sigmoid is several times faster on the CPU.
    activation::sigmoid(logits * (2.0 / cap)) * (2.0 * cap) - cap
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

#[cfg(test)]
mod tests;
