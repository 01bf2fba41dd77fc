//! Walks folders, and reads `dir:` sources: any folder of text, one file one document.
//!
//! With fewer files than `ENOUGH_FILES` a split by file could be lopsided or impossible, so the files are divided
//! into passages at line ends and the passages are dealt out.

use std::fs;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::cleaning::{Reason, text};
use super::corpus::{Candidate, Gathered};
use super::duplicates::Fingerprint;
use super::{OnProgress, PrepareProgress, Stage};
use crate::data::DataError;

/// Files from which a split by file is even enough.
const ENOUGH_FILES: usize = 40;
/// Bytes of a passage: a hundredth of the text, within these bounds.
const PASSAGE_BYTES: (usize, usize) = (1 << 10, 256 << 10);
/// Files read between two reports of progress.
const CHUNK_FILES: usize = 256;

/// All files below a folder in the order of their names, hidden ones and links left out.
pub(crate) fn files_below(dir: &Path) -> Result<Vec<PathBuf>, DataError> {
    let mut files = vec![];
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).map_err(DataError::io("read", &folder))?;
        for entry in entries {
            let entry = entry.map_err(DataError::io("read", &folder))?;
            let kind = entry.file_type().map_err(DataError::io("read", &entry.path()))?;
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    Ok(files)
}

/// A path below `dir`, with `/` between its parts, for names that are the same on every machine.
pub(crate) fn relative(dir: &Path, path: &Path) -> String {
    let path = path.strip_prefix(dir).unwrap_or(path);
    let parts: Vec<_> = path.components().map(|part| part.as_os_str().to_string_lossy()).collect();
    parts.join("/")
}

/// Reads a `dir:` source.
pub(crate) fn gather(dir: &Path, on_progress: OnProgress<'_>) -> Result<Gathered, DataError> {
    let files = files_below(dir)?;
    let passage_bytes = (files.len() < ENOUGH_FILES).then(|| {
        let total: u64 =
            files.iter().filter_map(|file| fs::metadata(file).ok()).map(|facts| facts.len()).sum();
        (total as usize / 100).clamp(PASSAGE_BYTES.0, PASSAGE_BYTES.1)
    });
    let mut gathered = Gathered::split_by(if passage_bytes.is_some() { "passage" } else { "file" });
    let mut done = 0;
    for chunk in files.chunks(CHUNK_FILES) {
        let read = |path: &PathBuf| candidates(dir, path, passage_bytes);
        let read: Result<Vec<_>, _> = chunk.par_iter().map(read).collect();
        read?.into_iter().flatten().for_each(|candidate| gathered.add(candidate));
        done += chunk.len() as u64;
        on_progress(PrepareProgress { stage: Stage::Clean, done, total: files.len() as u64, unit: "files" });
    }
    Ok(gathered)
}

fn candidates(dir: &Path, path: &Path, passage_bytes: Option<usize>) -> Result<Vec<Candidate>, DataError> {
    let bytes = fs::read(path).map_err(DataError::io("read", path))?;
    let name = relative(dir, path);
    let candidate = |name: &str, range, kept| Candidate {
        part: name.to_owned(),
        version: String::new(),
        rank_name: name.to_owned(),
        path: path.to_owned(),
        range,
        kept,
    };
    let whole = 0..bytes.len();
    let text = match text(&bytes) {
        Err(reason) => return Ok(vec![candidate(&name, whole, Err(reason))]),
        Ok(text) if text.trim().is_empty() => {
            return Ok(vec![candidate(&name, whole, Err(Reason::TooShort))]);
        }
        Ok(text) => text,
    };
    let Some(passage_bytes) = passage_bytes else {
        return Ok(vec![candidate(&name, whole, Ok(Fingerprint::of(text)))]);
    };
    let passages = passages(text, passage_bytes).into_iter().enumerate();
    Ok(passages
        .map(|(number, range)| {
            let print = Fingerprint::of(&text[range.clone()]);
            candidate(&format!("{name}#{number}"), range, Ok(print))
        })
        .collect())
}

/// Divides a text after the first line end past every `bytes`.
fn passages(text: &str, bytes: usize) -> Vec<std::ops::Range<usize>> {
    let mut ranges = vec![];
    let mut start = 0;
    while start < text.len() {
        let wanted = text.ceil_char_boundary(start + bytes);
        // A text without line ends is divided anyway.
        let search = &text[wanted..text.ceil_char_boundary(wanted + bytes)];
        let end = match search.find('\n') {
            Some(at) => wanted + at + 1,
            None if wanted + bytes >= text.len() => text.len(),
            None => wanted,
        };
        ranges.push(start..end);
        start = end;
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passages_cover_a_text_and_end_at_lines() {
        let text: String = (0..1000).map(|number| format!("line {number} é\n")).collect();
        let ranges = passages(&text, 500);
        assert!(ranges.len() > 20);
        assert_eq!(ranges.iter().map(|range| &text[range.clone()]).collect::<String>(), text);
        assert!(ranges.iter().all(|range| text[range.clone()].ends_with('\n')));
    }

    #[test]
    fn a_text_without_lines_is_divided_between_characters() {
        let text = "é".repeat(5000);
        let ranges = passages(&text, 333);
        assert!(ranges.len() > 10);
        assert_eq!(ranges.iter().map(|range| &text[range.clone()]).collect::<String>(), text);
    }
}
