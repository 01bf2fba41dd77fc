//! Causal attention and its gradient, a block at a time: no thread ever holds more than a block of rows or columns of
//! the matrix of weights (the idea of FlashAttention, Dao et al., <https://arxiv.org/abs/2205.14135>).
//!
//! Blocks are of queries going forward, which leaves the logarithm of each query's sum of exponentials. From it the
//! weights are made again going back, where blocks are of keys: a block's weights then are the left factors of the
//! gradients by keys and values as they are.

use rayon::prelude::*;

use super::matmul::to_bf16;
use super::memory::Buffer;
use super::vector::{dot, exp, largest, map_and_sum, vectorised};
use super::{COLS_TOGETHER, Heads, Matrix, MatrixMut, Precision, Prepared, PreparedRows, matmul_alone};

/// Queries in a block going forward. With more of them, more weights are made of pairs that do not see each other; with
/// fewer, what is made ready serves less. Four of the kernels' tiles.
const QUERIES: usize = 48;
/// Keys in a block going back.
const KEYS: usize = 48;

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

/// A block of queries with the keys that any of them sees, or of keys with the queries that see any of them.
#[derive(Clone, Copy)]
struct Block {
    rows: (usize, usize),
    others: (usize, usize),
}

impl Block {
    fn count(&self) -> usize {
        self.rows.1 - self.rows.0
    }

    fn seen(&self) -> usize {
        self.others.1 - self.others.0
    }
}

impl Attention {
    fn blocks_of_queries(&self, seq: usize) -> impl Iterator<Item = Block> {
        (0..seq).step_by(QUERIES).map(move |first| {
            let end = (first + QUERIES).min(seq);
            // Keys that none of them sees may come first, so that all blocks share what is made ready of the keys.
            let seen = (first + 1).saturating_sub(self.window);
            Block { rows: (first, end), others: (seen - seen % COLS_TOGETHER, end) }
        })
    }

    fn blocks_of_keys(&self, seq: usize) -> impl Iterator<Item = Block> {
        (0..seq).step_by(KEYS).map(move |first| {
            let end = (first + KEYS).min(seq);
            let last_seeing = (end - 1).saturating_add(self.window).min(seq);
            // The same for queries.
            Block { rows: (first, end), others: (first - first % COLS_TOGETHER, last_seeing) }
        })
    }

    /// Where the keys that query `at` of a block sees lie in its row of weights.
    fn keys_of(&self, block: &Block, at: usize) -> std::ops::Range<usize> {
        let position = block.rows.0 + at;
        let first = (position + 1).saturating_sub(self.window);
        first - block.others.0..position + 1 - block.others.0
    }

    /// Where the queries that see key `at` of a block lie in its row of weights.
    fn queries_of(&self, block: &Block, at: usize) -> std::ops::Range<usize> {
        let position = block.rows.0 + at;
        let end = position.saturating_add(self.window).min(block.others.1);
        position - block.others.0..end - block.others.0
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
        let mut weights = Buffer::new(QUERIES * query.rows());
        let across_keys = Prepared::alone(key.transposed(), self.precision);
        let values = PreparedRows::new(value, self.precision);
        for block in self.blocks_of_queries(query.rows()) {
            let (count, seen) = (block.count(), block.seen());
            let weights = &mut weights[..count * seen];
            let queries = query.rows_from(block.rows.0, count);
            across_keys.multiply_alone(MatrixMut::new(weights, count, seen), queries, block.others.0);
            let log_sums = &mut log_sums[block.rows.0..block.rows.1];
            let mut parts = [0.0_f32; QUERIES];
            vectorised(
                #[inline(always)]
                || {
                    let rows = weights.chunks_exact_mut(seen).zip(log_sums).zip(&mut parts);
                    for (at, ((weights, log_sum), part)) in rows.enumerate() {
                        (*part, *log_sum) = exponentials(weights, self.keys_of(&block, at), self.scale);
                    }
                },
            );
            let mut out = out.rows_from(block.rows.0, count);
            values.multiply_alone(out.again(), Matrix::new(weights, count, seen), block.others.0, false);
            // Later than for the weights, of which there are more where many keys are seen.
            vectorised(
                #[inline(always)]
                || {
                    for (at, part) in parts.iter().enumerate().take(count) {
                        out.row(at).iter_mut().for_each(|number| *number *= part);
                    }
                },
            );
        }
    }

    /// Gradients by query, key and value, each `[rows, seq, heads or kv_heads, dim]`, from the one by the
    /// output, the output, and what [`forward`](Attention::forward) left.
    ///
    /// # Panics
    /// Shapes do not fit together.
    pub fn backward(
        &self,
        by: [&mut [f32]; 3],
        gradient: Heads<'_>,
        [output, query, key, value]: [Heads<'_>; 4],
        log_sums: &[f32],
    ) {
        let [rows, heads, seq] = query.shape();
        let (dim, value_dim, kv_heads) = (query.dim(), value.dim(), key.shape()[1]);
        let group = group_of(query, key, value);
        assert!(gradient.shape() == query.shape() && gradient.dim() == value_dim);
        assert!(output.shape() == query.shape() && output.dim() == value_dim);
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
            for (member, mut by_query) in by_query.again().split_cols(dim).into_iter().enumerate() {
                let head = kv_head * group + member;
                let log_sums = &log_sums[(row * heads + head) * seq..][..seq];
                let gradient = gradient.matrix(row, head);
                let along = products_of_rows(gradient, output.matrix(row, head), self.precision);
                let by = [&mut by_query, &mut *by_key, &mut *by_value];
                let inputs = [query.matrix(row, head), key, value];
                self.backward_head(by, gradient, inputs, [log_sums, &along], member > 0);
            }
        });
    }

    /// `along` is what each query's output has along the gradient by it. Adds to the gradients by keys and values, or
    /// writes them.
    fn backward_head(
        &self,
        [by_query, by_key, by_value]: [&mut MatrixMut<'_>; 3],
        gradient: Matrix<'_>,
        [query, key, value]: [Matrix<'_>; 3],
        [log_sums, along]: [&[f32]; 2],
        add: bool,
    ) {
        let (precision, seq) = (self.precision, query.rows());
        let (mut weights, mut by_scores) = (Buffer::new(KEYS * seq), Buffer::new(KEYS * seq));
        let across_queries = Prepared::alone(query.transposed(), precision);
        let across_gradients = Prepared::alone(gradient.transposed(), precision);
        let [queries, gradients] = [query, gradient].map(|matrix| PreparedRows::new(matrix, precision));
        // Blocks of keys add to these.
        (0..seq).for_each(|position| by_query.row(position).fill(0.0));
        for block in self.blocks_of_keys(seq) {
            let (count, seen) = (block.count(), block.seen());
            let ((first, _), (first_query, end_query)) = (block.rows, block.others);
            let (weights, by_scores) = (&mut weights[..count * seen], &mut by_scores[..count * seen]);
            let (keys, values) = (key.rows_from(first, count), value.rows_from(first, count));
            across_queries.multiply_alone(MatrixMut::new(weights, count, seen), keys, first_query);
            across_gradients.multiply_alone(MatrixMut::new(by_scores, count, seen), values, first_query);
            let [log_sums, along] = [log_sums, along].map(|numbers| &numbers[first_query..end_query]);
            vectorised(
                #[inline(always)]
                || {
                    let rows = weights.chunks_exact_mut(seen).zip(by_scores.chunks_exact_mut(seen));
                    for (at, (weights, by_scores)) in rows.enumerate() {
                        let visible = self.queries_of(&block, at);
                        scores_gradient(weights, by_scores, visible, [log_sums, along], self.scale);
                    }
                },
            );
            let [weights, by_scores] =
                [&*weights, &*by_scores].map(|numbers| Matrix::new(numbers, count, seen));
            gradients.multiply_alone(by_value.rows_from(first, count), weights, first_query, add);
            queries.multiply_alone(by_key.rows_from(first, count), by_scores, first_query, add);
            let to = by_query.rows_from(first_query, seen);
            matmul_alone(to, by_scores.transposed(), keys, true, precision);
        }
    }
}

/// What each row of `a` has along the same one of `b`, with `a` rounded as it is for products: then gradients by all
/// scores of a query cancel as they should.
fn products_of_rows(a: Matrix<'_>, b: Matrix<'_>, precision: Precision) -> Vec<f32> {
    let mut products = vec![0.0; a.rows()];
    let mut rounded = vec![0.0; a.cols()];
    vectorised(
        #[inline(always)]
        || {
            for (at, product) in products.iter_mut().enumerate() {
                let [a, b] = [a, b].map(|matrix| &matrix.data()[at * matrix.row_stride()..][..matrix.cols()]);
                for (rounded, a) in rounded.iter_mut().zip(a) {
                    *rounded = if precision == Precision::Bf16 { to_bf16(*a) } else { *a };
                }
                *product = dot(&rounded, b);
            }
        },
    );
    products
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

/// Scores of one query to their exponentials, of which the largest one that it sees is one; what it does not see is zero.
/// Returns one over their sum, and the logarithm of the sum of the scores' exponentials.
#[inline(always)]
fn exponentials(row: &mut [f32], visible: std::ops::Range<usize>, scale: f32) -> (f32, f32) {
    row[..visible.start].fill(0.0);
    row[visible.end..].fill(0.0);
    let row = &mut row[visible];
    let peak = largest(row) * scale;
    let sum = map_and_sum(
        row,
        #[inline(always)]
        |score| exp(score.mul_add(scale, -peak)),
    );
    (1.0 / sum, peak + sum.ln())
}

/// From the scores of one key and the gradients by its weights, a number for each query: the weights, and the gradients
/// by scores. For each query: the logarithm of its sum of exponentials, and what its output has along the gradient.
#[inline(always)]
fn scores_gradient(
    scores: &mut [f32],
    by_weights: &mut [f32],
    visible: std::ops::Range<usize>,
    [log_sums, along]: [&[f32]; 2],
    scale: f32,
) {
    for row in [&mut *scores, &mut *by_weights] {
        row[..visible.start].fill(0.0);
        row[visible.end..].fill(0.0);
    }
    let pairs = scores[visible.clone()].iter_mut().zip(&mut by_weights[visible.clone()]);
    for ((weight, by_score), (log_sum, along)) in
        pairs.zip(log_sums[visible.clone()].iter().zip(&along[visible]))
    {
        *weight = exp(weight.mul_add(scale, -log_sum));
        *by_score = *weight * (*by_score - along) * scale;
    }
}
