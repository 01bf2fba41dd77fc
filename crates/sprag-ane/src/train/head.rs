//! The head: logits by the embedding, softcap, loss, and their gradients; on the host in one pass, or on the device.

use std::sync::Arc;

use rayon::prelude::*;
use sprag_train::kernels::loss::head_loss;
use sprag_train::kernels::memory::Buffer;
use sprag_train::kernels::{Matrix, MatrixMut, Precision, matmul};

use super::TrainError;
use super::layers::{halves, put, transposed, widen};
use crate::config::Config;
use crate::graphs::{Graphs, Rotary};
use crate::recipe::{Part, What};
use crate::runtime::{Request, Runtime, RuntimeError, Spent, Surface};

/// Where the head's own parts lie: on the first channel.
fn at(place: usize) -> Part {
    Part { what: What::Value(String::new()), channel: 0, place }
}

/// Losses of targets, and gradients times `learn` by the normed stream and, added, by the embedding.
pub fn on_host(
    hidden: &Buffer, // [d, seq]
    targets: &[usize],
    learn: Option<f32>,
    cap: f32,
    [d, seq, vocab]: [usize; 3],
    embedding: &[f32],
    by_embedding: &mut [f32],
) -> Result<(Vec<f32>, Buffer), TrainError> {
    let tokens = Matrix::new(hidden, d, seq).transposed();
    let head = Matrix::new(embedding, vocab, d).transposed();
    let Some(scale) = learn else {
        return Ok((losses(tokens, head, targets, cap), Buffer::new(0)));
    };
    let found = head_loss(tokens, head, targets, cap, Precision::Fp32);
    let by_head = transposed(&found.by_head, [d, vocab]);
    by_embedding.par_chunks_mut(64 * 1024).zip(by_head.par_chunks(64 * 1024)).for_each(|(sum, own)| {
        sum.iter_mut().zip(own).for_each(|(sum, own)| *sum += own * scale);
    });
    let mut by_hidden = transposed(&found.by_hidden, [seq, d]);
    by_hidden.iter_mut().for_each(|value| *value *= scale);
    // The mean is all that is asked of a training step.
    Ok((vec![found.loss; targets.len()], by_hidden))
}

/// The loss of each target, without gradients; a block of tokens at a time.
fn losses(tokens: Matrix<'_>, head: Matrix<'_>, targets: &[usize], cap: f32) -> Vec<f32> {
    let vocab = head.cols();
    let block = ((1 << 22) / vocab.max(1)).clamp(1, targets.len().max(1));
    let mut all = Vec::with_capacity(targets.len());
    let mut logits = Buffer::new(block * vocab);
    for first in (0..targets.len()).step_by(block) {
        let count = block.min(targets.len() - first);
        let own = &mut logits[..count * vocab];
        matmul(
            MatrixMut::new(own, count, vocab),
            tokens.rows_from(first, count),
            head,
            false,
            Precision::Fp32,
        );
        let rows = own.par_chunks(vocab).zip(&targets[first..first + count]);
        let found: Vec<f32> = rows
            .map(|(row, target)| {
                let bent = |logit: f32| if cap.is_finite() { cap * (logit / cap).tanh() } else { logit };
                let most = row.iter().map(|logit| bent(*logit)).fold(f32::NEG_INFINITY, f32::max);
                let sum: f32 = row.iter().map(|logit| (bent(*logit) - most).exp()).sum();
                most + sum.ln() - bent(row[*target])
            })
            .collect();
        all.extend(found);
    }
    all
}

/// The head on the device: one program forth (logits, softcap, softmax), one back.
pub struct Head {
    forth: Bound,
    back: Bound,
    cap: f32,
    sizes: [usize; 3],
}

struct Bound {
    input: Arc<dyn Surface>,
    output: Arc<dyn Surface>,
    request: Box<dyn Request>,
    places: usize,
}

impl Bound {
    fn new(
        runtime: &dyn Runtime,
        graph: &crate::graphs::Graph,
        places: usize,
    ) -> Result<Bound, RuntimeError> {
        let program = runtime.compile(&runtime.dialect(&graph.program), &graph.weights)?;
        let bytes = |ports: &[crate::runtime::Port]| ports.first().map_or(0, crate::runtime::Port::bytes);
        let (input, output) =
            (runtime.surface(bytes(program.inputs()))?, runtime.surface(bytes(program.outputs()))?);
        let request = program.bind(std::slice::from_ref(&input), std::slice::from_ref(&output))?;
        Ok(Bound { input, output, request, places })
    }

    /// Evaluates once, and reads what it gave.
    fn run(&mut self, count: usize, kernel: &str, back: bool) -> Result<(Buffer, Spent), TrainError> {
        let spent = self.request.evaluate()?;
        let bits = halves(self.output.as_ref(), count)?.ok_or_else(|| TrainError::NotFinite {
            kernel: kernel.to_owned(),
            place: "the head".to_owned(),
            back,
        })?;
        let mut out = Buffer::new(count);
        widen(&mut out, &bits);
        Ok((out, spent))
    }
}

/// Losses, gradient by the normed stream, and what the dispatches took.
type Ran = (Vec<f32>, Buffer, Vec<Spent>);

impl Head {
    /// Compiles both programs.
    pub fn new(runtime: &dyn Runtime, config: &Config, cap: f32) -> Result<Head, TrainError> {
        let graphs = Graphs::new(config, Rotary::Join);
        let sizes = [config.d_model, config.seq_len, config.vocab];
        let [d, seq, vocab] = sizes;
        let forth = Bound::new(runtime, &graphs.head(f64::from(cap))?, seq + vocab)?;
        let back = Bound::new(runtime, &graphs.linear("headBwd", vocab as u64, d as u64)?, seq + d)?;
        Ok(Head { forth, back, cap, sizes })
    }

    /// Puts the embedding into both inputs.
    pub fn stage(&self, embedding: &[f32]) -> Result<(), TrainError> {
        let [d, seq, vocab] = self.sizes;
        let turned = transposed(embedding, [vocab, d]);
        put(self.forth.input.as_ref(), self.forth.places, &at(seq), &turned, [d, vocab])?;
        put(self.back.input.as_ref(), self.back.places, &at(seq), embedding, [vocab, d])?;
        Ok(())
    }

    /// As [`on_host`].
    pub fn run(
        &mut self,
        hidden: &Buffer,
        targets: &[usize],
        learn: Option<f32>,
        by_embedding: &mut [f32],
    ) -> Result<Ran, TrainError> {
        let [d, seq, vocab] = self.sizes;
        put(self.forth.input.as_ref(), self.forth.places, &at(0), hidden, [d, seq])?;
        let (both, spent) = self.forth.run(2 * vocab * seq, "head", false)?;
        let mut spent = vec![spent];
        let (bent, probs) = both.split_at(vocab * seq);
        let losses = column_losses(bent, targets);
        let Some(scale) = learn else { return Ok((losses, Buffer::new(0), spent)) };
        let share = scale / seq as f32;
        let mut by_logits = Buffer::new(vocab * seq);
        by_logits.par_chunks_mut(seq).enumerate().for_each(|(row, out)| {
            for (token, out) in out.iter_mut().enumerate() {
                let at = row * seq + token;
                let own = probs[at] - f32::from(u8::from(targets[token] == row));
                let slope = match self.cap.is_finite() {
                    true => 1.0 - (bent[at] / self.cap) * (bent[at] / self.cap),
                    false => 1.0,
                };
                *out = own * slope * share;
            }
        });
        put(self.back.input.as_ref(), self.back.places, &at(0), &by_logits, [vocab, seq])?;
        let (by_hidden, back) = self.back.run(d * seq, "headBwd", true)?;
        spent.push(back);
        matmul(
            MatrixMut::new(by_embedding, vocab, d),
            Matrix::new(&by_logits, vocab, seq),
            Matrix::new(hidden, d, seq).transposed(),
            true,
            Precision::Fp32,
        );
        Ok((losses, by_hidden, spent))
    }
}

/// The loss of each target from logits `[vocab, seq]`, a row at a time. Probabilities in halves end at the smallest half, so the
/// loss comes from logits.
fn column_losses(logits: &[f32], targets: &[usize]) -> Vec<f32> {
    let seq = targets.len();
    let (mut most, mut sums) = (vec![f32::NEG_INFINITY; seq], vec![0.0_f32; seq]);
    for row in logits.chunks_exact(seq) {
        most.iter_mut().zip(row).for_each(|(most, logit)| *most = most.max(*logit));
    }
    for row in logits.chunks_exact(seq) {
        sums.iter_mut().zip(row).zip(&most).for_each(|((sum, logit), most)| *sum += (logit - most).exp());
    }
    let each = targets.iter().enumerate().zip(most.iter().zip(sums));
    each.map(|((token, target), (most, sum))| most + sum.ln() - logits[target * seq + token]).collect()
}
