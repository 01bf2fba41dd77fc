//! What is true about a run or a machine: units, statistics, clocks, child processes, machine facts, probes.
//!
//! It sits under every other crate and knows none of them.

pub mod claims;
pub mod clock;
pub mod machine;
pub mod plan;
pub mod probe;
pub mod process;
pub mod stats;
pub mod units;
