//! A brief for tests, whose parts each of them replaces as it needs, and a task to be asked about.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use sprag_measure::process::Cancel;

use super::Brief;
use crate::record::{Record, TrialId};
use crate::repo::{Repo, fixture};
use crate::state::State;
use crate::task::Task;

static MACHINE: BTreeMap<String, String> = BTreeMap::new();
static CANCEL: LazyLock<Cancel> = LazyLock::new(Cancel::default);

/// For the trial after those of the state; all that is written or read lies in `dir`.
pub fn brief<'a>(task: &'a Task, repo: &'a Repo, state: &'a State, dir: &'a Path) -> Brief<'a> {
    Brief {
        task,
        state,
        trial: state.trials.len() as TrialId,
        seed: 1,
        from: "HEAD",
        worktree: dir,
        brief_dir: dir,
        hypotheses: dir,
        repair: None,
        note: None,
        steering: None,
        machine: &MACHINE,
        repo,
        inbox: dir,
        stop: &CANCEL,
        cancel: &CANCEL,
    }
}

const TASK: &str = "format = 1\nname = \"t\"\n[files]\nmutable = [\"src/**\"]\nfixed = [\"Makefile\"]\n[run]\n\
    command = [\"x\"]\n[metric]\nname = \"val_bpb\"\ndirection = \"lower\"\npattern = '(.*)'\n[budget]\nseconds = 20\n";

/// A task whose first trial is to be proposed.
pub struct Place {
    pub dir: tempfile::TempDir,
    pub repo: Repo,
    pub task: Task,
}

impl Place {
    pub fn new() -> Place {
        let dir = tempfile::tempdir().unwrap();
        let files = [("task.toml", TASK), ("Makefile", "all:\n"), ("src/train.rs", "let rate = 2;\n")];
        let repo = fixture::init(dir.path(), &files);
        let task = Task::load(dir.path()).unwrap();
        Place { dir, repo, task }
    }

    pub fn worktree(&self) -> PathBuf {
        self.dir.path().join(".sprag/worktrees/run-1-1")
    }

    pub fn brief_dir(&self) -> PathBuf {
        self.dir.path().join(".sprag/brief")
    }

    /// A file beside the brief; empty where there is none.
    pub fn kept(&self, name: &str) -> String {
        fs::read_to_string(self.brief_dir().join(name)).unwrap_or_default()
    }

    /// Acts with a brief and a worktree that are new.
    pub fn with_brief<T>(&self, act: impl FnOnce(&Brief<'_>) -> T) -> T {
        let (worktree, brief_dir) = (self.worktree(), self.brief_dir());
        let parent = self.repo.head().unwrap();
        self.repo.worktree_add(&worktree, &parent).unwrap();
        let started = |trial| Record::TrialStarted {
            trial,
            proposer: "p".into(),
            parent: parent.clone(),
            again: None,
            heat: None,
        };
        let mut state = State::default();
        state.apply("", &started(0));
        state.apply("", &started(1));
        fs::create_dir_all(&brief_dir).unwrap();
        let hypotheses = self.dir.path().join(".sprag/hypotheses.md");
        act(&Brief {
            trial: 1,
            from: &parent,
            worktree: &worktree,
            brief_dir: &brief_dir,
            hypotheses: &hypotheses,
            ..brief(&self.task, &self.repo, &state, self.dir.path())
        })
    }
}
