use super::novelty::{nearest, shingles};
use super::*;
use crate::record::{Effect, Invalid, Proposed, Reason, Record, TrialId, Verdict};
use crate::state::State;

/// A run after its baseline.
fn begun() -> State {
    let mut state = State::default();
    add(&mut state, 0, "", None, Verdict::Baseline { mean: 2.0, sd: 0.1, n: 5 });
    state
}

fn add(state: &mut State, trial: TrialId, family: &str, expected_gain: Option<f64>, verdict: Verdict) {
    let parent = "c".to_owned();
    let proposer = if trial.is_multiple_of(2) { "even" } else { "odd" };
    state.apply(
        "",
        &Record::TrialStarted { trial, proposer: proposer.into(), parent, again: None, heat: None },
    );
    state.apply(
        "",
        &Record::Proposed(Proposed {
            trial,
            title: format!("idea {trial}"),
            family: (!family.is_empty()).then(|| family.to_owned()),
            expected_gain,
            ..Proposed::default()
        }),
    );
    let kept = matches!(verdict, Verdict::Win(_));
    state.apply("", &Record::Decided { trial, verdict, reason: String::new() });
    if kept {
        state.apply("", &Record::Advanced { trial, to: "t".into() });
    }
}

/// Gains in sigma, sigma being 0.1.
fn effect(gain: f64) -> Effect {
    Effect { gain: gain * 0.1, low: (gain - 1.0) * 0.1, high: (gain + 1.0) * 0.1, runs: 2, sigma: 0.1 }
}

#[test]
fn families_are_one_whatever_their_spelling_and_tell_what_pays() {
    let mut state = begun();
    add(&mut state, 1, "Learning-Rate", Some(0.2), Verdict::Win(effect(2.0)));
    add(&mut state, 2, "learning rate", Some(0.1), Verdict::Loss(effect(-1.0)));
    add(&mut state, 3, "", None, Verdict::Invalid(Invalid::new(Reason::Crash, "exit 1")));
    let families = families(&state);
    let names: Vec<(&str, u32, u32, u32)> = families
        .iter()
        .map(|family| (family.name.as_str(), family.tried, family.kept, family.invalid))
        .collect();
    assert_eq!(names, [("learning rate", 2, 1, 0), ("other", 1, 0, 1)]);
    assert_eq!(families[0].mean_gain, Some(0.5));
    assert!(families[0].gain.is_some_and(|gain| gain.low < 0.5 && gain.high > 0.5));
    assert_eq!((families[1].mean_gain, families[1].gain), (None, None));
}

#[test]
fn expectations_are_scored_together_and_by_proposer() {
    let mut state = begun();
    assert_eq!(predictions(&state), None);
    add(&mut state, 1, "a", Some(0.2), Verdict::Win(effect(2.0)));
    add(&mut state, 2, "a", Some(0.1), Verdict::Loss(effect(-1.0)));
    add(&mut state, 3, "a", None, Verdict::Loss(effect(-1.0)));
    let all = predictions(&state).unwrap();
    assert_eq!((all.n, all.right_sign, all.mean_error_sigmas), (2, 0.5, 1.0));
    let by: Vec<(String, f64)> =
        predictions_by_proposer(&state).into_iter().map(|one| (one.proposer, one.right_sign)).collect();
    assert_eq!(by, [("even".to_owned(), 0.0), ("odd".to_owned(), 1.0)]);
}

#[test]
fn a_lesson_says_what_happened_and_what_was_expected_in_two_sentences() {
    let mut state = begun();
    add(&mut state, 1, "a", Some(0.1), Verdict::Loss(effect(-2.0)));
    add(&mut state, 2, "a", None, Verdict::Invalid(Invalid::new(Reason::Memory, "too\nmuch \u{1b}[31m")));
    let of = |trial: usize| lesson(&state, &state.trials[trial]);
    assert_eq!(of(0), None);
    assert_eq!(
        of(1).unwrap(),
        "idea 1: worse, -2.0 sigma [-3.0, -1.0]. Expected was +1.0: the sign was wrong."
    );
    let crashed = of(2).unwrap();
    assert!(crashed.contains("memory") && !crashed.contains(['\n', '\u{1b}']), "{crashed}");
    assert_eq!(cut_lesson("One. Two! Three? Four."), "One. Two!");
    assert_eq!(cut_lesson("Rate 0.5 is too high"), "Rate 0.5 is too high");
    assert!(cut_lesson(&"word ".repeat(500)).chars().count() <= 303);
}

#[test]
fn a_plateau_asks_for_another_family_then_for_combinations_then_for_older_code() {
    let mut state = begun();
    add(&mut state, 1, "a", None, Verdict::Win(effect(2.0)));
    add(&mut state, 2, "a", None, Verdict::Win(effect(2.0)));
    let mut seen = Vec::new();
    for trial in 3..30 {
        add(&mut state, trial, "a", None, Verdict::Inconclusive(effect(0.5)));
        seen.push(plateau(&state).map(|plateau| plateau.stage));
    }
    assert_eq!(seen[6], None);
    assert_eq!(seen[7], Some(Stage::AnotherFamily));
    assert_eq!(seen[13], Some(Stage::CombineNearMisses));
    assert_eq!(seen[19], Some(Stage::OlderChampion));
    assert_eq!(seen[26], Some(Stage::AnotherFamily), "and from the beginning");
    assert_eq!(older_champions(&state), [1]);
    add(&mut state, 30, "a", None, Verdict::Win(effect(2.0)));
    assert_eq!(plateau(&state), None, "a keep ends it");
}

#[test]
fn what_an_advice_would_name_must_be_there_and_crashes_are_no_plateau() {
    let mut state = begun();
    for trial in 1..20 {
        add(&mut state, trial, "a", None, Verdict::Loss(effect(-1.0)));
    }
    assert_eq!(plateau(&state).map(|plateau| plateau.stage), Some(Stage::AnotherFamily));
    let mut state = begun();
    for trial in 1..20 {
        add(&mut state, trial, "a", None, Verdict::Invalid(Invalid::new(Reason::Build, "x")));
    }
    assert_eq!(plateau(&state), None);
}

#[test]
fn near_misses_come_best_first() {
    let mut state = begun();
    for (trial, gain) in [(1, 0.4), (2, -0.2), (3, 0.9)] {
        add(&mut state, trial, "a", None, Verdict::Inconclusive(effect(gain)));
    }
    let order: Vec<TrialId> = near_misses(&state).into_iter().map(|(trial, _)| trial).collect();
    assert_eq!(order, [3, 1]);
}

fn diff(removed: &str, added: &str) -> String {
    format!(
        "diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1,3 +1,3 @@ fn main\n context\n-{removed}\n+{added}\n context\n"
    )
}

#[test]
fn changes_are_alike_by_what_they_change_and_not_by_where() {
    let one = shingles(&diff("let rate = 2;", "let rate = 1; // slower"));
    let moved =
        shingles(&diff("let   rate = 2;", "    let rate = 1; // slower").replace("context", "elsewhere"));
    let other = shingles(&diff("let rate = 2;", "let depth = 7; let width = 3;"));
    assert_eq!(one.resemblance(&moved), 1.0);
    assert!(one.resemblance(&other) < 0.6, "{}", one.resemblance(&other));
    assert_eq!(nearest(&one, [(3, &other), (4, &moved), (7, &moved)]), Some((7, 1.0)));
    assert_eq!(nearest(&one, [(3, &other)]), None);
    assert_eq!(shingles("").resemblance(&shingles("")), 0.0);
    // Taking a change back is not doing it.
    assert_eq!(shingles(&diff("a b c", "d e f")).resemblance(&shingles(&diff("d e f", "a b c"))), 0.0);
}
