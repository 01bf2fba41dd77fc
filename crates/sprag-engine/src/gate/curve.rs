//! Decides, while a candidate trains, whether its loss has left the band of the incumbent's earlier runs.
//!
//! Pure: training curves in, a word out. `runner` feeds it and stops the execution; `session` decides the trial.
//!
//! The median stopping rule of Golovin et al. 2017 ("Google Vizier: A Service for Black-Box Optimization", section
//! 3.2.2) stops a trial whose best objective so far is worse than the median of the running averages of all
//! completed trials at the same step. That would stop half of all equals. Here the comparison is with the *worst* of
//! several runs of one code, the incumbent, and a margin of robust standard deviations beyond it; the loss
//! must stay there for several points in a row.
//!
//! Learning rates follow the budget, so a loss says little without its place in the schedule, which is not known.
//! Therefore only the middle is compared ([`FROM`] to [`TO`] of the candidate's budget, at most [`TO`] of the
//! incumbent's), only where both stand within [`APART`] of each other at the same step, and with whichever of two
//! losses of the incumbent is higher: that at the same step, or that at the same fraction of the budget. A faster
//! candidate, which is at a smaller fraction at the same step, is so never behind for being early in its schedule.
//!
//! Measured on invented curves with heavy-tailed noise (the module's tests): of 4000 equals 1, 0 and 0 were stopped
//! with 3, 5 and 10 runs of the incumbent; where a seed moves a whole run by 0.1 nats, 12, 3 and 8. A loss 0.2 worse
//! throughout, some eight times what a seed does to it, was stopped in 39 to 65 % of 400 runs, one 0.4 worse in 98 %
//! or more: this spares the hopeless, not the merely worse.
//!
//! What this does not see: losses are the candidate's own words. One that trains on another loss (dropout, label
//! smoothing, an auxiliary term) can stand above the band and score better; [`runs_on`] measures how often, and
//! `early_stop = false` is for tasks where it happens. One that understates its loss is not stopped, and gains
//! nothing but its usual score.

use std::fmt;

use sprag_measure::stats::{MAD_TO_SD, median, median_absolute_deviation};

use crate::event::Progress;
use crate::record::{Budget, Score};
use crate::session::split_mix;

/// The fact of a score whose execution would have been stopped, had [`runs_on`] not spared it. Its value is 1.
pub const WOULD_HAVE_STOPPED: &str = "would_have_stopped";

/// Part of a candidate's budget before which nothing is compared: warm-up, and losses that still fall steeply.
pub const FROM: f64 = 0.3;

/// Part of either one's budget after which nothing is compared: there schedules come down.
pub const TO: f64 = 0.6;

/// How far apart, in parts of the budget, both may stand at the same step.
pub const APART: f64 = 0.1;

/// Part of the budget that one compared point averages over.
const WIDTH: f64 = 0.02;

/// Curves of the incumbent below which there is no band.
pub const LEAST_CURVES: usize = 3;

/// Curves of one code below which their spread says nothing.
const LEAST_SPREAD: usize = 5;

/// Robust standard deviations beyond the worst curve that are still within the band.
pub const MARGIN: f64 = 3.0;

/// The least standard deviation that is believed, as a part of the loss.
const LEAST_SD: f64 = 0.001;

/// Points in a row outside the band that stop an execution.
pub const POINTS: u32 = 3;

/// Salt of [`runs_on`], so that what it picks has nothing to do with anything else drawn from a seed.
const SALT: u64 = 0x6375_7276;

/// Whether an execution with this seed goes on to its end although it would be stopped: one in twenty does, always
/// the same ones, so that how often stopping is wrong can be read from the ledger.
pub fn runs_on(seed: u64) -> bool {
    split_mix(seed, SALT).is_multiple_of(20)
}

/// What curves are compared at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    /// Optimiser steps, as the candidates tell them.
    Steps,
    /// Tokens served.
    Tokens,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Point {
    /// In the curve's unit.
    at: f64,
    /// Part of the budget, 0 to 1.
    fraction: f64,
    /// In nats a token.
    loss: f64,
}

/// One training curve, `at` and `fraction` ascending.
#[derive(Clone, Debug, PartialEq)]
struct Curve(Vec<Point>);

impl Curve {
    /// The curve of a score; `None` where it cannot be placed in that unit.
    fn read(score: &Score, budget: Budget, unit: Unit) -> Option<Curve> {
        if matches!(budget, Budget::Evaluations(_)) {
            return None;
        }
        let amount = budget.amount();
        let points: Vec<Point> = match unit {
            Unit::Steps if score.curve.len() == score.curve_steps.len() => {
                let steps = score.curve.iter().zip(&score.curve_steps);
                steps.map(|(&[x, loss], &at)| Point { at, fraction: x / amount, loss }).collect()
            }
            Unit::Tokens if matches!(budget, Budget::Tokens(_)) => {
                score.curve.iter().map(|&[x, loss]| Point { at: x, fraction: x / amount, loss }).collect()
            }
            _ => return None,
        };
        let finite = |point: &Point| [point.at, point.fraction, point.loss].iter().all(|one| one.is_finite());
        (points.len() >= 2 && points.iter().all(finite)).then_some(Curve(points))
    }

    /// Mean loss and fraction of the points whose `key` lies within `low` and `high`, or what a straight line
    /// between its neighbours says of the middle. `None` beyond the curve's ends.
    fn between(&self, key: fn(&Point) -> f64, low: f64, high: f64) -> Option<Point> {
        let inside: Vec<&Point> = self.0.iter().filter(|&point| (low..=high).contains(&key(point))).collect();
        let n = inside.len() as f64;
        let mean = |of: fn(&Point) -> f64| inside.iter().map(|&point| of(point)).sum::<f64>() / n;
        let last = self.0.last().map_or(f64::NEG_INFINITY, key);
        if !inside.is_empty() && high <= last {
            return Some(Point {
                at: mean(|point| point.at),
                fraction: mean(|point| point.fraction),
                loss: mean(|point| point.loss),
            });
        }
        let middle = f64::midpoint(low, high);
        let after = self.0.iter().position(|point| key(point) >= middle)?;
        let [before, after] = [self.0.get(after.checked_sub(1)?)?, &self.0[after]];
        let width = key(after) - key(before);
        let part = if width > 0.0 { (middle - key(before)) / width } else { 0.0 };
        let mix = |a: f64, b: f64| a + part * (b - a);
        Some(Point {
            at: mix(before.at, after.at),
            fraction: mix(before.fraction, after.fraction),
            loss: mix(before.loss, after.loss),
        })
    }
}

/// Where the incumbent's loss has been.
#[derive(Clone, Debug, PartialEq)]
pub struct Band {
    unit: Unit,
    incumbent: Vec<Curve>,
    /// Runs of one code, the baseline's: what seeds do to a loss.
    noise: Vec<Curve>,
}

impl Band {
    /// From full runs of the incumbent and of the baseline, which may be the same. `None` with fewer than
    /// [`LEAST_CURVES`] curves of the incumbent that know their steps, or their tokens under a budget of tokens.
    pub fn new(incumbent: &[&Score], baseline: &[&Score], budget: Budget) -> Option<Band> {
        let read = |scores: &[&Score], unit| -> Vec<Curve> {
            scores.iter().filter_map(|score| Curve::read(score, budget, unit)).collect()
        };
        let band = |unit| Band { unit, incumbent: read(incumbent, unit), noise: read(baseline, unit) };
        [Unit::Steps, Unit::Tokens].map(band).into_iter().find(|band| band.incumbent.len() >= LEAST_CURVES)
    }

    /// The highest loss within the band, before its margin, and the standard deviation that the margin is made of.
    /// `None` where there is nothing to compare with.
    fn edge(&self, low: Point, high: Point) -> Option<(f64, f64)> {
        let fraction = f64::midpoint(low.fraction, high.fraction);
        if !(FROM..=TO).contains(&fraction) {
            return None;
        }
        let at_fraction = |curve: &Curve| {
            curve.between(|point| point.fraction, low.fraction, high.fraction).map(|at| at.loss)
        };
        let comparable = self.incumbent.iter().filter_map(|curve| {
            let same_step = curve.between(|point| point.at, low.at, high.at)?;
            let apart = (same_step.fraction - fraction).abs();
            let near = same_step.fraction <= TO && apart < APART;
            near.then_some(same_step.loss.max(at_fraction(curve)?))
        });
        let losses: Vec<f64> = comparable.collect();
        if losses.len() < LEAST_CURVES {
            return None;
        }
        let noise: Vec<f64> = self.noise.iter().filter_map(at_fraction).collect();
        let sd = [robust_sd(&losses), robust_sd(&noise)].into_iter().flatten().reduce(f64::max)?;
        let worst = losses.iter().copied().reduce(f64::max)?;
        Some((worst, sd.max(LEAST_SD * median(&losses)?.abs())))
    }
}

/// The scaled median absolute deviation, made right for few samples (Croux and Rousseeuw 1992, "Time-efficient
/// algorithms for two highly robust estimators of scale"). `None` below [`LEAST_SPREAD`].
fn robust_sd(samples: &[f64]) -> Option<f64> {
    let few = match samples.len() {
        0..LEAST_SPREAD => return None,
        5 => 1.206,
        6 => 1.200,
        7 => 1.140,
        8 => 1.129,
        9 => 1.107,
        n => n as f64 / (n as f64 - 0.8),
    };
    Some(few * MAD_TO_SD * median_absolute_deviation(samples)?)
}

/// A candidate's loss has left the band.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Left {
    unit: Unit,
    at: f64,
    fraction: f64,
    loss: f64,
    limit: f64,
}

/// `its loss left the incumbent's band: 4.312 nats a token at step 420 (38 % of its budget), 3 points in a row over the limit, here 4.021`.
impl fmt::Display for Left {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Left { unit, at, fraction, loss, limit } = self;
        let unit = match unit {
            Unit::Steps => "step",
            Unit::Tokens => "token",
        };
        write!(
            formatter,
            "its loss left the incumbent's band: {loss:.3} nats a token at {unit} {at:.0} ({:.0} % of its budget), \
             {POINTS} points in a row over the limit, here {limit:.3}",
            100.0 * fraction
        )
    }
}

/// Follows one execution of a candidate.
#[derive(Clone, Debug)]
pub struct Follower {
    band: Band,
    /// Where the point under way begins; `None` before the first sign.
    from: Option<Point>,
    losses: f64,
    signs: u32,
    /// The highest standard deviation seen so far: one that is small by chance at one point is not believed.
    sd: f64,
    outside: u32,
    left: Option<Left>,
}

impl Follower {
    /// At the beginning of an execution.
    pub fn new(band: Band) -> Follower {
        Follower { band, from: None, losses: 0.0, signs: 0, sd: 0.0, outside: 0, left: None }
    }

    /// Takes a sign of the evaluator in. Says where the candidate left the band, from then on at every sign.
    pub fn take(&mut self, progress: &Progress) -> Option<Left> {
        let at = match self.band.unit {
            Unit::Steps => progress.step,
            Unit::Tokens => progress.tokens,
        };
        let loss = progress.mean_loss.or(progress.loss).filter(|loss| loss.is_finite());
        if let (Progress::TRAINING, None, Some(at), Some(fraction), Some(loss)) =
            (progress.stage.as_str(), self.left, at, progress.fraction, loss)
        {
            self.add(Point { at: at as f64, fraction, loss });
        }
        self.left
    }

    fn add(&mut self, sign: Point) {
        let Some(from) = self.from else {
            self.from = Some(sign);
            return;
        };
        self.losses += sign.loss;
        self.signs += 1;
        if sign.fraction - from.fraction < WIDTH {
            return;
        }
        let loss = self.losses / f64::from(self.signs);
        (self.from, self.losses, self.signs) = (Some(sign), 0.0, 0);
        let Some((worst, sd)) = self.band.edge(from, sign) else {
            self.outside = 0;
            return;
        };
        self.sd = self.sd.max(sd);
        let limit = worst + MARGIN * self.sd;
        self.outside = if loss > limit { self.outside + 1 } else { 0 };
        if self.outside >= POINTS {
            let Point { at, fraction, .. } = sign;
            self.left = Some(Left { unit: self.band.unit, at, fraction, loss, limit });
        }
    }
}

#[cfg(test)]
mod tests;
