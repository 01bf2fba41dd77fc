//! The log-softmax: what a row of logits says about the token that came.
//!
//! Written so that the compiler vectorises it for any processor: no branches and no calls within the loops.
//! Blocks are summed in single precision, their sums in double.

/// Numbers handled side by side.
const LANES: usize = 16;

/// Numbers summed in single precision before the sum goes to double: keeps its relative error near 1e-7.
const BLOCK: usize = 512;

/// What a row of logits says about a token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Likelihood {
    /// Minus the natural logarithm of the token's probability.
    pub(super) nats: f64,
    /// The largest logit.
    pub(super) peak: f32,
}

/// `None` when a logit is not finite.
pub(super) fn likelihood(logits: &[f32], target: usize) -> Option<Likelihood> {
    let (peak, finite) = survey(logits);
    if !finite {
        return None;
    }
    let sum: f64 = logits.chunks(BLOCK).map(|block| f64::from(sum_exp(block, peak))).sum();
    let nats = f64::from(peak) - f64::from(logits[target]) + sum.ln();
    // Rounding can leave a certain token a hair below zero.
    Some(Likelihood { nats: nats.max(0.0), peak })
}

/// The largest logit, and whether all are finite.
fn survey(logits: &[f32]) -> (f32, bool) {
    let (chunks, rest) = logits.as_chunks::<LANES>();
    let mut peaks = [f32::MIN; LANES];
    // Zero times a finite number is zero; times any other it is NaN, which every sum keeps.
    let mut zeros = [0.0f32; LANES];
    for chunk in chunks {
        for lane in 0..LANES {
            peaks[lane] = if chunk[lane] > peaks[lane] { chunk[lane] } else { peaks[lane] };
            zeros[lane] += chunk[lane] * 0.0;
        }
    }
    let peak = peaks.iter().chain(rest).copied().fold(f32::MIN, f32::max);
    let finite = zeros.iter().all(|&zero| zero == 0.0) && rest.iter().all(|logit| logit.is_finite());
    (peak, finite)
}

fn sum_exp(logits: &[f32], peak: f32) -> f32 {
    let (chunks, rest) = logits.as_chunks::<LANES>();
    let mut sums = [0.0f32; LANES];
    for chunk in chunks {
        for lane in 0..LANES {
            sums[lane] += exp_of_negative(chunk[lane] - peak);
        }
    }
    sums.iter().sum::<f32>() + rest.iter().map(|logit| exp_of_negative(logit - peak)).sum::<f32>()
}

/// The exponential of `x <= 0`, to 2e-7 of its value; below -87 it is that of -87, which is 1e-38.
///
/// `x = n ln 2 + r` with whole `n` and `|r| <= ln 2 / 2`; the power of two goes into the exponent, the rest is
/// a Taylor polynomial. `n` is found by adding a number so large that its last bit counts ones.
#[inline(always)]
fn exp_of_negative(x: f32) -> f32 {
    const ROUNDER: f32 = 12_582_912.0; // 1.5 * 2^23
    const LN_2_HIGH: f32 = 0.693_359_4; // 9 bits, so that n * LN_2_HIGH is exact
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let x = if x > -87.0 { x } else { -87.0 };
    let shifted = x * std::f32::consts::LOG2_E + ROUNDER;
    let n = shifted - ROUNDER;
    let r = x - n * LN_2_HIGH - n * LN_2_LOW;
    let polynomial = 1.0 / 720.0;
    let polynomial = polynomial * r + 1.0 / 120.0;
    let polynomial = polynomial * r + 1.0 / 24.0;
    let polynomial = polynomial * r + 1.0 / 6.0;
    let polynomial = polynomial * r + 0.5;
    let polynomial = polynomial * r + 1.0;
    let polynomial = polynomial * r + 1.0;
    let power_of_two = f32::from_bits((shifted.to_bits() << 23).wrapping_add(0x3f80_0000));
    polynomial * power_of_two
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(logits: &[f32], target: usize) -> f64 {
        let peak = logits.iter().copied().fold(f32::MIN, f32::max);
        let sum: f64 = logits.iter().map(|&logit| (f64::from(logit) - f64::from(peak)).exp()).sum();
        f64::from(peak) + sum.ln() - f64::from(logits[target])
    }

    fn wave(len: usize, scale: f32, offset: f32) -> Vec<f32> {
        (0..len).map(|i| ((i * i) as f32 * 0.37).sin() * scale + offset).collect()
    }

    #[test]
    fn exp_is_right_to_a_few_parts_in_ten_million() {
        for step in 0..87_000 {
            let x = -(step as f32) * 1e-3;
            let error = f64::from(exp_of_negative(x)) / f64::from(x).exp() - 1.0;
            assert!(error.abs() < 2.5e-7, "exp({x}) is off by {error:e}");
        }
        assert!(exp_of_negative(f32::MIN) < 2e-38 && exp_of_negative(f32::NEG_INFINITY) < 2e-38);
    }

    #[test]
    fn agrees_with_double_precision_at_every_length_and_scale() {
        for len in [1, 2, 15, 16, 17, 256, 4096, 50_257] {
            for (scale, offset) in [(0.0, 0.0), (1.0, 0.0), (15.0, -3.0), (40.0, 1000.0), (0.01, -5e4)] {
                let logits = wave(len, scale, offset);
                for target in [0, len / 2, len - 1] {
                    let got = likelihood(&logits, target).unwrap().nats;
                    let expected = reference(&logits, target);
                    assert!((got - expected).abs() < 1e-6, "{len} {scale} {offset}: {got} for {expected}");
                }
            }
        }
    }

    #[test]
    fn a_number_that_is_not_finite_is_found_wherever_it_stands() {
        for len in [1, 16, 37, 4096] {
            for at in [0, len / 2, len - 1] {
                for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                    let mut logits = wave(len, 5.0, 0.0);
                    logits[at] = bad;
                    assert_eq!(likelihood(&logits, 0), None, "{bad} at {at} of {len}");
                }
            }
        }
    }

    #[test]
    fn extremes_of_the_range_are_answered() {
        let certain = likelihood(&[f32::MAX, f32::MIN, 0.0], 0).unwrap();
        assert_eq!(certain, Likelihood { nats: 0.0, peak: f32::MAX });
        assert!(likelihood(&[f32::MAX, f32::MIN], 1).unwrap().nats > 1e38);
    }
}
