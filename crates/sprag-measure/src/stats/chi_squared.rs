//! The chi-squared distribution: how far an estimated variance lies from the true one.
//!
//! Own code for the reason that `distribution` gives; checked against scipy in `tests/reference.rs`.

use std::f64::consts::PI;

use super::distribution::{STIRLING_FROM, ln_gamma, stirling_rest};

/// Probability that chi-squared with that many degrees of freedom is at most `x`.
///
/// The regularised incomplete gamma function P(df/2, x/2), Abramowitz and Stegun 26.4.19. NaN unless the degrees
/// of freedom are positive and finite.
pub fn chi_squared_cdf(x: f64, degrees_of_freedom: f64) -> f64 {
    if x.is_nan() || !valid(degrees_of_freedom) {
        return f64::NAN;
    }
    Tails::of(degrees_of_freedom / 2.0, x / 2.0).lower()
}

/// The `x` below which chi-squared lies with probability `p`; `None` unless 0 < p < 1 and 0 < df < ∞.
///
/// With s² estimated from `df` degrees of freedom, `df s² / quantile(1 - α/2)` and `df s² / quantile(α/2)` are
/// the ends of the interval of the variance at level 1 - α (Box, Hunter and Hunter, "Statistics for
/// Experimenters", 2nd edition, section 3.1; it assumes normal samples and is not robust against others).
///
/// ```
/// let x = sprag_measure::stats::chi_squared_quantile(0.95, 4.0).unwrap();
/// assert!((x - 9.487729036781154).abs() < 1e-12);
/// ```
pub fn chi_squared_quantile(p: f64, degrees_of_freedom: f64) -> Option<f64> {
    if !(p > 0.0 && p < 1.0 && valid(degrees_of_freedom)) {
        return None;
    }
    let a = degrees_of_freedom / 2.0;
    // The smaller tail keeps the digits of its probability.
    let below = |x: f64| {
        let tails = Tails::of(a, x / 2.0);
        if p < 0.5 { tails.lower() < p } else { tails.upper() > 1.0 - p }
    };
    // Positive numbers are in the order of their bits: bisecting those takes as many steps for tiny ones.
    let (mut low, mut high) = (0, f64::MAX.to_bits());
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if below(f64::from_bits(middle)) {
            low = middle;
        } else {
            high = middle;
        }
    }
    Some(f64::from_bits(high))
}

fn valid(degrees_of_freedom: f64) -> bool {
    degrees_of_freedom > 0.0 && degrees_of_freedom.is_finite()
}

/// The tail of the gamma distribution that was computed; the other one is its complement.
enum Tails {
    Lower(f64),
    Upper(f64),
}

impl Tails {
    /// Below `a + 1` the series of Abramowitz and Stegun 6.5.29 converges fast, above it the continued fraction
    /// 6.5.31 in its even part, by Lentz's method as modified by Thompson and Barnett (1986).
    fn of(a: f64, x: f64) -> Tails {
        if x <= 0.0 {
            return Tails::Lower(0.0);
        }
        if x.is_infinite() {
            return Tails::Upper(0.0);
        }
        let front = front(a, x);
        if front == 0.0 {
            return if x < a { Tails::Lower(0.0) } else { Tails::Upper(0.0) };
        }
        if x < a + 1.0 {
            Tails::Lower((front * series(a, x)).min(1.0))
        } else {
            Tails::Upper((front * fraction(a, x)).min(1.0))
        }
    }

    fn lower(&self) -> f64 {
        match self {
            Tails::Lower(lower) => *lower,
            Tails::Upper(upper) => 1.0 - upper,
        }
    }

    fn upper(&self) -> f64 {
        match self {
            Tails::Lower(lower) => 1.0 - lower,
            Tails::Upper(upper) => *upper,
        }
    }
}

/// x^a e^-x / Γ(a).
fn front(a: f64, x: f64) -> f64 {
    if a < STIRLING_FROM {
        return (a * x.ln() - x - ln_gamma(a)).exp();
    }
    // The logarithms are large and nearly equal: take Stirling's formula out of all three of them.
    let apart = (x - a) / a;
    let exponent = a * (apart - apart.ln_1p()) + stirling_rest(a);
    (a / (2.0 * PI)).sqrt() * (-exponent).exp()
}

/// Σ x^n / (a (a + 1) ... (a + n)).
fn series(a: f64, x: f64) -> f64 {
    let (mut term, mut sum, mut next) = (1.0 / a, 1.0 / a, a + 1.0);
    while term > sum * 1e-17 {
        term *= x / next;
        sum += term;
        next += 1.0;
    }
    sum
}

/// 1/(x + 1 - a - 1 (1 - a)/(x + 3 - a - 2 (2 - a)/(x + 5 - a - ...))).
fn fraction(a: f64, x: f64) -> f64 {
    const TINY: f64 = 1e-300;
    let nonzero = |value: f64| if value.abs() < TINY { TINY } else { value };
    let mut base = x + 1.0 - a;
    let mut c = 1.0 / TINY;
    let mut d = 1.0 / nonzero(base);
    let mut value = d;
    for n in 1..10_000_000 {
        let n = f64::from(n);
        let numerator = n * (a - n);
        base += 2.0;
        d = 1.0 / nonzero(base + numerator * d);
        c = nonzero(base + numerator / c);
        let step = d * c;
        value *= step;
        if (step - 1.0).abs() < 1e-16 {
            break;
        }
    }
    value
}
