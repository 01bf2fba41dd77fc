//! Where a task keeps its state: everything below `.sprag/` in the task's folder.

use std::path::{Path, PathBuf};

use crate::record::TrialId;

/// Paths below `.sprag/`.
#[derive(Clone, Debug)]
pub struct Layout {
    task: PathBuf,
    root: PathBuf,
}

impl Layout {
    /// The layout of the task in `task`, an absolute path.
    pub fn of(task: &Path) -> Layout {
        Layout { task: task.to_owned(), root: task.join(".sprag") }
    }

    /// The task's folder.
    pub fn task(&self) -> &Path {
        &self.task
    }

    /// `.sprag/` itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The lock that one program at a time holds.
    pub fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    /// One folder for each run.
    pub fn runs(&self) -> PathBuf {
        self.root.join("runs")
    }

    /// Folder of a run.
    pub fn run(&self, run: &str) -> PathBuf {
        self.runs().join(run)
    }

    /// The brief that a trial's proposer was given last.
    pub fn brief_of(&self, run: &str, trial: TrialId) -> PathBuf {
        self.run(run).join("briefs").join(format!("{trial}.md"))
    }

    /// What the person who runs this wants of proposers.
    pub fn steering(&self, run: &str) -> PathBuf {
        self.run(run).join("steer.md")
    }

    /// Where other programs put proposals for a run.
    pub fn inbox(&self, run: &str) -> PathBuf {
        self.run(run).join("inbox")
    }

    /// Ledger of a run.
    pub fn ledger(&self, run: &str) -> PathBuf {
        self.run(run).join("ledger.jsonl")
    }

    /// One folder for each checked-out trial.
    pub fn worktrees(&self) -> PathBuf {
        self.root.join("worktrees")
    }

    /// Worktree of a trial.
    pub fn worktree(&self, run: &str, trial: TrialId) -> PathBuf {
        self.worktrees().join(format!("{run}-{trial}"))
    }

    /// Checkout of the commit that a run began with.
    pub fn pristine(&self, run: &str) -> PathBuf {
        self.worktrees().join(format!("{run}-pristine"))
    }

    /// Worktree of one asking of a proposer, numbered by the ledger's next line, so never used before: what a
    /// killed program left running in an older one edits nothing that is tried.
    pub fn asking(&self, run: &str, trial: TrialId, line: u64) -> PathBuf {
        self.worktrees().join(format!("{run}-{trial}-ask{line}"))
    }

    /// One folder for each built trial.
    pub fn outs(&self) -> PathBuf {
        self.root.join("out")
    }

    /// What the build of a trial is to keep.
    pub fn out(&self, run: &str, trial: TrialId) -> PathBuf {
        self.outs().join(format!("{run}-{trial}"))
    }

    /// Build cache shared by the trials.
    pub fn cache(&self) -> PathBuf {
        self.root.join("cache")
    }

    /// The only folder that a running candidate may write; emptied before and after.
    pub fn scratch(&self) -> PathBuf {
        self.root.join("scratch")
    }

    /// Says that an arm is whole: checked out, built, everything kept. Holds its commit, is written last, and
    /// lies where no build can write.
    pub fn ready(&self, run: &str, trial: TrialId) -> PathBuf {
        self.run(run).join(format!("ready-{trial}"))
    }

    /// Files that a proposer reads at one asking, numbered as its worktree is.
    pub fn brief(&self, run: &str, trial: TrialId, line: u64) -> PathBuf {
        self.run(run).join(format!("brief-{trial}-ask{line}"))
    }

    /// Results of other loops, one file each; see [`crate::history`].
    pub fn history(&self) -> PathBuf {
        self.root.join("history")
    }

    /// The ticked copy of the task's `hypotheses.md`.
    pub fn hypotheses(&self) -> PathBuf {
        self.root.join("hypotheses.md")
    }
}
