//! The operations in plain Burn operations: what devices other than the CPU run, and what the fast ones are
//! tested against.

use burn::tensor::module::{self, attention as fused_attention};
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Bool, Device, Int, Tensor, activation};

use super::{Activation, EPSILON, Rotary, loss};

pub(super) fn embedding(table: Tensor<2>, tokens: Tensor<2, Int>) -> Tensor<3> {
    module::embedding(table, tokens) // [rows, seq, width]
}

pub(super) fn linear(x: Tensor<3>, weight: Tensor<2>) -> Tensor<3> {
    let ([rows, seq, width], [_, out]) = (x.dims(), weight.dims());
    let x = x.reshape([rows * seq, width]); // [tokens, in]
    x.matmul(weight).reshape([rows, seq, out])
}

pub(super) fn rms_norm<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let mean_square = x.clone().square().mean_dim(D - 1); // [.., 1]
    x * mean_square.add_scalar(EPSILON).sqrt().recip()
}

pub(super) fn rotary(x: Tensor<4>, angles: &Rotary) -> Tensor<4> {
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

pub(super) fn rotary_norm(x: Tensor<4>, angles: &Rotary, scale: f64) -> Tensor<4> {
    rms_norm(rotary(x, angles)) * scale
}

pub(super) fn attention(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    window: Option<usize>,
) -> Tensor<4> {
    if query.is_autodiff() || key.is_autodiff() || value.is_autodiff() {
        attention_composed(query, key, value, window)
    } else {
        attention_of_backend(query, key, value, window)
    }
}

/// What gradients flow through.
pub(super) fn attention_composed(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    window: Option<usize>,
) -> Tensor<4> {
    let ([rows, heads, seq, dim], [_, kv_heads, _, value_dim]) = (query.dims(), value.dims());
    let group = heads / kv_heads;
    // Query heads that share a key head are stacked as further positions: fewer, larger products, and no
    // copies of keys and values.
    let query = query * (dim as f64).powf(-0.5);
    let query = query.reshape([rows, kv_heads, group * seq, dim]);
    let scores = query.matmul(key.swap_dims(2, 3)); // [rows, kv_heads, group * seq, seq]
    let hidden = hidden_positions(seq, window, &scores.device()).repeat_dim(0, group); // [group * seq, seq]
    let scores = scores.mask_fill(hidden.unsqueeze(), f32::NEG_INFINITY);
    let weights = activation::softmax(scores, 3); // [rows, kv_heads, group * seq, seq]
    weights.matmul(value).reshape([rows, heads, seq, value_dim])
}

/// The same without gradients, by the backend's own kernel.
pub(super) fn attention_of_backend(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    window: Option<usize>,
) -> Tensor<4> {
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

pub(super) fn activate<const D: usize>(x: Tensor<D>, f: Activation) -> Tensor<D> {
    match f {
        Activation::SquaredRelu => activation::relu(x).square(),
        Activation::Gelu => activation::gelu_approximate(x),
        Activation::Silu => activation::silu(x),
    }
}

pub(super) fn mlp(x: Tensor<3>, up: Tensor<2>, down: Tensor<2>) -> Tensor<3> {
    let hidden = activate(linear(x, up), Activation::SquaredRelu); // [rows, seq, hidden]
    linear(hidden, down)
}

pub(super) fn swiglu(x: Tensor<3>, [gate, up, down]: [Tensor<2>; 3]) -> Tensor<3> {
    let hidden = activation::silu(linear(x.clone(), gate)) * linear(x, up); // [rows, seq, hidden]
    linear(hidden, down)
}

pub(super) fn mix(x: Tensor<3>, first: Tensor<3>, weights: Tensor<2>) -> Tensor<3> {
    let of_x = weights.clone().narrow(1, 0, 1).unsqueeze::<3>(); // [1, 1, 1]
    let of_first = weights.narrow(1, 1, 1).unsqueeze::<3>(); // [1, 1, 1]
    x * of_x + first * of_first
}

pub(super) fn softcap<const D: usize>(logits: Tensor<D>, cap: f64) -> Tensor<D> {
    // tanh(x) = 2 sigmoid(2 x) - 1, and the sigmoid is several times faster.
    activation::sigmoid(logits * (2.0 / cap)) * (2.0 * cap) - cap
}

pub(super) fn head_loss(hidden: Tensor<3>, head: Tensor<2>, targets: Tensor<2, Int>, cap: f64) -> Tensor<1> {
    loss(linear(hidden, head), targets, cap)
}
