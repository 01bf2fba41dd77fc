//! Candidates with one fault each, through the whole program: real data, real sandbox, real evaluator. Each
//! ends in time as the right INVALID, and the trial after it runs as if nothing had been.
//!
//! Where the sandbox is not complete the test says so aloud and checks nothing.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sprag_measure::process::{self, End, Output};

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
    ("read-file DATA/holdout.bin", &["denied"]),
    ("lookahead", &["causality"]),
    ("stateful", &["state"]),
    ("nan", &["non-finite"]),
    ("wrong-shape", &["shape"]),
    ("diverge", &["diverged"]),
    ("overtime", &["overtime"]),
    ("crash", &["crash"]),
];

/// Faults that could outlive their trial: an honest one follows each at once.
const LINGERING: &[&str] = &["fork", "eat-memory", "print-forever"];

/// Limit of one execution.
const TIMEOUT_SECONDS: f64 = 30.0;

/// What stopping, cleaning up and a busy machine may add to it.
const SLACK_SECONDS: f64 = 60.0;

/// Exit status of `sprag run` where the sandbox lacks a part.
const UNCONFINED: i32 = 5;

const TASK: &str = r#"
format = 1
name = "faults"
[files]
mutable = ["behaviour.txt", "knobs.rs"]
fixed = ["fixed.txt"]
[vars]
data = "../data"
fixture = "FIXTURE"
rust = "SYSROOT"
[build]
command = ["/bin/sh", "-c", """cp {fixture} {out}/candidate && cp behaviour.txt {out}/ && \
    {rust}/bin/rustc --crate-type lib --emit metadata --cap-lints allow -o {out}/knobs knobs.rs"""]
[run]
command = ["/bin/sh", "-c", "exec {out}/candidate $(cat {out}/behaviour.txt)"]
timeout_seconds = TIMEOUT
silence_seconds = 8
memory_mib = 256
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
build_read = ["FIXTURE", "SYSROOT"]
[gate]
# No honest change is better by chance: the patches after it are made for the baseline.
alpha = 1e-9
max_repeats = 1
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
    let text = TASK.replace("FIXTURE", fixture.to_str().unwrap()).replace("SYSROOT", &sysroot());
    let text = text.replace("TIMEOUT", &TIMEOUT_SECONDS.to_string());
    fs::write(task.join("task.toml"), text).unwrap();
    fs::write(task.join("behaviour.txt"), "honest\n").unwrap();
    fs::write(task.join("knobs.rs"), KNOBS).unwrap();
    fs::write(task.join("fixed.txt"), "fixed\n").unwrap();
    let mut expected: Vec<(String, Vec<String>)> = Vec::new();
    let mut patch = |file: &str, from: &str, to: &str, reasons: &[&str]| {
        let number = expected.len() + 1;
        fs::write(task.join(format!("patches/{number:02}-x.patch")), whole(file, from, to)).unwrap();
        expected.push((to.to_owned(), reasons.iter().map(|reason| (*reason).to_owned()).collect()));
    };
    let width = |width: usize| KNOBS.replace("usize = 4", &format!("usize = {width}"));
    for (number, (behaviour, reasons)) in FAULTS.iter().enumerate() {
        let text = behaviour.replace("TASK", task.to_str().unwrap()).replace("DATA", data.to_str().unwrap());
        patch("behaviour.txt", "honest\n", &format!("{text}\n"), reasons);
        if LINGERING.contains(behaviour) {
            patch("knobs.rs", KNOBS, &width(100 + number), &[]);
        }
    }
    patch("fixed.txt", "fixed\n", "changed\n", &["outside-mutable"]);
    patch("task.toml", "\n", "# mine\n", &["outside-mutable", "proposer"]);
    patch("knobs.rs", KNOBS, &KNOBS.replace("A width", "Quite a width"), &["duplicate"]);
    patch("knobs.rs", KNOBS, &KNOBS.replace("SEED: u64 = 1", "SEED: u64 = 42"), &["seed-only"]);
    // What a build reads goes into the candidate, so a build may read neither; its own files it may.
    let including = |path: &str| format!("{}const BYTES: &[u8] = include_bytes!({path:?});\n", width(8));
    for split in ["val.bin", "holdout.bin"] {
        patch("knobs.rs", KNOBS, &including(data.join(split).to_str().unwrap()), &["build"]);
    }
    patch("knobs.rs", KNOBS, &including("fixed.txt"), &[]);
    git(&task, &["init", "-q"]);
    git(&task, &["add", "-A"]);
    git(&task, &["-c", "user.name=Test", "-c", "user.email=test@example.org", "commit", "-q", "-m", "Begin"]);

    let run = call(&task, env!("CARGO_BIN_EXE_sprag"), &["run", "--proposer", "patches:patches"]);
    if run.end == End::Exited(UNCONFINED) {
        eprintln!("NOT TESTED: {}", run.error_text());
        return;
    }
    assert!(run.success(), "{}: {}", run.end, run.error_text());
    let log = sprag(&task, &["log", "--json"]);
    let trials: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(trials[0]["mark"], "baseline", "{}", trials[0]);
    assert_eq!(trials.len(), expected.len() + 1, "{log}");
    let wrong: Vec<String> = expected.iter().zip(&trials[1..]).flat_map(complaints).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(!Path::new("/tmp/sprag-was-here").exists());
    assert_eq!(fs::read_to_string(task.join("fixed.txt")).unwrap(), "fixed\n");
}

/// What is wrong with the end of a trial.
fn complaints(((name, reasons), trial): (&(String, Vec<String>), &Value)) -> Vec<String> {
    let mut wrong = Vec::new();
    let name = name.trim_end();
    let (found, detail) = (trial["invalid"][0].as_str(), trial["invalid"][1].as_str().unwrap_or_default());
    if !found.map_or(reasons.is_empty(), |found| reasons.iter().any(|reason| reason == found)) {
        wrong.push(format!("`{name}` ended as {found:?} instead of {reasons:?}: {detail}"));
    }
    if found == Some("build") && !detail.contains("Permission denied") {
        wrong.push(format!("`{name}` failed to build for another reason than its file: {detail}"));
    }
    let executions = trial["measurements"].as_array().into_iter().flatten();
    for seconds in executions.filter_map(|execution| execution["seconds"].as_f64()) {
        if seconds > TIMEOUT_SECONDS + SLACK_SECONDS {
            wrong.push(format!("`{name}` took {seconds} s, where {TIMEOUT_SECONDS} s is its limit"));
        }
    }
    wrong
}

/// A patch that replaces the whole of a file, or its first line where that is all of `from`.
fn whole(file: &str, from: &str, to: &str) -> String {
    let lines =
        |sign: char, text: &str| text.lines().map(|line| format!("{sign}{line}\n")).collect::<String>();
    let (old, new) = (from.lines().count(), to.lines().count());
    let (from, to) = (lines('-', from), lines('+', to));
    format!("--- a/{file}\n+++ b/{file}\n@@ -1,{old} +1,{new} @@\n{from}{to}")
}

/// Where the Rust lives that builds this test.
fn sysroot() -> String {
    let rustc = Path::new(env!("CARGO")).with_file_name("rustc");
    let environment: Vec<(OsString, OsString)> = std::env::vars_os().collect();
    let output = process::output(rustc, ["--print", "sysroot"], Path::new("/"), &environment).unwrap();
    assert!(output.success(), "{}", output.error_text());
    output.text()
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
    done(call(dir, env!("CARGO_BIN_EXE_sprag"), arguments))
}

fn git(dir: &Path, arguments: &[&str]) {
    done(call(dir, "git", arguments));
}

fn done(output: Output) -> String {
    assert!(output.success(), "{}: {}", output.end, output.error_text());
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn call(dir: &Path, program: &str, arguments: &[&str]) -> Output {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let environment: Vec<(OsString, OsString)> = vec![("PATH".into(), path), ("HOME".into(), dir.into())];
    process::output(program, arguments.iter().copied(), dir, &environment).unwrap()
}
