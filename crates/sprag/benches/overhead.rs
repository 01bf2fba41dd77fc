//! What the loop costs besides training: wall time of trials whose build and run do nothing.
//!
//! `cargo bench -p sprag --bench overhead [-- TRIALS]` prints seconds a trial and seconds a measurement,
//! git, ledger with its syncs, sandbox and process start included.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::time::Instant;

use sprag_measure::{process, stats};

const TASK: &str = r#"
format = 1
name = "nothing"
[files]
mutable = ["number.txt"]
[build]
command = ["/bin/sh", "-c", "cp number.txt {out}/number.txt"]
[run]
command = ["/bin/sh", "-c", "echo loss $(cat {out}/number.txt)"]
[metric]
name = "loss"
direction = "lower"
pattern = "^loss (.*)"
[budget]
seconds = 1.0
"#;

fn main() {
    let trials: u32 = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(30);
    let folder = tempfile::tempdir().expect("a temporary folder");
    prepare(folder.path(), trials);
    let mut seconds = Vec::new();
    for round in 1..=5 {
        let began = Instant::now();
        let run = format!("round-{round}");
        sprag(folder.path(), &["run", "--new", "--run", &run, "--proposer", "patches:patches"]);
        seconds.push(began.elapsed().as_secs_f64());
    }
    // A trial whose screening run is worse costs one build and one execution; the baseline costs one build
    // and five executions.
    let executions = f64::from(trials) + 5.0;
    let median = stats::median(&seconds).unwrap_or(f64::NAN);
    let (low, high) =
        (seconds.iter().copied().fold(f64::MAX, f64::min), seconds.iter().copied().fold(0.0, f64::max));
    println!("{trials} trials, 5 baseline repeats, {} rounds", seconds.len());
    println!("a round      {median:.2} s (least {low:.2}, most {high:.2})");
    println!("a trial      {:.3} s", median / f64::from(trials + 1));
    println!("an execution {:.3} s", median / executions);
}

fn prepare(folder: &Path, trials: u32) {
    let write = |name: String, text: String| fs::write(folder.join(name), text).expect("a written file");
    fs::create_dir(folder.join("patches")).expect("a folder");
    write("task.toml".into(), TASK.into());
    write("number.txt".into(), "1\n".into());
    for trial in 1..=trials {
        let patch = format!("--- a/number.txt\n+++ b/number.txt\n@@ -1 +1 @@\n-1\n+{}\n", trial + 1);
        write(format!("patches/{trial:04}.patch"), patch);
    }
    for arguments in [
        &["init", "-q"][..],
        &["add", "-A"],
        &["-c", "user.name=Bench", "-c", "user.email=bench@example.org", "commit", "-q", "-m", "Begin"],
    ] {
        call(folder, "git".as_ref(), arguments);
    }
}

fn sprag(folder: &Path, arguments: &[&str]) {
    call(folder, env!("CARGO_BIN_EXE_sprag").as_ref(), arguments);
}

fn call(folder: &Path, program: &std::ffi::OsStr, arguments: &[&str]) {
    let environment: Vec<(OsString, OsString)> = std::env::vars_os().collect();
    let output =
        process::output(program, arguments.iter().copied(), folder, &environment).expect("a started program");
    assert!(output.success(), "{}: {}", program.display(), String::from_utf8_lossy(&output.stderr));
}
