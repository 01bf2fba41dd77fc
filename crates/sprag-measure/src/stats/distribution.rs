//! Student's t and the normal distribution, to more than the nine digits that an interval can use.
//! Chi-squared lies beside it, in `chi_squared`.
//!
//! Own code, because only this corner of a statistics library is needed; checked against tabulated values.

use std::f64::consts::{PI, SQRT_2};

/// Probability that Student's t with that many degrees of freedom is at most `t`.
///
/// Infinite degrees of freedom are the normal distribution; none, or fewer, give NaN.
/// Through the regularised incomplete beta function, Abramowitz and Stegun 26.7.1.
pub fn student_t_cdf(t: f64, degrees_of_freedom: f64) -> f64 {
    if t.is_nan() || degrees_of_freedom.is_nan() || degrees_of_freedom <= 0.0 {
        return f64::NAN;
    }
    // Beyond this the two agree to more digits than either is computed to.
    if degrees_of_freedom > 1e10 {
        return normal_cdf(t);
    }
    if t.is_infinite() {
        return if t > 0.0 { 1.0 } else { 0.0 };
    }
    let square = t * t;
    let x = degrees_of_freedom / (degrees_of_freedom + square);
    let complement = square / (degrees_of_freedom + square);
    let tail = incomplete_beta(degrees_of_freedom / 2.0, 0.5, x, complement) / 2.0;
    if t > 0.0 { 1.0 - tail } else { tail }
}

/// The `t` below which Student's t lies with probability `p`; `None` unless 0 < p < 1 and df > 0.
///
/// ```
/// let t = sprag_measure::stats::student_t_quantile(0.975, 4.0).unwrap();
/// assert!((t - 2.776445105).abs() < 1e-8);
/// ```
pub fn student_t_quantile(p: f64, degrees_of_freedom: f64) -> Option<f64> {
    if degrees_of_freedom.is_nan() || degrees_of_freedom <= 0.0 {
        return None;
    }
    quantile(p, |t| student_t_cdf(t, degrees_of_freedom))
}

/// Probability that a standard normal variable is at most `z`.
pub fn normal_cdf(z: f64) -> f64 {
    if z.is_nan() {
        return f64::NAN;
    }
    let tail = normal_tail(z.abs());
    if z > 0.0 { 1.0 - tail } else { tail }
}

/// The `z` below which a standard normal variable lies with probability `p`; `None` unless 0 < p < 1.
pub fn normal_quantile(p: f64) -> Option<f64> {
    quantile(p, normal_cdf)
}

/// Inverts a distribution that is symmetric about zero: bracket by doubling, then bisect to the last bit.
///
/// Works on the lower tail, where a small probability keeps its digits.
fn quantile(p: f64, cdf: impl Fn(f64) -> f64) -> Option<f64> {
    if !(p > 0.0 && p < 1.0) {
        return None;
    }
    if p == 0.5 {
        return Some(0.0);
    }
    let tail = p.min(1.0 - p);
    let (mut low, mut high) = (-1.0, 0.0);
    while cdf(low) > tail {
        high = low;
        low *= 2.0;
        if low == f64::NEG_INFINITY {
            return None;
        }
    }
    loop {
        let middle = f64::midpoint(low, high);
        if middle <= low || middle >= high {
            break;
        }
        if cdf(middle) < tail {
            low = middle;
        } else {
            high = middle;
        }
    }
    Some(if p < 0.5 { high } else { -high })
}

/// Upper tail of the standard normal for `z >= 0`: the series of the error function near zero, the continued
/// fraction of its complement beyond (Abramowitz and Stegun 7.1.6 and 26.2.14).
fn normal_tail(z: f64) -> f64 {
    if z > 39.0 {
        return 0.0;
    }
    let density = (-z * z / 2.0).exp() / (2.0 * PI).sqrt();
    if z < 3.0 {
        let (mut term, mut sum, mut n) = (z, z, 1.0);
        while term > sum * 1e-17 {
            term *= z * z / (2.0 * n + 1.0);
            sum += term;
            n += 1.0;
        }
        return 0.5 - density * sum;
    }
    let mut fraction = z;
    for n in (1..=100).rev() {
        fraction = z + f64::from(n) / fraction;
    }
    density / fraction
}

/// Regularised incomplete beta function I_x(a, b), with `y = 1 - x` given apart to keep its digits.
///
/// Continued fraction of Abramowitz and Stegun 26.5.8, evaluated by Lentz's method as modified by Thompson and
/// Barnett (1986); the symmetry I_x(a, b) = 1 - I_y(b, a) picks the side on which it converges fast.
fn incomplete_beta(a: f64, b: f64, x: f64, y: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    if y <= 0.0 {
        return 1.0;
    }
    let front = (ln_gamma_ratio(a, b) + a * ln_of_complement(y, x) + b * ln_of_complement(x, y)).exp();
    if x < (a + 1.0) / (a + b + 2.0) {
        front * beta_fraction(a, b, x) / a
    } else {
        1.0 - front * beta_fraction(b, a, y) / b
    }
}

/// ln y where y = 1 - x, from whichever of the two is exact.
fn ln_of_complement(x: f64, y: f64) -> f64 {
    if x < 0.5 { (-x).ln_1p() } else { y.ln() }
}

fn beta_fraction(a: f64, b: f64, x: f64) -> f64 {
    const TINY: f64 = 1e-300;
    let nonzero = |value: f64| if value.abs() < TINY { TINY } else { value };
    let mut c = 1.0;
    let mut d = 1.0 / nonzero(1.0 - (a + b) * x / (a + 1.0));
    let mut fraction = d;
    for m in 1..100_000 {
        let m = f64::from(m);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        d = 1.0 / nonzero(1.0 + even * d);
        c = nonzero(1.0 + even / c);
        fraction *= d * c;
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        d = 1.0 / nonzero(1.0 + odd * d);
        c = nonzero(1.0 + odd / c);
        let step = d * c;
        fraction *= step;
        if (step - 1.0).abs() < 1e-16 {
            break;
        }
    }
    fraction
}

/// Natural logarithm of Student's density with that many degrees of freedom at `t`, at location 0 and scale 1.
///
/// At location `m` and scale `s` the caller takes it at `(t - m) / s` and subtracts `ln s`. Infinite degrees of
/// freedom are the normal distribution; none, or fewer, give NaN. (Abramowitz and Stegun 26.7.1 and 26.2.1; the
/// density is the derivative of what is integrated there.)
///
/// ```
/// let cauchy = sprag_measure::stats::student_t_ln_pdf(1.0, 1.0);
/// assert!((cauchy - (0.5 / std::f64::consts::PI).ln()).abs() < 1e-14);
/// ```
pub fn student_t_ln_pdf(t: f64, degrees_of_freedom: f64) -> f64 {
    if t.is_nan() || degrees_of_freedom.is_nan() || degrees_of_freedom <= 0.0 {
        return f64::NAN;
    }
    if degrees_of_freedom > 1e10 {
        return -0.5 * (t * t + (2.0 * PI).ln());
    }
    let square = t * t / degrees_of_freedom;
    // Beyond this the square would overflow, and the one beside it adds nothing.
    let kernel = if t.abs() > 1e100 { 2.0 * t.abs().ln() - degrees_of_freedom.ln() } else { square.ln_1p() };
    ln_gamma_ratio(degrees_of_freedom / 2.0, 0.5)
        - 0.5 * degrees_of_freedom.ln()
        - f64::midpoint(degrees_of_freedom, 1.0) * kernel
}

/// ln(Γ(a + b) / (Γ(a) Γ(b))).
fn ln_gamma_ratio(a: f64, b: f64) -> f64 {
    // For large `a` the logarithms are huge and nearly equal: expand their difference instead.
    if a > 1e4 && b == 0.5 {
        // ln Γ(a + 1/2) - ln Γ(a), Abramowitz and Stegun 6.1.47.
        let inverse = 1.0 / a;
        let ratio = 1.0 - inverse / 8.0 + inverse.powi(2) / 128.0 + 5.0 * inverse.powi(3) / 1024.0;
        return 0.5 * a.ln() + ratio.ln() - 0.5 * PI.ln();
    }
    ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b)
}

/// ln Γ(x) for x > 0: shift upwards by the recurrence, then Stirling's series (Abramowitz and Stegun 6.1.41).
pub(super) fn ln_gamma(x: f64) -> f64 {
    let (mut shifted, mut product) = (x, 1.0);
    while shifted < STIRLING_FROM {
        product *= shifted;
        shifted += 1.0;
    }
    (shifted - 0.5) * shifted.ln() - shifted + (PI.sqrt() * SQRT_2).ln() + stirling_rest(shifted)
        - product.ln()
}

/// From here on [`stirling_rest`] is exact to the last digits.
pub(super) const STIRLING_FROM: f64 = 15.0;

/// What Stirling's formula leaves of ln Γ(x): ln Γ(x) - (x - 1/2) ln x + x - ln √(2π), for x of at least
/// [`STIRLING_FROM`] (Abramowitz and Stegun 6.1.41).
pub(super) fn stirling_rest(x: f64) -> f64 {
    let inverse = 1.0 / x;
    let square = inverse * inverse;
    let coefficients =
        [1.0 / 12.0, -1.0 / 360.0, 1.0 / 1260.0, -1.0 / 1680.0, 1.0 / 1188.0, -691.0 / 360_360.0];
    coefficients.iter().rev().fold(0.0, |sum, coefficient| sum * square + coefficient) * inverse
}
