//! Runs with a second budget.

use super::*;

fn task(second: &str) -> String {
    TASK.replace("seconds = 1.0", &format!("seconds = 1.0\nsecond = {second}"))
}

/// What was executed under tokens, without seeds, with how often.
fn under_tokens(counts: &Counts) -> BTreeMap<String, u32> {
    let mut times = BTreeMap::new();
    for (what, n) in counts.borrow().iter().filter(|(what, _)| what.ends_with(" tokens")) {
        let words: Vec<&str> = what.split(' ').collect();
        *times.entry(words[1..words.len() - 2].join(" ")).or_default() += n;
    }
    times
}

#[test]
fn every_keep_is_executed_beside_the_incumbent_before_it_and_what_is_left_behind_goes() {
    let fixture = Fixture::of(&task("{ tokens = 500 }"));
    let (state, counts) = fixture.run(&["0.5", "0.3", "0.9"]);
    assert_eq!(words(&state), ["BASELINE", "WIN", "WIN", "LOSS"]);
    let expected = [("0.3", 2), ("0.5", 4), ("1.0", 2)].map(|(what, n)| (what.to_owned(), n));
    assert_eq!(under_tokens(&counts), BTreeMap::from(expected));
    let builds = counts.borrow().iter().filter(|(what, _)| what.starts_with("build")).map(|(_, n)| *n).max();
    assert_eq!(builds, Some(1), "no arm is gone before it was executed for the last time");
    // Folders are those of a run without a second budget.
    let plain = Fixture::new();
    plain.run(&["0.5", "0.3", "0.9"]);
    assert_eq!(fixture.folders(), plain.folders());
}

#[test]
fn an_arm_that_gives_no_score_under_the_second_budget_stops_nothing() {
    let fixture = Fixture::of(&task("{ tokens = 500 }"));
    let script = ["0.5 slow", "0.3 silent", "0.1"];
    let (mut events, lane) = (Vec::new(), Box::new(FakeLane(Counts::default())));
    let state = run_with(fixture.setup(3), lane, proposers(&script), &mut events).unwrap();
    assert_eq!(words(&state), ["BASELINE", "WIN", "WIN", "WIN"]);
    let skipped = |trial: u32| {
        crate::session::second(&state, state.trial(trial).unwrap()).map(|second| second.skipped).unwrap()
    };
    assert_eq!(skipped(1), ["trial 1 gave no score: timeout: too slow"; 2]);
    let silent = "trial 2 gave no score: evaluator: it does not know tokens";
    assert_eq!(skipped(2), [silent, "trial 1 gave no score: timeout: too slow"]);
    assert_eq!(skipped(3), [silent; 2]);
    let said = events.iter().filter(
        |event| matches!(event, Event::Warning { text, .. } if text.contains("no score under the second budget")),
    );
    assert_eq!(said.count(), 6);
}

#[test]
fn equal_tokens_that_nobody_tells_are_said_and_left_out() {
    let fixture = Fixture::of(&task("\"equal-tokens\""));
    let counts = Counts::default();
    let (mut events, lane) = (Vec::new(), Box::new(FakeLane(counts.clone())));
    let state = run_with(fixture.setup(1), lane, proposers(&["0.5"]), &mut events).unwrap();
    assert_eq!((words(&state), under_tokens(&counts).len()), (vec!["BASELINE".into(), "WIN".into()], 0));
    let said = events
        .iter()
        .filter(|event| matches!(event, Event::Warning { text, .. } if text.contains("no second budget")));
    assert_eq!(said.count(), 1);
}

#[test]
fn the_second_budget_keeps_to_the_time_of_the_run_and_is_made_up_for() {
    let fixture = Fixture::of(&task("{ tokens = 500 }"));
    let mut nobody = ();
    let lane = || Box::new(FakeLane(Counts::default()));
    let mut steps = Steps::open(fixture.setup(1), lane(), proposers(&["0.5"]), &mut nobody).unwrap();
    // Up to the first line that an execution under the second budget would write.
    let lines = |steps: &Steps<'_>| steps.state().runs().filter(|run| run.measure.budget.is_some()).count();
    steps.set_seconds(f64::INFINITY);
    while steps.state().incumbent != Some(1) {
        steps.step().unwrap();
    }
    steps.set_seconds(0.0);
    steps.step().unwrap();
    assert_eq!((lines(&steps), steps.state().finished.is_some()), (0, true));
    drop(steps);
    let state = run_with(fixture.setup(1), lane(), proposers(&["0.5"]), &mut ()).unwrap();
    assert_eq!(state.runs().filter(|run| run.measure.budget.is_some()).count(), 4);
}

#[test]
fn a_kill_at_any_line_of_the_second_budget_resumes_to_the_same_end_and_runs_nothing_twice() {
    let task = task("{ tokens = 500 }");
    let reference = Fixture::of(&task);
    let (_, counts) = reference.run(&["0.5"]);
    let records = load(reference.dir(), None).unwrap().1;
    let advanced = records.iter().position(|line| matches!(line.record, Record::Advanced { .. })).unwrap();
    for fuse in advanced as u64..records.len() as u64 {
        let at = format!("line {fuse}");
        let fixture = Fixture::of(&task);
        let both = Counts::default();
        let lane = || Box::new(FakeLane(both.clone()));
        let mut nobody = ();
        let mut steps = Steps::open_only(fixture.setup(1), lane(), proposers(&["0.5"]), &mut nobody).unwrap();
        steps.set_fuse(fuse, Dies::AfterTheLine);
        let end = steps.begin_or_resume().and_then(|()| steps.run());
        assert!(end.is_err(), "the fuse did not blow at {at}");
        drop(steps);
        let state = run_with(fixture.setup(1), lane(), proposers(&["0.5"]), &mut ()).unwrap();
        let scored = state.trial(1).unwrap().runs.iter().filter(|run| run.measure.budget.is_some());
        let scored = scored.filter(|run| matches!(run.outcome, Some(Outcome::Scored(_))));
        assert_eq!(scored.count(), 4, "{at}");
        assert_eq!(fixture.folders(), reference.folders(), "{at}");
        let again: u32 = both.borrow().values().sum::<u32>() - counts.borrow().values().sum::<u32>();
        assert!(again <= 1, "{again} executions more than needed at {at}");
    }
}
