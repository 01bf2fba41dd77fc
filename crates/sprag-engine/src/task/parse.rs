//! From the text of `task.toml` to a valid task, one function a section.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use sha2::{Digest, Sha256};

use super::document::{self, Entry, Section, TaskError};
use super::fixed::hex;
use super::metric::{guards, metric, unwritable};
use super::paths::PathSet;
use super::placeholder;
use super::{Build, Devices, Evaluate, EvaluatorTree, FORMAT, Files, Run, RunTree, SandboxSpec, Task};
use crate::gate::audit;
use crate::record::{Budget, Policy, Preset, SecondBudget};
use crate::sandbox::OnViolation;

/// Placeholders that Sprag fills in for a build.
const BUILD: &[&str] = &["task", "worktree", "out", "cache", "sprag"];
/// Placeholders that Sprag fills in for a run and an evaluator.
pub(super) const RUN: &[&str] =
    &["task", "worktree", "tree", "out", "cache", "scratch", "seed", "budget", "phase", "sprag"];
/// The same for an evaluator.
const EVALUATE: &[&str] =
    &["task", "worktree", "tree", "pristine", "out", "cache", "scratch", "seed", "budget", "phase", "sprag"];

pub(super) fn parse(text: &str, dir: &Path) -> Result<Task, TaskError> {
    let tree = document::tree(text)?;
    let root = Section::root(text, &tree);
    // The version comes first: the keys of another format are not this program's to judge.
    format(&root.require("format")?)?;
    root.allow(&[
        "format", "name", "files", "vars", "build", "run", "evaluate", "metric", "guards", "budget",
        "sandbox", "gate", "lanes",
    ])?;
    let vars = vars(root.section("vars")?, dir)?;
    let evaluate = root.section("evaluate")?.map(|section| evaluate(&section, &vars)).transpose()?;
    let (guards, guard_rules) = guards(root.section("guards")?, &vars)?;
    let task = Task {
        dir: dir.to_owned(),
        name: name(&root.require("name")?)?,
        files: files(&root.require_section("files")?, dir, &vars)?,
        build: root.section("build")?.map(|section| build(&section, &vars)).transpose()?,
        run: run(&root.require_section("run")?, &vars)?,
        metric: metric(&root.require_section("metric")?, evaluate.is_some(), &vars)?,
        guards,
        guard_rules,
        evaluate,
        budget: budget(&root.require_section("budget")?)?,
        second: second_budget(&root.require_section("budget")?)?,
        sandbox: root.section("sandbox")?.map_or(Ok(SandboxSpec::default()), |s| sandbox(&s, dir, &vars))?,
        gate: root.section("gate")?.map_or(Ok(Policy::default()), |section| gate(&section))?,
        sha256: hex(&Sha256::digest(text.as_bytes())),
        vars,
    };
    if let Some(entry) = root.section("gate")?.and_then(|section| section.get("race")) {
        races(&task).map_err(|problem| entry.error(problem))?;
    }
    if task.run.tree == RunTree::ReadOnly
        && let Some(file) = unwritable(&task.metric, &task.guards)
    {
        return Err(root.require_section("run")?.error(format!(
            "cannot write {file} into its read-only checkout; add `tree = \"copy\"`, or write below {{scratch}}"
        )));
    }
    if let Some(section) = root.section("lanes")? {
        lanes(&section)?;
    }
    Ok(task)
}

fn format(entry: &Entry<'_>) -> Result<(), TaskError> {
    match entry.integer()? {
        FORMAT => Ok(()),
        version if version > FORMAT => Err(entry.error(format!(
            "format {version} is newer than this program, which reads format {FORMAT}; update Sprag"
        ))),
        version => Err(entry.error(format!("unknown format {version}; this program reads format {FORMAT}"))),
    }
}

fn name(entry: &Entry<'_>) -> Result<String, TaskError> {
    let text = entry.non_empty_text()?;
    let good = text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        && text.starts_with(|c: char| c.is_ascii_alphanumeric());
    if good {
        Ok(text.to_owned())
    } else {
        Err(entry.error("may hold letters, digits, `-`, `_` and `.` only"))
    }
}

fn files(section: &Section<'_>, dir: &Path, vars: &BTreeMap<String, String>) -> Result<Files, TaskError> {
    section.allow(&["mutable", "fixed", "external"])?;
    let mut files = Files { mutable: PathSet::default(), fixed: PathSet::default(), external: Vec::new() };
    let mutable = section.require("mutable")?;
    for entry in mutable.list()? {
        let pattern = entry.non_empty_text()?;
        files.mutable.add(pattern).map_err(|problem| entry.error(format!("`{pattern}` {problem}")))?;
        if let Some(reason) = crate::task::never_mutable(pattern.trim_end_matches('/')) {
            return Err(entry.error(format!("`{pattern}` can never be mutable: {reason}")));
        }
    }
    if files.mutable.patterns().next().is_none() {
        return Err(mutable.error("is empty; name at least one file that proposals may change"));
    }
    for entry in section.get("fixed").map_or(Ok(Vec::new()), |entry| entry.list())? {
        let pattern = entry.non_empty_text()?;
        files.fixed.add(pattern).map_err(|problem| entry.error(format!("`{pattern}` {problem}")))?;
        let own = PathSet::new([pattern]).map_err(|problem| entry.error(problem))?;
        let both = files.mutable.contains(pattern)
            || files.mutable.patterns().any(|mutable| mutable == pattern)
            || files.mutable.names().any(|mutable| own.contains(mutable));
        if both {
            return Err(
                entry.error(format!("`{pattern}` is also in `files.mutable`; a path is one or the other"))
            );
        }
    }
    for entry in section.get("external").map_or(Ok(Vec::new()), |entry| entry.list())? {
        files.external.push(path(&entry, dir, vars)?);
    }
    Ok(files)
}

/// A value that begins with `./` or `../`, or is `.` or `..`, is a path relative to the task folder and is
/// made absolute; any other value is taken as it is written.
fn vars(section: Option<Section<'_>>, dir: &Path) -> Result<BTreeMap<String, String>, TaskError> {
    let mut vars = BTreeMap::new();
    for (name, entry) in section.iter().flat_map(|section| section.entries()) {
        if !placeholder::is_name(name) {
            return Err(entry.error("a variable's name may hold letters, digits, `_` and `-` only"));
        }
        if EVALUATE.contains(&name) {
            return Err(entry.error(format!("Sprag fills in {{{name}}} itself; choose another name")));
        }
        let text = entry.text()?;
        let relative = matches!(text, "." | "..") || text.starts_with("./") || text.starts_with("../");
        let value = if relative {
            let path = absolute(dir, Path::new(text));
            path.to_str().ok_or_else(|| entry.error("leads to a path that is not UTF-8"))?.to_owned()
        } else {
            text.to_owned()
        };
        vars.insert(name.to_owned(), value);
    }
    Ok(vars)
}

fn build(section: &Section<'_>, vars: &BTreeMap<String, String>) -> Result<Build, TaskError> {
    section.allow(&["command", "keep", "timeout_seconds", "env"])?;
    let mut keep = Vec::new();
    for entry in section.get("keep").map_or(Ok(Vec::new()), |entry| entry.list())? {
        let path = entry.non_empty_text()?;
        // A plain name in a path set is exactly a relative path without `..`.
        let set = PathSet::new([path]).map_err(|problem| entry.error(format!("`{path}` {problem}")))?;
        if set.names().next().is_none() {
            return Err(entry.error(format!("`{path}` must be a plain path below {{cache}}, not a glob")));
        }
        keep.push(path.to_owned());
    }
    Ok(Build {
        command: command(&section.require("command")?, BUILD, vars)?,
        keep,
        timeout: section.get("timeout_seconds").map(|entry| entry.seconds()).transpose()?,
        env: env(section, BUILD, vars)?,
    })
}

fn run(section: &Section<'_>, vars: &BTreeMap<String, String>) -> Result<Run, TaskError> {
    section.allow(&["command", "tree", "timeout_seconds", "silence_seconds", "memory_mib", "env"])?;
    // The bound keeps the number of bytes within 64 bits.
    let memory_mib = section.get("memory_mib").map(|entry| entry.integer_within(1, 1 << 40)).transpose()?;
    let tree = section.get("tree").map(|entry| match entry.text()? {
        "read-only" => Ok(RunTree::ReadOnly),
        "copy" => Ok(RunTree::Copy),
        other => Err(entry.error(format!("is `{other}`; write \"read-only\" or \"copy\""))),
    });
    Ok(Run {
        command: command(&section.require("command")?, RUN, vars)?,
        tree: tree.transpose()?.unwrap_or_default(),
        timeout: section.get("timeout_seconds").map(|entry| entry.seconds()).transpose()?,
        silence: section.get("silence_seconds").map(|entry| entry.seconds()).transpose()?,
        memory_bytes: memory_mib.map(|mib| mib as u64 * 1024 * 1024),
        env: env(section, RUN, vars)?,
    })
}

fn evaluate(section: &Section<'_>, vars: &BTreeMap<String, String>) -> Result<Evaluate, TaskError> {
    section.allow(&["command", "channel", "holdout", "tree", "timeout_seconds", "env"])?;
    let command = command(&section.require("command")?, EVALUATE, vars)?;
    let channel = section.get("channel").map_or(Ok(false), |entry| entry.boolean())?;
    let holdout = section.get("holdout").map_or(Ok(false), |entry| entry.boolean())?;
    if let (true, Some(entry)) = (holdout, section.get("holdout"))
        && !command.iter().any(|argument| argument.contains("{phase}"))
    {
        return Err(entry.error(
            "is true, but the command does not ask for {phase}: it would score the usual text again; pass {phase} \
             to it, which is then \"holdout\"",
        ));
    }
    let tree = match section.get("tree") {
        None => EvaluatorTree::Candidate,
        Some(entry) if channel => {
            return Err(
                entry.error("an evaluator beside the candidate runs in the task's folder; leave `tree` out")
            );
        }
        Some(entry) => match entry.text()? {
            "candidate" => EvaluatorTree::Candidate,
            "pristine" => EvaluatorTree::Pristine,
            other => {
                return Err(entry.error(format!("is `{other}`; write \"candidate\" or \"pristine\"")));
            }
        },
    };
    Ok(Evaluate {
        command,
        holdout,
        channel,
        tree,
        timeout: section.get("timeout_seconds").map(|entry| entry.seconds()).transpose()?,
        env: env(section, EVALUATE, vars)?,
    })
}

fn budget(section: &Section<'_>) -> Result<Budget, TaskError> {
    const KINDS: [&str; 4] = ["seconds", "tokens", "steps", "evaluations"];
    section.allow(&[&KINDS[..], &["second"]].concat())?;
    let mut written = KINDS.into_iter().filter_map(|kind| Some((kind, section.get(kind)?)));
    let Some((kind, entry)) = written.next() else {
        return Err(section.error(
            "is empty; write `seconds = 20.0`, `tokens = 10_000_000`, `steps = 500` or `evaluations = 200`",
        ));
    };
    if let Some((_, other)) = written.next() {
        return Err(other.error(format!("there is `{kind}` too; a budget is one of them")));
    }
    let count = || Ok(entry.integer_within(1, i64::MAX)? as u64);
    match kind {
        "seconds" => Ok(Budget::Seconds(entry.seconds()?.as_secs_f64())),
        "tokens" => count().map(Budget::Tokens),
        "steps" => count().map(Budget::Steps),
        _ => count().map(Budget::Evaluations),
    }
}

/// `second = { tokens = 500_000 }`, of another kind than the first budget, or `second = "equal-tokens"`.
fn second_budget(section: &Section<'_>) -> Result<Option<SecondBudget>, TaskError> {
    let Some(entry) = section.get("second") else { return Ok(None) };
    let first = budget(section)?;
    if let Ok(word) = entry.text() {
        return match (word, first) {
            ("equal-tokens", Budget::Seconds(_)) => Ok(Some(SecondBudget::EqualTokens)),
            ("equal-tokens", _) => Err(entry.error(
                "is \"equal-tokens\": as many as the baseline is served within a budget in seconds; the first budget is \
                 not in seconds",
            )),
            _ => Err(entry.error(format!("is `{word}`; write `{{ tokens = 500_000 }}` or \"equal-tokens\""))),
        };
    }
    let own = entry.section()?;
    if let Some(third) = own.get("second") {
        return Err(third.error("a second budget has no second one"));
    }
    let second = budget(&own)?;
    if std::mem::discriminant(&second) == std::mem::discriminant(&first) {
        return Err(
            entry.error("is of the same kind as the first; only another kind tells speed from learning")
        );
    }
    Ok(Some(SecondBudget::Fixed(second)))
}

fn sandbox(
    section: &Section<'_>,
    dir: &Path,
    vars: &BTreeMap<String, String>,
) -> Result<SandboxSpec, TaskError> {
    section.allow(&["read", "run_read", "build_read", "devices", "on_network", "env"])?;
    let on_network = match section.get("on_network") {
        None => OnViolation::Kill,
        Some(entry) => match entry.text()? {
            "kill" => OnViolation::Kill,
            "refuse" => OnViolation::Refuse,
            other => return Err(entry.error(format!("is `{other}`; write \"kill\" or \"refuse\""))),
        },
    };
    let paths = |name: &str| -> Result<Vec<PathBuf>, TaskError> {
        let entries = section.get(name).map_or(Ok(Vec::new()), |entry| entry.list())?;
        entries.iter().map(|entry| path(entry, dir, vars)).collect()
    };
    let mut devices = Devices::default();
    for entry in section.get("devices").map_or(Ok(Vec::new()), |entry| entry.list())? {
        let pattern = entry.non_empty_text()?;
        devices.add(pattern).map_err(|problem| entry.error(format!("`{pattern}` {problem}")))?;
    }
    let mut env = Vec::new();
    for entry in section.get("env").map_or(Ok(Vec::new()), |entry| entry.list())? {
        let name = entry.non_empty_text()?;
        if name.contains('=') {
            return Err(entry
                .error(format!("`{name}` is not a variable's name; values belong to `env` of a command")));
        }
        env.push(name.to_owned());
    }
    Ok(SandboxSpec {
        read: paths("read")?,
        run_read: paths("run_read")?,
        build_read: paths("build_read")?,
        devices,
        on_network,
        env,
    })
}

/// A preset, and numbers that differ from it.
fn gate(section: &Section<'_>) -> Result<Policy, TaskError> {
    section.allow(&[
        "preset",
        "baseline_repeats",
        "screen_z",
        "alpha",
        "futility_z",
        "max_repeats",
        "anchor_every",
        "audit_every",
        "audit_alpha",
        "audit_pairs",
        "audit_fdr",
        "holdout_queries",
        "race",
        "early_stop",
    ])?;
    let mut policy = match section.get("preset") {
        None => Policy::default(),
        Some(entry) => {
            let word = entry.text()?;
            let known = Preset::ALL.into_iter().find(|preset| preset.word() == word);
            let words = Preset::ALL.map(Preset::word).join("\", \"");
            known.ok_or_else(|| entry.error(format!("is `{word}`; write one of \"{words}\"")))?.policy()
        }
    };
    let count = |name: &str, least: i64, value: &mut u32| -> Result<(), TaskError> {
        if let Some(entry) = section.get(name) {
            *value = entry.integer_within(least, 1000)? as u32;
        }
        Ok(())
    };
    count("baseline_repeats", 5, &mut policy.baseline_repeats)?;
    count("max_repeats", 1, &mut policy.max_repeats)?;
    count("anchor_every", 1, &mut policy.anchor_every)?;
    count("audit_every", 0, &mut policy.audit_every)?;
    count("audit_pairs", i64::from(audit::LEAST_PAIRS), &mut policy.audit_pairs)?;
    count("holdout_queries", 0, &mut policy.holdout_queries)?;
    if let Some(entry) = section.get("race") {
        policy.race = entry.integer_within(1, 16)? as u32;
        if !policy.race.is_power_of_two() {
            return Err(entry.error(format!("is {}; write 1, 2, 4, 8 or 16: a heat is halved", policy.race)));
        }
    }
    let level = |name: &str, value: &mut f64| -> Result<(), TaskError> {
        if let Some(entry) = section.get(name) {
            *value = entry.positive_number()?;
            if *value >= 0.5 {
                return Err(entry.error(format!("is {value}; an error level is less than 0.5")));
            }
        }
        Ok(())
    };
    level("alpha", &mut policy.alpha)?;
    level("audit_alpha", &mut policy.audit_alpha)?;
    level("audit_fdr", &mut policy.audit_fdr)?;
    let errors = |name: &str, value: &mut f64| -> Result<(), TaskError> {
        if let Some(entry) = section.get(name) {
            *value = entry.number()?;
            if *value < 0.0 {
                return Err(entry.error(format!("is {value}; it must not be negative")));
            }
        }
        Ok(())
    };
    errors("screen_z", &mut policy.screen_z)?;
    errors("futility_z", &mut policy.futility_z)?;
    if let Some(entry) = section.get("early_stop") {
        policy.early_stop = entry.boolean()?;
    }
    Ok(policy)
}

/// Whoever is not told the budget would spend all of it in every rung.
fn races(task: &Task) -> Result<(), &'static str> {
    let evaluator = task.evaluate.iter().flat_map(|evaluate| &evaluate.command);
    let told = task.run.command.iter().chain(evaluator).any(|part| part.contains("{budget}"));
    match told || task.gate.race == 1 {
        true => Ok(()),
        false => {
            Err("needs `{budget}` in `run.command` or `evaluate.command`: a heat runs on parts of the budget")
        }
    }
}

fn lanes(section: &Section<'_>) -> Result<(), TaskError> {
    section.allow(&["local"])?;
    match section.get("local") {
        Some(entry) if entry.integer()? != 1 => {
            Err(entry.error("only 1 trial at a time can run in this version"))
        }
        _ => Ok(()),
    }
}

pub(super) fn command(
    entry: &Entry<'_>,
    known: &[&str],
    vars: &BTreeMap<String, String>,
) -> Result<Vec<String>, TaskError> {
    let mut command = Vec::new();
    for argument in entry.list()? {
        let text = argument.text()?;
        check_placeholders(&argument, text, known, vars)?;
        command.push(text.to_owned());
    }
    match command.first() {
        Some(program) if !program.is_empty() => Ok(command),
        _ => Err(entry.error("is empty; write the program and its arguments as a list of strings")),
    }
}

fn env(
    section: &Section<'_>,
    known: &[&str],
    vars: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, TaskError> {
    let mut env = BTreeMap::new();
    for (name, entry) in section.section("env")?.iter().flat_map(|section| section.entries()) {
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(entry.error("is not a variable's name"));
        }
        let value = entry.text()?;
        check_placeholders(&entry, value, known, vars)?;
        env.insert(name.to_owned(), value.to_owned());
    }
    Ok(env)
}

pub(super) fn check_placeholders(
    entry: &Entry<'_>,
    template: &str,
    known: &[&str],
    vars: &BTreeMap<String, String>,
) -> Result<(), TaskError> {
    let known = known.iter().copied().chain(vars.keys().map(String::as_str));
    placeholder::check(template, known).map_err(|cause| entry.error(cause.to_string()))
}

/// A path that may use `{task}` and the task's variables, relative to the task folder, made absolute.
fn path(entry: &Entry<'_>, dir: &Path, vars: &BTreeMap<String, String>) -> Result<PathBuf, TaskError> {
    let text = entry.non_empty_text()?;
    if text.starts_with('~') {
        return Err(entry.error(format!("`{text}`: `~` is not expanded; write the whole path")));
    }
    let values = placeholder::Values::default().with("task", dir);
    let values = vars.iter().fold(values, |values, (name, value)| values.with(name, value));
    let expanded = placeholder::expand(text, &values).map_err(|cause| entry.error(cause.to_string()))?;
    Ok(absolute(dir, Path::new(&expanded)))
}

/// Joined to `dir`, with links resolved where the path exists, else with `.` and `..` taken out by name.
fn absolute(dir: &Path, path: &Path) -> PathBuf {
    let joined = dir.join(path);
    joined.canonicalize().unwrap_or_else(|_| {
        joined.components().fold(PathBuf::new(), |mut normal, component| {
            match component {
                Component::ParentDir => {
                    normal.pop();
                }
                Component::CurDir => {}
                other => normal.push(other),
            }
            normal
        })
    })
}
