//! Python: which interpreter, with which packages.
//!
//! `uv run` would look for updates of the environment, which needs a network, and would write into it; so the
//! environment's own interpreter is started instead.

use super::{Environment, Machine, Tree, Wishes};
use crate::adopt::Question;
use crate::adopt::guess::{Confidence, Evidence, Guess};
use crate::adopt::metric::regex;

/// Options of `uv run` that take a value.
const VALUED: &[&str] =
    &["--with", "--python", "-p", "--group", "--extra", "--project", "--directory", "--env-file", "--index"];

/// Replaces the interpreter in the command, and finds its environment.
pub(super) fn settle(
    environment: &mut Environment,
    text: &str,
    tree: &Tree,
    wishes: &Wishes,
    machine: &Machine,
) {
    let started = rewritten(&environment.command);
    let inside = regex(r"(^|[\s;&|(])(uv run|python3?(\.\d+)?)\s").is_match(text);
    if started.is_none() && !inside {
        return;
    }
    let Some(interpreter) = interpreter(environment, tree, wishes, machine) else { return };
    if let Some(Started { program, rest }) = started {
        let program = match (program, &interpreter) {
            (Program::Python, interpreter) => interpreter.program(),
            (Program::Other(name), Interpreter::Venv) => format!("{{venv}}/bin/{name}"),
            (Program::Other(name), Interpreter::Own(_)) => name,
        };
        environment.command = std::iter::once(program).chain(rest).collect();
    } else {
        from_within(environment, text, &interpreter);
    }
    environment.env.push(("PYTHONUNBUFFERED".into(), "1".into()));
    let why = "what Python prints is seen at once; held back it would look like silence";
    environment.reasons.push(Guess::new((), Confidence::Assumed, why).reason("run.env", "PYTHONUNBUFFERED"));
}

/// What a command starts.
enum Program {
    Python,
    Other(String),
}

struct Started {
    program: Program,
    rest: Vec<String>,
}

enum Interpreter {
    Venv,
    Own(String),
}

impl Interpreter {
    fn program(&self) -> String {
        match self {
            Interpreter::Venv => "{venv}/bin/python".to_owned(),
            Interpreter::Own(program) => program.clone(),
        }
    }
}

/// `uv run [options] X` and `python X`; `None` for a command that starts something else.
fn rewritten(command: &[String]) -> Option<Started> {
    let first = command.first()?.as_str();
    if is_python(first) {
        return Some(Started { program: Program::Python, rest: command[1..].to_vec() });
    }
    if first != "uv" || command.get(1).is_none_or(|word| word != "run") {
        return None;
    }
    let mut rest = &command[2..];
    while let Some(option) = rest.first().filter(|word| word.starts_with('-')) {
        let taken = if VALUED.contains(&option.as_str()) { 2 } else { 1 };
        rest = rest.get(taken..).unwrap_or_default();
    }
    let target = rest.first()?;
    let program = match target {
        script if script.ends_with(".py") => {
            return Some(Started { program: Program::Python, rest: rest.to_vec() });
        }
        python if is_python(python) => Program::Python,
        other => Program::Other(other.clone()),
    };
    Some(Started { program, rest: rest[1..].to_vec() })
}

fn is_python(word: &str) -> bool {
    regex(r"^python(3(\.\d+)?)?$").is_match(word)
}

/// The environment that is there; where packages are needed and none is, a question.
fn interpreter(
    environment: &mut Environment,
    tree: &Tree,
    wishes: &Wishes,
    machine: &Machine,
) -> Option<Interpreter> {
    if let Some(venv) = &machine.venv {
        environment.vars.push(("venv".into(), venv.path.clone()));
        environment.run_read.push("{venv}".into());
        if !machine.reads(&venv.base) {
            environment.run_read.push(venv.base.display().to_string());
        }
        let why = "packages come from this environment; it lies outside the worktrees, is shared by all trials and \
                   read-only, and nothing is installed or updated";
        let guess = match wishes.venv {
            Some(_) => Guess::new((), Confidence::Told, format!("--venv says so; {why}")),
            None => Guess::likely(
                (),
                Evidence::new(&format!("{}/pyvenv.cfg", venv.path.trim_start_matches("./")), 1),
                why,
            ),
        };
        environment.reasons.push(guess.reason("vars.venv", &venv.path));
        return Some(Interpreter::Venv);
    }
    if let Some(needs) = needs_packages(tree) {
        let make = if tree.has("uv.lock") {
            "uv sync"
        } else {
            "python3 -m venv .venv && .venv/bin/pip install ..."
        };
        environment.questions.push(Question {
            text: format!(
                "where are the Python packages? {} ({needs}) and there is no .venv; make one with `{make}` (it needs the \
                 network once) and adopt again, or name one",
                needs.why
            ),
            choices: Vec::new(),
            flag: "--venv DIR",
        });
        return None;
    }
    let Some(python) = &machine.python else {
        environment.questions.push(Question {
            text: "which Python runs it? There is none on the search path".to_owned(),
            choices: Vec::new(),
            flag: "--venv DIR",
        });
        return None;
    };
    if !machine.reads(&python.base) {
        environment.run_read.push(python.base.display().to_string());
    }
    Some(Interpreter::Own(python.program.display().to_string()))
}

/// Where packages are asked for.
struct Needs {
    at: Evidence,
    why: &'static str,
}

impl std::fmt::Display for Needs {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.at.fmt(formatter)
    }
}

fn needs_packages(tree: &Tree) -> Option<Needs> {
    let listed = regex(r#"^\s*["'][A-Za-z][\w.-]*"#);
    let mut lines =
        tree.lines("pyproject.toml").skip_while(|(_, line)| !line.trim_start().starts_with("dependencies"));
    if let Some((at, line)) = lines.next() {
        let inline = line.contains(['"', '\'']);
        let below = !line.contains(']') && lines.next().is_some_and(|(_, next)| listed.is_match(next));
        if inline || below {
            return Some(Needs { at, why: "pyproject.toml lists some" });
        }
    }
    let wanted = regex(r"^[A-Za-z]");
    let (at, _) = tree.find("requirements.txt", &wanted)?;
    Some(Needs { at, why: "requirements.txt lists some" })
}

/// A script or recipe starts Python by itself: it finds the environment first on its path.
fn from_within(environment: &mut Environment, text: &str, interpreter: &Interpreter) {
    if let Interpreter::Venv = interpreter {
        environment.env.push(("PATH".into(), "{venv}/bin:/usr/local/bin:/usr/bin:/bin".into()));
        environment.env.push(("VIRTUAL_ENV".into(), "{venv}".into()));
    }
    if text.contains("uv run") {
        for (name, value) in [
            ("UV_NO_SYNC", "1"),
            ("UV_OFFLINE", "1"),
            ("UV_CACHE_DIR", "{scratch}/uv"),
            ("UV_PROJECT_ENVIRONMENT", "{venv}"),
        ] {
            environment.env.push((name.into(), value.into()));
        }
        environment.warnings.push(
            "a script starts `uv run` itself: uv must be on the path of the sandbox, below /usr/local/bin for example"
                .into(),
        );
    }
}
