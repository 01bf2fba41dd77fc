//! Steps under the second budget.

use std::collections::BTreeMap;

use super::*;
use crate::gate::cause::Cause;
use crate::record::SecondBudget;

const TOKENS: Budget = Budget::Tokens(500_000);

/// A run under 20 seconds with that second budget whose steps are answered by `outcome`, for a number of steps.
fn drive_with(
    second: Option<SecondBudget>,
    policy: Policy,
    outcome: impl Fn(&Measure) -> Outcome,
    steps: usize,
) -> (State, Vec<Step>) {
    let budget = Budget::Seconds(20.0);
    let started = RunStarted { seed: 3, policy, budget, second, ..RunStarted::default() };
    let mut state = State::default();
    state.apply("", &Record::RunStarted(Box::new(started)));
    let mut taken = Vec::new();
    for _ in 0..steps {
        let step = next_step(&state, RULES);
        assert_eq!(step, next_step(&state, RULES));
        taken.push(step.clone());
        match step {
            Step::Measure(measure) => {
                let outcome = outcome(&measure);
                record(&mut state, measure, outcome);
            }
            step => answer(&mut state, step, &|_: &Measure| unreachable!()),
        }
    }
    (state, taken)
}

fn record(state: &mut State, measure: Measure, outcome: Outcome) {
    state.apply("", &Record::MeasureStarted(measure.clone()));
    state.apply("", &Record::Measured { measure, outcome, seconds: 1.0 });
}

/// A score with a speed that varies by two thousandths, and tokens that follow from it.
fn scored(value: f64, speed: f64, seed: u64) -> Outcome {
    let rate = speed * (1.0 + (seed % 5) as f64 / 2500.0);
    let facts = [("tokens_per_second", rate), ("train_tokens", rate * 20.0)];
    let facts: BTreeMap<String, f64> = facts.map(|(name, value)| (name.to_owned(), value)).into();
    Outcome::Scored(Score { value, facts, ..Score::default() })
}

/// Trial 1 is better by 0.5 and a tenth faster; under the second budget the advantage is `second`.
fn better(second: f64) -> impl Fn(&Measure) -> Outcome {
    move |measure| {
        let gain = if measure.budget.is_some() { second } else { 0.5 };
        let value = noisy(measure.arm, measure.seed, |arm| if arm == 1 { gain } else { 0.0 });
        scored(value, if measure.arm == 1 { 1100.0 } else { 1000.0 }, measure.seed)
    }
}

fn of_second(steps: &[Step]) -> Vec<Measure> {
    let measures = steps.iter().filter_map(|step| match step {
        Step::Measure(measure) if measure.purpose == Purpose::Second => Some(measure.clone()),
        _ => None,
    });
    measures.collect()
}

fn fixed() -> Option<SecondBudget> {
    Some(SecondBudget::Fixed(TOKENS))
}

#[test]
fn a_keep_and_the_incumbent_before_it_take_turns_under_shared_seeds_before_anything_else_begins() {
    let policy = Policy { audit_every: 1, ..policy() };
    let (state, steps) = drive_with(fixed(), policy, better(0.5), 24);
    let at = |found: fn(&Step) -> bool| steps.iter().position(found).unwrap();
    let advanced = at(|step| matches!(step, Step::Advance(1)));
    let audited = at(|step| matches!(step, Step::StartAudit(_)));
    let made = of_second(&steps[advanced..audited]);
    assert_eq!((audited - advanced - 1, made.len(), of_second(&steps).len()), (4, 4, 4));
    assert_eq!(made.iter().map(|measure| measure.arm).collect::<Vec<_>>(), [1, 0, 0, 1]);
    assert!(made.iter().all(|measure| (measure.trial, measure.budget) == (1, Some(TOKENS))));
    assert_eq!((made[0].seed, made[2].seed), (made[1].seed, made[3].seed));
    let others = measures(&steps, 0).into_iter().chain(measures(&steps, 1));
    let others: Vec<Measure> = others.filter(|measure| measure.purpose != Purpose::Second).collect();
    assert!(made[0].seed != made[2].seed);
    assert!(
        others.iter().all(|other| other.budget.is_none() && made.iter().all(|one| one.seed != other.seed))
    );
    let told = second(&state, state.trial(1).unwrap()).unwrap();
    assert_eq!((told.budget, told.against, told.differences.len(), told.cause), (TOKENS, 0, 2, Cause::Both));
    assert!(told.skipped.is_empty() && (told.speed.unwrap().estimate - 1.1).abs() < 0.01);
    let gain = told.gain.unwrap();
    assert!((gain.estimate - 0.5).abs() < 1e-9 && gain.low < 0.5 && gain.n == 2);
    let (state, _) = drive_with(fixed(), policy, better(0.0), 24);
    assert_eq!(second(&state, state.trial(1).unwrap()).unwrap().cause, Cause::Speed);
}

#[test]
fn without_a_second_budget_nothing_more_is_executed() {
    let (state, steps) = drive_with(None, policy(), better(0.5), 24);
    assert_eq!((state.incumbent, of_second(&steps).len()), (Some(1), 0));
    assert_eq!((second_budget(&state), second(&state, state.trial(1).unwrap())), (None, None));
}

#[test]
fn scores_under_the_second_budget_decide_nothing_and_are_compared_with_nothing() {
    let policy = Policy { audit_every: 2, anchor_every: 3, ..policy() };
    // Every trial is better by 0.1; whatever they show under the second budget is absurd.
    let absurd = |measure: &Measure| {
        let gain = f64::from(measure.arm) * 0.1;
        let value = if measure.budget.is_some() { 1e6 } else { 0.0 };
        scored(value + noisy(measure.arm, measure.seed, |_| gain), 1000.0, measure.seed)
    };
    let (mut with, steps) = drive_with(fixed(), policy, absurd, 120);
    let (without, plain) = drive_with(None, policy, absurd, 120 - of_second(&steps).len());
    assert!(
        of_second(&steps).len() > 12 && with.audits.iter().filter(|audit| audit.end.is_some()).count() > 1
    );
    let bare = |steps: &[Step]| -> Vec<Step> {
        let steps = steps.iter().filter(|step| !matches!(step, Step::Measure(one) if one.budget.is_some()));
        let unnumbered = steps.cloned().map(|step| match step {
            Step::Measure(measure) => Step::Measure(Measure { measure: 0, ..measure }),
            step => step,
        });
        unnumbered.collect()
    };
    assert_eq!(bare(&steps), bare(&plain));
    for trial in 0..with.trials.len() as TrialId {
        assert_eq!(with.scores_of(trial), without.scores_of(trial));
        assert_eq!(unbiased_scores(&with, trial), unbiased_scores(&without, trial));
        assert_eq!(level(&with, trial, None), level(&without, trial, None));
    }
    assert_eq!((noise(&with), detectable(&with, 0.8)), (noise(&without), detectable(&without, 0.8)));
    let shown = |state: &State| {
        let mut shown = crate::noise::of(state, &BTreeMap::new());
        // Its number counts all executions.
        shown.farthest = shown.farthest.map(|farthest| crate::noise::Residual { measure: 0, ..farthest });
        shown
    };
    assert_eq!(shown(&with), shown(&without));
    // Nor do they make anything else look disturbed, whatever the speed was.
    let last = with.trials.last().unwrap().id;
    let measure = Measure {
        measure: with.next_measure,
        trial: last,
        arm: 0,
        seed: 1,
        purpose: Purpose::Second,
        budget: Some(Budget::Seconds(5.0)),
    };
    let slow = |_: usize| scored(1.0, 10.0, 1);
    for number in 0..8 {
        let measure = Measure { measure: with.next_measure, ..measure.clone() };
        record(&mut with, measure, slow(number));
    }
    let rate = |rate: f64| BTreeMap::from([("tokens_per_second".to_owned(), rate)]);
    let usual = Measure { purpose: Purpose::Anchor, budget: None, ..measure.clone() };
    let (with, without) = [&with, &without].map(|state| disturbance(state, &usual, &rate(1000.0))).into();
    assert_eq!(with, without);
}

#[test]
fn a_second_budget_in_seconds_minds_the_machine_by_its_own_runs_alone() {
    let started = RunStarted { budget: Budget::Tokens(500), ..RunStarted::default() };
    let mut state = State::default();
    state.apply("", &Record::RunStarted(Box::new(started)));
    let seconds = Some(Budget::Seconds(5.0));
    let of = |state: &State, purpose, budget| Measure {
        measure: state.next_measure,
        trial: 0,
        arm: 0,
        seed: u64::from(state.next_measure),
        purpose,
        budget,
    };
    for _ in 0..8 {
        let (first, second) = (of(&state, Purpose::Baseline, None), of(&state, Purpose::Second, seconds));
        record(&mut state, first, scored(1.0, 100.0, 0));
        let second = Measure { measure: state.next_measure, ..second };
        record(&mut state, second, scored(1.0, 1000.0, 0));
    }
    let facts = |rate: f64| BTreeMap::from([("tokens_per_second".to_owned(), rate)]);
    let under = |purpose, budget, rate| disturbance(&state, &of(&state, purpose, budget), &facts(rate)).0;
    assert_eq!(under(Purpose::Second, seconds, 1000.0), None);
    assert!(under(Purpose::Second, seconds, 500.0).is_some());
    assert_eq!(under(Purpose::Confirm, None, 10.0), None, "tokens do not measure the machine");
}

#[test]
fn a_pair_without_a_score_is_left_out_and_the_run_goes_on() {
    for failing in [0, 1] {
        let outcome = |measure: &Measure| match measure.budget {
            Some(_) if measure.arm == failing && measure.seed % 2 == u64::from(failing) => {
                Outcome::Invalid(Invalid::new(Reason::Timeout, "too slow"))
            }
            _ => better(0.5)(measure),
        };
        let (state, steps) = drive_with(fixed(), policy(), outcome, 24);
        let told = second(&state, state.trial(1).unwrap()).unwrap();
        assert_eq!(told.skipped.len() + told.differences.len(), SECOND_PAIRS as usize);
        for line in &told.skipped {
            assert_eq!(line, &format!("trial {failing} gave no score: timeout: too slow"));
        }
        assert!(steps.contains(&Step::StartTrial(2)), "{steps:?}");
        assert!(matches!(state.trial(1).unwrap().verdict, Some(Verdict::Win(_))));
    }
    // All of them: nothing is known, and nothing stands in the way.
    let outcome = |measure: &Measure| match measure.budget {
        Some(_) => Outcome::Invalid(Invalid::new(Reason::Evaluator, "tokens?")),
        None => better(0.5)(measure),
    };
    let (state, steps) = drive_with(fixed(), policy(), outcome, 24);
    let told = second(&state, state.trial(1).unwrap()).unwrap();
    assert_eq!((told.gain, told.sd, told.skipped.len(), told.cause), (None, None, 2, Cause::Unclear));
    assert_eq!(of_second(&steps).len(), 2, "the other arm is not executed for nothing");
    assert!(steps.contains(&Step::StartTrial(2)));
}

/// The state just before the first execution under the second budget.
fn waiting() -> State {
    let (_, steps) = drive_with(fixed(), policy(), better(0.5), 24);
    let at = steps.iter().position(|step| matches!(step, Step::Measure(one) if one.budget.is_some()));
    drive_with(fixed(), policy(), better(0.5), at.unwrap()).0
}

fn due(state: &State) -> Measure {
    match next_step(state, RULES) {
        Step::Measure(measure) if measure.purpose == Purpose::Second => measure,
        other => panic!("{other:?} instead of an execution under the second budget"),
    }
}

#[test]
fn a_killed_run_makes_up_what_is_missing_and_gives_up_what_takes_the_machine_down() {
    let mut state = waiting();
    assert_eq!(second_arms(&state), [1, 0]);
    let first = due(&state);
    record(&mut state, first.clone(), Outcome::Interrupted);
    state.apply("", &Record::MeasureStarted(due(&state)));
    state.apply("", &resumed());
    let again = due(&state);
    assert_eq!((again.arm, again.seed, again.budget), (first.arm, first.seed, first.budget));
    state.apply("", &Record::MeasureStarted(again));
    state.apply("", &resumed());
    let next = due(&state);
    assert_ne!(next.seed, first.seed);
    for _ in 0..MAX_DISTURBED {
        let measure = due(&state);
        record(&mut state, measure, Outcome::Invalid(Invalid::new(Reason::Machine, "busy")));
    }
    assert_eq!(next_step(&state, RULES), Step::StartTrial(2));
    let told = second(&state, state.trial(1).unwrap()).unwrap();
    assert!(told.skipped[0].contains("killed 2 times") && told.skipped[1].contains("disturbed"), "{told:?}");
    assert!(second_arms(&state).is_empty());
}

#[test]
fn what_is_taken_back_is_not_executed_any_more() {
    let mut state = waiting();
    state.apply("", &Record::UndoStarted { trial: 1, to: "u".into(), audit: None });
    state.apply("", &Record::Undone { trial: 1, to: "u".into() });
    assert_eq!((next_step(&state, RULES), second_arms(&state)), (Step::StartTrial(2), Vec::new()));
    assert_eq!(second(&state, state.trial(1).unwrap()), None);
}

#[test]
fn equal_tokens_are_the_median_of_the_baseline_and_stay_what_they_were() {
    let equal = Some(SecondBudget::EqualTokens);
    let (mut state, steps) = drive_with(equal, policy(), better(0.5), 24);
    let mut served: Vec<f64> = state.trial(0).unwrap().runs[..5]
        .iter()
        .map(|run| run.outcome.as_ref().unwrap().facts().unwrap()["train_tokens"])
        .collect();
    served.sort_by(f64::total_cmp);
    let budget = Budget::Tokens(served[2].round() as u64);
    let made = of_second(&steps);
    assert!(made.len() == 4 && made.iter().all(|measure| measure.budget == Some(budget)), "{made:?}");
    for measure in 0..3 {
        state.apply("", &Record::Disqualified { trial: 0, measure, detail: "slow".into() });
    }
    assert_eq!(second_budget(&state), Some(budget));
    let silent = |measure: &Measure| match better(0.5)(measure) {
        Outcome::Scored(score) => Outcome::Scored(Score { facts: BTreeMap::new(), ..score }),
        other => other,
    };
    let (state, steps) = drive_with(equal, policy(), silent, 24);
    assert_eq!((second_budget(&state), of_second(&steps).len(), state.incumbent), (None, 0, Some(1)));
}
