//! Bits per byte, and how far it would move with other text.

use std::f64::consts::LN_2;

/// Nats and bytes of what was scored, by window.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    windows: Vec<(f64, u64)>,
    tokens: u64,
    nats: f64,
}

impl Tally {
    /// One window: nats and bytes of each token that counts.
    pub(super) fn add(&mut self, tokens: impl Iterator<Item = (f64, u32)>) {
        let (mut nats, mut bytes) = (0.0, 0);
        for (token_nats, token_bytes) in tokens {
            nats += token_nats;
            bytes += u64::from(token_bytes);
            self.tokens += 1;
        }
        self.nats += nats;
        self.windows.push((nats, bytes));
    }

    pub(super) fn tokens(&self) -> u64 {
        self.tokens
    }

    pub(super) fn bytes(&self) -> u64 {
        self.windows.iter().map(|(_, bytes)| bytes).sum()
    }

    /// Nats over `ln 2` times bytes; `None` without a byte.
    pub(super) fn bits_per_byte(&self) -> Option<f64> {
        let bytes = self.bytes();
        (bytes > 0).then(|| self.nats / (LN_2 * bytes as f64))
    }

    /// Of the bits per byte, with windows as the sampling unit: tokens of one window are not independent.
    /// The ratio estimator of Cochran, "Sampling Techniques", 3rd edition, chapter 6; `None` below 2 windows.
    pub(super) fn standard_error(&self) -> Option<f64> {
        let ratio = self.bits_per_byte()?;
        let n = self.windows.len();
        if n < 2 {
            return None;
        }
        let residual = |&(nats, bytes): &(f64, u64)| nats / LN_2 - ratio * bytes as f64;
        let squares: f64 = self.windows.iter().map(residual).map(|residual| residual * residual).sum();
        Some((squares * n as f64 / (n - 1) as f64).sqrt() / self.bytes() as f64)
    }

    /// Mean nats of a token; `None` without a token.
    pub(super) fn nats_per_token(&self) -> Option<f64> {
        (self.tokens > 0).then(|| self.nats / self.tokens as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_scored_is_no_score() {
        let mut tally = Tally::default();
        assert_eq!(
            (tally.bits_per_byte(), tally.standard_error(), tally.nats_per_token()),
            (None, None, None)
        );
        tally.add(std::iter::empty());
        assert_eq!(tally.bits_per_byte(), None);
    }

    #[test]
    fn bits_per_byte_weighs_windows_by_their_bytes() {
        let mut tally = Tally::default();
        tally.add([(2.0 * LN_2, 1), (4.0 * LN_2, 3)].into_iter());
        tally.add([(6.0 * LN_2, 2)].into_iter());
        assert!((tally.bits_per_byte().unwrap() - 2.0).abs() < 1e-12);
        assert_eq!((tally.tokens(), tally.bytes()), (3, 6));
        // Residuals are 6 - 2 * 4 = -2 and 6 - 2 * 2 = 2: sqrt((4 + 4) * 2 / 1) / 6.
        assert!((tally.standard_error().unwrap() - 4.0 / 6.0).abs() < 1e-12);
        assert!((tally.nats_per_token().unwrap() - 4.0 * LN_2).abs() < 1e-12);
    }

    #[test]
    fn equal_windows_leave_no_error_and_one_window_no_estimate() {
        let mut tally = Tally::default();
        tally.add([(1.0, 2)].into_iter());
        assert_eq!(tally.standard_error(), None);
        tally.add([(1.0, 2)].into_iter());
        assert!(tally.standard_error().unwrap() < 1e-12);
    }
}
