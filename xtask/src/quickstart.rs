//! Runs the first command of README as a stranger would, with the shortest budget, and looks for its report.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::example::call;

/// Builds, prepares data, measures the baseline, tries one change.
pub fn run(root: &Path) -> Result<String> {
    let folder = std::env::temp_dir().join(format!("sprag-quickstart-{}", std::process::id()));
    let result = quickstart(root, &folder);
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("remove {}", folder.display()))?;
    }
    result
}

fn quickstart(root: &Path, folder: &Path) -> Result<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let dir = folder.to_str().context("the folder for temporary files has a name that is not UTF-8")?;
    let build = ["run", "--release", "--locked", "--quiet", "--"];
    let arguments = ["quickstart", "--dir", dir, "--budget", "2s", "--trials", "1"];
    // A baseline without a score has an exit status of its own, and `call` takes only success.
    call(root, &cargo, &[&build[..], &arguments[..]].concat())?;
    let report = folder.join("report.html");
    let text = fs::read_to_string(&report).with_context(|| format!("read {}", report.display()))?;
    ensure!(text.contains("val_bpb"), "{} shows no score", report.display());
    Ok(format!("a report of {} bytes", text.len()))
}
