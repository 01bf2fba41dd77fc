//! Optimiser steps, each in one pass over its numbers.

use rayon::prelude::*;

use super::vector::{dot, vectorised};
use super::{Matrix, MatrixMut, Precision, SHARE, matmul};
use crate::kernels::memory::Buffer;

/// The numbers of one step of AdamW, with the corrections for its start folded in.
#[derive(Clone, Copy, Debug)]
pub struct AdamW {
    /// Parts of the old and of the new in the running mean of gradients. Together one, which their rounded values
    /// need not be.
    pub mean: [f32; 2],
    /// The same for the running mean of their squares.
    pub square: [f32; 2],
    /// Learning rate over the part of the mean that is there yet.
    pub mean_scale: f32,
    /// One over the root of the part of the squares that is there yet.
    pub root_scale: f32,
    /// Added to the root of the squares.
    pub epsilon: f32,
    /// Part of the value that weight decay leaves.
    pub kept: f32,
}

/// Updates `value`, `mean` and `square` with `gradient`.
///
/// # Panics
/// The slices are not equally long.
pub fn adamw(value: &mut [f32], mean: &mut [f32], square: &mut [f32], gradient: &[f32], step: AdamW) {
    assert!(value.len() == gradient.len() && mean.len() == gradient.len() && square.len() == gradient.len());
    let memory = mean.par_chunks_mut(SHARE).zip(square.par_chunks_mut(SHARE));
    let values = value.par_chunks_mut(SHARE).zip(gradient.par_chunks(SHARE));
    values.zip(memory).for_each(|((value, gradient), (mean, square))| {
        vectorised(
            #[inline(always)]
            || {
                let memory = mean.iter_mut().zip(square);
                for ((value, gradient), (mean, square)) in value.iter_mut().zip(gradient).zip(memory) {
                    *mean = *mean * step.mean[0] + gradient * step.mean[1];
                    *square = *square * step.square[0] + gradient * gradient * step.square[1];
                    let root = square.sqrt() * step.root_scale + step.epsilon;
                    *value = *value * step.kept - *mean * step.mean_scale / root;
                }
            },
        );
    });
}

/// Updates `momentum` with `gradient`, which then becomes Nesterov's look ahead: where the momentum is going.
///
/// # Panics
/// The slices are not equally long.
pub fn nesterov(momentum: &mut [f32], gradient: &mut [f32], decay: f32) {
    assert!(momentum.len() == gradient.len());
    momentum.par_chunks_mut(SHARE).zip(gradient.par_chunks_mut(SHARE)).for_each(|(momentum, gradient)| {
        vectorised(
            #[inline(always)]
            || {
                for (momentum, gradient) in momentum.iter_mut().zip(gradient) {
                    *momentum = *momentum * decay + *gradient * (1.0 - decay);
                    *gradient = *gradient * (1.0 - decay) + *momentum * decay;
                }
            },
        );
    });
}

/// `to = kept to - rate from`.
///
/// # Panics
/// The slices are not equally long.
pub fn step(to: &mut [f32], from: &[f32], kept: f32, rate: f32) {
    assert!(to.len() == from.len());
    to.par_chunks_mut(SHARE).zip(from.par_chunks(SHARE)).for_each(|(to, from)| {
        vectorised(
            #[inline(always)]
            || {
                for (to, from) in to.iter_mut().zip(from) {
                    *to = *to * kept - from * rate;
                }
            },
        );
    });
}

/// Multiplies all numbers.
pub fn scale(numbers: &mut [f32], by: f32) {
    numbers.par_chunks_mut(SHARE).for_each(|numbers| {
        vectorised(
            #[inline(always)]
            || {
                for number in numbers.iter_mut() {
                    *number *= by;
                }
            },
        );
    });
}

/// Sum of squares, the same each time.
pub fn sum_of_squares(numbers: &[f32]) -> f64 {
    let parts = numbers.par_chunks(SHARE).map(|part| {
        f64::from(vectorised(
            #[inline(always)]
            || dot(part, part),
        ))
    });
    // Added up in order, whoever was first.
    parts.collect::<Vec<_>>().into_iter().sum()
}

/// Brings a wide matrix (`rows <= cols`) near the closest orthogonal one, by iterations `X <- a X + b (X Xt) X
/// + c (X Xt)^2 X` from `X / (safety |X| + 1e-7)`.
///
/// # Panics
/// `matrix` has not `rows * cols` numbers.
pub fn orthogonalise(
    mut matrix: Buffer,
    [rows, cols]: [usize; 2],
    iterations: &[(f64, f64, f64)],
    safety: f64,
    precision: Precision,
) -> Buffer {
    assert!(matrix.len() == rows * cols);
    // The Frobenius norm bounds the largest singular value.
    let norm = sum_of_squares(&matrix).sqrt() * safety + 1e-7;
    scale(&mut matrix, (1.0 / norm) as f32);
    let (mut next, mut gram, mut mixed) =
        (Buffer::new(rows * cols), Buffer::new(rows * rows), Buffer::new(rows * rows));
    for &(a, b, c) in iterations {
        let x = Matrix::new(&matrix, rows, cols);
        matmul(MatrixMut::new(&mut gram, rows, rows), x, x.transposed(), false, precision);
        let g = Matrix::new(&gram, rows, rows);
        // a 1 + b G + c G^2, so that one product with X is all that is left.
        matmul(MatrixMut::new(&mut mixed, rows, rows), g, g, false, precision);
        step(&mut mixed, &gram, c as f32, -b as f32);
        mixed.iter_mut().step_by(rows + 1).for_each(|number| *number += a as f32);
        let to = MatrixMut::new(&mut next, rows, cols);
        matmul(to, Matrix::new(&mixed, rows, rows), x, false, precision);
        std::mem::swap(&mut matrix, &mut next);
    }
    matrix
}
