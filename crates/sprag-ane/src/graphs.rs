//! The programs of training: what each computes, as a graph.
//!
//! The *dynamic* ones take weights in the same input as activations, so that each is compiled once and serves all layers and
//! steps. Sources: maderix/ANE (`training_dynamic`) and ncdrone/autoresearch-ANE, whose programs `published` has as they are, but
//! for the order of shared heads, which was wrong there. Activations are `[1, channels, 1, seq]`; D = d_model, H = d_hidden,
//! Q and K = channels of all query and key heads, S = seq_len.

use half::f16;

use crate::blob::{BlobType, BlobWriter};
use crate::config::Config;
use crate::mil::{Builder, Program, Scalar, TypeError, Var};
use crate::runtime::Weights;

pub mod fixed;
pub mod probes;

/// A program and its weight files.
#[derive(Clone, Debug, PartialEq)]
pub struct Graph {
    /// What it is called.
    pub name: String,
    /// The program, with one input `x` and one output `y`.
    pub program: Program,
    /// Its files.
    pub weights: Weights,
}

/// How rotary embeddings are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotary {
    /// Even and odd channels by slices, joined again.
    Join,
    /// By a product with a permutation matrix: for compilers that refuse joins along the last axis (R31).
    Permute,
}

/// Writes the programs of one configuration.
#[derive(Clone, Copy, Debug)]
pub struct Graphs<'a> {
    config: &'a Config,
    rotary: Rotary,
}

/// A weight file of one tensor of halves.
pub fn halves(numbers: impl IntoIterator<Item = f32>) -> Vec<u8> {
    let bytes: Vec<u8> = numbers.into_iter().flat_map(|number| f16::from_f32(number).to_le_bytes()).collect();
    let mut writer = BlobWriter::new();
    // Halves have two bytes each: the writer takes them.
    let _ = writer.add(BlobType::Fp16, &bytes);
    writer.finish()
}

/// Where the first tensor of a file has its descriptor.
pub const FIRST: u64 = 64;

/// A graph that is being written, with its files.
pub(crate) struct Draft {
    name: String,
    pub(crate) f: Builder,
    weights: Weights,
}

impl Draft {
    pub(crate) fn new(name: &str) -> Draft {
        Draft { name: name.to_owned(), f: Builder::new(), weights: Weights::new() }
    }

    /// A constant with a file of its own.
    pub(crate) fn baked(&mut self, name: &str, shape: &[u64], numbers: impl IntoIterator<Item = f32>) -> Var {
        let file = format!("{name}.bin");
        self.weights.insert(format!("@model_path/weights/{file}"), halves(numbers));
        self.f.weight(name, Scalar::Fp16, shape, &file, FIRST)
    }

    pub(crate) fn finish(self, output: &Var) -> Result<Graph, TypeError> {
        Ok(Graph { name: self.name, program: self.f.finish(&[output])?, weights: self.weights })
    }
}

impl<'a> Graphs<'a> {
    /// For a configuration.
    pub fn new(config: &'a Config, rotary: Rotary) -> Graphs<'a> {
        Graphs { config, rotary }
    }

    fn sizes(&self) -> [u64; 5] {
        let config = self.config;
        [config.d_model, config.q_dim(), config.kv_dim(), config.d_hidden, config.seq_len]
            .map(|size| size as u64)
    }

    /// `[in, out]` weights behind `[in, seq]` activations: `y = W^T x`. Programs of this form differ in sizes alone.
    ///
    /// # Errors
    /// When sizes do not go together; the same of all programs here.
    pub fn linear(&self, name: &str, inputs: u64, outputs: u64) -> Result<Graph, TypeError> {
        let [.., seq] = self.sizes();
        let mut draft = Draft::new(name);
        let f = &mut draft.f;
        let x = f.input("x", Scalar::Fp16, &[1, inputs, 1, seq + outputs]);
        let act = part(f, "act", &x, [inputs, seq], 0);
        let weight = part(f, "weight", &x, [inputs, outputs], seq);
        let y = product(f, "y", &act, &weight);
        draft.finish(&y)
    }

    /// Two products whose results are added: `y = A^T a + B^T b`, inputs `a, b, A, B`.
    ///
    /// # Errors
    /// As [`Graphs::linear`].
    pub fn two_linear(&self, name: &str, inputs: u64, outputs: u64) -> Result<Graph, TypeError> {
        let [.., seq] = self.sizes();
        let mut draft = Draft::new(name);
        let f = &mut draft.f;
        let x = f.input("x", Scalar::Fp16, &[1, inputs, 1, 2 * seq + 2 * outputs]);
        let sides = [("a", 0), ("b", 1)].map(|(side, at)| {
            let act = part(f, &format!("act_{side}"), &x, [inputs, seq], at * seq);
            let weight = part(f, &format!("weight_{side}"), &x, [inputs, outputs], 2 * seq + at * outputs);
            product(f, side, &act, &weight)
        });
        let y = f.add("y", &sides[0], &sides[1]);
        draft.finish(&y)
    }

    /// Attention up to what its heads give: input `xnorm [D], Wq^T, Wk^T, Wv^T` side by side; output on channels: attention `[Q]`,
    /// turned queries `[Q]`, turned keys `[K]`, values `[K]`. With `pass` also the input again, as it was published.
    ///
    /// # Errors
    /// As [`Graphs::linear`].
    pub fn attention(&self, pass: bool) -> Result<Graph, TypeError> {
        let [d, q, k, _, seq] = self.sizes();
        let mut draft = Draft::new("sdpaFwd");
        let x = draft.f.input("x", Scalar::Fp16, &[1, d, 1, seq + q + 2 * k]);
        let norm = draft.f.slice("xnorm", &x, &[0; 4], &[1, d as i64, 1, seq as i64]);
        let [attention, query, key, value] = self.attend(&mut draft, &x, &norm);
        let mut parts = vec![&attention, &query, &key, &value];
        if pass {
            parts.push(&norm);
        }
        let y = draft.f.concat("y", &parts, 1);
        draft.finish(&y)
    }

    /// Attention and its output projection: input as [`Graphs::attention`] with `Wo^T` behind, on as many channels as the larger
    /// of D and Q; output: projection `[D]`, then as there.
    ///
    /// # Errors
    /// As [`Graphs::linear`].
    pub fn attention_output(&self) -> Result<Graph, TypeError> {
        let [d, q, k, _, seq] = self.sizes();
        let mut draft = Draft::new("sdpaWoFwd");
        let x = draft.f.input("x", Scalar::Fp16, &[1, d.max(q), 1, seq + q + 2 * k + d]);
        let norm = draft.f.slice("xnorm", &x, &[0; 4], &[1, d as i64, 1, seq as i64]);
        let [attention, query, key, value] = self.attend(&mut draft, &x, &norm);
        let f = &mut draft.f;
        let weight = part(f, "wo", &x, [q, d], seq + q + 2 * k);
        let act = f.reshape("attn_rows", &attention, &[1, 1, q, seq]);
        let projection = product(f, "o", &act, &weight);
        let y = f.concat("y", &[&projection, &attention, &query, &key, &value], 1);
        draft.finish(&y)
    }

    /// Attention `[1, Q, 1, S]`, turned queries, turned keys, values.
    fn attend(&self, draft: &mut Draft, x: &Var, norm: &Var) -> [Var; 4] {
        let [d, q, k, _, seq] = self.sizes();
        let (heads, kv_heads, dim) = self.heads();
        let f = &mut draft.f;
        let act = f.reshape("xnorm_rows", norm, &[1, 1, d, seq]);
        let projections = [("q", q, 0, heads), ("k", k, q, kv_heads), ("v", k, q + k, kv_heads)].map(
            |(name, size, at, heads)| {
                let weight = part(f, &format!("w{name}"), x, [d, size], seq + at);
                let flat = product(f, name, &act, &weight);
                let split = f.reshape(&format!("{name}_split"), &flat, &[1, heads, dim, seq]);
                f.transpose(&format!("{name}_heads"), &split, &[0, 1, 3, 2])
            },
        );
        let angles = self.angles(draft);
        let [query, key, value] = projections;
        let query = self.turn(draft, "q", &query, heads, &angles);
        let key = self.turn(draft, "k", &key, kv_heads, &angles);
        let mask = self.mask(draft);
        let f = &mut draft.f;
        let (all_keys, all_values) = (self.repeat(f, "k", &key), self.repeat(f, "v", &value));
        let scores = f.matmul("scores", &query, &all_keys, false, true);
        let scaled = f.scale("scaled", &scores, self.scale());
        let masked = f.add("masked", &scaled, &mask);
        let probs = f.softmax("probs", &masked, -1);
        let mixed = f.matmul("mixed", &probs, &all_values, false, false);
        let flat = |f: &mut Builder, name: &str, x: &Var, channels: u64| {
            let turned = f.transpose(&format!("{name}_channels"), x, &[0, 1, 3, 2]);
            f.reshape(&format!("{name}_out"), &turned, &[1, channels, 1, seq])
        };
        [
            flat(f, "mixed", &mixed, q),
            flat(f, "rq", &query, q),
            flat(f, "rk", &key, k),
            flat(f, "rv", &value, k),
        ]
    }

    fn heads(&self) -> (u64, u64, u64) {
        (self.config.n_head as u64, self.config.n_kv_head as u64, self.config.head_dim as u64)
    }

    fn scale(&self) -> f64 {
        1.0 / (self.config.head_dim as f64).sqrt()
    }

    /// 0 where a token is seen, -65504 where it comes later.
    fn mask(&self, draft: &mut Draft) -> Var {
        let seq = self.config.seq_len;
        let numbers = (0..seq * seq).map(|at| if at % seq > at / seq { -65_504.0 } else { 0.0 });
        draft.baked("mask", &[1, 1, seq as u64, seq as u64], numbers)
    }

    fn angles(&self, draft: &mut Draft) -> [Var; 2] {
        let (seq, dim) = (self.config.seq_len, self.config.head_dim);
        let shape = [1, 1, seq as u64, dim as u64];
        let angle = |at: usize| angle(at / dim, at % dim, dim);
        let cos = draft.baked("rope_cos", &shape, (0..seq * dim).map(|at| angle(at).cos() as f32));
        let sin = draft.baked("rope_sin", &shape, (0..seq * dim).map(|at| angle(at).sin() as f32));
        [cos, sin]
    }

    /// Pairs of neighbouring channels turned by the angle of their position: `x cos + rot(x) sin`, with `rot` giving `-odd, even`.
    fn turn(&self, draft: &mut Draft, name: &str, x: &Var, heads: u64, [cos, sin]: &[Var; 2]) -> Var {
        let [.., seq] = self.sizes();
        let dim = self.config.head_dim as u64;
        let rotated = match self.rotary {
            Rotary::Join => {
                let f = &mut draft.f;
                let pairs = f.reshape(&format!("{name}_pairs"), x, &[1, heads, seq * dim / 2, 2]);
                let even = f.range(&format!("{name}_even"), &pairs, 3, 0, 1);
                let odd = f.range(&format!("{name}_odd"), &pairs, 3, 1, 1);
                let minus = f.scale(&format!("{name}_minus"), &odd, -1.0);
                let joined = f.concat(&format!("{name}_rot_pairs"), &[&minus, &even], 3);
                f.reshape(&format!("{name}_rot"), &joined, &[1, heads, seq, dim])
            }
            Rotary::Permute => {
                // Row of what comes in, column of what goes out: even <- -odd, odd <- even.
                let size = self.config.head_dim;
                let number = move |at: usize| match (at / size, at % size) {
                    (from, to) if from.is_multiple_of(2) && to == from + 1 => 1.0,
                    (from, to) if to.is_multiple_of(2) && from == to + 1 => -1.0,
                    _ => 0.0,
                };
                let permutation = format!("{name}_permutation");
                let matrix = draft.baked(&permutation, &[1, 1, dim, dim], (0..size * size).map(number));
                draft.f.matmul(&format!("{name}_rot"), x, &matrix, false, false)
            }
        };
        let f = &mut draft.f;
        let still = f.mul(&format!("{name}_cos"), x, cos);
        let moved = f.mul(&format!("{name}_sin"), &rotated, sin);
        f.add(&format!("{name}_turned"), &still, &moved)
    }

    /// Each key head for every query head that shares it: query head `h` reads key head `h / group`.
    fn repeat(&self, f: &mut Builder, name: &str, x: &Var) -> Var {
        let group = self.config.group();
        if group == 1 {
            return x.clone();
        }
        let heads: Vec<Var> = (0..self.config.n_kv_head as u64)
            .map(|head| f.range(&format!("{name}_head{head}"), x, 1, head, 1))
            .collect();
        let repeated: Vec<&Var> = heads.iter().flat_map(|head| std::iter::repeat_n(head, group)).collect();
        f.concat(&format!("{name}_all"), &repeated, 1)
    }

    /// The MLP: input `x2norm [D], W1^T, W3^T, W2` side by side; output on channels: `W2 gate [D]`, `h1`, `h3`, `gate [H]`. The
    /// residual stream stays on the host in single precision.
    ///
    /// # Errors
    /// As [`Graphs::linear`].
    pub fn mlp(&self) -> Result<Graph, TypeError> {
        self.swiglu("ffnFwd", false)
    }

    /// The MLP as published, with the stream in it: input `x2norm, x2, W1^T, W3^T, W2`; output: next stream, `h1`, `h3`, `gate`.
    ///
    /// # Errors
    /// As [`Graphs::linear`].
    pub fn mlp_residual(&self) -> Result<Graph, TypeError> {
        self.swiglu("ffnFused", true)
    }

    fn swiglu(&self, name: &str, residual: bool) -> Result<Graph, TypeError> {
        let [d, _, _, h, seq] = self.sizes();
        let own = if residual { 2 * seq } else { seq };
        let mut draft = Draft::new(name);
        let f = &mut draft.f;
        let x = f.input("x", Scalar::Fp16, &[1, d, 1, own + 3 * h]);
        let act = part(f, "x2norm", &x, [d, seq], 0);
        let [w1, w3, w2] =
            [("w1", 0), ("w3", h), ("w2", 2 * h)].map(|(name, at)| part(f, name, &x, [d, h], own + at));
        let (h1, h3) = (product(f, "h1", &act, &w1), product(f, "h3", &act, &w3));
        let open = f.unary("sigmoid", "open", &h1);
        let silu = f.mul("silu", &h1, &open);
        let gate = f.mul("gate", &silu, &h3);
        let rows = f.reshape("gate_rows", &gate, &[1, 1, h, seq]);
        let down = f.matmul("down_rows", &w2, &rows, false, false);
        let mut first = f.reshape("down", &down, &[1, d, 1, seq]);
        if residual {
            let x2 = f.slice("x2", &x, &[0, 0, 0, seq as i64], &[1, d as i64, 1, seq as i64]);
            let scaled = f.scale("added", &first, f64::from(self.config.alpha()));
            first = f.add("next", &x2, &scaled);
        }
        let y = f.concat("y", &[&first, &h1, &h3, &gate], 1);
        draft.finish(&y)
    }

    /// First half of attention's backward pass: input on channels `Q, K, V` with every head, `dA` (each `[Q]`); output on channels
    /// `dV [Q]`, probabilities and their gradient, each `[heads * seq]`.
    ///
    /// # Errors
    /// As [`Graphs::linear`].
    pub fn attention_backward_1(&self) -> Result<Graph, TypeError> {
        let [_, q, _, _, seq] = self.sizes();
        let (heads, _, dim) = self.heads();
        let mut draft = Draft::new("sdpaBwd1");
        let x = draft.f.input("x", Scalar::Fp16, &[1, 4 * q, 1, seq]);
        let mask = self.mask(&mut draft);
        let f = &mut draft.f;
        let [query, key, value, gradient] = [("q", 0), ("k", 1), ("v", 2), ("da", 3)].map(|(name, at)| {
            let own = f.channels(name, &x, at * q, q);
            let split = f.reshape(&format!("{name}_split"), &own, &[1, heads, dim, seq]);
            f.transpose(&format!("{name}_heads"), &split, &[0, 1, 3, 2])
        });
        let scores = f.matmul("scores", &query, &key, false, true);
        let scaled = f.scale("scaled", &scores, self.scale());
        let masked = f.add("masked", &scaled, &mask);
        let probs = f.softmax("probs", &masked, -1);
        let by_value = f.matmul("dv_heads", &probs, &gradient, true, false);
        let by_probs = f.matmul("dp_heads", &gradient, &value, false, true);
        let turned = f.transpose("dv_channels", &by_value, &[0, 1, 3, 2]);
        let by_value = f.reshape("dv", &turned, &[1, q, 1, seq]);
        let probs = f.reshape("probs_out", &probs, &[1, heads * seq, 1, seq]);
        let by_probs = f.reshape("dp", &by_probs, &[1, heads * seq, 1, seq]);
        let y = f.concat("y", &[&by_value, &probs, &by_probs], 1);
        draft.finish(&y)
    }

    /// Second half: input on channels probabilities, their gradient, `Q`, `K` with every head; output `dQ`, `dK`.
    ///
    /// # Errors
    /// As [`Graphs::linear`].
    pub fn attention_backward_2(&self) -> Result<Graph, TypeError> {
        let [_, q, _, _, seq] = self.sizes();
        let (heads, _, dim) = self.heads();
        let square = heads * seq;
        let mut draft = Draft::new("sdpaBwd2");
        let f = &mut draft.f;
        let x = f.input("x", Scalar::Fp16, &[1, 2 * square + 2 * q, 1, seq]);
        let [probs, by_probs] = [("probs", 0), ("dp", square)].map(|(name, at)| {
            let own = f.channels(name, &x, at, square);
            f.reshape(&format!("{name}_heads"), &own, &[1, heads, seq, seq])
        });
        let [query, key] = [("q", 0), ("k", q)].map(|(name, at)| {
            let own = f.channels(name, &x, 2 * square + at, q);
            let split = f.reshape(&format!("{name}_split"), &own, &[1, heads, dim, seq]);
            f.transpose(&format!("{name}_heads"), &split, &[0, 1, 3, 2])
        });
        let weighted = f.mul("weighted", &probs, &by_probs);
        let along = f.reduce_sum("along", &weighted, &[-1]);
        let rest = f.sub("rest", &by_probs, &along);
        let slope = f.mul("slope", &probs, &rest);
        let by_scores = f.scale("ds", &slope, self.scale());
        let by_query = f.matmul("dq_heads", &by_scores, &key, false, false);
        let by_key = f.matmul("dk_heads", &by_scores, &query, true, false);
        let [by_query, by_key] = [("dq", by_query), ("dk", by_key)].map(|(name, x)| {
            let turned = f.transpose(&format!("{name}_channels"), &x, &[0, 1, 3, 2]);
            f.reshape(name, &turned, &[1, q, 1, seq])
        });
        let y = f.concat("y", &[&by_query, &by_key], 1);
        draft.finish(&y)
    }

    /// Backward through all three projections at once: input on `Q` channels `dq, dk, dv, Wq, Wk, Wv` side by side, those of keys
    /// on the first K channels; output `[D]`.
    ///
    /// # Errors
    /// As [`Graphs::linear`].
    pub fn projections_backward(&self) -> Result<Graph, TypeError> {
        let [d, q, k, _, seq] = self.sizes();
        let mut draft = Draft::new("qkvBwd");
        let f = &mut draft.f;
        let x = f.input("x", Scalar::Fp16, &[1, q, 1, 3 * seq + 3 * d]);
        let [a, b, c] = [("q", q, 0), ("k", k, 1), ("v", k, 2)].map(|(name, rows, at)| {
            let act = part(f, &format!("d{name}"), &x, [rows, seq], at * seq);
            let weight = part(f, &format!("w{name}"), &x, [rows, d], 3 * seq + at * d);
            product(f, &format!("dx_{name}"), &act, &weight)
        });
        let sum = f.add("sum", &a, &b);
        let y = f.add("y", &sum, &c);
        draft.finish(&y)
    }

    /// The head: input `hidden [D]` and the turned embedding `[D, vocab]` side by side; output on channels logits, bent by the
    /// softcap, and their softmax over the vocabulary, each `[vocab]`. An infinite cap bends nothing.
    ///
    /// # Errors
    /// As [`Graphs::linear`].
    pub fn head(&self, cap: f64) -> Result<Graph, TypeError> {
        let ([d, .., seq], vocab) = (self.sizes(), self.config.vocab as u64);
        let mut draft = Draft::new("head");
        let f = &mut draft.f;
        let x = f.input("x", Scalar::Fp16, &[1, d, 1, seq + vocab]);
        let act = part(f, "hidden", &x, [d, seq], 0);
        let weight = part(f, "embedding", &x, [d, vocab], seq);
        let mut logits = product(f, "logits", &act, &weight);
        if cap.is_finite() {
            let small = f.scale("small", &logits, 1.0 / cap);
            let bent = f.unary("tanh", "bent", &small);
            logits = f.scale("capped", &bent, cap);
        }
        let probs = f.softmax("probs", &logits, 1);
        let y = f.concat("y", &[&logits, &probs], 1);
        draft.finish(&y)
    }

    /// The ten programs of the dynamic pipeline, as published.
    ///
    /// # Errors
    /// As [`Graphs::linear`].
    pub fn published(&self) -> Result<Vec<Graph>, TypeError> {
        let [d, q, k, h, _] = self.sizes();
        Ok(vec![
            self.attention(true)?,
            self.linear("woFwd", q, d)?,
            self.mlp_residual()?,
            self.linear("ffnBwdW2t", d, h)?,
            self.two_linear("ffnBwdW13t", h, d)?,
            self.linear("wotBwd", d, q)?,
            self.attention_backward_1()?,
            self.attention_backward_2()?,
            self.linear("qBwd", q, d)?,
            self.two_linear("kvBwd", k, d)?,
        ])
    }
}

/// The angle of a position and channel: `position / 10000^(2 i / dim)` for the pair `i` (Su et al.,
/// <https://arxiv.org/abs/2104.09864>).
pub fn angle(position: usize, channel: usize, dim: usize) -> f64 {
    let pair = (channel / 2) as f64;
    position as f64 / 10_000_f64.powf(2.0 * pair / dim as f64)
}

/// Columns of the first rows of an input, as a matrix `[1, 1, rows, columns]`.
fn part(f: &mut Builder, name: &str, x: &Var, [rows, columns]: [u64; 2], from: u64) -> Var {
    let own =
        f.slice(&format!("{name}_part"), x, &[0, 0, 0, from as i64], &[1, rows as i64, 1, columns as i64]);
    f.reshape(&format!("{name}_matrix"), &own, &[1, 1, rows, columns])
}

/// `W^T x` for `x [1, 1, in, seq]` and `W [1, 1, in, out]`, as `[1, out, 1, seq]`.
fn product(f: &mut Builder, name: &str, x: &Var, weight: &Var) -> Var {
    let (seq, outputs) =
        (x.shape().last().copied().unwrap_or(1), weight.shape().last().copied().unwrap_or(1));
    let rows = f.transpose(&format!("{name}_in"), x, &[0, 1, 3, 2]);
    let product = f.matmul(&format!("{name}_rows"), &rows, weight, false, false);
    let turned = f.transpose(&format!("{name}_turned_out"), &product, &[0, 1, 3, 2]);
    f.reshape(name, &turned, &[1, outputs, 1, seq])
}

#[cfg(all(test, feature = "run"))]
mod tests;
