//! Root-mean-square norm of rows (Zhang and Sennrich, <https://arxiv.org/abs/1910.07467>), without a gain.

use rayon::prelude::*;

use super::rows_a_share;
use super::vector::{dot, vectorised};

/// Added to mean squares before a root is taken.
pub const EPSILON: f32 = 1e-6;

/// What a row is multiplied with.
#[inline(always)]
pub(super) fn scale_of(row: &[f32]) -> f32 {
    1.0 / (dot(row, row) / row.len() as f32 + EPSILON).sqrt()
}

/// `out = x / rms(x)` for each row of `width` numbers.
///
/// # Panics
/// The slices are not equally long.
pub fn rms_norm(out: &mut [f32], x: &[f32], width: usize) {
    assert!(out.len() == x.len());
    let share = rows_a_share(width) * width;
    out.par_chunks_mut(share).zip(x.par_chunks(share)).for_each(|(out, x)| {
        vectorised(
            #[inline(always)]
            || {
                for (out, x) in out.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
                    let scale = scale_of(x);
                    for (out, x) in out.iter_mut().zip(x) {
                        *out = x * scale;
                    }
                }
            },
        );
    });
}

/// `out = ..`, or `out += ..` to `accumulate`: the gradient by `x` of [`rms_norm`], from the one by its output.
///
/// # Panics
/// The slices are not equally long.
pub fn rms_norm_gradient(out: &mut [f32], x: &[f32], gradient: &[f32], width: usize, accumulate: bool) {
    assert!(out.len() == x.len() && out.len() == gradient.len());
    let share = rows_a_share(width) * width;
    let rows = out.par_chunks_mut(share).zip(x.par_chunks(share)).zip(gradient.par_chunks(share));
    rows.for_each(|((out, x), gradient)| {
        vectorised(
            #[inline(always)]
            || {
                let rows = out.chunks_exact_mut(width).zip(x.chunks_exact(width));
                for ((out, x), gradient) in rows.zip(gradient.chunks_exact(width)) {
                    let scale = scale_of(x);
                    let along = along(x, gradient, scale);
                    for ((out, x), gradient) in out.iter_mut().zip(x).zip(gradient) {
                        let by = scale * (gradient - x * along);
                        *out = if accumulate { *out + by } else { by };
                    }
                }
            },
        );
    });
}

/// What the gradient by a normed row has along the row `x`, whose scale is `scale`.
#[inline(always)]
fn along(x: &[f32], gradient: &[f32], scale: f32) -> f32 {
    dot(x, gradient) / x.len() as f32 * scale * scale
}

/// Turns the gradient by a normed row into the one by the row, `s (g - x s^2 mean(x g))`, with its scale `s`.
#[inline(always)]
pub(super) fn turn_into_gradient(gradient: &mut [f32], x: &[f32], scale: f32) {
    let along = along(x, gradient, scale);
    for (gradient, x) in gradient.iter_mut().zip(x) {
        *gradient = scale * (*gradient - x * along);
    }
}
