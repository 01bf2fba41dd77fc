//! Loops over plain numbers that training spends its time in. They know nothing of tensors or gradients.
//!
//! Which instructions are used is decided when the program runs, by what the processor has: the binary is
//! portable. Work is spread over the threads of the current rayon pool. Unsafe code lives here and nowhere
//! else on the training path; each block says why it holds.

pub mod activation;
#[cfg(target_arch = "x86_64")]
mod amx;
pub mod attention;
#[cfg(target_arch = "x86_64")]
mod avx512;
pub mod loss;
pub mod matmul;
pub mod matrix;
pub mod memory;
pub mod mix;
pub mod mlp;
pub mod norm;
pub mod optimiser;
pub mod rotary;
#[cfg(test)]
mod testing;
pub mod vector;

pub use matmul::{COLS_TOGETHER, Precision, Prepared, PreparedRows, matmul, matmul_alone, product};
pub use matrix::{Heads, Matrix, MatrixMut};

/// Numbers that a thread takes at a time, about: enough that handing them out costs little.
const SHARE: usize = 16 * 1024;

/// Rows of `width` numbers that make up a [`SHARE`].
fn rows_a_share(width: usize) -> usize {
    (SHARE / width.max(1)).max(1)
}
