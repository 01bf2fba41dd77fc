//! What a project of some language usually has, for repositories that say nothing themselves.

use std::sync::LazyLock;

use regex::Regex;

use super::Wishes;
use super::contract::Metric;
use super::draft::{Draft, settle};
use super::guess::{Confidence, Evidence, Guess};
use super::metric::{self, regex};
use super::tree::{Source, Tree};
use super::words;
use crate::record::Budget;

/// What targets, recipes and scripts that measure are called.
const MEASURING: &str = "bench|benchmark|benchmarks|eval|evaluate|score|measure|perf|experiment|train";

static TARGET: LazyLock<Regex> = LazyLock::new(|| regex(&format!(r"^({MEASURING})[ \t]*:([^=].*)?$")));
static RECIPE: LazyLock<Regex> =
    LazyLock::new(|| regex(&format!(r"^@?({MEASURING})([ \t][^:=]*)?:([^=].*)?$")));
static SCRIPT: LazyLock<Regex> = LazyLock::new(|| {
    regex(&format!(
        r"^(?:(?:scripts|bench|benchmark|benchmarks|eval|tools)/)?(?:run[_-])?({MEASURING})(?:[_-]\w+)?\.(py|sh|js|mjs)$"
    ))
});
static IMPORT: LazyLock<Regex> = LazyLock::new(|| regex(r"^\s*(?:from|import)\s+\.?([A-Za-z_][\w.]*)"));
/// Modules that hold data and scoring rather than what is tried.
static SCORING: LazyLock<Regex> = LazyLock::new(|| {
    regex(
        r"(?i)(^|[/_-])(prepare|eval|evaluate|evaluation|bench|benchmark|score|scoring|data|dataset|test|tests|conftest|utils?)([/_.-]|$)",
    )
});

/// Fills what is still empty.
pub(super) fn fill(draft: &mut Draft, tree: &Tree, wishes: &Wishes) {
    if draft.command.is_none() {
        let candidates = commands(tree);
        draft.command = the_one(tree, &candidates);
        if draft.command.is_none() {
            draft.commands = candidates;
        }
    }
    let files = draft.command.as_ref().map_or_else(Vec::new, |command| files_of(tree, &command.value));
    if draft.metric.is_none() {
        let own = |path: &str| files.iter().any(|file| file == path);
        if draft.metrics.is_empty() {
            draft.metrics = metrics(tree, own);
        }
        draft.metric = the_metric(tree, &draft.metrics);
    }
    // What other programs print may be this command's or not: the person decides.
    if draft.metric.is_none() && draft.metrics.is_empty() && draft.command.is_some() {
        draft.metrics = metrics(tree, |path| !is_test(path));
    }
    if let Some(metric) = &draft.metric {
        settle(&mut draft.direction, metric::direction(tree, &metric.value.name));
    }
    if draft.mutable.is_none() {
        let scoring = scoring_files(draft, &files);
        let candidates = mutable(tree, draft, &files, &scoring, wishes);
        match &candidates[..] {
            [only] => draft.mutable = Some(only.clone()),
            _ => draft.mutables = candidates,
        }
    }
    let why =
        "nothing names a budget: the command decides how much it does, and one execution is one evaluation";
    settle(&mut draft.budget, Some(Guess::new(Budget::Evaluations(1), Confidence::Assumed, why)));
}

/// Commands by the names of targets, recipes and scripts.
fn commands(tree: &Tree) -> Vec<Guess<String>> {
    let mut found = Vec::new();
    for (file, program, kind) in
        [("Makefile", "make", &*TARGET), ("makefile", "make", &*TARGET), ("justfile", "just", &*RECIPE)]
    {
        for (at, line) in tree.lines(file) {
            if let Some(captures) = kind.captures(line) {
                let target = &captures[1];
                let (command, why) = if only_builds(tree, file, target) {
                    (
                        format!("{program} {target} && ./{target}"),
                        format!("a target in {file} builds a program of that name"),
                    )
                } else {
                    (format!("{program} {target}"), format!("a target of that name is in {file}"))
                };
                if !found.iter().any(|known: &Guess<String>| known.value == command) {
                    found.push(Guess::likely(command, at, why));
                }
            }
        }
    }
    found.extend(npm_scripts(tree));
    if tree.tracks("Cargo.toml") {
        let benches =
            tree.tracked().filter_map(|source| source.path.strip_prefix("benches/")?.strip_suffix(".rs"));
        for name in benches.filter(|name| !name.contains('/')) {
            let at = Evidence::new(&format!("benches/{name}.rs"), 1);
            found.push(Guess::likely(
                format!("cargo bench --bench {name}"),
                at,
                "cargo runs it as a benchmark",
            ));
        }
    }
    let mut known: Vec<String> = found.iter().flat_map(|guess| files_of(tree, &guess.value)).collect();
    let scripts: Vec<&Source> = tree.tracked().filter(|source| SCRIPT.is_match(&source.path)).collect();
    // What another script starts is not what a person starts.
    for script in scripts.iter().filter(|script| script.path.ends_with(".sh")) {
        let started = named_in(tree, script.text.as_deref().unwrap_or_default());
        known.extend(started.into_iter().filter(|path| *path != script.path));
    }
    for source in scripts.into_iter().filter(|source| !known.contains(&source.path)) {
        let program = match source.path.rsplit_once('.').map_or("", |(_, ending)| ending) {
            "py" => "python3",
            "sh" => "bash",
            _ => "node",
        };
        let at = Evidence::new(&source.path, 1);
        found.push(Guess::likely(format!("{program} {}", source.path), at, "its name says that it measures"));
    }
    found
}

/// True for a target that compiles a program of its own name and does not start it.
fn only_builds(tree: &Tree, file: &str, target: &str) -> bool {
    let lines = recipe(tree, file, target);
    let compiles = |line: &String| line.contains("-o $@") || line.contains(&format!("-o {target}"));
    lines.iter().any(compiles) && !lines.iter().any(|line| line.contains("./"))
}

fn npm_scripts(tree: &Tree) -> Vec<Guess<String>> {
    let package =
        tree.text("package.json").and_then(|text| serde_json::from_str::<serde_json::Value>(text).ok());
    let Some(scripts) = package.as_ref().and_then(|package| package["scripts"].as_object()) else {
        return Vec::new();
    };
    let names = scripts.keys().filter(|name| MEASURING.split('|').any(|known| known == *name));
    let guess = |name: &String| {
        let (at, _) = tree.find("package.json", &regex(&format!("\"{}\"\\s*:", regex::escape(name))))?;
        Some(Guess::likely(
            format!("npm run --silent {name}"),
            at,
            "a script of that name is in package.json",
        ))
    };
    names.filter_map(guess).collect()
}

/// The only candidate, or the only one whose files print a metric.
fn the_one(tree: &Tree, candidates: &[Guess<String>]) -> Option<Guess<String>> {
    if let [only] = candidates {
        return Some(only.clone());
    }
    let prints = |guess: &&Guess<String>| {
        let files = files_of(tree, &guess.value);
        !metric::printed(tree, |path| files.iter().any(|file| file == path)).is_empty()
    };
    let mut printing = candidates.iter().filter(prints);
    let first = printing.next()?;
    printing.next().is_none().then(|| Guess {
        why: format!("{}; of {} candidates only this one prints a metric", first.why, candidates.len()),
        ..first.clone()
    })
}

/// Programs of the commit that a command names: itself, in its recipe, or by the name of what is built from them.
pub(super) fn files_of(tree: &Tree, command: &str) -> Vec<String> {
    let mut texts = vec![command.to_owned()];
    let words = words::split(command);
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["make", target, ..] => {
            ["Makefile", "makefile"].iter().for_each(|file| texts.extend(recipe(tree, file, target)))
        }
        ["just", target, ..] => texts.extend(recipe(tree, "justfile", target)),
        ["npm", "run", .., script] => {
            let package = tree
                .text("package.json")
                .and_then(|text| serde_json::from_str::<serde_json::Value>(text).ok());
            texts.extend(package.and_then(|package| package["scripts"][script].as_str().map(str::to_owned)));
        }
        ["cargo", "bench", "--bench", name, ..] => texts.push(format!("benches/{name}.rs")),
        ["cargo", "run", ..] => texts.push("src/main.rs".to_owned()),
        _ => {}
    }
    let mut found = named_in(tree, &texts.join("\n"));
    // What a script starts is part of what the command runs.
    let scripts: Vec<&str> =
        found.iter().filter(|path| path.ends_with(".sh")).filter_map(|path| tree.text(path)).collect();
    for path in named_in(tree, &scripts.join("\n")) {
        if !found.contains(&path) {
            found.push(path);
        }
    }
    found
}

/// Programs of the commit whose path stands in a text, or what is built from them.
fn named_in(tree: &Tree, text: &str) -> Vec<String> {
    let words: Vec<&str> = text.split([' ', '\t', '\n', '"', '\'', '(', ')', ';', ',']).collect();
    let named = |path: &str| words.iter().any(|word| word.trim_start_matches("./") == path);
    // `./bench` is built from `bench.c`; a bare word is more often a subcommand.
    let built =
        |path: &str| path.rsplit_once('.').is_some_and(|(stem, _)| words.contains(&&*format!("./{stem}")));
    let sources = tree.tracked().map(|source| &source.path).filter(|path| metric::is_program(path));
    sources.filter(|path| named(path) || built(path)).cloned().collect()
}

/// What stands behind and below a target.
fn recipe(tree: &Tree, file: &str, target: &str) -> Vec<String> {
    let head = regex(&format!(r"^@?{}([ \t][^:=]*)?:(.*)$", regex::escape(target)));
    let mut lines = tree.lines(file).map(|(_, line)| line).skip_while(|line| !head.is_match(line));
    let first = lines.next().map(str::to_owned);
    let below = lines.take_while(|line| line.starts_with(['\t', ' '])).map(str::to_owned);
    first.into_iter().chain(below).collect()
}

/// Numbers that programs print, or else write to JSON files.
fn metrics(tree: &Tree, among: impl Fn(&str) -> bool) -> Vec<Guess<Metric>> {
    let printed = metric::printed(tree, &among);
    if printed.is_empty() { metric::written(tree, among) } else { printed }
}

/// The only one, or the one that a document calls the aim.
fn the_metric(tree: &Tree, metrics: &[Guess<Metric>]) -> Option<Guess<Metric>> {
    if let [only] = metrics {
        return Some(only.clone());
    }
    let aim = metric::aim(tree, metrics)?;
    let why = format!("{}; of {} such numbers a document calls this one the aim", aim.why, metrics.len());
    Some(Guess { why, ..aim.clone() })
}

fn is_test(path: &str) -> bool {
    path.split('/').any(|part| part.starts_with("test") || part.ends_with("_test.go"))
}

/// The files that print the metric, else those of the command that are called like it, or its only one.
fn scoring_files(draft: &Draft, files: &[String]) -> Vec<String> {
    let metric = draft.metric.iter().flat_map(|guess| &guess.evidence).map(|at| at.path.clone());
    let printing: Vec<String> = metric.filter(|path| metric::is_program(path)).collect();
    match files {
        _ if !printing.is_empty() => printing,
        [only] => vec![only.clone()],
        several => several.iter().filter(|path| SCORING.is_match(path)).cloned().collect(),
    }
}

/// What may change: one guess where there is one answer, several for a question.
fn mutable(
    tree: &Tree,
    draft: &Draft,
    files: &[String],
    scoring: &[String],
    wishes: &Wishes,
) -> Vec<Guess<Vec<String>>> {
    let free =
        |path: &str| !scoring.iter().any(|file| file == path) && !is_test(path) && !SCORING.is_match(path);
    let imported: Vec<(Evidence, String)> = scoring
        .iter()
        .filter(|file| file.ends_with(".py"))
        .flat_map(|file| imports(tree, file))
        .filter(|(_, path)| free(path))
        .collect();
    if let Some((at, _)) = imported.first() {
        let paths = imported.iter().map(|(_, path)| path.clone()).collect();
        return vec![Guess::likely(paths, at.clone(), "the program that measures imports it")];
    }
    let named: Vec<String> =
        files.iter().filter(|path| free(path) && !path.ends_with("Makefile")).cloned().collect();
    if let (Some(first), Some(command)) = (named.first(), &draft.command) {
        let at = command.evidence.first().cloned().unwrap_or_else(|| Evidence::new(first, 1));
        return vec![Guess::likely(named, at, "the command is made from it")];
    }
    let programs: Vec<&str> = tree
        .tracked()
        .map(|source| source.path.as_str())
        .filter(|path| {
            metric::is_program(path) && !path.ends_with("Makefile") && !path.ends_with(".sh") && free(path)
        })
        .filter(|path| {
            !draft.fixed.as_ref().is_some_and(|fixed| fixed.value.iter().any(|fixed| fixed == path))
        })
        .collect();
    if !programs.is_empty() && programs.iter().all(|path| path.starts_with("src/")) {
        let at = Evidence::new(programs[0], 1);
        return vec![Guess::likely(
            vec!["src".into()],
            at,
            "all programs but the one that measures lie there",
        )];
    }
    match (&programs[..], scoring) {
        ([only], _) => {
            let why = "it is the only program beside the one that measures";
            vec![Guess::likely(vec![(*only).to_owned()], Evidence::new(only, 1), why)]
        }
        // Nothing else could change.
        ([], [only]) if wishes.fixed.is_empty() && !only.ends_with(".sh") => {
            let why = "it is the only program here, and it measures itself";
            vec![Guess::likely(vec![only.clone()], Evidence::new(only, 1), why)]
        }
        _ => programs
            .iter()
            .take(9)
            .map(|path| {
                Guess::likely(vec![(*path).to_owned()], Evidence::new(path, 1), "a program of the repository")
            })
            .collect(),
    }
}

/// Modules of the repository that a Python file imports, with the line.
fn imports(tree: &Tree, file: &str) -> Vec<(Evidence, String)> {
    let folder = file.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
    let mut found: Vec<(Evidence, String)> = Vec::new();
    for (at, line) in tree.lines(file) {
        let Some(captures) = IMPORT.captures(line) else { continue };
        let module = captures[1].replace('.', "/");
        let first = module.split('/').next().unwrap_or_default().to_owned();
        let places = [format!("{folder}{module}.py"), format!("{module}.py"), format!("src/{module}.py")];
        let file = places.into_iter().find(|path| tree.tracks(path));
        let package =
            || [first.clone(), format!("src/{first}")].into_iter().find(|path| tree.has_folder(path));
        let Some(path) = file.or_else(package) else { continue };
        if !found.iter().any(|(_, known)| *known == path) {
            found.push((at, path));
        }
    }
    found
}
