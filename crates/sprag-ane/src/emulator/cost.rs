//! How long a program would take on the device: a sum over what it does, with rates fitted to published measurements. Whatever
//! comes out of here is a prediction and is called so.
//!
//! The model: a dispatch has a floor; products and convolutions have a rate each; numbers that surfaces, element-wise operations
//! and a single large weight move have a bandwidth each; what does not fit the 32 MB of fast memory goes at a lower rate. The
//! device clocks up while it works, so the first milliseconds after a pause are slower.

use super::super::mil::{Argument, Function, Operation, Type};
use crate::profile::Profile;
use crate::runtime::width;

pub mod fit;
pub mod rows;

/// Fast memory of the device, in bytes: the sources' cliff lies between 24 and 96 MB, and their text says 32 MB.
pub const FAST_MEMORY: f64 = 33_554_432.0;

/// What a program does in one evaluation.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Work {
    /// Multiplications and additions of products with what comes along in the input.
    pub products: f64,
    /// Those of convolutions and products with baked weights.
    pub convolutions: f64,
    /// Bytes of inputs and outputs.
    pub surfaces: f64,
    /// Bytes that operations on single numbers, reductions, joins and softmax write.
    pub elements: f64,
    /// Bytes of the largest baked weight: those of the others are fetched while something is computed.
    pub weight: f64,
    /// Bytes of baked weights.
    pub weights: f64,
    /// Bytes of the largest operation's inputs and result together.
    pub largest: f64,
}

/// Constants below this are parameters, and nothing that is moved.
const SMALL: f64 = 64.0;

fn bytes(ty: &Type) -> f64 {
    ty.count().map_or(f64::INFINITY, |count| count as f64) * width(ty.scalar()) as f64
}

impl Work {
    /// That of a function. Types must have been checked.
    pub fn of(function: &Function) -> Work {
        let mut work = Work::default();
        let mut known: std::collections::BTreeMap<&str, &Operation> = std::collections::BTreeMap::new();
        let inputs: std::collections::BTreeMap<&str, &Type> =
            function.inputs.iter().map(|(ty, name)| (name.as_str(), ty)).collect();
        let given = |known: &std::collections::BTreeMap<&str, &Operation>, name: &str| {
            known
                .get(name)
                .map(|operation| operation.ty.clone())
                .or_else(|| inputs.get(name).map(|ty| (*ty).clone()))
        };
        work.surfaces += function.inputs.iter().map(|(ty, _)| bytes(ty)).sum::<f64>();
        for operation in &function.body {
            let argument =
                |name: &str| operation.arguments.iter().find(|(own, _)| own == name).map(|(_, own)| own);
            let name = |parameter: &str| match argument(parameter) {
                Some(Argument::Name(name)) => Some(name.as_str()),
                _ => None,
            };
            let ty = |parameter: &str| name(parameter).and_then(|name| given(&known, name));
            let out = bytes(&operation.ty);
            let moved = out
                + operation
                    .arguments
                    .iter()
                    .flat_map(|(_, argument)| match argument {
                        Argument::Name(name) => vec![name.as_str()],
                        Argument::Names(all) => all.iter().map(String::as_str).collect(),
                        Argument::Value(_) => Vec::new(),
                    })
                    .filter_map(|name| given(&known, name))
                    .map(|ty| bytes(&ty))
                    .filter(|bytes| *bytes >= SMALL)
                    .sum::<f64>();
            match operation.op.as_str() {
                "const" | "constexpr_affine_dequantize" => {
                    // Quantised weights stay bytes on their way in.
                    let data = operation.attributes.iter().find(|(name, _)| name == "quantized_data");
                    let own = data.map_or(out, |(_, value)| bytes(&value.ty));
                    if own < SMALL {
                        known.insert(&operation.result, operation);
                        continue;
                    }
                    work.weights += own;
                    work.weight = work.weight.max(own);
                }
                // Halves become bytes, and bytes halves, on the way out of one convolution and into the next.
                "reshape" | "identity" | "slice_by_size" | "slice_by_index" | "quantize" | "dequantize" => {}
                "matmul" | "scaled_dot_product_attention" => {
                    let inner = match operation.op.as_str() {
                        "matmul" => {
                            let shape = ty("x").map(|ty| ty.shape().to_vec()).unwrap_or_default();
                            let count = shape.iter().product::<u64>() as f64;
                            let result: &[u64] = operation.ty.shape();
                            let rows = result.len().checked_sub(2).map_or(1, |at| result[at]) as f64;
                            let batch: f64 = shape.iter().rev().skip(2).product::<u64>() as f64;
                            count / (rows * batch).max(1.0)
                        }
                        _ => {
                            let key = ty("key").map(|ty| ty.shape().to_vec()).unwrap_or_default();
                            2.0 * key.len().checked_sub(2).map_or(0, |at| key[at]) as f64
                        }
                    };
                    let flops = 2.0 * operation.ty.count().map_or(0.0, |count| count as f64) * inner;
                    let baked = ["x", "y"].into_iter().any(|side| {
                        name(side).and_then(|name| known.get(name)).is_some_and(|own| own.op == "const")
                    });
                    match baked {
                        true => work.convolutions += flops,
                        false => work.products += flops,
                    }
                    work.largest = work.largest.max(moved);
                }
                "conv" => {
                    let weight = ty("weight").map(|ty| ty.shape().to_vec()).unwrap_or_default();
                    let taps: f64 = weight.iter().skip(1).product::<u64>() as f64;
                    let of = |parameter: &str, op: &str| {
                        name(parameter).and_then(|name| known.get(name)).is_some_and(|own| own.op == op)
                    };
                    let bytes = of("x", "dequantize") && of("weight", "constexpr_affine_dequantize");
                    let gain = if bytes { BYTES_GAIN } else { 1.0 };
                    work.convolutions +=
                        2.0 * operation.ty.count().map_or(0.0, |count| count as f64) * taps / gain;
                    work.largest = work.largest.max(moved);
                }
                _ => {
                    work.elements += out;
                    work.largest = work.largest.max(moved);
                }
            }
            known.insert(&operation.result, operation);
        }
        for name in &function.outputs {
            work.surfaces += given(&known, name).map_or(0.0, |ty| bytes(&ty));
        }
        work
    }

    /// The numbers that rates multiply, in the order of [`Rates::numbers`].
    pub(crate) fn features(&self) -> [f64; 6] {
        let slow = if self.largest > FAST_MEMORY { SPILLED } else { 1.0 };
        [
            1.0,
            self.convolutions * slow,
            self.products * slow,
            self.surfaces,
            self.elements,
            self.weight * slow,
        ]
    }
}

/// How much longer what does not fit fast memory takes: by the products of 2048 and 4096 (5.7 and 4.0 TFLOP/s), and by weights
/// of 18 and 32 MB (56 and 36 GB/s), which agree.
pub const SPILLED: f64 = 1.5;

/// How much faster convolutions of bytes by bytes are than those of halves (maderix/ANE, M4: 14.8 against 7.8 ms, 7.5 against
/// 4.0; another measurement 1.88 as well).
pub const BYTES_GAIN: f64 = 1.88;

/// Seconds a unit of each kind of work.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// A dispatch, in seconds.
    pub floor: f64,
    /// Seconds a FLOP of convolutions.
    pub convolution: f64,
    /// Seconds a FLOP of products.
    pub product: f64,
    /// Seconds a byte of inputs and outputs.
    pub surface: f64,
    /// Seconds a byte that is written element by element.
    pub element: f64,
    /// Seconds a byte of the largest weight.
    pub weight: f64,
}

impl Rates {
    /// In the order of a work's features.
    pub(crate) fn numbers(&self) -> [f64; 6] {
        [self.floor, self.convolution, self.product, self.surface, self.element, self.weight]
    }

    pub(crate) fn of(numbers: [f64; 6]) -> Rates {
        let [floor, convolution, product, surface, element, weight] = numbers;
        Rates { floor, convolution, product, surface, element, weight }
    }

    /// Those of a chip: fitted for the M4 family, scaled for the others by what was published of them.
    pub fn of_chip(profile: &Profile) -> Rates {
        let m4 = FITTED;
        match profile.name {
            // Floor 0.22 to 0.23 ms, 3.25 TFLOP/s and 9 GB/s (the guide, chapter 9; ANEForge).
            "M1" => m4.scaled(2.4, 5.4 / 3.25, 57.0 / 9.0),
            // 3.4 TFLOP/s (ANEForge, M2 Pro); floor and bandwidth between its neighbours, assumed.
            "M2" => m4.scaled(1.7, 5.4 / 3.4, 3.0),
            // Peak of M3 Pro over M4 Pro, 9.98 / 12.57; single convolution of M3 Ultra 0.189 ms.
            "M3" => m4.scaled(1.9, 12.57 / 9.98, 1.3),
            // 8.7 TFLOP/s; evaluations of small programs in 0.06 to 0.08 ms and 0.106 ms.
            "M5" => m4.scaled(0.9, 5.4 / 8.7, 1.0),
            _ => m4,
        }
    }

    fn scaled(self, floor: f64, compute: f64, moved: f64) -> Rates {
        Rates {
            floor: self.floor * floor,
            convolution: self.convolution * compute,
            product: self.product * compute,
            surface: self.surface * moved,
            element: self.element * moved,
            weight: self.weight * moved,
        }
    }

    /// Predicted seconds of one evaluation on a device that is warm.
    pub fn seconds(&self, work: &Work) -> f64 {
        self.numbers().iter().zip(work.features()).map(|(rate, amount)| rate * amount).sum()
    }
}

/// The rates that [`fit::fit`] gives for all of [`rows::rows`]; a test holds them to it.
pub const FITTED: Rates = Rates {
    floor: 8.877e-5,
    convolution: 5.714e-14,
    product: 1.680e-13,
    surface: 0.0,
    element: 1.701e-11,
    weight: 1.393e-11,
};

/// How the device clocks up: after a pause everything takes longer, and the excess fades while it works. Fitted by eye to the
/// first two rows of a published series (M4 Max, 512 channels: 0.408 ms for 32 convolutions, 0.262 for 48, 0.244 for 64, where
/// a warm M4 takes 0.160, 0.190 and 0.223); that it is the clock is assumed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Warmth {
    /// Seconds of work since the last pause.
    worked: f64,
}

/// Excess of the first evaluation, in parts of a warm one.
const COLD_EXCESS: f64 = 2.6;
/// Seconds of work after which a third of the excess is left.
const WARMING: f64 = 0.012;

impl Warmth {
    /// Just after a pause.
    pub fn cold() -> Warmth {
        Warmth::default()
    }

    /// Predicted seconds of an evaluation that takes so long warm; the device is warmer afterwards.
    pub fn take(&mut self, warm: f64) -> f64 {
        let seconds = warm * (1.0 + COLD_EXCESS * (-self.worked / WARMING).exp());
        self.worked += seconds;
        seconds
    }
}
