//! Decides whether a trial beats the incumbent.
//!
//! Pure: samples in, verdict out. Running trials belongs to `runner`, their order to `session`.
//!
//! A candidate is *screened* with one run against the incumbent's mean. If it looks better by more than
//! [`Policy::screen_z`] standard errors it is *confirmed*: both arms run under the same fresh seeds,
//! interleaved on the same machine. The effect is estimated from these pairs alone, because the screening
//! run was selected for being good (winner's curse). After each pair the interval is looked at once; the
//! error level is divided by the most looks there may be (Bonferroni; Pocock 1977 is sharper and comes at
//! the price of assuming a known variance).
//!
//! The noise is pooled: within-arm deviations of every kept arm, and the pairs' own scatter, so that a
//! candidate that is noisier than the incumbent widens its own interval. Pairing is assumed to buy nothing
//! (variance of a difference = twice the variance of a run), which is conservative when seeds matter.

pub mod throughput;

use sprag_measure::stats::{mean, student_t_quantile};

use crate::record::{Direction, Effect, Policy, Verdict};

/// Noise of one run, pooled over arms.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Noise {
    /// Sum of squared deviations from each arm's own mean.
    pub squares: f64,
    /// Degrees of freedom: runs less arms.
    pub freedom: f64,
}

impl Noise {
    /// Pools arms that were each run several times; an arm with one run adds nothing.
    pub fn pooled<'a>(arms: impl IntoIterator<Item = &'a [f64]>) -> Noise {
        let mut noise = Noise::default();
        for arm in arms.into_iter().filter(|arm| arm.len() > 1) {
            let center = arm.iter().sum::<f64>() / arm.len() as f64;
            noise.squares += arm.iter().map(|score| (score - center).powi(2)).sum::<f64>();
            noise.freedom += arm.len() as f64 - 1.0;
        }
        noise
    }

    /// Standard deviation of one run; `None` when no arm was repeated.
    pub fn sigma(&self) -> Option<f64> {
        (self.freedom > 0.0).then(|| (self.squares / self.freedom).sqrt())
    }
}

/// What the screening run says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Screened {
    /// Worth confirming with pairs.
    Promising(Effect),
    /// Not worth it: LOSS, or INCONCLUSIVE when the interval spans zero.
    Dropped(Effect),
}

/// Judges one run of a candidate against the incumbent's runs. `None` without noise or incumbent runs.
pub fn screen(
    candidate: f64,
    incumbent: &[f64],
    noise: Noise,
    direction: Direction,
    policy: &Policy,
) -> Option<Screened> {
    let sigma = noise.sigma()?;
    let gain = advantage(candidate, mean(incumbent)?, direction);
    let error = sigma * (1.0 + 1.0 / incumbent.len() as f64).sqrt();
    let effect = effect(gain, error, noise.freedom, policy.alpha, 0, sigma);
    let promising = gain > 0.0 && gain >= policy.screen_z * error;
    Some(if promising { Screened::Promising(effect) } else { Screened::Dropped(effect) })
}

/// What the pairs so far say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Confirmed {
    /// Decided.
    Win(Effect),
    /// Decided.
    Loss(Effect),
    /// No decision, and either the pairs are spent or going on is futile.
    Inconclusive(Effect),
    /// Another pair is needed.
    More(Effect),
}

/// Judges confirmation pairs `(candidate, incumbent)`. `None` without pairs.
pub fn confirm(
    pairs: &[(f64, f64)],
    noise: Noise,
    direction: Direction,
    policy: &Policy,
) -> Option<Confirmed> {
    let gains: Vec<f64> =
        pairs.iter().map(|&(candidate, incumbent)| advantage(candidate, incumbent, direction)).collect();
    let gain = mean(&gains)?;
    let scatter: f64 = gains.iter().map(|one| (one - gain).powi(2)).sum();
    let freedom = noise.freedom + gains.len() as f64 - 1.0;
    if freedom <= 0.0 {
        return None;
    }
    let difference_variance = (2.0 * noise.squares + scatter) / freedom;
    let error = (difference_variance / gains.len() as f64).sqrt();
    let looks = f64::from(policy.max_pairs.max(1));
    let sigma = (difference_variance / 2.0).sqrt();
    let effect = effect(gain, error, freedom, policy.alpha / looks, gains.len() as u32, sigma);
    let spent = gains.len() as u32 >= policy.max_pairs;
    Some(if effect.low > 0.0 {
        Confirmed::Win(effect)
    } else if effect.high < 0.0 {
        Confirmed::Loss(effect)
    } else if spent || gain <= 0.0 {
        Confirmed::Inconclusive(effect)
    } else {
        Confirmed::More(effect)
    })
}

/// The verdict on repeats of the baseline; `None` below two.
pub fn baseline(scores: &[f64]) -> Option<Verdict> {
    let sd = Noise::pooled([scores]).sigma()?;
    Some(Verdict::Baseline { mean: mean(scores)?, sd, n: scores.len() as u32 })
}

/// Verdict of an effect that rests on the screening run or on spent pairs.
pub fn undecided(effect: Effect) -> Verdict {
    if effect.high < 0.0 { Verdict::Loss(effect) } else { Verdict::Inconclusive(effect) }
}

/// The smallest true gain that confirmation finds with probability `power`, in units of the metric.
///
/// Normal approximation at the last look, `(z_{1-alpha/K} + z_power) * sigma * sqrt(2/K)`; an incumbent's
/// noise known from few runs makes the real figure larger, which the t quantile accounts for.
pub fn detectable(noise: Noise, policy: &Policy, power: f64) -> Option<f64> {
    let pairs = f64::from(policy.max_pairs.max(1));
    let freedom = noise.freedom + pairs - 1.0;
    let quantiles =
        student_t_quantile(1.0 - policy.alpha / pairs, freedom)? + student_t_quantile(power, freedom)?;
    Some(quantiles * noise.sigma()? * (2.0 / pairs).sqrt())
}

/// How much better `candidate` is than `incumbent`; positive is better.
pub fn advantage(candidate: f64, incumbent: f64, direction: Direction) -> f64 {
    match direction {
        Direction::Lower => incumbent - candidate,
        Direction::Higher => candidate - incumbent,
    }
}

fn effect(gain: f64, error: f64, freedom: f64, alpha: f64, pairs: u32, sigma: f64) -> Effect {
    // With zero noise every difference is real; with no degrees of freedom none is.
    let quantile = student_t_quantile(1.0 - alpha, freedom).unwrap_or(f64::MAX.sqrt());
    let half = if error == 0.0 { 0.0 } else { quantile * error };
    Effect { gain, low: gain - half, high: gain + half, pairs, sigma }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: Policy = Policy { baseline_repeats: 5, alpha: 0.05, screen_z: 0.5, max_pairs: 3 };
    const NOISE: Noise = Noise { squares: 4.0e-4, freedom: 4.0 }; // sigma 0.01

    #[test]
    fn a_worse_run_is_dropped_and_a_clearly_worse_one_is_a_loss() {
        let incumbent = [2.0, 2.01, 1.99, 2.0, 2.0];
        let Some(Screened::Dropped(slight)) = screen(2.01, &incumbent, NOISE, Direction::Lower, &POLICY)
        else {
            panic!("a worse run was found promising")
        };
        assert!(matches!(undecided(slight), Verdict::Inconclusive(_)));
        let Some(Screened::Dropped(clear)) = screen(2.1, &incumbent, NOISE, Direction::Lower, &POLICY) else {
            panic!("a worse run was found promising")
        };
        assert!(matches!(undecided(clear), Verdict::Loss(_)));
    }

    #[test]
    fn direction_turns_the_sign() {
        let higher = screen(2.1, &[2.0, 2.0], NOISE, Direction::Higher, &POLICY);
        assert!(matches!(higher, Some(Screened::Promising(effect)) if (effect.gain - 0.1).abs() < 1e-12));
    }

    #[test]
    fn a_large_gain_wins_with_one_pair_and_a_small_one_asks_for_more() {
        let large = confirm(&[(1.9, 2.0)], NOISE, Direction::Lower, &POLICY);
        assert!(matches!(large, Some(Confirmed::Win(effect)) if effect.pairs == 1 && effect.low > 0.0));
        let small = confirm(&[(1.99, 2.0)], NOISE, Direction::Lower, &POLICY);
        assert!(matches!(small, Some(Confirmed::More(_))));
        let spent = confirm(&[(1.99, 2.0); 3], NOISE, Direction::Lower, &POLICY);
        assert!(matches!(spent, Some(Confirmed::Inconclusive(effect)) if effect.pairs == 3));
        let futile = confirm(&[(2.005, 2.0)], NOISE, Direction::Lower, &POLICY);
        assert!(matches!(futile, Some(Confirmed::Inconclusive(_))));
    }

    #[test]
    fn the_interval_is_the_textbook_one() {
        // t(1 - 0.05/3, 4 df) = 3.1865 (scipy.stats.t.ppf); error = sqrt(2) * 0.01.
        let Some(Confirmed::More(effect)) = confirm(&[(1.99, 2.0)], NOISE, Direction::Lower, &POLICY) else {
            panic!("one small pair cannot decide")
        };
        let half = 3.186_5 * 2f64.sqrt() * 0.01;
        assert!(
            (effect.high - effect.gain - half).abs() < 1e-4,
            "{} against {half}",
            effect.high - effect.gain
        );
    }

    #[test]
    fn a_noisy_candidate_widens_its_own_interval() {
        let calm = confirm(&[(1.95, 2.0), (1.95, 2.0)], NOISE, Direction::Lower, &POLICY);
        assert!(matches!(calm, Some(Confirmed::Win(_))));
        let wild = confirm(&[(1.80, 2.0), (2.10, 2.0)], NOISE, Direction::Lower, &POLICY);
        assert!(matches!(wild, Some(Confirmed::More(_))));
    }

    #[test]
    fn without_noise_every_difference_is_real_and_equality_is_not_a_win() {
        let exact = Noise { squares: 0.0, freedom: 4.0 };
        assert!(matches!(confirm(&[(1.0, 2.0)], exact, Direction::Lower, &POLICY), Some(Confirmed::Win(_))));
        assert!(matches!(
            confirm(&[(2.0, 2.0)], exact, Direction::Lower, &POLICY),
            Some(Confirmed::Inconclusive(_))
        ));
        assert!(matches!(screen(2.0, &[2.0], exact, Direction::Lower, &POLICY), Some(Screened::Dropped(_))));
    }

    #[test]
    fn nothing_is_decided_from_nothing() {
        assert_eq!(screen(1.0, &[], NOISE, Direction::Lower, &POLICY), None);
        assert_eq!(screen(1.0, &[2.0], Noise::default(), Direction::Lower, &POLICY), None);
        assert_eq!(confirm(&[], NOISE, Direction::Lower, &POLICY), None);
        assert_eq!(confirm(&[(1.0, 2.0)], Noise::default(), Direction::Lower, &POLICY), None);
        assert_eq!(baseline(&[1.0]), None);
    }

    /// The false-keep rate of one null candidate, over seeded Gaussian draws with the noise estimated from
    /// five repeats: the promise of `alpha`.
    #[test]
    fn null_candidates_are_kept_no_more_often_than_alpha() {
        let mut random = Gauss(0x9E37_79B9_7F4A_7C15);
        let (mut kept, draws) = (0, 4_000);
        for _ in 0..draws {
            let incumbent: Vec<f64> = (0..5).map(|_| random.next()).collect();
            let noise = Noise::pooled([incumbent.as_slice()]);
            let screened = screen(random.next(), &incumbent, noise, Direction::Lower, &POLICY);
            if !matches!(screened, Some(Screened::Promising(_))) {
                continue;
            }
            let mut pairs = Vec::new();
            loop {
                pairs.push((random.next(), random.next()));
                match confirm(&pairs, noise, Direction::Lower, &POLICY) {
                    Some(Confirmed::More(_)) => {}
                    Some(Confirmed::Win(_)) => break kept += 1,
                    _ => break,
                }
            }
        }
        let rate = f64::from(kept) / f64::from(draws);
        assert!(rate <= POLICY.alpha, "{rate} of null candidates were kept");
    }

    struct Gauss(u64);

    impl Gauss {
        fn uniform(&mut self) -> f64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((self.0 >> 11) as f64 + 0.5) / (1u64 << 53) as f64
        }

        fn next(&mut self) -> f64 {
            (-2.0 * self.uniform().ln()).sqrt() * (std::f64::consts::TAU * self.uniform()).cos()
        }
    }
}
