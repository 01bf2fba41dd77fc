//! How long a program would take on the device: a sum over what it does, with rates fitted to published measurements. Whatever
//! comes out of here is a prediction and is called so.
//!
//! The model: a dispatch has a floor; products and convolutions have a rate each; numbers that surfaces, element-wise operations
//! and a single large weight move have a bandwidth each; what does not fit the 32 MB of fast memory goes at a lower rate. The
//! device clocks up while it works, so the first milliseconds after a pause are slower.

use std::collections::BTreeMap;

use crate::mil::{Argument, Function, Operation, Type};
use crate::profile::Profile;
use crate::runtime::width;

pub mod fit;
pub mod rows;

/// Fast memory of the device, in bytes: the sources' cliff lies between 24 and 96 MB, and their text says 32 MB.
pub const FAST_MEMORY: f64 = 33_554_432.0;

/// What a program does in one evaluation.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Work {
    /// Multiplications and additions of products, and of convolutions by weights that are no constants: nobody published a rate of
    /// those, so they get no better one.
    pub products: f64,
    /// Those of convolutions by baked weights.
    pub convolutions: f64,
    /// Bytes of inputs and outputs.
    pub surfaces: f64,
    /// Bytes that operations on single numbers, reductions, joins and softmax write.
    pub elements: f64,
    /// Bytes of the largest baked weight: those of the others are fetched while something is computed.
    pub weight: f64,
    /// Bytes of the largest operation's inputs and result together.
    pub largest: f64,
}

/// Constants below this are parameters, and nothing that is moved.
const SMALL: f64 = 64.0;

fn count(ty: &Type) -> f64 {
    ty.count().map_or(f64::INFINITY, |count| count as f64)
}

fn bytes(ty: &Type) -> f64 {
    count(ty) * width(ty.scalar()) as f64
}

/// An operation with what its inputs are.
struct Looked<'a> {
    operation: &'a Operation,
    types: &'a BTreeMap<&'a str, &'a Type>,
    given: &'a BTreeMap<&'a str, &'a Operation>,
}

impl<'a> Looked<'a> {
    fn name(&self, parameter: &str) -> Option<&'a str> {
        match self.operation.arguments.iter().find(|(own, _)| own == parameter) {
            Some((_, Argument::Name(name))) => Some(name),
            _ => None,
        }
    }

    fn shape(&self, parameter: &str) -> &'a [u64] {
        self.name(parameter).and_then(|name| self.types.get(name)).map(|ty| ty.shape()).unwrap_or_default()
    }

    /// Whether an input is the result of that operation.
    fn is(&self, parameter: &str, op: &str) -> bool {
        self.name(parameter).and_then(|name| self.given.get(name)).is_some_and(|own| own.op == op)
    }

    /// Bytes of result and inputs, parameters aside.
    fn moved(&self) -> f64 {
        let names = self.operation.arguments.iter().flat_map(|(_, argument)| match argument {
            Argument::Name(name) => std::slice::from_ref(name),
            Argument::Names(all) => all.as_slice(),
            Argument::Value(_) => &[],
        });
        let inputs = names.filter_map(|name| self.types.get(name.as_str())).map(|ty| bytes(ty));
        bytes(&self.operation.ty) + inputs.filter(|bytes| *bytes >= SMALL).sum::<f64>()
    }

    /// Multiplications and additions for each number of the result.
    fn flops_each(&self) -> f64 {
        let from_end = |shape: &[u64], at: usize| shape.iter().rev().nth(at).copied().unwrap_or(1) as f64;
        match self.operation.op.as_str() {
            "conv" => 2.0 * self.shape("weight").iter().skip(1).product::<u64>() as f64,
            // Scores and their mixture.
            "scaled_dot_product_attention" => 4.0 * from_end(self.shape("key"), 1),
            // Whichever of the last two axes of `x` is not the result's rows.
            _ => {
                let x = self.shape("x");
                let rows = from_end(self.operation.ty.shape(), 1);
                2.0 * from_end(x, 0) * from_end(x, 1) / rows.max(1.0)
            }
        }
    }
}

impl Work {
    /// That of a function. Types must have been checked.
    pub fn of(function: &Function) -> Work {
        let mut work = Work::default();
        let mut given: BTreeMap<&str, &Operation> = BTreeMap::new();
        let mut types: BTreeMap<&str, &Type> =
            function.inputs.iter().map(|(ty, name)| (name.as_str(), ty)).collect();
        work.surfaces += function.inputs.iter().map(|(ty, _)| bytes(ty)).sum::<f64>();
        for operation in &function.body {
            work.add(&Looked { operation, types: &types, given: &given });
            types.insert(&operation.result, &operation.ty);
            given.insert(&operation.result, operation);
        }
        work.surfaces += function
            .outputs
            .iter()
            .filter_map(|name| types.get(name.as_str()))
            .map(|ty| bytes(ty))
            .sum::<f64>();
        work
    }

    fn add(&mut self, looked: &Looked<'_>) {
        let operation = looked.operation;
        match operation.op.as_str() {
            "const" | "constexpr_affine_dequantize" => {
                // Quantised weights stay bytes on their way in.
                let data = operation.attributes.iter().find(|(name, _)| name == "quantized_data");
                let own = data.map_or(bytes(&operation.ty), |(_, value)| bytes(&value.ty));
                if own >= SMALL {
                    self.weight = self.weight.max(own);
                }
                return;
            }
            // Halves become bytes, and bytes halves, on the way out of one convolution and into the next.
            "reshape" | "identity" | "slice_by_size" | "slice_by_index" | "quantize" | "dequantize" => return,
            "matmul" | "scaled_dot_product_attention" | "conv" => {
                let flops = looked.flops_each() * count(&operation.ty);
                let in_bytes = looked.is("weight", "constexpr_affine_dequantize");
                let gain = if in_bytes && looked.is("x", "dequantize") { BYTES_GAIN } else { 1.0 };
                match in_bytes || looked.is("weight", "const") {
                    true => self.convolutions += flops / gain,
                    false => self.products += flops,
                }
            }
            _ => self.elements += bytes(&operation.ty),
        }
        self.largest = self.largest.max(looked.moved());
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
