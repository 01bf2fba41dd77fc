//! Candidates with one fault each, through the whole program: real data, real sandbox, real evaluator. Each
//! ends as the right INVALID, and the trial after it runs as if nothing had been.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sprag_measure::process;

/// Behaviour of the fixture candidate, and the reasons that are right for it.
const FAULTS: &[(&str, &[&str])] = &[
    ("hang", &["silence"]),
    ("silent", &["silence"]),
    ("fork", &["processes"]),
    ("eat-memory", &["memory"]),
    ("print-forever", &["output"]),
    ("write-outside TASK/fixed.txt", &["denied"]),
    ("write-outside /tmp/sprag-was-here", &["denied"]),
    ("open-socket", &["denied"]),
    ("read-file DATA/val.bin", &["denied"]),
    ("read-file DATA/train.bin", &["denied"]),
    ("lookahead", &["causality"]),
    ("stateful", &["state"]),
    ("nan", &["non-finite"]),
    ("wrong-shape", &["shape"]),
    ("diverge", &["diverged"]),
    ("overtime", &["overtime"]),
    ("crash", &["crash"]),
];

const TASK: &str = r#"
format = 1
name = "faults"
[files]
mutable = ["behaviour.txt", "knobs.rs"]
fixed = ["fixed.txt"]
[vars]
data = "../data"
fixture = "FIXTURE"
[build]
command = ["/bin/sh", "-c", "cp {fixture} {out}/candidate && cp behaviour.txt {out}/"]
[run]
command = ["/bin/sh", "-c", "exec {out}/candidate $(cat {out}/behaviour.txt)"]
timeout_seconds = 30
silence_seconds = 4
memory_mib = 768
[evaluate]
command = ["{sprag}", "train", "eval", "--data", "{data}", "--seed", "{seed}", "--budget", "{budget}",
    "--phase", "{phase}", "--val-tokens", "8192", "--max-seq-len", "64"]
channel = true
[metric]
name = "val_bpb"
direction = "lower"
[budget]
seconds = 0.5
[sandbox]
build_read = ["FIXTURE"]
"#;

const KNOBS: &str = "/// A width.\nconst WIDTH: usize = 4;\n/// Where chance begins.\nconst SEED: u64 = 1;\n";

#[test]
fn each_fault_ends_as_its_invalid_and_the_next_trial_runs_normally() {
    let root = tempfile::tempdir().unwrap();
    let (task, data, texts) = (root.path().join("task"), root.path().join("data"), root.path().join("texts"));
    for dir in [&task, &texts, &task.join("patches")] {
        fs::create_dir(dir).unwrap();
    }
    // Some structure to learn, and enough of it for every split.
    for file in 0..60 {
        let words = (0..400).map(|word| format!("word{} of file {file}, ", (word * 7 + file * 13) % 97));
        fs::write(texts.join(format!("text-{file}.txt")), words.collect::<String>()).unwrap();
    }
    let source = format!("dir:{}", texts.display());
    sprag(
        &task,
        &["data", "prepare", "--source", &source, "--out", data.to_str().unwrap(), "--vocab-size", "256"],
    );

    let fixture = fixture();
    fs::write(task.join("task.toml"), TASK.replace("FIXTURE", fixture.to_str().unwrap())).unwrap();
    fs::write(task.join("behaviour.txt"), "honest\n").unwrap();
    fs::write(task.join("knobs.rs"), KNOBS).unwrap();
    fs::write(task.join("fixed.txt"), "fixed\n").unwrap();
    let mut expected: Vec<(String, Vec<String>)> = Vec::new();
    let mut patch = |name: &str, file: &str, from: &str, to: &str, reasons: &[&str]| {
        let number = expected.len() + 1;
        let text = format!("--- a/{file}\n+++ b/{file}\n@@ -1 +1 @@\n-{from}\n+{to}\n");
        fs::write(task.join(format!("patches/{number:02}-x.patch")), text).unwrap();
        expected.push((name.to_owned(), reasons.iter().map(|reason| (*reason).to_owned()).collect()));
    };
    for (behaviour, reasons) in FAULTS {
        let behaviour =
            behaviour.replace("TASK", task.to_str().unwrap()).replace("DATA", data.to_str().unwrap());
        patch(&behaviour, "behaviour.txt", "honest", &behaviour, reasons);
    }
    patch("edits a fixed file", "fixed.txt", "fixed", "changed", &["outside-mutable"]);
    patch("edits the contract", "task.toml", "", "# mine\n", &["outside-mutable", "proposer"]);
    // Whole-file hunks for the second file: a comment, a seed, and at last something real.
    let whole = |to: &str| {
        let minus: String = KNOBS.lines().map(|line| format!("-{line}\n")).collect();
        let plus: String = to.lines().map(|line| format!("+{line}\n")).collect();
        format!("--- a/knobs.rs\n+++ b/knobs.rs\n@@ -1,4 +1,4 @@\n{minus}{plus}")
    };
    for (to, reasons) in [
        (KNOBS.replace("A width", "Quite a width"), &["duplicate"][..]),
        (KNOBS.replace("SEED: u64 = 1", "SEED: u64 = 42"), &["seed-only"]),
        (KNOBS.replace("usize = 4", "usize = 8"), &[]),
    ] {
        let number = expected.len() + 1;
        fs::write(task.join(format!("patches/{number:02}-x.patch")), whole(&to)).unwrap();
        expected.push((to, reasons.iter().map(|reason| (*reason).to_owned()).collect()));
    }
    git(&task, &["init", "-q"]);
    git(&task, &["add", "-A"]);
    git(&task, &["-c", "user.name=Test", "-c", "user.email=test@example.org", "commit", "-q", "-m", "Begin"]);

    sprag(&task, &["run", "--proposer", "patches:patches"]);
    let log = sprag(&task, &["log", "--json"]);
    let trials: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(trials[0]["mark"], "baseline", "{}", trials[0]);
    assert_eq!(trials.len(), expected.len() + 1, "{log}");
    let mut wrong = Vec::new();
    for ((name, reasons), trial) in expected.iter().zip(&trials[1..]) {
        let found = trial["invalid"][0].as_str().map(str::to_owned);
        if !found.as_ref().map_or(reasons.is_empty(), |found| reasons.contains(found)) {
            wrong.push(format!("`{name}` ended as {found:?} instead of {reasons:?}: {}", trial["invalid"]));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(!Path::new("/tmp/sprag-was-here").exists());
    assert_eq!(fs::read_to_string(task.join("fixed.txt")).unwrap(), "fixed\n");
}

/// The example of `sprag-train` that `cargo test --workspace` has built beside this test.
fn fixture() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let profile = own.ancestors().nth(2).unwrap();
    let fixture = profile.join("examples/fixture_candidate");
    assert!(fixture.exists(), "build it first: cargo build -p sprag-train --example fixture_candidate");
    fixture
}

fn sprag(dir: &Path, arguments: &[&str]) -> String {
    call(dir, env!("CARGO_BIN_EXE_sprag"), arguments)
}

fn git(dir: &Path, arguments: &[&str]) {
    call(dir, "git", arguments);
}

fn call(dir: &Path, program: &str, arguments: &[&str]) -> String {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let environment: Vec<(OsString, OsString)> = vec![("PATH".into(), path), ("HOME".into(), dir.into())];
    let output = process::output(program, arguments.iter().copied(), dir, &environment).unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.success(), "{program} {arguments:?}: {}\n{said}", output.end);
    String::from_utf8_lossy(&output.stdout).into_owned()
}
