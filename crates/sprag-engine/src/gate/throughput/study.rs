//! How often the rule finds planted dips, and how often it calls a fault where none was planted.
//!
//! Pure and seeded, so that the same rates give the same figures everywhere; reading recorded rates and
//! printing figures belong to the caller.

use super::{Answer, FaultKind, History, judge};

/// What is planted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dips {
    /// Part of the rate that a dip takes away, for example 0.05.
    pub depth: f64,
    /// Probability that an execution has one, the first ones of an arm included.
    pub share: f64,
    /// Where the dips fall.
    pub seed: u64,
    /// Whether an arm is judged with the scatter of the arms before it, or all alone.
    pub alone: bool,
}

/// What the rule said. Only executions with at least two earlier ones of their arm are counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Executions with a planted dip.
    pub dips: u32,
    /// Those that were called faults.
    pub found: u32,
    /// Those of which the rule said that it cannot tell.
    pub hidden: u32,
    /// Executions without a planted dip.
    pub sound: u32,
    /// Those that were called faults.
    pub false_alarms: u32,
    /// Those of which the rule said that it cannot tell.
    pub untold: u32,
}

impl Tally {
    /// Part of the dips that was found; `None` without dips.
    pub fn found_share(&self) -> Option<f64> {
        (self.dips > 0).then(|| f64::from(self.found) / f64::from(self.dips))
    }

    /// Part of the sound executions that were called faults; `None` without sound executions.
    pub fn false_alarm_share(&self) -> Option<f64> {
        (self.sound > 0).then(|| f64::from(self.false_alarms) / f64::from(self.sound))
    }
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Tally) {
        self.dips += other.dips;
        self.found += other.found;
        self.hidden += other.hidden;
        self.sound += other.sound;
        self.false_alarms += other.false_alarms;
        self.untold += other.untold;
    }
}

/// Plants dips in rates, one group for each arm in time order, and judges every execution by those before
/// it. Arms come one after the other, as groups that were recorded do.
///
/// ```
/// use sprag_engine::gate::throughput::{Dips, study};
/// let groups = vec![vec![100.0; 40]; 5];
/// let tally = study(&groups, Dips { depth: 0.05, share: 0.1, seed: 1, alone: false });
/// assert!(tally.dips > 0 && tally.found == tally.dips && tally.false_alarms == 0);
/// ```
pub fn study(groups: &[Vec<f64>], dips: Dips) -> Tally {
    let mut tally = Tally::default();
    let mut random = dips.seed;
    let mut before: Vec<Vec<f64>> = Vec::new();
    for group in groups {
        let mut own: Vec<f64> = Vec::new();
        for rate in group {
            let dip = uniform(&mut random) < dips.share;
            let rate = if dip { rate * (1.0 - dips.depth) } else { *rate };
            if own.len() >= 2 {
                let others: &[Vec<f64>] = if dips.alone { &[] } else { &before };
                let answer = judge("rate", Some(rate), None, &History { own: &own, others, loads: &[] });
                count(&mut tally, dip, &answer.answer);
            }
            own.push(rate);
        }
        before.push(own);
    }
    tally
}

fn count(tally: &mut Tally, dip: bool, answer: &Answer) {
    let fault = matches!(answer, Answer::Fault(fault) if fault.kind == FaultKind::Slow);
    let untold = matches!(answer, Answer::CannotTell(_));
    let (all, faults, unseen) = if dip {
        (&mut tally.dips, &mut tally.found, &mut tally.hidden)
    } else {
        (&mut tally.sound, &mut tally.false_alarms, &mut tally.untold)
    };
    *all += 1;
    *faults += u32::from(fault);
    *unseen += u32::from(untold);
}

/// The next number in [0, 1) of a sequence.
pub(super) fn uniform(state: &mut u64) -> f64 {
    *state = crate::session::split_mix(*state, 0);
    (*state >> 11) as f64 / (1u64 << 53) as f64
}
