//! The contract as text.

use super::contract::{Build, Watched};
use super::*;
use crate::record::Budget;
use crate::task::Task;

fn contract() -> Contract {
    let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<String>>();
    Contract {
        name: "tiny".into(),
        mutable: owned(&["learn.py"]),
        fixed: owned(&["data.py"]),
        vars: vec![("venv".into(), "./.venv".into())],
        build: Some(Build {
            command: owned(&["make"]),
            keep: Vec::new(),
            env: vec![("A".into(), "b \"c\"".into())],
        }),
        command: owned(&["{venv}/bin/python", "learn.py"]),
        env: vec![("HOME".into(), "/home/someone".into())],
        timeout_seconds: Some(240.0),
        metric: Metric {
            name: "val_loss".into(),
            source: MetricSource::Pattern(r"^val_loss:\s*(\S+)".into()),
        },
        direction: Direction::Lower,
        guards: vec![
            Guard {
                name: "mem".into(),
                watched: Watched::Pattern("^mem: (.*)".into()),
                limit: "<= 1.25 x incumbent".parse().ok(),
            },
            Guard {
                name: "speed".into(),
                watched: Watched::Pattern("^s (.*)".into()),
                limit: ">= 0.99 x incumbent".parse().ok(),
            },
            Guard { name: "checks".into(), watched: Watched::Command(owned(&["bash", "c.sh"])), limit: None },
        ],
        budget: Budget::Seconds(120.0),
        build_read: Vec::new(),
        run_read: owned(&["{venv}"]),
        devices: owned(&["/dev/nvidia*"]),
    }
}

/// Without comments and blank lines.
fn keys(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines.map(|line| format!("{line}\n")).collect()
}

const KEYS: &str = r#"format = 1
name = "tiny"
[files]
mutable = ["learn.py"]
fixed = ["data.py"]
[vars]
venv = "./.venv"
[build]
command = ["make"]
[build.env]
A = 'b "c"'
[run]
command = ["{venv}/bin/python", "learn.py"]
tree = "copy"
timeout_seconds = 240
[run.env]
HOME = "/home/someone"
[metric]
name = "val_loss"
direction = "lower"
pattern = '^val_loss:\s*(\S+)'
[guards]
mem = { pattern = "^mem: (.*)", limit = "<= 1.25 x incumbent" }
speed = { pattern = "^s (.*)", limit = ">= 0.99 x incumbent" }
checks = { command = ["bash", "c.sh"] }
[budget]
seconds = 120
[sandbox]
on_network = "refuse"
run_read = ["{venv}"]
devices = ["/dev/nvidia*"]
"#;

#[test]
fn every_part_of_a_contract_has_its_key() {
    assert_eq!(keys(&render(&contract(), &[])), KEYS);
}

#[test]
fn other_sources_of_a_metric_have_keys_of_their_own() {
    for (source, line) in [
        (
            MetricSource::Json { file: "out.json".into(), pointer: "/a".into() },
            "json = { file = \"out.json\", pointer = \"/a\" }",
        ),
        (MetricSource::WallSeconds, "wall_seconds = true"),
    ] {
        let contract = Contract { metric: Metric { name: "x".into(), source }, ..contract() };
        let text = render(&contract, &[]);
        assert!(text.lines().any(|found| found == line), "{text}");
    }
}

#[test]
fn reasons_stand_above_their_keys_and_cannot_leave_their_comments() {
    let reason = Reason {
        key: "files.mutable",
        value: "learn.py".into(),
        confidence: Confidence::Stated,
        evidence: vec![Evidence::new("program.md", 3)],
        why: "it says\nname = \"other\"\r\nand more".into(),
    };
    let text = render(&contract(), &[reason]);
    let expected =
        "[files]\n# It says name = \"other\" and more [program.md:3; stated]\nmutable = [\"learn.py\"]\n";
    assert!(text.contains(expected), "{text}");
    assert_eq!(keys(&text), KEYS);
    assert!(text.lines().all(|line| line.chars().count() <= 120), "{text}");
}

#[test]
fn the_text_warns_of_scores_that_the_candidate_says_itself() {
    assert!(render(&contract(), &[]).contains("# The score is self-reported"));
    let timed = Metric { name: "wall_seconds".into(), source: MetricSource::WallSeconds };
    assert!(!render(&Contract { metric: timed, ..contract() }, &[]).contains("self-reported"));
}

#[test]
fn the_parser_takes_the_text_for_what_the_contract_says() {
    let task = Task::parse(&render(&contract(), &[]), std::path::Path::new("/nowhere/tiny")).unwrap();
    assert_eq!(task.name, "tiny");
    assert_eq!(task.vars["venv"], "/nowhere/tiny/.venv");
    assert_eq!(task.budget, Budget::Seconds(120.0));
    let crate::task::Source::Pattern(pattern) = &task.metric.source else { panic!("{:?}", task.metric) };
    assert_eq!(pattern.as_str(), r"^val_loss:\s*(\S+)");
    assert_eq!(task.run.timeout, Some(std::time::Duration::from_secs(240)));
    assert_eq!(task.build.unwrap().env["A"], "b \"c\"");
    assert_eq!(task.sandbox.run_read, [std::path::Path::new("/nowhere/tiny/.venv")]);
}

#[test]
fn the_parser_takes_the_whole_text() {
    let dir = std::path::Path::new("/nowhere/tiny");
    Task::parse(&render(&contract(), &[]), dir).unwrap();
    for source in
        [MetricSource::Json { file: "out.json".into(), pointer: "/a".into() }, MetricSource::WallSeconds]
    {
        let contract = Contract { metric: Metric { name: "x".into(), source }, ..contract() };
        Task::parse(&render(&contract, &[]), dir).unwrap();
    }
}
