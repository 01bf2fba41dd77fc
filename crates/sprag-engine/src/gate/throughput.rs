//! Decides whether an execution suffered from the machine: another process, a lower clock, heat.
//!
//! Pure: rates and loads in, answer out. Under a budget of wall time a slow machine looks like a bad
//! candidate. Only executions of the *same* code are compared, so a candidate's own speed is never corrected
//! for: faster code is a real gain under a time budget, and slower code a real loss.
//!
//! An execution is slow when its rate lies below the median of this code's recent executions by more than a
//! band. How wide the band is, all repeated arms say together: robust scatter of their rates, each about the
//! median of its neighbours in time, so that drift and single dips widen it little. A median of few samples
//! and a scatter known from few residuals widen it as they do for Student's t.
//!
//! Interference only slows. So of two executions that differ by more than the band the slower one is at
//! fault, even when it was the first ([`Judgement::earlier`]), and a fast one never is. Three slow
//! executions in a row that agree are no fault any more but the machine's new speed.
//!
//! What it cannot see: the first execution of new code has nothing to be compared with, so that only what
//! the system counted meanwhile speaks ([`Load`]); a lower clock is not among it. Nor is the speed within
//! one execution looked at: schedules of batch or sequence length change it legitimately.

mod study;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use sprag_measure::machine::Load;
use sprag_measure::stats::{MAD_TO_SD, median, student_t_quantile};

pub use study::{Dips, Tally, study};

/// Name of the fact that says how fast an execution worked.
pub const RATE: &str = "tokens_per_second";
/// Name of the fact that holds [`Load::other_processes`].
pub const OTHER_PROCESSES: &str = "other_processes_fraction";
/// Name of the fact that holds [`Load::steal`].
pub const STEAL: &str = "steal_fraction";

/// Relative drop that has to be seen: where the machine's scatter hides it, the answer says so.
pub const DIP: f64 = 0.05;
/// Probability with which a drop of [`DIP`] must be seen before an execution is called sound.
pub const POWER: f64 = 0.95;
/// The normal quantile of [`POWER`].
const POWER_QUANTILE: f64 = 1.644_853_6;
/// Narrowest band, as a part of the rate, so that scatter that a few residuals understate raises no alarm.
/// It divides [`DIP`] as the normal quantiles of [`LEVEL`] and [`POWER`] do (2.33 to 1.64), so that both
/// promises have the same room.
const FLOOR: f64 = 0.586 * DIP;
/// Relative standard deviation that is assumed of a machine of which little is known, and the degrees of
/// freedom that the assumption is worth beside the residuals: a quiet machine is judged after two
/// executions, and about a dozen overrule the assumption on one that is not.
const ASSUMED_SD: f64 = DIP / 6.0;
/// See [`ASSUMED_SD`].
const ASSUMED_FREEDOM: f64 = 8.0;
/// Probability that an execution without a fault lies above the lower end of the band, as far as its scatter
/// is normal.
const LEVEL: f64 = 0.99;
/// Executions that make the reference: few enough to follow a drift, enough for a median to stand two dips.
const RECENT: usize = 7;
/// Slow executions in a row, agreeing with one another, that are the machine's new speed.
const NEW_SPEED: usize = 3;
/// Part of the processors' capacity that other processes may take beyond the usual: as much as a dip.
const BUSY: f64 = DIP;
/// The same for time that a hypervisor took away.
const STOLEN: f64 = DIP / 2.0;
/// Executions after which their median load is the usual one; before, an idle machine is.
const USUAL_AFTER: usize = 3;

/// What is known besides the execution that is judged. All in time order, executions that were called
/// faults included: the rule leaves them out itself, and must see them to notice that a speed lasts.
#[derive(Clone, Copy, Debug, Default)]
pub struct History<'a> {
    /// Rates of the same code's earlier executions, in any unit of work per second.
    pub own: &'a [f64],
    /// Rates of other code, one group for each; only their scatter counts.
    pub others: &'a [Vec<f64>],
    /// Loads during earlier executions of any code.
    pub loads: &'a [Load],
}

/// What is said of an execution, and of earlier ones in its light.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// The answer.
    pub answer: Answer,
    /// Positions in [`History::own`] of executions that were slower than this code is, as is known by now.
    pub earlier: Vec<usize>,
}

/// Whether an execution suffered from the machine.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// It agrees with this code's other executions, and a drop of [`DIP`] would have been seen.
    Sound,
    /// It did: it is `INVALID(machine)` and to be repeated.
    Fault(Fault),
    /// Neither can be said.
    CannotTell(Unseen),
}

/// How the machine got in the way. `Display` is one line for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The class.
    pub kind: FaultKind,
    /// The line.
    pub detail: String,
}

/// Classes of faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// The rate is below this code's other executions.
    Slow,
    /// Other processes used the processors.
    Busy,
    /// A hypervisor gave the processors to others.
    Stolen,
}

/// Why nothing can be said. `Display` is a line for people.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Unseen {
    /// The execution has no rate.
    NoRate,
    /// There is no other execution of this code, or no code was executed twice yet.
    NothingToCompare,
    /// The machine's own scatter is too wide.
    TooWide {
        /// Smallest relative drop that would be seen with probability [`POWER`].
        smallest: f64,
    },
}

impl std::fmt::Display for Fault {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.detail)
    }
}

impl std::fmt::Display for Unseen {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Unseen::NoRate => formatter.write_str("the execution counted no work per second"),
            Unseen::NothingToCompare => formatter.write_str("there are no executions to compare with yet"),
            Unseen::TooWide { smallest } => write!(
                formatter,
                "this machine's speed scatters so much that only drops of {:.1} % and more can be told",
                100.0 * smallest
            ),
        }
    }
}

/// Judges an execution. `fact` names its rate (`tokens_per_second`), for the line that people read; a rate
/// that is no positive number counts as none.
///
/// Rates come before loads: an execution that kept its pace on a busy machine is sound.
///
/// ```
/// use sprag_engine::gate::throughput::{Answer, History, judge};
/// let history = History { own: &[25_100.0, 25_140.0, 25_090.0], ..History::default() };
/// let slow = judge("tokens_per_second", Some(23_850.0), None, &history);
/// let Answer::Fault(fault) = slow.answer else { panic!("a drop of 5 % was missed") };
/// assert_eq!(fault.to_string(), "tokens/s 5.0 % below this code's other runs");
/// ```
pub fn judge(fact: &str, rate: Option<f64>, load: Option<Load>, history: &History<'_>) -> Judgement {
    let mut replay = Replay { scatter: scatter(history), ..Replay::default() };
    for (position, rate) in history.own.iter().enumerate().filter(|(_, rate)| is_rate(**rate)) {
        replay.step(position, *rate);
    }
    let by_rate = match rate.filter(|rate| is_rate(*rate)) {
        None => Answer::CannotTell(Unseen::NoRate),
        Some(rate) => match replay.step(history.own.len(), rate) {
            Seen::Slow(drop) => Answer::Fault(Fault {
                kind: FaultKind::Slow,
                detail: format!("{} {:.1} % below this code's other runs", unit(fact), 100.0 * drop),
            }),
            Seen::Sound => Answer::Sound,
            Seen::Unseen(why) => Answer::CannotTell(why),
        },
    };
    let answer = match by_rate {
        Answer::CannotTell(why) => {
            load.and_then(|load| taken(load, history.loads)).map_or(Answer::CannotTell(why), Answer::Fault)
        }
        known => known,
    };
    let slow = replay.slow.into_iter().filter(|position| *position < history.own.len());
    Judgement { answer, earlier: slow.collect() }
}

/// The load among an outcome's facts, as the lane left it there.
pub fn load(facts: &BTreeMap<String, f64>) -> Option<Load> {
    Some(Load { other_processes: *facts.get(OTHER_PROCESSES)?, steal: *facts.get(STEAL)? })
}

/// What the system counted against this execution, beyond what is usual on this machine.
fn taken(load: Load, earlier: &[Load]) -> Option<Fault> {
    let usual = |part: fn(&Load) -> f64| {
        let parts: Vec<f64> = earlier.iter().map(part).collect();
        median(&parts).filter(|_| parts.len() >= USUAL_AFTER).unwrap_or(0.0)
    };
    let line = |who: &str, part: f64| format!("{who} {:.0} % of the processors meanwhile", 100.0 * part);
    if load.steal - usual(|load| load.steal) >= STOLEN {
        let detail = line("the hypervisor took", load.steal);
        return Some(Fault { kind: FaultKind::Stolen, detail });
    }
    if load.other_processes - usual(|load| load.other_processes) >= BUSY {
        let detail = line("other processes used", load.other_processes);
        return Some(Fault { kind: FaultKind::Busy, detail });
    }
    None
}

fn is_rate(rate: f64) -> bool {
    rate.is_finite() && rate > 0.0
}

/// `tokens_per_second` as people write it.
fn unit(fact: &str) -> String {
    fact.replace("_per_second", "/s").replace('_', " ")
}

/// How executions of the same code scatter on this machine.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Scatter {
    /// Relative standard deviation of one execution's rate.
    sd: f64,
    /// Standard deviations below which one execution lies with probability [`LEVEL`], by Student's t: the
    /// fewer residuals the standard deviation rests on, the more.
    quantile: f64,
}

/// Robust scatter of all arms that were executed at least twice; `None` without one.
///
/// The median absolute residual ([`MAD_TO_SD`] cites its source), each residual about the median of up to
/// three neighbours on either side and divided by what the scatter of that median adds. It is pooled with
/// [`ASSUMED_SD`] by degrees of freedom, as the mean of a scaled inverse chi-squared prior is (Gelman and
/// others, "Bayesian Data Analysis", 3rd edition, section 2.6).
fn scatter(history: &History<'_>) -> Option<Scatter> {
    let (mut residuals, mut freedom) = (Vec::new(), 0.0);
    for arm in std::iter::once(history.own).chain(history.others.iter().map(Vec::as_slice)) {
        let rates: Vec<f64> = arm.iter().copied().filter(|rate| is_rate(*rate)).collect();
        if rates.len() < 2 {
            continue;
        }
        freedom += rates.len() as f64 - 1.0;
        for (at, rate) in rates.iter().enumerate() {
            let reach = RECENT / 2;
            let (from, to) = (at.saturating_sub(reach), (at + reach + 1).min(rates.len()));
            let neighbours = [&rates[from..at], &rates[at + 1..to]].concat();
            let Some(centre) = median(&neighbours) else { continue };
            residuals.push((rate / centre - 1.0).abs() / widening(neighbours.len()));
        }
    }
    let seen = MAD_TO_SD * median(&residuals)?;
    let (squares, all) = (ASSUMED_FREEDOM * ASSUMED_SD.powi(2), ASSUMED_FREEDOM + freedom);
    Some(Scatter {
        sd: ((squares + freedom * seen.powi(2)) / all).sqrt(),
        quantile: student_t_quantile(LEVEL, all).unwrap_or(f64::INFINITY),
    })
}

/// Standard deviation of a sample's distance from the median of `n` others, in units of the sample's own.
fn widening(n: usize) -> f64 {
    (1.0 + MEDIAN_VARIANCE[n.clamp(1, RECENT) - 1]).sqrt()
}

/// Variance of the median of 1, 2, .. 7 samples of a standard normal distribution (Rider, "Variance of the
/// Median of Small Samples from Several Special Populations", JASA 1960).
const MEDIAN_VARIANCE: [f64; RECENT] = [1.0, 0.5, 0.448_7, 0.298_2, 0.286_8, 0.214_7, 0.210_4];

/// What one execution looked like from those before it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Seen {
    Sound,
    /// By this part below the reference.
    Slow(f64),
    Unseen(Unseen),
}

/// One code's executions, gone through in time order.
#[derive(Debug, Default)]
struct Replay {
    scatter: Option<Scatter>,
    /// Rates at the present speed, with their positions.
    level: Vec<(usize, f64)>,
    /// The latest executions, as long as all of them were slow.
    streak: Vec<(usize, f64)>,
    /// Positions of the slow ones.
    slow: Vec<usize>,
}

impl Replay {
    fn step(&mut self, position: usize, rate: f64) -> Seen {
        let (Some(scatter), Some(reference)) = (self.scatter, self.reference()) else {
            self.level.push((position, rate));
            return Seen::Unseen(Unseen::NothingToCompare);
        };
        let spread = scatter.sd * widening(self.level.len());
        let band = FLOOR.max(scatter.quantile * spread);
        let drop = 1.0 - rate / reference;
        if drop > band {
            self.streak.push((position, rate));
            if !self.is_new_speed(band) {
                self.slow.push(position);
                return Seen::Slow(drop);
            }
            self.slow.retain(|slow| self.streak.iter().all(|(position, _)| position != slow));
            self.level = std::mem::take(&mut self.streak);
        } else {
            self.streak.clear();
            if drop < -band && self.level.len() == 1 {
                self.slow.extend(self.level.drain(..).map(|(position, _)| position));
            }
            self.level.push((position, rate));
        }
        let smallest = band + POWER_QUANTILE * spread;
        if smallest > DIP { Seen::Unseen(Unseen::TooWide { smallest }) } else { Seen::Sound }
    }

    fn reference(&self) -> Option<f64> {
        let recent = self.level.len().saturating_sub(RECENT);
        median(&self.level[recent..].iter().map(|(_, rate)| *rate).collect::<Vec<f64>>())
    }

    fn is_new_speed(&self, band: f64) -> bool {
        let rates = || self.streak.iter().map(|(_, rate)| *rate);
        let (least, most) = (rates().fold(f64::INFINITY, f64::min), rates().fold(0.0, f64::max));
        self.streak.len() >= NEW_SPEED && 1.0 - least / most <= band
    }
}
