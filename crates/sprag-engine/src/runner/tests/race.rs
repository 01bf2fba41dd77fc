//! Heats with real git and a real ledger.

use super::*;

/// Two heats: the second is short of one, because the proposer is at its end, and loses another to a crash.
const RACED: [&str; 7] = ["0.9", "0.5", "1.2", "0.7", "crash", "0.3", "0.4"];

/// A task whose candidates race in fours.
fn racing() -> String {
    let task = TASK.replace("\"{phase}\"", "\"{phase}\", \"{budget}\"");
    task.replace("baseline_repeats = 5", "baseline_repeats = 5\nrace = 4")
}

#[test]
fn a_kill_before_any_line_of_a_race_resumes_to_the_same_end_and_runs_nothing_twice() {
    killed_at_every_line(&racing(), &["0.9", "0.5", "crash", "0.7"], 4, Dies::BeforeTheLine);
}

#[test]
fn a_kill_after_any_line_of_a_race_resumes_to_the_same_end_and_runs_nothing_twice() {
    // The proposer is at its end before the heat is full.
    killed_at_every_line(&racing(), &["0.9", "0.5", "0.7"], 4, Dies::AfterTheLine);
}

#[test]
fn the_best_of_a_heat_is_kept_and_the_others_are_reachable_and_forgotten() {
    let fixture = Fixture::of(&racing());
    let (state, counts) = fixture.run_to(&RACED, 20);
    let expected =
        ["BASELINE", "OUTRUN", "WIN", "OUTRUN", "OUTRUN", "crash", "WIN", "OUTRUN"].map(str::to_owned);
    assert_eq!(words(&state), expected);
    assert_eq!((state.incumbent, state.trial(6).unwrap().parent_trial), (Some(6), Some(2)));
    assert_eq!(fixture.git(&["show", "sprag/run-1:model.txt"]), "0.3\n");
    assert_eq!(fixture.git(&["show", "refs/sprag/run-1/3:model.txt"]), "1.2\n");
    // Who was outrun early was executed once, and told the quarter of a second that it had.
    let counts = counts.borrow();
    let of = |text: &str| -> Vec<u32> {
        let own = counts.iter().filter(|(what, _)| what.starts_with(&format!("measure {text} ")));
        own.map(|(_, times)| *times).collect()
    };
    assert_eq!((of("0.9"), of("1.2"), of("0.7")), (vec![1], vec![1], vec![1, 1]));
    let budgets: Vec<Option<Budget>> =
        state.trial(4).unwrap().runs.iter().skip(1).map(|run| run.measure.budget).collect();
    assert_eq!(budgets, [Some(Budget::Seconds(0.25)), Some(Budget::Seconds(0.5))]);
    let (folders, _) = fixture.folders();
    assert!(folders.iter().all(|name| !name.ends_with("-3") && !name.ends_with("-4")), "{folders:?}");
}

/// Cancels the run when that trial has run on a part of the budget.
struct StopsInRace {
    at: TrialId,
    cancel: Cancel,
}

impl crate::event::Observer for StopsInRace {
    fn observe(&mut self, event: &Event) {
        if let Event::Recorded { line } = event
            && let Record::Measured { measure, .. } = &line.record
            && (measure.trial, measure.purpose) == (self.at, Purpose::Race)
        {
            self.cancel.cancel();
        }
    }
}

#[test]
fn undo_follows_the_order_of_decisions_and_takes_an_open_heat_with_what_it_stands_on() {
    let fixture = Fixture::of(&racing().replace("race = 4", "race = 4\naudit_every = 0"));
    fixture.run(&RACED[..4]);
    let lane = || Box::new(FakeLane(Counts::default()));
    let setup = fixture.setup(8);
    // Stopped while the second heat runs on half of the budget.
    let mut stops = StopsInRace { at: 6, cancel: setup.cancel.clone() };
    let state = run_with(setup, lane(), proposers(&RACED), &mut stops).unwrap();
    assert_eq!(words(&state)[5..], ["crash", "open", "open"].map(str::to_owned));
    let error = champion::certify_with(fixture.setup(8), lane(), &mut ()).unwrap_err();
    assert!(error.to_string().contains("heat"), "{error}");
    let (trial, state) = undo(fixture.setup(8), &mut ()).unwrap();
    assert_eq!((trial, state.open_trials().count()), (5, 2), "the crash is what was decided last");
    // Trial 2 won after 3 and 4 were outrun.
    let (trial, state) = undo(fixture.setup(8), &mut ()).unwrap();
    assert_eq!((trial, state.incumbent, state.open_trials().count()), (2, Some(0), 0));
    assert_eq!(fixture.git(&["show", "sprag/run-1:model.txt"]), "1.0\n");
    // Their ideas were not judged, so they may be tried again.
    let script = ["", "", "", "", "", "", "", "0.3", "0.4"];
    let state = run_with(fixture.setup(9), lane(), proposers(&script), &mut ()).unwrap();
    assert_eq!((words(&state)[8].as_str(), state.incumbent), ("WIN", Some(8)));
}
