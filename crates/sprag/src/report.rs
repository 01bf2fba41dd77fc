//! The report of a run: one page model, pictures and a self-contained HTML file made from it.
//!
//! Reading ledgers and repositories belongs to `commands::report`; everything below is pure.

#[cfg(test)]
pub mod fixture;
pub mod html;
pub mod model;
pub mod plot;
