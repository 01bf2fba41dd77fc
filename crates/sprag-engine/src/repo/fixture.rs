//! Small repositories for tests.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use super::{Repo, git};

/// Variables that git needs in a test: where to find programs.
pub(crate) fn environment() -> Vec<(OsString, OsString)> {
    std::env::var_os("PATH").map(|path| ("PATH".into(), path)).into_iter().collect()
}

/// Writes files into a folder and commits all of it as a new repository's first commit.
pub(crate) fn init(dir: &Path, files: &[(&str, &str)]) -> Repo {
    for (path, content) in files {
        let path = dir.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    let environment = environment();
    let plain = Repo {
        dir: dir.canonicalize().unwrap(),
        common: dir.join(".git"),
        environment: git::environment(&environment),
        empty_tree: String::new(),
    };
    let steps: [&[git::Arg]; 3] =
        [&[&"init", &"-q", &"-b", &"main"], &[&"add", &"-A"], &[&"commit", &"-q", &"-m", &"start"]];
    for step in steps {
        plain.git(dir, &[], step).unwrap();
    }
    let repo = Repo::open_with(dir, &environment).unwrap();
    repo.exclude(".sprag/").unwrap();
    repo
}
