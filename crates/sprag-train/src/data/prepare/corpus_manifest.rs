//! A manifest of exactly what cargo has fetched when this program was built.
//!
//! Which packages lie on a machine depends on what was built there. Only those that the program and its candidate
//! template need are sure to be there, and cargo, asked about the workspace, would want the development
//! dependencies too. So cargo is asked about a copy of the workspace that has these two packages alone, without
//! code and without development dependencies. Running cargo is left to the caller.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use crate::data::DataError;

/// A package of the workspace whose dependencies are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CorpusRoot {
    /// The program.
    Program,
    /// The template that candidates begin as.
    Candidate,
}

impl CorpusRoot {
    /// Its name, and its folder in the workspace.
    fn place(self) -> (&'static str, &'static str) {
        match self {
            CorpusRoot::Program => ("sprag", "crates/sprag"),
            CorpusRoot::Candidate => ("gpt", "templates/gpt"),
        }
    }
}

/// Parts of a package's manifest that name files, or packages that need not be here.
const LEFT_OUT: [&str; 8] =
    ["bench", "bin", "dev-dependencies", "example", "lib", "lints", "profile", "test"];

/// Writes into `dir` a small workspace with the dependencies of `roots`, with the
/// `Cargo.lock` of `workspace` beside it, and returns the path of its manifest. What cargo prints when it is run with
/// `cargo_metadata_arguments` on it is `Source::Cargo`.
pub fn cargo_corpus_manifest(
    workspace: &Path,
    roots: &[CorpusRoot],
    dir: &Path,
) -> Result<PathBuf, DataError> {
    let roots: Vec<_> = roots.iter().map(|root| root.place()).collect();
    let mut root = read(&workspace.join("Cargo.toml"))?;
    LEFT_OUT.iter().for_each(|key| drop(root.remove(*key)));
    if let Some(Value::Table(table)) = root.get_mut("workspace") {
        table.remove("default-members");
        let members = roots.iter().map(|(name, _)| Value::from(*name)).collect();
        table.insert("members".to_owned(), Value::Array(members));
        make_absolute(table, workspace);
    }
    for (name, folder) in roots {
        let folder = workspace.join(folder);
        let mut package = read(&folder.join("Cargo.toml"))?;
        LEFT_OUT.iter().for_each(|key| drop(package.remove(*key)));
        if let Some(Value::Table(table)) = package.get_mut("package") {
            // Names of programs and files that the copy does not have.
            ["build", "default-run", "readme", "license-file"]
                .iter()
                .for_each(|key| drop(table.remove(*key)));
        }
        make_absolute(&mut package, &folder);
        let targets = package.get_mut("target").and_then(Value::as_table_mut).into_iter().flatten();
        for table in targets.filter_map(|(_, target)| target.as_table_mut()) {
            table.remove("dev-dependencies");
            make_absolute(table, &folder);
        }
        write(&dir.join(name).join("Cargo.toml"), &package.to_string())?;
        write(&dir.join(name).join("src/main.rs"), "fn main() {}\n")?;
    }
    let lock = workspace.join("Cargo.lock");
    let text = fs::read_to_string(&lock).map_err(DataError::io("read", &lock))?;
    write(&dir.join("Cargo.lock"), &text)?;
    let path = dir.join("Cargo.toml");
    write(&path, &root.to_string())?;
    Ok(path)
}

/// Arguments with which cargo describes the packages of a manifest, for one platform and without a network.
pub fn cargo_metadata_arguments(manifest: &Path, platform: Option<&str>) -> Vec<OsString> {
    let mut arguments: Vec<OsString> =
        ["metadata", "--offline", "--format-version", "1", "--manifest-path"].map(OsString::from).into();
    arguments.push(manifest.into());
    if let Some(platform) = platform {
        arguments.extend(["--filter-platform", platform].map(OsString::from));
    }
    arguments
}

/// Arguments with which cargo lists what is really built of a manifest, for one platform and without a network.
///
/// `cargo metadata` lists more: also what stands in the lock for features that are off.
pub fn cargo_tree_arguments(manifest: &Path, platform: Option<&str>) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = [
        "tree",
        "--offline",
        "--edges",
        "normal,build",
        "--prefix",
        "none",
        "--format",
        "{p}",
        "--manifest-path",
    ]
    .map(OsString::from)
    .into();
    arguments.push(manifest.into());
    if let Some(platform) = platform {
        arguments.extend(["--target", platform].map(OsString::from));
    }
    arguments
}

/// Names and versions in what cargo prints for `cargo_tree_arguments`: `NAME vVERSION`, perhaps with a remark.
pub fn cargo_tree_packages(printed: &str) -> BTreeSet<(String, String)> {
    let package = |line: &str| {
        let mut words = line.split(' ');
        Some((words.next()?.to_owned(), words.next()?.strip_prefix('v')?.to_owned()))
    };
    printed.lines().filter_map(package).collect()
}

/// Dependencies by path are found from the copy, too.
fn make_absolute(table: &mut Table, base: &Path) {
    for key in ["dependencies", "build-dependencies"] {
        let dependencies = table.get_mut(key).and_then(Value::as_table_mut).into_iter().flatten();
        for dependency in dependencies.filter_map(|(_, dependency)| dependency.as_table_mut()) {
            if let Some(Value::String(path)) = dependency.get_mut("path") {
                *path = base.join(&*path).to_string_lossy().into_owned();
            }
        }
    }
}

fn read(path: &Path) -> Result<Table, DataError> {
    let text = fs::read_to_string(path).map_err(DataError::io("read", path))?;
    text.parse().map_err(|error: toml::de::Error| DataError::format(path, error.to_string()))
}

fn write(path: &Path, text: &str) -> Result<(), DataError> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(DataError::io("create", folder))?;
    }
    fs::write(path, text).map_err(DataError::io("write", path))
}
