//! Whether a run stands still, and what proposers are asked for then.
//!
//! Counted are trials that the gate judged, or could have judged, since the last keep. The gate finds the smallest
//! effect that it shows with a probability of 0.8, so that many misses in a row say that such effects have become
//! rare among what is proposed, not that they were overlooked.

use serde::{Deserialize, Serialize};

use super::families::gain_in_sigma;
use crate::record::{TrialId, Verdict};
use crate::state::{State, Trial};

/// Trials without a keep after which another family is asked for.
const ANOTHER_FAMILY: u32 = 8;
/// The same for combining near misses.
const COMBINE: u32 = 14;
/// The same for beginning from an older champion.
const OLDER: u32 = 20;
/// After so many more it begins with another family again.
const ROUND: u32 = 18;

/// What is asked for at a plateau.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// An idea of a family that was tried little.
    AnotherFamily,
    /// Two or more near misses in one change.
    CombineNearMisses,
    /// What an older champion did differently.
    OlderChampion,
}

/// A run that stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Plateau {
    /// Trials since the last keep.
    pub without_win: u32,
    /// What is asked for.
    pub stage: Stage,
}

impl Stage {
    /// In words that follow `asked for`.
    pub fn words(self) -> &'static str {
        match self {
            Stage::AnotherFamily => "another family of ideas",
            Stage::CombineNearMisses => "a combination of near misses",
            Stage::OlderChampion => "a restart from an older champion",
        }
    }
}

/// `None` as long as keeps are not overdue, or nothing is known of the noise.
pub fn plateau(state: &State) -> Option<Plateau> {
    state.baseline()?;
    let judged = |trial: &&Trial| {
        trial.id > 0
            && trial.again.is_none()
            && matches!(
                trial.verdict,
                Some(
                    Verdict::Loss(_) | Verdict::Inconclusive(_) | Verdict::Raced(_) | Verdict::Stopped { .. }
                )
            )
    };
    let since = state.trials.iter().rev().take_while(|trial| !trial.kept && !trial.undone);
    let without_win = since.filter(judged).count() as u32;
    let place = match without_win {
        few if few < OLDER => few,
        many => ANOTHER_FAMILY + (many - ANOTHER_FAMILY) % ROUND,
    };
    let stage = match place {
        few if few < ANOTHER_FAMILY => return None,
        few if few < COMBINE => Stage::AnotherFamily,
        few if few < OLDER => Stage::CombineNearMisses,
        _ => Stage::OlderChampion,
    };
    // What an advice would name must be there.
    let stage = match stage {
        Stage::CombineNearMisses if near_misses(state).len() < 2 => Stage::AnotherFamily,
        Stage::OlderChampion if older_champions(state).is_empty() => Stage::AnotherFamily,
        stage => stage,
    };
    Some(Plateau { without_win, stage })
}

/// Trials that were not kept although their estimate is above zero, best first, with the gain in sigma.
pub fn near_misses(state: &State) -> Vec<(TrialId, f64)> {
    let missed = state.trials.iter().filter(|trial| matches!(trial.verdict, Some(Verdict::Inconclusive(_))));
    let mut missed: Vec<(TrialId, f64)> = missed
        .filter_map(|trial| Some((trial.id, gain_in_sigma(trial)?)))
        .filter(|(_, gain)| *gain > 0.0)
        .collect();
    missed.sort_by(|a, b| b.1.total_cmp(&a.1).then(b.0.cmp(&a.0)));
    missed
}

/// Kept trials before the incumbent, and those that were taken back, newest first.
pub fn older_champions(state: &State) -> Vec<TrialId> {
    let other =
        |trial: &&Trial| (trial.kept || trial.undone) && Some(trial.id) != state.incumbent && trial.id > 0;
    state.trials.iter().rev().filter(other).map(|trial| trial.id).collect()
}
