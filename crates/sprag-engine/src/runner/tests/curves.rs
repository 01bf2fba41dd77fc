//! Screening runs that are stopped early, or spared.

use super::*;
use crate::event::Progress;
use crate::gate::curve;
use crate::session::split_mix;
use crate::state::EarlyStops;

/// Tells a training curve at the height of the candidate's number, and stops when it is told to.
fn curve_lane() -> Box<dyn Lane> {
    Box::new(Then(
        FakeLane(Counts::default()),
        |text: &str, mut score: Score, sign: &mut dyn FnMut(Sign) -> Watch| {
            for step in 1..=100u64 {
                let (fraction, loss) = (step as f64 / 100.0, 2.0 + score.value);
                score.curve.push([fraction, loss]);
                score.curve_steps.push(step as f64);
                let progress = Progress {
                    stage: Progress::TRAINING.to_owned(),
                    fraction: Some(fraction),
                    loss: Some(loss),
                    step: Some(step),
                    ..Progress::default()
                };
                if sign(Sign::Progress(progress)) == Watch::Stop {
                    let facts = BTreeMap::from([("steps".to_owned(), step as f64)]);
                    return MeasureEnd::Stopped { facts, curve: score.curve };
                }
            }
            if text.contains("late") {
                // Better in the end, whatever its curve said.
                score.value -= 9.0;
            }
            MeasureEnd::Done(Outcome::Scored(score))
        },
    ))
}

/// A run's seed under which the screening run of trial 1 is spared, or is not.
fn seed_that_spares(spared: bool) -> u64 {
    let screen = |seed: &u64| [1, 3, 0].into_iter().fold(*seed, split_mix) >> 11;
    (0..).find(|seed| curve::runs_on(screen(seed)) == spared).unwrap()
}

fn run_curves(task: &str, seed: u64, script: &[&str]) -> State {
    let fixture = Fixture::of(task);
    let setup = Setup { seed, ..fixture.setup(script.len() as u32) };
    run_with(setup, curve_lane(), proposers(script), &mut ()).unwrap()
}

#[test]
fn a_screening_run_that_leaves_the_band_is_stopped_and_its_trial_is_neither_kept_nor_a_crash() {
    let state = run_curves(TASK, seed_that_spares(false), &["3.0", "0.5"]);
    assert_eq!(words(&state), ["BASELINE", "STOPPED", "WIN"], "an equal or better one is not stopped");
    assert_eq!(state.early_stops(), EarlyStops { stopped: 1, run_on: 0, kept: 0 });
    let trial = state.trial(1).unwrap();
    let run = trial.runs.iter().find(|run| run.measure.purpose == Purpose::Screen).unwrap();
    let Some(Outcome::Stopped(stopped)) = &run.outcome else { panic!("{:?}", run.outcome) };
    assert!((30.0..50.0).contains(&stopped.facts["steps"]), "{:?}", stopped.facts);
    assert_eq!(stopped.curve.len() as f64, stopped.facts["steps"]);
    assert_eq!(trial.verdict, Some(Verdict::Stopped { detail: stopped.detail.clone() }));
    assert!(trial.invalid().is_none() && !trial.kept && run.score().is_none());
    // A policy that does not ask for it stops nothing.
    let strict = TASK.replace("baseline_repeats = 5", "baseline_repeats = 5\nearly_stop = false");
    let state = run_curves(&strict, seed_that_spares(false), &["3.0"]);
    assert_eq!(words(&state), ["BASELINE", "LOSS"]);
    assert_eq!(state.early_stops(), EarlyStops::default());
}

#[test]
fn a_spared_screening_run_goes_on_and_says_whether_stopping_it_would_have_been_wrong() {
    let seed = seed_that_spares(true);
    for (text, word, kept) in [("3.0 late", "WIN", 1), ("3.0", "LOSS", 0)] {
        let state = run_curves(TASK, seed, &[text]);
        assert_eq!(words(&state), ["BASELINE", word]);
        assert_eq!(state.early_stops(), EarlyStops { stopped: 0, run_on: 1, kept });
        let (_, score) = state.trial(1).unwrap().scores(1, Purpose::Screen).next().unwrap();
        assert_eq!(score.facts[curve::WOULD_HAVE_STOPPED], 1.0);
    }
}

#[test]
fn a_kill_around_an_early_stop_resumes_to_the_same_end() {
    let seed = seed_that_spares(false);
    let lane = curve_lane;
    let reference = Fixture::new();
    let setup = |fixture: &Fixture| Setup { seed, ..fixture.setup(1) };
    run_with(setup(&reference), lane(), proposers(&["3.0"]), &mut ()).unwrap();
    let lines: Vec<Record> =
        load(reference.dir(), None).unwrap().1.into_iter().map(|line| line.record).collect();
    let is_screen = |record: &Record| matches!(record, Record::MeasureStarted(measure) if measure.purpose == Purpose::Screen);
    let screen = lines.iter().position(is_screen).unwrap() as u64;
    for fuse in screen..screen + 3 {
        for dies in [Dies::BeforeTheLine, Dies::AfterTheLine] {
            let fixture = Fixture::new();
            let mut nobody = ();
            let mut steps =
                Steps::open_only(setup(&fixture), lane(), proposers(&["3.0"]), &mut nobody).unwrap();
            steps.set_fuse(fuse, dies);
            assert!(steps.begin_or_resume().and_then(|()| steps.run()).is_err(), "line {fuse}, {dies:?}");
            drop(steps);
            let state = run_with(setup(&fixture), lane(), proposers(&["3.0"]), &mut ()).unwrap();
            assert_eq!(words(&state), ["BASELINE", "STOPPED"], "line {fuse}, {dies:?}");
            assert_eq!(state.early_stops().stopped, 1);
        }
    }
}
