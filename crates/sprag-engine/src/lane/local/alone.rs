//! Runs without an evaluator: the candidate tells its own number, or its end or its time is the number. Guard
//! commands are such runs, too.

use std::path::Path;

use sprag_measure::process::{Command, End, Finished, Limits};

use super::reading::{Left, Reading, json_value};
use super::{Execution, Local, classify, facts_of, with_tail};
use crate::evaluator::is_score;
use crate::event::Phase;
use crate::lane::listener::Listener;
use crate::lane::{LaneError, Sign};
use crate::record::{Invalid, Outcome, Reason, Score};
use crate::sandbox::{Policy, setup_error};
use crate::task::{Probe, Source, Values};

impl Local {
    /// The candidate alone.
    pub(super) fn measure_alone(
        &self,
        candidate: Command,
        limits: &Limits,
        smoke: bool,
        left: &Left<'_>,
        reading: &mut Reading<'_>,
        listener: &mut Listener<'_>,
    ) -> Result<Execution, LaneError> {
        let finished = self.run_alone(candidate, limits, reading, listener)?;
        let cpu = finished.cpu;
        if !self.ends_by_a_score(&finished)
            && let Some(end) = self.without_score(&finished, listener)
        {
            return Ok(Execution { end, cpu });
        }
        if smoke {
            return Ok(Execution::done(Outcome::Passed, cpu));
        }
        let source = &self.task.metric.source;
        let outcome = match value(source, &finished, left, reading) {
            Ok(value) if is_score(value) => {
                let mut score = Score { value, self_reported: source.is_self_reported(), ..Score::default() };
                score.facts.extend(facts_of(&finished));
                Outcome::Scored(score)
            }
            Ok(value) => {
                let detail = format!("it reports {value}, which is no score");
                Outcome::Invalid(Invalid::new(Reason::NonFinite, detail))
            }
            Err(detail) => Outcome::Invalid(Invalid::new(Reason::NoMetric, with_tail(detail, &finished))),
        };
        Ok(Execution::done(outcome, cpu))
    }

    /// True when the status by which it ended is its score.
    fn ends_by_a_score(&self, finished: &Finished) -> bool {
        matches!(self.task.metric.source, Source::ExitCode)
            && matches!(finished.end, End::Exited(_))
            && setup_error(finished).is_none()
            && !self.kill.is_cancelled()
    }

    /// Every command among the guards, in the order of their names, until one does not pass.
    pub(super) fn guard_commands(
        &self,
        values: &Values,
        tree: &Path,
        policy: &Policy,
        limits: &Limits,
        listener: &mut Listener<'_>,
    ) -> Result<Outcome, LaneError> {
        listener.tell(Sign::Phase(Phase::Guard));
        for guard in &self.task.guards {
            let Probe::Command(words) = &guard.probe else { continue };
            let command = self.confine(self.command(words, &self.task.run.env, values, tree)?, policy);
            let finished = self.run_alone(command, limits, &mut Reading::new(&self.task), listener)?;
            if self.kill.is_cancelled() {
                return Ok(Outcome::Interrupted);
            }
            if let Some(Invalid { detail, .. }) = classify(&finished) {
                let detail = format!("guard `{}` does not pass: {detail}", guard.name);
                return Ok(Outcome::Invalid(Invalid::new(Reason::Guard, detail)));
            }
        }
        Ok(Outcome::Passed)
    }
}

fn value(
    source: &Source,
    finished: &Finished,
    left: &Left<'_>,
    reading: &Reading<'_>,
) -> Result<f64, String> {
    match source {
        Source::Pattern(pattern) => match reading.found() {
            None => Err(format!("no line of its output matches `{}`", pattern.as_str())),
            Some(text) => text.parse().map_err(|_| format!("`{text}` is no number")),
        },
        Source::Json(json) => json_value(json, left),
        Source::ExitCode => match finished.end {
            End::Exited(code) => Ok(f64::from(code)),
            end => Err(format!("it {end}")),
        },
        Source::WallSeconds => Ok(finished.wall.as_secs_f64()),
        Source::Evaluator => Err("the evaluator was not asked".to_owned()),
    }
}
