//! Reads a repository and this machine for guesses; changes nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sprag_engine::adopt::{Machine, Python, Rust, Source, Tree, Venv};
use sprag_engine::proposer::find_program;
use sprag_engine::repo::Repo;
use sprag_engine::sandbox;
use sprag_measure::process;

use crate::context::Context;
use crate::error::Failure;
use crate::template;

/// Largest file whose text is looked at: sources and documents are smaller, data are not.
const TEXT_BYTES: u64 = 256 << 10;
/// Most files whose text is looked at.
const TEXTS: usize = 5000;
/// Files of other loops that matter although they are not committed.
const UNTRACKED: &[&str] = &[
    ".auto/measure.sh",
    ".auto/prompt.md",
    ".auto/log.jsonl",
    ".auto/checks.sh",
    ".auto/config.json",
    "autoresearch.sh",
    "autoresearch.md",
    "autoresearch.jsonl",
    "autoresearch.checks.sh",
    "autoresearch.config.json",
    "autoresearch.ps1",
    "results.tsv",
];
/// Programs that commands of repositories start with.
const PROGRAMS: &[&str] = &["node", "npm", "make", "just", "bash", "uv"];

/// The files of the commit that trials start from, with their text as it lies in the folder.
pub fn tree(repo: &Repo) -> anyhow::Result<Tree> {
    let files = repo.files(&repo.head()?)?;
    let mut sources: Vec<Source> = files
        .into_iter()
        .enumerate()
        .map(|(index, path)| {
            let text = (index < TEXTS).then(|| text(&repo.dir().join(&path))).flatten();
            Source { path, text, tracked: true }
        })
        .collect();
    for path in UNTRACKED {
        let known = sources.iter().any(|source| source.path == *path);
        if !known && repo.dir().join(path).is_file() {
            let text = text(&repo.dir().join(path));
            sources.push(Source { path: (*path).to_owned(), text, tracked: false });
        }
    }
    Ok(Tree::new(sources))
}

fn text(path: &Path) -> Option<String> {
    let size = path.symlink_metadata().ok().filter(std::fs::Metadata::is_file)?.len();
    let bytes = (size <= TEXT_BYTES).then(|| std::fs::read(path).ok()).flatten()?;
    (!bytes.contains(&0)).then(|| String::from_utf8_lossy(&bytes).into_owned())
}

/// What contracts need of this machine.
pub fn machine(dir: &Path, venv: Option<&Path>, context: &Context) -> anyhow::Result<Machine> {
    let home = context.environment.home().and_then(|home| home.canonicalize().ok());
    let caches = home.as_ref().map(|home| folders(&home.join(".cache"))).unwrap_or_default();
    Ok(Machine {
        caches,
        home,
        readable: sandbox::always_readable(),
        venv: find_venv(dir, venv)?,
        python: python(context),
        rust: dir.join("Cargo.toml").is_file().then(|| rust(context)).flatten(),
        programs: PROGRAMS
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), on_path(name, context)?)))
            .collect::<BTreeMap<_, _>>(),
        nvidia: Path::new("/dev/nvidia0").exists(),
        node_modules: dir.join("node_modules").is_dir(),
    })
}

fn folders(dir: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let folders = entries.flatten().filter(|entry| entry.path().is_dir());
    folders.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

fn on_path(name: &str, context: &Context) -> Option<PathBuf> {
    find_program(name, &context.environment.variables)?.canonicalize().ok()
}

/// The environment that is named, else the one in the repository's folder.
fn find_venv(dir: &Path, named: Option<&Path>) -> anyhow::Result<Option<Venv>> {
    if let Some(named) = named {
        let path = dir.join(named);
        if !path.join("bin/python").exists() {
            let failure =
                Failure::new(format!("{} is no Python environment: it has no bin/python", path.display()));
            return Err(failure.hint("name the folder that `uv sync` or `python3 -m venv` made").into());
        }
        return Ok(Some(Venv { base: base(&path), path: path.display().to_string() }));
    }
    let found = [".venv", "venv"].into_iter().find(|name| dir.join(name).join("bin/python").exists());
    Ok(found.map(|name| Venv { path: format!("./{name}"), base: base(&dir.join(name)) }))
}

/// Where the interpreter of an environment comes from; itself where it says nothing.
fn base(venv: &Path) -> PathBuf {
    let config = std::fs::read_to_string(venv.join("pyvenv.cfg")).unwrap_or_default();
    let home = config.lines().find_map(|line| line.strip_prefix("home")?.trim_start().strip_prefix('='));
    let base = home.map(|home| PathBuf::from(home.trim())).and_then(|home| home.parent().map(Path::to_owned));
    let base = base.unwrap_or_else(|| venv.to_owned());
    base.canonicalize().unwrap_or(base)
}

/// Python itself is asked: what the search path has may be a script that starts another one.
fn python(context: &Context) -> Option<Python> {
    let ask = "import sys; print(sys.executable); print(sys.base_prefix)";
    let output =
        process::output("python3", ["-c", ask], Path::new("/"), &context.environment.variables).ok()?;
    let text = output.text();
    let (program, base) = text.split_once('\n').filter(|_| output.success())?;
    let real = |path: &str| Path::new(path.trim()).canonicalize().ok();
    Some(Python { program: real(program)?, base: real(base)? })
}

fn rust(context: &Context) -> Option<Rust> {
    let rustc = template::rustc(&context.environment.cargo());
    let arguments = ["--print", "sysroot"];
    let output = process::output(&rustc, arguments, Path::new("/"), &context.environment.variables).ok()?;
    let cargo_home = context.environment.cargo_home()?.canonicalize().ok()?;
    output.success().then(|| Rust { sysroot: PathBuf::from(output.text().trim()), cargo_home })
}
