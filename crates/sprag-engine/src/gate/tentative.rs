//! The fast level: is one candidate worth becoming the tip?
//!
//! The candidate is *screened* with one run against where the incumbent stands
//! ([`level`](super::level)). If it is better by [`Policy::screen_z`] standard errors it is executed again, up to
//! [`Policy::max_repeats`] times, under fresh seeds, with runs of the incumbent between as
//! [`Policy::anchor_every`] says. After each run all of both arms are looked at together: the candidate is kept
//! when Student's t of the difference passes the quantile of [`Policy::alpha`], and dropped when it falls below
//! [`Policy::futility_z`] or the repeats are spent. Two guards: the repeats alone must be better too, and better
//! than the incumbent's runs between them, so that neither the luck of the screening run nor drift of the
//! machine decides by itself.
//!
//! This is a group-sequential test with futility (Wald 1945; Pocock, Biometrika 1977; Jennison and Turnbull,
//! "Group Sequential Methods", 1999) with a selected first look; its error rates are not derived but measured
//! (`simulate`, `docs/statistics.md`). The effect is estimated without the screening run, which was selected for
//! being good (winner's curse).

use sprag_measure::stats::{mean, student_t_quantile};

use super::level::Level;
use super::{Noise, advantage, effect, ratio};
use crate::record::{Direction, Effect, Policy};

/// What a candidate is judged by.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// Where the incumbent stood before this candidate.
    pub incumbent: Level,
    /// Noise of one run, this candidate's runs and their anchors left out.
    pub noise: Noise,
    /// The candidate's first run.
    pub screening: f64,
    /// Its later runs.
    pub repeats: &'a [f64],
    /// Runs of the incumbent between those.
    pub anchors: &'a [f64],
}

/// What the evidence says so far.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Look {
    /// Promising, not decided: the candidate is executed again.
    More(Effect),
    /// Better.
    Keep(Effect),
    /// Not shown to be better, and going on is futile or there are no repeats left.
    Drop(Effect),
}

/// Looks at the evidence. `None` without noise.
pub fn look(evidence: &Evidence<'_>, direction: Direction, policy: &Policy) -> Option<Look> {
    let &Evidence { screening, repeats, anchors, .. } = evidence;
    let candidate: Vec<f64> = [&[screening][..], repeats].concat();
    let noise = evidence.noise.with(anchors).with(repeats);
    let sigma = noise.sigma()?;
    let Level { mean: center, variance } = evidence.incumbent.seen(anchors);
    let error = |runs: usize| sigma * (1.0 / runs as f64 + variance).sqrt();
    let all = ratio(advantage(mean(&candidate)?, center, direction), error(candidate.len()));
    let Some(repeated) = mean(repeats) else {
        let gain = advantage(screening, center, direction);
        let effect = effect(gain, error(1), noise.freedom, policy.alpha, 0, sigma);
        let promising = gain > 0.0 && all >= policy.screen_z;
        return Some(if promising { Look::More(effect) } else { Look::Drop(effect) });
    };
    let gain = advantage(repeated, center, direction);
    let effect = effect(gain, error(repeats.len()), noise.freedom, policy.alpha, repeats.len() as u32, sigma);
    let beside = mean(anchors).is_none_or(|anchor| advantage(repeated, anchor, direction) > 0.0);
    let quantile = student_t_quantile(1.0 - policy.alpha, noise.freedom)?;
    let spent = repeats.len() as u32 >= policy.max_repeats;
    Some(if all >= quantile && gain > 0.0 && beside {
        Look::Keep(effect)
    } else if spent || all < policy.futility_z {
        Look::Drop(effect)
    } else {
        Look::More(effect)
    })
}

/// What a loop without statistics does: one run, kept when better than the best that was ever kept.
pub fn naive(screening: f64, best: f64, noise: Noise, direction: Direction, policy: &Policy) -> Look {
    let gain = advantage(screening, best, direction);
    let sigma = noise.sigma().unwrap_or(0.0);
    let effect = effect(gain, sigma * 2f64.sqrt(), noise.freedom, policy.alpha, 0, sigma);
    if gain > 0.0 { Look::Keep(effect) } else { Look::Drop(effect) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Preset;

    /// Sigma 0.01.
    const NOISE: Noise = Noise { squares: 9.0e-4, freedom: 9.0 };
    const INCUMBENT: Level = Level { mean: 2.0, variance: 0.1 };

    fn policy() -> Policy {
        Preset::Balanced.policy()
    }

    fn looked(screening: f64, repeats: &[f64], anchors: &[f64]) -> Look {
        let evidence = Evidence { incumbent: INCUMBENT, noise: NOISE, screening, repeats, anchors };
        look(&evidence, Direction::Lower, &policy()).unwrap()
    }

    #[test]
    fn a_worse_run_is_dropped_and_a_better_one_is_repeated() {
        assert!(
            matches!(looked(2.01, &[], &[]), Look::Drop(effect) if effect.gain < 0.0 && effect.runs == 0)
        );
        assert!(matches!(looked(1.998, &[], &[]), Look::Drop(_)));
        assert!(matches!(looked(1.9, &[], &[]), Look::More(_)));
    }

    #[test]
    fn the_interval_of_one_run_is_the_textbook_one() {
        // t(0.92, 9 df) = 1.531527 (scipy.stats.t.ppf); standard error 0.01 * sqrt(1 + 0.1).
        let Look::More(effect) = looked(1.98, &[], &[]) else { panic!("a promising run was dropped") };
        let half = 1.531_527 * 0.01 * 1.1f64.sqrt();
        assert!((effect.high - effect.gain - half).abs() < 1e-6, "{}", effect.high - effect.gain - half);
        assert!((effect.gain - 0.02).abs() < 1e-12 && (effect.sigma - 0.01).abs() < 1e-12);
    }

    #[test]
    fn the_effect_leaves_the_screening_run_out() {
        let Look::Keep(effect) = looked(1.9, &[1.96], &[]) else { panic!("a clear gain was not kept") };
        assert!((effect.gain - 0.04).abs() < 1e-12 && effect.runs == 1);
    }

    #[test]
    fn luck_in_the_screening_run_does_not_keep_by_itself() {
        // All runs together pass; the repeats alone are no better.
        assert!(!matches!(looked(1.9, &[2.001], &[]), Look::Keep(_)));
    }

    #[test]
    fn drift_of_the_machine_does_not_keep() {
        // Candidate and incumbent both got better by as much since the incumbent's level was measured.
        let look = looked(1.96, &[1.96, 1.96], &[1.955, 1.955]);
        assert!(!matches!(look, Look::Keep(_)), "{look:?}");
    }

    #[test]
    fn a_candidate_is_given_up_when_it_falls_back_or_its_repeats_are_spent() {
        assert!(matches!(looked(1.99, &[2.01], &[]), Look::Drop(_)));
        let many = [1.992, 1.991, 1.994];
        assert!(matches!(looked(1.992, &many[..2], &[]), Look::More(_) | Look::Keep(_)));
        assert!(matches!(looked(1.992, &[1.992, 1.996, 2.0], &[]), Look::Drop(_)));
    }

    #[test]
    fn direction_turns_the_sign() {
        let evidence =
            Evidence { incumbent: INCUMBENT, noise: NOISE, screening: 2.1, repeats: &[2.1], anchors: &[] };
        assert!(matches!(look(&evidence, Direction::Higher, &policy()), Some(Look::Keep(_))));
        assert!(matches!(look(&evidence, Direction::Lower, &policy()), Some(Look::Drop(_))));
    }

    #[test]
    fn without_noise_every_difference_is_real_and_equality_is_none() {
        let exact = Noise { squares: 0.0, freedom: 9.0 };
        let at = |screening: f64, repeats| {
            let evidence = Evidence { incumbent: INCUMBENT, noise: exact, screening, repeats, anchors: &[] };
            look(&evidence, Direction::Lower, &policy()).unwrap()
        };
        assert!(matches!(at(1.999, &[]), Look::More(_)));
        assert!(matches!(at(1.999, &[1.999]), Look::Keep(_)));
        assert!(matches!(at(2.0, &[]), Look::Drop(_)));
    }

    #[test]
    fn nothing_is_decided_without_noise_known() {
        let unknown = Noise::default();
        let evidence =
            Evidence { incumbent: INCUMBENT, noise: unknown, screening: 1.0, repeats: &[], anchors: &[] };
        assert_eq!(look(&evidence, Direction::Lower, &policy()), None);
    }

    #[test]
    fn a_loop_without_statistics_keeps_whatever_is_better() {
        let keeps = |score| naive(score, 2.0, NOISE, Direction::Lower, &policy());
        assert!(matches!(keeps(1.999_999), Look::Keep(effect) if effect.runs == 0));
        assert!(matches!(keeps(2.0), Look::Drop(_)));
    }
}
