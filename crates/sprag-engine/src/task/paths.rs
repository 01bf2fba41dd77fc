//! Sets of paths within a task: names and globs, as `files.mutable` and `files.fixed` give them.

use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};

/// Patterns over `/`-separated paths relative to the task folder.
///
/// A pattern without `*`, `?`, `[` or `{` names a file, or a folder with everything below it. In a glob
/// `*` does not cross `/`, `**` does.
#[derive(Clone, Debug, Default)]
pub struct PathSet {
    patterns: Vec<Pattern>,
}

#[derive(Clone, Debug)]
struct Pattern {
    text: String,
    glob: Option<GlobMatcher>,
}

impl PathSet {
    /// Reads patterns; the error says what is wrong with one.
    pub fn new<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<PathSet, String> {
        let mut set = PathSet::default();
        for pattern in patterns {
            set.add(pattern)?;
        }
        Ok(set)
    }

    pub(super) fn add(&mut self, pattern: &str) -> Result<(), String> {
        let text = pattern.strip_suffix('/').unwrap_or(pattern);
        if text.starts_with('/') || text.contains('\\') {
            return Err("must be relative to the task folder, with `/` between its parts".into());
        }
        if text.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err("must not hold empty, `.` or `..` parts; write it relative to the task folder".into());
        }
        let glob = if text.contains(['*', '?', '[', '{']) {
            let glob = GlobBuilder::new(text).literal_separator(true).build();
            Some(glob.map_err(|cause| format!("is not a valid glob: {}", cause.kind()))?.compile_matcher())
        } else {
            None
        };
        self.patterns.push(Pattern { text: text.to_owned(), glob });
        Ok(())
    }

    /// True when the set names that path.
    pub fn contains(&self, path: &str) -> bool {
        self.patterns.iter().any(|pattern| match &pattern.glob {
            Some(glob) => glob.is_match(path),
            None => {
                path.strip_prefix(&pattern.text).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
        })
    }

    /// The patterns as written.
    pub fn patterns(&self) -> impl Iterator<Item = &str> {
        self.patterns.iter().map(|pattern| pattern.text.as_str())
    }

    /// The patterns that are plain names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.patterns.iter().filter(|pattern| pattern.glob.is_none()).map(|pattern| pattern.text.as_str())
    }

    /// The files of the set that exist under `root`, sorted; links count as files. Folders named `.git`
    /// and `.sprag` are never entered.
    pub fn files_in(&self, root: &Path) -> std::io::Result<Vec<String>> {
        let mut found = Vec::new();
        for pattern in &self.patterns {
            // A glob is looked for below its literal beginning, so that a task may hold large other folders.
            let start = match &pattern.glob {
                None => pattern.text.as_str(),
                Some(_) => {
                    let special = pattern.text.find(['*', '?', '[', '{']).unwrap_or(0);
                    pattern.text[..special].rfind('/').map_or("", |end| &pattern.text[..end])
                }
            };
            self.walk(root, start.to_owned(), &mut found)?;
        }
        found.sort();
        found.dedup();
        Ok(found)
    }

    fn walk(&self, root: &Path, path: String, found: &mut Vec<String>) -> std::io::Result<()> {
        let full: PathBuf = root.join(&path);
        let kind = match full.symlink_metadata() {
            Ok(metadata) => metadata.file_type(),
            Err(cause) if missing(&cause) => return Ok(()),
            Err(cause) => return Err(cause),
        };
        if !kind.is_dir() {
            if self.contains(&path) {
                found.push(path);
            }
            return Ok(());
        }
        for entry in std::fs::read_dir(&full)? {
            // A name that is not UTF-8 can be in no set: patterns are UTF-8 and git's list is checked by name.
            let Ok(name) = entry?.file_name().into_string() else { continue };
            if name != ".git" && name != ".sprag" {
                let below = if path.is_empty() { name } else { format!("{path}/{name}") };
                self.walk(root, below, found)?;
            }
        }
        Ok(())
    }
}

fn missing(cause: &std::io::Error) -> bool {
    matches!(cause.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
}
