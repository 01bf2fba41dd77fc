//! Runs the examples through the real loop, as their READMEs say, and checks the verdicts.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use sprag_measure::process::{self, End, Output};

/// A folder below `examples`, and how its campaign ends.
struct Example {
    name: &'static str,
    /// Verdicts of the baseline and the patches.
    verdicts: &'static [&'static str],
    /// A program that it needs, and what to do where there is none.
    needs: (&'static str, &'static str),
}

const EXAMPLES: &[Example] = &[
    Example {
        name: "sort",
        verdicts: &[
            "baseline",
            "win",
            "invalid duplicate",
            "invalid outside-mutable",
            "invalid build",
            "win",
        ],
        needs: ("cc", "install a C compiler"),
    },
    Example {
        name: "logistic",
        verdicts: &[
            "baseline",
            "win",
            "invalid duplicate",
            "invalid outside-mutable",
            "invalid crash",
            "loss",
        ],
        needs: ("/usr/bin/python3", "install Python 3.9 or newer of the system (package python3)"),
    },
];

/// Exit status of `sprag run` where the sandbox lacks a part.
const UNCONFINED: i32 = 5;

/// Copies each example, runs it with the program of this workspace, reads the result as JSON.
pub fn run(root: &Path) -> Result<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    // The whole workspace, as the tests build it: one package alone would be built with other features.
    call(root, &cargo, &["build", "-q", "--locked", "--workspace"])?;
    let sprag = crate::target(root).join("debug/sprag").into_os_string();
    let mut results =
        EXAMPLES.iter().map(|example| one(root, example, &sprag)).collect::<Result<Vec<_>>>()?;
    results.push(format!("graphs of the Neural Engine: {}", graphs(root, &sprag)?));
    Ok(results.join("; "))
}

/// The task of `sprag init ane` on a small model: the baseline and one knob, through build, sandbox and judge.
fn graphs(root: &Path, sprag: &OsString) -> Result<String> {
    let folder = std::env::temp_dir().join(format!("sprag-example-ane-{}", std::process::id()));
    let path = folder.to_str().context("the folder for temporary files has a name that is not UTF-8")?;
    let result = || -> Result<String> {
        call(root, sprag, &["init", "ane", path, "--config", "tiny"])?;
        let run = output(root, sprag, &["run", "--task", path, "--trials", "1", "--seed", "1"])?;
        if run.end == End::Exited(UNCONFINED) {
            return Ok(format!("NOT TESTED: {}", run.error_text()));
        }
        accept(run, sprag)?;
        let log = call(root, sprag, &["log", "--task", path, "--json"])?;
        let verdicts = String::from_utf8_lossy(&log).lines().map(verdict).collect::<Result<Vec<String>>>()?;
        let judged = |own: &String| matches!(own.as_str(), "win" | "loss" | "inconclusive");
        ensure!(
            verdicts.len() == 2 && verdicts[0] == "baseline" && judged(&verdicts[1]),
            "the task ended with {verdicts:?}"
        );
        Ok(format!("a trial ended as {}", verdicts[1]))
    }();
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("remove {}", folder.display()))?;
    }
    result.context("run the task of `sprag init ane`")
}

fn one(root: &Path, example: &Example, sprag: &OsString) -> Result<String> {
    let name = example.name;
    let (program, remedy) = example.needs;
    let asked = output(root, &OsString::from(program), &["--version"]);
    let there = asked.is_ok_and(|output| output.success());
    ensure!(there, "examples/{name} needs {program}, which does not run here; {remedy}");
    let folder = std::env::temp_dir().join(format!("sprag-example-{name}-{}", std::process::id()));
    copy(&root.join("examples").join(name), &folder)?;
    let result = campaign(&folder, sprag, example.verdicts);
    fs::remove_dir_all(&folder).with_context(|| format!("remove {}", folder.display()))?;
    Ok(format!("{name}: {}", result.with_context(|| format!("run examples/{name}"))?))
}

fn campaign(folder: &Path, sprag: &OsString, expected: &[&str]) -> Result<String> {
    let git = OsString::from("git");
    call(folder, &git, &["init", "-q"])?;
    call(folder, &git, &["add", "-A"])?;
    let author = ["-c", "user.name=Example", "-c", "user.email=example@example.org"];
    call(folder, &git, &[&author[..], &["commit", "-q", "-m", "Begin"]].concat())?;
    let run = output(folder, sprag, &["run", "--proposer", "patches:patches", "--seed", "1"])?;
    if run.end == End::Exited(UNCONFINED) {
        return Ok(format!("NOT TESTED: {}", run.error_text()));
    }
    accept(run, sprag)?;
    let output = call(folder, sprag, &["log", "--json"])?;
    let verdicts = String::from_utf8_lossy(&output).lines().map(verdict).collect::<Result<Vec<String>>>()?;
    if verdicts != expected {
        bail!("the example ended with {verdicts:?}, where {expected:?} is due");
    }
    Ok(format!("{} trials ended as they should", verdicts.len() - 1))
}

/// The verdict in one line of `sprag log --json`.
fn verdict(line: &str) -> Result<String> {
    let trial: Value = serde_json::from_str(line).context("read `sprag log --json`")?;
    let mark = trial["mark"].as_str().unwrap_or("open");
    Ok(trial["invalid"][0].as_str().map_or_else(|| mark.to_owned(), |reason| format!("{mark} {reason}")))
}

/// What a program prints, provided that it succeeds.
pub fn call(dir: &Path, program: &OsString, arguments: &[&str]) -> Result<Vec<u8>> {
    Ok(accept(output(dir, program, arguments)?, program)?.stdout)
}

/// How a program ended, and what it printed.
pub fn output(dir: &Path, program: &OsString, arguments: &[&str]) -> Result<Output> {
    let environment: Vec<_> = std::env::vars_os().collect();
    process::output(program, arguments.iter().copied(), dir, &environment)
        .with_context(|| format!("start {}", program.display()))
}

/// The output of a program that succeeded.
///
/// # Errors
/// What it printed, where it did not.
pub fn accept(output: Output, program: &OsString) -> Result<Output> {
    ensure!(output.success(), "{} {}\n{}", program.display(), output.end, output.error_text());
    Ok(output)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("create {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("list {}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target).with_context(|| format!("copy to {}", target.display()))?;
        }
    }
    Ok(())
}
