//! Records of other loops, as typed entries: karpathy's `results.tsv`, and the JSON lines of pi-autoresearch and
//! codex-autoresearch.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::gate::replay::{self, ReplayError};

/// What another loop recorded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Foreign {
    /// Version of this form.
    pub format: u32,
    /// Name of the file it came from.
    pub source: String,
    /// Name of the metric, as it was recorded.
    pub metric: String,
    /// One a result, in order.
    pub entries: Vec<Entry>,
}

/// One recorded experiment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Short commit, or whatever stands in its place.
    pub commit: String,
    /// How it ended.
    pub status: Status,
    /// Its score; a crash has none, whatever number stands there.
    pub score: Option<f64>,
    /// What was tried.
    pub description: String,
}

/// How an experiment ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It was kept.
    Keep,
    /// It was not better.
    Discard,
    /// It had no score.
    Crash,
    /// It had a score, and the checks failed.
    ChecksFailed,
}

impl Status {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Status::Keep => "keep",
            Status::Discard => "discard",
            Status::Crash => "crash",
            Status::ChecksFailed => "checks failed",
        }
    }
}

/// Why a record cannot be read.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ForeignError {
    /// It is no results.tsv.
    #[error(transparent)]
    Rows(#[from] ReplayError),
    /// A line is no JSON.
    #[error("line {line}: {cause}")]
    Json {
        /// Line, from 1.
        line: usize,
        /// What is wrong with it.
        cause: String,
    },
    /// There is no line with a result.
    #[error("no line records an experiment: none has a number `run`")]
    Empty,
}

impl ForeignError {
    /// What to do next.
    pub fn hint(&self) -> &'static str {
        match self {
            ForeignError::Rows(error) => error.hint(),
            ForeignError::Json { .. } | ForeignError::Empty => {
                "name a results.tsv with karpathy's five columns, or a log.jsonl with one JSON object a line"
            }
        }
    }
}

/// Reads a record; which form it has is told by its first letter.
///
/// # Errors
/// What is wrong first, with its line.
pub fn read(source: &str, text: &str) -> Result<Foreign, ForeignError> {
    let json = text.trim_start_matches('\u{feff}').trim_start().starts_with('{');
    let (metric, entries) = if json { log(text)? } else { rows(text)? };
    Ok(Foreign { format: 1, source: source.to_owned(), metric, entries })
}

fn rows(text: &str) -> Result<(String, Vec<Entry>), ForeignError> {
    let results = replay::parse(text)?;
    let entries = results.rows.into_iter().map(|row| {
        let (status, score) = match row.status {
            replay::Status::Keep(score) => (Status::Keep, Some(score)),
            replay::Status::Discard(score) => (Status::Discard, Some(score)),
            replay::Status::Crash => (Status::Crash, None),
        };
        Entry { commit: row.commit, status, score, description: row.description }
    });
    Ok((results.metric, entries.collect()))
}

/// One JSON object a line: `config` lines name the metric, lines with a number `run` are results, and others are
/// about hooks.
fn log(text: &str) -> Result<(String, Vec<Entry>), ForeignError> {
    let (mut metric, mut entries) = ("metric".to_owned(), Vec::new());
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let value: Value = serde_json::from_str(line)
            .map_err(|cause| ForeignError::Json { line: index + 1, cause: cause.to_string() })?;
        if value["type"] == "config" {
            metric = value["metricName"].as_str().unwrap_or(&metric).to_owned();
        } else if value["run"].is_number() {
            entries.push(entry(&value));
        }
    }
    if entries.is_empty() { Err(ForeignError::Empty) } else { Ok((metric, entries)) }
}

fn entry(value: &Value) -> Entry {
    let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
    let status = match value["status"].as_str() {
        Some("discard") => Status::Discard,
        Some("crash") => Status::Crash,
        Some("checks_failed") => Status::ChecksFailed,
        _ => Status::Keep,
    };
    let score = value["metric"].as_f64().filter(|_| status != Status::Crash);
    Entry { commit: text("commit"), status, score, description: text("description") }
}
