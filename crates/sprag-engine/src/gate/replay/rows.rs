//! The recorded results as typed rows: five columns with a header, separated by tabs.

use std::fmt::Write;

use thiserror::Error;

/// Names of the columns; the second is the metric's own name, for which this one is the custom.
const COLUMNS: [&str; 5] = ["commit", "val_bpb", "memory_gb", "status", "description"];

/// A record of results.
#[derive(Clone, Debug, PartialEq)]
pub struct Results {
    /// Name of the second column.
    pub metric: String,
    /// One a line, in order.
    pub rows: Vec<Row>,
}

/// One recorded experiment.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Line in the file, from 1.
    pub line: usize,
    /// Short commit, or whatever stands in its place.
    pub commit: String,
    /// How it ended.
    pub status: Status,
    /// Peak memory in the file's unit, GB by its name; 0 after a crash.
    pub memory_gb: f64,
    /// What was tried.
    pub description: String,
}

/// How an experiment ended. A crash has no metric, whatever number stands in its row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Status {
    /// Its score was better, and it became what the next ones are compared with.
    Keep(f64),
    /// Its score was not better.
    Discard(f64),
    /// It had no score.
    Crash,
}

impl Row {
    /// The score, if it was kept.
    pub fn kept(&self) -> Option<f64> {
        if let Status::Keep(value) = self.status { Some(value) } else { None }
    }

    /// The score, if it was discarded.
    pub fn discarded(&self) -> Option<f64> {
        if let Status::Discard(value) = self.status { Some(value) } else { None }
    }
}

/// Why a record cannot be read. Lines and columns count from 1.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum ReplayError {
    /// There is nothing in it but blank lines and comments.
    #[error("there is no header: the text is empty")]
    Empty,
    /// The first line that is no comment is no header.
    #[error("line {line}, column {column}: the header says `{found}` where `{expected}` is expected")]
    Header {
        /// Line.
        line: usize,
        /// Column.
        column: usize,
        /// The column's name.
        expected: &'static str,
        /// What stands there.
        found: String,
    },
    /// A line has fewer than five columns.
    #[error("line {line}, column {}: `{}` is missing; the line ends after column {found}", found + 1, COLUMNS[*found])]
    Columns {
        /// Line.
        line: usize,
        /// Columns that it has, 1 to 4.
        found: usize,
    },
    /// A number cannot be read, or is not finite.
    #[error("line {line}, column {column} ({name}): `{found}` is not a finite number")]
    Number {
        /// Line.
        line: usize,
        /// Column.
        column: usize,
        /// The column's name.
        name: String,
        /// What stands there.
        found: String,
    },
    /// An unknown status.
    #[error("line {line}, column 4 (status): `{found}` is none of keep, discard, crash")]
    Status {
        /// Line.
        line: usize,
        /// What stands there.
        found: String,
    },
    /// No row was kept.
    #[error("no row was kept, so there is no baseline")]
    NothingKept,
}

impl ReplayError {
    /// What to do next.
    pub fn hint(&self) -> &'static str {
        match self {
            ReplayError::Empty | ReplayError::Header { .. } => {
                "the first line that is no comment (#) names the columns, separated by tabs: \
                 commit, val_bpb (or another metric that is better when lower), memory_gb, status, description"
            }
            ReplayError::Columns { .. } => {
                "separate the five columns by tabs; a blank or a comma does not count"
            }
            ReplayError::Number { .. } => {
                "write numbers as 0.973104; a crash has 0.000000 and the status crash"
            }
            ReplayError::Status { .. } => "write keep, discard or crash, in small letters",
            ReplayError::NothingKept => "the first row should be the baseline, with the status keep",
        }
    }
}

/// Reads a record. Blank lines and lines that begin with `#` are skipped, anywhere; carriage returns and a byte
/// order mark are ignored; tabs after the fourth belong to the description.
///
/// # Errors
/// The first thing that is wrong, with its line and column.
pub fn parse(text: &str) -> Result<Results, ReplayError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let numbered = text.lines().enumerate().map(|(index, line)| (index + 1, line));
    let mut lines = numbered.filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
    let (line, header) = lines.next().ok_or(ReplayError::Empty)?;
    let metric = metric_of(line, header)?;
    let rows = lines.map(|(line, text)| row(line, text, &metric)).collect::<Result<_, _>>()?;
    Ok(Results { metric, rows })
}

/// Writes a record as [`parse`] reads it, with the precision that karpathy's prose asks for. Tabs, line ends and
/// backslashes in texts are escaped, so that a row stays a row.
pub fn write(results: &Results) -> String {
    let [commit, _, memory, status, description] = COLUMNS;
    let mut text = format!("{commit}\t{}\t{memory}\t{status}\t{description}\n", escaped(&results.metric));
    for row in &results.rows {
        let (word, value) = match row.status {
            Status::Keep(value) => ("keep", value),
            Status::Discard(value) => ("discard", value),
            Status::Crash => ("crash", 0.0),
        };
        let (commit, description) = (escaped(&row.commit), escaped(&row.description));
        let _ = writeln!(text, "{commit}\t{value:.6}\t{:.1}\t{word}\t{description}", row.memory_gb);
    }
    text
}

fn escaped(text: &str) -> String {
    let text =
        text.trim().replace('\\', r"\\").replace('\t', r"\t").replace('\n', r"\n").replace('\r', r"\r");
    // Whoever begins a line with `#` would be read as a comment.
    if text.starts_with('#') { format!(r"\{text}") } else { text }
}

fn metric_of(line: usize, header: &str) -> Result<String, ReplayError> {
    let names: Vec<&str> = header.split('\t').map(str::trim).collect();
    for (index, expected) in COLUMNS.into_iter().enumerate() {
        let found = names.get(index).copied().unwrap_or_default();
        // The metric may have any name.
        let right = if index == 1 { !found.is_empty() } else { found.eq_ignore_ascii_case(expected) };
        if !right {
            return Err(ReplayError::Header { line, column: index + 1, expected, found: found.to_owned() });
        }
    }
    Ok(names[1].to_owned())
}

fn row(line: usize, text: &str, metric: &str) -> Result<Row, ReplayError> {
    let fields: Vec<&str> = text.splitn(5, '\t').map(str::trim).collect();
    let [commit, value, memory, status, description] = fields[..] else {
        return Err(ReplayError::Columns { line, found: fields.len() });
    };
    let number = |column: usize, name: &str, found: &str| {
        let parsed = found.parse::<f64>().ok().filter(|value| value.is_finite());
        parsed.ok_or_else(|| ReplayError::Number {
            line,
            column,
            name: name.to_owned(),
            found: found.to_owned(),
        })
    };
    let status = match status {
        "keep" => Status::Keep(number(2, metric, value)?),
        "discard" => Status::Discard(number(2, metric, value)?),
        "crash" => Status::Crash,
        _ => return Err(ReplayError::Status { line, found: status.to_owned() }),
    };
    let memory_gb = number(3, COLUMNS[2], memory)?;
    Ok(Row { line, commit: commit.to_owned(), status, memory_gb, description: description.to_owned() })
}
