//! What the factors of matrix products are rounded to on the CPU: a knob of the run.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::kernels;

/// Precision of the factors of matrix products. Sums, weights and everything else are single precision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// The faster one where training goes.
    Auto,
    /// 24 bits of significand.
    Fp32,
    /// 8 bits of significand: enough to train with, and far faster where the processor has it.
    Bf16,
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Precision::Auto => "auto",
            Precision::Fp32 => "fp32",
            Precision::Bf16 => "bf16",
        })
    }
}

/// What was chosen for a run, and why.
#[derive(Clone, Copy, Debug)]
pub struct Choice {
    /// Never [`Precision::Auto`].
    pub precision: Precision,
    /// A clause that goes on after "because".
    pub because: &'static str,
}

static BF16: AtomicBool = AtomicBool::new(false);

/// Chooses for all operations of this process from now on. Before the first call it is [`Precision::Fp32`].
///
/// It acts on the CPU alone; other devices compute as their drivers do.
pub fn set_precision(asked: Precision) -> Choice {
    let fast = kernels::Precision::bf16_is_fast();
    let choice = match asked {
        Precision::Auto if fast => Choice {
            precision: Precision::Bf16,
            because: "this processor multiplies bfloat16 (AVX-512 BF16)",
        },
        Precision::Auto => {
            Choice { precision: Precision::Fp32, because: "this processor does not multiply bfloat16" }
        }
        precision => Choice { precision, because: "the knob says so" },
    };
    BF16.store(choice.precision == Precision::Bf16, Ordering::Relaxed);
    choice
}

/// What [`set_precision`] chose.
pub(crate) fn precision() -> kernels::Precision {
    if BF16.load(Ordering::Relaxed) { kernels::Precision::Bf16 } else { kernels::Precision::Fp32 }
}
