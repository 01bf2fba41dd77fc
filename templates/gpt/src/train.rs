//! A small GPT and how it is trained: the one file that is edited to make it better.
//!
//! It learns to predict the next token of real text, within a fixed budget, and is scored by bits per byte on
//! text it never saw. Knobs first, then the model, its optimisers, and the loop. The evaluator holds data, clock
//! and score; `run` is the line to it.

use sprag_train::burn::tensor::{Device, Int, Tensor};
use sprag_train::harness::{Model, Run, Stop};
use sprag_train::ops::{self, Precision, Rotary};
use sprag_train::optim::{AdamW, Muon, Orthogonaliser, Param, clip_gradients};
use sprag_train::schedule::trapezoid;

// --- Model ---

/// Layers. Depth is what composes; each layer costs about 12 D_MODEL^2 multiplications a token.
/// knob: choice 1|2|3|4|6
const N_LAYER: usize = 2;

/// Channels of the residual stream. A multiple of N_HEAD times 2.
/// knob: choice 96|128|160|192|256
const D_MODEL: usize = 128;

/// Query heads; each is D_MODEL / N_HEAD channels wide. 32 channels a head are few, but heads are cheap here.
/// knob: choice 2|4|8
const N_HEAD: usize = 4;

/// Query heads that share a key and a value head. One: nothing is shared.
/// knob: choice 1|2|4
const KV_SHARE: usize = 1;

/// Key and value heads; one at least, also where there are fewer query heads than KV_SHARE.
const N_KV_HEAD: usize = N_HEAD.div_ceil(KV_SHARE);

/// Channels of the MLP's hidden layer, in units of D_MODEL. Four is what everyone begins with.
/// knob: choice 2|3|4|6
const MLP_RATIO: usize = 4;

/// Tokens that attention looks back over; longer than any window is asked for: all of them.
/// knob: choice 32|64|128|4096
const ATTENTION_WINDOW: usize = 4096;

/// Base of the rotary angles, a pure number. The usual one; made for far longer windows.
/// knob: log 1e2..1e5
const ROTARY_BASE: f64 = 10_000.0;

/// Queries and keys have unit root mean square, then queries are scaled by this: how sharp attention can get.
/// knob: log 0.5..4.0
const QK_SCALE: f64 = 1.0;

/// Bound on the logits, in nats. Keeps confidence finite.
/// knob: log 5.0..60.0
const SOFTCAP: f64 = 15.0;

// --- Initialisation ---

/// Standard deviation of the embedding table. The first norm makes its scale matter only against updates.
/// knob: log 0.01..2.0
const EMBEDDING_STD: f64 = 1.0;

/// Standard deviation of the head. Small: the first guess is close to uniform.
/// knob: log 1e-4..0.1
const HEAD_STD: f64 = 0.001;

/// Standard deviation of hidden matrices, in units of 1 / sqrt(inputs): keeps the scale of activations.
/// knob: log 0.2..2.0
const MATRIX_STD: f64 = 1.0;

// --- Optimiser ---

/// Move hidden matrices by Muon rather than by AdamW: better steps, that cost more in a small batch.
/// knob: choice true|false
const MUON: bool = true;

/// Learning rate of Muon, for hidden matrices: change of a singular value a step.
/// knob: log 2e-3..0.2
const MATRIX_LR: f64 = 0.02;

/// Learning rate of AdamW for hidden matrices, where MUON is off. No knob: with MUON it does nothing.
const MATRIX_ADAMW_LR: f64 = 0.003;

/// Learning rate of AdamW for the embedding table, in its own units.
/// knob: log 1e-3..1.0
const EMBEDDING_LR: f64 = 0.1;

/// Learning rate of AdamW for the head.
/// knob: log 2e-4..0.1
const HEAD_LR: f64 = 0.004;

/// Learning rate of AdamW for the scalars of the residual stream.
/// knob: log 1e-3..0.3
const SCALAR_LR: f64 = 0.02;

/// Decay of Muon's momentum.
/// knob: linear 0.5..0.99
const MOMENTUM: f64 = 0.95;

/// Decay of AdamW's mean of gradients.
/// knob: linear 0.5..0.98
const BETA1: f64 = 0.9;

/// Decay of AdamW's mean of squared gradients.
/// knob: linear 0.8..0.999
const BETA2: f64 = 0.95;

/// Decay of hidden matrices a step, in units of the learning rate.
/// knob: linear 0.0..0.5
const WEIGHT_DECAY: f64 = 0.0;

/// Make Muon's steps orthogonal by Polar Express rather than by Newton-Schulz.
/// knob: choice true|false
const POLAR_EXPRESS: bool = false;

/// Joint norm to which gradients are clipped.
/// knob: log 0.1..10.0
const CLIP_NORM: f64 = 1.0;

// --- Schedule ---

/// Part of the budget over which learning rates rise from zero.
/// knob: linear 0.0..0.2
const WARMUP: f64 = 0.02;

/// Part of the budget, at its end, over which they fall.
/// knob: linear 0.0..1.0
const WARMDOWN: f64 = 0.4;

/// Where they end, in units of their peak.
/// knob: linear 0.0..0.3
const LAST_LR: f64 = 0.0;

// --- Batch ---

/// Tokens in a row of a batch. At most `run.max_seq_len()` are ever asked for.
/// knob: choice 64|128|256
const SEQ_LEN: usize = 256;

/// Rows that go through the model together. More is a little faster a token; fewer make more steps.
/// knob: choice 2|4|8|16
const BATCH_SIZE: usize = 4;

/// Batches whose gradients are added up before a step.
/// knob: choice 1|2|4
const GRAD_ACCUM: usize = 1;

// --- Precision ---

/// What the factors of matrix products are rounded to on the CPU; sums and weights are fp32. `Auto` takes bf16
/// where the processor has it.
/// knob: choice Precision::Auto|Precision::Fp32
const PRECISION: Precision = Precision::Auto;

/// One layer: attention, then MLP, each of the normed residual stream and added to it.
struct Block {
    query: Param,  // [d_model, d_model]
    key: Param,    // [d_model, d_kv]
    value: Param,  // [d_model, d_kv]
    output: Param, // [d_model, d_model]
    up: Param,     // [d_model, d_hidden]
    down: Param,   // [d_hidden, d_model]
    mix: Param,    // [1, 2]: how much of the stream, and of the embedding, enters the layer
}

impl Block {
    fn new(device: &Device) -> Self {
        let head_dim = D_MODEL / N_HEAD;
        let (d_kv, d_hidden) = (N_KV_HEAD * head_dim, MLP_RATIO * D_MODEL);
        let matrix =
            |outputs| Param::uniform([D_MODEL, outputs], MATRIX_STD / (D_MODEL as f64).sqrt(), device);
        // What is added to the stream starts at zero: the deeper the layer, the later it wakes up.
        let zeros = |inputs| Param::full([inputs, D_MODEL], 0.0, device);
        Block {
            query: matrix(D_MODEL),
            key: matrix(d_kv),
            value: matrix(d_kv),
            output: zeros(D_MODEL),
            up: matrix(d_hidden),
            down: zeros(d_hidden),
            mix: Param::new(Tensor::from_floats([[1.0, 0.0]], device)),
        }
    }

    fn forward(&self, x: Tensor<3>, first: Tensor<3>, rotary: &Rotary) -> Tensor<3> {
        let x = ops::mix(x, first, self.mix.get()); // [batch, seq, d_model]
        let x = ops::residual(x, |x| self.attention(x, rotary)); // [batch, seq, d_model]
        ops::residual(x, |x| ops::mlp(x, self.up.get(), self.down.get())) // [batch, seq, d_model]
    }

    fn attention(&self, x: Tensor<3>, rotary: &Rotary) -> Tensor<3> {
        let weights = [self.query.get(), self.key.get(), self.value.get()];
        let [query, key, value] = ops::qkv(x, weights); // [batch, seq, d_model], [batch, seq, d_kv] twice
        let query = ops::rotary_norm(ops::split_heads(query, N_HEAD), rotary, QK_SCALE); // [batch, head, seq, head_dim]
        let key = ops::rotary_norm(ops::split_heads(key, N_KV_HEAD), rotary, 1.0); // [batch, kv_head, seq, head_dim]
        let value = ops::split_heads(value, N_KV_HEAD); // [batch, kv_head, seq, head_dim]
        let mixed = ops::attention(query, key, value, Some(ATTENTION_WINDOW)); // [batch, head, seq, head_dim]
        ops::linear(ops::join_heads(mixed), self.output.get()) // [batch, seq, d_model]
    }
}

/// The model.
pub struct Gpt {
    embedding: Param, // [vocab, d_model]
    blocks: Vec<Block>,
    head: Param, // [d_model, vocab], not tied to the embedding
    rotary: Rotary,
}

impl Gpt {
    fn new(run: &Run) -> Self {
        let device = run.device();
        let vocab = run.vocab_size();
        Gpt {
            embedding: Param::normal([vocab, D_MODEL], EMBEDDING_STD, device),
            blocks: (0..N_LAYER).map(|_| Block::new(device)).collect(),
            head: Param::normal([D_MODEL, vocab], HEAD_STD, device),
            rotary: Rotary::new(run.max_seq_len().max(SEQ_LEN), D_MODEL / N_HEAD, ROTARY_BASE, device),
        }
    }

    /// What the head reads.
    fn forward(&self, tokens: Tensor<2, Int>) -> Tensor<3> {
        let first = ops::rms_norm(ops::embedding(self.embedding.get(), tokens)); // [batch, seq, d_model]
        let mut x = first.clone(); // [batch, seq, d_model]
        for block in &self.blocks {
            x = block.forward(x, first.clone(), &self.rotary);
        }
        ops::rms_norm(x) // [batch, seq, d_model]
    }

    fn params(&mut self) -> Vec<&mut Param> {
        let mut params = vec![&mut self.embedding, &mut self.head];
        for block in &mut self.blocks {
            let Block { query, key, value, output, up, down, mix } = block;
            params.extend([query, key, value, output, up, down, mix]);
        }
        params
    }

    /// One step of every parameter: tables, head and scalars by AdamW, hidden matrices by Muon or AdamW.
    fn step(&mut self, rate: f64) {
        let adamw = |learning_rate| AdamW {
            learning_rate: learning_rate * rate,
            beta1: BETA1,
            beta2: BETA2,
            epsilon: 1e-8,
            weight_decay: 0.0,
        };
        let muon = Muon {
            learning_rate: MATRIX_LR * rate,
            momentum: MOMENTUM,
            weight_decay: WEIGHT_DECAY,
            orthogonaliser: if POLAR_EXPRESS {
                Orthogonaliser::PolarExpress
            } else {
                Orthogonaliser::NewtonSchulz
            },
        };
        adamw(EMBEDDING_LR).step(&mut self.embedding);
        adamw(HEAD_LR).step(&mut self.head);
        for block in &mut self.blocks {
            let Block { query, key, value, output, up, down, mix } = block;
            for matrix in [query, key, value, output, up, down] {
                if MUON {
                    muon.step(matrix);
                } else {
                    adamw(MATRIX_ADAMW_LR).step(matrix);
                }
            }
            adamw(SCALAR_LR).step(mix);
        }
    }
}

impl Model for Gpt {
    fn logits(&self, tokens: Tensor<2, Int>) -> Tensor<3> {
        let logits = ops::linear(self.forward(tokens), self.head.get()); // [batch, seq, vocab]
        ops::softcap(logits, SOFTCAP) // [batch, seq, vocab]
    }
}

/// Trains until the budget is spent, and returns the model that will be scored.
pub fn train(run: &mut Run) -> Result<Gpt, Stop> {
    run.set_precision(PRECISION)?;
    let mut model = Gpt::new(run);
    let matrices: usize =
        model.params().iter().map(|param| param.count()).sum::<usize>() - model.embedding.count();
    let parameters = matrices + model.embedding.count();
    run.report("parameters", parameters as f64)?;
    run.report("flops_per_token", ops::flops_per_token(matrices, N_LAYER, D_MODEL, SEQ_LEN))?;
    let micro_batch = BATCH_SIZE * SEQ_LEN;
    let moved =
        ops::bytes_per_token(parameters, micro_batch, GRAD_ACCUM, N_LAYER, D_MODEL, MLP_RATIO * D_MODEL);
    run.report("bytes_per_token", moved)?;

    'training: loop {
        let mut step_loss = 0.0; // nats a token
        let mut progress = 0.0;
        for _ in 0..GRAD_ACCUM {
            let Some(batch) = run.next_batch(BATCH_SIZE, SEQ_LEN)? else { break 'training };
            let hidden = model.forward(batch.inputs); // [batch, seq, d_model]
            let loss = ops::head_loss(hidden, model.head.get(), batch.targets, SOFTCAP); // [1]
            let mut gradients = loss.backward();
            for param in model.params() {
                param.accumulate(&mut gradients, 1.0 / GRAD_ACCUM as f64);
            }
            step_loss += loss.into_scalar::<f32>() / GRAD_ACCUM as f32;
            progress = batch.progress;
        }
        clip_gradients(&mut model.params(), CLIP_NORM);
        model.step(trapezoid(progress, WARMUP, WARMDOWN, LAST_LR));
        run.step(step_loss)?;
    }

    for param in model.params() {
        param.freeze();
    }
    Ok(model)
}
