//! The contract as data, and the one place that turns it into the text of a `task.toml`.

use std::fmt::Write;

use super::guess::Reason;
use crate::record::{Budget, Direction, Limit};

/// Columns of a comment.
const WIDTH: usize = 110;

/// Everything that a `task.toml` of a foreign repository says.
#[derive(Clone, Debug, PartialEq)]
pub struct Contract {
    /// Name of the task.
    pub name: String,
    /// Globs of what may change.
    pub mutable: Vec<String>,
    /// Globs of what is hashed.
    pub fixed: Vec<String>,
    /// Placeholders of the task.
    pub vars: Vec<(String, String)>,
    /// How it is built, where it is.
    pub build: Option<Build>,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Variables of the run.
    pub env: Vec<(String, String)>,
    /// Limit of one execution in seconds.
    pub timeout_seconds: Option<f64>,
    /// What is measured.
    pub metric: Metric,
    /// Which way is better.
    pub direction: Direction,
    /// What may not get worse meanwhile.
    pub guards: Vec<Guard>,
    /// What one execution may spend.
    pub budget: Budget,
    /// Readable for builds alone.
    pub build_read: Vec<String>,
    /// Readable for runs alone.
    pub run_read: Vec<String>,
    /// Device files.
    pub devices: Vec<String>,
}

/// How a checkout becomes an artifact.
#[derive(Clone, Debug, PartialEq)]
pub struct Build {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Files below `{cache}` that are kept.
    pub keep: Vec<String>,
    /// Variables.
    pub env: Vec<(String, String)>,
}

/// What is measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// Its name.
    pub name: String,
    /// Where it is found.
    pub source: MetricSource,
}

/// Where a metric is found.
#[derive(Clone, Debug, PartialEq)]
pub enum MetricSource {
    /// A regular expression on the output.
    Pattern(String),
    /// A number in a JSON file that the program writes.
    Json {
        /// The file, relative to the checkout.
        file: String,
        /// JSON pointer to the number.
        pointer: String,
    },
    /// The time that the whole command takes.
    WallSeconds,
}

/// What may not get worse while the metric gets better.
#[derive(Clone, Debug, PartialEq)]
pub struct Guard {
    /// Its name.
    pub name: String,
    /// What is looked at.
    pub watched: Watched,
    /// How far it may go; a command must end well instead.
    pub limit: Option<Limit>,
}

/// What a guard looks at.
#[derive(Clone, Debug, PartialEq)]
pub enum Watched {
    /// A regular expression on the output.
    Pattern(String),
    /// A command that must succeed.
    Command(Vec<String>),
}

impl MetricSource {
    /// The source as people read it.
    pub fn words(&self) -> String {
        match self {
            MetricSource::Pattern(pattern) => format!("the output's last match of {pattern}"),
            MetricSource::Json { file, pointer } => format!("{pointer} in {file}"),
            MetricSource::WallSeconds => "the time that the command takes".to_owned(),
        }
    }

    /// True when the code under test says its own score.
    pub fn self_reported(&self) -> bool {
        !matches!(self, MetricSource::WallSeconds)
    }
}

/// What to know where a score is self-reported, for people and as a comment.
pub const SELF_REPORTED: &str = "The score is self-reported: the code that may change runs in the process that says it. \
     Two defences are left. Fixed files are hashed, read-only and never in a proposal, so keep what computes the score \
     there; and an [evaluate] section with a command of its own, run from the pristine tree on what the run wrote, takes \
     the score out of the candidate's hands.";

/// The text of a `task.toml`: each key with its reasons above it.
pub fn render(contract: &Contract, reasons: &[Reason]) -> String {
    let mut text = Text { text: String::new(), reasons };
    text.comment(
        "Written by `sprag adopt`, not committed and not seen by git status. The words in brackets say where a guess \
         comes from and how sure it is: told, stated, likely or assumed. Every key is described in docs/task.md of Sprag.",
    );
    text.line("format", "1");
    text.line("name", &quoted(&contract.name));
    files(&mut text, contract);
    if !contract.vars.is_empty() {
        text.section("vars");
        contract.vars.iter().for_each(|(name, value)| text.keyed("vars", name, &quoted(value)));
    }
    if let Some(build) = &contract.build {
        text.section("build");
        text.keyed("build", "command", &list(&build.command));
        if !build.keep.is_empty() {
            text.keyed("build", "keep", &list(&build.keep));
        }
        variables(&mut text, "build.env", &build.env);
    }
    run(&mut text, contract);
    metric(&mut text, contract);
    if !contract.guards.is_empty() {
        text.section("guards");
        text.because("guards");
        contract.guards.iter().for_each(|guard| text.line(&key(&guard.name), &guard_value(guard)));
    }
    text.section("budget");
    let (kind, amount) = budget(contract.budget);
    text.because("budget");
    text.line(kind, &amount);
    sandbox(&mut text, contract);
    text.text
}

fn files(text: &mut Text<'_>, contract: &Contract) {
    text.section("files");
    text.keyed("files", "mutable", &list(&contract.mutable));
    if !contract.fixed.is_empty() {
        text.keyed("files", "fixed", &list(&contract.fixed));
    }
}

fn run(text: &mut Text<'_>, contract: &Contract) {
    text.section("run");
    text.keyed("run", "command", &list(&contract.command));
    tree(text);
    if let Some(seconds) = contract.timeout_seconds {
        text.keyed("run", "timeout_seconds", &number(seconds));
    }
    variables(text, "run.env", &contract.env);
}

/// Programs that were not written for Sprag write into their own folder.
fn tree(text: &mut Text<'_>) {
    text.comment(
        "A fresh, writable copy of the checkout for each execution: the program may write where it lies.",
    );
    text.line("tree", "\"copy\"");
}

fn metric(text: &mut Text<'_>, contract: &Contract) {
    text.section("metric");
    text.keyed("metric", "name", &quoted(&contract.metric.name));
    text.keyed("metric", "direction", &quoted(contract.direction.word()));
    if contract.metric.source.self_reported() {
        text.comment(SELF_REPORTED);
    }
    let (name, value) = metric_source(&contract.metric.source);
    text.keyed("metric", name, &value);
}

/// Key and value of where the metric is found.
fn metric_source(source: &MetricSource) -> (&'static str, String) {
    match source {
        MetricSource::Pattern(pattern) => ("pattern", quoted(pattern)),
        MetricSource::Json { file, pointer } => {
            ("json", format!("{{ file = {}, pointer = {} }}", quoted(file), quoted(pointer)))
        }
        MetricSource::WallSeconds => ("wall_seconds", "true".to_owned()),
    }
}

fn guard_value(guard: &Guard) -> String {
    let watched = match &guard.watched {
        Watched::Pattern(pattern) => format!("pattern = {}", quoted(pattern)),
        Watched::Command(command) => format!("command = {}", list(command)),
    };
    match guard.limit {
        Some(limit) => format!("{{ {watched}, limit = {} }}", quoted(&limit.to_string())),
        None => format!("{{ {watched} }}"),
    }
}

fn budget(budget: Budget) -> (&'static str, String) {
    match budget {
        Budget::Seconds(seconds) => ("seconds", number(seconds)),
        Budget::Tokens(count) => ("tokens", count.to_string()),
        Budget::Steps(count) => ("steps", count.to_string()),
        Budget::Evaluations(count) => ("evaluations", count.to_string()),
    }
}

fn sandbox(text: &mut Text<'_>, contract: &Contract) {
    let lists = [
        ("run_read", &contract.run_read),
        ("build_read", &contract.build_read),
        ("devices", &contract.devices),
    ];
    text.section("sandbox");
    text.comment("There is no network. Libraries look for one when they are loaded, and are refused instead of killed.");
    text.line("on_network", "\"refuse\"");
    for (name, values) in lists.into_iter().filter(|(_, values)| !values.is_empty()) {
        text.keyed("sandbox", name, &list(values));
    }
}

fn variables(text: &mut Text<'_>, section: &str, variables: &[(String, String)]) {
    if !variables.is_empty() {
        text.section(section);
        text.because(section);
        variables.iter().for_each(|(name, value)| text.line(&key(name), &quoted(value)));
    }
}

/// The text so far, and what is known of its keys.
struct Text<'r> {
    text: String,
    reasons: &'r [Reason],
}

impl Text<'_> {
    fn section(&mut self, name: &str) {
        let _ = writeln!(self.text, "\n[{name}]");
    }

    fn line(&mut self, name: &str, value: &str) {
        let _ = writeln!(self.text, "{name} = {value}");
    }

    /// A key with its reasons above it.
    fn keyed(&mut self, section: &str, name: &str, value: &str) {
        self.because(&format!("{section}.{name}"));
        self.line(&key(name), value);
    }

    fn because(&mut self, dotted: &str) {
        let reasons = self.reasons;
        reasons
            .iter()
            .filter(|reason| reason.key == dotted)
            .for_each(|reason| self.comment(&reason.sentence()));
    }

    /// Wrapped, one `#` a line. What comes from the repository's files cannot leave the comment.
    fn comment(&mut self, words: &str) {
        let mut line = "#".to_owned();
        for word in words.split_whitespace() {
            if line.len() > 1 && line.chars().count() + 1 + word.chars().count() > WIDTH {
                let _ = writeln!(self.text, "{line}");
                line = "#".to_owned();
            }
            line.push(' ');
            line.extend(word.chars().filter(|letter| !letter.is_control()));
        }
        let _ = writeln!(self.text, "{line}");
    }
}

/// A number that TOML reads as a float or an integer, as short as it gets.
fn number(value: f64) -> String {
    let rounded = (value * 1e6).round() / 1e6;
    format!("{rounded}")
}

fn list(words: &[String]) -> String {
    let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    format!("[{}]", words.join(", "))
}

/// A key, quoted where it must be.
fn key(name: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !name.is_empty() && name.chars().all(bare) { name.to_owned() } else { quoted(name) }
}

/// A TOML string: as it is between single quotes where that is possible and shorter, so that patterns stay readable.
fn quoted(text: &str) -> String {
    let plain = !text.contains('\'') && !text.chars().any(char::is_control);
    if plain && text.contains(['\\', '"']) {
        format!("'{text}'")
    } else {
        // JSON's escapes are a part of TOML's; JSON leaves DEL alone, which TOML does not allow.
        serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007F")
    }
}
