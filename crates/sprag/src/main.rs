//! The program.
mod environment;
mod numbers;
mod report;
mod ui;
fn main() {}
