//! Functions of single numbers and sums, written so that the compiler makes vector instructions of them.
//!
//! Products and sums are fused (`mul_add`) where it counts. Every processor with AVX2 or NEON has an instruction
//! for it; older ones get the same numbers from a library function, slowly.

/// Runs `body` compiled for the processor at hand: AVX-512, AVX2, NEON, or what the binary was built for.
///
/// `body`, and all that it calls, must be inlined (`#[inline(always)]`, before a closure too), or it stays as
/// slow as it was, and slower where it fuses products and sums.
#[inline(always)]
pub fn vectorised<R>(body: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(body)
}

/// Sums that are kept side by side, so that none waits for another.
const LANES: usize = 32;

/// Puts `f` of each number in its place, and returns their sum.
#[inline(always)]
pub(super) fn map_and_sum(numbers: &mut [f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut sums = [0.0_f32; LANES];
    let (whole, rest) = numbers.as_chunks_mut::<LANES>();
    for numbers in whole {
        for lane in 0..LANES {
            numbers[lane] = f(numbers[lane]);
            sums[lane] += numbers[lane];
        }
    }
    for (sum, number) in sums.iter_mut().zip(rest) {
        *number = f(*number);
        *sum += *number;
    }
    folded(sums)
}

#[inline(always)]
fn folded(mut sums: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            sums[lane] += sums[lane + width];
        }
        width /= 2;
    }
    sums[0]
}

/// Sum of products.
#[inline(always)]
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a, b) = (a, &b[..a.len()]);
    let mut sums = [0.0_f32; LANES];
    let (whole_a, rest_a) = a.as_chunks::<LANES>();
    let (whole_b, rest_b) = b.as_chunks::<LANES>();
    for (a, b) in whole_a.iter().zip(whole_b) {
        for lane in 0..LANES {
            sums[lane] = a[lane].mul_add(b[lane], sums[lane]);
        }
    }
    for ((sum, a), b) in sums.iter_mut().zip(rest_a).zip(rest_b) {
        *sum = a.mul_add(*b, *sum);
    }
    folded(sums)
}

/// The largest number; NaN where one is not finite.
#[inline(always)]
pub(super) fn largest(numbers: &[f32]) -> f32 {
    // A NaN fails every comparison, so it is asked for apart, by a sum that it (and infinity) spoils.
    let mut peaks = [f32::NEG_INFINITY; LANES];
    let mut spoilt = [0.0_f32; LANES];
    let (whole, rest) = numbers.as_chunks::<LANES>();
    for numbers in whole {
        for lane in 0..LANES {
            peaks[lane] = if numbers[lane] > peaks[lane] { numbers[lane] } else { peaks[lane] };
            spoilt[lane] += numbers[lane] * 0.0;
        }
    }
    for ((peak, spoilt), number) in peaks.iter_mut().zip(&mut spoilt).zip(rest) {
        *peak = if *number > *peak { *number } else { *peak };
        *spoilt += number * 0.0;
    }
    let peak = peaks.into_iter().fold(f32::NEG_INFINITY, f32::max);
    if spoilt.iter().any(|spoilt| spoilt.is_nan()) { f32::NAN } else { peak }
}

/// `e^x` with a relative error below 2e-7, for `x` from -87 to 88; what lies outside is taken for the nearer
/// end. NaN stays NaN.
///
/// `x = n ln 2 + r` with `|r| <= ln 2 / 2`; `2^n` is made in the exponent, `e^r` by its Taylor polynomial.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    /// Adding it rounds to a whole number, which then stands in the low bits.
    const ROUND: f32 = 12_582_912.0;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = if x < -87.0 { -87.0 } else { x };
    let x = if x > 88.0 { 88.0 } else { x };
    let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = n.mul_add(-LN2_LOW, n.mul_add(-LN2_HIGH, x));
    let mut e = 1.0_f32 / 5040.0;
    for inverse in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        e = e.mul_add(r, inverse);
    }
    let two_to_n = f32::from_bits((shifted.to_bits() << 23).wrapping_add(1.0_f32.to_bits()));
    e * two_to_n
}

/// Hyperbolic tangent, with an absolute error below 2e-7.
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    1.0 - 2.0 / (exp(2.0 * x) + 1.0)
}

/// `1 / (1 + e^-x)`, with an absolute error below 2e-7.
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (exp(-x) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sweep() -> impl Iterator<Item = f32> {
        (-870..=880).map(|tenth| tenth as f32 * 0.1)
    }

    #[test]
    fn exp_is_right_to_the_last_bits() {
        for x in sweep() {
            let exact = f64::from(x).exp();
            let error = (f64::from(vectorised(|| exp(x))) / exact - 1.0).abs();
            assert!(error < 2e-7, "exp({x}) is off by {error:e}");
        }
        assert!(exp(f32::NAN).is_nan());
        assert!(exp(f32::NEG_INFINITY) < 1e-37 && exp(f32::INFINITY) > 1e38);
        assert_eq!(exp(0.0), 1.0);
    }

    #[test]
    fn tanh_and_sigmoid_are_right() {
        for x in sweep() {
            let x = x * 0.2;
            assert!((f64::from(tanh(x)) - f64::from(x).tanh()).abs() < 2e-7, "tanh({x})");
            let exact = 1.0 / (1.0 + (-f64::from(x)).exp());
            assert!((f64::from(sigmoid(x)) - exact).abs() < 2e-7, "sigmoid({x})");
        }
        assert!(tanh(f32::NAN).is_nan() && sigmoid(f32::NAN).is_nan());
    }

    #[test]
    fn sums_and_peaks_of_every_length() {
        for length in [0, 1, 31, 32, 33, 100] {
            let numbers: Vec<f32> = (0..length).map(|at| (at % 7) as f32 - 3.0).collect();
            let exact: f32 = numbers.iter().map(|number| number * number).sum();
            assert_eq!(vectorised(|| dot(&numbers, &numbers)), exact);
            let peak = numbers.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            assert_eq!(vectorised(|| largest(&numbers)), peak);
        }
        assert!(largest(&[1.0, f32::NAN, 2.0]).is_nan());
    }
}
