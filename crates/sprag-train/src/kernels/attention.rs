//! Causal attention and its gradient, a block of queries at a time: no thread ever holds more than a block of
//! rows of the matrix of weights (the idea of FlashAttention, Dao et al., <https://arxiv.org/abs/2205.14135>).
//!
//! Going forward leaves the logarithm of each query's sum of exponentials; from it the weights are made again
//! going back.

use rayon::prelude::*;

use super::memory::Buffer;
use super::vector::{dot, exp, largest, map_and_sum, vectorised};
use super::{COLS_TOGETHER, Heads, Matrix, MatrixMut, Precision, Prepared, matmul_alone};

/// Queries in a block: its weights over 512 keys are 128 KiB and stay in the cache.
const BLOCK: usize = 64;

/// What all heads have in common.
#[derive(Clone, Copy, Debug)]
pub struct Attention {
    /// Tokens that a token sees, itself included. At least one.
    pub window: usize,
    /// What products of queries and keys are multiplied with.
    pub scale: f32,
    /// Of the matrix products.
    pub precision: Precision,
}

/// A block of queries with the keys that any of them sees.
#[derive(Clone, Copy)]
struct Block {
    queries: (usize, usize),
    keys: (usize, usize),
}

impl Block {
    fn count(&self) -> usize {
        self.queries.1 - self.queries.0
    }

    fn seen(&self) -> usize {
        self.keys.1 - self.keys.0
    }
}

impl Attention {
    fn blocks(&self, seq: usize) -> impl Iterator<Item = Block> {
        (0..seq).step_by(BLOCK).map(move |first| {
            let end = (first + BLOCK).min(seq);
            // Keys that none of them sees may come first, so that all blocks share what is made ready of the keys.
            let seen = (first + 1).saturating_sub(self.window);
            Block { queries: (first, end), keys: (seen - seen % COLS_TOGETHER, end) }
        })
    }

    /// Where the keys that query `at` of a block sees lie in its row of weights.
    fn visible(&self, block: &Block, at: usize) -> std::ops::Range<usize> {
        let position = block.queries.0 + at;
        let first = (position + 1).saturating_sub(self.window);
        first - block.keys.0..position + 1 - block.keys.0
    }

    /// `out[rows, seq, heads, dim]`, and the logarithm of each query's sum of exponentials `[rows, heads, seq]`.
    ///
    /// # Panics
    /// Shapes do not fit together.
    pub fn forward(
        &self,
        out: &mut [f32],
        log_sums: &mut [f32],
        query: Heads<'_>,
        key: Heads<'_>,
        value: Heads<'_>,
    ) {
        let [rows, heads, seq] = query.shape();
        let dim = value.dim();
        let group = group_of(query, key, value);
        assert!(log_sums.len() == rows * heads * seq);
        if seq == 0 {
            return;
        }
        let out = MatrixMut::new(out, rows * seq, heads * dim);
        let heads_of_out = out.split_rows(seq).into_iter().flat_map(|row| row.split_cols(dim));
        let mut tasks: Vec<_> = heads_of_out.zip(log_sums.chunks_mut(seq)).enumerate().collect();
        tasks.par_iter_mut().with_max_len(1).for_each(|(number, (out, log_sums))| {
            let (row, head) = (*number / heads, *number % heads);
            let query = query.matrix(row, head);
            let (key, value) = (key.matrix(row, head / group), value.matrix(row, head / group));
            self.forward_head(out, log_sums, query, key, value);
        });
    }

    fn forward_head(
        &self,
        out: &mut MatrixMut<'_>,
        log_sums: &mut [f32],
        query: Matrix<'_>,
        key: Matrix<'_>,
        value: Matrix<'_>,
    ) {
        let mut weights = Buffer::new(BLOCK * query.rows());
        let keys = Prepared::alone(key.transposed(), self.precision);
        for block in self.blocks(query.rows()) {
            let (count, seen) = (block.count(), block.seen());
            let weights = &mut weights[..count * seen];
            let queries = query.rows_from(block.queries.0, count);
            keys.multiply_alone(MatrixMut::new(weights, count, seen), queries, block.keys.0);
            let log_sums = &mut log_sums[block.queries.0..block.queries.1];
            vectorised(
                #[inline(always)]
                || {
                    for (at, (weights, log_sum)) in weights.chunks_exact_mut(seen).zip(log_sums).enumerate() {
                        *log_sum = softmax(weights, self.visible(&block, at), self.scale);
                    }
                },
            );
            let values = value.rows_from(block.keys.0, seen);
            let out = out.rows_from(block.queries.0, count);
            matmul_alone(out, Matrix::new(weights, count, seen), values, false, self.precision);
        }
    }

    /// Gradients by query, key and value, each `[rows, seq, heads or kv_heads, dim]`, from the one by the
    /// output.
    ///
    /// # Panics
    /// Shapes do not fit together.
    pub fn backward(
        &self,
        by: [&mut [f32]; 3],
        gradient: Heads<'_>,
        log_sums: &[f32],
        [query, key, value]: [Heads<'_>; 3],
    ) {
        let [rows, heads, seq] = query.shape();
        let (dim, value_dim, kv_heads) = (query.dim(), value.dim(), key.shape()[1]);
        let group = group_of(query, key, value);
        assert!(gradient.shape() == query.shape() && gradient.dim() == value_dim);
        assert!(log_sums.len() == rows * heads * seq);
        if seq == 0 {
            return;
        }
        let [by_query, by_key, by_value] = by;
        let cut = |numbers, width: usize, part: usize| {
            let rows_of_batch = MatrixMut::new(numbers, rows * seq, width).split_rows(seq).into_iter();
            rows_of_batch.flat_map(move |row| row.split_cols(part))
        };
        let by_query = cut(by_query, heads * dim, group * dim);
        let by_key = cut(by_key, kv_heads * dim, dim);
        let by_value = cut(by_value, kv_heads * value_dim, value_dim);
        let mut tasks: Vec<_> = by_query.zip(by_key).zip(by_value).enumerate().collect();
        tasks.par_iter_mut().with_max_len(1).for_each(|(number, ((by_query, by_key), by_value))| {
            let (row, kv_head) = (*number / kv_heads, *number % kv_heads);
            let (key, value) = (key.matrix(row, kv_head), value.matrix(row, kv_head));
            // Blocks of queries, of all heads of the group, add to these.
            for position in 0..seq {
                by_key.row(position).fill(0.0);
                by_value.row(position).fill(0.0);
            }
            for (member, mut by_query) in by_query.again().split_cols(dim).into_iter().enumerate() {
                let head = kv_head * group + member;
                let log_sums = &log_sums[(row * heads + head) * seq..][..seq];
                let (query, gradient) = (query.matrix(row, head), gradient.matrix(row, head));
                let by = [&mut by_query, &mut *by_key, &mut *by_value];
                self.backward_head(by, gradient, log_sums, [query, key, value]);
            }
        });
    }

    fn backward_head(
        &self,
        [by_query, by_key, by_value]: [&mut MatrixMut<'_>; 3],
        gradient: Matrix<'_>,
        log_sums: &[f32],
        [query, key, value]: [Matrix<'_>; 3],
    ) {
        let precision = self.precision;
        let (mut weights, mut by_weights) =
            (Buffer::new(BLOCK * query.rows()), Buffer::new(BLOCK * query.rows()));
        let across_keys = Prepared::alone(key.transposed(), precision);
        let across_values = Prepared::alone(value.transposed(), precision);
        for block in self.blocks(query.rows()) {
            let (count, seen) = (block.count(), block.seen());
            let (weights, by_weights) = (&mut weights[..count * seen], &mut by_weights[..count * seen]);
            let (first, first_key) = (block.queries.0, block.keys.0);
            let queries = query.rows_from(first, count);
            let gradients = gradient.rows_from(first, count);
            let keys = key.rows_from(first_key, seen);
            across_keys.multiply_alone(MatrixMut::new(weights, count, seen), queries, first_key);
            across_values.multiply_alone(MatrixMut::new(by_weights, count, seen), gradients, first_key);
            vectorised(
                #[inline(always)]
                || {
                    let rows = weights.chunks_exact_mut(seen).zip(by_weights.chunks_exact_mut(seen));
                    for (at, ((weights, by_weights), log_sum)) in rows.zip(&log_sums[first..]).enumerate() {
                        let visible = self.visible(&block, at);
                        scores_gradient(weights, by_weights, visible, *log_sum, self.scale);
                    }
                },
            );
            let (weights, by_scores) =
                (Matrix::new(weights, count, seen), Matrix::new(by_weights, count, seen));
            let to = by_value.rows_from(first_key, seen);
            matmul_alone(to, weights.transposed(), gradients, true, precision);
            matmul_alone(by_query.rows_from(first, count), by_scores, keys, false, precision);
            let to = by_key.rows_from(first_key, seen);
            matmul_alone(to, by_scores.transposed(), queries, true, precision);
        }
    }
}

/// Query heads that share a key head.
fn group_of(query: Heads<'_>, key: Heads<'_>, value: Heads<'_>) -> usize {
    let ([rows, heads, seq], [key_rows, kv_heads, key_seq]) = (query.shape(), key.shape());
    assert!(key.shape() == value.shape() && rows == key_rows && seq == key_seq && query.dim() == key.dim());
    assert!(
        kv_heads > 0 && heads.is_multiple_of(kv_heads),
        "{heads} query heads cannot share {kv_heads} key heads"
    );
    heads / kv_heads
}

/// Scores of one query to weights: what it sees sums to one, what it does not is zero. Returns the logarithm
/// of the sum of exponentials.
#[inline(always)]
fn softmax(row: &mut [f32], visible: std::ops::Range<usize>, scale: f32) -> f32 {
    row[..visible.start].fill(0.0);
    row[visible.end..].fill(0.0);
    let row = &mut row[visible];
    let peak = largest(row) * scale;
    let sum = map_and_sum(
        row,
        #[inline(always)]
        |score| exp(score.mul_add(scale, -peak)),
    );
    let part = 1.0 / sum;
    for weight in row.iter_mut() {
        *weight *= part;
    }
    peak + sum.ln()
}

/// From the scores and the gradient by weights of one query: the weights, and the gradient by scores.
#[inline(always)]
fn scores_gradient(
    scores: &mut [f32],
    by_weights: &mut [f32],
    visible: std::ops::Range<usize>,
    log_sum: f32,
    scale: f32,
) {
    for row in [&mut *scores, &mut *by_weights] {
        row[..visible.start].fill(0.0);
        row[visible.end..].fill(0.0);
    }
    let (weights, by_scores) = (&mut scores[visible.clone()], &mut by_weights[visible]);
    for weight in weights.iter_mut() {
        *weight = exp(weight.mul_add(scale, -log_sum));
    }
    let mean = dot(weights, by_scores);
    for (weight, by_score) in weights.iter().zip(by_scores) {
        *by_score = weight * (*by_score - mean) * scale;
    }
}
