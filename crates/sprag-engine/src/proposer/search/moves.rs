//! What the ledger remembers of each knob, and which turns of it are left.

use std::collections::BTreeMap;

use crate::proposer::knobs::{Knob, Scale, number};
use crate::record::{TrialId, Verdict};
use crate::state::State;

/// A turn of a knob.
#[derive(Clone, Debug, PartialEq)]
pub struct Move {
    /// The new value as it will be written.
    pub literal: String,
    /// Towards larger numbers, or later choices.
    pub up: bool,
    /// 1 for the full step, less for the smaller ones.
    pub size: f64,
    /// The last turn of this knob won, in the same direction.
    pub follows_win: bool,
}

/// One trial of one knob.
#[derive(Clone, Debug)]
struct Try {
    trial: TrialId,
    from: String,
    to: String,
    won: bool,
    sigmas: f64,
}

/// Trials of knobs, by the label that their titles begin with.
#[derive(Default)]
pub struct Memory {
    tries: BTreeMap<String, Vec<Try>>,
}

/// Full step and smaller step, as factors on a logarithmic scale ...
const FACTORS: [f64; 2] = [2.0, 1.4];
/// ... and as parts of the range on a linear one.
const PARTS: [f64; 2] = [0.2, 0.1];

impl Memory {
    /// Reads titles of the form `NAME old -> new` from the ledger. A turn that was taken back says nothing.
    pub fn of(state: &State) -> Memory {
        let mut memory = Memory::default();
        for trial in state.trials.iter().filter(|trial| !trial.undone) {
            let (Some(proposed), Some(verdict)) = (&trial.proposed, &trial.verdict) else { continue };
            let Some((label, from, to)) = parse_title(&proposed.title) else { continue };
            let sigmas = trial.effect().map_or(-1.0, |effect| effect.shrunken_sigmas());
            let won = matches!(verdict, Verdict::Win(_));
            let entry = Try { trial: trial.id, from: from.to_owned(), to: to.to_owned(), won, sigmas };
            memory.tries.entry(label.to_owned()).or_default().push(entry);
        }
        memory
    }

    fn of_knob(&self, label: &str) -> &[Try] {
        self.tries.get(label).map_or(&[], Vec::as_slice)
    }

    /// How often a knob was turned.
    pub fn tries(&self, label: &str) -> usize {
        self.of_knob(label).len()
    }

    /// How many of its turns did not win.
    pub fn refused(&self, label: &str) -> usize {
        self.of_knob(label).iter().filter(|entry| !entry.won).count()
    }

    /// The most that a turn of it gained, in sigma; 0 for a knob never turned.
    pub fn best(&self, label: &str) -> f64 {
        self.of_knob(label).iter().map(|entry| entry.sigmas).reduce(f64::max).unwrap_or(0.0)
    }

    /// The last turn of it, if it won: its trial, and the gain in sigma.
    pub fn last_win(&self, label: &str) -> Option<(TrialId, f64)> {
        self.of_knob(label).last().filter(|entry| entry.won).map(|entry| (entry.trial, entry.sigmas))
    }

    /// The turns of a knob that are left, the nearest refused or beaten value on either side being a wall.
    pub fn moves(&self, label: &str, knob: &Knob) -> Vec<Move> {
        match &knob.scale {
            Scale::Log { low, high } => match knob.value() {
                Some(value) if value > 0.0 => {
                    let targets = FACTORS.map(|factor| [value * factor, value / factor]);
                    self.numeric(label, knob, value, targets, (*low, *high))
                }
                _ => Vec::new(),
            },
            Scale::Linear { low, high } => match knob.value() {
                Some(value) => {
                    let targets =
                        PARTS.map(|part| [value + part * (high - low), value - part * (high - low)]);
                    self.numeric(label, knob, value, targets, (*low, *high))
                }
                None => Vec::new(),
            },
            Scale::Choice(choices) => self.choices(label, knob, choices),
        }
    }

    fn numeric(
        &self,
        label: &str,
        knob: &Knob,
        value: f64,
        targets: [[f64; 2]; 2],
        (low, high): (f64, f64),
    ) -> Vec<Move> {
        let (below, above) = self.walls(label, value);
        let mut moves: Vec<Move> = Vec::new();
        for (targets, size) in targets.into_iter().zip([1.0, 0.5]) {
            for target in targets {
                let rounded = round(target, value, &knob.scale).clamp(low, high);
                let literal = knob.literal_for(rounded);
                let Some(target) = number(&literal) else { continue };
                let inside = (low..=high).contains(&target) && below < target && target < above;
                // Less than a twentieth of the step asked for, at an end of the range, is not worth a trial.
                if !inside || target == value || (target - value).abs() < 0.05 * (rounded_step(targets)) {
                    continue;
                }
                if moves.iter().all(|other| other.literal != literal) {
                    let up = target > value;
                    moves.push(Move { literal, up, size, follows_win: self.follows_win(label, up, number) });
                }
            }
        }
        moves
    }

    /// The nearest values on either side that were refused, or that the present value has beaten.
    fn walls(&self, label: &str, value: f64) -> (f64, f64) {
        let lost = self.of_knob(label).iter().map(|entry| if entry.won { &entry.from } else { &entry.to });
        lost.filter_map(|literal| number(literal)).fold(
            (f64::NEG_INFINITY, f64::INFINITY),
            |(below, above), lost| match lost.total_cmp(&value) {
                std::cmp::Ordering::Less => (below.max(lost), above),
                std::cmp::Ordering::Greater => (below, above.min(lost)),
                std::cmp::Ordering::Equal => (below, above),
            },
        )
    }

    fn follows_win(&self, label: &str, up: bool, position: impl Fn(&str) -> Option<f64>) -> bool {
        let last = self.of_knob(label).last().filter(|entry| entry.won);
        last.and_then(|entry| Some(position(&entry.to)? > position(&entry.from)?))
            .is_some_and(|went_up| went_up == up)
    }

    /// Numbers among choices have an order: there, too, what lies behind a wall is not tried. Words have none.
    fn choices(&self, label: &str, knob: &Knob, choices: &[String]) -> Vec<Move> {
        let place = |literal: &str| choices.iter().position(|choice| choice == literal).map(|at| at as f64);
        let Some(own) = place(&knob.literal) else {
            return Vec::new();
        };
        let ordered = choices.iter().all(|choice| number(choice).is_some());
        let lost = |literal: &str| {
            self.of_knob(label)
                .iter()
                .any(|entry| (if entry.won { &entry.from } else { &entry.to }) == literal)
        };
        let (below, above) = match (ordered, knob.value()) {
            (true, Some(value)) => self.walls(label, value),
            _ => (f64::NEG_INFINITY, f64::INFINITY),
        };
        let mut moves = Vec::new();
        for (at, choice) in choices.iter().enumerate().filter(|(_, choice)| **choice != knob.literal) {
            let inside = !ordered || number(choice).is_some_and(|value| below < value && value < above);
            if inside && !lost(choice) {
                let distance = (at as f64 - own).abs();
                let up = at as f64 > own;
                // Neighbours first: here the full step is the near one.
                let follows_win = ordered && self.follows_win(label, up, place);
                moves.push(Move { literal: choice.clone(), up, size: 1.0 / distance, follows_win });
            }
        }
        moves
    }
}

fn rounded_step(targets: [f64; 2]) -> f64 {
    (targets[0] - targets[1]).abs() / 2.0
}

/// Rounds to what a person would write: two digits on a logarithmic scale, a fiftieth of the range or
/// finer on a linear one.
fn round(target: f64, value: f64, scale: &Scale) -> f64 {
    let step = match scale {
        Scale::Log { .. } => 10_f64.powf(target.abs().log10().floor() - 1.0),
        Scale::Linear { low, high } => 10_f64.powf(((high - low) / 20.0).log10().floor()),
        Scale::Choice(_) => return value,
    };
    // Dividing by a whole number keeps 0.3 from becoming 0.30000000000000004.
    let rounded = if step < 1.0 {
        (target / step).round() / (1.0 / step).round()
    } else {
        (target / step).round() * step
    };
    if rounded.is_finite() { rounded } else { target }
}

/// `NAME old -> new`
fn parse_title(title: &str) -> Option<(&str, &str, &str)> {
    let (left, to) = title.split_once(" -> ")?;
    let (label, from) = left.split_once(' ')?;
    Some((label, from, to))
}
