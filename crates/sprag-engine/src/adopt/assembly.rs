//! From what was collected to a contract, or to the questions that stand in its way.

use super::contract::{Contract, MetricSource};
use super::draft::Draft;
use super::environment::{self, Environment, Machine};
use super::guess::{Confidence, Guess, Reason};
use super::metric;
use super::tree::Tree;
use super::words;
use super::{Adoption, Choice, Question, Wishes};
use crate::record::Budget;
use crate::task::PathSet;

/// Files that say how a project is built and run: a change to them would change what is compared.
const PROJECT: &[&str] = &[
    "program.md",
    "helix.yaml",
    "pyproject.toml",
    "uv.lock",
    "requirements.txt",
    ".python-version",
    "setup.py",
    "Cargo.toml",
    "Cargo.lock",
    "rust-toolchain.toml",
    "build.rs",
    "package.json",
    "package-lock.json",
    "Makefile",
    "makefile",
    "justfile",
    ".auto/measure.sh",
    ".auto/checks.sh",
    "autoresearch.sh",
    "autoresearch.checks.sh",
];

/// Records of other loops.
const HISTORIES: &[&str] = &["results.tsv", ".auto/log.jsonl", "autoresearch.jsonl"];

/// The contract, as far as the draft reaches.
pub(super) fn finish(
    name: &str,
    mut draft: Draft,
    tree: &Tree,
    wishes: &Wishes,
    machine: &Machine,
) -> Adoption {
    untangle(&mut draft, tree);
    patience(&mut draft);
    let histories = HISTORIES.iter().filter(|path| tree.has(path)).map(|path| (*path).to_owned()).collect();
    let mut questions = Vec::new();
    let mut warnings = std::mem::take(&mut draft.warnings);
    let environment = draft.command.as_ref().map(|command| environment::of(command, tree, wishes, machine));
    questions.extend(command_question(&draft));
    questions.extend(mutable_question(&draft));
    questions.extend(metric_question(&draft));
    questions.extend(direction_question(&draft));
    existing(&draft, tree, &mut questions);
    let Some(Environment { reasons: placed, questions: asked, warnings: said, first, .. }) = &environment
    else {
        return Adoption {
            reasons: reasons(&draft, &[], None),
            questions,
            contract: None,
            warnings,
            first: Vec::new(),
            histories,
        };
    };
    questions.extend(asked.clone());
    warnings.extend(said.clone());
    let (placed, first) = (placed.clone(), first.clone());
    let fixed = fixed(&draft, tree);
    let reasons = reasons(&draft, &placed, fixed.as_ref());
    untold(environment.as_ref(), &draft, &mut warnings);
    let contract = environment.and_then(|environment| contract(name, &draft, fixed, environment));
    let contract = contract.filter(|_| questions.is_empty());
    Adoption { reasons, questions, contract, warnings, first, histories }
}

/// A file that is said to stay may lie among those that may change: then these are named one by one.
fn untangle(draft: &mut Draft, tree: &Tree) {
    let (Some(mutable), Some(fixed)) = (&mut draft.mutable, &draft.fixed) else { return };
    let set = |paths: &[String]| PathSet::new(paths.iter().map(String::as_str)).unwrap_or_default();
    let (may, must_not) = (set(&mutable.value), set(&fixed.value));
    let all = || tree.tracked().map(|source| &source.path).filter(|path| may.contains(path));
    if all().any(|path| must_not.contains(path)) {
        mutable.value = all().filter(|path| !must_not.contains(path)).cloned().collect();
        mutable.why =
            format!("{}; named one by one, because others among them are said to stay", mutable.why);
    }
}

/// A limit that is over before the budget is would end every run.
fn patience(draft: &mut Draft) {
    let (Some(timeout), Some(Budget::Seconds(budget))) =
        (&draft.timeout, draft.budget.as_ref().map(|guess| guess.value))
    else {
        return;
    };
    if timeout.value <= budget {
        draft.warnings.push(format!(
            "a limit of {} s is named ({}), which a budget of {budget} s leaves no room for; Sprag's own limit is taken",
            timeout.value,
            timeout.evidence.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        ));
        draft.timeout = None;
    }
}

fn contract(
    name: &str,
    draft: &Draft,
    fixed: Option<Guess<Vec<String>>>,
    environment: Environment,
) -> Option<Contract> {
    let name = draft.name.as_ref().map_or(name, |guess| &guess.value);
    Some(Contract {
        name: task_name(name),
        mutable: draft.mutable.as_ref()?.value.clone(),
        fixed: fixed.map(|guess| guess.value).unwrap_or_default(),
        vars: environment.vars,
        build: environment.build,
        command: environment.command,
        env: draft.env.iter().map(|guess| guess.value.clone()).chain(environment.env).collect(),
        timeout_seconds: draft.timeout.as_ref().map(|guess| guess.value),
        metric: draft.metric.as_ref()?.value.clone(),
        direction: draft.direction.as_ref()?.value,
        guards: draft.guards.iter().map(|guess| guess.value.clone()).collect(),
        budget: draft.budget.as_ref()?.value,
        build_read: environment.build_read,
        run_read: environment.run_read,
        devices: environment.devices,
    })
}

/// A name that a task may have.
pub fn task_name(name: &str) -> String {
    let good = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '-' };
    let name: String = name.trim().chars().map(good).collect();
    let name = name.trim_start_matches(['-', '_', '.']);
    if name.is_empty() { "task".to_owned() } else { name.to_owned() }
}

/// What is stated, the project's own files, and what measures; never what may change.
fn fixed(draft: &Draft, tree: &Tree) -> Option<Guess<Vec<String>>> {
    let mutable = draft.mutable.as_ref()?;
    let mutable = PathSet::new(mutable.value.iter().map(String::as_str)).ok()?;
    if let Some(told) = draft.fixed.as_ref().filter(|guess| guess.confidence == Confidence::Told) {
        return Some(told.clone());
    }
    let mut paths: Vec<String> = draft.fixed.iter().flat_map(|guess| guess.value.clone()).collect();
    let measuring = draft.metric.iter().flat_map(|guess| &guess.evidence).map(|at| at.path.as_str());
    let measuring = measuring.filter(|path| metric::is_program(path));
    let command = draft.command.iter().flat_map(|guess| super::plain::files_of(tree, &guess.value));
    paths.extend(PROJECT.iter().copied().chain(measuring).map(str::to_owned).chain(command));
    let mut kept: Vec<String> = Vec::new();
    for path in paths {
        let there = tree.tracks(&path) || tree.has_folder(&path) || path.contains('*');
        if there && !mutable.contains(&path) && !kept.contains(&path) {
            kept.push(path);
        }
    }
    let why = "with them what says how the project is built, run and measured; hashed, read-only, never in \
        a proposal";
    let guess = match &draft.fixed {
        Some(stated) => Guess { why: format!("{}; {why}", stated.why), ..stated.with(kept) },
        None => Guess::new(
            kept,
            Confidence::Assumed,
            "what says how the project is built, run and measured; hashed, read-only, never in a proposal",
        ),
    };
    (!guess.value.is_empty()).then_some(guess)
}

/// One sentence a key, in the order of the file.
fn reasons(draft: &Draft, placed: &[Reason], fixed: Option<&Guess<Vec<String>>>) -> Vec<Reason> {
    let of = |keys: &[&str]| {
        placed.iter().filter(|reason| keys.contains(&reason.key)).cloned().collect::<Vec<Reason>>()
    };
    let mut all: Vec<Reason> = Vec::new();
    all.extend(draft.mutable.as_ref().map(|guess| guess.reason("files.mutable", guess.value.join(" "))));
    all.extend(fixed.map(|guess| guess.reason("files.fixed", guess.value.join(" "))));
    all.extend(of(&["vars.venv", "vars.rust", "vars.modules", "build.command"]));
    all.extend(of(&["run.command"]));
    all.extend(
        draft.timeout.as_ref().map(|guess| guess.reason("run.timeout_seconds", format!("{} s", guess.value))),
    );
    all.extend(draft.env.iter().map(|guess| guess.reason("run.env", &guess.value.0)));
    all.extend(of(&["run.env"]));
    all.extend(draft.metric.as_ref().map(|guess| guess.reason("metric.name", &guess.value.name)));
    all.extend(draft.direction.as_ref().map(|guess| guess.reason("metric.direction", guess.value.word())));
    if let Some(guess) = &draft.metric {
        let found = Guess::new((), guess.confidence, "where the score stands");
        all.push(found.reason(source_key(&guess.value.source), guess.value.source.words()));
    }
    all.extend(draft.guards.iter().map(|guess| guess.reason("guards", &guess.value.name)));
    all.extend(draft.budget.as_ref().map(|guess| guess.reason("budget", guess.value.to_string())));
    all.extend(of(&["sandbox.run_read", "sandbox.build_read", "sandbox.devices"]));
    all
}

fn source_key(source: &MetricSource) -> &'static str {
    match source {
        MetricSource::Pattern(_) => "metric.pattern",
        MetricSource::Json { .. } => "metric.json",
        MetricSource::WallSeconds => "metric.wall_seconds",
    }
}

fn choices<T>(guesses: &[Guess<T>], flag: &str, value: impl Fn(&T) -> String) -> Vec<Choice> {
    let choice = |guess: &Guess<T>| {
        let value = value(&guess.value);
        let places: Vec<String> = guess.evidence.iter().take(2).map(ToString::to_string).collect();
        Choice {
            flag: format!("{flag} {}", words::shell_word(&value)),
            value,
            why: format!("{} ({})", guess.why, places.join(", ")),
        }
    };
    guesses.iter().take(9).map(choice).collect()
}

fn command_question(draft: &Draft) -> Option<Question> {
    let text = match (&draft.command, draft.commands.len()) {
        (Some(_), _) => return None,
        (None, 0) => "how is one experiment run? Nothing here says so".to_owned(),
        (None, _) => "how is one experiment run? Several commands look like it".to_owned(),
    };
    Some(Question { text, choices: choices(&draft.commands, "--run", Clone::clone), flag: "--run 'CMD'" })
}

fn mutable_question(draft: &Draft) -> Option<Question> {
    let text = match (&draft.mutable, draft.mutables.len()) {
        (Some(_), _) => return None,
        (None, 0) => "which files may change? Nothing here says so".to_owned(),
        (None, _) => "which files may change? Several programs could be meant (name one or more)".to_owned(),
    };
    let choices = choices(&draft.mutables, "--mutable", |paths| paths.join(" "));
    Some(Question { text, choices, flag: "--mutable GLOB" })
}

fn metric_question(draft: &Draft) -> Option<Question> {
    let (text, flag) = match (&draft.metric, draft.metrics.len()) {
        (Some(_), _) => return None,
        (None, 0) => (
            format!(
                "what is measured? {}; give the line by --pattern with the number in parentheses, a JSON \
                 file by --result, \
                 or measure the time by --wall-time",
                match draft.command {
                    Some(_) => "No program here prints a number after its name or writes one to a JSON file",
                    None => "It is looked for in what the command runs",
                }
            ),
            "--pattern RE",
        ),
        (None, _) => {
            ("which number is the metric? Programs here print or write these".to_owned(), "--metric NAME")
        }
    };
    let numbered = draft.metrics.iter().take(9).map(|guess| {
        let (flag, value) = match &guess.value.source {
            MetricSource::Json { file, pointer } => ("--result", format!("{file}#{pointer}")),
            _ => ("--metric", guess.value.name.clone()),
        };
        let places: Vec<String> = guess.evidence.iter().take(2).map(ToString::to_string).collect();
        Choice {
            flag: format!("{flag} {value}"),
            value,
            why: format!("{} ({})", guess.why, places.join(", ")),
        }
    });
    Some(Question { text, choices: numbered.collect(), flag })
}

fn direction_question(draft: &Draft) -> Option<Question> {
    let metric = draft.metric.as_ref()?;
    if draft.direction.is_some() {
        return None;
    }
    let choice = |value: &str| Choice {
        flag: format!("--direction {value}"),
        value: value.to_owned(),
        why: format!("{value} is better"),
    };
    Some(Question {
        text: format!("which way is `{}` better? Neither its name nor a document says so", metric.value.name),
        choices: vec![choice("lower"), choice("higher")],
        flag: "--direction lower|higher",
    })
}

/// What the contract names must be in the commit that trials start from.
fn existing(draft: &Draft, tree: &Tree, questions: &mut Vec<Question>) {
    if let Some(guess) = &draft.mutable {
        match PathSet::new(guess.value.iter().map(String::as_str)) {
            Err(problem) => questions.push(Question {
                text: format!("what may change cannot be read: `{}` {problem}", guess.value.join(" ")),
                choices: Vec::new(),
                flag: "--mutable GLOB",
            }),
            Ok(set) if !tree.tracked().any(|source| set.contains(&source.path)) => questions.push(Question {
                text: format!(
                    "`{}` matches no committed file, so nothing could change",
                    guess.value.join(" ")
                ),
                choices: Vec::new(),
                flag: "--mutable GLOB",
            }),
            Ok(_) => {}
        }
    }
    let measuring = [".auto/measure.sh", "autoresearch.sh"].into_iter();
    let named = |path: &&str| draft.command.as_ref().is_some_and(|guess| guess.value.contains(*path));
    for path in measuring.filter(named).filter(|path| tree.has(path) && !tree.tracks(path)) {
        questions.push(Question {
            text: format!(
                "{path} is not committed, so a trial's checkout would lack it; commit it and adopt again"
            ),
            choices: Vec::new(),
            flag: "--run 'CMD'",
        });
    }
}

/// What a person would wonder about later.
fn untold(environment: Option<&Environment>, draft: &Draft, warnings: &mut Vec<String>) {
    let Some(environment) = environment else { return };
    if !environment.command.iter().any(|word| word.contains("{seed}")) {
        warnings.push(
            "the command takes no seed, so the noise that is measured is what repeats of it show; where the \
             program sets a seed \
             of its own, luck with that one seed is not seen. If it reads one, add {seed} to `run.command` \
              or [run.env]"
                .into(),
        );
    }
    if let Some(Budget::Seconds(seconds)) = draft.budget.as_ref().map(|guess| guess.value) {
        let minutes = (seconds * 10.0 / 60.0).ceil();
        if minutes >= 20.0 {
            warnings.push(format!(
                "the gate runs the baseline 10 times first, at least {minutes} minutes; `sprag run --for \
                 8h` takes fewer where \
                 they would be more than a quarter of that"
            ));
        }
    }
}
