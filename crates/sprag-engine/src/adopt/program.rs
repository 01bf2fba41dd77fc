//! `program.md` in the manner of karpathy/autoresearch: one file to modify, one command, one metric in a block.
//!
//! It is prose, so what is looked for is how such prose is usually worded; each find has its line.

use std::sync::LazyLock;

use regex::Regex;

use super::contract::{Guard, Metric, MetricSource, Watched};
use super::draft::{Draft, settle};
use super::guess::{Evidence, Guess};
use super::metric::{self, regex};
use super::tree::Tree;
use super::words;
use crate::record::{Budget, Direction, Limit, Side};

const FILE: &str = "program.md";

static CODE: LazyLock<Regex> = LazyLock::new(|| regex(r"`([^`]+)`"));
static EDITABLE: LazyLock<Regex> = LazyLock::new(|| {
    regex(
        r"(?i)\byou (may |can |should )?(modify|edit|change)\b|\bonly file you\b|\bagents? (modif|edit)|\bfile to (modify|edit)\b",
    )
});
static READ_ONLY: LazyLock<Regex> = LazyLock::new(|| {
    regex(
        r"(?i)\b(do not|don't|never|must not|may not|cannot) (be )?(modif|edit|chang|touch)\w*|\bread-?only\b|\bnot modified\b|\boff limits\b",
    )
});
static COMMAND: LazyLock<Regex> =
    LazyLock::new(|| regex(r"^(\$ )?(uv run|python3?|bash|sh|make|just|cargo|npm|node|\./)[ \w./-]"));
static GREPPED: LazyLock<Regex> = LazyLock::new(|| regex(r#"grep\s[^"'`]*["']([^"']+)["']"#));
static MARKED: LazyLock<Regex> = LazyLock::new(|| regex(r"\^([\w.-]+):"));
static MINUTES: LazyLock<Regex> = LazyLock::new(|| {
    regex(
        r"(?i)\bbudget\b[^.\n]{0,60}?\b(\d+)[- ](minute|second)|\b(\d+)[- ](minute|second)s?\b[^.\n]{0,40}\bbudget\b",
    )
});
/// "If a run exceeds 10 minutes, kill it", else "Timeout: 10 minutes".
static KILLED: LazyLock<[Regex; 2]> = LazyLock::new(|| {
    [
        regex(r"(?i)\bexceeds? ~?(\d+) (minute|second)"),
        regex(r"(?i)\b(?:kill|timeout|time out)\b[^.\n]{0,40}?\b(\d+) (minute|second)"),
    ]
});
static BUDGET_CONSTANT: LazyLock<Regex> = LazyLock::new(|| {
    regex(
        r"^(?:const |let )?(?:TIME_BUDGET|TIME_LIMIT|TRAIN_SECONDS|BUDGET_SECONDS)\w*\s*(?::\s*\w+\s*)?=\s*(\d[\d_]*)",
    )
});
static SOFT_MEMORY: LazyLock<Regex> =
    LazyLock::new(|| regex(r"(?i)\b(vram|memory)\b.{0,30}\bsoft constraint"));
static PEAK_MEMORY: LazyLock<Regex> = LazyLock::new(|| regex(r"\b(peak_(?:vram|memory|mem)_[mg]i?b)\b"));

/// What one increase of memory may cost where the prose calls memory a soft constraint: some, not much.
const SOFT: f64 = 1.25;

/// Takes over what the prose says.
pub(super) fn fill(draft: &mut Draft, tree: &Tree) {
    if !tree.has(FILE) {
        return;
    }
    settle(
        &mut draft.mutable,
        files(tree, |line| EDITABLE.is_match(line) && !READ_ONLY.is_match(line), "called the file to modify"),
    );
    settle(&mut draft.fixed, files(tree, |line| READ_ONLY.is_match(line), "said to stay as they are"));
    let run = command(tree, draft.mutable.as_ref().map_or(&[], |guess| &guess.value));
    settle(&mut draft.command, run);
    settle(&mut draft.metric, grepped(tree));
    if let Some(metric) = &draft.metric {
        let stated = aim(tree, &metric.value.name);
        settle(&mut draft.direction, stated);
    }
    settle(&mut draft.budget, budget(tree));
    let killed = KILLED.iter().find_map(|kind| seconds(tree, kind));
    settle(
        &mut draft.timeout,
        killed.map(|(at, value)| Guess::stated(value, at, "the prose ends an experiment after that time")),
    );
    draft.guards.extend(memory(tree));
}

/// Files of the commit that are named in lines of that kind, in `program.md`, else in the README.
fn files(tree: &Tree, kind: impl Fn(&str) -> bool, how: &str) -> Option<Guess<Vec<String>>> {
    [FILE, "README.md"].into_iter().find_map(|document| {
        let mut found: Option<Guess<Vec<String>>> = None;
        for (at, line) in tree.lines(document).filter(|(_, line)| kind(line)) {
            // The first name is what the line is about; later ones explain it.
            let named =
                CODE.captures_iter(line).map(|captures| captures[1].trim_start_matches("./").to_owned());
            let Some(path) = named.into_iter().find(|path| tree.tracks(path) || tree.has_folder(path)) else {
                continue;
            };
            let path = path.trim_end_matches('/').to_owned();
            match &mut found {
                Some(guess) if !guess.value.contains(&path) => guess.value.push(path),
                Some(guess) if guess.evidence.len() < 3 => *guess = guess.clone().seen(at),
                Some(_) => {}
                None => found = Some(Guess::stated(vec![path], at, how)),
            }
        }
        found
    })
}

/// The command that names a mutable file; without one the first that the prose calls the run.
fn command(tree: &Tree, mutable: &[String]) -> Option<Guess<String>> {
    let commands: Vec<(Evidence, String, &str)> = tree
        .lines(FILE)
        .flat_map(|(at, line)| {
            let codes =
                CODE.captures_iter(line).map(move |captures| (at.clone(), captures[1].to_owned(), line));
            codes.collect::<Vec<_>>()
        })
        .filter(|(_, code, _)| COMMAND.is_match(code))
        .map(|(at, code, line)| (at, words::cleaned(&code), line))
        .collect();
    let names = |command: &str| words::split(command).iter().any(|word| mutable.contains(word));
    let launched = |line: &str| {
        ["launch", "run the experiment", "run it", "simply as"]
            .iter()
            .any(|word| line.to_lowercase().contains(word))
    };
    let found = commands.iter().find(|(_, command, _)| names(command));
    let (at, command, _) = found.or_else(|| commands.iter().find(|(.., line)| launched(line)))?;
    let mut guess = Guess::stated(command.clone(), at.clone(), "the prose runs an experiment by it");
    let again = commands.iter().filter(|(place, other, _)| other == command && place != at).take(1);
    again.for_each(|(place, ..)| guess = guess.clone().seen(place.clone()));
    Some(guess)
}

/// The first name that the prose greps for in the log, as `grep "^val_bpb:" run.log`.
fn grepped(tree: &Tree) -> Option<Guess<Metric>> {
    let found = tree.lines(FILE).find_map(|(at, line)| {
        let grep = GREPPED.captures(line)?;
        let name = MARKED.captures(&grep[1])?[1].to_owned();
        Some((at, name))
    });
    let (at, name) = found?;
    let source = MetricSource::Pattern(metric::block_pattern(&name));
    let mut guess =
        Guess::stated(Metric { name: name.clone(), source }, at, "the prose reads it from the log");
    for known in metric::printed(tree, |_| true).into_iter().filter(|known| known.value.name == name) {
        guess = known.evidence.into_iter().take(1).fold(guess, Guess::seen);
    }
    Some(guess)
}

/// "get the lowest val_bpb", "improved (lower)".
fn aim(tree: &Tree, name: &str) -> Option<Guess<Direction>> {
    let lower = regex(&format!(
        r"(?i)\b(lowest|minimi[sz]e|lower) `?{0}\b|\b{0}`? improved \(lower\)",
        regex::escape(name)
    ));
    let higher = regex(&format!(
        r"(?i)\b(highest|maximi[sz]e|higher) `?{0}\b|\b{0}`? improved \(higher\)",
        regex::escape(name)
    ));
    let of = |regex: &Regex, way: Direction| {
        let (at, _) = tree.find(FILE, regex)?;
        Some(Guess::stated(way, at, "the prose says what it wants"))
    };
    of(&lower, Direction::Lower).or_else(|| of(&higher, Direction::Higher))
}

/// A constant of a Python file, else a number in the prose.
fn budget(tree: &Tree) -> Option<Guess<Budget>> {
    let prose = seconds(tree, &MINUTES);
    let constant = tree.tracked().filter(|source| source.path.ends_with(".py")).find_map(|source| {
        let (at, captures) = tree.find(&source.path, &BUDGET_CONSTANT)?;
        Some((at, captures[1].replace('_', "").parse::<f64>().ok().filter(|seconds| *seconds > 0.0)?))
    });
    let why = "the program keeps its time itself; Sprag cannot change it, and has no parts of it to race on";
    match (constant, prose) {
        (Some((at, value)), prose) => {
            let guess = Guess::stated(Budget::Seconds(value), at, why);
            Some(
                prose
                    .filter(|(_, said)| *said == value)
                    .into_iter()
                    .fold(guess, |guess, (at, _)| guess.seen(at)),
            )
        }
        (None, Some((at, value))) => Some(Guess::stated(Budget::Seconds(value), at, why)),
        (None, None) => None,
    }
}

/// The time that the first line of that kind names, in seconds.
fn seconds(tree: &Tree, kind: &Regex) -> Option<(Evidence, f64)> {
    tree.lines(FILE).find_map(|(at, line)| {
        let captures = kind.captures(line)?;
        let number = captures.get(1).or_else(|| captures.get(3))?.as_str().parse::<f64>().ok()?;
        let unit = captures.get(2).or_else(|| captures.get(4))?.as_str();
        let factor = if unit.eq_ignore_ascii_case("minute") { 60.0 } else { 1.0 };
        Some((at, number * factor))
    })
}

/// Peak memory is a guard where the prose calls memory a soft constraint and the program prints it.
fn memory(tree: &Tree) -> Option<Guess<Guard>> {
    let (at, _) = tree.find(FILE, &SOFT_MEMORY)?;
    let (shown, captures) = tree.find(FILE, &PEAK_MEMORY)?;
    let name = captures[1].to_owned();
    let watched = Watched::Pattern(metric::block_pattern(&name));
    let guard = Guard { name, watched, limit: Some(Limit::times_incumbent(Side::AtMost, SOFT)) };
    let why = "the prose calls memory a soft constraint; how much more is too much is for you to say";
    Some(Guess::likely(guard, at, why).seen(shown))
}
