//! A TOML document whose every complaint names line, column and key.
//!
//! Knows nothing of tasks; the keys and their meaning belong to `parse`.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// What is wrong with a task.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// A file cannot be read.
    #[error("cannot read {}: {cause}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// `task.toml` says something that it may not.
    #[error("task.toml:{line}:{column}: {}{problem}", key_prefix(key))]
    Invalid {
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
        /// Dotted name of the key, empty where there is none.
        key: String,
        /// Cause and next step.
        problem: String,
    },
    /// The files do not fit the contract.
    #[error("{0}")]
    Files(String),
}

fn key_prefix(key: &str) -> String {
    if key.is_empty() { String::new() } else { format!("`{key}`: ") }
}

impl TaskError {
    pub(crate) fn read(path: &Path, cause: std::io::Error) -> TaskError {
        TaskError::Read { path: path.to_owned(), cause }
    }
}

/// A document: its text is kept to turn places into lines.
#[derive(Clone, Copy)]
pub(super) struct Document<'a> {
    text: &'a str,
}

/// A table of the document and its dotted name.
pub(super) struct Section<'a> {
    document: Document<'a>,
    name: String,
    span: Range<usize>,
    table: &'a DeTable<'a>,
}

/// A value of the document.
#[derive(Clone)]
pub(super) struct Entry<'a> {
    document: Document<'a>,
    key: String,
    value: &'a Spanned<DeValue<'a>>,
}

/// Parses the text; the caller keeps the tree that [`Section`]s look into.
pub(super) fn tree(text: &str) -> Result<Spanned<DeTable<'_>>, TaskError> {
    DeTable::parse(text).map_err(|cause| {
        let span = cause.span().unwrap_or(0..0);
        Document { text }.error(&span, "", cause.message().trim().replace('\n', ", "))
    })
}

impl<'a> Document<'a> {
    fn error(&self, span: &Range<usize>, key: &str, problem: impl Into<String>) -> TaskError {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        TaskError::Invalid {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            key: key.to_owned(),
            problem: problem.into(),
        }
    }
}

impl<'a> Section<'a> {
    pub(super) fn root(text: &'a str, tree: &'a Spanned<DeTable<'a>>) -> Section<'a> {
        Section { document: Document { text }, name: String::new(), span: 0..0, table: tree.get_ref() }
    }

    fn key(&self, name: &str) -> String {
        if self.name.is_empty() { name.to_owned() } else { format!("{}.{name}", self.name) }
    }

    /// Refuses keys that are not in `known`, naming the nearest.
    pub(super) fn allow(&self, known: &[&str]) -> Result<(), TaskError> {
        for key in self.table.keys() {
            let name: &str = key.get_ref();
            if !known.contains(&name) {
                let problem = match nearest(name, known.iter().copied()) {
                    Some(near) => format!("unknown key; did you mean `{near}`?"),
                    None => format!("unknown key; known here: {}", known.join(", ")),
                };
                return Err(self.document.error(&key.span(), &self.key(name), problem));
            }
        }
        Ok(())
    }

    /// A complaint about the section itself.
    pub(super) fn error(&self, problem: impl Into<String>) -> TaskError {
        self.document.error(&self.span, &self.name, problem)
    }

    pub(super) fn get(&self, name: &str) -> Option<Entry<'a>> {
        let value = self.table.get(name)?;
        Some(Entry { document: self.document, key: self.key(name), value })
    }

    pub(super) fn require(&self, name: &str) -> Result<Entry<'a>, TaskError> {
        self.get(name).ok_or_else(|| {
            let place = if self.name.is_empty() { String::new() } else { format!(" in [{}]", self.name) };
            self.document.error(&self.span, &self.key(name), format!("missing; add `{name}`{place}"))
        })
    }

    pub(super) fn section(&self, name: &str) -> Result<Option<Section<'a>>, TaskError> {
        self.get(name).map(|entry| entry.section()).transpose()
    }

    pub(super) fn require_section(&self, name: &str) -> Result<Section<'a>, TaskError> {
        match self.section(name)? {
            Some(section) => Ok(section),
            None => Err(self.document.error(
                &self.span,
                &self.key(name),
                format!("missing; add a section [{name}]"),
            )),
        }
    }

    /// Its keys with their values, in order of name.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&'a str, Entry<'a>)> {
        let (document, table) = (self.document, self.table);
        let name = self.name.clone();
        table.iter().map(move |(key, value)| {
            let own: &str = key.get_ref();
            let key = if name.is_empty() { own.to_owned() } else { format!("{name}.{own}") };
            (own, Entry { document, key, value })
        })
    }
}

impl<'a> Entry<'a> {
    /// A complaint about this value.
    pub(super) fn error(&self, problem: impl Into<String>) -> TaskError {
        self.document.error(&self.value.span(), &self.key, problem)
    }

    fn wrong_type(&self, wanted: &str) -> TaskError {
        self.error(format!("expected {wanted}, found {}", kind(self.value.get_ref())))
    }

    pub(super) fn section(&self) -> Result<Section<'a>, TaskError> {
        match self.value.get_ref() {
            DeValue::Table(table) => Ok(Section {
                document: self.document,
                name: self.key.clone(),
                span: self.value.span(),
                table,
            }),
            _ => Err(self.wrong_type("a table")),
        }
    }

    pub(super) fn text(&self) -> Result<&'a str, TaskError> {
        match self.value.get_ref() {
            DeValue::String(text) if text.contains('\0') => Err(self.error("holds a NUL character")),
            DeValue::String(text) => Ok(text),
            _ => Err(self.wrong_type("a string")),
        }
    }

    pub(super) fn non_empty_text(&self) -> Result<&'a str, TaskError> {
        let text = self.text()?;
        if text.trim().is_empty() { Err(self.error("is empty")) } else { Ok(text) }
    }

    pub(super) fn boolean(&self) -> Result<bool, TaskError> {
        match self.value.get_ref() {
            DeValue::Boolean(value) => Ok(*value),
            _ => Err(self.wrong_type("true or false")),
        }
    }

    pub(super) fn integer(&self) -> Result<i64, TaskError> {
        match self.value.get_ref() {
            DeValue::Integer(value) => i64::from_str_radix(value.as_str(), value.radix())
                .map_err(|_| self.error("is too large for a 64-bit integer")),
            _ => Err(self.wrong_type("an integer")),
        }
    }

    /// An integer within the bounds, ends included.
    pub(super) fn integer_within(&self, low: i64, high: i64) -> Result<i64, TaskError> {
        let value = self.integer()?;
        if (low..=high).contains(&value) {
            Ok(value)
        } else if high == i64::MAX {
            Err(self.error(format!("is {value}; at least {low} is needed")))
        } else {
            Err(self.error(format!("is {value}; it must lie within {low} and {high}")))
        }
    }

    pub(super) fn number(&self) -> Result<f64, TaskError> {
        match self.value.get_ref() {
            DeValue::Float(value) => {
                let number: f64 = value.as_str().parse().map_err(|_| self.wrong_type("a number"))?;
                if number.is_finite() { Ok(number) } else { Err(self.error("is not a finite number")) }
            }
            DeValue::Integer(_) => Ok(self.integer()? as f64),
            _ => Err(self.wrong_type("a number")),
        }
    }

    pub(super) fn positive_number(&self) -> Result<f64, TaskError> {
        let value = self.number()?;
        if value > 0.0 {
            Ok(value)
        } else {
            Err(self.error(format!("is {value}; it must be greater than zero")))
        }
    }

    /// A duration in seconds: positive, and less than ten years so that deadlines can be computed.
    pub(super) fn seconds(&self) -> Result<Duration, TaskError> {
        let value = self.positive_number()?;
        if value > 3.2e8 {
            Err(self.error("is longer than ten years"))
        } else {
            Ok(Duration::from_secs_f64(value))
        }
    }

    pub(super) fn list(&self) -> Result<Vec<Entry<'a>>, TaskError> {
        match self.value.get_ref() {
            DeValue::Array(array) => Ok(array
                .iter()
                .map(|value| Entry { document: self.document, key: self.key.clone(), value })
                .collect()),
            _ => Err(self.wrong_type("a list")),
        }
    }
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// The candidate most like `name`, if one is like it at all (Jaro-Winkler above 0.7).
pub(crate) fn nearest<'c>(name: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let scored = candidates.into_iter().map(|candidate| (strsim::jaro_winkler(name, candidate), candidate));
    scored
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .filter(|(score, _)| *score > 0.7)
        .map(|(_, candidate)| candidate)
}
