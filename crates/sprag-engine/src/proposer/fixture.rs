//! A brief for tests, whose parts each of them replaces as it needs.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;

use sprag_measure::process::Cancel;

use super::Brief;
use crate::record::TrialId;
use crate::repo::Repo;
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
        cancel: &CANCEL,
    }
}
