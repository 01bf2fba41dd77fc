//! Whether tokens were foreseen that nobody could know: a wager against the claim of looking only back.
//!
//! In a false suffix the text breaks off at places drawn at random, and goes on with a token drawn from a
//! known pool; decoys are drawn from the same pool (`splice`). The row of logits before the break depends,
//! in a causal model, on what comes before alone. So given the row, shown token and decoys are exchangeable,
//! and the ratio of the shown token's weight to the mean weight of all of them has expectation 1, *whatever
//! the model is*: good, bad, badly calibrated, certain of nonsense. Every break is a bet with that payout
//! (`wager`): a candidate that looks ahead gives the shown token more than the decoys and multiplies its
//! capital.
//!
//! Weights are powers of the probability: 1/4 pays where a floor of a few per cent lifts tokens that were
//! unlikely before, 1 where single tokens become nearly certain. Small stakes survive candidates that look
//! ahead only now and then.
//!
//! # Power
//!
//! 144 windows of 256 tokens, the default, have about 230 breaks, half of them in windows that were not shown
//! before. On the language of the tests next to this file, 4.3 nats a token, look-ahead mixed in at 1 % ends
//! with a capital of 10^9 to 10^17, at 2 % of 10^21 to 10^35, at 20 % above 10^120 (20 orders of questions
//! each); confined to windows whose beginning is shown for the second time, at 50 %, above 10^40. Confined to
//! tokens that the model gave 3 % or more anyway, which gains less, it is found as well (10^13), and less
//! surely the higher that bar: a break shows such a token only now and then.

use std::f64::consts::LN_10;

use super::channel::Ended;
use super::wager::{PROOF, Wager};

/// Powers of the probability that are bet on.
const POWERS: [f64; 3] = [0.25, 0.5, 1.0];

/// The wagers of one candidate, by power.
#[derive(Debug, Default)]
pub(super) struct Foresight {
    wagers: [Wager; POWERS.len()],
    breaks: usize,
}

impl Foresight {
    /// Takes the row of logits before a break, the token shown there, and its decoys.
    pub(super) fn take(&mut self, row: &[f32], shown: u32, decoys: &[u32]) {
        for (wager, power) in self.wagers.iter_mut().zip(POWERS) {
            wager.bet(payout(row, shown, decoys, power));
        }
        self.breaks += 1;
    }

    /// Refuses a candidate that won too much.
    pub(super) fn verdict(&self) -> Result<(), Ended> {
        let odds = Wager::log_capital(&self.wagers);
        if odds < PROOF.ln() {
            return Ok(());
        }
        let detail = format!(
            "tokens drawn at random were foreseen (10^{:.0} to 1 against chance, n = {} places): the next token was looked up",
            odds / LN_10,
            self.breaks
        );
        Err(Ended::invalid("causality", detail))
    }
}

/// The shown token's weight over the mean weight of it and its decoys; the softmax's divisor cancels.
fn payout(row: &[f32], shown: u32, decoys: &[u32], power: f64) -> f64 {
    let logit = |token: u32| f64::from(row[token as usize]);
    let peak = decoys.iter().map(|&token| logit(token)).fold(logit(shown), f64::max);
    let weight = |token: u32| (power * (logit(token) - peak)).exp();
    let all = weight(shown) + decoys.iter().map(|&token| weight(token)).sum::<f64>();
    weight(shown) * (decoys.len() + 1) as f64 / all
}

#[cfg(test)]
mod tests;
