//! The answer of a model: its schema, how it is read, and what is said of one that cannot be used.

use std::path::Path;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::edits::{self, Edit};
use super::wire::Reply;
use crate::proposer::Brief;
use crate::proposer::answer::{Answer, IdeaRef};
use crate::proposer::brief::quote;

/// What a model answers.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct ChatAnswer {
    /// What you expect, and why.
    #[serde(default)]
    hypothesis: Option<String>,
    /// One line: what changes.
    #[serde(default)]
    title: Option<String>,
    /// The kind of idea, for example `learning rate`.
    #[serde(default)]
    family: Option<String>,
    /// The gain that you expect, in units of the metric, positive when better.
    #[serde(default)]
    expected_gain: Option<f64>,
    /// What the last decided trial taught, in at most two sentences.
    #[serde(default)]
    lesson: Option<String>,
    /// The number of the open idea that this tries.
    #[serde(default)]
    idea: Option<usize>,
    /// The changes, in order.
    #[serde(default)]
    edits: Vec<Edit>,
    /// Why nothing is left to propose.
    #[serde(default)]
    exhausted: Option<String>,
}

/// Why an answer cannot be used, in words for the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unusable(String);

impl Unusable {
    pub(super) fn new(problem: impl Into<String>) -> Unusable {
        Unusable(problem.into())
    }

    /// For the ledger.
    pub(super) fn first_line(&self) -> &str {
        self.0.lines().next().unwrap_or_default()
    }

    /// For the model.
    pub(super) fn complaint(&self) -> String {
        format!("{}\n\nNothing was changed. Answer again with the whole object and all of its edits.", self.0)
    }
}

/// Schema of the answer. Every key is required, because the strict mode of some servers wants that; what may be missing
/// may be null.
pub(super) fn schema() -> Value {
    let mut settings = SchemaSettings::draft2020_12().for_serialize();
    settings.inline_subschemas = true;
    let mut schema = settings.into_generator().into_root_schema_for::<ChatAnswer>().to_value();
    plain(&mut schema);
    schema
}

/// Takes out what only some servers know.
fn plain(schema: &mut Value) {
    match schema {
        Value::Object(keys) => {
            for name in ["$schema", "title", "format", "default"] {
                // A property may have the same name, and is an object.
                if keys.get(name).is_some_and(|value| !value.is_object()) {
                    keys.remove(name);
                }
            }
            keys.remove("minimum");
            keys.values_mut().for_each(plain);
        }
        Value::Array(items) => items.iter_mut().for_each(plain),
        _ => {}
    }
}

impl ChatAnswer {
    /// Reads it out of what a model said: the object, whatever stands around it.
    pub(super) fn read(reply: &Reply) -> Result<ChatAnswer, Unusable> {
        reply.whole()?;
        let text = reply.text();
        // What a model thought aloud before is no part of the answer.
        let answer = text.rsplit_once("</think>").map_or(text.as_str(), |(_, answer)| answer);
        let (Some(from), Some(to)) = (answer.find('{'), answer.rfind('}')) else {
            return Err(Unusable::new("The answer holds no JSON object."));
        };
        let object = answer.get(from..=to).unwrap_or_default();
        serde_json::from_str(object)
            .map_err(|cause| Unusable::new(format!("The answer is not JSON as the schema says: {cause}.")))
    }

    /// Writes its edits into the worktree: all of them, or none.
    pub(super) fn carry_out(self, brief: &Brief<'_>) -> Result<ChatAnswer, Unusable> {
        if let Some(why) = &self.exhausted {
            let why = quote::line(why, 200);
            return Err(Unusable::new(format!(
                "You said that nothing is left to try ({why}); find another family of ideas."
            )));
        }
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
        Ok(self)
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
            exhausted: None,
        }
    }
}

fn write(path: &Path, text: &str) -> std::io::Result<()> {
    path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
    std::fs::write(path, text)
}
