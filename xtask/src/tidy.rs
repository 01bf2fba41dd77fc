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
    "crates/sprag-measure/src/probe",
    "crates/sprag-measure/src/process",
    "crates/sprag-engine/src/sandbox",
    "crates/sprag-engine/examples/",
    "crates/sprag-ane/src/c.rs",
    "crates/sprag-ane/src/runtime/apple",
    "crates/sprag-train/src/data",
    "crates/sprag-train/src/kernels",
    "crates/sprag-train/examples/",
];

/// Runs every check; the error lists all findings.
pub fn run(root: &Path) -> Result<String> {
    let files = rust_files(root)?;
    let mut findings = Vec::new();
    let map = fs::read_to_string(root.join("ARCHITECTURE.md")).context("read ARCHITECTURE.md")?;
    check_map(&map, &files, |path| root.join(path).exists(), &mut findings);
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

/// Every top-level module stands in the map, and every module and path that the map names exists.
fn check_map(map: &str, files: &[PathBuf], exists: impl Fn(&str) -> bool, findings: &mut Vec<String>) {
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
    // A slash makes a path; blanks and signs make it a command or a pattern.
    for word in words.iter().filter(|word| word.contains('/') && !word.contains(['<', ' ', '*', '{'])) {
        if !exists(word) {
            findings.push(format!("ARCHITECTURE.md names `{word}`, which does not exist"));
        }
    }
    for path in listed_modules(map) {
        if !files.contains(&path) {
            findings.push(format!("ARCHITECTURE.md lists a module that is gone: {}", path.display()));
        }
    }
}

/// The files of the modules in the map's tables: rows that begin with a word in backticks, below the heading of a
/// crate.
fn listed_modules(map: &str) -> Vec<PathBuf> {
    let mut folder = None;
    let mut modules = Vec::new();
    for line in map.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            folder = heading.split('`').nth(1).filter(|word| word.starts_with("crates/"));
        }
        let module = line.strip_prefix("| `").and_then(|row| row.split('`').next());
        if let (Some(folder), Some(module)) = (folder, module) {
            modules.push(Path::new(folder).join("src").join(module).with_extension("rs"));
        }
    }
    modules
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
        || name.starts_with("crates/sprag-engine/src/sandbox")
        || name.starts_with("crates/sprag-ane/src/bin/")
        // Tests say when they are skipped.
        || name.ends_with("/tests.rs");
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

#[cfg(test)]
mod tests {
    use super::*;

    const MAP: &str = "`docs/format.md` and `sprag/<run>`, `tests/*.rs`\n\n## `crates/one`: the first\n\n\
        | module | purpose |\n|---|---|\n| `kept` | stays |\n| `gone` | went |\n\n## Around\n\n| `word` | no module |\n";

    fn check(files: &[&str], there: &[&str]) -> Vec<String> {
        let files: Vec<PathBuf> = files.iter().map(PathBuf::from).collect();
        let mut findings = Vec::new();
        check_map(MAP, &files, |path| there.contains(&path), &mut findings);
        findings
    }

    #[test]
    fn a_file_that_the_map_names_must_exist() {
        let files = ["crates/one/src/kept.rs", "crates/one/src/gone.rs"];
        assert!(check(&files, &["docs/format.md", "crates/one"]).is_empty());
        let found = check(&files, &["crates/one"]);
        assert!(found.len() == 1 && found[0].contains("docs/format.md"), "{found:?}");
    }

    #[test]
    fn map_and_tree_have_the_same_modules() {
        let there = ["docs/format.md", "crates/one"];
        let found = check(&["crates/one/src/kept.rs"], &there);
        assert!(found.len() == 1 && found[0].contains("crates/one/src/gone.rs"), "{found:?}");
        let files = ["crates/one/src/kept.rs", "crates/one/src/gone.rs", "crates/one/src/new.rs"];
        let found = check(&files, &there);
        assert!(found.len() == 1 && found[0].contains("`new`"), "{found:?}");
    }
}
