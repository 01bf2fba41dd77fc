//! Knobs: constants whose comment says which values make sense, in any language.
//!
//! ```text
//! // --- Optimiser ---              # the family of the knobs below it
//! /// Step size of hidden matrices.
//! /// knob: log 1e-4..1e-1          # or `linear 0..1`, or `choice relu|gelu`
//! const MATRIX_LR: f64 = 0.02;
//! ```
//!
//! Python writes `#` for `//`. Reading and writing them; which one to turn belongs to `search`.

use std::collections::BTreeMap;
use std::ops::Range;

use super::admission::mutable_files;
use super::{Brief, Declined};

/// The values that a knob can take.
#[derive(Clone, Debug, PartialEq)]
pub enum Scale {
    /// Numbers whose ratios matter.
    Log {
        /// Smallest.
        low: f64,
        /// Largest.
        high: f64,
    },
    /// Numbers whose differences matter.
    Linear {
        /// Smallest.
        low: f64,
        /// Largest.
        high: f64,
    },
    /// Literals, as they stand in the source.
    Choice(Vec<String>),
}

/// A constant that may be turned.
#[derive(Clone, Debug, PartialEq)]
pub struct Knob {
    /// File that holds it.
    pub path: String,
    /// Its name.
    pub name: String,
    /// Heading above it.
    pub family: String,
    /// What it can be.
    pub scale: Scale,
    /// Its value as written.
    pub literal: String,
    /// Where the value stands in the file, in bytes.
    pub span: Range<usize>,
}

/// Files and their bytes.
pub type Files = BTreeMap<String, Vec<u8>>;

/// The mutable files of the worktree, and the knobs in them.
pub fn of(brief: &Brief<'_>) -> Result<(Files, Vec<Knob>), Declined> {
    let files =
        mutable_files(brief.task, brief.worktree).map_err(|cause| Declined::Failed(cause.to_string()))?;
    let knobs = all(&files);
    if knobs.is_empty() {
        return Err(Declined::Exhausted(
            "no knobs in the mutable files; write `/// knob: log 1e-4..1e-1` above a constant".into(),
        ));
    }
    Ok((files, knobs))
}

/// All knobs of some files, in order.
pub fn all(files: &Files) -> Vec<Knob> {
    let texts = files.iter().filter_map(|(path, bytes)| Some((path, std::str::from_utf8(bytes).ok()?)));
    texts.flat_map(|(path, text)| parse(path, text)).collect()
}

/// A knob's name; with its file where another has the same name.
pub fn label(knobs: &[Knob], knob: &Knob) -> String {
    let same = knobs.iter().filter(|other| other.name == knob.name).count();
    if same > 1 { format!("{}:{}", knob.path, knob.name) } else { knob.name.clone() }
}

/// All knobs of a file, in order. A comment that cannot be understood, or no constant below it, is no knob.
pub fn parse(path: &str, text: &str) -> Vec<Knob> {
    let mut knobs = Vec::new();
    let mut family = "general".to_owned();
    let mut scale: Option<Scale> = None;
    let mut offset = 0;
    for line in text.split_inclusive('\n') {
        let trimmed = line.trim();
        if let Some(comment) = comment(trimmed) {
            if let Some(heading) = heading(comment) {
                family = heading.to_owned();
                scale = None;
            } else if let Some(range) = comment.strip_prefix("knob:") {
                scale = parse_scale(range.trim());
            }
        } else if trimmed.is_empty() {
            scale = None;
        } else if !trimmed.starts_with("#[") {
            // Attributes may stand between a comment and its constant; anything else ends the comment's reach.
            if let (Some(scale), Some((name, value))) = (scale.take(), constant(line)) {
                let literal = line[value.clone()].to_owned();
                let span = offset + value.start..offset + value.end;
                knobs.push(Knob {
                    path: path.to_owned(),
                    name,
                    family: family.clone(),
                    scale,
                    literal,
                    span,
                });
            }
        }
        offset += line.len();
    }
    knobs
}

/// The text of a line that is nothing but a comment.
fn comment(line: &str) -> Option<&str> {
    if line.starts_with("#[") || line.starts_with("#define") {
        return None;
    }
    let text =
        line.strip_prefix("///").or_else(|| line.strip_prefix("//!")).or_else(|| line.strip_prefix("//"));
    text.or_else(|| line.strip_prefix('#')).map(str::trim)
}

/// `--- Model ---`
fn heading(comment: &str) -> Option<&str> {
    let name = comment.strip_prefix("---")?.trim_matches(['-', ' ']);
    (!name.is_empty()).then_some(name)
}

/// `log 1e-4..1e-1`, `linear 0..1` or `choice 2|4|8`.
fn parse_scale(text: &str) -> Option<Scale> {
    let (kind, rest) = text.split_once(char::is_whitespace)?;
    let rest = rest.trim().trim_end_matches('.');
    if kind == "choice" {
        let choices: Vec<String> = rest.split('|').map(|choice| choice.trim().to_owned()).collect();
        return (choices.len() > 1 && choices.iter().all(|choice| !choice.is_empty()))
            .then_some(Scale::Choice(choices));
    }
    let (low, high) = rest.split_once("..")?;
    let (low, high): (f64, f64) = (number(low)?, number(high.trim_start_matches('='))?);
    match kind {
        "log" if 0.0 < low && low < high && high.is_finite() => Some(Scale::Log { low, high }),
        "linear" if low < high && (high - low).is_finite() => Some(Scale::Linear { low, high }),
        _ => None,
    }
}

/// The name and the place of the value in `const NAME: T = value;`, `NAME = value`, `#define NAME value`.
fn constant(line: &str) -> Option<(String, Range<usize>)> {
    let (left, start) = if line.trim_start().starts_with("#define") {
        let name = line.split_whitespace().nth(1)?;
        let end = line.find(name)? + name.len();
        (&line[..end], end)
    } else {
        let equals = line.find('=')?;
        (&line[..equals], equals + 1)
    };
    // A type, where there is one, stands behind a colon (Rust, Python) or before the name (C).
    let name = left.split(':').next()?.split_whitespace().last()?;
    if !name.chars().all(|c| c.is_alphanumeric() || c == '_')
        || name.starts_with(|c: char| c.is_ascii_digit())
    {
        return None;
    }
    let rest = &line[start..];
    let quoted = rest.trim_start().starts_with(['"', '\'']);
    let end = if quoted {
        let open = rest.len() - rest.trim_start().len();
        let quote = rest[open..].chars().next()?;
        open + 1 + rest[open + 1..].find(quote)? + 1
    } else {
        [";", "//", " #", "/*"].iter().filter_map(|mark| rest.find(mark)).min().unwrap_or(rest.len())
    };
    let value = rest[..end].trim();
    let begin = start + rest[..end].len() - rest[..end].trim_start().len();
    (!value.is_empty()).then(|| (name.to_owned(), begin..begin + value.len()))
}

/// The number that a literal stands for, `_` and a type suffix allowed.
pub fn number(literal: &str) -> Option<f64> {
    split_literal(literal).0.replace('_', "").parse().ok()
}

/// A literal's digits and its type suffix.
fn split_literal(literal: &str) -> (&str, &str) {
    let literal = literal.trim();
    let suffixes =
        ["f16", "bf16", "f32", "f64", "usize", "isize", "u8", "u16", "u32", "u64", "i8", "i16", "i32", "i64"];
    for suffix in suffixes {
        if let Some(digits) = literal.strip_suffix(suffix).filter(|digits| !digits.is_empty()) {
            return (digits.trim_end_matches('_'), &literal[digits.trim_end_matches('_').len()..]);
        }
    }
    let digits = literal.trim_end_matches(['f', 'F', 'u', 'U', 'l', 'L']);
    if digits.ends_with(|c: char| c.is_ascii_digit() || c == '.') {
        (digits, &literal[digits.len()..])
    } else {
        (literal, "")
    }
}

impl Knob {
    /// Its value as a number.
    pub fn value(&self) -> Option<f64> {
        number(&self.literal)
    }

    /// A number written as this knob's value is: whole where that is whole, with its suffix.
    pub fn literal_for(&self, value: f64) -> String {
        let suffix = split_literal(&self.literal).1;
        if self.is_whole() { format!("{}{suffix}", value.round()) } else { format!("{value:?}{suffix}") }
    }

    /// True when its value is written without point and exponent.
    pub fn is_whole(&self) -> bool {
        !split_literal(&self.literal).0.contains(['.', 'e', 'E'])
    }

    /// The file's text with another value of this knob.
    pub fn turned(&self, text: &str, literal: &str) -> String {
        format!("{}{literal}{}", &text[..self.span.start], &text[self.span.end..])
    }
}

#[cfg(test)]
mod tests;
