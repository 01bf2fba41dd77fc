//! The strict level: is the tip better than the last certified champion?
//!
//! Both are executed under the same fresh seeds, interleaved (ABBA), and the differences are judged by an
//! e-process, which may be looked at after every pair and stopped at any time: under the hypothesis that the tip
//! is not better, it exceeds `1 / alpha` with probability at most `alpha` (Ville 1939; Ramdas, Grünwald, Vovk and
//! Shafer, "Game-theoretic statistics and safe anytime-valid inference", Statistical Science 2023).
//!
//! The process is a mixture of likelihood ratios, after Robbins (1970), "Statistical methods related to the law
//! of the iterated logarithm". The density is Student's t with 5 degrees of freedom instead of the normal
//! one, because the noise of real runs is heavy-tailed: one dip of the machine multiplies the evidence by a
//! bounded factor, whatever its size. The scale is the noise of earlier runs, taken at the upper quartile of
//! what they allow. With an estimated scale the bound is not exact: the error is measured (`simulate`), and
//! stays below the level there.

use sprag_measure::stats::{chi_squared_quantile, mean};

use super::Noise;
use crate::record::{AuditEnd, Policy};

/// Degrees of freedom of the density of a difference.
const TAILS: f64 = 5.0;

/// The smallest effect that is weighed against none, in standard deviations of one run.
const SMALLEST_EFFECT: f64 = 0.5;

/// Each further effect is that much larger.
const EFFECT_RATIO: f64 = 1.5;

/// How many there are: the largest is 1,663 standard deviations.
const EFFECTS: i32 = 21;

/// Weights fall like a half-Cauchy density of this scale, so that large effects are not ruled out.
const USUAL_EFFECT: f64 = 3.0;

/// How surely the scale is not below the true one.
const CAUTION: f64 = 0.75;

/// Pairs before which nothing is decided: below, one number makes up the mind.
pub const LEAST_PAIRS: u32 = 2;

/// Evidence below which an audit is given up: the pairs speak ten to one against the tip.
const FUTILE: f64 = 0.1;

/// Judges pairs; `differences` are the tip's advantages, positive is better. `level` is what [`super::online`]
/// grants this audit. `None` asks for another pair. Without noise or pairs nothing can be said for the tip.
pub fn judge(differences: &[f64], noise: Noise, level: f64, policy: &Policy) -> Option<AuditEnd> {
    let Some(evidence) = e_value(differences, noise) else { return Some(AuditEnd::Open) };
    let pairs = differences.len() as u32;
    let spent = pairs >= policy.audit_pairs.max(LEAST_PAIRS);
    if pairs < LEAST_PAIRS {
        None
    } else if evidence >= 1.0 / level {
        Some(AuditEnd::Certified)
    } else if evidence < FUTILE || (spent && evidence < 1.0) {
        Some(AuditEnd::Failed)
    } else {
        spent.then_some(AuditEnd::Open)
    }
}

/// The evidence that the differences come from a better tip: how much better the mixture of effects predicts
/// them than no effect. 1 without differences; `None` when the noise is unknown.
pub fn e_value(differences: &[f64], noise: Noise) -> Option<f64> {
    let scale = scale(noise)?;
    Some(evidence(differences, scale, 0.0))
}

/// The interval of true advantages that the pairs do not contradict at that level on either side, valid however
/// often they were looked at: where evidence against a value reaches `1 / level` it is left out (Howard, Ramdas,
/// McAuliffe and Sekhon, "Time-uniform, nonparametric, nonasymptotic confidence sequences", Annals of Statistics
/// 2021). `None` without differences or noise.
pub fn interval(differences: &[f64], noise: Noise, level: f64) -> Option<(f64, f64)> {
    let (center, scale) = (mean(differences)?, scale(noise)?);
    if scale == 0.0 {
        return Some((center, center));
    }
    let turned: Vec<f64> = differences.iter().map(|one| -one).collect();
    let low = edge(differences, scale, center, level);
    let high = -edge(&turned, scale, -center, level);
    Some((low, high))
}

/// The highest value below `center` that the differences speak against as loudly as `1 / level`.
fn edge(differences: &[f64], scale: f64, center: f64, level: f64) -> f64 {
    let contradicts = |value: f64| evidence(differences, scale, value) >= 1.0 / level;
    let (mut inside, mut outside) = (center, center - scale);
    let mut step = scale;
    while !contradicts(outside) {
        step *= 2.0;
        if !step.is_finite() || step > scale * 1e6 {
            return f64::NEG_INFINITY;
        }
        inside = outside;
        outside = center - step;
    }
    for _ in 0..60 {
        let middle = f64::midpoint(inside, outside);
        if contradicts(middle) {
            outside = middle;
        } else {
            inside = middle;
        }
    }
    outside
}

/// Standard deviation of a difference of two runs, cautiously: `sigma * sqrt(2)` with sigma at the quantile
/// [`CAUTION`] of what its degrees of freedom allow.
fn scale(noise: Noise) -> Option<f64> {
    let low = chi_squared_quantile(1.0 - CAUTION, noise.freedom)?;
    Some((2.0 * noise.squares / low).sqrt())
}

fn evidence(differences: &[f64], scale: f64, none: f64) -> f64 {
    if differences.is_empty() {
        return 1.0;
    }
    if scale == 0.0 {
        // Without noise the first difference says everything.
        let better = differences.iter().all(|one| *one > none);
        return if better { f64::INFINITY } else { 0.0 };
    }
    let effects = || (0..EFFECTS).map(|number| SMALLEST_EFFECT * EFFECT_RATIO.powi(number));
    // The density times the distance to the neighbours, which grows with the effect.
    let weight = |effect: f64| effect / (1.0 + (effect / USUAL_EFFECT).powi(2));
    let total: f64 = effects().map(weight).sum();
    let likelihood = |effect: f64| {
        let shift = effect / 2f64.sqrt();
        let terms = differences.iter().map(|one| {
            let at = (one - none) / scale;
            (1.0 + at * at / TAILS).ln() - (1.0 + (at - shift).powi(2) / TAILS).ln()
        });
        (f64::midpoint(TAILS, 1.0) * terms.sum::<f64>()).exp()
    };
    effects().map(|effect| weight(effect) / total * likelihood(effect)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Preset;

    /// Sigma 0.01.
    const NOISE: Noise = Noise { squares: 9.0e-4, freedom: 9.0 };

    fn end(differences: &[f64]) -> Option<AuditEnd> {
        judge(differences, NOISE, 0.01, &Preset::Balanced.policy())
    }

    /// Values of `tests/reference/gate_values.py`, computed with scipy.
    #[test]
    fn the_e_value_and_the_interval_agree_with_an_independent_implementation() {
        let text = include_str!("../../tests/reference/gate_values.json");
        let values: serde_json::Value = serde_json::from_str(text).unwrap();
        let numbers = |value: &serde_json::Value| -> Vec<f64> {
            value.as_array().unwrap().iter().map(|one| one.as_f64().unwrap()).collect()
        };
        let cases = values["audits"].as_array().unwrap();
        assert!(cases.len() >= 20);
        for case in cases {
            let noise = Noise {
                squares: case["squares"].as_f64().unwrap(),
                freedom: case["freedom"].as_f64().unwrap(),
            };
            let differences = numbers(&case["differences"]);
            let (ours, theirs) = (e_value(&differences, noise).unwrap(), case["e_value"].as_f64().unwrap());
            assert!((ours / theirs - 1.0).abs() < 1e-8, "{ours} {theirs}");
            let (low, high) = interval(&differences, noise, 0.05).unwrap();
            let expected = numbers(&case["interval_95"]);
            let scale = (noise.squares / noise.freedom).sqrt();
            assert!((low - expected[0]).abs() < 1e-6 * scale, "{low} {}", expected[0]);
            assert!((high - expected[1]).abs() < 1e-6 * scale, "{high} {}", expected[1]);
        }
    }

    #[test]
    fn a_clear_gain_is_certified_and_a_loss_is_not() {
        assert_eq!(end(&[0.08]), None);
        assert_eq!(end(&[0.08, 0.09]), Some(AuditEnd::Certified));
        assert_eq!(end(&[1.0, 1.1]), Some(AuditEnd::Certified));
        assert_eq!(end(&[9.0, 9.1]), Some(AuditEnd::Certified));
        assert_eq!(end(&[-0.03, -0.02, -0.03, -0.02]), Some(AuditEnd::Failed));
        assert_eq!(end(&[0.0; 8]), Some(AuditEnd::Failed));
    }

    #[test]
    fn one_dip_of_the_machine_does_not_certify() {
        assert_ne!(end(&[100.0, 0.0, 0.001, -0.001, 0.0, 0.0, 0.0, 0.0]), Some(AuditEnd::Certified));
    }

    #[test]
    fn what_speaks_for_it_but_not_loudly_enough_stays_open() {
        assert_eq!(end(&[0.012, 0.004, 0.016, 0.012, 0.013, 0.01, 0.011, 0.011]), Some(AuditEnd::Open));
    }

    #[test]
    fn the_interval_holds_the_mean_and_excludes_zero_exactly_when_certified() {
        let certified = [0.08, 0.09];
        let (low, high) = interval(&certified, NOISE, 0.01).unwrap();
        assert!(low > 0.0 && low < 0.085 && high > 0.085);
        let open = [0.012, -0.004, 0.016];
        let (low, high) = interval(&open, NOISE, 0.01).unwrap();
        assert!(low < 0.0 && high > 0.0);
        // They agree by construction: the low end is where the evidence against it reaches 1 / level.
        for differences in [&certified[..], &open] {
            let evidence = e_value(differences, NOISE).unwrap();
            let (low, _) = interval(differences, NOISE, 0.01).unwrap();
            assert_eq!(evidence >= 100.0, low > 0.0);
        }
    }

    #[test]
    fn nothing_is_said_without_noise_known() {
        assert_eq!(e_value(&[0.1], Noise::default()), None);
        assert_eq!(interval(&[], NOISE, 0.05), None);
        assert_eq!(
            judge(&[0.1, 0.1], Noise::default(), 0.01, &Preset::Balanced.policy()),
            Some(AuditEnd::Open)
        );
    }

    #[test]
    fn without_noise_every_difference_is_real() {
        let exact = Noise { squares: 0.0, freedom: 9.0 };
        let policy = Preset::Balanced.policy();
        assert_eq!(judge(&[0.1, 0.1], exact, 0.01, &policy), Some(AuditEnd::Certified));
        assert_eq!(judge(&[0.0, 0.0], exact, 0.01, &policy), Some(AuditEnd::Failed));
        assert_eq!(interval(&[0.1, 0.1], exact, 0.05), Some((0.1, 0.1)));
    }
}
