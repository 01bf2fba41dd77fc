//! Files that pi-autoresearch and codex-autoresearch keep: `.auto/`, or `autoresearch.*` beside the code.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

use super::contract::{Guard, Metric, Watched};
use super::draft::{Draft, settle};
use super::guess::{Evidence, Guess};
use super::metric::{self, regex};
use super::tree::Tree;
use crate::record::{Budget, Direction};

/// `- **Primary**: total_ms (ms, lower is better)`
static PRIMARY: LazyLock<Regex> =
    LazyLock::new(|| regex(r"(?i)^\s*[-*]\s*\**primary\**\s*:\s*\**\s*`?([\w.µ]+)`?\**\s*(\(.*)?$"));
static HEADING: LazyLock<Regex> = LazyLock::new(|| regex(r"^#+\s*(.*?)\s*$"));
/// The first thing of a bullet that is set as code, or its first word.
static BULLET: LazyLock<Regex> = LazyLock::new(|| regex(r"^\s*[-*]\s*\**(?:`([^`]+)`|([\w./*-]+))"));

/// Where the files of a session lie.
struct Session<'t> {
    tree: &'t Tree,
    measure: &'static str,
    prompt: &'static str,
    log: &'static str,
    checks: &'static str,
    config: &'static str,
}

impl<'t> Session<'t> {
    /// Where any file of the newer layout is, the older one counts for nothing; pi-autoresearch reads them so.
    fn of(tree: &'t Tree) -> Option<Session<'t>> {
        let newer = Session {
            tree,
            measure: ".auto/measure.sh",
            prompt: ".auto/prompt.md",
            log: ".auto/log.jsonl",
            checks: ".auto/checks.sh",
            config: ".auto/config.json",
        };
        let older = Session {
            tree,
            measure: "autoresearch.sh",
            prompt: "autoresearch.md",
            log: "autoresearch.jsonl",
            checks: "autoresearch.checks.sh",
            config: "autoresearch.config.json",
        };
        [newer, older].into_iter().find(|session| session.files().any(|path| tree.has(path)))
    }

    fn files(&self) -> impl Iterator<Item = &'static str> + use<> {
        [self.measure, self.prompt, self.log, self.checks, self.config].into_iter()
    }

    /// What the first line of the log states.
    fn stated(&self) -> Option<(Evidence, Value)> {
        let configs = self.tree.lines(self.log).filter_map(|(at, line)| {
            let value: Value = serde_json::from_str(line).ok()?;
            (value["type"] == "config").then_some((at, value))
        });
        configs.last()
    }

    /// Paths in the bullets below a heading that one of these names.
    fn bullets(&self, headings: &[&str]) -> Option<Guess<Vec<String>>> {
        let mut inside = None;
        let mut found: Option<Guess<Vec<String>>> = None;
        for (at, line) in self.tree.lines(self.prompt) {
            if let Some(heading) = HEADING.captures(line) {
                let name = heading[1].to_lowercase();
                inside = headings.iter().find(|known| name == **known);
                continue;
            }
            let Some(heading) = inside else { continue };
            let Some(captures) = BULLET.captures(line) else { continue };
            let path = captures.get(1).or_else(|| captures.get(2)).map_or("", |group| group.as_str());
            let path = path.trim_start_matches("./").trim_end_matches('/');
            let exists = self.tree.tracks(path) || self.tree.has_folder(path) || path.contains('*');
            if !exists || path.is_empty() {
                continue;
            }
            match &mut found {
                Some(guess) => guess.value.push(path.to_owned()),
                None => {
                    let why = format!("its section `{heading}` lists them");
                    found = Some(Guess::stated(vec![path.to_owned()], at, why));
                }
            }
        }
        found
    }

    fn config(&self) -> Option<Value> {
        serde_json::from_str(self.tree.text(self.config)?).ok()
    }
}

/// Takes over what the session's files state.
pub(super) fn fill(draft: &mut Draft, tree: &Tree) {
    let Some(session) = Session::of(tree) else { return };
    command(draft, &session);
    let stated = session.stated();
    let logged = stated.as_ref().and_then(|(at, value)| Some((at, value["metricName"].as_str()?)));
    let primary = primary(&session);
    let name = logged
        .map(|(at, name)| Guess::stated(name.to_owned(), at.clone(), "the session's log names it"))
        .or_else(|| {
            primary.as_ref().map(|(at, name, _)| {
                Guess::stated(name.clone(), at.clone(), "the session's prompt calls it primary")
            })
        });
    metric(draft, &session, name);
    let way = stated.as_ref().and_then(|(at, value)| {
        let way = match value["bestDirection"].as_str()? {
            "lower" => Direction::Lower,
            "higher" => Direction::Higher,
            _ => return None,
        };
        Some(Guess::stated(way, at.clone(), "the session's log says so"))
    });
    settle(&mut draft.direction, way);
    let way = primary
        .and_then(|(at, _, words)| Some(Guess::stated(metric::said(&words)?, at, "the prompt says so")));
    settle(&mut draft.direction, way);
    settle(&mut draft.mutable, session.bullets(&["files in scope", "scope", "in scope"]));
    settle(&mut draft.mutable, commit_paths(&session));
    settle(&mut draft.fixed, session.bullets(&["off limits", "out of scope"]));
    checks(draft, &session);
    let directory = session.config().and_then(|config| config["workingDir"].as_str().map(str::to_owned));
    if let Some(directory) = directory {
        draft.warnings.push(format!(
            "{} moves the session to `{directory}`; adopt that folder's repository if it is another one",
            session.config
        ));
    }
}

fn command(draft: &mut Draft, session: &Session<'_>) {
    let tree = session.tree;
    if tree.has(session.measure) {
        let why = "the session's measuring script";
        let guess =
            Guess::stated(format!("bash {}", session.measure), Evidence::new(session.measure, 1), why);
        settle(&mut draft.command, Some(guess));
        let why = "the script decides how much it does; one execution is one evaluation";
        let whole = Guess::stated(Budget::Evaluations(1), Evidence::new(session.measure, 1), why);
        settle(&mut draft.budget, Some(whole));
    } else if tree.has("autoresearch.ps1") {
        draft
            .warnings
            .push("autoresearch.ps1 needs PowerShell; name a command that runs here with --run".into());
    }
}

/// Name, and what stands in brackets behind it.
fn primary(session: &Session<'_>) -> Option<(Evidence, String, String)> {
    let (at, captures) = session.tree.find(session.prompt, &PRIMARY)?;
    Some((at, captures[1].to_owned(), captures.get(2).map_or("", |words| words.as_str()).to_owned()))
}

/// The metric that is named, as a `METRIC` line; without a name the only one that the script prints.
fn metric(draft: &mut Draft, session: &Session<'_>, name: Option<Guess<String>>) {
    if draft.metric.is_some() {
        return;
    }
    let printed = metric::printed(session.tree, |path| path == session.measure);
    match name {
        Some(name) => {
            let mut guess = name.with(Metric::line(&name.value));
            let shown = printed.into_iter().find(|found| found.value.name == name.value);
            guess.evidence.extend(shown.into_iter().flat_map(|found| found.evidence));
            draft.metric = Some(guess);
        }
        None => draft.metrics.extend(printed),
    }
}

fn commit_paths(session: &Session<'_>) -> Option<Guess<Vec<String>>> {
    let config = session.config()?;
    let paths: Vec<String> =
        config["commitPaths"].as_array()?.iter().filter_map(|path| Some(path.as_str()?.to_owned())).collect();
    let at = session.tree.find(session.config, &regex("commitPaths")).map(|(at, _)| at)?;
    (!paths.is_empty()).then(|| Guess::stated(paths, at, "its `commitPaths`"))
}

fn checks(draft: &mut Draft, session: &Session<'_>) {
    if session.tree.tracks(session.checks) {
        let command = vec!["bash".to_owned(), session.checks.to_owned()];
        let guard = Guard { name: "checks".into(), watched: Watched::Command(command), limit: None };
        let why = "the session's checks; a change that fails them is no win";
        draft.guards.push(Guess::stated(guard, Evidence::new(session.checks, 1), why));
    }
}
