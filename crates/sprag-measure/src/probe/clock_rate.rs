//! The clock that a core really runs at under load: a chain of multiplications, of which each waits for the one before
//! and takes three cycles on every x86 processor since 2008 (Intel Nehalem, AMD Zen; Fog, "Instruction tables"). Other
//! processors have other latencies, and are not guessed.

use super::{Effort, Sample};

/// In Hz; `None` where it cannot be told.
#[cfg(not(target_arch = "x86_64"))]
pub fn hertz(_: Effort) -> Option<Sample> {
    None
}

/// In Hz; `None` where it cannot be told.
#[cfg(target_arch = "x86_64")]
pub fn hertz(effort: Effort) -> Option<Sample> {
    /// Cycles of one multiplication.
    const LATENCY: u32 = 3;
    /// Multiplications of a round, and rounds of a go.
    const CHAIN: u32 = 10;
    const ROUNDS: u32 = 300_000;
    let go = |_| {
        let began = std::time::Instant::now();
        let mut x: u64 = 0x9E37_79B9_7F4A_7C15;
        let k: u64 = 0xBF58_476D_1CE4_E5B9;
        for _ in 0..ROUNDS {
            // By hand: a compiler knows that a product of products is a product.
            // SAFETY: it reads and writes the two registers that it is given.
            unsafe {
                std::arch::asm!(
                    "imul {x}, {k}", "imul {x}, {k}", "imul {x}, {k}", "imul {x}, {k}", "imul {x}, {k}",
                    "imul {x}, {k}", "imul {x}, {k}", "imul {x}, {k}", "imul {x}, {k}", "imul {x}, {k}",
                    x = inout(reg) x, k = in(reg) k, options(pure, nomem, nostack)
                );
            }
        }
        std::hint::black_box(x);
        f64::from(ROUNDS * CHAIN * LATENCY) / began.elapsed().as_secs_f64()
    };
    // The first goes wake the core up.
    (0..3).map(go).for_each(drop);
    Sample::of(&(0..effort.goes()).map(go).collect::<Vec<_>>())
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_one_that_a_processor_can_have() {
        let hertz = hertz(Effort::Quick).unwrap();
        // A thread that is not let run looks slower, and never faster.
        assert!(hertz.high < 10e9 && hertz.low > 1e7, "{hertz:?}");
    }
}
