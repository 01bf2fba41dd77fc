//! Formats of weights, with the bits that they really take.

/// A format.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quant {
    /// As people name it.
    pub name: &'static str,
    /// Bits a weight, scales included; for a mix of formats the mean over a model of usual shape.
    pub bits: f64,
    /// Where the figure comes from.
    pub source: &'static str,
}

impl Quant {
    /// That of a file, by the bytes of its tensors and the numbers in them.
    pub fn of_file(weight_bytes: u64, params: u64) -> Quant {
        let bits = weight_bytes as f64 * 8.0 / params.max(1) as f64;
        Quant { name: "as in the file", bits, source: "the sizes of its tensors" }
    }
}

const BLOCK: &str = "bytes of a block over its weights, ggml-common.h of llama.cpp";
const MIX: &str = "mean over Llama 3 8B as llama.cpp's quantize tells it; the mix depends on the model";

/// All, the widest first.
const QUANTS: [Quant; 21] = [
    Quant { name: "F32", bits: 32.0, source: "by definition" },
    Quant { name: "F16", bits: 16.0, source: "by definition" },
    Quant { name: "BF16", bits: 16.0, source: "by definition" },
    Quant { name: "FP8", bits: 8.0, source: "by definition; scales a tensor or a row" },
    Quant { name: "Q8_0", bits: 34.0 * 8.0 / 32.0, source: BLOCK },
    Quant { name: "Q6_K", bits: 210.0 * 8.0 / 256.0, source: BLOCK },
    Quant { name: "Q5_K_M", bits: 5.70, source: MIX },
    Quant { name: "Q5_K", bits: 176.0 * 8.0 / 256.0, source: BLOCK },
    Quant { name: "Q5_1", bits: 24.0 * 8.0 / 32.0, source: BLOCK },
    Quant { name: "Q5_0", bits: 22.0 * 8.0 / 32.0, source: BLOCK },
    Quant { name: "Q4_K_M", bits: 4.85, source: MIX },
    Quant { name: "Q4_K_S", bits: 4.58, source: MIX },
    Quant { name: "Q4_1", bits: 20.0 * 8.0 / 32.0, source: BLOCK },
    Quant { name: "Q4_K", bits: 144.0 * 8.0 / 256.0, source: BLOCK },
    Quant { name: "Q4_0", bits: 18.0 * 8.0 / 32.0, source: BLOCK },
    Quant { name: "NVFP4", bits: 4.5, source: "16 weights of 4 bits with a scale of 8 bits (NVIDIA, NVFP4)" },
    Quant { name: "IQ4_XS", bits: 136.0 * 8.0 / 256.0, source: BLOCK },
    Quant {
        name: "MXFP4",
        bits: 17.0 * 8.0 / 32.0,
        source: "32 weights of 4 bits with a scale of 8 bits (OCP Microscaling 1.0)",
    },
    Quant { name: "Q3_K_M", bits: 4.00, source: MIX },
    Quant { name: "Q3_K", bits: 110.0 * 8.0 / 256.0, source: BLOCK },
    Quant { name: "Q2_K", bits: 84.0 * 8.0 / 256.0, source: BLOCK },
];

/// All of them, the widest first.
pub fn quants() -> &'static [Quant] {
    &QUANTS
}

/// The one of that name, whatever the case.
///
/// ```
/// use sprag_measure::plan::find_quant;
/// assert_eq!(find_quant("q4_0").map(|quant| quant.bits), Some(4.5));
/// assert_eq!(find_quant("mxfp4").map(|quant| quant.bits), Some(4.25));
/// assert!(find_quant("q9").is_none());
/// ```
pub fn find_quant(name: &str) -> Option<Quant> {
    QUANTS.iter().find(|quant| quant.name.eq_ignore_ascii_case(name.trim())).copied()
}
