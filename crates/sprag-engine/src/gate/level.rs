//! Where the incumbent stands, known from its own runs and from those of the code it was made from.
//!
//! A candidate becomes the incumbent because its runs were good, so their mean is too good (winner's curse), and
//! comparing the next candidate with it would ask too much. The chain of keeps is therefore filtered (Kalman, "A
//! new approach to linear filtering and prediction problems", 1960): each keep moves the true score by an unknown
//! step of standard deviation [`STEP`], each run sees it with the noise of one run. What earlier incumbents showed
//! pulls a lucky start back, and fades as the incumbent is executed again.

use sprag_measure::stats::mean;

/// Standard deviation of what one keep changes, in standard deviations of one run: a prior, not a claim.
pub const STEP: f64 = 0.75;

/// Runs of one arm that count: the most recent ones, so that a drift of the machine does not last.
pub const RECENT: usize = 12;

/// An estimate of a true score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Level {
    /// The estimate, in units of the metric.
    pub mean: f64,
    /// Its variance, in variances of one run.
    pub variance: f64,
}

impl Level {
    /// Of code of which nothing else is known; `None` without runs.
    pub fn of(runs: &[f64]) -> Option<Level> {
        let recent = recent(runs);
        Some(Level { mean: mean(recent)?, variance: 1.0 / recent.len() as f64 })
    }

    /// Of code that was made from this and kept, with its runs.
    #[must_use]
    pub fn followed_by(self, runs: &[f64]) -> Level {
        Level { variance: self.variance + STEP * STEP, ..self }.seen(recent(runs))
    }

    /// After more runs of the same code.
    #[must_use]
    pub fn seen(self, runs: &[f64]) -> Level {
        let Some(center) = mean(runs) else { return self };
        let weight = self.variance / (self.variance + 1.0 / runs.len() as f64);
        Level { mean: self.mean + weight * (center - self.mean), variance: self.variance * (1.0 - weight) }
    }
}

fn recent(runs: &[f64]) -> &[f64] {
    &runs[runs.len().saturating_sub(RECENT)..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_one_arm_it_is_the_mean_of_recent_runs() {
        let level = Level::of(&[1.0, 3.0]).unwrap();
        assert_eq!((level.mean, level.variance), (2.0, 0.5));
        let long: Vec<f64> = (0..100).map(f64::from).collect();
        assert_eq!(Level::of(&long).unwrap().mean, 93.5);
        assert_eq!(Level::of(&[]), None);
    }

    #[test]
    fn it_is_the_precision_weighted_mean_of_both() {
        // Prior N(2, 0.1 + STEP^2), one observation 1 of variance 1: the textbook product of two normals.
        let prior = 0.1 + STEP * STEP;
        let level = Level { mean: 2.0, variance: 0.1 }.followed_by(&[1.0]);
        assert!((level.mean - (2.0 / prior + 1.0) / (1.0 / prior + 1.0)).abs() < 1e-12);
        assert!((level.variance - 1.0 / (1.0 / prior + 1.0)).abs() < 1e-12);
    }

    #[test]
    fn one_run_after_the_other_is_the_same_as_all_at_once() {
        let start = Level { mean: 2.0, variance: 0.4 };
        let (slow, fast) = (start.seen(&[1.0]).seen(&[1.5]), start.seen(&[1.0, 1.5]));
        assert!((slow.mean - fast.mean).abs() < 1e-12 && (slow.variance - fast.variance).abs() < 1e-12);
        assert_eq!(start.seen(&[]), start);
    }

    #[test]
    fn more_runs_leave_the_past_behind() {
        let level = Level { mean: 2.0, variance: 0.1 }.followed_by(&[1.0; 12]);
        assert!(level.mean < 1.2, "{}", level.mean);
    }
}
