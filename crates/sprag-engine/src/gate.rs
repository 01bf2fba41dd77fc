//! Decides whether a trial beats the incumbent, and whether what was kept is really better.
//!
//! Pure: samples in, verdict out. Running trials belongs to `runner`, their order to `session`.
//!
//! Two levels. A candidate that looks better on few runs becomes the *tentative* tip ([`tentative`]): fast, and
//! sometimes wrong. Every few keeps the tip is *audited* against the last certified champion ([`audit`]) under
//! fresh seeds and a level that all audits of the run share ([`online`]); an audit that fails is followed by
//! bisection ([`chain`]). [`ladder`] counts and guards what is asked of the sealed holdout. [`cause`] names what a kept
//! change owes its gain to.
//!
//! The noise is pooled: deviations within every arm that was executed more than once. It is known from few runs
//! and heavy-tailed, so quantiles are Student's, and what remains is measured: [`simulate`] plays the very same
//! functions against invented and recorded noise.

pub mod audit;
pub mod cause;
pub mod chain;
pub mod curve;
pub mod ladder;
pub mod level;
pub mod online;
pub mod simulate;
pub mod tentative;

pub mod replay;

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
        arms.into_iter().fold(Noise::default(), Noise::with)
    }

    /// With one more arm.
    #[must_use]
    pub fn with(self, arm: &[f64]) -> Noise {
        let freedom = arm.len().saturating_sub(1) as f64;
        Noise { squares: self.squares + squares(arm), freedom: self.freedom + freedom }
    }

    /// Standard deviation of one run; `None` when no arm was repeated.
    pub fn sigma(&self) -> Option<f64> {
        (self.freedom > 0.0).then(|| (self.squares / self.freedom).sqrt())
    }
}

fn squares(arm: &[f64]) -> f64 {
    let Some(center) = mean(arm) else { return 0.0 };
    arm.iter().map(|score| (score - center).powi(2)).sum()
}

/// The verdict on repeats of the baseline; `None` below two.
pub fn baseline(scores: &[f64]) -> Option<Verdict> {
    let sd = Noise::pooled([scores]).sigma()?;
    Some(Verdict::Baseline { mean: mean(scores)?, sd, n: scores.len() as u32 })
}

/// Verdict of an effect that was not kept.
pub fn undecided(effect: Effect) -> Verdict {
    if effect.high < 0.0 { Verdict::Loss(effect) } else { Verdict::Inconclusive(effect) }
}

/// The smallest true gain over an incumbent known with that `variance` (in variances of one run) that is kept with
/// about probability `power`, in units of the metric.
///
/// The candidate must pass the screen and, with all its runs together, the last look: the larger of
/// `(screen_z + z) * sigma * sqrt(1 + v)` and `(t_alpha + z) * sigma * sqrt(1/(1+K) + v)`, where `z` stands for the
/// root of the power asked for, because both must be passed.
pub fn detectable(noise: Noise, variance: f64, policy: &Policy, power: f64) -> Option<f64> {
    let (sigma, incumbent) = (noise.sigma()?, variance);
    let quantile = |p: f64| student_t_quantile(p, noise.freedom);
    let each = quantile(power.sqrt())?;
    let runs = f64::from(policy.max_repeats + 1);
    let screened = (policy.screen_z + each) * (1.0 + incumbent).sqrt();
    let confirmed = (quantile(1.0 - policy.alpha)? + each) * (1.0 / runs + incumbent).sqrt();
    Some(sigma * screened.max(confirmed))
}

/// How much better `candidate` is than `incumbent`; positive is better.
pub fn advantage(candidate: f64, incumbent: f64, direction: Direction) -> f64 {
    match direction {
        Direction::Lower => incumbent - candidate,
        Direction::Higher => candidate - incumbent,
    }
}

/// A gain in standard errors. Without noise every difference is real, and none is none.
fn ratio(gain: f64, error: f64) -> f64 {
    match (gain == 0.0, error == 0.0) {
        (true, true) => 0.0,
        (false, true) => gain.signum() * f64::INFINITY,
        _ => gain / error,
    }
}

fn effect(gain: f64, error: f64, freedom: f64, alpha: f64, runs: u32, sigma: f64) -> Effect {
    // With no degrees of freedom nothing is certain.
    let quantile = student_t_quantile(1.0 - alpha, freedom).unwrap_or(f64::MAX.sqrt());
    let half = if error == 0.0 { 0.0 } else { quantile * error };
    Effect { gain, low: gain - half, high: gain + half, runs, sigma }
}

#[cfg(test)]
mod tests;
