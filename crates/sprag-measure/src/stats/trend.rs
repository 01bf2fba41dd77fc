//! Whether measurements drift, and how fast: by ranks and medians, so that a few wild ones decide nothing.

use super::{median, normal_cdf};

/// Slope of y over x for points `(x, y)`: the median of the slopes of all pairs whose x differ, in units of y a
/// unit of x; `None` when there is no such pair.
///
/// Sen, "Estimates of the Regression Coefficient Based on Kendall's Tau" (JASA 1968); up to 29 % of the points
/// may be arbitrarily wrong. Looks at all n (n - 1) / 2 pairs, and keeps their slopes in memory.
///
/// ```
/// use sprag_measure::stats::theil_sen;
/// assert_eq!(theil_sen(&[(0.0, 1.0), (1.0, 3.0), (2.0, 5.0), (3.0, 7.0), (4.0, 900.0)]), Some(2.0));
/// assert_eq!(theil_sen(&[(1.0, 1.0), (1.0, 2.0)]), None);
/// ```
pub fn theil_sen(points: &[(f64, f64)]) -> Option<f64> {
    let pairs = points
        .iter()
        .enumerate()
        .flat_map(|(n, &one)| points[n + 1..].iter().map(move |&other| (other.0 - one.0, other.1 - one.1)));
    let slopes: Vec<f64> = pairs.filter(|(run, _)| *run != 0.0).map(|(run, rise)| rise / run).collect();
    median(&slopes)
}

/// Two-sided p-value of the hypothesis that samples, given in the order of time, have no monotonic trend;
/// `None` below two samples, or when all are equal.
///
/// Mann, "Nonparametric Tests Against Trend" (Econometrica 1945), by the normal approximation with correction for
/// ties and for continuity of Kendall, "Rank Correlation Methods" (4th edition, sections 4.8 to 4.10). Good from
/// about ten samples on; with fewer it is rough. Samples that follow each other must be independent.
pub fn mann_kendall(samples: &[f64]) -> Option<f64> {
    let n = samples.len() as f64;
    let signs = samples.iter().enumerate().flat_map(|(n, one)| {
        samples[n + 1..].iter().map(move |other| match other.total_cmp(one) {
            std::cmp::Ordering::Less => -1.0,
            std::cmp::Ordering::Equal => 0.0,
            std::cmp::Ordering::Greater => 1.0,
        })
    });
    let score: f64 = signs.sum();
    let spread = |count: f64| count * (count - 1.0) * (2.0 * count + 5.0);
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let ties: f64 = sorted.chunk_by(|one, other| one == other).map(|tied| spread(tied.len() as f64)).sum();
    let variance = (spread(n) - ties) / 18.0;
    if variance <= 0.0 {
        return None;
    }
    let z = (score.abs() - 1.0).max(0.0) / variance.sqrt();
    Some(2.0 * normal_cdf(-z))
}
