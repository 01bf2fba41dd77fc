//! What guards have to say before a trial is kept.

use super::*;
use crate::record::GuardRule;

const GUARDED: Rules = Rules { guards: true, ..RULES };

/// A run with one limit on `size`: every trial is much better, and `size_of` says how large an arm is in a run.
/// `passes` answers guard commands.
fn drive_guarded(
    limit: &str,
    rules: Rules,
    size_of: impl Fn(&Measure) -> f64,
    passes: impl Fn(TrialId) -> bool,
) -> (State, Vec<Step>) {
    let guard = GuardRule { name: "small".into(), fact: "size".into(), limit: limit.parse().unwrap() };
    let mut state = State::default();
    let started = RunStarted {
        run: "run-1".into(),
        seed: 3,
        policy: policy(),
        budget: Budget::Steps(20),
        guards: vec![guard],
        ..RunStarted::default()
    };
    state.apply("", &Record::RunStarted(Box::new(started)));
    let mut taken = Vec::new();
    for _ in 0..40 {
        let step = next_step(&state, Rules { max_trials: Some(1), ..rules });
        taken.push(step.clone());
        match step {
            Step::Finish(_) => break,
            Step::Measure(measure) => {
                let outcome = match measure.purpose {
                    Purpose::Guard if passes(measure.arm) => Outcome::Passed,
                    Purpose::Guard => {
                        Outcome::Invalid(Invalid::new(Reason::Guard, "guard `tests` does not pass"))
                    }
                    _ => {
                        let value = noisy(measure.arm, measure.seed, |arm| f64::from(arm) * 0.1);
                        let facts = BTreeMap::from([("size".to_owned(), size_of(&measure))]);
                        Outcome::Scored(Score { value, facts, ..Score::default() })
                    }
                };
                state.apply("", &Record::MeasureStarted(measure.clone()));
                state.apply("", &Record::Measured { measure, outcome, seconds: 1.0 });
            }
            other => answer(&mut state, other, &|_| 0.0),
        }
    }
    (state, taken)
}

fn guard_of(state: &State, trial: TrialId) -> Option<String> {
    match state.trial(trial)?.verdict.as_ref()? {
        Verdict::Invalid(invalid) if invalid.reason == Reason::Guard => Some(invalid.detail.clone()),
        _ => None,
    }
}

#[test]
fn what_stays_within_its_limits_is_kept() {
    for limit in ["<= 10", "<= 1.05 x incumbent", ">= 10"] {
        let (state, _) = drive_guarded(limit, GUARDED, |_| 10.0, |_| true);
        assert!(state.trials[1].kept, "{limit}");
    }
}

#[test]
fn an_absolute_limit_ends_a_trial_with_its_first_run() {
    let size = |measure: &Measure| if measure.arm == 1 { 11.0 } else { 10.0 };
    let (state, steps) = drive_guarded("<= 10", GUARDED, size, |_| true);
    let why = guard_of(&state, 1).expect("it is too large");
    assert!(why.contains("size is 11, allowed is <= 10"), "{why}");
    assert_eq!(measures(&steps, 1).len(), 1);
}

#[test]
fn a_limit_relative_to_the_incumbent_is_judged_by_means_when_it_would_be_kept() {
    // Its first run alone would break the limit.
    let lucky = |measure: &Measure| match (measure.arm, measure.purpose) {
        (1, Purpose::Screen) => 10.9,
        _ => 10.0,
    };
    let (state, _) = drive_guarded("<= 1.05 x incumbent", GUARDED, lucky, |_| true);
    assert!(state.trials[1].kept, "{:?}", state.trials[1].verdict);
    let (state, steps) =
        drive_guarded("<= 1.05 x incumbent", GUARDED, |measure| 10.0 + f64::from(measure.arm), |_| true);
    assert!(guard_of(&state, 1).is_some_and(|why| why.contains("size is 11")));
    assert!(measures(&steps, 1).len() > 1);
}

#[test]
fn a_baseline_outside_its_own_limits_ends_the_run_and_says_why() {
    let (state, steps) = drive_guarded("<= 9", GUARDED, |_| 10.0, |_| true);
    assert!(guard_of(&state, 0).is_some());
    assert!(matches!(steps.last(), Some(Step::Finish(why)) if why.contains("guard `small`")), "{steps:?}");
}

#[test]
fn guard_commands_run_once_after_the_screening_and_before_repeats() {
    let (state, steps) = drive_guarded("<= 10", GUARDED, |_| 10.0, |_| true);
    let purposes: Vec<Purpose> = measures(&steps, 1).iter().map(|measure| measure.purpose).collect();
    assert_eq!(purposes[..2], [Purpose::Screen, Purpose::Guard]);
    assert_eq!(purposes.iter().filter(|purpose| **purpose == Purpose::Guard).count(), 1);
    assert_eq!(measures(&steps, 0)[0].purpose, Purpose::Guard, "the baseline's before its repeats");
    assert!(state.trials[1].kept);

    let (state, steps) = drive_guarded("<= 10", GUARDED, |_| 10.0, |arm| arm == 0);
    assert!(guard_of(&state, 1).is_some_and(|why| why.contains("does not pass")));
    assert_eq!(measures(&steps, 1).len(), 2);
}
