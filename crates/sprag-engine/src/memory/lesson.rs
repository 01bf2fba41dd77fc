//! The lesson of a trial: at most two sentences, by rule from its verdict, or in its proposer's own words.

use crate::record::{Effect, Verdict};
use crate::state::{State, Trial};

/// Longest lesson, in characters.
const LONGEST: usize = 300;

/// What a decided trial taught; `None` for the baseline and for trials that were rejected before they ran.
pub fn lesson(state: &State, trial: &Trial) -> Option<String> {
    let proposed = trial.proposed.as_ref().filter(|_| trial.id > 0)?;
    let title = cut(&proposed.title, 100);
    let first = match trial.verdict.as_ref()? {
        Verdict::Win(effect) => format!("{title}: kept, {}.", in_sigma(effect)),
        Verdict::Loss(effect) => format!("{title}: worse, {}.", in_sigma(effect)),
        Verdict::Inconclusive(effect) => format!("{title}: not shown to be better, {}.", in_sigma(effect)),
        Verdict::Raced(raced) => {
            format!("{title}: place {} of {} of its heat on a part of the budget.", raced.place, raced.of)
        }
        Verdict::Stopped { detail } => format!("{title}: stopped early, {}.", cut(detail, 80)),
        Verdict::Invalid(invalid) => format!("{title}: {}.", cut(&invalid.to_string(), 120)),
        Verdict::Baseline { .. } => return None,
    };
    let second = trial.effect().and_then(|effect| expectation(proposed.expected_gain?, &effect));
    let again = trial.again.and_then(|earlier| state.trial(earlier));
    let again = again.map(|earlier| format!("It is the change of trial {} again.", earlier.id));
    Some(cut_lesson(&[Some(first), second.or(again)].into_iter().flatten().collect::<Vec<_>>().join(" ")))
}

fn in_sigma(effect: &Effect) -> String {
    if effect.sigma <= 0.0 {
        return format!("by {:+.5}", effect.gain);
    }
    let [gain, low, high] = [effect.gain, effect.low, effect.high].map(|end| end / effect.sigma);
    format!("{gain:+.1} sigma [{low:+.1}, {high:+.1}]")
}

fn expectation(expected: f64, effect: &Effect) -> Option<String> {
    if effect.sigma <= 0.0 {
        return None;
    }
    let expected = expected / effect.sigma;
    let word = match (expected > 0.0) == (effect.gain > 0.0) {
        true => "the sign was right",
        false => "the sign was wrong",
    };
    Some(format!("Expected was {expected:+.1}: {word}."))
}

/// A lesson in a proposer's words: one line, at most two sentences and so many characters.
pub fn cut_lesson(text: &str) -> String {
    let line = cut(text, LONGEST);
    let mut ends = line.match_indices(['.', '!', '?']).filter(|(at, _)| line[at + 1..].starts_with(' '));
    let second = ends.nth(1).map(|(at, _)| at + 1);
    line[..second.unwrap_or(line.len())].to_owned()
}

fn cut(text: &str, most: usize) -> String {
    let plain: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let line = plain.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(most) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line,
    }
}
