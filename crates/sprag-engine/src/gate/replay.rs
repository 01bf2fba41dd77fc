//! What the keeps of a greedy loop prove: the recorded results of karpathy/autoresearch, judged afterwards.
//!
//! Such a loop runs every candidate once and keeps it when its score is better than the best before. The record
//! has no repeats, so the noise of one run is not in it and comes from the caller. Pure: text in, rows and
//! judgements out; what is said about them belongs to the program.
//!
//! Not simulated: the same loop with the recorded scores taken for true ones. They hold the noise once already,
//! and a chain that had kept something else would have tried other candidates, so the answer would look better
//! founded than it is. [`Chance`] gives what holds without such an assumption.

mod rows;

use serde::Serialize;
use sprag_measure::stats::{normal_cdf, normal_quantile};

pub use rows::{ReplayError, Results, Row, Status, parse, write};

/// One-sided error level of the tests here.
pub const ALPHA: f64 = 0.05;

/// Probability with which [`Judged::pairs`] pairs find a gain of the recorded size.
pub const POWER: f64 = 0.8;

/// What a record says by itself, without any assumption about the noise.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Replay {
    /// Name of the metric; lower is better.
    pub metric: String,
    /// Rows of all kinds.
    pub rows: usize,
    /// Rows that were kept, the baseline among them.
    pub kept: usize,
    /// Rows that were scored and discarded.
    pub discarded: usize,
    /// Rows without a score.
    pub crashed: usize,
    /// Score of the first kept row.
    pub baseline: f64,
    /// Best score that was kept.
    pub best: f64,
    /// `baseline - best`, in units of the metric.
    pub total_gain: f64,
    /// What noise alone does to so many runs.
    pub chance: Chance,
    /// The keeps after the baseline, in order.
    pub keeps: Vec<Keep>,
}

/// One recorded keep after the baseline.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Keep {
    /// Number of the row, from 1; the baseline's is 1 when it comes first.
    pub row: usize,
    /// Commit as it was recorded.
    pub commit: String,
    /// Score.
    pub value: f64,
    /// Best kept score before it less its own: positive when better.
    pub gain: f64,
    /// What was tried.
    pub description: String,
}

/// What "keep what is better than the best so far" does when nothing helps, or whatever helps.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Chance {
    /// Rows with a score from the baseline on, itself included.
    pub scored: usize,
    /// Keeps to expect after the baseline if no candidate differed from it: H_n - 1, the expected number of
    /// records among n independent equal runs, for any continuous noise (Rényi 1962, "Théorie des éléments
    /// saillants d'une suite d'observations").
    pub false_keeps: f64,
    /// Expected largest of n standard normal variables. Times sigma, it is the gain that is recorded on average
    /// if no candidate differs from the baseline. And whatever the candidates are worth, the best kept score
    /// flatters its code by no more than that on average: its noise is at most the most favourable one of all n.
    /// Assumes Gaussian noise, independent and equal for all runs.
    pub optimism_sigmas: f64,
}

/// Judgements at one assumed noise.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AtSigma {
    /// Assumed standard deviation of one run, in units of the metric.
    pub sigma: f64,
    /// Smallest gain that one pair of runs proves at one-sided level [`ALPHA`]: 1.645 √2 sigma.
    pub one_pair_proves: f64,
    /// Keeps below that.
    pub below: usize,
    /// Their part of the total gain, 0 to 1; `None` when nothing was gained.
    pub below_share: Option<f64>,
    /// [`Chance::optimism_sigmas`] in units of the metric.
    pub optimism_at_most: f64,
    /// One judgement for each of [`Replay::keeps`], in the same order.
    pub keeps: Vec<Judged>,
}

/// What can be said about one keep at an assumed noise.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Judged {
    /// Gain in standard deviations of the difference of two runs, `gain / (√2 sigma)`.
    pub z: f64,
    /// Pairs of fresh runs that would find a true gain of the recorded size with probability [`POWER`];
    /// `None` when there is no gain. Recorded gains were selected for being large, so the truth needs more.
    pub pairs: Option<u32>,
    /// The judgement in a word.
    pub class: Class,
}

/// What one recorded comparison of one run with one run shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// As large as one pair must show to prove a gain.
    ProvenByOnePair,
    /// Larger than the noise of a difference, too small for proof.
    Unproven,
    /// Smaller than the noise of a difference, √2 sigma.
    WithinNoise,
    /// Not better than the best before it.
    NoGain,
}

impl Class {
    /// The words shown to people.
    pub fn words(self) -> &'static str {
        match self {
            Class::ProvenByOnePair => "proven by one pair",
            Class::Unproven => "unproven",
            Class::WithinNoise => "within noise",
            Class::NoGain => "no gain",
        }
    }
}

impl Replay {
    /// Derives it; the first kept row is the baseline.
    ///
    /// # Errors
    /// No row was kept.
    pub fn of(results: &Results) -> Result<Replay, ReplayError> {
        let rows = &results.rows;
        let scored = |row: &Row| row.kept().or(row.discarded()).is_some();
        let first = rows.iter().position(|row| row.kept().is_some()).ok_or(ReplayError::NothingKept)?;
        let baseline = rows[first].kept().ok_or(ReplayError::NothingKept)?;
        let mut best = baseline;
        let mut keeps = Vec::new();
        for (index, row) in rows.iter().enumerate().skip(first + 1) {
            let Some(value) = row.kept() else { continue };
            let (commit, description) = (row.commit.clone(), row.description.clone());
            keeps.push(Keep { row: index + 1, commit, value, gain: best - value, description });
            best = best.min(value);
        }
        Ok(Replay {
            metric: results.metric.clone(),
            rows: rows.len(),
            kept: keeps.len() + 1,
            discarded: rows.iter().filter(|row| row.discarded().is_some()).count(),
            crashed: rows.iter().filter(|row| !scored(row)).count(),
            baseline,
            best,
            total_gain: baseline - best,
            chance: Chance::of(rows.iter().skip(first).filter(|row| scored(row)).count()),
            keeps,
        })
    }

    /// Judges every keep as if one run had that standard deviation, which must be positive and finite.
    pub fn at(&self, sigma: f64) -> AtSigma {
        let one_pair_proves = level() * std::f64::consts::SQRT_2 * sigma;
        let keeps: Vec<Judged> = self.keeps.iter().map(|keep| judge(keep.gain, sigma)).collect();
        let unproven = |judged: &Judged| judged.class != Class::ProvenByOnePair;
        let below = self.keeps.iter().zip(&keeps).filter(|(_, judged)| unproven(judged));
        let gain: f64 = below.map(|(keep, _)| keep.gain.max(0.0)).sum();
        AtSigma {
            sigma,
            one_pair_proves,
            below: keeps.iter().filter(|judged| unproven(judged)).count(),
            below_share: (self.total_gain > 0.0).then(|| gain / self.total_gain),
            optimism_at_most: self.chance.optimism_sigmas * sigma,
            keeps,
        }
    }
}

fn level() -> f64 {
    normal_quantile(1.0 - ALPHA).unwrap_or(f64::NAN)
}

/// The number of pairs is the normal formula `((z_alpha + z_power) sd / gain)²` with `sd = √2 sigma` for the
/// difference of one pair (Snedecor and Cochran, "Statistical Methods", on sample size in comparative experiments).
fn judge(gain: f64, sigma: f64) -> Judged {
    let z = gain / (std::f64::consts::SQRT_2 * sigma);
    let both = level() + normal_quantile(POWER).unwrap_or(f64::NAN);
    // A gain next to nothing needs more pairs than can be counted: the conversion saturates.
    let pairs = (gain > 0.0).then(|| (both / z).powi(2).ceil().max(1.0) as u32);
    let class = match z {
        z if z >= level() => Class::ProvenByOnePair,
        z if z >= 1.0 => Class::Unproven,
        z if z > 0.0 => Class::WithinNoise,
        _ => Class::NoGain,
    };
    Judged { z, pairs, class }
}

impl Chance {
    /// For that many runs with a score.
    pub fn of(scored: usize) -> Chance {
        let harmonic: f64 = (1..=scored).map(|n| 1.0 / n as f64).sum();
        Chance { scored, false_keeps: (harmonic - 1.0).max(0.0), optimism_sigmas: expected_maximum(scored) }
    }
}

/// Expected largest of n standard normal variables, `∫ (1 - Φⁿ) - ∫ Φⁿ` over the two half-lines, by Simpson's
/// rule; to more digits than the tables of Harter ("Expected Values of Normal Order Statistics", Biometrika 1961).
fn expected_maximum(n: usize) -> f64 {
    const STEPS: u32 = 2400;
    const END: f64 = 12.0;
    if n == 0 {
        return 0.0;
    }
    // Φ(x)ⁿ from the small tail, which keeps its digits.
    let power = |x: f64| (n as f64 * (-normal_cdf(-x)).ln_1p()).exp();
    let integrand = |x: f64| 1.0 - power(x) - normal_cdf(-x).powf(n as f64);
    let weight = |step: u32| match step {
        0 | STEPS => 1.0,
        step if step % 2 == 1 => 4.0,
        _ => 2.0,
    };
    let width = END / f64::from(STEPS);
    let sum: f64 = (0..=STEPS).map(|step| weight(step) * integrand(f64::from(step) * width)).sum();
    sum * width / 3.0
}

#[cfg(test)]
mod tests;
