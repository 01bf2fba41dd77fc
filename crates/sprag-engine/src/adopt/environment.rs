//! From a command as people type it to one that runs in the sandbox: interpreters, environments, caches, devices.
//!
//! Environments lie outside the worktrees, are shared by all trials and read-only. What the machine has is told
//! by the caller.

mod caches;
mod python;
mod rust;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::contract::Build;
use super::guess::{Confidence, Guess, Reason};
use super::tree::Tree;
use super::words;
use super::{Question, Wishes};

/// Facts about this machine that a contract needs.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    /// The home folder.
    pub home: Option<PathBuf>,
    /// What the sandbox lets everyone read.
    pub readable: Vec<PathBuf>,
    /// A Python environment of the repository, or the one that was named.
    pub venv: Option<Venv>,
    /// The machine's own Python.
    pub python: Option<Python>,
    /// The machine's own Rust.
    pub rust: Option<Rust>,
    /// Where programs are that the search path has, links followed.
    pub programs: BTreeMap<String, PathBuf>,
    /// Folders of `~/.cache` that exist.
    pub caches: Vec<String>,
    /// There is a device file of NVIDIA's driver.
    pub nvidia: bool,
    /// A folder `node_modules` is in the repository's folder.
    pub node_modules: bool,
}

/// A Python environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Venv {
    /// As the contract names it: `./.venv`, or an absolute path.
    pub path: String,
    /// Where the interpreter's own library lies, which it was made from.
    pub base: PathBuf,
}

/// An interpreter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Python {
    /// Its program, links followed.
    pub program: PathBuf,
    /// Where its library lies.
    pub base: PathBuf,
}

/// A toolchain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rust {
    /// Where rustc says that it lives.
    pub sysroot: PathBuf,
    /// Cargo's folder, with the packages that were fetched.
    pub cargo_home: PathBuf,
}

impl Machine {
    /// True for what candidates may read anyway.
    fn reads(&self, path: &Path) -> bool {
        self.readable.iter().any(|folder| path.starts_with(folder))
    }
}

/// How the command runs, and what it needs for that.
#[derive(Debug, Default)]
pub(super) struct Environment {
    pub command: Vec<String>,
    pub build: Option<Build>,
    pub vars: Vec<(String, String)>,
    pub env: Vec<(String, String)>,
    pub run_read: Vec<String>,
    pub build_read: Vec<String>,
    pub devices: Vec<String>,
    pub reasons: Vec<Reason>,
    pub questions: Vec<Question>,
    pub warnings: Vec<String>,
    pub first: Vec<String>,
}

/// What the repository's command needs.
pub(super) fn of(command: &Guess<String>, tree: &Tree, wishes: &Wishes, machine: &Machine) -> Environment {
    let mut environment = Environment::default();
    let typed = words::cleaned(&command.value);
    let script = npm_script(tree, &typed);
    let started = script.as_deref().unwrap_or(&typed);
    let all = if words::needs_shell(started) {
        vec!["/bin/sh".to_owned(), "-c".to_owned(), started.to_owned()]
    } else {
        words::split(started)
    };
    let (variables, rest) = words::assignments(&all);
    environment.env.extend(variables);
    environment.command = rest.to_vec();
    let text = reach(tree, &typed);
    let before = words::split(&typed);
    python::settle(&mut environment, &text, tree, wishes, machine);
    rust::settle(&mut environment, tree, machine);
    node(&mut environment, script.is_some(), tree, machine);
    caches::settle(&mut environment, tree, machine);
    let mut why = command.why.clone();
    if environment.command != before {
        why = format!("{why}, where it is written `{typed}`");
    }
    let shown = environment.command.join(" ");
    environment.reasons.push(Guess { why, ..command.clone() }.reason("run.command", shown));
    environment
}

/// The command with the scripts and recipes that it starts: where `uv run` or `python` may stand.
fn reach(tree: &Tree, command: &str) -> String {
    let mut text = command.to_owned();
    for path in super::plain::files_of(tree, command).iter().filter(|path| path.ends_with(".sh")) {
        text.push('\n');
        text.push_str(tree.text(path).unwrap_or_default());
    }
    let runner = ["Makefile", "makefile", "justfile", "package.json"];
    if ["make ", "just ", "npm "].iter().any(|program| command.starts_with(program)) {
        runner.iter().for_each(|path| text.push_str(tree.text(path).unwrap_or_default()));
    }
    text
}

/// What package.json says that a script is: npm itself opens sockets, which a run may not.
fn npm_script(tree: &Tree, command: &str) -> Option<String> {
    let words = words::split(command);
    let [npm, run, .., name] = &words[..] else { return None };
    if npm != "npm" || run != "run" {
        return None;
    }
    let package: serde_json::Value = serde_json::from_str(tree.text("package.json")?).ok()?;
    Some(package["scripts"][name.as_str()].as_str()?.to_owned())
}

/// Packages of npm lie in the task's folder; each execution has a link to them in its copy.
fn node(environment: &mut Environment, script: bool, tree: &Tree, machine: &Machine) {
    let node = environment.command.first().is_some_and(|word| word == "node");
    if !script && !node {
        return;
    }
    // Node reads the one before anything else, and ends when it may not; the other asks for forbidden system calls.
    for (name, value) in [("OPENSSL_CONF", "/dev/null"), ("UV_USE_IO_URING", "0")] {
        environment.env.push((name.into(), value.into()));
    }
    match machine.programs.get("node") {
        None => environment.warnings.push("`node` is not on the search path of this machine".into()),
        Some(path) if !machine.reads(path) => {
            let base = path.parent().and_then(Path::parent).unwrap_or(path);
            environment.run_read.push(base.display().to_string());
        }
        Some(_) => {}
    }
    if machine.node_modules {
        link_packages(environment);
    } else if tree.tracks("package-lock.json") {
        environment.warnings.push("package-lock.json lists packages and there is no node_modules".into());
        environment.first.push("npm ci".into());
    }
}

fn link_packages(environment: &mut Environment) {
    environment.vars.push(("modules".into(), "./node_modules".into()));
    environment.run_read.push("{modules}".into());
    environment.env.push(("PATH".into(), "{modules}/.bin:/usr/local/bin:/usr/bin:/bin".into()));
    let own = std::mem::take(&mut environment.command);
    let link = "ln -s \"$0\" node_modules && exec \"$@\"";
    let before = ["/bin/sh", "-c", link, "{modules}"].into_iter().map(str::to_owned);
    environment.command = before.chain(own).collect();
    let why = "packages stay in this folder, are shared by all trials and read-only; a copy of the checkout \
        links to them";
    let guess = Guess::new((), Confidence::Likely, why);
    environment.reasons.push(guess.reason("vars.modules", "./node_modules"));
}
