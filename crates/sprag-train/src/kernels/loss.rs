//! The head, the softcap and the loss as one pass that never holds all logits (the idea of Cut
//! Cross-Entropy, Wijmans et al., <https://arxiv.org/abs/2411.09009>).
//!
//! A block of tokens at a time goes through the head, its loss, and the gradient of both.

use rayon::prelude::*;

use super::memory::Buffer;
use super::vector::{exp, largest, map_and_sum, tanh, vectorised};
use super::{Matrix, MatrixMut, Precision, Prepared, matmul};

/// Logits held at a time, about: 16 MiB. Fewer tokens a block would add to the head's gradient more often.
const LOGITS: usize = 1 << 22;

/// Up to this softcap the cap itself serves as the shift that keeps sums of exponentials in range: twice as
/// far below it they are still no denormals.
pub const LARGEST_SHIFT: f32 = 30.0;

/// Mean loss and its gradients.
#[derive(Debug)]
pub struct HeadLoss {
    /// Mean negative log-likelihood of the targets, in nats a token.
    pub loss: f32,
    /// Gradient of the mean by the hidden states, `[tokens, width]`.
    pub by_hidden: Buffer,
    /// Gradient of the mean by the head, `[width, vocab]`.
    pub by_head: Buffer,
}

/// Loss of `targets` under logits `cap tanh(hidden head / cap)`; an infinite cap leaves them alone.
///
/// # Panics
/// Shapes do not fit together, or a target is not below the number of columns of `head`.
pub fn head_loss(
    hidden: Matrix<'_>, // [tokens, width]
    head: Matrix<'_>,   // [width, vocab]
    targets: &[usize],  // [tokens]
    cap: f32,
    precision: Precision,
) -> HeadLoss {
    let (tokens, width, vocab) = (hidden.rows(), hidden.cols(), head.cols());
    assert!(targets.len() == tokens, "{} targets for {tokens} tokens", targets.len());
    for target in targets {
        assert!(*target < vocab, "target {target} of a vocabulary of {vocab}");
    }
    let (mut by_hidden, mut by_head) = (Buffer::new(tokens * width), Buffer::zeros(width * vocab));
    let block = (LOGITS / vocab).clamp(16, 1024).min(tokens.max(1));
    let mut logits = Buffer::new(block * vocab);
    let forth = Prepared::new(head, precision);
    let back = Prepared::new(head.transposed(), precision);
    let mut losses = vec![0.0_f32; tokens];
    let share = 1.0 / tokens.max(1) as f32;
    for first in (0..tokens).step_by(block) {
        let count = block.min(tokens - first);
        let hidden = hidden.rows_from(first, count);
        let logits = &mut logits[..count * vocab];
        forth.multiply(MatrixMut::new(logits, count, vocab), hidden, false);
        let rows = logits.par_chunks_mut(vocab).zip(&targets[first..]).zip(&mut losses[first..]);
        rows.for_each_init(
            || Buffer::new(vocab),
            |slopes, ((logits, target), loss)| {
                *loss = vectorised(
                    #[inline(always)]
                    || loss_and_gradient(logits, slopes, *target, cap, share),
                );
            },
        );
        let by_logits = Matrix::new(logits, count, vocab);
        let to = MatrixMut::new(&mut by_hidden[first * width..][..count * width], count, width);
        back.multiply(to, by_logits, false);
        matmul(MatrixMut::new(&mut by_head, width, vocab), hidden.transposed(), by_logits, true, precision);
    }
    let total: f64 = losses.iter().map(|loss| f64::from(*loss)).sum();
    HeadLoss { loss: (total / tokens.max(1) as f64) as f32, by_hidden, by_head }
}

/// Loss of one token; its logits become `share` times the gradient by them. `slopes` is for what is needed twice.
#[inline(always)]
fn loss_and_gradient(logits: &mut [f32], slopes: &mut [f32], target: usize, cap: f32, share: f32) -> f32 {
    let slopes = &mut slopes[..logits.len()];
    if cap.is_finite() {
        // The bend and its slope, 1 - tanh^2.
        let inverse = 1.0 / cap;
        for (logit, slope) in logits.iter_mut().zip(&mut *slopes) {
            let bent = tanh(*logit * inverse);
            *logit = cap * bent;
            *slope = bent.mul_add(-bent, 1.0);
        }
    } else {
        slopes.fill(1.0);
    }
    // A known bound serves as the shift that keeps `exp` finite.
    let peak = if cap <= LARGEST_SHIFT { cap } else { largest(logits) };
    let at_target = logits[target];
    let sum = map_and_sum(
        logits,
        #[inline(always)]
        |logit| exp(logit - peak),
    );
    // By a bent logit it is its probability, less one at the target.
    let part = share / sum;
    for (logit, slope) in logits.iter_mut().zip(&*slopes) {
        *logit *= part * slope;
    }
    logits[target] -= share * slopes[target];
    peak + sum.ln() - at_target
}

/// Puts the rows of `table` that `tokens` name into `out`.
///
/// # Panics
/// `out` has not a row for each token, or a token is not below the number of rows of `table`.
pub fn take_rows(out: &mut [f32], tokens: &[usize], table: Matrix<'_>) {
    let (vocab, width) = (table.rows(), table.cols());
    assert!(out.len() == tokens.len() * width);
    let share = super::rows_a_share(width);
    out.par_chunks_mut((share * width).max(1)).zip(tokens.par_chunks(share)).for_each(|(out, tokens)| {
        for (out, token) in out.chunks_exact_mut(width).zip(tokens) {
            assert!(*token < vocab, "token {token} of a vocabulary of {vocab}");
            out.copy_from_slice(&table.rows_from(*token, 1).data()[..width]);
        }
    });
}

/// Gradient of a look-up in a table: adds `gradient`'s rows to the rows of `out` that `tokens` name.
///
/// # Panics
/// Shapes do not fit together, or a token is not below the number of rows of `out`.
pub fn add_rows(out: &mut [f32], tokens: &[usize], gradient: &[f32], width: usize) {
    assert!(gradient.len() == tokens.len() * width);
    // Threads share the columns, so that no two write the same number.
    let parts = width.div_ceil(rayon::current_num_threads()).next_multiple_of(16);
    let rows = out.len() / width.max(1);
    let mut columns = MatrixMut::new(out, rows, width).split_cols(parts);
    columns.par_iter_mut().enumerate().for_each(|(part, out)| {
        vectorised(
            #[inline(always)]
            || {
                for (token, gradient) in tokens.iter().zip(gradient.chunks_exact(width)) {
                    let to = out.row(*token);
                    let from = &gradient[part * parts..][..to.len()];
                    for (to, from) in to.iter_mut().zip(from) {
                        *to += from;
                    }
                }
            },
        );
    });
}
