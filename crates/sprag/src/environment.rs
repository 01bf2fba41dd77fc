//! The one place where the program reads its environment; everything else takes values.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

/// The variables that the program was started with.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// All of them.
    pub variables: Vec<(OsString, OsString)>,
}

impl Environment {
    /// Reads them.
    pub fn read() -> Environment {
        Environment { variables: std::env::vars_os().collect() }
    }

    /// A variable that is set and not empty.
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        let found = self.variables.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_os_str()).filter(|value| !value.is_empty())
    }

    /// The same as text; `None` when it is not Unicode.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(OsStr::to_str)
    }

    /// The home folder.
    pub fn home(&self) -> Option<PathBuf> {
        self.get("HOME").map(PathBuf::from)
    }

    /// The folder for data of programs: `XDG_DATA_HOME`, else `~/.local/share`.
    pub fn data_folder(&self) -> Option<PathBuf> {
        let named = self.get("XDG_DATA_HOME").map(PathBuf::from);
        named.or_else(|| Some(self.home()?.join(".local/share")))
    }

    /// Cargo's folder: `CARGO_HOME`, else `~/.cargo`.
    pub fn cargo_home(&self) -> Option<PathBuf> {
        self.get("CARGO_HOME").map(PathBuf::from).or_else(|| Some(self.home()?.join(".cargo")))
    }

    /// Cargo as it started this program (`CARGO`), else the one on the path.
    pub fn cargo(&self) -> PathBuf {
        self.get("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from)
    }

    /// The same variables without some.
    pub fn without(&self, names: &[&str]) -> Vec<(OsString, OsString)> {
        self.variables
            .iter()
            .filter(|(name, _)| !names.iter().any(|unwanted| name == unwanted))
            .cloned()
            .collect()
    }
}
