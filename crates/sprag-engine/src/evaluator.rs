//! What an evaluator says, one JSON object a line on its standard output.
//!
//! Any language can write one; the messages are documented in `docs/format.md`. Starting it belongs to `lane`.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::event::Progress;
use crate::record::{Invalid, Outcome, Reason, Score};

/// One message.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Message {
    /// Where it stands.
    Progress(Progress),
    /// The score.
    Score {
        /// The primary metric.
        value: f64,
        /// Other numbers.
        #[serde(default)]
        facts: BTreeMap<String, f64>,
        /// Training curve.
        #[serde(default)]
        curve: Vec<[f64; 2]>,
        /// Optimiser steps at each point of the curve; none where they are not known.
        #[serde(default)]
        curve_steps: Vec<f64>,
    },
    /// A smoke test went well.
    Passed,
    /// No score.
    Invalid {
        /// A [`Reason`] in snake case; an unknown word counts as `evaluator`.
        reason: String,
        /// What exactly.
        #[serde(default)]
        detail: String,
        /// Other numbers, as far as it came.
        #[serde(default)]
        facts: BTreeMap<String, f64>,
        /// Training curve, as far as it came.
        #[serde(default)]
        curve: Vec<[f64; 2]>,
    },
}

impl Message {
    /// Parses a line; `None` for anything that is not a message, which is then plain output.
    pub fn parse(line: &str) -> Option<Message> {
        let line = line.trim();
        if !line.starts_with('{') {
            return None;
        }
        serde_json::from_str(line).ok()
    }

    /// The outcome it stands for, if it is final.
    pub fn outcome(self) -> Option<Outcome> {
        match self {
            Message::Progress(_) => None,
            Message::Passed => Some(Outcome::Passed),
            Message::Score { value, .. } if !is_score(value) => {
                let detail = format!("the evaluator gave {value}, which is no score");
                Some(Outcome::Invalid(Invalid::new(Reason::NonFinite, detail)))
            }
            Message::Score { value, facts, curve, mut curve_steps } => {
                let points = curve.len();
                let (facts, curve) = finite(facts, curve);
                // Steps that do not belong to the points one by one say nothing.
                if curve.len() < points
                    || curve_steps.len() != points
                    || !curve_steps.iter().all(|step| step.is_finite())
                {
                    curve_steps.clear();
                }
                Some(Outcome::Scored(Score { value, facts, curve, curve_steps, self_reported: false }))
            }
            Message::Invalid { reason, detail, facts, curve } => {
                let known = serde_json::from_value(serde_json::Value::String(reason.clone()));
                let (reason, detail) = match known {
                    Ok(known) => (known, detail),
                    Err(_) => (Reason::Evaluator, format!("{reason}: {detail}")),
                };
                let (facts, curve) = finite(facts, curve);
                Some(Outcome::Invalid(Invalid { reason, detail, facts, curve }))
            }
        }
    }
}

/// Without what is no number.
fn finite(
    mut facts: BTreeMap<String, f64>,
    mut curve: Vec<[f64; 2]>,
) -> (BTreeMap<String, f64>, Vec<[f64; 2]>) {
    facts.retain(|_, fact| fact.is_finite());
    curve.retain(|[x, y]| x.is_finite() && y.is_finite());
    (facts, curve)
}

/// True for a number that can be compared: finite, and not so large that its square is not.
pub fn is_score(value: f64) -> bool {
    value.abs() < 1e100
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(line: &str) -> Option<Outcome> {
        Message::parse(line).and_then(Message::outcome)
    }

    #[test]
    fn a_score_comes_with_its_facts() {
        let line = r#"{"type":"score","value":1.25,"facts":{"val_tokens":64000},"curve":[[0.5,3.0]]}"#;
        let Some(Outcome::Scored(score)) = outcome(line) else { panic!("not a score") };
        assert_eq!((score.value, score.facts["val_tokens"], score.curve), (1.25, 64000.0, vec![[0.5, 3.0]]));
    }

    #[test]
    fn steps_that_do_not_belong_to_the_curves_points_are_dropped() {
        let steps = |steps: &str| {
            let line = format!(
                r#"{{"type":"score","value":1,"curve":[[0.5,3.0],[1.0,2.0]],"curve_steps":{steps}}}"#
            );
            let Some(Outcome::Scored(score)) = outcome(&line) else { panic!("not a score") };
            assert_eq!(score.curve.len(), 2);
            score.curve_steps
        };
        assert_eq!(steps("[1,2]"), [1.0, 2.0]);
        assert_eq!((steps("[]"), steps("[1]"), steps("[1,2,3]")), (Vec::new(), Vec::new(), Vec::new()));
    }

    #[test]
    fn reasons_are_known_words_and_others_are_the_evaluators() {
        let known = outcome(r#"{"type":"invalid","reason":"causality","detail":"row 3"}"#);
        assert!(matches!(known, Some(Outcome::Invalid(invalid)) if invalid.reason == Reason::Causality));
        let other = outcome(r#"{"type":"invalid","reason":"bad_mood"}"#);
        assert!(matches!(other, Some(Outcome::Invalid(invalid)) if invalid.reason == Reason::Evaluator));
    }

    #[test]
    fn what_was_seen_before_a_fault_is_kept() {
        let line = r#"{"type":"invalid","reason":"overtime","detail":"late","facts":{"train_seconds":23.5},"curve":[[0.5,3.0]]}"#;
        let Some(Outcome::Invalid(invalid)) = outcome(line) else { panic!("not invalid") };
        assert_eq!((invalid.facts["train_seconds"], invalid.curve), (23.5, vec![[0.5, 3.0]]));
    }

    #[test]
    fn noise_on_standard_output_is_no_message() {
        for line in
            ["", "loss 3.1", "{", "{}", r#"{"type":"score"}"#, r#"{"type":"score","value":null}"#, "[1]"]
        {
            assert_eq!(outcome(line), None, "{line}");
        }
    }
}
