//! What `sprag probe` found, for people: as lines, as a page with pictures, and beside an earlier one; and the products that
//! it times.

pub mod changes;
pub mod file;
pub mod page;
pub mod products;
pub mod words;
