use super::*;
use crate::record::{Effect, Invalid, Proposed, Reason, Verdict};

const FILE: &str = "# Ideas\n\n- [ ] wider MLP\n  - [ ] use gelu (see notes)\n* [x] deeper (trial 1: LOSS)\n- no box\n- [?] odd\n";

fn trial(id: u32, idea: &str, verdict: Verdict) -> Trial {
    let proposed = Proposed { idea: Some(idea.into()), ..Proposed::default() };
    Trial { id, proposed: Some(proposed), verdict: Some(verdict), ..Trial::default() }
}

fn crash() -> Verdict {
    Verdict::Invalid(Invalid::new(Reason::Crash, ""))
}

#[test]
fn boxes_are_ideas_and_outcomes_are_not_part_of_them() {
    let ideas: Vec<(String, bool)> = parse(FILE).into_iter().map(|idea| (idea.text, idea.done)).collect();
    let expect = [("wider MLP", false), ("use gelu (see notes)", false), ("deeper", true)];
    assert_eq!(ideas, expect.map(|(text, done)| (text.to_owned(), done)));
}

#[test]
fn copy_takes_over_what_people_add_and_keeps_its_ticks() {
    let dir = tempfile::tempdir().unwrap();
    let (own, copy) = (dir.path().join("hypotheses.md"), dir.path().join(".sprag/hypotheses.md"));
    assert_eq!(refresh(&own, &copy).unwrap(), []);
    assert!(!copy.exists(), "nothing is written where there is nothing to say");

    std::fs::write(&own, FILE).unwrap();
    assert_eq!(refresh(&own, &copy).unwrap().len(), 3);
    let effect = Effect { gain: -0.02, low: -0.03, high: -0.01, runs: 1, sigma: 0.01 };
    let trials = ["use gelu (see notes)", "never heard of"].map(|idea| trial(7, idea, Verdict::Loss(effect)));
    mark(&copy, &trials).unwrap();
    let ticked = "  - [x] use gelu (see notes) (trial 7: LOSS, gain -0.0200 = -2.0 sigma)";
    assert!(std::fs::read_to_string(&copy).unwrap().contains(ticked));

    std::fs::write(&own, format!("{}- [ ] fewer heads\n", FILE.replace("[ ] wider", "[x] wider"))).unwrap();
    let ideas = refresh(&own, &copy).unwrap();
    let open: Vec<&str> = ideas.iter().filter(|idea| !idea.done).map(|idea| idea.text.as_str()).collect();
    assert_eq!(open, ["fewer heads"]);
    assert!(std::fs::read_to_string(&copy).unwrap().contains(ticked));
    assert_eq!(refresh(&own, &copy).unwrap(), ideas, "once more changes nothing");
    assert!(
        std::fs::read_to_string(&own).unwrap().contains("[ ] use gelu"),
        "the task's own file is not written"
    );
}

#[test]
fn boxes_follow_the_ledger_and_leave_what_is_not_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("hypotheses.md");
    std::fs::write(&copy, "- [ ] a\n- [x] b\n- [x] c (trial 7: LOSS)\n").unwrap();
    let rest = "- [x] b\n- [x] c (trial 7: LOSS)\n";
    let mut trials = vec![trial(7, "a", crash()), trial(8, "a", crash()), trial(9, "b", crash())];
    let check = |trials: &[Trial], line: &str| {
        mark(&copy, trials).unwrap();
        assert_eq!(std::fs::read_to_string(&copy).unwrap(), format!("{line}\n{rest}"));
    };
    check(&trials[..0], "- [ ] a");
    check(&trials, "- [x] a (trial 7: INVALID)");
    check(&trials, "- [x] a (trial 7: INVALID)");
    trials[0].undone = true;
    check(&trials, "- [x] a (trial 8: INVALID)");
    trials[1].undone = true;
    check(&trials, "- [ ] a");
}
