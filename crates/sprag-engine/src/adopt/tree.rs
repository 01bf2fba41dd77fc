//! A repository as a listing: paths, and the text of those files that are text.

use regex::{Captures, Regex};

use super::guess::Evidence;

/// A file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Relative to the repository, with `/` between its parts.
    pub path: String,
    /// Its text; `None` for what is binary or too large to be read.
    pub text: Option<String>,
    /// It is in the commit that trials start from.
    pub tracked: bool,
}

/// All files that guesses look at.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    sources: Vec<Source>,
}

impl Tree {
    /// A listing; the order does not matter.
    pub fn new(mut sources: Vec<Source>) -> Tree {
        sources.sort_by(|one, other| one.path.cmp(&other.path));
        Tree { sources }
    }

    /// The text of a file, tracked or not.
    pub fn text(&self, path: &str) -> Option<&str> {
        self.source(path)?.text.as_deref()
    }

    /// True for a file, tracked or not.
    pub fn has(&self, path: &str) -> bool {
        self.source(path).is_some()
    }

    /// True for a file of the commit.
    pub fn tracks(&self, path: &str) -> bool {
        self.source(path).is_some_and(|source| source.tracked)
    }

    /// True when files of the commit lie below that folder.
    pub fn has_folder(&self, folder: &str) -> bool {
        let folder = format!("{}/", folder.trim_end_matches('/'));
        self.tracked().any(|source| source.path.starts_with(&folder))
    }

    /// Files of the commit, sorted.
    pub fn tracked(&self) -> impl Iterator<Item = &Source> {
        self.sources.iter().filter(|source| source.tracked)
    }

    fn source(&self, path: &str) -> Option<&Source> {
        let found = self.sources.binary_search_by(|source| source.path.as_str().cmp(path));
        found.ok().map(|index| &self.sources[index])
    }

    /// Lines of a file with their places.
    pub(super) fn lines<'t>(&'t self, path: &str) -> impl Iterator<Item = (Evidence, &'t str)> + use<'t> {
        let path = path.to_owned();
        let text = self.text(&path).unwrap_or_default();
        text.lines().enumerate().map(move |(index, line)| (Evidence::new(&path, index + 1), line))
    }

    /// The first line of a file that matches.
    pub(super) fn find<'t>(&'t self, path: &str, regex: &Regex) -> Option<(Evidence, Captures<'t>)> {
        self.lines(path).find_map(|(at, line)| Some((at, regex.captures(line)?)))
    }
}
