//! A guess with what speaks for it.

use std::fmt;

use serde::Serialize;

/// How sure a guess is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Confidence {
    /// Nothing speaks for it; it is what Sprag does where nothing is said.
    Assumed,
    /// Found by its form or by the custom of such projects.
    Likely,
    /// The repository says so, in a format that is known.
    Stated,
    /// The person said so.
    Told,
}

impl Confidence {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Confidence::Assumed => "assumed",
            Confidence::Likely => "likely",
            Confidence::Stated => "stated",
            Confidence::Told => "told",
        }
    }
}

/// A line of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Evidence {
    /// The file, relative to the repository.
    pub path: String,
    /// The line, from 1.
    pub line: usize,
}

impl Evidence {
    /// That line of that file.
    pub fn new(path: &str, line: usize) -> Evidence {
        Evidence { path: path.to_owned(), line }
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.path, self.line)
    }
}

/// A value with what speaks for it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Guess<T> {
    /// The value.
    pub value: T,
    /// How sure it is.
    pub confidence: Confidence,
    /// Where it stands.
    pub evidence: Vec<Evidence>,
    /// Why, as the end of "this, because".
    pub why: String,
}

impl<T> Guess<T> {
    pub fn new(value: T, confidence: Confidence, why: impl Into<String>) -> Guess<T> {
        Guess { value, confidence, evidence: Vec::new(), why: why.into() }
    }

    pub fn told(value: T, flag: &str) -> Guess<T> {
        Guess::new(value, Confidence::Told, format!("{flag} says so"))
    }

    pub fn stated(value: T, evidence: Evidence, why: impl Into<String>) -> Guess<T> {
        Guess::new(value, Confidence::Stated, why).seen(evidence)
    }

    pub fn likely(value: T, evidence: Evidence, why: impl Into<String>) -> Guess<T> {
        Guess::new(value, Confidence::Likely, why).seen(evidence)
    }

    /// Another value for the same reasons.
    pub fn with<U>(&self, value: U) -> Guess<U> {
        let (confidence, evidence, why) = (self.confidence, self.evidence.clone(), self.why.clone());
        Guess { value, confidence, evidence, why }
    }

    pub fn seen(mut self, evidence: Evidence) -> Guess<T> {
        if !self.evidence.contains(&evidence) {
            self.evidence.push(evidence);
        }
        self
    }

    /// The reason for a key of `task.toml`, with the value as people read it.
    pub fn reason(&self, key: &'static str, value: impl Into<String>) -> Reason {
        Reason {
            key,
            value: value.into(),
            confidence: self.confidence,
            evidence: self.evidence.clone(),
            why: self.why.clone(),
        }
    }
}

/// Why a key of `task.toml` is what it is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Reason {
    /// The key, dotted.
    pub key: &'static str,
    /// Its value, for people.
    pub value: String,
    /// How sure it is.
    pub confidence: Confidence,
    /// Lines that say so.
    pub evidence: Vec<Evidence>,
    /// Why.
    pub why: String,
}

impl Reason {
    /// The reason in one sentence, with its evidence and how sure it is.
    pub fn sentence(&self) -> String {
        let places: Vec<String> = self.evidence.iter().map(Evidence::to_string).collect();
        let places = if places.is_empty() { String::new() } else { format!("{}; ", places.join(", ")) };
        let mut letters = self.why.chars();
        let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
        format!("{first}{} [{places}{}]", letters.as_str(), self.confidence.word())
    }
}
