//! Why a change that was kept is better: because it is faster, because it learns more from the same work, or both.
//!
//! Pure: what is known of a keep in, one word out. Under a budget in seconds a change can win by speed or by
//! learning; under a budget of work (tokens) by learning alone, and the noise is the seeds' alone. So the same two
//! codes are executed under a budget of the other kind, and the two gains are read together with the speeds. The
//! word decides nothing.
//!
//! The rule. Every interval is Student's, two-sided, at [`LEVEL`]. *Learning* is shown by a gain under the budget of
//! work whose interval lies above zero; it is shown to be absent when that interval reaches zero or lies below it
//! and also ends below the gain that the verdict rests on, which is then not a gain of learning. Under a first
//! budget of work the verdict itself shows it. A change is *faster* when the interval of the ratio of speeds lies
//! above one, and *not faster* when that interval reaches one and ends at most at [`NOT_FASTER`].
//!
//! | first budget | gain under the second | speed | word |
//! |---|---|---|---|
//! | seconds | shown | faster | by both |
//! | seconds | shown | not faster | by learning |
//! | seconds | absent | faster | by speed |
//! | work | shown | faster | by both |
//! | work | any | not faster | by learning |
//!
//! Everything else is unclear: with two pairs most small gains are.

use serde::Serialize;
use sprag_measure::stats::{self, Interval, mean, sample_sd};

use super::Noise;
use crate::record::Budget;

/// Level of the intervals that a word rests on.
pub const LEVEL: f64 = 0.95;

/// A change whose ratio of speeds is at most this, over its whole interval, is not faster in any way that matters.
pub const NOT_FASTER: f64 = 1.05;

/// Why a change is better. `Display` and JSON use the words that people are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Cause {
    /// It does more work in the same time, and learns no more from the same work.
    #[serde(rename = "by speed")]
    Speed,
    /// It learns more from the same work, and is not faster.
    #[serde(rename = "by learning")]
    Learning,
    /// It is faster, and learns more from the same work.
    #[serde(rename = "by both")]
    Both,
    /// The numbers allow none of the other words.
    #[serde(rename = "unclear")]
    Unclear,
}

impl Cause {
    /// The word shown to people.
    pub fn word(self) -> &'static str {
        match self {
            Cause::Speed => "by speed",
            Cause::Learning => "by learning",
            Cause::Both => "by both",
            Cause::Unclear => "unclear",
        }
    }
}

impl std::fmt::Display for Cause {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.pad(self.word())
    }
}

/// What is known of a keep.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evidence {
    /// The budget that the verdict rests on.
    pub first: Budget,
    /// The gain in the verdict, in units of the metric, positive when better.
    pub gain: f64,
    /// The other budget.
    pub second: Budget,
    /// The gain under it, as [`gain`] gives it; `None` without pairs or without noise.
    pub second_gain: Option<Interval>,
    /// The candidate's speed over the incumbent's, as [`speed`] gives it; `None` where it is not known.
    pub speed: Option<Interval>,
}

/// The word for a keep.
pub fn judge(evidence: &Evidence) -> Cause {
    let timed = |budget: Budget| matches!(budget, Budget::Seconds(_));
    let (Some(second), Some(speed)) = (evidence.second_gain, evidence.speed) else { return Cause::Unclear };
    let shown = second.low > 0.0;
    let absent = second.low <= 0.0 && second.high < evidence.gain;
    let faster = speed.low > 1.0;
    let not_faster = speed.low <= 1.0 && speed.high <= NOT_FASTER;
    match (timed(evidence.first), timed(evidence.second)) {
        (true, false) if shown && faster => Cause::Both,
        (true, false) if shown && not_faster => Cause::Learning,
        (true, false) if absent && faster => Cause::Speed,
        (false, true) if shown && faster => Cause::Both,
        (false, true) if not_faster => Cause::Learning,
        _ => Cause::Unclear,
    }
}

/// The mean of the differences of pairs, positive when the candidate is better, with its interval.
///
/// One difference varies by `√2 sigma` where the arms of a pair do not vary together; the larger of that and of the
/// spread of the differences themselves is taken, and the degrees of freedom of `noise`. Shared seeds make the truth
/// more certain than that, never less. `None` without pairs, or where `noise` has no degrees of freedom.
pub fn gain(differences: &[f64], noise: Noise) -> Option<Interval> {
    let pooled = noise.sigma()? * std::f64::consts::SQRT_2;
    let spread = sample_sd(differences).map_or(pooled, |own| own.max(pooled));
    let n = differences.len();
    stats::interval(mean(differences)?, spread / (n as f64).sqrt(), noise.freedom, LEVEL, n)
}

/// The ratio of the candidate's mean speed to the incumbent's, with its interval: Student's on the logarithms of the
/// speeds, whose variance is pooled over the two arms, `n + m - 2` degrees of freedom. `n` counts the candidate's runs.
///
/// `None` when an arm has no speed, neither arm has two, or a speed is not positive.
pub fn speed(candidate: &[f64], incumbent: &[f64]) -> Option<Interval> {
    let positive = |speed: &f64| speed.is_finite() && *speed > 0.0;
    if !candidate.iter().chain(incumbent).all(positive) {
        return None;
    }
    let logs = |speeds: &[f64]| -> Vec<f64> { speeds.iter().map(|speed| speed.ln()).collect() };
    let (candidate, incumbent) = (logs(candidate), logs(incumbent));
    let estimate = mean(&candidate)? - mean(&incumbent)?;
    let noise = Noise::pooled([candidate.as_slice(), incumbent.as_slice()]);
    let inverse = 1.0 / candidate.len() as f64 + 1.0 / incumbent.len() as f64;
    let error = noise.sigma()? * inverse.sqrt();
    let logs = stats::interval(estimate, error, noise.freedom, LEVEL, candidate.len())?;
    Some(Interval { estimate: logs.estimate.exp(), low: logs.low.exp(), high: logs.high.exp(), ..logs })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn between(low: f64, high: f64) -> Option<Interval> {
        Some(Interval { estimate: f64::midpoint(low, high), low, high, level: LEVEL, n: 2 })
    }

    const SECONDS: Budget = Budget::Seconds(20.0);
    const TOKENS: Budget = Budget::Tokens(500_000);
    const SHOWN: (f64, f64) = (0.02, 0.06);
    const ABSENT: (f64, f64) = (-0.02, 0.02);
    const WIDE: (f64, f64) = (-0.02, 0.06);
    const FASTER: (f64, f64) = (1.02, 1.09);
    const EQUAL: (f64, f64) = (0.98, 1.02);
    const SLOWER: (f64, f64) = (0.80, 0.85);
    const VAGUE: (f64, f64) = (0.90, 1.20);

    /// The word for a keep with a gain of 0.03.
    fn word(first: Budget, second: Budget, gain: (f64, f64), speed: (f64, f64)) -> Cause {
        let (second_gain, speed) = (between(gain.0, gain.1), between(speed.0, speed.1));
        judge(&Evidence { first, gain: 0.03, second, second_gain, speed })
    }

    #[test]
    fn a_keep_under_seconds_is_told_by_its_gain_per_token_and_its_speed() {
        let told = |gain, speed| word(SECONDS, TOKENS, gain, speed);
        assert_eq!([FASTER, EQUAL, SLOWER, VAGUE].map(|speed| told(SHOWN, speed)), {
            [Cause::Both, Cause::Learning, Cause::Learning, Cause::Unclear]
        });
        assert_eq!([FASTER, EQUAL, SLOWER, VAGUE].map(|speed| told(ABSENT, speed)), {
            [Cause::Speed, Cause::Unclear, Cause::Unclear, Cause::Unclear]
        });
        // An interval that holds both nothing and the whole gain says nothing; one below zero says more than absent.
        assert_eq!([FASTER, EQUAL].map(|speed| told(WIDE, speed)), [Cause::Unclear; 2]);
        assert_eq!(told((-0.09, -0.02), FASTER), Cause::Speed);
        assert_eq!(told((0.0, 0.02), FASTER), Cause::Speed);
    }

    #[test]
    fn a_keep_under_tokens_has_learnt_and_speed_may_add_to_it() {
        let told = |gain, speed| word(TOKENS, SECONDS, gain, speed);
        assert_eq!(told(SHOWN, FASTER), Cause::Both);
        assert_eq!([SHOWN, ABSENT, WIDE].map(|gain| told(gain, SLOWER)), [Cause::Learning; 3]);
        assert_eq!([ABSENT, WIDE].map(|gain| told(gain, FASTER)), [Cause::Unclear; 2]);
        assert_eq!(told(SHOWN, VAGUE), Cause::Unclear);
    }

    #[test]
    fn nothing_is_said_without_pairs_without_speeds_or_under_budgets_of_one_kind() {
        let known = Evidence {
            first: SECONDS,
            gain: 0.03,
            second: TOKENS,
            second_gain: between(0.02, 0.06),
            speed: between(1.02, 1.09),
        };
        assert_eq!(judge(&known), Cause::Both);
        assert_eq!(judge(&Evidence { second_gain: None, ..known }), Cause::Unclear);
        assert_eq!(judge(&Evidence { speed: None, ..known }), Cause::Unclear);
        assert_eq!(judge(&Evidence { second: SECONDS, ..known }), Cause::Unclear);
        assert_eq!(judge(&Evidence { first: TOKENS, ..known }), Cause::Unclear);
    }

    #[test]
    fn the_second_gain_has_at_least_the_noise_of_two_independent_arms() {
        let noise = Noise { squares: 9.0 * 0.01 * 0.01, freedom: 9.0 };
        let gain_of = |differences: &[f64]| gain(differences, noise);
        let told = gain_of(&[0.03, 0.03]).unwrap();
        // t(9) at 97.5 % is 2.2622; the differences agree, and still one varies by √2 sigma.
        assert!((told.high - told.estimate - 2.2622 * 0.01).abs() < 1e-5, "{told:?}");
        assert!((told.estimate - 0.03).abs() < 1e-12 && told.n == 2);
        let wide = gain_of(&[-0.07, 0.13]).unwrap();
        assert!((wide.high - wide.estimate - 2.2622 * 0.1).abs() < 1e-4, "{wide:?}");
        let single = gain_of(&[0.03]).unwrap();
        assert!((single.high - 0.03 - 2.2622 * 0.01 * 2f64.sqrt()).abs() < 1e-5, "{single:?}");
        assert_eq!(gain_of(&[]), None);
        assert_eq!(gain(&[0.03, 0.03], Noise::default()), None);
    }

    #[test]
    fn a_ratio_of_speeds_is_symmetric_and_unknown_without_spread() {
        let (fast, slow) = ([110.0, 112.0, 108.0], [100.0, 101.0, 99.0, 100.0]);
        let ratio = speed(&fast, &slow).unwrap();
        assert!((ratio.estimate - 1.1).abs() < 1e-3 && ratio.low > 1.0 && ratio.n == 3, "{ratio:?}");
        let inverse = speed(&slow, &fast).unwrap();
        assert!((inverse.low * ratio.high - 1.0).abs() < 1e-12, "{inverse:?}");
        // One run each has no spread that could be known.
        assert_eq!(speed(&[110.0], &[100.0]), None);
        assert!(speed(&[110.0], &slow).is_some());
        assert_eq!((speed(&[], &slow), speed(&[0.0, 1.0], &slow)), (None, None));
    }
}
