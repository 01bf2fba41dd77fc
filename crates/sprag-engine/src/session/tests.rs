//! Steps asked of hand-made ledgers.

use super::*;
use crate::record::{Proposed, Record, RunStarted, Score};

const RULES: Rules = Rules { builds: false, smokes: false, repairs: true, circles: true, max_trials: None };

/// A run whose steps are answered by a scoring function of (arm, seed), for a number of steps.
fn drive(score: impl Fn(TrialId, u64) -> f64, steps: usize) -> (State, Vec<Step>) {
    let mut state = State::default();
    let apply = |state: &mut State, record: Record| state.apply("2026-01-01T00:00:00Z", &record);
    let started = RunStarted { run: "run-1".into(), seed: 3, ..RunStarted::default() };
    apply(&mut state, Record::RunStarted(Box::new(started)));
    let mut taken = Vec::new();
    for _ in 0..steps {
        let step = next_step(&state, RULES);
        taken.push(step.clone());
        match step {
            Step::StartTrial(trial) => {
                apply(&mut state, Record::TrialStarted { trial, proposer: "p".into(), parent: "c".into() });
            }
            Step::Propose(trial) => {
                let proposed = Proposed { trial, content: trial.to_string(), ..Proposed::default() };
                apply(&mut state, Record::Proposed(proposed));
            }
            Step::Measure(measure) => {
                apply(&mut state, Record::MeasureStarted(measure.clone()));
                let value = score(measure.arm, measure.seed);
                let outcome = Outcome::Scored(Score { value, ..Score::default() });
                apply(&mut state, Record::Measured { measure, outcome, seconds: 1.0 });
            }
            Step::Decide(trial, verdict, reason) => {
                apply(&mut state, Record::Decided { trial, verdict, reason })
            }
            Step::Advance(trial) => apply(&mut state, Record::Advanced { trial, to: "t".into() }),
            other => panic!("unexpected {other:?}"),
        }
    }
    (state, taken)
}

fn noisy(arm: TrialId, seed: u64, gain_of: impl Fn(TrialId) -> f64) -> f64 {
    2.0 - gain_of(arm) + (seed % 97) as f64 / 97.0 * 0.01
}

fn measures(steps: &[Step], trial: TrialId) -> Vec<Measure> {
    let measures = steps.iter().filter_map(|step| match step {
        Step::Measure(measure) if measure.trial == trial => Some(measure.clone()),
        _ => None,
    });
    measures.collect()
}

#[test]
fn the_noise_floor_comes_first_and_from_different_seeds() {
    let (state, steps) = drive(|arm, seed| noisy(arm, seed, |_| 0.0), 8);
    let baseline = measures(&steps, 0);
    assert_eq!(baseline.len(), 5);
    let seeds: std::collections::BTreeSet<u64> = baseline.iter().map(|measure| measure.seed).collect();
    assert_eq!(seeds.len(), 5);
    assert!(matches!(state.baseline(), Some((_, sd, 5)) if sd > 0.0));
}

#[test]
fn both_arms_of_a_pair_share_a_seed_and_take_turns_in_going_first() {
    // A gain of about two sigma needs several pairs.
    let (_, steps) = drive(|arm, seed| noisy(arm, seed, |arm| if arm == 1 { 0.006 } else { 0.0 }), 17);
    let pairs: Vec<Measure> =
        measures(&steps, 1).into_iter().filter(|measure| measure.purpose == Purpose::Confirm).collect();
    assert!(pairs.len() >= 4, "{pairs:?}");
    let arms: Vec<TrialId> = pairs.iter().map(|measure| measure.arm).collect();
    assert_eq!(arms[..4], [1, 0, 0, 1]);
    assert_eq!(pairs[0].seed, pairs[1].seed);
    assert_eq!(pairs[2].seed, pairs[3].seed);
    assert_ne!(pairs[0].seed, pairs[2].seed);
}

#[test]
fn a_large_gain_wins_and_becomes_the_incumbent_judged_without_its_screening_run() {
    let (state, _) = drive(|arm, seed| noisy(arm, seed, |arm| if arm == 1 { 0.5 } else { 0.0 }), 15);
    assert_eq!(state.incumbent, Some(1));
    // Screened, confirmed with one pair: of its own runs the confirmation counts until it was an incumbent.
    assert_eq!((state.scores_of(1).len(), unbiased_scores(&state, 1).len()), (2, 1));
}

#[test]
fn a_worse_candidate_costs_one_execution() {
    let (state, steps) = drive(|arm, seed| noisy(arm, seed, |arm| if arm == 1 { -0.5 } else { 0.0 }), 12);
    assert_eq!(measures(&steps, 1).len(), 1);
    assert!(matches!(state.trial(1).and_then(|trial| trial.verdict.clone()), Some(Verdict::Loss(_))));
}

#[test]
fn asking_twice_gives_the_same_step() {
    for steps in 0..20 {
        let (state, _) = drive(|arm, seed| noisy(arm, seed, |arm| f64::from(arm) * 0.006), steps);
        assert_eq!(next_step(&state, RULES), next_step(&state, RULES));
    }
}

#[test]
fn seeds_depend_on_the_run_the_trial_the_purpose_and_the_repeat() {
    let mut seeds = std::collections::BTreeSet::new();
    for run_seed in 0..3 {
        let run = RunStarted { seed: run_seed, ..RunStarted::default() };
        let state = State { run: Some(run), ..State::default() };
        for trial in 0..20 {
            for purpose in [Purpose::Baseline, Purpose::Screen, Purpose::Confirm] {
                for repeat in 0..5 {
                    let seed = seed_of(&state, trial, purpose, repeat);
                    assert!(seed < 1 << 53 && seeds.insert(seed));
                }
            }
        }
    }
}

#[test]
fn what_was_killed_twice_under_one_seed_is_not_executed_a_third_time() {
    // The screening run of a candidate, and of the incumbent's turn in a pair.
    for (steps, arm) in [(10, 1), (12, 0)] {
        let (mut state, _) =
            drive(|arm, seed| noisy(arm, seed, |arm| if arm == 1 { 0.006 } else { 0.0 }), steps);
        let kill = |state: &mut State| match next_step(state, RULES) {
            Step::Measure(measure) => {
                assert_eq!(measure.arm, arm);
                state.apply("2026-01-01T00:00:00Z", &Record::MeasureStarted(measure));
            }
            other => panic!("{other:?} instead of an execution"),
        };
        kill(&mut state);
        kill(&mut state);
        match next_step(&state, RULES) {
            Step::Decide(1, Verdict::Invalid(invalid), _) => assert_eq!(invalid.reason, Reason::Crash),
            other => panic!("{other:?} instead of a decision"),
        }
    }
}

#[test]
fn an_execution_that_was_interrupted_in_order_is_made_again_as_often_as_it_takes() {
    let (mut state, _) = drive(|arm, seed| noisy(arm, seed, |_| 0.0), 10);
    for _ in 0..5 {
        let Step::Measure(measure) = next_step(&state, RULES) else { panic!("no execution") };
        state.apply("", &Record::MeasureStarted(measure.clone()));
        state.apply("", &Record::Measured { measure, outcome: Outcome::Interrupted, seconds: 1.0 });
    }
}

#[test]
fn rejections_in_a_row_end_a_run_until_it_is_resumed_and_never_one_whose_proposals_are_counted() {
    let (mut state, _) = drive(|arm, seed| noisy(arm, seed, |_| 0.0), 8);
    let reject = |state: &mut State| {
        let Step::StartTrial(trial) = next_step(state, Rules { circles: false, ..RULES }) else {
            panic!("a run whose proposals are counted ended")
        };
        state.apply("", &Record::TrialStarted { trial, proposer: "p".into(), parent: "c".into() });
        let verdict = Verdict::Invalid(Invalid::new(Reason::Empty, ""));
        state.apply("", &Record::Decided { trial, verdict, reason: String::new() });
    };
    (0..MAX_REJECTIONS).for_each(|_| reject(&mut state));
    assert!(matches!(next_step(&state, RULES), Step::Finish(reason) if reason.contains("rejected")));
    state.apply("", &resumed());
    assert_eq!(next_step(&state, RULES), Step::StartTrial(MAX_REJECTIONS + 1));
    (1..MAX_REJECTIONS).for_each(|_| reject(&mut state));
    assert_eq!(next_step(&state, RULES), Step::StartTrial(2 * MAX_REJECTIONS));
    reject(&mut state);
    assert!(matches!(next_step(&state, RULES), Step::Finish(_)));
}

fn resumed() -> Record {
    Record::RunResumed {
        sprag_version: String::new(),
        sandbox: None,
        sandbox_missing: Vec::new(),
        machine: Default::default(),
    }
}
