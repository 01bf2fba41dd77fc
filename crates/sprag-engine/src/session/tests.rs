//! Steps asked of hand-made ledgers.

mod guards;
mod second;

use std::collections::BTreeMap;

use super::*;
use crate::gate::throughput;
use crate::record::{Proposed, Record, RunStarted, Score};

const RULES: Rules = Rules {
    guards: false,
    builds: false,
    smokes: false,
    holdout: false,
    repairs: true,
    circles: true,
    max_trials: None,
    affordable_repeats: None,
};

fn policy() -> Policy {
    Policy { baseline_repeats: 5, audit_every: 0, ..Preset::Balanced.policy() }
}

/// A run whose steps are answered by a scoring function of (arm, seed), for a number of steps.
fn drive(score: impl Fn(TrialId, u64) -> f64, steps: usize) -> (State, Vec<Step>) {
    drive_by(policy(), RULES, |measure| score(measure.arm, measure.seed), steps)
}

/// The same under other rules, with a scoring function of the whole measure.
fn drive_by(
    policy: Policy,
    rules: Rules,
    score: impl Fn(&Measure) -> f64,
    steps: usize,
) -> (State, Vec<Step>) {
    let mut state = State::default();
    let budget = Budget::Seconds(20.0);
    let started = RunStarted { run: "run-1".into(), seed: 3, policy, budget, ..RunStarted::default() };
    state.apply("", &Record::RunStarted(Box::new(started)));
    let mut taken = Vec::new();
    for _ in 0..steps {
        let step = next_step(&state, rules);
        taken.push(step.clone());
        if matches!(step, Step::Finish(_)) {
            break;
        }
        answer(&mut state, step, &score);
    }
    (state, taken)
}

/// Records what carrying a step out would record.
fn answer(state: &mut State, step: Step, score: &impl Fn(&Measure) -> f64) {
    let mut apply = |record: Record| state.apply("2026-01-01T00:00:00Z", &record);
    let started = |trial, again, heat| Record::TrialStarted {
        trial,
        proposer: "p".into(),
        parent: "c".into(),
        again,
        heat,
    };
    match step {
        Step::StartTrial(trial) => apply(started(trial, None, None)),
        Step::Join(trial, heat) => apply(started(trial, None, Some(heat))),
        Step::TryAgain(trial, earlier) => apply(started(trial, Some(earlier), None)),
        Step::Propose(trial) => {
            apply(Record::Proposed(Proposed { trial, content: trial.to_string(), ..Proposed::default() }));
        }
        Step::Measure(measure) => {
            apply(Record::MeasureStarted(measure.clone()));
            let value = score(&measure);
            let outcome = match value.is_nan() {
                true => Outcome::Invalid(Invalid::new(Reason::Crash, "exit 1")),
                false => Outcome::Scored(Score { value, ..Score::default() }),
            };
            apply(Record::Measured { measure, outcome, seconds: 1.0 });
        }
        Step::Decide(trial, verdict, reason) => apply(Record::Decided { trial, verdict, reason }),
        Step::Advance(trial) => apply(Record::Advanced { trial, to: "t".into() }),
        Step::StartAudit(StartAudit { audit, tip, against, keeps, level }) => {
            apply(Record::AuditStarted { audit, tip, against, keeps, level });
        }
        Step::EndAudit(EndAudit { audit, end, e_value, effect, holdout, gave_up, reason }) => {
            apply(Record::Audited { audit, end, e_value, effect, holdout, gave_up, reason });
        }
        Step::TakeBack(trial, audit) => {
            apply(Record::UndoStarted { trial, to: "u".into(), audit: Some(audit) });
            apply(Record::Undone { trial, to: "u".into() });
        }
        other => panic!("unexpected {other:?}"),
    }
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
fn a_short_run_measures_its_noise_on_fewer_repeats_but_never_on_fewer_than_five() {
    let policy = Policy { baseline_repeats: 10, ..policy() };
    let repeats = |affordable_repeats| {
        let rules = Rules { affordable_repeats, max_trials: Some(0), ..RULES };
        let score = |measure: &Measure| noisy(measure.arm, measure.seed, |_| 0.0);
        drive_by(policy, rules, score, 30).0.baseline().map(|(_, _, n)| n)
    };
    assert_eq!([None, Some(20), Some(7), Some(1)].map(repeats), [10, 10, 7, 5].map(Some));
}

#[test]
fn anchors_stand_between_and_share_the_seed_of_the_repeat_after_them() {
    let policy = Policy { anchor_every: 2, ..policy() };
    let score =
        |measure: &Measure| noisy(measure.arm, measure.seed, |arm| if arm == 1 { 0.0035 } else { 0.0 });
    let (state, steps) = drive_by(policy, RULES, score, 16);
    let made: Vec<(TrialId, Purpose)> =
        measures(&steps, 1).iter().map(|measure| (measure.arm, measure.purpose)).collect();
    let screened = (1, Purpose::Screen);
    assert_eq!(made[..4], [screened, (1, Purpose::Confirm), (0, Purpose::Confirm), (1, Purpose::Confirm)]);
    let confirmations = measures(&steps, 1);
    assert_ne!(confirmations[1].seed, confirmations[2].seed);
    assert_eq!(confirmations[2].seed, confirmations[3].seed);
    assert!(level(&state, 0, Some(1)).unwrap().variance > level(&state, 0, None).unwrap().variance);
}

#[test]
fn an_old_incumbent_is_executed_before_the_next_candidate() {
    let policy = Policy { anchor_every: 2, ..policy() };
    let worse = |measure: &Measure| noisy(measure.arm, measure.seed, |arm| if arm > 0 { -0.5 } else { 0.0 });
    let (_, steps) = drive_by(policy, RULES, worse, 24);
    let purposes = |trial| -> Vec<Purpose> {
        measures(&steps, trial).into_iter().map(|measure| measure.purpose).collect()
    };
    assert_eq!((purposes(1), purposes(2)), (vec![Purpose::Screen], vec![Purpose::Screen]));
    assert_eq!(purposes(3), [Purpose::Anchor, Purpose::Screen]);
}

#[test]
fn a_large_gain_wins_and_becomes_the_incumbent_reported_without_its_screening_run() {
    let (state, _) = drive(|arm, seed| noisy(arm, seed, |arm| if arm == 1 { 0.5 } else { 0.0 }), 14);
    assert_eq!((state.incumbent, state.certified), (Some(1), Some(0)));
    // Screened and repeated once: of its own runs the repeat counts until it was executed as an incumbent.
    assert_eq!((state.scores_of(1).len(), unbiased_scores(&state, 1).len()), (2, 1));
}

/// Scores of a chain of trials that each look better by 0.1 when they are proposed, with the truth of each.
fn chain(truth: &'static [f64]) -> impl Fn(&Measure) -> f64 {
    move |measure| {
        let proposed = matches!(measure.purpose, Purpose::Screen | Purpose::Confirm | Purpose::Anchor);
        let seems = f64::from(measure.arm.min(truth.len() as u32)) * 0.1;
        let gain =
            if proposed { seems } else { truth[..(measure.arm as usize).min(truth.len())].iter().sum() };
        noisy(measure.arm, measure.seed, |_| gain)
    }
}

fn audited() -> Policy {
    Policy { audit_every: 2, ..policy() }
}

#[test]
fn every_few_keeps_the_tip_is_audited_with_fresh_seeds_both_arms_taking_turns() {
    let rules = Rules { max_trials: Some(2), ..RULES };
    let (state, steps) = drive_by(audited(), rules, chain(&[0.1, 0.1]), 60);
    assert_eq!((state.certified, state.uncertified()), (Some(2), vec![]));
    let audit = &state.audits[0];
    assert_eq!((audit.tip, audit.against, audit.keeps, audit.end), (2, 0, 2, Some(AuditEnd::Certified)));
    assert!(audit.e_value.unwrap() >= 1.0 / audit.level && audit.effect.unwrap().low > 0.0);
    let made: Vec<Measure> =
        measures(&steps, 2).into_iter().filter(|measure| measure.purpose == Purpose::Audit).collect();
    let arms: Vec<TrialId> = made.iter().map(|measure| measure.arm).collect();
    assert_eq!(arms[..4], [2, 0, 0, 2]);
    assert_eq!((made[0].seed, made[2].seed), (made[1].seed, made[3].seed));
    let others: Vec<u64> = steps
        .iter()
        .filter_map(|step| match step {
            Step::Measure(measure) if measure.purpose != Purpose::Audit => Some(measure.seed),
            _ => None,
        })
        .collect();
    assert!(made.iter().all(|measure| !others.contains(&measure.seed)));
}

#[test]
fn a_tip_that_fails_is_bisected_and_what_stood_on_the_failure_is_tried_again() {
    let policy = Policy { audit_every: 3, ..policy() };
    // The second keep harms, and more than the others help.
    let truth = |measure: &Measure| {
        noisy(measure.arm, measure.seed, |arm| {
            [0.0, 0.1, -0.3, -0.2].get(arm as usize).copied().unwrap_or(-1.0)
        })
    };
    let (mut state, _) = drive_by(policy, RULES, truth, 8);
    assert_eq!(state.incumbent, Some(0));
    for trial in 1..=3 {
        let effect = Effect { gain: 0.1, low: 0.05, high: 0.15, runs: 1, sigma: 0.003 };
        answer(&mut state, Step::StartTrial(trial), &truth);
        answer(&mut state, Step::Propose(trial), &truth);
        answer(&mut state, Step::Decide(trial, Verdict::Win(effect), "lucky".into()), &truth);
        answer(&mut state, Step::Advance(trial), &truth);
    }
    let mut again = Vec::new();
    while again.len() < 2 {
        let step = next_step(&state, RULES);
        match step {
            Step::StartTrial(_) => again.push(None),
            Step::TryAgain(_, earlier) => again.push(Some(earlier)),
            _ => {}
        }
        answer(&mut state, step, &truth);
    }
    let ends: Vec<_> = state.audits.iter().map(|audit| (audit.tip, audit.end.unwrap())).collect();
    let (certified, failed) = (AuditEnd::Certified, AuditEnd::Failed);
    assert_eq!(ends, [(3, failed), (1, certified), (2, failed)]);
    assert_eq!((state.certified, state.incumbent, state.uncertified()), (Some(1), Some(1), vec![]));
    let undone = |trial: TrialId| state.trial(trial).unwrap().failed_audit;
    assert_eq!((undone(1), undone(2), undone(3)), (None, Some(3), Some(3)));
    assert_eq!(again, [Some(3), None]);
}

#[test]
fn a_run_does_not_end_before_what_it_kept_is_audited() {
    let rules = Rules { max_trials: Some(1), ..RULES };
    let (state, steps) = drive_by(Policy { audit_every: 9, ..policy() }, rules, chain(&[0.1]), 60);
    assert_eq!((state.certified, state.audits.len()), (Some(1), 1));
    assert!(matches!(steps.last(), Some(Step::Finish(_))));
    let (state, _) = drive_by(policy(), rules, chain(&[0.1]), 60);
    assert_eq!((state.certified, state.incumbent, state.audits.len()), (Some(0), Some(1), 0));
}

#[test]
fn certifying_on_demand_audits_the_whole_chain_once() {
    let (mut state, _) = drive_by(policy(), RULES, chain(&[0.1]), 14);
    let (mut now, mut audits) = (true, 0);
    while let Some(step) = certify_step(&state, RULES, now) {
        if matches!(step, Step::StartAudit(_)) {
            (now, audits) = (false, audits + 1);
        }
        answer(&mut state, step, &chain(&[0.1]));
    }
    assert_eq!((state.certified, audits), (Some(1), 1));
    assert_eq!(certify_step(&state, RULES, true), None);
}

#[test]
fn the_sealed_holdout_is_asked_of_the_champion_first_and_can_contradict() {
    let rules = Rules { holdout: true, max_trials: Some(1), ..RULES };
    let run = |on_holdout: f64, queries: u32| {
        let score = move |measure: &Measure| match measure.purpose {
            Purpose::Holdout => 3.0 - if measure.arm == 1 { on_holdout } else { 0.0 },
            _ => chain(&[0.1])(measure),
        };
        drive_by(Policy { audit_every: 1, holdout_queries: queries, ..policy() }, rules, score, 60)
    };
    let (state, steps) = run(0.1, 9);
    let asked: Vec<TrialId> = measures(&steps, 1)
        .into_iter()
        .filter(|measure| measure.purpose == Purpose::Holdout)
        .map(|measure| measure.arm)
        .collect();
    assert_eq!((asked, state.holdout, state.certified), (vec![0, 1], Some(2.9), Some(1)));
    // Its scores are of another text: nothing else counts them.
    assert!(state.scores_of(1).iter().all(|(_, score)| *score < 2.5));
    let (state, _) = run(-0.5, 9);
    assert_eq!(
        (state.holdout, state.certified, state.audits[0].end),
        (Some(3.0), Some(0), Some(AuditEnd::Failed))
    );
    let (state, _) = run(-0.5, 0);
    assert_eq!((state.holdout, state.certified, state.holdout_queries()), (None, Some(1), 0));
}

#[test]
fn what_the_machine_spoils_is_repeated_and_blames_nobody() {
    let (mut state, _) = drive(|arm, seed| noisy(arm, seed, |_| 0.0), 10);
    let mut spoil = || {
        let Step::Measure(measure) = next_step(&state, RULES) else { return false };
        state.apply("", &Record::MeasureStarted(measure.clone()));
        let outcome = Outcome::Invalid(Invalid::new(Reason::Machine, "another program ran"));
        state.apply("", &Record::Measured { measure, outcome, seconds: 1.0 });
        true
    };
    assert!((0..MAX_DISTURBED).all(|_| spoil()));
    assert!(!spoil());
    match next_step(&state, RULES) {
        Step::Decide(1, Verdict::Invalid(invalid), _) => assert_eq!(invalid.reason, Reason::Machine),
        other => panic!("{other:?} instead of a decision"),
    }
}

#[test]
fn without_statistics_one_better_run_is_kept_and_nothing_is_certified() {
    let naive = Policy { baseline_repeats: 5, ..Preset::Naive.policy() };
    let rules = Rules { max_trials: Some(2), ..RULES };
    let score = |measure: &Measure| 2.0 - f64::from(measure.arm == 1) * 1e-9;
    let (state, steps) = drive_by(naive, rules, score, 40);
    assert_eq!((state.incumbent, state.certified), (Some(1), Some(0)));
    assert_eq!((measures(&steps, 1).len(), measures(&steps, 2).len()), (1, 1));
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
    // The screening run of a candidate, and of the incumbent's turn before it.
    for (anchor_every, arm) in [(9, 1), (0, 0)] {
        let policy = Policy { anchor_every, ..policy() };
        let (mut state, _) = drive_by(policy, RULES, |measure| noisy(measure.arm, measure.seed, |_| 0.0), 10);
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
        state.apply(
            "",
            &Record::TrialStarted {
                trial,
                proposer: "p".into(),
                parent: "c".into(),
                again: None,
                heat: None,
            },
        );
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

/// A heat of so many, in which trial 3 is the best, 2 the next, then 1 and 4; a full run shows that, too.
fn race_of(race: u32, crash: Option<(TrialId, f64)>, most: TrialId) -> (State, Vec<Step>) {
    let rules = Rules { max_trials: Some(most), ..RULES };
    let score = |measure: &Measure| {
        let crashed = crash.is_some_and(|(trial, seconds)| {
            trial == measure.arm && measure.budget == Some(Budget::Seconds(seconds))
        });
        let gain = [0.0, 0.2, 0.3, 0.5, 0.1].get(measure.arm as usize).copied().unwrap_or(0.0);
        // Shorter runs end at worse scores, all of them.
        let short = measure.budget.map_or(0.0, |_| 1.0);
        if crashed { f64::NAN } else { noisy(measure.arm, measure.seed, |_| gain) + short }
    };
    drive_by(Policy { race, ..policy() }, rules, score, 80)
}

/// Executions after the baseline's, as trial and budget.
fn ran(steps: &[Step]) -> Vec<(TrialId, Option<Budget>)> {
    let measures = steps.iter().filter_map(|step| match step {
        Step::Measure(measure) if measure.trial > 0 => Some((measure.arm, measure.budget)),
        _ => None,
    });
    measures.collect()
}

fn word_of(state: &State, trial: TrialId) -> &'static str {
    state.trial(trial).and_then(|trial| trial.verdict.as_ref()).map_or("open", Verdict::word)
}

#[test]
fn a_heat_is_halved_on_a_quarter_and_on_half_of_the_budget_and_one_is_judged_on_all_of_it() {
    let (state, steps) = race_of(4, None, 4);
    let begun = |step: &Step| match step {
        Step::Join(trial, heat) => Some((*trial, *heat)),
        Step::StartTrial(0) => None,
        Step::StartTrial(_) => panic!("a trial outside of the heat"),
        _ => None,
    };
    assert_eq!(steps.iter().filter_map(begun).collect::<Vec<_>>(), [(1, 1), (2, 1), (3, 1), (4, 1)]);
    let (quarter, half) = (Some(Budget::Seconds(5.0)), Some(Budget::Seconds(10.0)));
    let rungs = [(1, quarter), (2, quarter), (3, quarter), (4, quarter), (2, half), (3, half)];
    let made = ran(&steps);
    assert_eq!(made[..6], rungs);
    assert!(made.len() > 7 && made[6..].iter().all(|run| *run == (3, None)), "{made:?}");
    let raced: Vec<&Measure> =
        state.runs().map(|run| &run.measure).filter(|measure| measure.purpose == Purpose::Race).collect();
    let seeds = |budget| -> std::collections::BTreeSet<u64> {
        raced.iter().filter(|measure| measure.budget == budget).map(|measure| measure.seed).collect()
    };
    assert_eq!((seeds(quarter).len(), seeds(half).len()), (1, 1), "one seed a rung");
    assert!(seeds(quarter).is_disjoint(&seeds(half)));
    assert_eq!([1, 2, 3, 4].map(|trial| word_of(&state, trial)), ["OUTRUN", "OUTRUN", "WIN", "OUTRUN"]);
    assert_eq!(state.incumbent, Some(3));
    let Some(Verdict::Raced(last)) = state.trial(4).and_then(|trial| trial.verdict.clone()) else {
        panic!("no place")
    };
    assert_eq!((last.place, last.of, last.against, last.budget), (4, 4, 2, Budget::Seconds(5.0)));
    assert!((last.behind - 0.2).abs() < 1e-9, "{last:?}");
}

#[test]
fn what_a_part_of_the_budget_shows_is_no_score() {
    let (state, _) = race_of(4, None, 4);
    assert!(state.scores_of(4).is_empty() && state.scores_of(2).is_empty());
    let full: Vec<f64> = state.scores_of(3).into_iter().map(|(_, score)| score).collect();
    assert!(!full.is_empty() && full.iter().all(|score| *score < 2.0), "{full:?}");
    assert_eq!(state.trial(4).unwrap().runs.iter().filter(|run| run.score().is_some()).count(), 0);
    // The noise is what it would be if nobody had raced.
    let alone = race_of(1, None, 0).0;
    assert_eq!(noise_before_trials(&state), noise_before_trials(&alone));
}

/// The noise as known from the baseline's runs and everything that raced.
fn noise_before_trials(state: &State) -> crate::gate::Noise {
    let screened = state.runs().find(|run| run.measure.purpose == Purpose::Screen);
    let before = screened.map_or(MeasureId::MAX, |run| run.measure.measure);
    evidence::noise_before(state, before)
}

#[test]
fn who_crashes_leaves_the_heat_and_a_rung_that_sends_everyone_on_is_left_out() {
    // Two of four crash in the first rung: the other two meet on half of the budget.
    let score = |measure: &Measure| match (measure.purpose, measure.arm) {
        (Purpose::Race, 1 | 2) => f64::NAN,
        _ => noisy(measure.arm, measure.seed, |arm| f64::from(arm) * 0.1),
    };
    let rules = Rules { max_trials: Some(4), ..RULES };
    let (state, steps) = drive_by(Policy { race: 4, ..policy() }, rules, score, 80);
    let (quarter, half) = (Some(Budget::Seconds(5.0)), Some(Budget::Seconds(10.0)));
    let rungs = [(1, quarter), (2, quarter), (3, half), (4, half)];
    assert_eq!(ran(&steps)[..4], rungs);
    assert_eq!([1, 2, 3, 4].map(|trial| word_of(&state, trial)), ["INVALID", "INVALID", "OUTRUN", "WIN"]);
    // One of four: three run, and the worst of them goes.
    let (state, steps) = race_of(4, Some((1, 5.0)), 4);
    assert_eq!(ran(&steps)[4..6], [(2, half), (3, half)]);
    let Some(Verdict::Raced(last)) = state.trial(4).and_then(|trial| trial.verdict.clone()) else {
        panic!("no place")
    };
    assert_eq!((last.place, last.of), (3, 3));
    // In the last rung: who is left is judged.
    let (state, steps) = race_of(4, Some((3, 10.0)), 4);
    assert_eq!([1, 2, 3, 4].map(|trial| word_of(&state, trial)), ["OUTRUN", "WIN", "INVALID", "OUTRUN"]);
    assert_eq!(ran(&steps)[6], (2, None));
}

#[test]
fn a_tie_goes_to_the_earlier_trial_and_a_higher_score_is_better_where_the_task_says_so() {
    let rules = Rules { max_trials: Some(2), ..RULES };
    let policy = Policy { race: 2, ..policy() };
    let score = |measure: &Measure| noisy(0, measure.seed, |_| 0.0);
    let (state, steps) = drive_by(policy, rules, score, 80);
    assert_eq!(ran(&steps)[..2], [(1, Some(Budget::Seconds(10.0))), (2, Some(Budget::Seconds(10.0)))]);
    assert_eq!(word_of(&state, 2), "OUTRUN");
    assert_ne!(word_of(&state, 1), "OUTRUN");
    let mut state = State::default();
    let run = RunStarted { policy, direction: Direction::Higher, seed: 3, ..RunStarted::default() };
    state.apply("", &Record::RunStarted(Box::new(run)));
    let larger = |measure: &Measure| noisy(0, measure.seed, |_| 0.0) + f64::from(measure.arm);
    while word_of(&state, 1) == "open" {
        let step = next_step(&state, rules);
        answer(&mut state, step, &larger);
    }
    assert_eq!((word_of(&state, 1), word_of(&state, 2)), ("OUTRUN", "open"));
}

#[test]
fn a_heat_runs_with_those_it_has_and_the_next_begins_on_what_it_left() {
    // The limit cuts the second heat short: two of four, so the first rung is left out.
    let (state, steps) = race_of(4, None, 6);
    let last: Vec<_> = ran(&steps).into_iter().filter(|(arm, _)| *arm > 4).collect();
    assert_eq!(last[..2], [(5, Some(Budget::Seconds(10.0))), (6, Some(Budget::Seconds(10.0)))]);
    assert_eq!((state.trial(5).unwrap().heat, state.trial(6).unwrap().parent_trial), (Some(5), Some(3)));
    assert!(matches!(steps.last(), Some(Step::Finish(_))));
    // Alone there is nobody to race.
    let (_, steps) = race_of(4, None, 1);
    assert_eq!(ran(&steps)[0], (1, None));
    // Nobody joins a heat that is under way, whatever the limit is when the run is resumed.
    let (mut state, _) = race_of(4, None, 2);
    let begun = state.trials.len();
    state.apply("", &resumed());
    assert_eq!(next_step(&state, RULES), Step::Join(begun as TrialId, begun as TrialId));
    let mut state = State::default();
    let run = RunStarted { policy: Policy { race: 4, ..policy() }, ..RunStarted::default() };
    state.apply("", &Record::RunStarted(Box::new(run)));
    let score = |measure: &Measure| noisy(measure.arm, measure.seed, |_| 0.0);
    let few = Rules { max_trials: Some(2), ..RULES };
    while state.runs().all(|run| run.measure.purpose != Purpose::Race) {
        let step = next_step(&state, few);
        answer(&mut state, step, &score);
    }
    assert!(matches!(next_step(&state, RULES), Step::Measure(measure) if measure.arm == 2));
}

#[test]
fn without_a_race_no_trial_belongs_to_a_heat() {
    let (state, steps) = race_of(1, None, 3);
    assert!(state.trials.iter().all(|trial| trial.heat.is_none()));
    assert!(steps.iter().all(|step| !matches!(step, Step::Join(..))));
    assert!(ran(&steps).iter().all(|(_, budget)| budget.is_none()));
    assert_eq!(first_rung(&state), None);
}

/// A run with one keep, stopped within its audit when that many of the audit's executions ended.
fn within_an_audit(executions: usize) -> State {
    let mut state = drive_by(policy(), RULES, chain(&[0.004]), 8).0;
    let effect = Effect { gain: 0.1, low: 0.05, high: 0.15, runs: 1, sigma: 0.003 };
    for step in [
        Step::StartTrial(1),
        Step::Propose(1),
        Step::Decide(1, Verdict::Win(effect), "lucky".into()),
        Step::Advance(1),
    ] {
        answer(&mut state, step, &chain(&[0.004]));
    }
    let ended = |state: &State| state.open_audit().map_or(0, |audit| audit_pairs(state, audit).len());
    let step = certify_step(&state, RULES, true).unwrap();
    answer(&mut state, step, &chain(&[0.004]));
    for _ in 0..executions {
        let step = certify_step(&state, RULES, false).unwrap();
        assert!(matches!(step, Step::Measure(_)), "{step:?} after {} pairs", ended(&state));
        answer(&mut state, step, &chain(&[0.004]));
    }
    state
}

#[test]
fn a_score_that_is_disqualified_within_an_audit_is_made_again_under_its_own_seed() {
    for (which, arm) in [(0, 1), (1, 0), (3, 1)] {
        let mut state = within_an_audit(5);
        let runs: Vec<Measure> = state.trial(1).unwrap().runs.iter().map(|run| run.measure.clone()).collect();
        let spoilt = runs[which].clone();
        assert_eq!(spoilt.arm, arm);
        let (trial, measure, detail) = (spoilt.trial, spoilt.measure, "it was slow".to_owned());
        state.apply("", &Record::Disqualified { trial, measure, detail });
        let Some(Step::Measure(again)) = certify_step(&state, RULES, false) else { panic!("no execution") };
        assert_eq!((again.arm, again.seed), (spoilt.arm, spoilt.seed));
        answer(&mut state, Step::Measure(again), &chain(&[0.004]));
        // The audit comes to its end, and no run counts in two pairs.
        for _ in 0..40 {
            let Some(step) = certify_step(&state, RULES, false) else { break };
            answer(&mut state, step, &chain(&[0.004]));
        }
        let audit = &state.audits[0];
        let seeds: std::collections::BTreeSet<u64> =
            state.trial(1).unwrap().runs.iter().map(|run| run.measure.seed).collect();
        assert!(audit.end.is_some() && audit_pairs(&state, audit).len() == seeds.len(), "{audit:?}");
    }
}

#[test]
fn a_baseline_score_that_is_disqualified_is_made_again_under_its_own_seed() {
    let (mut state, steps) = drive(|arm, seed| noisy(arm, seed, |_| 0.0), 5);
    let first = measures(&steps, 0).remove(0);
    let (trial, measure, detail) = (0, first.measure, "it was slow".to_owned());
    state.apply("", &Record::Disqualified { trial, measure, detail });
    assert!(matches!(next_step(&state, RULES), Step::Measure(again) if again.seed == first.seed));
}

#[test]
fn an_audit_of_code_that_a_person_takes_back_ends_with_it() {
    let mut state = within_an_audit(3);
    state.apply("", &Record::UndoStarted { trial: 1, to: "u".into(), audit: None });
    state.apply("", &Record::Undone { trial: 1, to: "u".into() });
    assert_eq!((state.open_audit(), state.certified, state.uncertified()), (None, Some(0), vec![]));
    assert_eq!(next_step(&state, RULES), Step::StartTrial(2));
}

#[test]
fn what_the_machine_or_the_champion_spoils_in_an_audit_undoes_nothing() {
    for (arm, reason, end, undone) in [
        (1, Reason::Machine, AuditEnd::Open, false),
        (0, Reason::Crash, AuditEnd::Open, false),
        (1, Reason::Crash, AuditEnd::Failed, true),
    ] {
        let mut state = within_an_audit(0);
        while state.open_audit().is_some() {
            let step = certify_step(&state, RULES, false).unwrap();
            let Step::Measure(measure) = step else {
                answer(&mut state, step, &chain(&[0.004]));
                continue;
            };
            if measure.arm != arm {
                answer(&mut state, Step::Measure(measure), &chain(&[0.004]));
                continue;
            }
            state.apply("", &Record::MeasureStarted(measure.clone()));
            let outcome = Outcome::Invalid(Invalid::new(reason, "spoilt"));
            state.apply("", &Record::Measured { measure, outcome, seconds: 1.0 });
        }
        assert_eq!(state.audits[0].end, Some(end));
        let takes_back = matches!(certify_step(&state, RULES, false), Some(Step::TakeBack(1, 1)));
        assert_eq!(takes_back, undone, "{arm} {reason}");
    }
}

#[test]
fn a_winner_is_advanced_before_an_audit_on_demand() {
    let mut state = drive_by(policy(), RULES, chain(&[0.1]), 8).0;
    let effect = Effect { gain: 0.1, low: 0.05, high: 0.15, runs: 1, sigma: 0.003 };
    for step in [Step::StartTrial(1), Step::Propose(1), Step::Decide(1, Verdict::Win(effect), "good".into())]
    {
        answer(&mut state, step, &chain(&[0.1]));
    }
    assert_eq!(certify_step(&state, RULES, true), Some(Step::Advance(1)));
}

#[test]
fn a_busy_machine_disturbs_candidates_and_is_what_the_baseline_learns_from() {
    let mut state = State::default();
    let run = RunStarted { budget: Budget::Seconds(1.0), policy: policy(), ..RunStarted::default() };
    state.apply("", &Record::RunStarted(Box::new(run)));
    let busy = |share: f64, rate: f64| {
        let facts =
            [(throughput::OTHER_PROCESSES, share), (throughput::STEAL, 0.0), ("tokens_per_second", rate)];
        facts.map(|(name, value)| (name.to_owned(), value)).into_iter().collect::<BTreeMap<_, _>>()
    };
    let mut made = 0;
    let mut execute = |state: &mut State, trial: TrialId, purpose: Purpose, facts: BTreeMap<String, f64>| {
        let measure =
            Measure { measure: made, trial, arm: trial, seed: u64::from(made), purpose, budget: None };
        made += 1;
        state.apply("", &Record::MeasureStarted(measure.clone()));
        let (fault, earlier) = disturbance(state, &measure, &facts);
        let outcome = Outcome::Scored(Score { value: 1.0, facts, ..Score::default() });
        state.apply("", &Record::Measured { measure, outcome, seconds: 1.0 });
        (fault, earlier)
    };
    assert_eq!(execute(&mut state, 0, Purpose::Baseline, busy(0.5, 1000.0)), (None, Vec::new()));
    // The first one was slow: the others show it, whatever the load was.
    let mut disqualified = Vec::new();
    for rate in [2000.0, 2004.0, 1998.0, 2001.0, 2003.0] {
        let (fault, earlier) = execute(&mut state, 0, Purpose::Baseline, busy(0.0, rate));
        assert_eq!(fault, None);
        disqualified.extend(earlier);
    }
    assert!(disqualified.contains(&(0, 0)), "{disqualified:?}");
    let (fault, _) = execute(&mut state, 1, Purpose::Screen, busy(0.5, 1500.0));
    assert!(fault.is_some_and(|fault| fault.to_string().contains("50 %")));
}
