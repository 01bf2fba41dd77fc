//! A test without assumptions: bets that are fair if a candidate is honest, and win if it is not.
//!
//! A payout has expectation 1 on one unit staked. Capital starts at 1 and its expectation stays there, so
//! that it reaches `c` with probability at most `1 / c` (Ville's inequality; see Shafer, "Testing by betting",
//! Journal of the Royal Statistical Society A 184, 2021). No normal approximation and no estimate of a spread
//! is involved.

/// Parts of the capital that are staked; it is spread evenly over them. All at once wins most; an eighth
/// survives long losses.
const STAKES: [f64; 3] = [0.125, 0.5, 1.0];

/// Largest payout taken: keeps the capital a number.
const MOST: f64 = 1e12;

/// Capital at which there is no doubt: an honest candidate reaches it once in a hundred million evaluations
/// at most.
pub(super) const PROOF: f64 = 1e8;

/// Capital by stake, as logarithms.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wager([f64; STAKES.len()]);

impl Wager {
    /// Takes what one unit became.
    pub(super) fn bet(&mut self, payout: f64) {
        for (capital, stake) in self.0.iter_mut().zip(STAKES) {
            *capital += (1.0 - stake + stake * payout.min(MOST)).ln();
        }
    }

    /// Natural logarithm of the mean capital of some wagers.
    pub(super) fn log_capital(wagers: &[Wager]) -> f64 {
        let capitals = wagers.iter().flat_map(|wager| wager.0);
        let most = capitals.clone().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = capitals.map(|capital| (capital - most).exp()).sum();
        most + (sum / (wagers.len() * STAKES.len()) as f64).ln()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capital_is_the_mean_over_stakes() {
        let mut wager = Wager::default();
        assert_eq!(Wager::log_capital(&[wager]), 0.0);
        wager.bet(3.0);
        assert!((Wager::log_capital(&[wager]).exp() - (1.25 + 2.0 + 3.0) / 3.0).abs() < 1e-12);
        assert!(
            (Wager::log_capital(&[wager, Wager::default()]).exp() - (6.25 / 3.0 + 1.0) / 2.0).abs() < 1e-12
        );
    }

    #[test]
    fn who_lost_everything_once_and_who_wins_beyond_all_bounds_have_a_capital() {
        let mut wager = Wager::default();
        wager.bet(0.0);
        assert!((Wager::log_capital(&[wager]).exp() - (0.875 + 0.5) / 3.0).abs() < 1e-12);
        wager.bet(f64::INFINITY);
        assert!(Wager::log_capital(&[wager]) > 20.0 && Wager::log_capital(&[wager]).is_finite());
    }
}
