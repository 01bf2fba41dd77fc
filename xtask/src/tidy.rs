//! Compares the map with the land: ARCHITECTURE.md with the tree, and the walls with the code.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Most lines of the file that experiment agents edit.
const TRAIN_RS_LINES: usize = 500;

/// Crates and modules that may hold unsafe code, each with its reason in ARCHITECTURE.md.
const UNSAFE_ROOMS: &[&str] = &[
    "crates/sprag-measure/src/machine",
    "crates/sprag-measure/src/process",
    "crates/sprag-engine/src/sandbox",
    "crates/sprag-engine/examples/",
    "crates/sprag-train/src/data",
    "crates/sprag-train/src/kernels",
    "crates/sprag-train/examples/",
];

/// Runs every check; the error lists all findings.
pub fn run(root: &Path) -> Result<String> {
    let files = rust_files(root)?;
    let mut findings = Vec::new();
    let map = fs::read_to_string(root.join("ARCHITECTURE.md")).context("read ARCHITECTURE.md")?;
    check_map(root, &map, &files, &mut findings);
    for file in &files {
        let text = fs::read_to_string(root.join(file)).with_context(|| format!("read {}", file.display()))?;
        check_file(file, &text, &mut findings);
    }
    check_dependencies(root, &mut findings)?;
    if findings.is_empty() {
        return Ok(format!("{} files in order", files.len()));
    }
    bail!("{} findings\n  {}", findings.len(), findings.join("\n  "))
}

/// Every top-level module stands in the map, and everything the map names in backticks with a slash exists.
fn check_map(root: &Path, map: &str, files: &[PathBuf], findings: &mut Vec<String>) {
    let words: BTreeSet<&str> = map.split('`').skip(1).step_by(2).collect();
    for file in files {
        let parts: Vec<&str> = file.iter().filter_map(|part| part.to_str()).collect();
        if let ["crates", _, "src", module] = parts.as_slice() {
            let module = module.trim_end_matches(".rs");
            if !matches!(module, "lib" | "main") && !words.contains(module) {
                findings.push(format!("ARCHITECTURE.md does not mention `{module}` ({})", file.display()));
            }
        }
    }
    for word in words.iter().filter(|word| word.contains('/') && !word.contains(['<', ' ', '*', '{', '.'])) {
        if !root.join(word).exists() {
            findings.push(format!("ARCHITECTURE.md names `{word}`, which does not exist"));
        }
    }
}

fn check_file(file: &Path, text: &str, findings: &mut Vec<String>) {
    let name = file.display().to_string();
    let mut find = |what: &str| findings.push(format!("{name}: {what}"));
    if name.ends_with("/mod.rs") {
        find("use `foo.rs` beside `foo/`, not `mod.rs`");
    }
    if !name.ends_with("/tests.rs") && !text.trim_start().starts_with("//!") {
        find("open the file with `//!` lines: why it exists, what it leaves to others");
    }
    let this_file = name.ends_with("xtask/src/tidy.rs");
    if !this_file && text.contains("#[ignore") {
        find("a test is ignored");
    }
    if !this_file && (text.contains("#[allow(") || text.contains("#![allow(")) {
        find("use `#[expect(.., reason = \"..\")]`, not `allow`");
    }
    let library = name.starts_with("crates/") && name.contains("/src/") && !name.starts_with("crates/sprag/");
    let code = text.split("#[cfg(test)]").next().unwrap_or(text);
    let printing = ["println!(", "eprintln!(", "print!("];
    let may_speak = name.starts_with("crates/sprag-train/src/harness")
        || name.starts_with("crates/sprag-engine/src/sandbox");
    if library
        && !may_speak
        && code.lines().any(|line| printing.iter().any(|macro_name| is_code(line, macro_name)))
    {
        find("only the program prints");
    }
    let unsafe_room = UNSAFE_ROOMS.iter().any(|room| name.starts_with(room));
    if !this_file
        && !unsafe_room
        && code.lines().any(|line| is_code(line, "unsafe {") || is_code(line, "unsafe fn"))
    {
        find("unsafe code outside the rooms that ARCHITECTURE.md names");
    }
    if name == "templates/gpt/src/train.rs" && text.lines().count() > TRAIN_RS_LINES {
        find("the file that agents edit is over 500 lines");
    }
}

fn is_code(line: &str, needle: &str) -> bool {
    line.find(needle).is_some_and(|at| !line[..at].contains("//"))
}

/// The loop knows no machine learning, and the layers point downwards.
fn check_dependencies(root: &Path, findings: &mut Vec<String>) -> Result<()> {
    let forbidden = [
        ("sprag-measure", ["sprag-engine", "sprag-train", "sprag-ane"].as_slice()),
        ("sprag-engine", ["sprag-train", "sprag-ane", "burn"].as_slice()),
        ("sprag-train", ["sprag-engine"].as_slice()),
    ];
    for (name, others) in forbidden {
        let path = root.join("crates").join(name).join("Cargo.toml");
        let manifest = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        for other in others {
            if manifest.lines().any(|line| line.trim_start().starts_with(other)) {
                findings.push(format!("crates/{name} may not depend on {other}"));
            }
        }
    }
    Ok(())
}

fn rust_files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> =
        ["crates", "templates", "xtask", "examples"].iter().map(|dir| root.join(dir)).collect();
    while let Some(dir) = open.pop() {
        if !dir.exists() {
            continue;
        }
        for entry in fs::read_dir(&dir).with_context(|| format!("list {}", dir.display()))? {
            let path = entry?.path();
            if path.is_dir() && path.file_name().is_none_or(|name| name != "target") {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path.strip_prefix(root)?.to_owned());
            }
        }
    }
    found.sort();
    Ok(found)
}
