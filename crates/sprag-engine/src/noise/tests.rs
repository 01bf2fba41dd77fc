//! The noise of hand-made ledgers.

use super::*;
use crate::gate;
use crate::record::{Measure, Outcome, RunStarted, Verdict};

/// A ledger whose runs each end an hour after the one before, unless it says otherwise.
#[derive(Default)]
struct Ledger {
    lines: Vec<(String, Record)>,
    hours: i64,
    measures: MeasureId,
}

impl Ledger {
    fn new() -> Ledger {
        let mut ledger = Ledger::default();
        ledger.record(Record::RunStarted(Box::new(RunStarted {
            run: "run-1".into(),
            ..RunStarted::default()
        })));
        ledger
    }

    fn record(&mut self, record: Record) {
        self.lines.push((clock::rfc3339(self.hours * 3600), record));
    }

    fn run(&mut self, trial: TrialId, arm: TrialId, purpose: Purpose, value: f64, speed: Option<f64>) {
        let measure = Measure {
            measure: self.measures,
            trial,
            arm,
            seed: u64::from(self.measures),
            purpose,
            budget: None,
        };
        self.measures += 1;
        self.record(Record::MeasureStarted(measure.clone()));
        self.hours += 1;
        let facts = speed.map(|speed| (THROUGHPUT.to_owned(), speed)).into_iter().collect();
        let outcome = Outcome::Scored(Score { value, facts, ..Score::default() });
        self.record(Record::Measured { measure, outcome, seconds: 1.0 });
    }

    fn baseline(&mut self, values: &[f64]) {
        values.iter().for_each(|&value| self.run(0, 0, Purpose::Baseline, value, None));
        let verdict = gate::baseline(values).unwrap_or(Verdict::Baseline { mean: 0.0, sd: 0.0, n: 0 });
        self.record(Record::Decided { trial: 0, verdict, reason: String::new() });
    }

    fn noise(&self) -> Noise {
        let lines = || self.lines.iter().map(|(at, record)| (at.as_str(), record));
        of(&State::fold(lines()), &ended_at(lines()))
    }
}

#[track_caller]
fn near(value: f64, expect: f64) {
    assert!((value - expect).abs() <= 1e-9 * expect.abs().max(1e-3), "{value} is not {expect}");
}

#[test]
fn nothing_is_said_that_rests_on_one_run() {
    let mut ledger = Ledger::new();
    let empty = ledger.noise();
    assert!(empty.arms.is_empty() && empty.sigma.is_none() && empty.detectable.is_none());
    ledger.run(0, 0, Purpose::Baseline, 2.0, Some(100.0));
    ledger.run(1, 1, Purpose::Screen, 1.9, Some(101.0));
    let noise = ledger.noise();
    assert_eq!((noise.arms.len(), noise.single), (0, 2));
    assert!(noise.sigma.is_none() && noise.farthest.is_none() && noise.kurtosis.is_none());
    assert!(noise.drift.is_none() && noise.throughput.is_none() && noise.detectable.is_none());
}

#[test]
fn the_noise_is_pooled_over_all_arms_without_their_screening_runs() {
    let mut ledger = Ledger::new();
    ledger.baseline(&[1.0, 2.0, 3.0]);
    ledger.run(1, 1, Purpose::Screen, -50.0, None);
    ledger.run(1, 1, Purpose::Confirm, 5.0, None);
    ledger.run(1, 0, Purpose::Confirm, 2.0, None);
    ledger.run(1, 1, Purpose::Confirm, 7.0, None);
    ledger.run(2, 2, Purpose::Screen, 9.0, None);
    let noise = ledger.noise();
    let arms: Vec<(TrialId, usize, f64)> =
        noise.arms.iter().map(|arm| (arm.trial, arm.n, arm.mean)).collect();
    assert_eq!(arms, [(0, 4, 2.0), (1, 2, 6.0)]);
    assert_eq!(noise.single, 1);
    let sigma = noise.sigma.unwrap();
    // (2 + 2) over 4 degrees of freedom; 0.484419 and 11.143287 are the tabulated ends of chi-squared.
    assert_eq!((sigma.sd.estimate, sigma.degrees_of_freedom, sigma.sd.n), (1.0, 4, 6));
    assert!((sigma.sd.low - (4.0f64 / 11.143287).sqrt()).abs() < 1e-6);
    assert!((sigma.sd.high - (4.0f64 / 0.484419).sqrt()).abs() < 1e-5);
    // The gate's own figure, from kept arms alone.
    assert!(noise.detectable.is_some_and(|gain| gain > 0.0));
}

#[test]
fn repeats_without_spread_have_no_residuals() {
    let mut ledger = Ledger::new();
    ledger.baseline(&[2.0; 30]);
    let noise = ledger.noise();
    let sd = noise.sigma.unwrap().sd;
    assert_eq!((sd.low, sd.estimate, sd.high), (0.0, 0.0, 0.0));
    assert!(noise.farthest.is_none() && noise.kurtosis.is_none() && noise.drift.is_none());
}

/// Twenty values without a wild one.
fn even() -> Vec<f64> {
    (0..20).map(|n| 2.0 + 0.001 * f64::from(n * 9 % 20)).collect()
}

#[test]
fn a_wild_run_is_named_and_makes_the_tails_heavy() {
    let mut ledger = Ledger::new();
    ledger.baseline(&even());
    let calm = ledger.noise();
    assert!(calm.farthest.unwrap().p > 0.9, "{:?}", calm.farthest);
    // Equally spaced values have an excess of -1.2.
    let kurtosis = calm.kurtosis.unwrap();
    assert!((kurtosis.excess + 1.2).abs() < 0.02 && kurtosis.n == 20, "{kurtosis:?}");

    let mut ledger = Ledger::new();
    let mut values = even();
    values[13] = 2.1;
    ledger.baseline(&values);
    let wild = ledger.noise();
    let farthest = wild.farthest.unwrap();
    assert_eq!((farthest.measure, farthest.arm), (13, 0));
    assert!(farthest.studentised > 4.0 && farthest.p < 1e-6, "{farthest:?}");
    assert!(wild.kurtosis.unwrap().excess > 5.0);
}

#[test]
fn the_farthest_run_is_tested_against_the_noise_of_the_others() {
    // Against the values without it: mean 0, sd √(2/3); a t test of one against three has 2 degrees of freedom.
    let mut ledger = Ledger::new();
    ledger.baseline(&[-1.0, 0.0, 1.0, 6.0]);
    let farthest = ledger.noise().farthest.unwrap();
    let t = 6.0 / (1.0f64 * (1.0 + 1.0 / 3.0)).sqrt();
    near(farthest.p, (8.0 * stats::student_t_cdf(-t, 2.0)).min(1.0));
    assert!(farthest.p < 1.0);
    assert_eq!(farthest.measure, 3);
}

#[test]
fn drift_is_measured_an_hour_on_runs_that_did_not_decide_on_their_own_arm() {
    let mut ledger = Ledger::new();
    let values: Vec<f64> = (0..12).map(|n| 2.0 + 0.01 * f64::from(n)).collect();
    ledger.baseline(&values);
    // A kept arm with more runs, most of which decided on it.
    for _ in 0..20 {
        ledger.run(1, 1, Purpose::Confirm, 1.0, None);
    }
    ledger.record(Record::Advanced { trial: 1, to: "t".into() });
    let drift = ledger.noise().drift.unwrap();
    assert_eq!((drift.arm, drift.n), (0, 12));
    near(drift.slope_per_hour, 0.01);
    near(drift.hours, 11.0);
    assert!(drift.p < 1e-5);
}

#[test]
fn four_runs_are_too_few_for_a_drift_and_shuffled_ones_show_none() {
    let mut ledger = Ledger::new();
    ledger.baseline(&[2.0, 2.1, 2.2, 2.3]);
    assert_eq!(ledger.noise().drift, None);
    let mut ledger = Ledger::new();
    ledger.baseline(&even());
    let drift = ledger.noise().drift.unwrap();
    assert!(drift.p > 0.1 && drift.slope_per_hour.abs() < 5e-4, "{drift:?}");
    // Without times there is nothing to say.
    let state = State::fold(ledger.lines.iter().map(|(at, record)| (at.as_str(), record)));
    assert_eq!(of(&state, &BTreeMap::new()).drift, None);
}

#[test]
fn speed_and_score_are_compared_within_arms() {
    let mut ledger = Ledger::new();
    // Faster is better within both arms, though the slower arm is the better one.
    for (arm, speed, value) in [(0, 1000.0, 2.0), (1, 500.0, 1.0)] {
        for (part, gain) in [(0.99, -0.01), (1.0, 0.001), (1.01, 0.01), (1.0, -0.001)] {
            ledger.run(arm, arm, Purpose::Confirm, value - gain, Some(speed * part));
        }
    }
    ledger.run(2, 2, Purpose::Confirm, 3.0, None);
    ledger.run(2, 2, Purpose::Confirm, 3.1, None);
    let throughput = ledger.noise().throughput.unwrap();
    assert_eq!((throughput.n, throughput.arms), (8, 2));
    near(throughput.relative_sd, (4.0 * 0.0001f64 / 6.0).sqrt());
    assert!(throughput.correlation.is_some_and(|r| r < -0.98), "{throughput:?}");
    assert!(throughput.p.is_some_and(|p| p < 1e-3));
}

#[test]
fn a_speed_that_never_changes_has_no_correlation() {
    let mut ledger = Ledger::new();
    for value in [2.0, 2.1, 2.2, 2.05, 2.15, 2.0] {
        ledger.run(0, 0, Purpose::Baseline, value, Some(700.0));
    }
    let throughput = ledger.noise().throughput.unwrap();
    assert_eq!((throughput.relative_sd, throughput.correlation, throughput.p), (0.0, None, None));
}
