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
#[derive(Clone, Debug)]
pub struct Choice {
    /// Never [`Precision::Auto`].
    pub precision: Precision,
    /// A clause that goes on after "because".
    pub because: String,
}

static BF16: AtomicBool = AtomicBool::new(false);

/// Chooses for all operations of this process from now on. Before the first call it is [`Precision::Fp32`].
///
/// It acts on the CPU alone; other devices compute as their drivers do.
pub fn set_precision(asked: Precision) -> Choice {
    let choice = match (asked, kernels::Precision::fast_bf16()) {
        (Precision::Auto, Some(instructions)) => Choice {
            precision: Precision::Bf16,
            because: format!("this processor multiplies bfloat16 ({instructions})"),
        },
        (Precision::Auto, None) => {
            Choice { precision: Precision::Fp32, because: "bfloat16 is no faster here".to_owned() }
        }
        (precision, _) => Choice { precision, because: "the knob says so".to_owned() },
    };
    BF16.store(choice.precision == Precision::Bf16, Ordering::Relaxed);
    choice
}

/// What [`set_precision`] chose.
pub(crate) fn precision() -> kernels::Precision {
    if BF16.load(Ordering::Relaxed) { kernels::Precision::Bf16 } else { kernels::Precision::Fp32 }
}
