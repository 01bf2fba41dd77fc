//! What stands between the matrices of an MLP, and how its gradient goes back.

use rayon::prelude::*;

use super::SHARE;
use super::vector::{sigmoid, tanh, vectorised};

/// A function of single numbers between matrices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `max(x, 0)^2` (So et al., <https://arxiv.org/abs/2109.08668>).
    SquaredRelu,
    /// `x` times about the probability that a normal variable is below it, by a hyperbolic tangent (Hendrycks and
    /// Gimpel, <https://arxiv.org/abs/1606.08415>).
    Gelu,
    /// `x sigmoid(x)` (Elfwing et al., <https://arxiv.org/abs/1702.03118>).
    Silu,
}

/// `out = f(x)`.
///
/// # Panics
/// The slices are not equally long.
pub fn activate(out: &mut [f32], x: &[f32], f: Activation) {
    match f {
        Activation::SquaredRelu => map(out, x, |x| positive(x) * positive(x)),
        Activation::Gelu => map(out, x, gelu),
        Activation::Silu => map(out, x, |x| x * sigmoid(x)),
    }
}

/// Turns the gradient by the output of [`activate`] into the one by its input.
///
/// # Panics
/// The slices are not equally long.
pub fn activate_gradient(gradient: &mut [f32], x: &[f32], f: Activation) {
    match f {
        Activation::SquaredRelu => scale_by(gradient, x, |x| 2.0 * positive(x)),
        Activation::Gelu => scale_by(gradient, x, gelu_slope),
        Activation::Silu => scale_by(gradient, x, silu_slope),
    }
}

#[inline(always)]
fn map(out: &mut [f32], x: &[f32], f: impl Fn(f32) -> f32 + Sync) {
    assert!(out.len() == x.len());
    out.par_chunks_mut(SHARE).zip(x.par_chunks(SHARE)).for_each(|(out, x)| {
        vectorised(
            #[inline(always)]
            || {
                for (out, x) in out.iter_mut().zip(x) {
                    *out = f(*x);
                }
            },
        );
    });
}

#[inline(always)]
fn scale_by(gradient: &mut [f32], x: &[f32], slope: impl Fn(f32) -> f32 + Sync) {
    assert!(gradient.len() == x.len());
    gradient.par_chunks_mut(SHARE).zip(x.par_chunks(SHARE)).for_each(|(gradient, x)| {
        vectorised(
            #[inline(always)]
            || {
                for (gradient, x) in gradient.iter_mut().zip(x) {
                    *gradient *= slope(*x);
                }
            },
        );
    });
}

/// sqrt(2 / pi), and the coefficient of the cube, both of Hendrycks and Gimpel.
const GELU: (f32, f32) = (0.797_884_6, 0.044_715);

/// As `(1 + tanh(y)) / 2 = sigmoid(2 y)`, which keeps its digits where it is small.
#[inline(always)]
fn gelu(x: f32) -> f32 {
    let (root, cube) = GELU;
    x * sigmoid(2.0 * root * x * (cube * x).mul_add(x, 1.0))
}

#[inline(always)]
fn gelu_slope(x: f32) -> f32 {
    let (root, cube) = GELU;
    let open = sigmoid(2.0 * root * x * (cube * x).mul_add(x, 1.0));
    open + x * open * (1.0 - open) * 2.0 * root * (3.0 * cube * x).mul_add(x, 1.0)
}

#[inline(always)]
fn silu_slope(x: f32) -> f32 {
    let open = sigmoid(x);
    open + x * open * (1.0 - open)
}

/// Zero where `x` is negative; NaN stays NaN.
#[inline(always)]
fn positive(x: f32) -> f32 {
    if x < 0.0 { 0.0 } else { x }
}

/// `out = silu(gate) * x` (Shazeer, <https://arxiv.org/abs/2002.05202>).
///
/// # Panics
/// The slices are not equally long.
pub fn swiglu(out: &mut [f32], gate: &[f32], x: &[f32]) {
    assert!(out.len() == gate.len() && out.len() == x.len());
    let parts = out.par_chunks_mut(SHARE).zip(gate.par_chunks(SHARE)).zip(x.par_chunks(SHARE));
    parts.for_each(|((out, gate), x)| {
        vectorised(
            #[inline(always)]
            || {
                for ((out, gate), x) in out.iter_mut().zip(gate).zip(x) {
                    *out = gate * sigmoid(*gate) * x;
                }
            },
        );
    });
}

/// Turns the gradient by [`swiglu`]'s output into the one by `x`, and writes the one by `gate`.
///
/// # Panics
/// The slices are not equally long.
pub fn swiglu_gradient(by_gate: &mut [f32], gradient: &mut [f32], gate: &[f32], x: &[f32]) {
    assert!(by_gate.len() == gate.len() && gradient.len() == gate.len() && x.len() == gate.len());
    let results = by_gate.par_chunks_mut(SHARE).zip(gradient.par_chunks_mut(SHARE));
    results.zip(gate.par_chunks(SHARE).zip(x.par_chunks(SHARE))).for_each(
        |((by_gate, gradient), (gate, x))| {
            vectorised(
                #[inline(always)]
                || {
                    let results = by_gate.iter_mut().zip(gradient);
                    for ((by_gate, gradient), (gate, x)) in results.zip(gate.iter().zip(x)) {
                        let open = sigmoid(*gate);
                        let silu = gate * open;
                        *by_gate = *gradient * x * (open + silu * (1.0 - open));
                        *gradient *= silu;
                    }
                },
            );
        },
    );
}

/// `out = cap tanh(x / cap)` (Gemma 2, <https://arxiv.org/abs/2408.00118>).
///
/// # Panics
/// The slices are not equally long.
pub fn softcap(out: &mut [f32], x: &[f32], cap: f32) {
    assert!(out.len() == x.len());
    let inverse = 1.0 / cap;
    out.par_chunks_mut(SHARE).zip(x.par_chunks(SHARE)).for_each(|(out, x)| {
        vectorised(
            #[inline(always)]
            || {
                for (out, x) in out.iter_mut().zip(x) {
                    *out = cap * tanh(x * inverse);
                }
            },
        );
    });
}

/// Gradient by the input of [`softcap`], from its output `bent` and the gradient by it.
///
/// # Panics
/// The slices are not equally long.
pub fn softcap_gradient(out: &mut [f32], bent: &[f32], gradient: &[f32], cap: f32) {
    assert!(out.len() == bent.len() && out.len() == gradient.len());
    let inverse = 1.0 / cap;
    let inputs = bent.par_chunks(SHARE).zip(gradient.par_chunks(SHARE));
    out.par_chunks_mut(SHARE).zip(inputs).for_each(|(out, (bent, gradient))| {
        vectorised(
            #[inline(always)]
            || {
                for (out, (bent, gradient)) in out.iter_mut().zip(bent.iter().zip(gradient)) {
                    let part = bent * inverse;
                    *out = gradient * (1.0 - part * part);
                }
            },
        );
    });
}
