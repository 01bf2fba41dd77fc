//! A proposal as a model or another program offers it: words and edits in one object.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Brief;
use super::answer::{Answer, IdeaRef};
use super::brief::quote;
use super::edits::{self, Edit};

/// What is offered.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Offer {
    /// What you expect, and why.
    #[serde(default)]
    pub hypothesis: Option<String>,
    /// One line: what changes.
    #[serde(default)]
    pub title: Option<String>,
    /// The kind of idea, for example `learning rate`.
    #[serde(default)]
    pub family: Option<String>,
    /// The gain that you expect, in units of the metric, positive when better.
    #[serde(default)]
    pub expected_gain: Option<f64>,
    /// What the last decided trial taught, in at most two sentences.
    #[serde(default)]
    pub lesson: Option<String>,
    /// The number of the open idea that this tries.
    #[serde(default)]
    pub idea: Option<usize>,
    /// The changes, in order.
    #[serde(default)]
    pub edits: Vec<Edit>,
    /// Why nothing is left to propose.
    #[serde(default)]
    pub exhausted: Option<String>,
}

/// Why an offer cannot be used, in words for whoever made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unusable(pub String);

impl Unusable {
    pub(super) fn new(problem: impl Into<String>) -> Unusable {
        Unusable(problem.into())
    }

    /// For the ledger.
    pub(super) fn first_line(&self) -> &str {
        self.0.lines().next().unwrap_or_default()
    }
}

impl Offer {
    /// Writes its edits into the worktree: all of them, or none.
    pub(super) fn carry_out(&self, brief: &Brief<'_>) -> Result<(), Unusable> {
        // Whoever was asked to think its own proposal over may let it stand.
        if self.edits.is_empty() && brief.note.is_none() {
            return Err(Unusable::new("There is no edit in the answer."));
        }
        let mutable = |path: &str| brief.task.files.is_mutable(path);
        let files = edits::carry_out(&self.edits, brief.worktree, &mutable).map_err(Unusable)?;
        for (path, text) in files {
            write(&brief.worktree.join(&path), &text)
                .map_err(|cause| Unusable::new(format!("write {path}: {cause}")))?;
        }
        Ok(())
    }

    /// The problem with an offer of nothing: there is always another family of ideas.
    pub(super) fn gives_up(&self) -> Result<(), Unusable> {
        let Some(why) = &self.exhausted else { return Ok(()) };
        let why = quote::line(why, 200);
        Err(Unusable::new(format!(
            "You said that nothing is left to try ({why}); find another family of ideas."
        )))
    }

    /// The same words as those of a program that proposes.
    pub(super) fn into_answer(self) -> Answer {
        Answer {
            title: self.title,
            hypothesis: self.hypothesis,
            family: self.family,
            expected_gain: self.expected_gain,
            lesson: self.lesson,
            idea: self.idea.map(IdeaRef::Number),
            exhausted: self.exhausted,
        }
    }
}

fn write(path: &Path, text: &str) -> std::io::Result<()> {
    path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
    std::fs::write(path, text)
}
