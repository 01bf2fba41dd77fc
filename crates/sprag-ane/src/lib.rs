//! Apple's Neural Engine, on any machine: the text form of its programs and their weight files, what runs them, an emulator that
//! stands in for it where there is none, and training on either.
//!
//! Without the feature `run` there is what programs are written with, and nothing that executes them: enough for who generates
//! graphs.

pub mod blob;
#[cfg(feature = "run")]
pub mod c;
pub mod config;
#[cfg(feature = "run")]
pub mod emulator;
pub mod graphs;
#[cfg(feature = "run")]
pub mod judge;
pub mod mil;
#[cfg(feature = "run")]
pub mod probe;
pub mod profile;
pub mod recipe;
pub mod runtime;
#[cfg(feature = "run")]
pub mod train;
