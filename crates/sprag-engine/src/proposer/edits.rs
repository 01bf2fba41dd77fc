//! Search-and-replace edits: what a model or another program writes, checked against the files before any of them is touched.

use std::collections::BTreeMap;
use std::path::{Component, Path};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::brief::quote;

/// One change of one file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Edit {
    /// The file.
    pub path: String,
    /// Text that occurs in it exactly once; empty for a new file.
    pub search: String,
    /// What stands there afterwards.
    pub replace: String,
}

/// Longest part of a file that is looked through for what a wrong `search` may have meant.
const LOOKED_THROUGH: usize = 4000;

/// The files as they are after the edits, by path.
///
/// # Errors
/// What is wrong with the first edit that cannot be carried out, in words for the model.
pub(super) fn carry_out(
    edits: &[Edit],
    tree: &Path,
    mutable: &dyn Fn(&str) -> bool,
) -> Result<BTreeMap<String, String>, String> {
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    for (at, edit) in edits.iter().enumerate() {
        let path = edit.path.trim().trim_start_matches("./");
        let named = format!("Edit {} ({})", at + 1, quote::line(path, 200));
        if !mutable(path) || !within(tree, path) {
            return Err(format!("{named} names a file that may not change."));
        }
        let before = match files.get(path) {
            Some(text) => text.clone(),
            None => match std::fs::read_to_string(tree.join(path)) {
                Ok(text) => text,
                Err(cause) if cause.kind() == std::io::ErrorKind::NotFound && edit.search.is_empty() => {
                    String::new()
                }
                Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {
                    return Err(format!(
                        "{named} searches in a file that does not exist; a new file has an empty `search`."
                    ));
                }
                Err(cause) => return Err(format!("{named} cannot be carried out: {cause}.")),
            },
        };
        let after = replaced(&before, edit).map_err(|problem| format!("{named} {problem}"))?;
        files.insert(path.to_owned(), after);
    }
    Ok(files)
}

/// A path that stays in the tree, through no link.
fn within(tree: &Path, path: &str) -> bool {
    let mut place = tree.to_owned();
    !path.is_empty()
        && Path::new(path).components().all(|part| {
            let Component::Normal(name) = part else { return false };
            place.push(name);
            !place.is_symlink()
        })
}

fn replaced(before: &str, edit: &Edit) -> Result<String, String> {
    if edit.search == edit.replace {
        return Err("has the same text in `search` and `replace`.".into());
    }
    if edit.search.is_empty() {
        return match before.is_empty() {
            true => Ok(edit.replace.clone()),
            false => Err("has an empty `search`, and the file is there; copy the lines that change.".into()),
        };
    }
    let found: Vec<usize> = before.match_indices(&edit.search).map(|(at, _)| at).collect();
    match found.as_slice() {
        [at] => Ok(splice(before, *at..*at + edit.search.len(), &edit.replace)),
        [] => match loosely(before, &edit.search).as_slice() {
            [range] => {
                // A match of whole lines takes their ends with it.
                let ends = before.get(range.clone()).is_some_and(|text| text.ends_with('\n'));
                let replace = match ends && !edit.replace.is_empty() && !edit.replace.ends_with('\n') {
                    true => format!("{}\n", edit.replace),
                    false => edit.replace.clone(),
                };
                Ok(splice(before, range.clone(), &replace))
            }
            [] => Err(not_found(before, &edit.search)),
            several => Err(too_often(several.iter().map(|range| line_of(before, range.start)))),
        },
        several => Err(too_often(several.iter().map(|at| line_of(before, *at)))),
    }
}

fn splice(text: &str, range: std::ops::Range<usize>, with: &str) -> String {
    let mut text = text.to_owned();
    text.replace_range(range, with);
    text
}

fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count() + 1
}

/// Where the lines of `search` stand in the text, blanks at the ends of lines aside.
fn loosely(text: &str, search: &str) -> Vec<std::ops::Range<usize>> {
    let mut starts = vec![0];
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    for line in &lines {
        starts.push(starts.last().unwrap_or(&0) + line.len());
    }
    let wanted: Vec<&str> = search.lines().map(str::trim_end).collect();
    let windows = lines.windows(wanted.len().max(1)).enumerate();
    windows
        .filter(|(_, window)| window.iter().map(|line| line.trim_end()).eq(wanted.iter().copied()))
        .filter_map(|(at, _)| Some(*starts.get(at)?..*starts.get(at + wanted.len())?))
        .collect()
}

fn too_often(lines: impl Iterator<Item = usize>) -> String {
    let lines: Vec<String> = lines.map(|line| line.to_string()).collect();
    format!(
        "searches for text that occurs {} times, in lines {}; add lines around it until it occurs once.",
        lines.len(),
        lines.join(", ")
    )
}

/// The lines that resemble the search most, so that it can be copied right.
fn not_found(text: &str, search: &str) -> String {
    let lines: Vec<&str> = text.lines().take(LOOKED_THROUGH).collect();
    let wanted = search.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    let like = |line: &&str| strsim::normalized_damerau_levenshtein(line.trim(), wanted);
    let best = lines.iter().enumerate().map(|(at, line)| (at, like(line)));
    let best = best.max_by(|one, other| one.1.total_cmp(&other.1)).filter(|(_, like)| *like > 0.5);
    let Some((at, _)) = best else {
        return "searches for text that is not in the file; copy it from the file exactly.".to_owned();
    };
    let first = at.saturating_sub(1);
    let last = (at + search.lines().count().max(1) + 1).min(lines.len());
    let near = lines.get(first..last).unwrap_or_default().join("\n");
    format!(
        "searches for text that is not in the file; copy it exactly. Lines {} to {last} are nearest:\n\n{}",
        first + 1,
        quote::block(&near, 40, 400)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "let rate = 2;\nlet depth = 4; \nlet rate_decay = 0.5;\nlet width = 64;\n";

    fn edit(path: &str, search: &str, replace: &str) -> Edit {
        Edit { path: path.into(), search: search.into(), replace: replace.into() }
    }

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("src")).unwrap();
        std::fs::write(dir.path().join("src/train.rs"), FILE).unwrap();
        std::os::unix::fs::symlink("/", dir.path().join("src/out")).unwrap();
        dir
    }

    fn after(edits: &[Edit]) -> Result<String, String> {
        let files = carry_out(edits, tree().path(), &|path| path.starts_with("src/"))?;
        Ok(files.into_iter().map(|(path, text)| format!("{path}:{text}")).collect())
    }

    #[test]
    fn edits_of_one_file_are_carried_out_in_order() {
        let first = edit("src/train.rs", "rate = 2", "rate = 3");
        let second = edit("./src/train.rs", "let rate = 3;\n", "");
        let text = after(&[first, second]).unwrap();
        assert_eq!(text, "src/train.rs:let depth = 4; \nlet rate_decay = 0.5;\nlet width = 64;\n");
        assert_eq!(after(&[edit("src/new/a.rs", "", "fn a() {}\n")]).unwrap(), "src/new/a.rs:fn a() {}\n");
    }

    #[test]
    fn blanks_at_the_ends_of_lines_do_not_count() {
        let text = after(&[edit("src/train.rs", "let depth = 4;\nlet rate_decay = 0.5;", "let depth = 8;")])
            .unwrap();
        assert_eq!(text, "src/train.rs:let rate = 2;\nlet depth = 8;\nlet width = 64;\n");
    }

    #[test]
    fn what_cannot_be_carried_out_is_said_precisely() {
        for (edit, said) in [
            (edit("src/train.rs", "let ", "x"), "occurs 4 times, in lines 1, 2, 3, 4"),
            (edit("src/train.rs", "let width = 63;", "x"), "Lines 3 to 4 are nearest"),
            (edit("src/train.rs", "zzzzzzzzzzzzzzzzzzzz", "x"), "copy it from the file exactly"),
            (edit("src/train.rs", "", "x"), "the file is there"),
            (edit("src/train.rs", "let", "let"), "the same text"),
            (edit("src/gone.rs", "let", "x"), "a file that does not exist"),
            (edit("eval.rs", "", "x"), "may not change"),
            (edit("src/../eval.rs", "", "x"), "may not change"),
            (edit("src/out/tmp/x", "", "x"), "may not change"),
        ] {
            let problem = after(std::slice::from_ref(&edit)).unwrap_err();
            assert!(problem.contains(said) && problem.starts_with("Edit 1"), "{edit:?}: {problem}");
        }
        let good = edit("src/train.rs", "rate = 2", "rate = 3");
        assert!(after(&[good.clone(), good]).unwrap_err().starts_with("Edit 2"));
    }
}
