//! Runs the first command of README as a stranger would, with the shortest budget, and looks for its report.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use sprag_measure::process::{End, Output};

use crate::example::{accept, output};

/// How often a machine that is disturbed is asked again.
const TRIES: u32 = 3;
/// Exit status of a baseline without a score.
const INVALID: i32 = 4;

/// Builds, prepares data, measures the baseline, tries one change.
pub fn run(root: &Path) -> Result<String> {
    let folder = std::env::temp_dir().join(format!("sprag-quickstart-{}", std::process::id()));
    let result = quickstart(root, &folder);
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("remove {}", folder.display()))?;
    }
    result
}

fn was_disturbed(output: &Output) -> bool {
    output.end == End::Exited(INVALID) && output.error_text().contains("in a row were disturbed")
}

fn quickstart(root: &Path, folder: &Path) -> Result<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let dir = folder.to_str().context("the folder for temporary files has a name that is not UTF-8")?;
    let build = ["run", "--release", "--locked", "--quiet", "--"];
    let arguments = ["quickstart", "--dir", dir, "--budget", "2s", "--trials", "1"];
    // A baseline without a score has an exit status of its own. Where the machine was disturbed Sprag rightly refuses one, and a
    // person does what its message says: the same command again, which begins a new run on the same data and builds.
    let command = [&build[..], &arguments[..]].concat();
    let mut last = output(root, &cargo, &command)?;
    for _ in 1..TRIES {
        if !was_disturbed(&last) {
            break;
        }
        eprintln!(
            "the machine was disturbed, once more: {}",
            last.error_text().lines().last().unwrap_or_default()
        );
        last = output(root, &cargo, &command)?;
    }
    accept(last, &cargo)?;
    let report = folder.join("report.html");
    let text = fs::read_to_string(&report).with_context(|| format!("read {}", report.display()))?;
    ensure!(text.contains("val_bpb"), "{} shows no score", report.display());
    Ok(format!("a report of {} bytes", text.len()))
}
