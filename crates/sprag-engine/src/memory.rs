//! What a run has learned besides its incumbent: which families of ideas pay, how well proposers foresee what they
//! do, whether it stands still, and what a trial taught. All of it is a pure fold over the state.

pub mod novelty;

mod families;
mod lesson;
mod plateau;
mod yields;

pub use families::{Family, Predictions, families, family_name, predictions, predictions_by_proposer};
pub use lesson::{cut_lesson, lesson};
pub use plateau::{Plateau, Stage, near_misses, older_champions, plateau};
pub use yields::{Yield, borne_out, yields};

#[cfg(test)]
mod tests;
