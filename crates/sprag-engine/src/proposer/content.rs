//! What a source file says once comments and layout are taken away: two proposals that say the same are one.
//!
//! A scanner, not a parser: it knows just enough of each language to tell comments from strings. In languages
//! where the layout of lines means something (Python, TOML, directives of the C preprocessor) it is kept, and so
//! is all of a language that it does not know.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use crate::task::hex;

/// How a language writes comments and strings.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Language {
    Rust,
    C,
    Python,
    Toml,
    Other,
}

fn language(path: &str) -> Language {
    match path.rsplit_once('.').map(|(_, extension)| extension) {
        Some("rs") => Language::Rust,
        Some("c" | "h" | "cc" | "cpp" | "cxx" | "hpp" | "cu" | "cuh" | "metal" | "wgsl") => Language::C,
        Some("py" | "pyi") => Language::Python,
        Some("toml") => Language::Toml,
        _ => Language::Other,
    }
}

/// SHA-256 over files and their normalised contents.
pub fn sha256(files: &BTreeMap<String, Vec<u8>>) -> String {
    let mut hash = Sha256::new();
    for (path, content) in files {
        let text = match std::str::from_utf8(content) {
            Ok(text) => normalise(path, text).into_bytes(),
            Err(_) => content.clone(),
        };
        for part in [path.as_bytes(), &text] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
    }
    hex(&hash.finalize())
}

/// A source without comments and without white space that means nothing.
pub fn normalise(path: &str, text: &str) -> String {
    let language = language(path);
    if language == Language::Other {
        // YAML, make files, prose: nothing is known to mean nothing but white space at the end of a line.
        return text.trim_end().lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
    }
    let mut normal = String::with_capacity(text.len());
    for token in tokens(language, text) {
        match token {
            Token::Line(indent) => {
                // Blank lines and lines of comments alone leave nothing.
                let blank =
                    normal.rfind('\n').map_or(normal.as_str(), |at| &normal[at + 1..]).trim().is_empty();
                if blank {
                    normal.truncate(normal.trim_end_matches([' ', '\t']).len());
                } else {
                    normal.push('\n');
                }
                normal.push_str(indent);
            }
            Token::Text(text) => {
                let joins = |c: char| c.is_alphanumeric() || c == '_';
                let apart = normal.ends_with(joins) && text.starts_with(joins);
                // `a - -b` is not `a--b`.
                let operators = normal.ends_with(is_operator) && text.starts_with(is_operator);
                if apart || operators {
                    normal.push(' ');
                }
                normal.push_str(text);
            }
        }
    }
    normal.truncate(normal.trim_end().len());
    normal
}

fn is_operator(c: char) -> bool {
    "+-*/%&|^!<>=.:?".contains(c)
}

/// True when two versions of a file differ, and only in what the noise depends on.
///
/// The rule: both have the same tokens except for whole-number literals, and each such literal stands in an
/// argument, field or assignment that names a seed, a generator's state or an order of the data before it (an
/// identifier with the part `seed`, or a name of that kind): `SEED = 1`, `manual_seed(1)`, `random_state=1`,
/// `DATA_ORDER = 3`. `N_SEEDS` and `SHUFFLE_BUFFER` are more than noise.
pub fn seed_only(path: &str, before: &str, after: &str) -> bool {
    let language = language(path);
    let (before, after) = (tokens(language, before), tokens(language, after));
    if before.len() != after.len() {
        return false;
    }
    let mut differs = false;
    for (at, (old, new)) in before.iter().zip(&after).enumerate() {
        match (old, new) {
            (old, new) if old == new => {}
            (Token::Text(old), Token::Text(new)) if is_whole_number(old) && is_whole_number(new) => {
                if !names_a_seed(&before[..at]) {
                    return false;
                }
                differs = true;
            }
            _ => return false,
        }
    }
    differs
}

/// Identifiers, in lower case, behind which a whole number is nothing but chance.
const NOISE_NAMES: &[&str] =
    &["random_state", "default_rng", "prngkey", "rng_state", "set_rng_state", "data_order", "shuffle_order"];

/// Looks backward from a literal to the beginning of its argument, field or statement.
fn names_a_seed(before: &[Token<'_>]) -> bool {
    let own = before.iter().rev().take_while(|token| match token {
        Token::Text(text) => !matches!(*text, "," | ";" | "{" | "}"),
        Token::Line(_) => false,
    });
    own.into_iter().any(|token| matches!(token, Token::Text(text) if is_seed_name(text)))
}

fn is_seed_name(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    let identifier = name.starts_with(|c: char| c.is_alphabetic() || c == '_');
    identifier
        && (NOISE_NAMES.contains(&lower.as_str())
            || lower.split('_').any(|part| part == "seed" || part == "seeded")
            || name.ends_with("Seed")
            || name.ends_with("Rng"))
}

fn is_whole_number(token: &str) -> bool {
    if ["0x", "0b", "0o"].iter().any(|prefix| token.starts_with(prefix)) {
        return true;
    }
    let suffix = token.trim_start_matches(|c: char| c.is_ascii_digit() || c == '_');
    token.starts_with(|c: char| c.is_ascii_digit())
        && (suffix.is_empty() || suffix.starts_with(['u', 'U', 'i', 'l', 'L']))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    /// An identifier, a number, a string, or one other character.
    Text(&'a str),
    /// The end of a line that matters, with the next line's indentation.
    Line(&'a str),
}

fn tokens(language: Language, text: &str) -> Vec<Token<'_>> {
    let lines_matter = matches!(language, Language::Python | Language::Toml);
    let mut tokens = Vec::new();
    let mut rest = text;
    let mut directive = false;
    // Within brackets a line's end means nothing, in Python; TOML has no such rule that matters here.
    let mut depth = 0_u32;
    while let Some(first) = rest.chars().next() {
        let length = if first == '\n' {
            let indent = rest[1..].len() - rest[1..].trim_start_matches([' ', '\t']).len();
            if (lines_matter && depth == 0) || directive {
                let kept = if language == Language::Python { &rest[1..1 + indent] } else { "" };
                tokens.push(Token::Line(kept));
                directive = false;
            }
            1 + indent
        } else if first.is_whitespace() {
            first.len_utf8()
        } else if let Some(length) = comment(language, rest) {
            length
        } else {
            let length = literal(language, rest).unwrap_or_else(|| word(rest));
            let token = &rest[..length];
            match token {
                "(" | "[" | "{" => depth += 1,
                ")" | "]" | "}" => depth = depth.saturating_sub(1),
                "#" if language == Language::C => directive = true,
                _ => {}
            }
            tokens.push(Token::Text(token));
            length
        };
        rest = &rest[length..];
    }
    tokens
}

/// Length of the comment that the text begins with; a line's end is not part of it.
fn comment(language: Language, text: &str) -> Option<usize> {
    let line = text.find('\n').unwrap_or(text.len());
    match language {
        Language::Rust | Language::C if text.starts_with("//") => Some(line),
        Language::C if text.starts_with("/*") => Some(text.find("*/").map_or(text.len(), |at| at + 2)),
        Language::Rust if text.starts_with("/*") => Some(nested_comment(text)),
        Language::Python | Language::Toml if text.starts_with('#') => Some(line),
        _ => None,
    }
}

fn nested_comment(text: &str) -> usize {
    let mut depth = 0_u32;
    let mut at = 0;
    while at < text.len() {
        let rest = &text.as_bytes()[at..];
        if rest.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    text.len()
}

/// Length of the string or character literal that the text begins with.
fn literal(language: Language, text: &str) -> Option<usize> {
    match language {
        Language::Rust => rust_literal(text),
        Language::C => {
            c_raw_string(text).or_else(|| quoted(text, "\"", true)).or_else(|| quoted(text, "'", true))
        }
        Language::Python => python_literal(text),
        Language::Toml => ["\"\"\"", "\""]
            .iter()
            .find_map(|quote| quoted(text, quote, true))
            .or_else(|| ["'''", "'"].iter().find_map(|quote| quoted(text, quote, false))),
        Language::Other => None,
    }
}

/// Length of a literal between `quote`s, whose end is looked for after the first.
fn quoted(text: &str, quote: &str, escapes: bool) -> Option<usize> {
    let body = text.strip_prefix(quote)?;
    let mut at = 0;
    while at < body.len() {
        let rest = &body[at..];
        if rest.starts_with(quote) {
            return Some(quote.len() + at + quote.len());
        }
        let next = rest.chars().next().map_or(1, char::len_utf8);
        at += next;
        if escapes && rest.starts_with('\\') {
            at += body[at..].chars().next().map_or(0, char::len_utf8);
        }
    }
    Some(text.len())
}

fn rust_literal(text: &str) -> Option<usize> {
    for prefix in ["br", "cr", "r"] {
        let Some(rest) = text.strip_prefix(prefix) else { continue };
        let hashes = rest.len() - rest.trim_start_matches('#').len();
        if let Some(body) = rest[hashes..].strip_prefix('"') {
            let end = format!("\"{}", "#".repeat(hashes));
            let start = text.len() - body.len();
            return Some(body.find(&end).map_or(text.len(), |at| start + at + end.len()));
        }
    }
    for prefix in ["", "b", "c"] {
        let quote = text.strip_prefix(prefix).and_then(|rest| quoted(rest, "\"", true));
        if let Some(length) = quote {
            return Some(prefix.len() + length);
        }
    }
    // A quote opens a character literal if it closes after one character; else it is a lifetime.
    let body = text.strip_prefix('\'')?;
    let first = body.chars().next()?;
    if first == '\\' {
        return quoted(text, "'", true);
    }
    let closes = body[first.len_utf8()..].starts_with('\'');
    closes.then_some(2 + first.len_utf8())
}

fn c_raw_string(text: &str) -> Option<usize> {
    let body = text.strip_prefix("R\"")?;
    let (delimiter, content) = body.split_once('(')?;
    let end = format!("){delimiter}\"");
    let start = text.len() - content.len();
    Some(content.find(&end).map_or(text.len(), |at| start + at + end.len()))
}

fn python_literal(text: &str) -> Option<usize> {
    let prefix = text.len() - text.trim_start_matches(['r', 'R', 'b', 'B', 'f', 'F', 'u', 'U']).len();
    let rest = &text[prefix..];
    if prefix > 2 || !rest.starts_with(['"', '\'']) {
        return None;
    }
    // In a raw string, too, a backslash keeps the quote after it from closing.
    ["\"\"\"", "'''", "\"", "'"]
        .iter()
        .find_map(|quote| quoted(rest, quote, true))
        .map(|length| prefix + length)
}

/// Operators of more than one character, the longest first, of all the languages together.
const OPERATORS: &[&str] = &[
    "<<=", ">>=", "**=", "//=", "...", "..=", "==", "!=", "<=", ">=", "&&", "||", "->", "=>", "+=", "-=",
    "*=", "/=", "%=", "^=", "|=", "&=", "<<", ">>", "..", "::", "++", "--", "**", ":=", "//",
];

/// Length of the identifier, number or operator that the text begins with, else of one character.
fn word(text: &str) -> usize {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    if !text.starts_with(is_word) {
        let operator = OPERATORS.iter().find(|operator| text.starts_with(**operator));
        return operator
            .map_or_else(|| text.chars().next().map_or(0, char::len_utf8), |operator| operator.len());
    }
    let number = text.starts_with(|c: char| c.is_ascii_digit());
    let bytes = text.as_bytes();
    let mut end = 0;
    for (at, c) in text.char_indices() {
        let next_is_digit = bytes.get(at + 1).is_some_and(u8::is_ascii_digit);
        let decimal_point = c == '.'
            && number
            && !text[..at].contains('.')
            && !text[at + 1..].starts_with(['.', '_'])
            && !text[at + 1..].starts_with(|c: char| c.is_alphabetic());
        let exponent_sign = matches!(c, '+' | '-')
            && number
            && !text.starts_with("0x")
            && text[..at].ends_with(['e', 'E'])
            && next_is_digit;
        let separator = c == '\'' && number && next_is_digit;
        if !(is_word(c) || decimal_point || exponent_sign || separator) {
            break;
        }
        end = at + c.len_utf8();
    }
    end
}

#[cfg(test)]
mod tests;
