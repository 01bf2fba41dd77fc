//! Weighted sums of two activations.

use rayon::prelude::*;

use super::SHARE;
use super::vector::{dot, vectorised};

/// `out = weights[0] a + weights[1] b`.
///
/// # Panics
/// The slices are not equally long.
pub fn mix(out: &mut [f32], a: &[f32], b: &[f32], weights: [f32; 2]) {
    assert!(out.len() == a.len() && out.len() == b.len());
    let parts = out.par_chunks_mut(SHARE).zip(a.par_chunks(SHARE)).zip(b.par_chunks(SHARE));
    parts.for_each(|((out, a), b)| {
        vectorised(
            #[inline(always)]
            || {
                for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
                    *out = weights[0] * a + weights[1] * b;
                }
            },
        );
    });
}

/// From the gradient by [`mix`]'s output: the ones by `a` and `b`, and by the weights, which is returned.
///
/// # Panics
/// The slices are not equally long.
pub fn mix_gradient(
    by: [&mut [f32]; 2],
    gradient: &[f32],
    [a, b]: [&[f32]; 2],
    weights: [f32; 2],
) -> [f32; 2] {
    let [by_a, by_b] = by;
    assert!([by_a.len(), by_b.len(), a.len(), b.len()] == [gradient.len(); 4]);
    let results = by_a.par_chunks_mut(SHARE).zip(by_b.par_chunks_mut(SHARE));
    let inputs = gradient.par_chunks(SHARE).zip(a.par_chunks(SHARE)).zip(b.par_chunks(SHARE));
    let sums = results.zip(inputs).map(|((by_a, by_b), ((gradient, a), b))| {
        vectorised(
            #[inline(always)]
            || {
                for ((by_a, by_b), gradient) in by_a.iter_mut().zip(by_b).zip(gradient) {
                    *by_a = weights[0] * gradient;
                    *by_b = weights[1] * gradient;
                }
                [dot(a, gradient), dot(b, gradient)].map(f64::from)
            },
        )
    });
    // Added up in order, whoever was first.
    let sums: Vec<_> = sums.collect();
    [0, 1].map(|which| sums.iter().map(|sum| sum[which]).sum::<f64>() as f32)
}
