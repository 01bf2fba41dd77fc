//! Small programs whose times say what the device does: single convolutions, chains of them, products, weights as bytes.
//!
//! Source: the probes of maderix/ANE (`inmem_bench`, `inmem_peak`, `sram_probe`, `ane_int8_bench`), with weight files that are
//! right.

use super::{Draft, Graph};
use crate::blob::{BlobType, BlobWriter};
use crate::mil::{Argument, Literal, Scalar, Type, TypeError, Value, Var};

/// Numbers of a weight that keep the scale of what goes through: alternating signs, one over the root of the channels.
fn weights(channels: u64) -> impl Iterator<Item = f32> {
    let size = 1.0 / (channels as f32).sqrt();
    (0..channels * channels).map(move |at| if (at * 2_654_435_761) & 0x10_0000 == 0 { size } else { -size })
}

/// A chain of convolutions `[channels, channels]` over `side` x `side` positions (`wide` puts them in one row).
///
/// # Errors
/// When sizes do not go together; the same of all programs here.
pub fn convolutions(channels: u64, [high, wide]: [u64; 2], depth: u32) -> Result<Graph, TypeError> {
    let mut draft = Draft::new(&format!("conv{channels}x{depth}"));
    let mut x = draft.f.input("x", Scalar::Fp16, &[1, channels, high, wide]);
    for at in 0..depth {
        let weight = draft.baked(&format!("w{at}"), &[channels, channels, 1, 1], weights(channels));
        x = draft.f.conv(&format!("y{at}"), &x, &weight, 1);
    }
    draft.finish(&x)
}

/// A chain whose input and output are single precision, cast on the device.
///
/// # Errors
/// As [`convolutions`].
pub fn single_precision(channels: u64, wide: u64) -> Result<Graph, TypeError> {
    let mut draft = Draft::new(&format!("fp32conv{channels}"));
    let x = draft.f.input("x", Scalar::Fp32, &[1, channels, 1, wide]);
    let narrow = draft.f.cast("narrow", &x, Scalar::Fp16);
    let weight = draft.baked("w", &[channels, channels, 1, 1], weights(channels));
    let y = draft.f.conv("y16", &narrow, &weight, 1);
    let y = draft.f.cast("y", &y, Scalar::Fp32);
    draft.finish(&y)
}

/// A product of two halves of one input: `[rows, inner]` and `[inner, columns]`.
///
/// # Errors
/// As [`convolutions`].
pub fn product(size: u64) -> Result<Graph, TypeError> {
    let mut draft = Draft::new(&format!("matmul{size}"));
    let f = &mut draft.f;
    let x = f.input("x", Scalar::Fp16, &[1, size, 1, 2 * size]);
    let [a, b] = [("a", 0), ("b", size)].map(|(name, from)| {
        let own = f.range(&format!("{name}_part"), &x, 3, from, size);
        f.reshape(name, &own, &[1, 1, size, size])
    });
    let product = f.matmul("product", &a, &b, false, false);
    let y = f.reshape("y", &product, &[1, size, 1, size]);
    draft.finish(&y)
}

/// A chain of convolutions with weights and activations in bytes: dequantised weights, and between layers a way to bytes and back.
///
/// # Errors
/// As [`convolutions`].
pub fn bytes(channels: u64, [high, wide]: [u64; 2], depth: u32) -> Result<Graph, TypeError> {
    let mut draft = Draft::new(&format!("int8conv{channels}x{depth}"));
    let mut x = draft.f.input("x", Scalar::Fp16, &[1, channels, high, wide]);
    let text =
        |word: &str| Value { ty: Type::Scalar(Scalar::String), literal: Literal::Text(word.to_owned()) };
    let name = |var: &Var| Argument::Name(var.name().to_owned());
    for at in 0..depth {
        let file = format!("q{at}.bin");
        let numbers: Vec<u8> = weights(channels).map(|number| if number > 0.0 { 64 } else { 192 }).collect();
        let mut writer = BlobWriter::new();
        // Bytes are whole numbers of themselves: the writer takes them.
        let _ = writer.add(BlobType::Int8, &numbers);
        draft.weights.insert(format!("@model_path/weights/{file}"), writer.finish());
        let path = format!("@model_path/weights/{file}");
        let shape = vec![channels, channels, 1, 1];
        let data = Value {
            ty: Type::Tensor(Scalar::Int8, shape),
            literal: Literal::Blob { path, offset: super::FIRST },
        };
        let scale = 1.0 / (64.0 * (channels as f64).sqrt());
        let attributes = vec![
            ("axis", Value { ty: Type::Scalar(Scalar::Int32), literal: Literal::Int(0) }),
            ("quantized_data", data),
            ("scale", Value { ty: Type::Scalar(Scalar::Fp16), literal: Literal::Real(scale) }),
            ("zero_point", Value { ty: Type::Scalar(Scalar::Int8), literal: Literal::Int(0) }),
        ];
        let f = &mut draft.f;
        let weight = f.op(&format!("w{at}"), "constexpr_affine_dequantize", Vec::new(), attributes);
        let step = f.number(1.0 / 32.0, &x);
        let int8 = f.constant(text("int8"));
        let small = f.op(
            &format!("x{at}_bytes"),
            "quantize",
            vec![("input", name(&x)), ("output_dtype", name(&int8)), ("scale", name(&step))],
            Vec::new(),
        );
        let back = f.op(
            &format!("x{at}_halves"),
            "dequantize",
            vec![("input", name(&small)), ("scale", name(&step))],
            Vec::new(),
        );
        x = f.conv(&format!("y{at}"), &back, &weight, 1);
    }
    draft.finish(&x)
}

/// Attention by the layer of the language, with or without a mask, which the device ignores.
///
/// # Errors
/// As [`convolutions`].
pub fn attention(heads: u64, seq: u64, dim: u64, masked: bool) -> Result<Graph, TypeError> {
    let mut draft = Draft::new("sdpa");
    let x = draft.f.input("x", Scalar::Fp16, &[1, 3 * heads, seq, dim]);
    let mut arguments = Vec::new();
    let parts = [("query", 0), ("key", 1), ("value", 2)]
        .map(|(part, at)| (part, draft.f.channels(part, &x, at * heads, heads)));
    for (part, var) in &parts {
        arguments.push((*part, Argument::Name(var.name().to_owned())));
    }
    if masked {
        let numbers = (0..seq * seq).map(|at| if at % seq > at / seq { -65_504.0 } else { 0.0 });
        let mask = draft.baked("mask", &[1, 1, seq, seq], numbers);
        arguments.push(("attn_mask", Argument::Name(mask.name().to_owned())));
    }
    let y = draft.f.op("y", "scaled_dot_product_attention", arguments, Vec::new());
    draft.finish(&y)
}

/// The probes' programs, small enough to be evaluated in a test.
///
/// # Errors
/// As [`convolutions`].
pub fn all() -> Result<Vec<Graph>, TypeError> {
    Ok(vec![
        convolutions(64, [1, 64], 1)?,
        convolutions(32, [8, 32], 4)?,
        single_precision(64, 32)?,
        product(64)?,
        bytes(32, [8, 32], 2)?,
        attention(2, 32, 32, true)?,
        attention(2, 32, 32, false)?,
    ])
}
