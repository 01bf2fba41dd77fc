//! The sealed holdout: what is asked of it is counted, and what it answers is rounded.
//!
//! Every answer lets the search learn something of the text it must not learn from. So a run may ask only
//! [`Policy::holdout_queries`] times, and of an answer only what a step of the Ladder lets through is shown: a new
//! score when it beats the best shown so far by a step, the best so far otherwise (Blum and Hardt, "The Ladder: a
//! reliable leaderboard for machine learning competitions", ICML 2015). The step is the noise of one run.

use super::{Noise, advantage};
use crate::record::{Direction, Policy};

/// Standard errors by which a holdout score must be worse than the last champion's to contradict an audit: the
/// 99 % quantile of the normal distribution.
const CONTRADICTS: f64 = 2.326;

/// What is shown after a query.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rung {
    /// The score shown: the best one that was a step better than the one before.
    pub shown: f64,
    /// The score is so much worse than the best one shown that the gain on validation text does not carry over.
    pub contradicts: bool,
}

/// Lets a score through, or not. `shown` is the score shown so far.
pub fn climb(score: f64, shown: Option<f64>, noise: Noise, direction: Direction) -> Rung {
    let step = noise.sigma().unwrap_or(0.0);
    let Some(best) = shown else { return Rung { shown: score, contradicts: false } };
    let gain = advantage(score, best, direction);
    let contradicts = gain < -CONTRADICTS * step * 2f64.sqrt();
    Rung { shown: if gain > step { score } else { best }, contradicts }
}

/// Queries that are left.
pub fn left(asked: u32, policy: &Policy) -> u32 {
    policy.holdout_queries.saturating_sub(asked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Preset;

    /// Sigma 0.01.
    const NOISE: Noise = Noise { squares: 9.0e-4, freedom: 9.0 };

    #[test]
    fn small_gains_are_not_shown() {
        let first = climb(2.0, None, NOISE, Direction::Lower);
        assert_eq!(first, Rung { shown: 2.0, contradicts: false });
        assert_eq!(climb(1.995, Some(2.0), NOISE, Direction::Lower).shown, 2.0);
        assert_eq!(climb(1.985, Some(2.0), NOISE, Direction::Lower).shown, 1.985);
        assert_eq!(climb(2.02, Some(2.0), NOISE, Direction::Higher).shown, 2.02);
    }

    #[test]
    fn only_what_noise_does_not_explain_contradicts() {
        assert!(!climb(2.03, Some(2.0), NOISE, Direction::Lower).contradicts);
        assert!(climb(2.04, Some(2.0), NOISE, Direction::Lower).contradicts);
    }

    #[test]
    fn queries_run_out() {
        let policy = Policy { holdout_queries: 2, ..Preset::Balanced.policy() };
        assert_eq!([left(0, &policy), left(2, &policy), left(3, &policy)], [2, 0, 0]);
    }
}
