use std::collections::BTreeSet;
use std::fs;

use tempfile::TempDir;

use super::*;
use crate::proposer::fixture::brief;
use crate::record::{Effect, Invalid, Proposed, Reason, Record, TrialId, Verdict};
use crate::repo::{Repo, fixture};
use crate::state::State;
use crate::task::Task;

const SOURCE: &str = "\
// --- Rates ---
/// knob: log 1e-3..1.0
const LR: f64 = 0.02;
/// knob: linear 0.0..1.0
const DECAY: f64 = 0.4;
// --- Shape ---
/// knob: choice 1|2|4|8
const DEPTH: usize = 2;
/// knob: choice Relu|Gelu
const ACT: Act = Relu;
";

const TASK: &str = "format = 1\nname = \"t\"\n[files]\nmutable = [\"train.rs\"]\n[run]\ncommand = [\"x\"]\n\
    [metric]\nname = \"m\"\ndirection = \"lower\"\npattern = '(.*)'\n[budget]\nseconds = 1\n";

/// A run against a made-up truth: the verdict is a function of the title.
struct Bench {
    dir: TempDir,
    repo: Repo,
    task: Task,
    state: State,
    incumbent: String,
}

impl Bench {
    fn new(source: &str) -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let repo = fixture::init(dir.path(), &[("task.toml", TASK), ("train.rs", source)]);
        let task = Task::load(dir.path()).unwrap();
        let mut bench = Bench { dir, repo, task, state: State::default(), incumbent: source.to_owned() };
        let verdict = Verdict::Baseline { mean: 1.0, sd: 0.01, n: 5 };
        bench.record(0, "baseline".into(), None, verdict);
        bench
    }

    fn record(&mut self, trial: TrialId, title: String, family: Option<String>, verdict: Verdict) {
        let content = crate::proposer::content_of(&self.task, self.dir.path()).unwrap();
        let proposed = Proposed { trial, title, family, content, ..Proposed::default() };
        self.state.apply(
            "",
            &Record::TrialStarted {
                trial,
                proposer: "search".into(),
                parent: String::new(),
                again: None,
                heat: None,
            },
        );
        self.state.apply("", &Record::Proposed(proposed));
        self.state.apply("", &Record::Decided { trial, verdict, reason: String::new() });
    }

    fn propose(&self, seed: u64) -> Result<Proposal, Declined> {
        fs::write(self.dir.path().join("train.rs"), &self.incumbent).unwrap();
        let brief = Brief { seed, ..brief(&self.task, &self.repo, &self.state, self.dir.path()) };
        Search.propose(&brief)
    }

    fn step(&mut self, judge: impl Fn(&str) -> Verdict) -> Option<String> {
        let proposal = match self.propose(7) {
            Ok(proposal) => proposal,
            Err(Declined::Exhausted(_)) => return None,
            Err(other) => panic!("{other:?}"),
        };
        let verdict = judge(&proposal.title);
        let won = matches!(verdict, Verdict::Win(_));
        let trial = self.state.trials.len() as TrialId;
        self.record(trial, proposal.title.clone(), proposal.family, verdict);
        if won {
            self.incumbent = fs::read_to_string(self.dir.path().join("train.rs")).unwrap();
        }
        Some(proposal.title)
    }

    fn run(&mut self, judge: impl Fn(&str) -> Verdict) -> Vec<String> {
        let mut titles = Vec::new();
        while let Some(title) = self.step(&judge) {
            titles.push(title);
            assert!(titles.len() < 200, "no end: {titles:?}");
        }
        titles
    }
}

fn effect(sigmas: f64) -> Effect {
    Effect { gain: sigmas * 0.01, low: 0.0, high: 0.0, runs: 3, sigma: 0.01 }
}

fn loss(_: &str) -> Verdict {
    Verdict::Loss(effect(-1.0))
}

/// Best at LR = 0.3 or so; everything else is as good as it gets.
fn rate_matters(title: &str) -> Verdict {
    let Some(rest) = title.strip_prefix("LR ") else { return Verdict::Loss(effect(-0.5)) };
    let (from, to) = rest.split_once(" -> ").unwrap();
    let distance = |text: &str| (text.parse::<f64>().unwrap() / 0.3).ln().abs();
    if distance(to) < distance(from) { Verdict::Win(effect(2.0)) } else { Verdict::Loss(effect(-2.0)) }
}

#[test]
fn everything_near_is_tried_once_and_then_it_is_over() {
    let mut bench = Bench::new(SOURCE);
    let titles = bench.run(loss);
    let expect = [
        "ACT Relu -> Gelu",
        "DECAY 0.4 -> 0.2",
        "DECAY 0.4 -> 0.3",
        "DECAY 0.4 -> 0.5",
        "DECAY 0.4 -> 0.6",
        "DEPTH 2 -> 1",
        "DEPTH 2 -> 4",
        "LR 0.02 -> 0.01",
        "LR 0.02 -> 0.014",
        "LR 0.02 -> 0.028",
        "LR 0.02 -> 0.04",
    ];
    let tried: BTreeSet<&str> = titles.iter().map(String::as_str).collect();
    assert_eq!(tried.into_iter().collect::<Vec<_>>(), expect, "DEPTH 8 lies behind the refused 4");
    assert_eq!(titles.len(), expect.len());
    let over = bench.propose(7).unwrap_err();
    assert_eq!(over, Declined::Exhausted("every neighbourhood of 4 knobs was tried".into()));
}

#[test]
fn direction_that_wins_is_followed_to_the_peak() {
    let mut bench = Bench::new(SOURCE);
    let titles = bench.run(rate_matters);
    assert!(bench.incumbent.contains("const LR: f64 = 0.32;"), "{titles:#?}");
    let ups: Vec<&String> = titles.iter().filter(|title| title.starts_with("LR")).collect();
    assert!(
        ups.contains(&&"LR 0.04 -> 0.08".to_owned()) && ups.contains(&&"LR 0.16 -> 0.32".to_owned()),
        "{ups:?}"
    );
    let back = ups.iter().filter(|title| title.ends_with("-> 0.02") || title.ends_with("-> 0.01")).count();
    assert!(back <= 1, "values left behind are not tried again: {ups:?}");
    assert_eq!(titles.iter().collect::<BTreeSet<_>>().len(), titles.len());
}

#[test]
fn bandit_prefers_the_family_that_wins() {
    let mut bench = Bench::new(SOURCE);
    let mut first = Vec::new();
    for _ in 0..8 {
        first.push(bench.step(rate_matters).unwrap());
    }
    let rates = first.iter().filter(|title| title.starts_with("LR") || title.starts_with("DECAY")).count();
    assert!(rates >= 5, "{first:?}");
}

#[test]
fn same_ledger_and_seed_give_the_same_proposal() {
    let bench = Bench::new(SOURCE);
    let proposals: Vec<Proposal> = (0..12).map(|seed| bench.propose(seed).unwrap()).collect();
    let again: Vec<Proposal> = (0..12).map(|seed| bench.propose(seed).unwrap()).collect();
    assert_eq!(proposals, again);
    let distinct: BTreeSet<&str> = proposals.iter().map(|proposal| proposal.title.as_str()).collect();
    assert!(distinct.len() > 2, "seeds differ: {distinct:?}");
}

#[test]
fn every_proposal_edits_the_file_and_says_why() {
    let bench = Bench::new(SOURCE);
    let proposal = bench.propose(1).unwrap();
    let (name, turn) = proposal.title.split_once(' ').unwrap();
    let (from, to) = turn.split_once(" -> ").unwrap();
    let text = fs::read_to_string(bench.dir.path().join("train.rs")).unwrap();
    assert!(text.contains(&format!("const {name}")) && text.contains(&format!("= {to};")), "{text}");
    assert!(SOURCE.contains(&format!("= {from};")));
    assert!(proposal.hypothesis.unwrap().contains(name));
    assert!(["Rates", "Shape"].contains(&proposal.family.unwrap().as_str()));
}

#[test]
fn crash_counts_as_refused() {
    let mut bench = Bench::new("/// knob: choice 1|2|3\nconst A: usize = 1;\n");
    let crash = |_: &str| Verdict::Invalid(Invalid::new(Reason::Crash, ""));
    assert_eq!(bench.run(crash), ["A 1 -> 2"]);
}

#[test]
fn values_at_the_end_of_a_range_stay_inside_it() {
    for (source, expect) in [
        ("/// knob: log 0.01..1.0\nconst A: f64 = 1.0;\n", vec!["A 1.0 -> 0.5", "A 1.0 -> 0.71"]),
        (
            "/// knob: linear 0.5..0.99\nconst A: f64 = 0.95;\n",
            vec!["A 0.95 -> 0.85", "A 0.95 -> 0.9", "A 0.95 -> 0.99"],
        ),
        ("/// knob: linear 0..4\nconst A: usize = 0;\n", vec!["A 0 -> 1"]),
        ("/// knob: log 1..64\nconst A: usize = 1;\n", vec!["A 1 -> 2"]),
        ("/// knob: log 5..6\nconst A: f64 = 1.0;\n", vec!["A 1.0 -> 5.0"]),
        ("/// knob: choice 1|2\nconst A: usize = 3;\n", vec![]),
    ] {
        let mut titles = Bench::new(source).run(loss);
        titles.sort();
        assert_eq!(titles, expect, "{source}");
    }
}

#[test]
fn files_without_knobs_are_named_as_such() {
    let declined = Bench::new("fn main() {}\n").propose(1).unwrap_err();
    assert!(matches!(declined, Declined::Exhausted(reason) if reason.contains("knob:")));
}

#[test]
fn bandit_handles_no_arms_and_no_spread() {
    assert_eq!(bandit::choose(&[]), None);
    let arm = |rewards: &[f64], tie| Arm { rewards: rewards.to_vec(), tie };
    assert_eq!(bandit::choose(&[arm(&[1.0], 0), arm(&[], 0)]), Some(1), "an arm never pulled comes first");
    assert_eq!(bandit::choose(&[arm(&[0.0; 9], 0), arm(&[1.0; 9], 0)]), Some(1));
    assert_eq!(bandit::choose(&[arm(&[0.5], 3), arm(&[0.5], 2)]), Some(0), "a tie is broken");
    let flat = Effect { sigma: 0.0, ..effect(1.0) };
    assert_eq!(flat.shrunken_sigmas(), 1.0);
    assert_eq!(Effect { gain: 0.0, ..flat }.shrunken_sigmas(), 0.0);
    assert!(Effect { runs: 0, ..effect(3.0) }.shrunken_sigmas() < effect(3.0).shrunken_sigmas());
}
