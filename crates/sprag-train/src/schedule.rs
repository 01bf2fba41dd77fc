//! Learning-rate schedules: pure functions of the part of the budget that is spent.
//!
//! Progress comes with each batch, so a schedule ends with the budget whatever the machine's speed.

/// Rises over the first `warmup` of the budget, stays at one, and falls to `last` over the final `warmdown`,
/// all straight lines. Where the two overlap the smaller value counts.
///
/// ```
/// use sprag_train::schedule::trapezoid;
///
/// assert_eq!(trapezoid(0.05, 0.1, 0.5, 0.0), 0.5);
/// assert_eq!(trapezoid(0.3, 0.1, 0.5, 0.0), 1.0);
/// assert_eq!(trapezoid(0.75, 0.1, 0.5, 0.0), 0.5);
/// ```
pub fn trapezoid(progress: f64, warmup: f64, warmdown: f64, last: f64) -> f64 {
    let rise = if warmup > 0.0 { (progress / warmup).min(1.0) } else { 1.0 };
    let left = if warmdown > 0.0 { ((1.0 - progress) / warmdown).clamp(0.0, 1.0) } else { 1.0 };
    rise.min(last + (1.0 - last) * left)
}

/// Rises over the first `warmup` of the budget, then follows half a cosine from one to `last` (Loshchilov
/// and Hutter, <https://arxiv.org/abs/1608.03983>, without restarts).
pub fn cosine(progress: f64, warmup: f64, last: f64) -> f64 {
    if progress < warmup {
        return progress / warmup;
    }
    let phase = ((progress - warmup) / (1.0 - warmup).max(f64::EPSILON)).min(1.0);
    last + (1.0 - last) * 0.5 * (1.0 + (std::f64::consts::PI * phase).cos())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_start_low_peak_at_one_and_end_at_last() {
        for schedule in [|p| trapezoid(p, 0.1, 0.4, 0.2), |p| cosine(p, 0.1, 0.2)] {
            assert_eq!(schedule(0.0), 0.0);
            assert!((schedule(0.1) - 1.0f64).abs() < 1e-12);
            assert!((schedule(1.0) - 0.2).abs() < 1e-12);
            assert!((0..100).all(|i| (0.0..=1.0).contains(&schedule(f64::from(i) / 100.0))));
        }
    }

    #[test]
    fn no_warmup_and_no_warmdown_is_constant() {
        assert!((0..=10).all(|i| trapezoid(f64::from(i) / 10.0, 0.0, 0.0, 0.0) == 1.0));
    }

    #[test]
    fn a_later_batch_after_the_end_stays_at_last() {
        assert_eq!(trapezoid(1.2, 0.1, 0.5, 0.1), 0.1);
        assert!((cosine(1.2, 0.1, 0.1) - 0.1).abs() < 1e-12);
    }
}
