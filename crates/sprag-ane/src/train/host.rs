//! What the host computes between programs, in single precision: activations are `[channels, seq]`, one channel after the other,
//! as surfaces have them.

use rayon::prelude::*;
use sprag_train::kernels::activation;
use sprag_train::kernels::memory::Buffer;
use sprag_train::kernels::vector::vectorised;

use crate::graphs::angle;

/// Added to mean squares before a root is taken.
pub const EPSILON: f32 = 1e-5;

/// Columns that a thread takes together.
const COLUMNS: usize = 64;

/// One over the root mean square of each column.
fn scales(x: &[f32], seq: usize) -> Vec<f32> {
    let rows = x.len() / seq.max(1);
    let mut sums = vec![0.0_f32; seq];
    sums.par_chunks_mut(COLUMNS).enumerate().for_each(|(at, sums)| {
        let first = at * COLUMNS;
        vectorised(
            #[inline(always)]
            || {
                for row in x.chunks_exact(seq) {
                    let row = &row[first..first + sums.len()];
                    sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += x * x);
                }
            },
        );
    });
    sums.iter().map(|sum| 1.0 / (sum / rows as f32 + EPSILON).sqrt()).collect()
}

/// `x / rms(x) * gain` over channels (Zhang and Sennrich, <https://arxiv.org/abs/1910.07467>).
pub fn norm(x: &[f32], gain: &[f32], seq: usize) -> Buffer {
    let scales = scales(x, seq);
    let mut out = Buffer::new(x.len());
    out.par_chunks_mut(seq).zip(x.par_chunks(seq)).zip(gain).for_each(|((out, x), gain)| {
        vectorised(
            #[inline(always)]
            || {
                for ((out, x), scale) in out.iter_mut().zip(x).zip(&scales) {
                    *out = x * scale * gain;
                }
            },
        );
    });
    out
}

/// Gradient of [`norm`] by `x`; adds the one by the gain to `by_gain`.
pub fn norm_backward(x: &[f32], gain: &[f32], dy: &[f32], by_gain: &mut [f32], seq: usize) -> Buffer {
    let scales = scales(x, seq);
    let rows = x.len() / seq.max(1);
    let mut along = vec![0.0_f32; seq];
    along.par_chunks_mut(COLUMNS).enumerate().for_each(|(at, along)| {
        let first = at * COLUMNS;
        vectorised(
            #[inline(always)]
            || {
                for ((x, dy), gain) in x.chunks_exact(seq).zip(dy.chunks_exact(seq)).zip(gain) {
                    let (x, dy) = (&x[first..first + along.len()], &dy[first..first + along.len()]);
                    along.iter_mut().zip(x).zip(dy).for_each(|((along, x), dy)| *along += x * dy * gain);
                }
            },
        );
    });
    // Of the whole: r (g dy - x (sum x g dy) r^2 / rows).
    let back: Vec<f32> =
        along.iter().zip(&scales).map(|(along, scale)| along * scale * scale * scale / rows as f32).collect();
    let mut out = Buffer::new(x.len());
    let inputs = x.par_chunks(seq).zip(dy.par_chunks(seq)).zip(gain).zip(by_gain);
    out.par_chunks_mut(seq).zip(inputs).for_each(|(out, (((x, dy), gain), by_gain))| {
        let mut sum = 0.0;
        for ((((out, x), dy), scale), back) in out.iter_mut().zip(x).zip(dy).zip(&scales).zip(&back) {
            *out = scale * gain * dy - x * back;
            sum += x * scale * dy;
        }
        *by_gain += sum;
    });
    out
}

/// `a + scale b`.
pub fn add(a: &[f32], b: &[f32], scale: f32) -> Buffer {
    let mut out = Buffer::new(a.len());
    let parts = a.par_chunks(16 * 1024).zip(b.par_chunks(16 * 1024));
    out.par_chunks_mut(16 * 1024).zip(parts).for_each(|(out, (a, b))| {
        vectorised(
            #[inline(always)]
            || out.iter_mut().zip(a).zip(b).for_each(|((out, a), b)| *out = scale.mul_add(*b, *a)),
        );
    });
    out
}

/// `scale x`.
pub fn scale(x: &[f32], by: f32) -> Buffer {
    let mut out = Buffer::new(x.len());
    out.iter_mut().zip(x).for_each(|(out, x)| *out = x * by);
    out
}

/// Gradients of `silu(h1) h3` by both.
pub fn swiglu_backward(h1: &[f32], h3: &[f32], dgate: &[f32]) -> [Buffer; 2] {
    let (mut by_h1, mut by_h3) = (Buffer::new(h1.len()), Buffer::new(h1.len()));
    by_h3.copy_from_slice(dgate);
    activation::swiglu_gradient(&mut by_h1, &mut by_h3, h1, h3);
    [by_h1, by_h3]
}

/// Each head of `[kv_heads dim, seq]` for `group` query heads.
pub fn repeat<T: Copy>(x: &[T], head: usize, group: usize) -> Vec<T> {
    x.chunks_exact(head).flat_map(|head| std::iter::repeat_n(head, group)).flatten().copied().collect()
}

/// Sums over `group` neighbouring heads.
pub fn gather(x: &[f32], head: usize, group: usize) -> Buffer {
    let mut out = Buffer::zeros(x.len() / group.max(1));
    for (out, heads) in out.chunks_exact_mut(head).zip(x.chunks_exact(head * group)) {
        for own in heads.chunks_exact(head) {
            out.iter_mut().zip(own).for_each(|(out, x)| *out += x);
        }
    }
    out
}

/// Cosines and sines of all positions, pair of channels after pair: `[dim / 2, seq]` each.
#[derive(Clone, Debug)]
pub struct Angles {
    cos: Vec<f32>,
    sin: Vec<f32>,
    seq: usize,
}

impl Angles {
    /// Of heads of so many channels.
    pub fn new(dim: usize, seq: usize) -> Angles {
        let all = (0..dim / 2).flat_map(|pair| (0..seq).map(move |position| angle(position, 2 * pair, dim)));
        let (cos, sin) = all.map(|angle| (angle.cos() as f32, angle.sin() as f32)).unzip();
        Angles { cos, sin, seq }
    }
}

/// Pairs of neighbouring channels turned back by the angle of their position: the transpose of turning.
pub fn turn_back(x: &[f32], Angles { cos, sin, seq }: &Angles) -> Buffer {
    let seq = *seq;
    let mut out = Buffer::new(x.len());
    let angles = cos.chunks_exact(seq).zip(sin.chunks_exact(seq)).collect::<Vec<_>>();
    out.par_chunks_mut(2 * seq).zip(x.par_chunks(2 * seq)).enumerate().for_each(|(pair, (out, x))| {
        let (cos, sin) = angles[pair % angles.len()];
        let ((even_out, odd_out), (even, odd)) = (out.split_at_mut(seq), x.split_at(seq));
        for position in 0..seq {
            let (sin, cos) = (sin[position], cos[position]);
            even_out[position] = even[position] * cos + odd[position] * sin;
            odd_out[position] = odd[position] * cos - even[position] * sin;
        }
    });
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize, seed: u32) -> Vec<f32> {
        (0..count).map(|at| ((at as u32 * 7919 + seed * 104_729) % 2003) as f32 / 1001.0 - 1.0).collect()
    }

    /// Slope of a sum of products along one number, by central differences in double steps.
    fn slope(f: impl Fn(&[f32]) -> f64, x: &[f32], at: usize) -> f64 {
        let step = 1e-2;
        let moved = |by: f32| {
            let mut x = x.to_vec();
            x[at] += by;
            f(&x)
        };
        (moved(step) - moved(-step)) / (2.0 * f64::from(step))
    }

    fn weighted(out: &[f32], by: &[f32]) -> f64 {
        out.iter().zip(by).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    }

    #[test]
    fn gradients_are_slopes() {
        let seq = 5;
        let (x, dy, gain) = (numbers(8 * seq, 1), numbers(8 * seq, 2), numbers(8, 3));
        let mut by_gain = vec![0.0; 8];
        let by_x = norm_backward(&x, &gain, &dy, &mut by_gain, seq);
        for at in [0, 7, 39] {
            let found = slope(|x| weighted(&norm(x, &gain, seq), &dy), &x, at);
            assert!((found - f64::from(by_x[at])).abs() < 2e-3, "{at}: {found} {}", by_x[at]);
        }
        for at in [0, 7] {
            let found = slope(|gain| weighted(&norm(&x, gain, seq), &dy), &gain, at);
            assert!((found - f64::from(by_gain[at])).abs() < 2e-3);
        }
        let (h1, h3, dgate) = (numbers(20, 4), numbers(20, 5), numbers(20, 6));
        let gate = |h1: &[f32], h3: &[f32]| -> Vec<f32> {
            h1.iter().zip(h3).map(|(a, b)| a / (1.0 + (-a).exp()) * b).collect()
        };
        let [by_h1, by_h3] = swiglu_backward(&h1, &h3, &dgate);
        for at in [0, 19] {
            let found = slope(|h1| weighted(&gate(h1, &h3), &dgate), &h1, at);
            assert!((found - f64::from(by_h1[at])).abs() < 1e-3);
            let found = slope(|h3| weighted(&gate(&h1, h3), &dgate), &h3, at);
            assert!((found - f64::from(by_h3[at])).abs() < 1e-3);
        }
    }

    #[test]
    fn heads_are_repeated_for_neighbours_and_gathered_from_them() {
        let repeated = repeat(&[1.0, 2.0, 3.0, 4.0], 2, 3);
        assert_eq!(repeated, [1.0, 2.0, 1.0, 2.0, 1.0, 2.0, 3.0, 4.0, 3.0, 4.0, 3.0, 4.0]);
        assert_eq!(gather(&repeated, 2, 3).to_vec(), [3.0, 6.0, 9.0, 12.0]);
    }

    #[test]
    fn turning_back_undoes_turning() {
        let (dim, seq) = (4, 7);
        let x = numbers(2 * dim * seq, 9);
        let mut turned = x.clone();
        for pair in 0..dim {
            for position in 0..seq {
                let angle = angle(position, 2 * pair % dim, dim);
                let (sin, cos) = (angle.sin() as f32, angle.cos() as f32);
                let (even, odd) = (x[2 * pair * seq + position], x[(2 * pair + 1) * seq + position]);
                turned[2 * pair * seq + position] = even * cos - odd * sin;
                turned[(2 * pair + 1) * seq + position] = odd * cos + even * sin;
            }
        }
        let back = turn_back(&turned, &Angles::new(dim, seq));
        assert!(back.iter().zip(&x).all(|(a, b)| (a - b).abs() < 1e-6));
    }
}
