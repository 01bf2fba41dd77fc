//! Summaries of few samples, with their intervals: what a verdict and a report rest on.
//!
//! Raw samples go in and are kept by the caller. No sample, one sample and no spread are answers of
//! their own (`None`, or an interval of width zero), never a made-up number.

mod chi_squared;
mod distribution;
mod trend;

pub use chi_squared::{chi_squared_cdf, chi_squared_quantile};
pub use distribution::{normal_cdf, normal_quantile, student_t_cdf, student_t_ln_pdf, student_t_quantile};
pub use trend::{mann_kendall, theil_sen};

use serde::{Deserialize, Serialize};

/// An estimate with a two-sided confidence interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The point estimate.
    pub estimate: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Confidence level, for example 0.95.
    pub level: f64,
    /// Samples (or pairs) it rests on.
    pub n: usize,
}

impl Interval {
    /// Half of its width: what follows `±`.
    pub fn half_width(&self) -> f64 {
        (self.high - self.low) / 2.0
    }

    /// True when the value lies inside, ends included.
    pub fn contains(&self, value: f64) -> bool {
        self.low <= value && value <= self.high
    }
}

/// A standard deviation estimated from several groups together.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pooled {
    /// The standard deviation of one sample.
    pub sd: f64,
    /// Degrees of freedom: samples minus groups that had any.
    pub degrees_of_freedom: usize,
}

/// Arithmetic mean; `None` without samples.
///
/// Computed about the first sample, which keeps the digits when the spread is small beside the mean.
pub fn mean(samples: &[f64]) -> Option<f64> {
    let first = *samples.first()?;
    if !first.is_finite() {
        return Some(samples.iter().sum::<f64>() / samples.len() as f64);
    }
    Some(first + samples.iter().map(|sample| sample - first).sum::<f64>() / samples.len() as f64)
}

/// Standard deviation with divisor n - 1; `None` below two samples.
///
/// Two-pass with the correction term of Chan, Golub and LeVeque, "Algorithms for Computing the Sample
/// Variance" (The American Statistician, 1983), formula 1.7.
///
/// ```
/// use sprag_measure::stats::sample_sd;
/// assert_eq!(sample_sd(&[1.0, 3.0]), Some(2f64.sqrt()));
/// assert_eq!(sample_sd(&[1.0]), None);
/// ```
pub fn sample_sd(samples: &[f64]) -> Option<f64> {
    let degrees_of_freedom = samples.len().checked_sub(1).filter(|count| *count > 0)?;
    Some((sum_of_squares(samples) / degrees_of_freedom as f64).sqrt())
}

/// Sum of squared deviations from the mean; zero below two samples.
fn sum_of_squares(samples: &[f64]) -> f64 {
    let Some(mean) = mean(samples) else { return 0.0 };
    let squares: f64 = samples.iter().map(|sample| (sample - mean).powi(2)).sum();
    let residue: f64 = samples.iter().map(|sample| sample - mean).sum();
    let corrected = squares - residue * residue / samples.len() as f64;
    if corrected < 0.0 { 0.0 } else { corrected }
}

/// Standard deviation common to groups whose means may differ; `None` when no group has two samples.
///
/// The usual pooled estimator: sums of squares about each group's own mean over the summed degrees of
/// freedom (Box, Hunter and Hunter, "Statistics for Experimenters", 2nd edition, section 3.2).
pub fn pooled_sd<'a>(groups: impl IntoIterator<Item = &'a [f64]>) -> Option<Pooled> {
    let (mut squares, mut degrees_of_freedom) = (0.0, 0);
    for group in groups.into_iter().filter(|group| group.len() > 1) {
        squares += sum_of_squares(group);
        degrees_of_freedom += group.len() - 1;
    }
    (degrees_of_freedom > 0)
        .then(|| Pooled { sd: (squares / degrees_of_freedom as f64).sqrt(), degrees_of_freedom })
}

/// Middle sample, or the mean of the two middle ones; `None` without samples.
pub fn median(samples: &[f64]) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    Some(f64::midpoint(sorted[sorted.len() / 2 - 1], upper))
}

/// Median absolute deviation from the median, unscaled; `None` without samples.
///
/// Multiply by [`MAD_TO_SD`] to compare it with a standard deviation under normality.
pub fn median_absolute_deviation(samples: &[f64]) -> Option<f64> {
    let centre = median(samples)?;
    let deviations: Vec<f64> = samples.iter().map(|sample| (sample - centre).abs()).collect();
    median(&deviations)
}

/// 1 / Φ⁻¹(3/4): makes the median absolute deviation consistent for a normal distribution (Rousseeuw and
/// Croux, "Alternatives to the Median Absolute Deviation", JASA 1993).
pub const MAD_TO_SD: f64 = 1.482_602_218_505_602;

/// Student's interval of the mean; `None` below two samples or for a level outside (0, 1).
///
/// Zero spread gives an interval of width zero: that is what the samples say, and the caller, who knows the
/// noise floor, must judge whether to believe it. (Student, "The Probable Error of a Mean", Biometrika 1908.)
pub fn mean_interval(samples: &[f64], level: f64) -> Option<Interval> {
    let sd = sample_sd(samples)?;
    let degrees_of_freedom = (samples.len() - 1) as f64;
    interval(mean(samples)?, sd / (samples.len() as f64).sqrt(), degrees_of_freedom, level, samples.len())
}

/// Interval about an estimate of known standard error and degrees of freedom (infinite: normal).
///
/// `None` for a level outside (0, 1), no degrees of freedom, or a standard error that is not a number.
pub fn interval(
    estimate: f64,
    standard_error: f64,
    degrees_of_freedom: f64,
    level: f64,
    n: usize,
) -> Option<Interval> {
    if !(level > 0.0 && level < 1.0) || standard_error.is_nan() {
        return None;
    }
    let quantile = student_t_quantile(f64::midpoint(1.0, level), degrees_of_freedom)?;
    let half = if standard_error == 0.0 { 0.0 } else { quantile * standard_error };
    Some(Interval { estimate, low: estimate - half, high: estimate + half, level, n })
}

/// Interval of the mean of `second - first` over pairs; `None` below two pairs.
///
/// Pairing removes what both members of a pair share (seed, hour, temperature of the machine); Box, Hunter
/// and Hunter, section 3.3.
pub fn paired_interval(pairs: &[(f64, f64)], level: f64) -> Option<Interval> {
    let differences: Vec<f64> = pairs.iter().map(|(first, second)| second - first).collect();
    mean_interval(&differences, level)
}

/// Pearson's correlation of pairs; `None` below two pairs or when either side has no spread.
pub fn correlation(pairs: &[(f64, f64)]) -> Option<f64> {
    let (first, second): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
    let (first_mean, second_mean) = (mean(&first)?, mean(&second)?);
    let product: f64 = pairs.iter().map(|(a, b)| (a - first_mean) * (b - second_mean)).sum();
    let scale = (sum_of_squares(&first) * sum_of_squares(&second)).sqrt();
    (scale > 0.0).then(|| (product / scale).clamp(-1.0, 1.0))
}
