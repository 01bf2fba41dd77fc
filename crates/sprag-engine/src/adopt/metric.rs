//! Metrics by the form in which they are printed or written, and which way of them is better.

use std::sync::LazyLock;

use regex::Regex;

use super::contract::{Metric, MetricSource};
use super::guess::{Confidence, Guess};
use super::tree::{Source, Tree};
use crate::record::Direction;

/// A regular expression of this module and its neighbours: written here, so it is valid.
pub(super) fn regex(text: &str) -> Regex {
    Regex::new(text).unwrap_or_else(|cause| unreachable!("`{text}` is a regular expression: {cause}"))
}

/// `METRIC name=value`, as pi-autoresearch and codex-autoresearch read it.
static METRIC_LINE: LazyLock<Regex> = LazyLock::new(|| regex(r"\bMETRIC\s+([\w.µ]+)="));

/// A name and a number in the words by which languages print: Python, C and Go, Rust, JavaScript, shells.
static PRINTED: LazyLock<[Regex; 6]> = LazyLock::new(|| {
    [
        regex(r#"\bprint\(\s*f["']([A-Za-z_]\w*)\s*[:=]\s*\{[^}]*\}([A-Za-z%]?)"#),
        regex(r#"\bprint\(\s*["']([A-Za-z_]\w*)\s*[:=]?\s*["']\s*,()"#),
        regex(r#"\b(?:printf|Printf|print)\(?\s*["']([A-Za-z_]\w*)\s*[:=]\s*%[-+.\d]*l*[a-z]([A-Za-z%]?)"#),
        regex(r#"\bprintln!\(\s*"([A-Za-z_]\w*)\s*[:=]\s*\{[^}]*\}([A-Za-z%]?)"#),
        regex(r#"\bconsole\.log\(\s*[`"']([A-Za-z_]\w*)\s*[:=]\s*(?:\$\{[^}]*\}|["']\s*,)([A-Za-z%]?)"#),
        regex(r#"\becho\s+["']?([A-Za-z_]\w*)\s*[:=]\s*\$(?:\w+|\{[^}]*\}|\([^)]*\))([A-Za-z%]?)"#),
    ]
});

/// A JSON file that a Python or JavaScript program writes.
static JSON_FILE: LazyLock<Regex> = LazyLock::new(|| {
    regex(r#"(?:open\(|Path\(|write_text\(|writeFileSync\(|writeFile\()\s*["'`]([\w./-]+\.json)["'`]"#)
});

/// Words that say which way is better.
static LOWER: LazyLock<Regex> = LazyLock::new(|| {
    regex(r"(?i)\b(lowest|minimi[sz](e|ing)|lower is better|as low as|smaller is better|fastest)\b")
});
static HIGHER: LazyLock<Regex> = LazyLock::new(|| {
    regex(r"(?i)\b(highest|maximi[sz](e|ing)|higher is better|as high as|larger is better|more is better)\b")
});

/// Parts of names that are better when lower, or when higher; looked for in this order.
const HIGHER_NAMES: &[&str] = &[
    "accuracy",
    "acc",
    "f1",
    "auc",
    "auroc",
    "bleu",
    "rouge",
    "throughput",
    "per_second",
    "per_sec",
    "tps",
    "qps",
    "ops",
    "reward",
    "return",
    "r2",
    "recall",
    "precision",
    "speedup",
    "iou",
    "ratio",
    "win_rate",
    "pass_rate",
];
const LOWER_NAMES: &[&str] = &[
    "loss",
    "bpb",
    "bpc",
    "ppl",
    "perplexity",
    "error",
    "err",
    "rmse",
    "mse",
    "mae",
    "wer",
    "cer",
    "nll",
    "latency",
    "time",
    "seconds",
    "secs",
    "sec",
    "ms",
    "us",
    "µs",
    "ns",
    "bytes",
    "kb",
    "mb",
    "size",
    "memory",
    "cycles",
    "cost",
    "regret",
    "steps",
    "work",
];

impl Metric {
    /// The metric of a line `METRIC name=value`.
    pub(super) fn line(name: &str) -> Metric {
        let pattern = format!(r"^METRIC\s+{}=(\S+)", regex::escape(name));
        Metric { name: name.to_owned(), source: MetricSource::Pattern(pattern) }
    }
}

/// The pattern for a line `name: value` or `name = value`.
pub(super) fn plain_pattern(name: &str) -> String {
    format!(r"^\s*{}\s*[:=]?\s*([-+]?[0-9][0-9.eE+-]*)", regex::escape(name))
}

/// The pattern for `name:          0.997900`: all that follows, so that `nan` is seen, too.
pub(super) fn block_pattern(name: &str) -> String {
    format!(r"^{}:\s*(\S+)", regex::escape(name))
}

/// The longest word of a regular expression, as a name for what it finds.
pub(super) fn word_in(pattern: &str) -> &str {
    let words = pattern.split(|c: char| !c.is_alphanumeric() && c != '_');
    words.filter(|word| word.len() > 1).max_by_key(|word| word.len()).unwrap_or("score")
}

/// Metrics that programs print, in the files that `among` lets through, `METRIC` lines first; one for each name.
pub(super) fn printed(tree: &Tree, among: impl Fn(&str) -> bool) -> Vec<Guess<Metric>> {
    let files: Vec<&Source> =
        tree.tracked().filter(|source| is_program(&source.path) && among(&source.path)).collect();
    let mut found = Vec::new();
    for source in &files {
        for (at, line) in tree.lines(&source.path) {
            for captures in METRIC_LINE.captures_iter(line) {
                let why = "it is printed as a METRIC line";
                add(&mut found, Guess::stated(Metric::line(&captures[1]), at.clone(), why));
            }
        }
    }
    if found.is_empty() {
        files.iter().for_each(|source| plainly_printed(tree, &source.path, &mut found));
    }
    found
}

fn plainly_printed(tree: &Tree, path: &str, found: &mut Vec<Guess<Metric>>) {
    for (at, line) in tree.lines(path) {
        let Some(captures) = PRINTED.iter().find_map(|regex| regex.captures(line)) else { continue };
        let name = captures[1].to_owned();
        // A unit that touches the number would be read as a part of it.
        let pattern = if captures[2].is_empty() && line.contains(&format!("{name}:")) {
            block_pattern(&name)
        } else {
            plain_pattern(&name)
        };
        let metric = Metric { name, source: MetricSource::Pattern(pattern) };
        add(found, Guess::likely(metric, at, "it is printed with a number after its name"));
    }
}

/// Numbers in JSON files that programs write, as far as the keys can be seen.
pub(super) fn written(tree: &Tree, among: impl Fn(&str) -> bool) -> Vec<Guess<Metric>> {
    static KEY: LazyLock<Regex> = LazyLock::new(|| regex(r#"["']([A-Za-z_]\w*)["']\s*:"#));
    let mut found = Vec::new();
    for source in tree.tracked().filter(|source| is_program(&source.path) && among(&source.path)) {
        let Some((at, captures)) = tree.find(&source.path, &JSON_FILE) else { continue };
        let file = captures[1].to_owned();
        // Keys near the place where it is written.
        let near = |line: usize| line + 12 > at.line && line < at.line + 12;
        for (place, line) in tree.lines(&source.path).filter(|(place, _)| near(place.line)) {
            for key in KEY.captures_iter(line) {
                let name = key[1].to_owned();
                let source = MetricSource::Json { file: file.clone(), pointer: format!("/{name}") };
                let why = format!("it is written to {file}");
                add(&mut found, Guess::likely(Metric { name, source }, place.clone(), why));
            }
        }
    }
    found
}

fn add(found: &mut Vec<Guess<Metric>>, guess: Guess<Metric>) {
    match found.iter_mut().find(|known| known.value.name == guess.value.name) {
        Some(known) => {
            known.evidence.extend(guess.evidence.into_iter().take(2 - known.evidence.len().min(2)))
        }
        None => found.push(guess),
    }
}

/// Languages in which measuring programs are written.
pub(super) fn is_program(path: &str) -> bool {
    let ending = path.rsplit_once('.').map_or("", |(_, ending)| ending);
    ["py", "sh", "bash", "c", "h", "hpp", "cc", "cpp", "rs", "go", "js", "mjs", "ts", "ps1", "rb", "jl", "pl"]
        .contains(&ending)
        || path.rsplit('/').next() == Some("Makefile")
}

/// Documents in which people say what counts.
const DOCUMENTS: &[&str] = &[
    "program.md",
    ".auto/prompt.md",
    "autoresearch.md",
    "README.md",
    "README",
    "readme.md",
    "AGENTS.md",
    "CLAUDE.md",
];

/// Which way is better: by a document's line that names the metric, else by its name.
pub(super) fn direction(tree: &Tree, name: &str) -> Option<Guess<Direction>> {
    let stated = DOCUMENTS.iter().flat_map(|path| tree.lines(path)).find_map(|(at, line)| {
        let named =
            line.contains(name) || line.replace(['*', '`', '-', '_'], " ").contains(&name.replace('_', " "));
        let direction = said(line).filter(|_| named)?;
        Some(Guess::stated(direction, at, format!("the line about `{name}` says which way is better")))
    });
    stated.or_else(|| by_name(name))
}

/// What a line says about the way, unless it says both.
pub(super) fn said(line: &str) -> Option<Direction> {
    match (LOWER.is_match(line), HIGHER.is_match(line)) {
        (true, false) => Some(Direction::Lower),
        (false, true) => Some(Direction::Higher),
        _ => None,
    }
}

fn by_name(name: &str) -> Option<Guess<Direction>> {
    let name = name.to_lowercase();
    let parts: Vec<&str> = name.split(|c: char| !c.is_alphanumeric() && c != 'µ').collect();
    let among = |words: &[&str]| {
        words.iter().any(|word| parts.contains(word) || (word.contains('_') && name.contains(word)))
    };
    let direction = match (among(HIGHER_NAMES), among(LOWER_NAMES)) {
        (true, false) => Direction::Higher,
        (false, true) => Direction::Lower,
        // `tokens_per_second` holds a word of both kinds.
        (true, true) if name.contains("per_sec") => Direction::Higher,
        _ => return None,
    };
    Some(Guess::new(
        direction,
        Confidence::Likely,
        format!("things that are called `{name}` are better that way"),
    ))
}

/// The one of several that a document calls the aim; `None` when it names none or several.
pub(super) fn aim<'m>(tree: &Tree, metrics: &'m [Guess<Metric>]) -> Option<&'m Guess<Metric>> {
    static AIM: LazyLock<Regex> = LazyLock::new(|| {
        regex(r"(?i)\b(primary|metric|objective|optimi[sz]e|goal|minimi[sz]e|maximi[sz]e|better)\b")
    });
    let lines: Vec<&str> = DOCUMENTS.iter().flat_map(|path| tree.lines(path)).map(|(_, line)| line).collect();
    let named = |name: &str| {
        let word = regex(&format!(r"\b{}\b", regex::escape(name)));
        lines.iter().any(|line| AIM.is_match(line) && word.is_match(line))
    };
    let mut named = metrics.iter().filter(|guess| named(&guess.value.name));
    let first = named.next()?;
    named.next().is_none().then_some(first)
}
