//! Rotary position embeddings (Su et al., <https://arxiv.org/abs/2104.09864>) of queries and keys that are
//! brought to unit root mean square, in one pass.
//!
//! Turning does not change lengths, so it does not matter which comes first.

use rayon::prelude::*;

use super::norm::{scale_of, turn_into_gradient};
use super::vector::vectorised;
use super::{Heads, rows_a_share};

/// Cosines and sines by position and pair: `[positions, dim / 2]` each.
#[derive(Clone, Copy, Debug)]
pub struct Angles<'a> {
    /// Cosines.
    pub cos: &'a [f32],
    /// Sines.
    pub sin: &'a [f32],
}

impl<'a> Angles<'a> {
    #[inline(always)]
    fn at(&self, position: usize, half: usize) -> (&'a [f32], &'a [f32]) {
        (&self.cos[position * half..][..half], &self.sin[position * half..][..half])
    }
}

/// `out = turn(x / rms(x)) * scale`, vector by vector; `out` is `[rows, seq, heads, dim]` in memory.
///
/// # Panics
/// `out` is not as long as `x` has numbers, or there are fewer angles than positions.
pub fn rotary_norm(out: &mut [f32], x: Heads<'_>, angles: Angles<'_>, scale: f32) {
    let half = x.dim() / 2;
    each_vector(
        out,
        x,
        #[inline(always)]
        |out, [row, head, position]| {
            let x = x.vector(row, head, position);
            let (cos, sin) = angles.at(position, half);
            let scale = scale_of(x) * scale;
            let ((left, right), (out_left, out_right)) = (x.split_at(half), out.split_at_mut(half));
            for i in 0..half {
                let (l, r) = (left[i] * scale, right[i] * scale);
                out_left[i] = l * cos[i] - r * sin[i];
                out_right[i] = l * sin[i] + r * cos[i];
            }
        },
    );
}

/// Gradient by `x` of [`rotary_norm`], in the same layout as its output.
///
/// # Panics
/// As [`rotary_norm`], or the shapes differ.
pub fn rotary_norm_gradient(
    out: &mut [f32],
    x: Heads<'_>,
    gradient: Heads<'_>,
    angles: Angles<'_>,
    scale: f32,
) {
    assert!(x.shape() == gradient.shape() && x.dim() == gradient.dim());
    let half = x.dim() / 2;
    each_vector(
        out,
        x,
        #[inline(always)]
        |out, [row, head, position]| {
            let (cos, sin) = angles.at(position, half);
            let (left, right) = gradient.vector(row, head, position).split_at(half);
            let (back_left, back_right) = out.split_at_mut(half);
            for i in 0..half {
                back_left[i] = (left[i] * cos[i] + right[i] * sin[i]) * scale;
                back_right[i] = (right[i] * cos[i] - left[i] * sin[i]) * scale;
            }
            let x = x.vector(row, head, position);
            turn_into_gradient(out, x, scale_of(x));
        },
    );
}

/// Calls `f` with each vector of `out`, which lies in memory as `[rows, seq, heads, dim]`, and with its row, head
/// and position.
fn each_vector(out: &mut [f32], like: Heads<'_>, f: impl Fn(&mut [f32], [usize; 3]) + Sync) {
    let [rows, heads, seq] = like.shape();
    let dim = like.dim();
    assert!(out.len() == rows * heads * seq * dim);
    if out.is_empty() {
        return;
    }
    let share = rows_a_share(heads * dim);
    out.par_chunks_mut(share * heads * dim).enumerate().for_each(|(number, out)| {
        vectorised(
            #[inline(always)]
            || {
                for (at, out) in out.chunks_exact_mut(dim).enumerate() {
                    let (line, head) = (number * share + at / heads, at % heads);
                    f(out, [line / seq, head, line % seq]);
                }
            },
        );
    });
}
