//! Whether two answers to the same tokens are the same answer.

use std::collections::HashMap;

use super::channel::Ended;
use super::foresight::Foresight;
use super::likelihood::Likelihood;
use super::plan::{Probe, Purpose, Question};
use super::wager::{PROOF, Wager};

/// Positions of a window at which all logits are compared; at the others only the target's log-probability.
const COMPARED_ROWS: usize = 4;

/// Probes without which a mean over them says nothing.
const LEAST_PROBES: usize = 8;

/// Standard errors by which a mean leak must exceed its bound.
const LEAK_ERRORS: f64 = 4.0;

/// Arithmetic of the candidate's device: decides what counts as the same answer.
///
/// The same tokens in another batch go through other kernels or another order of sums, so honest answers
/// differ by rounding. What a leak could gain below the tolerance is bounded by the sum of log-probability
/// differences over all positions before a false suffix, averaged over the probes: rounding has either sign
/// and averages out, a gain does not. That mean may exceed its bound by four of its standard errors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// 32-bit floating point throughout. Rounding moves a logit by about 1e-5 of its size; allowed are
    /// 5e-4 and 5e-5 of its size. The mean may be 0.0005 nats: 0.0002 bits per byte at 3.5 bytes a token,
    /// a tenth or less of what another seed does.
    #[default]
    Single,
    /// bfloat16, half, or TF32 matrix products. Rounding moves a logit by about 1 % of its size; allowed are
    /// 0.05 and 2 % of its size. The mean may be 0.02 nats, which is 0.008 bits per byte: gains of that size
    /// deserve a look at the source.
    Reduced,
}

#[derive(Clone, Copy, Debug)]
struct Tolerance {
    absolute: f64,
    relative: f64,
    /// Of the mean over probes of the summed log-probability differences before the suffix, in nats.
    leak_nats: f64,
}

impl Precision {
    fn tolerance(self) -> Tolerance {
        match self {
            Precision::Single => Tolerance { absolute: 5e-4, relative: 5e-5, leak_nats: 5e-4 },
            Precision::Reduced => Tolerance { absolute: 5e-2, relative: 2e-2, leak_nats: 2e-2 },
        }
    }
}

impl Tolerance {
    /// For numbers of about this size.
    fn at(self, size: f64) -> f64 {
        self.absolute + self.relative * size
    }
}

/// What was said on the first showing of a probed window.
struct First {
    purpose: Purpose,
    likelihoods: Vec<Likelihood>,
    rows: Vec<(usize, Vec<f32>)>,
}

/// Compares answers as they come; judges at the end, when all faults are known.
pub(super) struct Consistency {
    tolerance: Tolerance,
    vocab_size: usize,
    waiting: HashMap<usize, First>,
    /// First fault of each kind.
    state: Option<String>,
    causality: Option<String>,
    /// By probe: sum of log-probability differences before the suffix.
    leaks: Vec<f64>,
    /// Nats of true next tokens that were not there to be seen.
    blind: Vec<f64>,
    foresight: Foresight,
}

impl Consistency {
    pub(super) fn new(precision: Precision, vocab_size: usize) -> Self {
        Consistency {
            tolerance: precision.tolerance(),
            vocab_size,
            waiting: HashMap::new(),
            state: None,
            causality: None,
            leaks: Vec::new(),
            blind: Vec::new(),
            foresight: Foresight::default(),
        }
    }

    /// Takes the answer to one question: its logits and what they say about the window's own targets.
    /// `scored` tells whether the target at a position counts.
    pub(super) fn take(
        &mut self,
        question: &Question,
        logits: &[f32],
        likelihoods: Vec<Likelihood>,
        scored: impl Fn(usize) -> bool,
    ) {
        let Some(probe) = question.purpose.probe() else { return };
        for splice in &question.splices {
            let before = &logits[(splice.at - 1) * self.vocab_size..][..self.vocab_size];
            self.foresight.take(before, question.tokens[splice.at], &splice.decoys);
        }
        let Some(first) = self.waiting.remove(&question.window) else {
            let rows = compared_rows(probe, likelihoods.len());
            let rows = rows.into_iter().map(|at| (at, self.row(logits, at).to_vec())).collect();
            self.waiting.insert(question.window, First { purpose: question.purpose, likelihoods, rows });
            return;
        };
        self.compare(probe, &first, logits, &likelihoods);
        if let Probe::Suffix { from } = probe {
            let blind_first = matches!(first.purpose, Purpose::Probe(_));
            let (of_probe, of_window) = if blind_first {
                (&first.likelihoods, &likelihoods)
            } else {
                (&likelihoods, &first.likelihoods)
            };
            let differences = of_probe.iter().zip(of_window).take(from);
            self.leaks.push(differences.map(|(probe, window)| probe.nats - window.nats).sum());
            if blind_first && scored(from - 1) {
                self.blind.push(of_probe[from - 1].nats);
            }
        }
    }

    fn row<'a>(&self, logits: &'a [f32], at: usize) -> &'a [f32] {
        &logits[at * self.vocab_size..][..self.vocab_size]
    }

    fn compare(&mut self, probe: Probe, first: &First, logits: &[f32], second: &[Likelihood]) {
        let fault = self.fault(probe, first, logits, second);
        match probe {
            Probe::Suffix { from } if self.causality.is_none() => {
                self.causality =
                    fault.map(|what| format!("{what}, when only tokens from position {from} on changed"));
            }
            Probe::Again if self.state.is_none() => {
                self.state = fault.map(|what| format!("{what}, when the same window was asked for later"));
            }
            Probe::Alone if self.state.is_none() => {
                self.state =
                    fault.map(|what| format!("{what}, when the same window stood alone in its batch"));
            }
            _ => {}
        }
    }

    /// The first difference above the tolerance, in words.
    fn fault(&self, probe: Probe, first: &First, logits: &[f32], second: &[Likelihood]) -> Option<String> {
        for (at, before) in &first.rows {
            for (id, (&a, &b)) in before.iter().zip(self.row(logits, *at)).enumerate() {
                let (a, b) = (f64::from(a), f64::from(b));
                if (a - b).abs() > self.tolerance.at(a.abs().max(b.abs())) {
                    return Some(format!("logit {id} at position {at} went from {a} to {b}"));
                }
            }
        }
        let compared = first.likelihoods.iter().zip(second).take(compared_positions(probe, second.len()));
        for (at, (a, b)) in compared.enumerate() {
            // A log-probability is a difference of two logits, neither larger than this.
            let size = f64::from(a.peak.abs()).max(f64::from(b.peak.abs())) + a.nats.max(b.nats);
            if (a.nats - b.nats).abs() > 2.0 * self.tolerance.at(size) {
                let (a, b) = (a.nats, b.nats);
                return Some(format!("the log-probability at position {at} went from -{a} to -{b} nats"));
            }
        }
        None
    }

    /// The verdict over all questions. `sighted`: mean nats of all scored tokens. A state shows in suffix probes too, so it is named first.
    pub(super) fn verdict(&self, sighted: Option<f64>) -> Result<(), Ended> {
        if let Some(detail) = &self.state {
            return Err(Ended::invalid("state", detail));
        }
        if let Some(detail) = &self.causality {
            return Err(Ended::invalid("causality", detail));
        }
        if let Some((leak, error)) = mean_and_error(&self.leaks)
            && leak.abs() > self.tolerance.leak_nats + LEAK_ERRORS * error
        {
            let detail =
                format!("tokens before a changed suffix changed by {leak} nats in the mean of all probes");
            return Err(Ended::invalid("causality", detail));
        }
        self.blind_answers_are_as_good(sighted)?;
        self.foresight.verdict()
    }

    /// Where a false suffix begins is drawn at random, so the blind tokens of an honest candidate are a random
    /// sample of all: their nats over the mean of all nats are what fair bets pay, whatever the distribution.
    fn blind_answers_are_as_good(&self, sighted: Option<f64>) -> Result<(), Ended> {
        let (Some(mean), n @ 1..) = (sighted, self.blind.len()) else { return Ok(()) };
        let mut wager = Wager::default();
        self.blind.iter().for_each(|nats| wager.bet(nats / mean.max(f64::MIN_POSITIVE)));
        if Wager::log_capital(&[wager]) < PROOF.ln() {
            return Ok(());
        }
        let blind = self.blind.iter().sum::<f64>() / n as f64;
        let detail = format!(
            "{mean:.3} nats a token where the next token was in sight, {blind:.3} where it was not (n = {n})"
        );
        Err(Ended::invalid("causality", detail))
    }
}

/// Mean and its standard error; `None` for too few values.
fn mean_and_error(values: &[f64]) -> Option<(f64, f64)> {
    let n = values.len();
    if n < LEAST_PROBES {
        return None;
    }
    let mean = values.iter().sum::<f64>() / n as f64;
    let squares: f64 = values.iter().map(|value| (value - mean) * (value - mean)).sum();
    Some((mean, (squares / (n - 1) as f64 / n as f64).sqrt()))
}

/// How many positions of a window must agree.
fn compared_positions(probe: Probe, seq_len: usize) -> usize {
    match probe {
        Probe::Suffix { from } => from,
        Probe::Again | Probe::Alone => seq_len,
    }
}

/// Where all logits are compared: most of all where a step ahead would be seen, then evenly back.
fn compared_rows(probe: Probe, seq_len: usize) -> Vec<usize> {
    let positions = compared_positions(probe, seq_len);
    let mut rows: Vec<usize> = (1..=COMPARED_ROWS).map(|part| positions * part / COMPARED_ROWS).collect();
    rows.retain(|&row| row > 0);
    rows.iter_mut().for_each(|row| *row -= 1);
    rows.dedup();
    rows
}

#[cfg(test)]
mod tests;
