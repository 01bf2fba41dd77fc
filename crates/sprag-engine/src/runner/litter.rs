//! Whose folders lie below `.sprag/`: what belongs to a trial, and which trials can still be executed.

use std::path::{Path, PathBuf};

use super::Layout;
use crate::record::TrialId;
use crate::session;
use crate::state::State;

/// Trials whose arms may be executed without a new decision: the incumbent, the certified champion, what an audit
/// compares, what waits for the second budget, the open trials, and one that is on its way to become the incumbent.
pub fn live(state: &State) -> Vec<TrialId> {
    let open = state.open_trials().map(|trial| trial.id);
    let audited = state.open_audit().map(|audit| audit.tip);
    let kept = state.incumbent.into_iter().chain(state.certified).chain(audited);
    let kept = kept.chain(session::second_arms(state));
    kept.chain(open).chain(state.winner().map(|trial| trial.id)).collect()
}

/// Everything that belongs to trials of the run, with the trial.
pub fn of_run(layout: &Layout, run: &str) -> Vec<(PathBuf, TrialId)> {
    let places = [
        (layout.worktrees(), format!("{run}-")),
        (layout.outs(), format!("{run}-")),
        (layout.run(run), "brief-".to_owned()),
        (layout.run(run), "ready-".to_owned()),
    ];
    places.iter().flat_map(|(folder, prefix)| owned(folder, prefix)).collect()
}

fn owned(folder: &Path, prefix: &str) -> Vec<(PathBuf, TrialId)> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.flatten().map(|entry| entry.path());
    paths.filter_map(|path| Some((path.clone(), trial_of(path.file_name()?.to_str()?, prefix)?))).collect()
}

/// The trial in a name such as `run-1-7` or `run-1-7-ask42`.
pub fn trial_of(name: &str, prefix: &str) -> Option<TrialId> {
    let rest = name.strip_prefix(prefix)?;
    match rest.split_once("-ask") {
        Some((trial, line)) => line.parse::<u64>().is_ok().then_some(trial)?.parse().ok(),
        None => rest.parse().ok(),
    }
}

/// True for a worktree that served one asking of a proposer.
pub fn is_asking(layout: &Layout, path: &Path) -> bool {
    path.starts_with(layout.worktrees())
        && path.file_name().is_some_and(|name| name.to_string_lossy().contains("-ask"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_their_trial_and_only_in_their_own_run() {
        for (name, trial) in [
            ("run-1-7", Some(7)),
            ("run-1-7-ask42", Some(7)),
            ("run-1-7-ask", None),
            ("run-1-fixed", None),
            ("run-1-2-7", None),
            ("run-12-7", None),
            ("check", None),
        ] {
            assert_eq!(trial_of(name, "run-1-"), trial, "{name}");
        }
    }
}
