//! Placeholders such as `{seed}` in commands and environment values.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use super::document::nearest;

/// Placeholders and what they stand for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Values(BTreeMap<String, OsString>);

impl Values {
    /// Adds or replaces one.
    pub fn with(mut self, name: &str, value: impl AsRef<OsStr>) -> Values {
        self.0.insert(name.to_owned(), value.as_ref().to_owned());
        self
    }

    /// What a placeholder stands for.
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.0.get(name).map(OsString::as_os_str)
    }
}

/// A template asks for something that has no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown placeholder {{{name}}} in `{template}`; {}", hint(nearest, known))]
pub struct UnknownPlaceholder {
    /// What it asks for.
    pub name: String,
    /// The template.
    pub template: String,
    /// A known name that is like it.
    pub nearest: Option<String>,
    /// All known names.
    pub known: Vec<String>,
}

fn hint(nearest: &Option<String>, known: &[String]) -> String {
    match nearest {
        Some(name) => format!("did you mean {{{name}}}? (a literal brace is written twice)"),
        None => format!("known here: {} (a literal brace is written twice)", known.join(", ")),
    }
}

/// Replaces the placeholders of a template. `{{` and `}}` stand for single braces; a brace that does not
/// enclose a name (letters, digits, `_`, `-`) stands for itself, so JSON arguments need no doubling.
pub fn expand(template: &str, values: &Values) -> Result<OsString, UnknownPlaceholder> {
    let mut expanded = OsString::new();
    for piece in pieces(template) {
        match piece {
            Piece::Text(text) => expanded.push(text),
            Piece::Name(name) => match values.get(name) {
                Some(value) => expanded.push(value),
                None => return Err(unknown(name, template, values.0.keys().map(String::as_str))),
            },
        }
    }
    Ok(expanded)
}

/// Checks that a template asks only for names that will have a value.
pub(super) fn check<'a>(
    template: &str,
    known: impl Iterator<Item = &'a str>,
) -> Result<(), UnknownPlaceholder> {
    let known: Vec<&str> = known.collect();
    for piece in pieces(template) {
        if let Piece::Name(name) = piece
            && !known.contains(&name)
        {
            return Err(unknown(name, template, known.into_iter()));
        }
    }
    Ok(())
}

fn unknown<'a>(name: &str, template: &str, known: impl Iterator<Item = &'a str>) -> UnknownPlaceholder {
    let known: Vec<String> = known.map(str::to_owned).collect();
    UnknownPlaceholder {
        name: name.to_owned(),
        template: template.to_owned(),
        nearest: nearest(name, known.iter().map(String::as_str)).map(str::to_owned),
        known,
    }
}

enum Piece<'a> {
    Text(&'a str),
    Name(&'a str),
}

fn pieces(template: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut rest = template;
    while let Some(at) = rest.find(['{', '}']) {
        let (text, brace) = rest.split_at(at);
        pieces.push(Piece::Text(text));
        let doubled = brace.starts_with("{{") || brace.starts_with("}}");
        let name = brace[1..].find('}').map(|end| &brace[1..=end]).filter(|name| is_name(name));
        rest = match name {
            _ if doubled => {
                pieces.push(Piece::Text(&brace[..1]));
                &brace[2..]
            }
            Some(name) if brace.starts_with('{') => {
                pieces.push(Piece::Name(name));
                &brace[name.len() + 2..]
            }
            _ => {
                pieces.push(Piece::Text(&brace[..1]));
                &brace[1..]
            }
        };
    }
    pieces.push(Piece::Text(rest));
    pieces
}

/// Whether a text can name a placeholder.
pub(super) fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}
