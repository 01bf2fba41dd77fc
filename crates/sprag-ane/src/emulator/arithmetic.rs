//! Rounding to halves, and the tables of activations, on single numbers. Written so that loops over them become vector
//! instructions.

use sprag_train::kernels::vector;

use crate::mil::Scalar;

/// The nearest half, ties to even; beyond 65504 infinite. NaN stays NaN.
#[inline(always)]
pub fn half(value: f32) -> f32 {
    const LEAST_NORMAL: u32 = 0x3880_0000;
    const MOST: u32 = 0x477F_E000;
    const INFINITE: u32 = 0x7F80_0000;
    let bits = value.to_bits();
    let size = bits & 0x7FFF_FFFF;
    let normal = (size + 0x0FFF + ((size >> 13) & 1)) & !0x1FFF;
    // Numbers in [0.5, 1) are multiples of 2^-24, as halves below 2^-14 are.
    let small = ((f32::from_bits(size) + 0.5) - 0.5).to_bits();
    let rounded = if size < LEAST_NORMAL { small } else { normal };
    let bounded = if rounded > MOST { INFINITE } else { rounded };
    let kept = if size > INFINITE { size } else { bounded };
    f32::from_bits(kept | (bits & 0x8000_0000))
}

/// A result as it is kept.
#[inline(always)]
pub fn kept(scalar: Scalar, value: f32) -> f32 {
    match scalar {
        Scalar::Fp16 => half(value),
        _ => value,
    }
}

/// A result of a product as it is kept: beyond the limit it is infinite.
#[inline(always)]
pub fn limited(value: f32, limit: f32) -> f32 {
    let sign = f32::from_bits(0x7F80_0000 | (value.to_bits() & 0x8000_0000));
    if value.abs() > limit { sign } else { half(value) }
}

/// Tables end at the largest half, and have no entry for NaN: it is taken for that end, which is assumed.
#[inline(always)]
fn table(value: f32) -> f32 {
    if value.is_nan() { 65_504.0 } else { value }
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub fn sigmoid(value: f32) -> f32 {
    vector::sigmoid(table(value))
}

/// Hyperbolic tangent.
#[inline(always)]
pub fn tanh(value: f32) -> f32 {
    table(value).tanh()
}

/// `e^x`.
#[inline(always)]
pub fn exp(value: f32) -> f32 {
    table(value).exp()
}

/// `max(x, 0)`.
#[inline(always)]
pub fn relu(value: f32) -> f32 {
    table(value).max(0.0)
}

/// `ln(1 + e^x)` as the device has it: zero above about 10.39 (coremltools, issue 2687), because its exponential is a half that
/// is limited to half of the largest.
#[inline(always)]
pub fn softplus(value: f32) -> f32 {
    if table(value) > 10.39 { 0.0 } else { table(value).exp().ln_1p() }
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;

    #[test]
    fn rounding_is_that_of_halves() {
        let mut random = 7_u64;
        for at in 0..2_000_000_u32 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let bits = if at < 70_000 { 0x3300_0000 + at * 40_000 } else { (random >> 32) as u32 };
            let value = f32::from_bits(bits);
            let expected = f16::from_f32(value).to_f32();
            let found = half(value);
            assert!(
                found == expected || found.is_nan() && expected.is_nan(),
                "{bits:08x}: {found} {expected}"
            );
            assert!(found.is_nan() || found.to_bits() == expected.to_bits(), "{bits:08x}");
        }
        for bits in 0..=u16::MAX {
            let value = f16::from_bits(bits).to_f32();
            assert!(half(value) == value || value.is_nan());
        }
    }
}
