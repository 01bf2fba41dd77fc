//! Audits, bisection and certification with real git and a real ledger.

use super::*;

/// Scores of code that says `lucky` are good at first, and bad once it was executed more often than a candidate is.
fn lucky_lane() -> Box<dyn Lane> {
    let mut executed: BTreeMap<String, u32> = BTreeMap::new();
    Box::new(Then(
        FakeLane(Counts::default()),
        move |text: &str, mut score: Score, _: &mut dyn FnMut(Sign) -> Watch| {
            let times = executed.entry(text.to_owned()).or_default();
            *times += 1;
            if text.contains("lucky") {
                // Two executions of the candidate, and those beside the next one; the audit comes after them.
                score.value += if *times <= 2 { -0.02 } else { 0.05 };
            }
            if text.contains("bonus") {
                score.value -= 0.03;
            }
            MeasureEnd::Done(Outcome::Scored(score))
        },
    ))
}

#[test]
fn what_an_audit_does_not_bear_out_leaves_the_branch_and_what_stood_on_it_is_tried_again() {
    let task = TASK.replace("baseline_repeats = 5", "baseline_repeats = 5\naudit_every = 2");
    let fixture = Fixture::of(&task);
    let lines = |first: &str, last: &str| format!("{first}\n.\n.\n.\n.\n{last}");
    std::fs::write(fixture.dir().join("model.txt"), lines("1.0", "") + "\n").unwrap();
    let author = ["-c", "user.name=a", "-c", "user.email=a@example.org"];
    fixture.git(&[&author[..], &["commit", "-q", "-a", "-m", "More lines"]].concat());
    let (lucky, both) = (lines("1.0 lucky", ""), lines("1.0 lucky", "bonus"));
    let script = [lucky.as_str(), &both, "unused"];
    let state = run_with(fixture.setup(3), lucky_lane(), proposers(&script), &mut ()).unwrap();
    assert_eq!(words(&state)[..4], ["BASELINE", "WIN", "WIN", "WIN"], "{:#?}", state.audits);
    let undone = |trial: TrialId| state.trial(trial).unwrap().undone;
    assert_eq!((undone(1), undone(2), undone(3)), (true, true, false), "{:#?}", state.audits);
    assert_eq!((state.trial(3).unwrap().again, state.certified), (Some(2), Some(3)));
    assert_eq!(fixture.git(&["show", "sprag/run-1:model.txt"]), lines("1.0", "bonus") + "\n");
    // Undone, yet reachable.
    assert_eq!(fixture.git(&["show", "refs/sprag/run-1/1:model.txt"]), lucky + "\n");
}

#[test]
fn what_is_tentative_is_merged_only_on_demand() {
    let fixture = Fixture::of(&TASK.replace("baseline_repeats = 5", "baseline_repeats = 5\naudit_every = 0"));
    fixture.run(&["0.5"]);
    let refused = merge(fixture.setup(1), None, false, &mut ()).unwrap_err().to_string();
    assert!(refused.contains("sprag certify") && refused.contains("--tentative"), "{refused}");
    let lane = Box::new(FakeLane(Counts::default()));
    let state = champion::certify_with(fixture.setup(1), lane, &mut ()).unwrap();
    assert_eq!(state.certified, Some(1));
    let lane = Box::new(FakeLane(Counts::default()));
    assert!(champion::certify_with(fixture.setup(1), lane, &mut ()).is_err());
    assert_eq!(merge(fixture.setup(1), None, false, &mut ()).unwrap().trial, 1);
    let other = Fixture::of(&TASK.replace("baseline_repeats = 5", "baseline_repeats = 5\naudit_every = 0"));
    other.run(&["0.5"]);
    let merged = merge(other.setup(1), None, true, &mut ()).unwrap();
    assert!(merged.message.contains("Not certified"), "{}", merged.message);
}
