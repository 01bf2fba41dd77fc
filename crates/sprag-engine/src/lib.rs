//! The experiment loop: propose, build, run, evaluate, decide, keep, remember.
//!
//! It knows no machine learning: a trial is a process, its evaluator a command. It neither prints nor
//! reads the environment; values come in, [`event::Event`]s go out. Training belongs to `sprag-train`,
//! terminals to `sprag`.

pub mod adopt;
pub mod evaluator;
pub mod event;
pub mod gate;
pub mod history;
pub mod lane;
pub mod ledger;
pub mod memory;
pub mod noise;
pub mod proposer;
pub mod record;
pub mod repo;
pub mod roofline;
pub mod runner;
pub mod sandbox;
pub mod session;
pub mod state;
pub mod task;
