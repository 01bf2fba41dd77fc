//! What a program or model says of its proposal: `proposal.json` beside the brief.
//!
//! All of it is optional and none of it is believed: what changed is read from the worktree.

use serde::Deserialize;

use super::hypotheses::Idea;
use super::{Brief, Declined, Proposal};

/// Name of the file beside the brief.
pub const FILE: &str = "proposal.json";

/// The answer, as it is written.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Answer {
    /// One line.
    pub title: Option<String>,
    /// What is expected, and why.
    pub hypothesis: Option<String>,
    /// The family of ideas.
    pub family: Option<String>,
    /// The gain that is expected, in units of the metric, positive when better.
    pub expected_gain: Option<f64>,
    /// What the last decided trial taught.
    pub lesson: Option<String>,
    /// The text of an open idea, or its number in the brief.
    pub idea: Option<IdeaRef>,
    /// Set when there is nothing left to propose: why.
    pub exhausted: Option<String>,
}

/// An idea of `hypotheses.md`.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum IdeaRef {
    /// Its number in the brief, from 1.
    Number(usize),
    /// Its text.
    Text(String),
}

/// Reads the answer. Where there is none, what was said of a proposal that is to be repaired holds for its repair.
pub fn read(brief: &Brief<'_>) -> Result<Answer, Declined> {
    let bytes = match std::fs::read(brief.brief_dir.join(FILE)) {
        Ok(bytes) => bytes,
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {
            return Ok(earlier(brief).unwrap_or_default());
        }
        Err(cause) => return Err(Declined::Failed(format!("read {FILE}: {cause}"))),
    };
    serde_json::from_slice(&bytes)
        .map_err(|cause| Declined::Failed(format!("{FILE} is not as the brief says: {cause}")))
}

impl Answer {
    /// The proposal that it describes; `open` are the ideas as the brief numbers them.
    pub fn into_proposal(self, brief: &Brief<'_>, open: &[Idea]) -> Result<Proposal, Declined> {
        if let Some(reason) = self.exhausted {
            return Err(Declined::Exhausted(one_line(&reason)));
        }
        let idea = self.idea.as_ref().and_then(|idea| find(idea, open)).or_else(|| {
            let named = [self.title.as_deref(), self.hypothesis.as_deref()];
            open.iter().find(|idea| named.contains(&Some(idea.text.as_str()))).map(|idea| idea.text.clone())
        });
        let filled = |text: Option<String>| text.map(|text| one_line(&text)).filter(|text| !text.is_empty());
        Ok(Proposal {
            title: filled(self.title).or_else(|| idea.clone()).unwrap_or_else(|| title_of(brief)),
            hypothesis: self.hypothesis.filter(|text| !text.trim().is_empty()),
            family: filled(self.family),
            idea,
            expected_gain: self.expected_gain.filter(|gain| gain.is_finite()),
            lesson: self.lesson.filter(|text| !text.trim().is_empty()),
        })
    }
}

fn find(idea: &IdeaRef, open: &[Idea]) -> Option<String> {
    match idea {
        IdeaRef::Number(number) => open.get(number.checked_sub(1)?).map(|idea| idea.text.clone()),
        IdeaRef::Text(text) => {
            open.iter().find(|idea| idea.text == text.trim()).map(|idea| idea.text.clone())
        }
    }
}

fn earlier(brief: &Brief<'_>) -> Option<Answer> {
    let proposed = brief.state.trial(brief.trial)?.proposed.clone().filter(|_| brief.repair.is_some())?;
    Some(Answer {
        title: Some(proposed.title),
        hypothesis: proposed.hypothesis,
        family: proposed.family,
        expected_gain: proposed.expected_gain,
        idea: proposed.idea.map(IdeaRef::Text),
        ..Answer::default()
    })
}

fn one_line(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(120) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line,
    }
}

/// What changed, for those who did not say: `src/train.rs`, `3 files`.
fn title_of(brief: &Brief<'_>) -> String {
    let parent = brief.state.trial(brief.trial).map(|trial| trial.parent.as_str()).unwrap_or_default();
    let changes = brief.repo.changes(brief.worktree, parent).unwrap_or_default();
    let paths: Vec<&str> = changes.iter().map(|change| change.path.as_str()).collect();
    match paths.as_slice() {
        [] => "no change".to_owned(),
        [one] => format!("change {one}"),
        [first, rest @ ..] => format!("change {first} and {} more", rest.len()),
    }
}
