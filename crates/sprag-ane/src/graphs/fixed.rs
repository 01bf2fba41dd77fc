//! The *static* programs: weights baked in as convolutions of 1 x 1, compiled again whenever they change. For inference and for
//! comparison; training with them spends most of its time in the compiler.
//!
//! Source: maderix/ANE (`training/stories_mil.h`, `train_large*.m`). They have no rotary embedding. Here attention's and the
//! MLP's outputs are added to the stream on the host.

use super::{Draft, Graph};
use crate::config::Config;
use crate::mil::{Scalar, TypeError, Var};

/// Weights of a layer, `[out, in]` row by row.
#[derive(Clone, Copy, Debug)]
pub struct LayerWeights<'a> {
    /// `[Q, D]`, `[K, D]`, `[K, D]`, `[D, Q]`; here K = Q.
    pub attention: [&'a [f32]; 4],
    /// `W1 [H, D]`, `W2 [D, H]`, `W3 [H, D]`.
    pub mlp: [&'a [f32]; 3],
    /// Gains of both norms, `[D]`.
    pub norms: [&'a [f32]; 2],
}

struct Sizes {
    d: u64,
    h: u64,
    seq: u64,
    heads: u64,
    dim: u64,
}

fn sizes(config: &Config) -> Sizes {
    let [d, h, seq, heads, dim] =
        [config.d_model, config.d_hidden, config.seq_len, config.n_head, config.head_dim]
            .map(|size| size as u64);
    Sizes { d, h, seq, heads, dim }
}

fn turned(matrix: &[f32], columns: usize) -> Vec<f32> {
    let rows = matrix.len() / columns.max(1);
    (0..columns).flat_map(|column| (0..rows).map(move |row| matrix[row * columns + column])).collect()
}

/// `x / rms(x) * gain` over channels, by a sum, a power and a product.
fn norm(draft: &mut Draft, x: &Var, gain: &[f32], d: u64) -> Var {
    let gain = draft.baked("gain", &[1, d, 1, 1], gain.iter().copied());
    let f = &mut draft.f;
    let square = f.mul("square", x, x);
    let sum = f.reduce_sum("sum", &square, &[1]);
    let mean = f.scale("mean", &sum, 1.0 / d as f64);
    let epsilon = f.number(1e-5, &mean);
    let shifted = f.add("shifted", &mean, &epsilon);
    let factor = f.pow("factor", &shifted, -0.5);
    let scaled = f.mul("normed", x, &factor);
    f.mul("xnorm", &scaled, &gain)
}

fn linear(draft: &mut Draft, name: &str, x: &Var, weight: &[f32], outputs: u64) -> Var {
    let inputs = x.shape().get(1).copied().unwrap_or(1);
    let weight = draft.baked(&format!("w_{name}"), &[outputs, inputs, 1, 1], weight.iter().copied());
    draft.f.conv(name, x, &weight, 1)
}

fn heads(draft: &mut Draft, name: &str, x: &Var, sizes: &Sizes) -> Var {
    let split = draft.f.reshape(&format!("{name}_split"), x, &[1, sizes.heads, sizes.dim, sizes.seq]);
    draft.f.transpose(&format!("{name}_heads"), &split, &[0, 1, 3, 2])
}

fn channels(draft: &mut Draft, name: &str, x: &Var, count: u64, seq: u64) -> Var {
    let turned = draft.f.transpose(&format!("{name}_turned"), x, &[0, 1, 3, 2]);
    draft.f.reshape(name, &turned, &[1, count, 1, seq])
}

fn mask(draft: &mut Draft, seq: u64) -> Var {
    let numbers = (0..seq * seq).map(move |at| if at % seq > at / seq { -65_504.0 } else { 0.0 });
    draft.baked("mask", &[1, 1, seq, seq], numbers)
}

fn probabilities(draft: &mut Draft, query: &Var, key: &Var, sizes: &Sizes) -> Var {
    let mask = mask(draft, sizes.seq);
    let f = &mut draft.f;
    let scores = f.matmul("scores", query, key, false, true);
    let scaled = f.scale("scaled", &scores, 1.0 / (sizes.dim as f64).sqrt());
    let masked = f.add("masked", &scaled, &mask);
    f.softmax("probs", &masked, -1)
}

/// Norm, projections, attention, output projection: `[D]` in, `6 D` out: projection, queries, keys, values, attention, norm.
///
/// # Errors
/// When sizes do not go together; the same of all programs here.
pub fn attention(config: &Config, weights: &LayerWeights<'_>) -> Result<Graph, TypeError> {
    let sizes = sizes(config);
    let mut draft = Draft::new("fwdAttn");
    let x = draft.f.input("x", Scalar::Fp16, &[1, sizes.d, 1, sizes.seq]);
    let normed = norm(&mut draft, &x, weights.norms[0], sizes.d);
    let [wq, wk, wv, wo] = weights.attention;
    let [q, k, v] =
        [("q", wq), ("k", wk), ("v", wv)].map(|(name, w)| linear(&mut draft, name, &normed, w, sizes.d));
    let [qh, kh, vh] = [("q", &q), ("k", &k), ("v", &v)].map(|(name, x)| heads(&mut draft, name, x, &sizes));
    let probs = probabilities(&mut draft, &qh, &kh, &sizes);
    let mixed = draft.f.matmul("mixed", &probs, &vh, false, false);
    let mixed = channels(&mut draft, "attn", &mixed, sizes.d, sizes.seq);
    let o = linear(&mut draft, "o", &mixed, wo, sizes.d);
    let y = draft.f.concat("y", &[&o, &q, &k, &v, &mixed, &normed], 1);
    draft.finish(&y)
}

/// Norm and MLP: `[D]` in, `2 D + 3 H` out: down projection, norm, `h1`, `h3`, gate.
///
/// # Errors
/// As [`attention`].
pub fn mlp(config: &Config, weights: &LayerWeights<'_>) -> Result<Graph, TypeError> {
    let sizes = sizes(config);
    let mut draft = Draft::new("fwdFFN");
    let x = draft.f.input("x", Scalar::Fp16, &[1, sizes.d, 1, sizes.seq]);
    let normed = norm(&mut draft, &x, weights.norms[1], sizes.d);
    let [w1, w2, w3] = weights.mlp;
    let h1 = linear(&mut draft, "h1", &normed, w1, sizes.h);
    let h3 = linear(&mut draft, "h3", &normed, w3, sizes.h);
    let open = draft.f.unary("sigmoid", "open", &h1);
    let silu = draft.f.mul("silu", &h1, &open);
    let gate = draft.f.mul("gate", &silu, &h3);
    let down = linear(&mut draft, "down", &gate, w2, sizes.d);
    let y = draft.f.concat("y", &[&down, &normed, &h1, &h3, &gate], 1);
    draft.finish(&y)
}

/// Backward through the MLP: `d, h1, h3` on channels in, `dx [D], dh1, dh3 [H]` out.
///
/// # Errors
/// As [`attention`].
pub fn mlp_backward(config: &Config, weights: &LayerWeights<'_>) -> Result<Graph, TypeError> {
    let Sizes { d, h, seq, .. } = sizes(config);
    let mut draft = Draft::new("ffnBwd");
    let x = draft.f.input("x", Scalar::Fp16, &[1, d + 2 * h, 1, seq]);
    let gradient = draft.f.channels("d", &x, 0, d);
    let (h1, h3) = (draft.f.channels("h1", &x, d, h), draft.f.channels("h3", &x, d + h, h));
    let [w1, w2, w3] = weights.mlp;
    let (w1, w2, w3) = (turned(w1, d as usize), turned(w2, h as usize), turned(w3, d as usize));
    let by_gate = linear(&mut draft, "dgate", &gradient, &w2, h);
    let f = &mut draft.f;
    let open = f.unary("sigmoid", "open", &h1);
    let silu = f.mul("silu", &h1, &open);
    let by_h3 = f.mul("dh3", &by_gate, &silu);
    // silu' = open + silu (1 - open).
    let one = f.number(1.0, &open);
    let shut = f.sub("shut", &one, &open);
    let bend = f.mul("bend", &silu, &shut);
    let slope = f.add("slope", &open, &bend);
    let by_silu = f.mul("dsilu", &by_gate, &h3);
    let by_h1 = f.mul("dh1", &by_silu, &slope);
    let a = linear(&mut draft, "dx1", &by_h1, &w1, d);
    let b = linear(&mut draft, "dx3", &by_h3, &w3, d);
    let dx = draft.f.add("dx", &a, &b);
    let y = draft.f.concat("y", &[&dx, &by_h1, &by_h3], 1);
    draft.finish(&y)
}

/// First half of attention's backward pass, with the output projection: `q, k, v, do` on channels in; `dv [D]`, probabilities and
/// their gradient out.
///
/// # Errors
/// As [`attention`].
pub fn attention_backward_1(config: &Config, weights: &LayerWeights<'_>) -> Result<Graph, TypeError> {
    let sizes = sizes(config);
    let Sizes { d, seq, .. } = sizes;
    let mut draft = Draft::new("sdpaBwd1");
    let x = draft.f.input("x", Scalar::Fp16, &[1, 4 * d, 1, seq]);
    let [q, k, v, gradient] =
        [("q", 0), ("k", 1), ("v", 2), ("do", 3)].map(|(name, at)| draft.f.channels(name, &x, at * d, d));
    let wo = turned(weights.attention[3], d as usize);
    let by_mixed = linear(&mut draft, "da", &gradient, &wo, d);
    let [q, k, v, gradient] = [("q", &q), ("k", &k), ("v", &v), ("da", &by_mixed)]
        .map(|(name, x)| heads(&mut draft, name, x, &sizes));
    let probs = probabilities(&mut draft, &q, &k, &sizes);
    let by_value = draft.f.matmul("dv_heads", &probs, &gradient, true, false);
    let by_probs = draft.f.matmul("dp_heads", &gradient, &v, false, true);
    let by_value = channels(&mut draft, "dv", &by_value, d, seq);
    let f = &mut draft.f;
    let probs = f.reshape("probs_out", &probs, &[1, sizes.heads * seq, 1, seq]);
    let by_probs = f.reshape("dp", &by_probs, &[1, sizes.heads * seq, 1, seq]);
    let y = f.concat("y", &[&by_value, &probs, &by_probs], 1);
    draft.finish(&y)
}

/// Backward through the three projections: `dq, dk, dv` on channels in, `[D]` out.
///
/// # Errors
/// As [`attention`].
pub fn projections_backward(config: &Config, weights: &LayerWeights<'_>) -> Result<Graph, TypeError> {
    let Sizes { d, seq, .. } = sizes(config);
    let mut draft = Draft::new("qkvBwd");
    let x = draft.f.input("x", Scalar::Fp16, &[1, 3 * d, 1, seq]);
    let parts = [("q", 0), ("k", 1), ("v", 2)].map(|(name, at)| {
        let own = draft.f.channels(&format!("d{name}"), &x, at * d, d);
        let weight = turned(weights.attention[at as usize], d as usize);
        linear(&mut draft, &format!("dx_{name}"), &own, &weight, d)
    });
    let sum = draft.f.add("sum", &parts[0], &parts[1]);
    let y = draft.f.add("y", &sum, &parts[2]);
    draft.finish(&y)
}

/// The classifier as a convolution: `[D]` in, `[vocab]` out.
///
/// # Errors
/// As [`attention`].
pub fn classifier(config: &Config, embedding: &[f32]) -> Result<Graph, TypeError> {
    let Sizes { d, seq, .. } = sizes(config);
    let mut draft = Draft::new("classifier");
    let x = draft.f.input("x", Scalar::Fp16, &[1, d, 1, seq]);
    let y = linear(&mut draft, "y", &x, embedding, config.vocab as u64);
    draft.finish(&y)
}

/// Probabilities over the vocabulary, on channels.
///
/// # Errors
/// As [`attention`].
pub fn vocabulary_softmax(config: &Config) -> Result<Graph, TypeError> {
    let mut draft = Draft::new("softmax");
    let x = draft.f.input("x", Scalar::Fp16, &[1, config.vocab as u64, 1, config.seq_len as u64]);
    let y = draft.f.softmax("y", &x, 1);
    draft.finish(&y)
}

/// The classifier's backward pass: a product of rank 3, because a convolution from so many channels is refused (R23). `[vocab]`
/// in, `[D]` out; the weights are `[D, vocab]`.
///
/// # Errors
/// As [`attention`].
pub fn classifier_backward(config: &Config, embedding: &[f32]) -> Result<Graph, TypeError> {
    let Sizes { d, seq, .. } = sizes(config);
    let vocab = config.vocab as u64;
    let mut draft = Draft::new("classifierBwd");
    let x = draft.f.input("x", Scalar::Fp16, &[1, vocab, 1, seq]);
    let weight = draft.baked("embedding", &[1, d, vocab], turned(embedding, d as usize));
    let f = &mut draft.f;
    let rows = f.reshape("rows", &x, &[1, vocab, seq]);
    let product = f.matmul("product", &weight, &rows, false, false);
    let y = f.reshape("y", &product, &[1, d, 1, seq]);
    draft.finish(&y)
}

/// A norm on the device: `[D]` in and out.
///
/// # Errors
/// As [`attention`].
pub fn final_norm(config: &Config, gain: &[f32]) -> Result<Graph, TypeError> {
    let Sizes { d, seq, .. } = sizes(config);
    let mut draft = Draft::new("finalNorm");
    let x = draft.f.input("x", Scalar::Fp16, &[1, d, 1, seq]);
    let y = norm(&mut draft, &x, gain, d);
    draft.finish(&y)
}

/// A norm's backward pass: `dy, x` on channels in, `[D]` out:
/// `dx = r (g dy - x (x . g dy) r^2 / D)` with `r = 1 / rms(x)`.
///
/// # Errors
/// As [`attention`].
pub fn norm_backward(config: &Config, gain: &[f32]) -> Result<Graph, TypeError> {
    let Sizes { d, seq, .. } = sizes(config);
    let mut draft = Draft::new("normBwd");
    let both = draft.f.input("x", Scalar::Fp16, &[1, 2 * d, 1, seq]);
    let gain = draft.baked("gain", &[1, d, 1, 1], gain.iter().copied());
    let f = &mut draft.f;
    let (by_y, x) = (f.channels("dy", &both, 0, d), f.channels("own", &both, d, d));
    let scaled = f.mul("scaled", &by_y, &gain);
    let square = f.mul("square", &x, &x);
    let sum = f.reduce_sum("sum", &square, &[1]);
    let mean = f.scale("mean", &sum, 1.0 / d as f64);
    let epsilon = f.number(1e-5, &mean);
    let shifted = f.add("shifted", &mean, &epsilon);
    let factor = f.pow("factor", &shifted, -0.5);
    let normed = f.mul("normed", &x, &factor);
    let along = f.mul("along", &scaled, &normed);
    let dot = f.reduce_sum("dot", &along, &[1]);
    let share = f.scale("share", &dot, 1.0 / d as f64);
    let back = f.mul("back", &normed, &share);
    let rest = f.sub("rest", &scaled, &back);
    let y = f.mul("y", &rest, &factor);
    draft.finish(&y)
}

/// All programs of the static pipeline for one layer and the head.
///
/// # Errors
/// As [`attention`].
pub fn all(config: &Config, weights: &LayerWeights<'_>, embedding: &[f32]) -> Result<Vec<Graph>, TypeError> {
    Ok(vec![
        attention(config, weights)?,
        mlp(config, weights)?,
        mlp_backward(config, weights)?,
        attention_backward_1(config, weights)?,
        super::Graphs::new(config, super::Rotary::Join).attention_backward_2()?,
        projections_backward(config, weights)?,
        classifier(config, embedding)?,
        vocabulary_softmax(config)?,
        classifier_backward(config, embedding)?,
        final_norm(config, weights.norms[0])?,
        norm_backward(config, weights.norms[1])?,
    ])
}
