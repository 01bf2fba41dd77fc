//! The guesses while they are collected: whoever fills a place first has it.

use super::contract::{Guard, Metric, MetricSource};
use super::guess::{Confidence, Guess};
use super::tree::Tree;
use super::{Wishes, metric};
use crate::record::{Budget, Direction};

/// What is known so far.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub name: Option<Guess<String>>,
    pub mutable: Option<Guess<Vec<String>>>,
    pub fixed: Option<Guess<Vec<String>>>,
    pub command: Option<Guess<String>>,
    pub metric: Option<Guess<Metric>>,
    pub direction: Option<Guess<Direction>>,
    pub budget: Option<Guess<Budget>>,
    pub timeout: Option<Guess<f64>>,
    pub guards: Vec<Guess<Guard>>,
    /// Variables that another loop sets for its runs.
    pub env: Vec<Guess<(String, String)>>,
    /// A place that is empty because several values would fit.
    pub commands: Vec<Guess<String>>,
    pub metrics: Vec<Guess<Metric>>,
    pub mutables: Vec<Guess<Vec<String>>>,
    pub warnings: Vec<String>,
}

/// Fills an empty place.
pub(super) fn settle<T>(place: &mut Option<Guess<T>>, guess: Option<Guess<T>>) {
    if place.is_none() {
        *place = guess;
    }
}

impl Draft {
    /// What the person wishes.
    pub fn of(wishes: &Wishes, tree: &Tree) -> Draft {
        let listed =
            |paths: &[String], flag: &str| (!paths.is_empty()).then(|| Guess::told(paths.to_vec(), flag));
        Draft {
            mutable: listed(&wishes.mutable, "--mutable"),
            fixed: listed(&wishes.fixed, "--fixed"),
            command: wishes.run.clone().map(|run| Guess::told(run, "--run")),
            metric: wished_metric(wishes, tree),
            direction: wishes.direction.map(|direction| Guess::told(direction, "--direction")),
            budget: wishes.budget.map(|seconds| Guess::told(Budget::Seconds(seconds), "--budget")),
            ..Draft::default()
        }
    }
}

/// The metric as far as flags alone say where it is; a bare name is looked for later.
fn wished_metric(wishes: &Wishes, tree: &Tree) -> Option<Guess<Metric>> {
    let named = |default: &str| wishes.metric.clone().unwrap_or_else(|| default.to_owned());
    if wishes.wall_time {
        let metric = Metric { name: named("wall_seconds"), source: MetricSource::WallSeconds };
        return Some(Guess::told(metric, "--wall-time"));
    }
    if let Some((file, pointer)) = &wishes.result {
        let last = pointer.rsplit('/').next().unwrap_or_default();
        let source = MetricSource::Json { file: file.clone(), pointer: pointer.clone() };
        return Some(Guess::told(Metric { name: named(last), source }, "--result"));
    }
    if let Some(pattern) = &wishes.pattern {
        let metric =
            Metric { name: named(metric::word_in(pattern)), source: MetricSource::Pattern(pattern.clone()) };
        return Some(Guess::told(metric, "--pattern"));
    }
    let name = wishes.metric.as_ref()?;
    let mut printed = metric::printed(tree, |_| true);
    printed.retain(|guess| guess.value.name == *name);
    Some(match printed.into_iter().next() {
        Some(found) => {
            Guess { confidence: Confidence::Told, why: format!("--metric names it; {}", found.why), ..found }
        }
        None => {
            let metric =
                Metric { name: name.clone(), source: MetricSource::Pattern(metric::plain_pattern(name)) };
            Guess::new(
                metric,
                Confidence::Assumed,
                "--metric names it, and no file shows how it is printed: a line `NAME: number` or \
                 `NAME=number` is assumed",
            )
        }
    })
}
