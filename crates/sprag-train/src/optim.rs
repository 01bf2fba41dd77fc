//! Parameters, and the two rules that move them: [`AdamW`] for tables and scalars, [`Muon`] for matrices.
//!
//! A rule is a plain value whose numbers may change from step to step; what it must remember lives in the
//! [`Param`]. Which parameter follows which rule is the candidate's to say.

mod adamw;
mod muon;
mod param;

pub use adamw::AdamW;
pub use muon::{Muon, Orthogonaliser, orthogonalise};
pub use param::{Param, clip_gradients};

#[cfg(test)]
mod tests;
