//! Programs for Apple's Neural Engine, on any machine: the text form of Core ML's model intermediate language and its weight
//! files. What runs them is not here.

pub mod blob;
pub mod emulator;
pub mod mil;
