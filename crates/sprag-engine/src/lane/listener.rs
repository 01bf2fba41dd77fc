//! What the lane hears of an execution: passed on to the caller, who may stop it, and kept in case it does.

use std::collections::BTreeMap;

use sprag_measure::process::Cancel;

use super::{MeasureEnd, Sign, Watch};
use crate::event::Progress;
use crate::record::Budget;

/// Most points of a curve that are kept: one for each part of the budget.
const POINTS: f64 = 200.0;

/// Between an execution and its caller.
pub(super) struct Listener<'a> {
    watch: &'a mut dyn FnMut(Sign) -> Watch,
    /// Asked when the caller or a person stops the execution.
    pub(super) stop: Cancel,
    /// The budget's amount, in its own unit.
    amount: f64,
    stopped: bool,
    facts: BTreeMap<String, f64>,
    curve: Vec<[f64; 2]>,
}

impl<'a> Listener<'a> {
    /// `kill` stops the execution, too.
    pub(super) fn new(
        watch: &'a mut dyn FnMut(Sign) -> Watch,
        budget: Budget,
        kill: &Cancel,
    ) -> Listener<'a> {
        let amount = budget.amount();
        let (facts, curve) = (BTreeMap::new(), Vec::new());
        Listener { watch, stop: kill.below(), amount, stopped: false, facts, curve }
    }

    /// Passes a sign on. A caller who stopped the execution is not told any more.
    pub(super) fn tell(&mut self, sign: Sign) {
        if self.stopped {
            return;
        }
        if let Sign::Progress(progress) = &sign {
            self.keep(progress);
        }
        if (self.watch)(sign) == Watch::Stop {
            self.stopped = true;
            self.stop.cancel();
        }
    }

    /// How the execution ended, if the caller stopped it; `measured` is known of it besides.
    pub(super) fn end(&self, measured: impl IntoIterator<Item = (String, f64)>) -> Option<MeasureEnd> {
        let mut facts = self.facts.clone();
        facts.extend(measured);
        self.stopped.then(|| MeasureEnd::Stopped { facts, curve: self.curve.clone() })
    }

    fn keep(&mut self, progress: &Progress) {
        if progress.stage != Progress::TRAINING {
            return;
        }
        let facts = [
            ("train_seconds", progress.elapsed_seconds),
            ("steps", progress.step.map(|step| step as f64)),
            ("train_tokens", progress.tokens.map(|tokens| tokens as f64)),
        ];
        let facts = facts.into_iter().filter_map(|(name, fact)| Some((name.to_owned(), fact?)));
        self.facts.extend(facts.filter(|(_, fact)| fact.is_finite()));
        let loss = progress.mean_loss.or(progress.loss).filter(|loss| loss.is_finite());
        if let (Some(fraction), Some(loss)) = (progress.fraction, loss) {
            let x = fraction.clamp(0.0, 1.0) * self.amount;
            if self.curve.last().is_none_or(|last| x - last[0] >= self.amount / POINTS) {
                self.curve.push([x, loss]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_is_in_the_budgets_unit_and_of_bounded_length() {
        let mut watch = |_| Watch::GoOn;
        let mut listener = Listener::new(&mut watch, Budget::Tokens(1000), &Cancel::default());
        let mut tell = |stage: &str, fraction: f64| {
            let stage = stage.to_owned();
            let (fraction, loss, step) = (Some(fraction), Some(3.0), Some(7));
            listener.tell(Sign::Progress(Progress { stage, fraction, loss, step, ..Progress::default() }));
        };
        tell("start", 0.0);
        (0..=10_000).for_each(|point| tell(Progress::TRAINING, f64::from(point) / 10_000.0));
        tell("evaluate", 0.5);
        assert!((190..=201).contains(&listener.curve.len()), "{} points", listener.curve.len());
        assert_eq!((listener.curve[0], listener.facts["steps"]), ([0.0, 3.0], 7.0));
        assert!(listener.curve.iter().all(|point| (0.0..=1000.0).contains(&point[0])));
        assert_eq!(listener.end([]), None, "nobody stopped it");
    }

    #[test]
    fn whoever_stopped_an_execution_is_not_told_any_more() {
        let mut told = 0;
        let mut watch = |_| {
            told += 1;
            Watch::Stop
        };
        let kill = Cancel::default();
        let mut listener = Listener::new(&mut watch, Budget::Seconds(1.0), &kill);
        (0..3).for_each(|_| listener.tell(Sign::Output("a line".to_owned())));
        assert!(listener.stop.is_cancelled() && !kill.is_cancelled());
        let facts = BTreeMap::from([("wall_seconds".to_owned(), 0.5)]);
        let end = listener.end(facts.clone());
        assert_eq!(end, Some(MeasureEnd::Stopped { facts, curve: Vec::new() }));
        assert_eq!(told, 1);
    }
}
