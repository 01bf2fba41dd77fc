//! What a training candidate links, and what judges it.
//!
//! A candidate is built with the feature `model` (operations, optimisers, harness; on Burn). The program
//! uses the rest: `data` (formats, loader; sources and tokenizer training behind `prepare`), `protocol`
//! (what candidate and evaluator say to each other) and `eval` (the evaluator). No other crate of the
//! loop is known here.

#[cfg(feature = "model")]
pub use burn;

pub mod data;
#[cfg(feature = "model")]
pub mod decoder;
pub mod eval;
#[cfg(feature = "model")]
pub mod harness;
#[cfg(feature = "kernels")]
pub mod kernels;
#[cfg(feature = "model")]
pub mod ops;
#[cfg(feature = "model")]
pub mod optim;
pub mod protocol;
#[cfg(feature = "model")]
pub mod schedule;
