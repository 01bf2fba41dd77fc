//! `optuna`: asks an installed Optuna for the next point over the knobs (Akiba and others 2019, "Optuna: A
//! next-generation hyperparameter optimization framework"; its default is the tree-structured Parzen estimator).
//!
//! Python is the user's own and runs outside the sandbox. It keeps nothing: the study is made anew from the ledger at
//! every asking, so a kill loses nothing and trials of other proposers count too.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use sprag_measure::process::{self, End, Limits};
use sprag_measure::stats;

use super::knobs::{self, Knob, Scale};
use super::{Brief, Declined, Proposal, Proposer, content, find_program};
use crate::record::{Direction, Purpose};
use crate::session::split_mix;
use crate::state::Trial;

/// What Python is given.
const SCRIPT: &str = include_str!("optuna/ask.py");
/// How long one asking may take; importing the package takes seconds on a slow disk.
const TIMEOUT: Duration = Duration::from_secs(120);
/// Points that may have been tried already before the asking is given up.
const POINTS: u64 = 8;
/// Digits of a number that are kept: more tell nothing apart.
const DIGITS: i32 = 4;

/// The bridge, with the interpreter that has the package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptunaSpec {
    /// A program or a path; `python3` where nobody says otherwise.
    pub python: String,
}

impl fmt::Display for OptunaSpec {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.python.as_str() {
            DEFAULT_PYTHON => formatter.write_str("optuna"),
            other => write!(formatter, "optuna:{other}"),
        }
    }
}

/// The interpreter when none is named.
pub(super) const DEFAULT_PYTHON: &str = "python3";

impl OptunaSpec {
    /// Whether it can be asked, found out before a baseline is paid for.
    ///
    /// # Errors
    /// There is no such interpreter, or it has no such package.
    pub fn check(&self, environment: &[(OsString, OsString)]) -> Result<(), String> {
        let python = self.program(environment)?;
        let words: [&std::ffi::OsStr; 2] = ["-c".as_ref(), "import optuna".as_ref()];
        let output = process::output(&python, words, std::path::Path::new("/"), environment)
            .map_err(|cause| cause.to_string())?;
        if output.success() { Ok(()) } else { Err(missing(&self.python)) }
    }

    fn program(&self, environment: &[(OsString, OsString)]) -> Result<PathBuf, String> {
        let named = PathBuf::from(&self.python);
        let found = if named.components().count() > 1 {
            // It is started in another folder; a link is not followed, because that is what an environment is.
            std::path::absolute(&named).ok().filter(|path| path.is_file())
        } else {
            find_program(&self.python, environment)
        };
        found.ok_or_else(|| {
            format!("there is no `{}`; name an interpreter, as in `optuna:venv/bin/python`", self.python)
        })
    }
}

fn missing(python: &str) -> String {
    format!(
        "`{python}` has no package `optuna`; install it with `{python} -m pip install optuna`, or name an interpreter \
         that has it, as in `optuna:venv/bin/python`"
    )
}

/// The proposer.
pub struct OptunaProposer {
    pub(super) name: String,
    pub(super) spec: OptunaSpec,
    pub(super) environment: Vec<(OsString, OsString)>,
}

/// What the script prints.
#[derive(Deserialize)]
#[serde(untagged)]
enum Point {
    Missing {
        #[serde(rename = "missing")]
        _missing: String,
    },
    Found {
        version: String,
        params: BTreeMap<String, Value>,
    },
}

impl Proposer for OptunaProposer {
    fn name(&self) -> &str {
        &self.name
    }

    fn can_repair(&self) -> bool {
        false
    }

    fn propose(&mut self, brief: &Brief<'_>) -> Result<Proposal, Declined> {
        let (files, knobs) = knobs::of(brief)?;
        let trials = known(brief, &knobs);
        let tried = brief.state.contents();
        for at in 0..POINTS {
            let point = self.ask(brief, &knobs, &trials, at)?;
            let Point::Found { version, params } = point else {
                return Err(Declined::Failed(missing(&self.spec.python)));
            };
            let turns = turns(&knobs, &params);
            let mut after = files.clone();
            for path in files.keys() {
                if let Some(text) = turned(&files, path, &turns) {
                    after.insert(path.clone(), text.into_bytes());
                }
            }
            if turns.is_empty() || tried.contains_key(content::sha256(&after).as_str()) {
                continue;
            }
            for (path, bytes) in after.iter().filter(|(path, bytes)| files.get(*path) != Some(bytes)) {
                std::fs::write(brief.worktree.join(path), bytes)
                    .map_err(|cause| Declined::Failed(format!("write {path}: {cause}")))?;
            }
            return Ok(proposal(&knobs, &turns, &version, trials.len()));
        }
        Err(Declined::Exhausted(format!("{POINTS} points in a row were tried before")))
    }
}

impl OptunaProposer {
    fn ask(&self, brief: &Brief<'_>, knobs: &[Knob], trials: &[Value], at: u64) -> Result<Point, Declined> {
        let failed = |what: &str, cause: &dyn fmt::Display| Declined::Failed(format!("{what}: {cause}"));
        let study = brief.brief_dir.join("study.json");
        let space: Vec<Value> = knobs.iter().map(|knob| described(knobs, knob)).collect();
        let direction = match brief.task.metric.direction {
            Direction::Lower => "minimize",
            Direction::Higher => "maximize",
        };
        // numpy takes seeds of 32 bits.
        let seed = split_mix(split_mix(brief.seed, u64::from(brief.trial)), at) >> 32;
        let known = json!({ "direction": direction, "seed": seed, "knobs": space, "trials": trials });
        std::fs::create_dir_all(brief.brief_dir).map_err(|cause| failed("write the study", &cause))?;
        std::fs::write(&study, known.to_string()).map_err(|cause| failed("write the study", &cause))?;
        let python = self.spec.program(&self.environment).map_err(Declined::Failed)?;
        // Not in the worktree: Python would import what lies there.
        let words: [&std::ffi::OsStr; 3] = ["-c".as_ref(), SCRIPT.as_ref(), study.as_os_str()];
        let mut command = process::Command::new(python, brief.brief_dir).args(words);
        command.env = self.environment.clone();
        let limits = Limits { wall: Some(TIMEOUT), ..Limits::default() };
        let mut last = String::new();
        let finished = process::run(command, &limits, brief.cancel, &mut |_, line| {
            if !line.trim().is_empty() {
                last = line.trim().to_owned();
            }
        });
        let finished = finished.map_err(|cause| Declined::Failed(cause.to_string()))?;
        match finished.end {
            End::Exited(0) => {
                serde_json::from_str(&last).map_err(|cause| failed("read Optuna's answer", &cause))
            }
            End::TimedOut => {
                Err(Declined::Failed(format!("Optuna took longer than {} s", TIMEOUT.as_secs())))
            }
            end => Err(Declined::Failed(format!("Optuna's process {end}: {last}"))),
        }
    }
}

fn described(knobs: &[Knob], knob: &Knob) -> Value {
    let name = knobs::label(knobs, knob);
    match &knob.scale {
        Scale::Choice(choices) => json!({ "name": name, "kind": "choice", "choices": choices }),
        Scale::Log { low, high } => {
            json!({ "name": name, "kind": "log", "low": low, "high": high, "whole": knob.is_whole() })
        }
        Scale::Linear { low, high } => {
            json!({ "name": name, "kind": "linear", "low": low, "high": high, "whole": knob.is_whole() })
        }
    }
}

/// What the ledger knows: the knobs of every decided trial's code, and the mean of its scores; no value for one without.
fn known(brief: &Brief<'_>, knobs: &[Knob]) -> Vec<Value> {
    let decided = brief.state.trials.iter().filter(|trial| trial.verdict.is_some());
    let known = decided.filter_map(|trial| {
        let commit = &trial.proposed.as_ref()?.commit;
        let paths: std::collections::BTreeSet<&String> = knobs.iter().map(|knob| &knob.path).collect();
        let mut files = BTreeMap::new();
        for path in paths {
            if let Ok(Some(bytes)) = brief.repo.show(commit, path) {
                files.insert(path.clone(), bytes);
            }
        }
        let then = knobs::all(&files);
        let mut params = BTreeMap::new();
        for knob in knobs {
            let label = knobs::label(knobs, knob);
            let value = then.iter().find(|one| knobs::label(&then, one) == label);
            params.extend(value.and_then(|one| within(knob, one)).map(|value| (label, value)));
        }
        (!params.is_empty()).then(|| json!({ "params": params, "value": score(trial) }))
    });
    known.collect()
}

/// A knob's value then, if the knob of today can have it.
fn within(now: &Knob, then: &Knob) -> Option<Value> {
    match &now.scale {
        Scale::Choice(choices) => choices.contains(&then.literal).then(|| json!(then.literal)),
        Scale::Log { low, high } | Scale::Linear { low, high } => {
            let value = then.value().filter(|value| (*low..=*high).contains(value))?;
            Some(if now.is_whole() { json!(value.round() as i64) } else { json!(value) })
        }
    }
}

/// The mean of a trial's own full runs.
fn score(trial: &Trial) -> Option<f64> {
    let purposes = [Purpose::Baseline, Purpose::Screen, Purpose::Confirm];
    let own = purposes.iter().flat_map(|purpose| trial.scores(trial.id, *purpose));
    stats::mean(&own.map(|(_, score)| score.value).collect::<Vec<_>>())
}

/// The knobs that the point turns, and to what.
fn turns<'k>(knobs: &'k [Knob], params: &BTreeMap<String, Value>) -> Vec<(&'k Knob, String)> {
    let turn = |knob: &'k Knob| {
        let literal = match params.get(&knobs::label(knobs, knob))? {
            Value::String(choice) => choice.clone(),
            number => knob.literal_for(rounded(number.as_f64()?)),
        };
        (literal != knob.literal).then_some((knob, literal))
    };
    knobs.iter().filter_map(turn).collect()
}

fn rounded(value: f64) -> f64 {
    if value == 0.0 || value.fract() == 0.0 {
        return value;
    }
    format!("{value:.*e}", DIGITS as usize - 1).parse().unwrap_or(value)
}

/// A file with all of its turns; the last first, so that places stay where they are.
fn turned(files: &BTreeMap<String, Vec<u8>>, path: &str, turns: &[(&Knob, String)]) -> Option<String> {
    let mut own: Vec<&(&Knob, String)> = turns.iter().filter(|(knob, _)| knob.path == path).collect();
    own.sort_by_key(|(knob, _)| std::cmp::Reverse(knob.span.start));
    let text = std::str::from_utf8(files.get(path)?).ok()?.to_owned();
    (!own.is_empty()).then(|| own.into_iter().fold(text, |text, (knob, literal)| knob.turned(&text, literal)))
}

fn proposal(knobs: &[Knob], turns: &[(&Knob, String)], version: &str, known: usize) -> Proposal {
    let told: Vec<String> = turns
        .iter()
        .map(|(knob, literal)| format!("{} {} -> {literal}", knobs::label(knobs, knob), knob.literal))
        .collect();
    let mut families: Vec<&str> = turns.iter().map(|(knob, _)| knob.family.as_str()).collect();
    families.dedup();
    let family = if let [one] = families.as_slice() { (*one).to_owned() } else { "several knobs".to_owned() };
    let title = match told.as_slice() {
        [one] => one.clone(),
        [one, two] => format!("{one}, {two}"),
        [one, rest @ ..] => format!("{one} and {} more knobs", rest.len()),
        [] => String::new(),
    };
    Proposal {
        title,
        hypothesis: Some(format!(
            "Optuna {version} asks for this point after {known} trials: {}.",
            told.join(", ")
        )),
        family: Some(family),
        ..Proposal::default()
    }
}

#[cfg(test)]
mod tests;
