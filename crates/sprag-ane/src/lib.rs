//! Apple's Neural Engine, on any machine: the text form of its programs and their weight files, what runs them, and an emulator
//! that stands in for it where there is none.

pub mod blob;
pub mod c;
pub mod config;
pub mod emulator;
pub mod graphs;
pub mod mil;
pub mod profile;
pub mod runtime;
pub mod schedule;
pub mod train;
