//! How long things took, so how long they may take and whether there is time for them.

use std::time::Duration;

use super::Steps;
use crate::record::{Budget, Outcome, Purpose};
use crate::session::first_rung;

/// Part of a run's time that measuring the noise may take.
const NOISE_SHARE: f64 = 0.25;

impl Steps<'_> {
    /// Repeats of the baseline that fit into [`NOISE_SHARE`] of the run's time, once one was made.
    pub(super) fn affordable_repeats(&self) -> Option<u32> {
        let (limit, one) = (self.setup.max_seconds?, self.typical_measure(None)?);
        Some((NOISE_SHARE * limit / one) as u32)
    }

    /// A trial is not begun when it would probably end after the limit, nor a heat when its first rung would.
    pub(super) fn out_of_time(&self, heat: bool) -> bool {
        let Some(limit) = self.setup.max_seconds else { return false };
        let first = || self.longest_build().unwrap_or_default().as_secs_f64().min(30.0);
        let build = self.typical_build().unwrap_or_else(first);
        let needed = match first_rung(&self.state).filter(|_| heat) {
            None => build + self.typical_measure(None).unwrap_or(0.0),
            Some(budget) => {
                let run = self.typical_measure(Some(budget)).or_else(|| self.first_rung_seconds(budget));
                f64::from(self.setup.task.gate.race) * (build + run.unwrap_or(0.0))
            }
        };
        self.began.elapsed().as_secs_f64() + needed > limit
    }

    pub(super) fn longest_build(&self) -> Option<Duration> {
        let builds = self.state.trials.iter().flat_map(|trial| &trial.builds);
        builds.map(|build| build.seconds).reduce(f64::max).map(Duration::from_secs_f64)
    }

    /// Seconds of a build with everything around it built before: of the last candidate's. The baseline's says nothing
    /// of it.
    pub(super) fn typical_build(&self) -> Option<f64> {
        let candidates = self.state.trials.iter().filter(|trial| trial.id > 0).rev();
        candidates.filter_map(|trial| trial.builds.last()).map(|build| build.seconds).next()
    }

    pub(super) fn longest_baseline(&self) -> Option<Duration> {
        let runs = &self.state.trial(0)?.runs;
        let full = runs.iter().filter(|run| matches!(run.outcome, Some(Outcome::Scored(_))));
        full.map(|run| run.seconds).reduce(f64::max).map(Duration::from_secs_f64)
    }

    /// How long the longest execution under the second budget took.
    pub(super) fn longest_second(&self) -> Option<Duration> {
        let runs = self.state.runs().filter(|run| run.measure.purpose == Purpose::Second);
        let full = runs.filter(|run| matches!(run.outcome, Some(Outcome::Scored(_))));
        full.map(|run| run.seconds).reduce(f64::max).map(Duration::from_secs_f64)
    }

    /// Seconds of a measurement under that budget, `None` being the run's own, from the last one that was scored.
    pub(super) fn typical_measure(&self, budget: Option<Budget>) -> Option<f64> {
        let runs = self.state.trials.iter().rev().flat_map(|trial| trial.runs.iter().rev());
        let mut scored = runs.filter(|run| matches!(run.outcome, Some(Outcome::Scored(_))));
        scored.find(|run| run.measure.budget == budget).map(|run| run.seconds)
    }

    /// Seconds of a run of the first rung before there was one: start and evaluation take as long as in a full one.
    pub(super) fn first_rung_seconds(&self, budget: Budget) -> Option<f64> {
        let full = self.typical_measure(None)?;
        Some(match (self.setup.task.budget, budget) {
            (Budget::Seconds(whole), Budget::Seconds(part)) => (full - whole + part).max(0.0),
            _ => full,
        })
    }
}
