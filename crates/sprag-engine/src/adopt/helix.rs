//! `helix.yaml` of VectorInstitute/helix: scope, command, pattern and direction are all stated there.

use super::contract::{Guard, Metric, MetricSource, Watched};
use super::draft::{Draft, settle};
use super::guess::{Evidence, Guess};
use super::metric::regex;
use super::tree::Tree;
use super::yaml::{self, Leaf};
use crate::record::{Budget, Direction, Limit, Side};

const FILE: &str = "helix.yaml";
/// What helix sets for the command.
const VARIABLE: &str = "HELIX_TIME_BUDGET";

/// Takes over what the file states.
pub(super) fn fill(draft: &mut Draft, tree: &Tree) {
    let Some(text) = tree.text(FILE) else { return };
    let leaves = match yaml::leaves(text) {
        Ok(leaves) => leaves,
        Err(cause) => {
            draft.warnings.push(format!("{FILE} is not read: {cause}"));
            return;
        }
    };
    let file = Helix { leaves };
    settle(&mut draft.name, file.one("name", |name| Some(name.to_owned()), "its `name`"));
    settle(&mut draft.mutable, file.list("scope.editable", "its `scope.editable`"));
    settle(&mut draft.fixed, file.list("scope.readonly", "its `scope.readonly`"));
    let command =
        file.one("metrics.evaluate.command", |text| Some(text.to_owned()), "its `evaluate.command`");
    settle(&mut draft.command, command);
    settle(&mut draft.metric, file.metric());
    settle(&mut draft.direction, file.one("metrics.primary.optimize", way, "its `metrics.primary.optimize`"));
    let seconds = |text: &str| text.parse::<f64>().ok().filter(|seconds| *seconds > 0.0);
    let seconds = file.one("metrics.evaluate.timeout_seconds", seconds, "its `timeout_seconds`");
    match (seconds, kept_by_program(tree)) {
        // Helix hands the number on, and such a program trains for so long: a limit of the same length would end it.
        (Some(seconds), Some(at)) => {
            let why = "helix hands its `timeout_seconds` to the program, which keeps that time itself";
            let handed = (VARIABLE.to_owned(), seconds.value.to_string());
            let both = Guess::stated((), at, why).seen(seconds.evidence[0].clone());
            settle(&mut draft.budget, Some(both.with(Budget::Seconds(seconds.value))));
            draft.env.push(both.with(handed));
        }
        (seconds, _) => settle(&mut draft.timeout, seconds),
    }
    let whole = |_: &str| Some(Budget::Evaluations(1));
    let why = "the command decides how much it does; one execution is one evaluation";
    settle(&mut draft.budget, file.one("metrics.evaluate.command", whole, why));
    draft.guards.extend(file.guard());
}

/// Where a program reads the time that helix allows it.
fn kept_by_program(tree: &Tree) -> Option<Evidence> {
    let read = regex(VARIABLE);
    let mut programs = tree.tracked().filter(|source| source.path.ends_with(".py"));
    programs.find_map(|source| Some(tree.find(&source.path, &read)?.0))
}

fn way(text: &str) -> Option<Direction> {
    match text {
        "minimize" => Some(Direction::Lower),
        "maximize" => Some(Direction::Higher),
        _ => None,
    }
}

struct Helix {
    leaves: Vec<Leaf>,
}

impl Helix {
    fn leaf(&self, keys: &str) -> Option<&Leaf> {
        self.leaves.iter().find(|leaf| leaf.keys == keys)
    }

    fn one<T>(&self, keys: &str, read: impl Fn(&str) -> Option<T>, why: &str) -> Option<Guess<T>> {
        let leaf = self.leaf(keys)?;
        Some(Guess::stated(read(&leaf.value)?, Evidence::new(FILE, leaf.line), why))
    }

    fn list(&self, keys: &str, why: &str) -> Option<Guess<Vec<String>>> {
        let items: Vec<&Leaf> = self.leaves.iter().filter(|leaf| leaf.keys == keys).collect();
        let first = items.first()?;
        let paths = items.iter().map(|leaf| leaf.value.trim_start_matches("./").to_owned()).collect();
        Some(Guess::stated(paths, Evidence::new(FILE, first.line), why))
    }

    fn metric(&self) -> Option<Guess<Metric>> {
        let name = self.leaf("metrics.primary.name")?;
        let pattern = self.leaf("metrics.evaluate.patterns.primary")?;
        let source = MetricSource::Pattern(pattern.value.clone());
        let metric = Metric { name: name.value.clone(), source };
        let guess = Guess::stated(
            metric,
            Evidence::new(FILE, name.line),
            "its `metrics.primary` and `patterns.primary`",
        );
        Some(guess.seen(Evidence::new(FILE, pattern.line)))
    }

    /// `max_degradation` is relative, 0.01 unless written.
    fn guard(&self) -> Option<Guess<Guard>> {
        let name = self.leaf("metrics.quality_guard.name")?;
        let pattern = self.leaf("metrics.evaluate.patterns.quality_guard")?;
        let better = way(&self.leaf("metrics.quality_guard.optimize")?.value)?;
        let worse = self.leaf("metrics.quality_guard.max_degradation");
        let worse = worse.and_then(|leaf| leaf.value.parse::<f64>().ok()).unwrap_or(0.01);
        let limit = Some(match better {
            Direction::Lower => Limit::times_incumbent(Side::AtMost, 1.0 + worse),
            Direction::Higher => Limit::times_incumbent(Side::AtLeast, 1.0 - worse),
        });
        let guard =
            Guard { name: name.value.clone(), watched: Watched::Pattern(pattern.value.clone()), limit };
        Some(Guess::stated(
            guard,
            Evidence::new(FILE, name.line),
            "its `quality_guard` with `max_degradation`",
        ))
    }
}
