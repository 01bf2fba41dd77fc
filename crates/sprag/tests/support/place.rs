//! A repository `task`, and a home with nothing in it: the program as people and scripts use it.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sprag_measure::process::{self, End};
use tempfile::TempDir;

pub struct Place {
    root: TempDir,
}

pub struct Answer {
    pub status: i32,
    pub out: String,
    pub err: String,
}

impl Place {
    pub fn empty() -> Place {
        let place = Place { root: tempfile::tempdir().unwrap() };
        fs::create_dir(place.path("home")).unwrap();
        place
    }

    /// With these files in the repository, committed.
    pub fn with_files(files: &[(&str, &str)]) -> Place {
        let place = Place::empty();
        for (path, text) in files {
            let path = place.path("task").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        place.git(&["init", "--quiet", "--initial-branch=main"]);
        place.git(&["add", "--all"]);
        place.git(&["commit", "--quiet", "--message=begin"]);
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().canonicalize().unwrap().join(name)
    }

    pub fn environment(&self) -> Vec<(OsString, OsString)> {
        let mut variables: Vec<(OsString, OsString)> = ["PATH", "CARGO_HOME", "RUSTUP_HOME", "CARGO"]
            .into_iter()
            .filter_map(|name| Some((name.into(), std::env::var_os(name)?)))
            .collect();
        variables.push(("HOME".into(), self.path("home").into()));
        for name in ["GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"] {
            variables.push((name.into(), "someone@localhost".into()));
        }
        variables
    }

    pub fn git(&self, arguments: &[&str]) -> String {
        let output = process::output("git", arguments, &self.path("task"), &self.environment()).unwrap();
        assert!(output.success(), "git {arguments:?}: {}", output.error_text());
        output.text()
    }

    pub fn sprag_in(&self, dir: &Path, arguments: &[&str]) -> Answer {
        let output =
            process::output(env!("CARGO_BIN_EXE_sprag"), arguments, dir, &self.environment()).unwrap();
        let End::Exited(status) = output.end else { panic!("sprag {arguments:?} {}", output.end) };
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Answer { status, out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// In the repository, or where it is to be.
    pub fn sprag(&self, arguments: &[&str]) -> Answer {
        let task = self.path("task");
        self.sprag_in(if task.is_dir() { &task } else { self.root.path() }, arguments)
    }

    pub fn done(&self, arguments: &[&str]) -> Answer {
        let answer = self.sprag(arguments);
        assert_eq!(answer.status, 0, "sprag {arguments:?}\n{}\n{}", answer.out, answer.err);
        answer
    }

    pub fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.done(arguments).out).unwrap()
    }
}
