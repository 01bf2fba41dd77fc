//! Executes a program with the device's arithmetic, as far as it was measured: halves between operations, wide sums in products
//! that end at half of the largest half, narrow sums in reductions, slices along the last axis that lose large numbers on older
//! chips, tables for activations that know no NaN.
//!
//! Sources: ANEForge (numeric cliffs, measured on M1 to M5), the guide to the Neural Engine (chapter 3). What nobody measured is
//! said where it is assumed. Ports bind in the alphabetical order of their names; weights are read when a program is made and
//! never again, as on the device.

use std::collections::BTreeMap;

use half::f16;

use crate::blob::{BlobError, BlobType, read_blob};
use crate::mil::{
    Argument, Function, Literal, Operation, Program, Scalar, Type, TypeError, Value, check_types,
};

/// A chip's arithmetic.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Profile {
    /// Its name.
    pub name: &'static str,
    /// Largest number that a slice with a begin on the last axis leaves finite; `None` where all are.
    pub slice_limit: Option<f32>,
    /// Largest result of a product; beyond is infinite.
    pub product_limit: f32,
}

/// M1 and M2 lose large numbers in slices along the last axis (measured on M1, M1 Max and M2 Pro); M4 and M5 do not; M3 was
/// not measured, and is taken for an M4.
pub const PROFILES: [Profile; 5] = [
    Profile { name: "M1", slice_limit: Some(4094.0), product_limit: 32_752.0 },
    Profile { name: "M2", slice_limit: Some(4094.0), product_limit: 32_752.0 },
    Profile { name: "M3", slice_limit: None, product_limit: 32_752.0 },
    Profile { name: "M4", slice_limit: None, product_limit: 32_752.0 },
    Profile { name: "M5", slice_limit: None, product_limit: 32_752.0 },
];

/// Numbers with a shape. Halves are kept as the singles of the same value.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// What they are.
    pub scalar: Scalar,
    /// Sizes.
    pub shape: Vec<usize>,
    /// Row by row.
    pub data: Vec<f32>,
}

/// Why a program cannot be made or evaluated.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum EmulatorError {
    /// It has not one function.
    #[error("the program has {0} functions; one is emulated")]
    Functions(usize),
    /// Its types do not go together.
    #[error(transparent)]
    Types(#[from] TypeError),
    /// It names a weight file that was not given.
    #[error("the weight file `{0}` is not given")]
    File(String),
    /// A weight file is wrong.
    #[error("the weight file `{path}`: {cause}")]
    Blob {
        /// The file.
        path: String,
        /// Why.
        cause: BlobError,
    },
    /// A weight's bytes are not those of its type.
    #[error("`{name}` is {wanted}, and the weight file has {found} bytes of {kind:?}")]
    Weight {
        /// The constant.
        name: String,
        /// Its type.
        wanted: String,
        /// Bytes.
        found: usize,
        /// Their type.
        kind: BlobType,
    },
    /// Inputs are missing or too short.
    #[error("{0}")]
    Inputs(String),
    /// It does not fit.
    #[error("a tensor of {0} numbers is more than is emulated")]
    Large(u64),
}

/// Most numbers of a tensor.
const MOST: u64 = 1 << 30;

/// A program with its weights, ready to be evaluated.
#[derive(Clone, Debug)]
pub struct Emulator {
    function: Function,
    constants: BTreeMap<String, Tensor>,
    profile: Profile,
}

fn half(value: f32) -> f32 {
    f16::from_f32(value).to_f32()
}

/// A result as it is kept.
fn kept(scalar: Scalar, value: f32) -> f32 {
    match scalar {
        Scalar::Fp16 => half(value),
        _ => value,
    }
}

impl Emulator {
    /// Checks a program and reads its weights; `files` are named as the program names them.
    ///
    /// # Errors
    /// See [`EmulatorError`].
    pub fn new(
        program: &Program,
        files: &BTreeMap<String, Vec<u8>>,
        profile: Profile,
    ) -> Result<Emulator, EmulatorError> {
        let [function] = program.functions.as_slice() else {
            return Err(EmulatorError::Functions(program.functions.len()));
        };
        check_types(function)?;
        let all = function.inputs.iter().map(|(ty, _)| ty).chain(function.body.iter().map(|one| &one.ty));
        for ty in all {
            let count = ty.count().unwrap_or(u64::MAX);
            if count > MOST {
                return Err(EmulatorError::Large(count));
            }
        }
        let mut constants = BTreeMap::new();
        for operation in function.body.iter().filter(|operation| operation.op == "const") {
            if let Some((_, value)) = operation.attributes.iter().find(|(name, _)| name == "val") {
                constants.insert(operation.result.clone(), constant(&operation.result, value, files)?);
            }
        }
        Ok(Emulator { function: function.clone(), constants, profile })
    }

    /// Evaluates it. Inputs are bound in the alphabetical order of their names, and may be longer than their type says, as
    /// surfaces may; outputs come in the alphabetical order of theirs.
    ///
    /// # Errors
    /// When inputs are missing or too short.
    pub fn evaluate(&self, inputs: &[&[f32]]) -> Result<Vec<Tensor>, EmulatorError> {
        let mut ports: Vec<&(Type, String)> = self.function.inputs.iter().collect();
        ports.sort_by(|a, b| a.1.cmp(&b.1));
        if ports.len() != inputs.len() {
            let problem = format!("the program takes {} inputs, and {} are given", ports.len(), inputs.len());
            return Err(EmulatorError::Inputs(problem));
        }
        let mut known: BTreeMap<&str, Tensor> = BTreeMap::new();
        for ((ty, name), data) in ports.into_iter().zip(inputs) {
            let tensor = of_type(ty, Vec::new());
            let count = tensor.shape.iter().product();
            let data = data.get(..count).ok_or_else(|| {
                EmulatorError::Inputs(format!("`{name}` takes {count} numbers, and {} are given", data.len()))
            })?;
            let data = data.iter().map(|value| kept(tensor.scalar, *value)).collect();
            known.insert(name, Tensor { data, ..tensor });
        }
        for operation in &self.function.body {
            let result = match self.constants.get(&operation.result) {
                Some(constant) => constant.clone(),
                None => self.execute(operation, &known),
            };
            known.insert(&operation.result, result);
        }
        let mut outputs: Vec<&String> = self.function.outputs.iter().collect();
        outputs.sort();
        Ok(outputs.into_iter().filter_map(|name| known.get(name.as_str()).cloned()).collect())
    }

    /// Types were checked: what is missing here cannot be.
    fn execute(&self, operation: &Operation, known: &BTreeMap<&str, Tensor>) -> Tensor {
        let input = |parameter: &str| -> Option<Tensor> {
            match &operation.arguments.iter().find(|(own, _)| own == parameter)?.1 {
                Argument::Name(name) => known.get(name.as_str()).cloned(),
                Argument::Value(value) => Some(literal(&value.ty, &value.literal)),
                Argument::Names(_) => None,
            }
        };
        let x = input("x").unwrap_or_else(|| of_type(&operation.ty, Vec::new()));
        let empty = of_type(&operation.ty, Vec::new());
        let Tensor { scalar, shape, .. } = &empty;
        let (scalar, shape) = (*scalar, shape.clone());
        let integers = |parameter: &str| -> Vec<i64> {
            input(parameter)
                .map(|tensor| tensor.data.iter().map(|value| *value as i64).collect())
                .unwrap_or_default()
        };
        let flag = |parameter: &str| input(parameter).is_some_and(|tensor| tensor.data.first() == Some(&1.0));
        let map = |of: &dyn Fn(f32) -> f32| x.data.iter().map(|value| kept(scalar, of(*value))).collect();
        let data = match operation.op.as_str() {
            "add" | "sub" | "mul" | "real_div" | "pow" | "maximum" | "minimum" => {
                let y = input("y").unwrap_or_else(|| empty.clone());
                let of = |a: f32, b: f32| match operation.op.as_str() {
                    "add" => a + b,
                    "sub" => a - b,
                    "mul" => a * b,
                    "real_div" => a / b,
                    "pow" => a.powf(b),
                    "maximum" => a.max(b),
                    _ => a.min(b),
                };
                both(&x, &y, &shape).map(|(a, b)| kept(scalar, of(a, b))).collect()
            }
            "sigmoid" => map(&|value| 1.0 / (1.0 + (-table(value)).exp())),
            "tanh" => map(&|value| table(value).tanh()),
            "exp" => map(&|value| table(value).exp()),
            "relu" => map(&|value| table(value).max(0.0)),
            "sqrt" => map(&f32::sqrt),
            "rsqrt" => map(&|value| 1.0 / value.sqrt()),
            "abs" => map(&f32::abs),
            "identity" | "cast" | "reshape" => map(&|value| value),
            "transpose" => transpose(&x, &integers("perm")),
            "slice_by_size" => self.slice(&x, &integers("begin"), &shape),
            "concat" => {
                let names = match operation.arguments.iter().find(|(own, _)| own == "values") {
                    Some((_, Argument::Names(names))) => names.as_slice(),
                    _ => &[],
                };
                let parts: Vec<&Tensor> = names.iter().filter_map(|name| known.get(name.as_str())).collect();
                concat(&parts, from_end(integers("axis").first().copied().unwrap_or(0), shape.len()))
            }
            "matmul" => {
                let y = input("y").unwrap_or_else(|| empty.clone());
                self.matmul(&x, &y, [flag("transpose_x"), flag("transpose_y")], &shape, scalar)
            }
            "conv" => {
                let weight = input("weight").unwrap_or_else(|| empty.clone());
                let groups = integers("groups").first().map_or(1, |groups| (*groups).max(1) as usize);
                self.conv(&x, &weight, groups, scalar)
            }
            "softmax" => {
                softmax(&x, from_end(integers("axis").first().copied().unwrap_or(-1), x.shape.len()))
            }
            _ => {
                let rank = x.shape.len();
                let axes: Vec<usize> = match input("axes") {
                    Some(_) => integers("axes").into_iter().map(|axis| from_end(axis, rank)).collect(),
                    None => (0..rank).collect(),
                };
                reduce(&x, &axes, operation.op.as_str())
            }
        };
        Tensor { scalar, shape, data }
    }

    fn limited(&self, scalar: Scalar, sum: f32) -> f32 {
        let beyond = scalar == Scalar::Fp16 && sum.abs() > self.profile.product_limit;
        if beyond { f32::INFINITY.copysign(sum) } else { kept(scalar, sum) }
    }

    fn slice(&self, x: &Tensor, begin: &[i64], shape: &[usize]) -> Vec<f32> {
        let strides = strides(&x.shape);
        let start: usize = begin.iter().zip(&strides).map(|(at, stride)| *at as usize * stride).sum();
        let late = begin.last().is_some_and(|begin| *begin > 0);
        let limit = self.profile.slice_limit.filter(|_| late && x.scalar == Scalar::Fp16);
        let lost = |value: f32| match limit {
            Some(limit) if value.abs() > limit => f32::INFINITY.copysign(value),
            _ => value,
        };
        places(shape, &strides).map(|at| lost(x.data[start + at])).collect()
    }

    fn matmul(&self, x: &Tensor, y: &Tensor, turned: [bool; 2], shape: &[usize], scalar: Scalar) -> Vec<f32> {
        let rank = shape.len();
        let (rows, columns) = (shape[rank - 2], shape[rank - 1]);
        let inner = x.shape[x.shape.len() - if turned[0] { 2 } else { 1 }];
        let batch = &shape[..rank - 2];
        let begins = |tensor: &Tensor| -> Vec<usize> {
            let own = &tensor.shape[..tensor.shape.len() - 2];
            let matrix = tensor.shape[tensor.shape.len() - 2..].iter().product::<usize>();
            let steps =
                broadcast_strides(own, batch).into_iter().map(|step| step * matrix).collect::<Vec<_>>();
            places(batch, &steps).collect()
        };
        let (left, right) = (begins(x), begins(y));
        let mut out = Vec::with_capacity(shape.iter().product());
        for (left, right) in left.into_iter().zip(right) {
            for row in 0..rows {
                let mut sums = vec![0.0_f32; columns];
                for k in 0..inner {
                    let a = x.data[left + if turned[0] { k * rows + row } else { row * inner + k }];
                    for (column, sum) in sums.iter_mut().enumerate() {
                        let b =
                            y.data[right + if turned[1] { column * inner + k } else { k * columns + column }];
                        *sum += a * b;
                    }
                }
                out.extend(sums.into_iter().map(|sum| self.limited(scalar, sum)));
            }
        }
        out
    }

    /// Kernels of 1 x 1.
    fn conv(&self, x: &Tensor, weight: &Tensor, groups: usize, scalar: Scalar) -> Vec<f32> {
        let (channels, area) = (x.shape[1], x.shape[2] * x.shape[3]);
        let (out, own) = (weight.shape[0], weight.shape[1]);
        let mut all = Vec::with_capacity(x.shape[0] * out * area);
        for image in 0..x.shape[0] {
            for to in 0..out {
                let first = to / (out / groups) * own;
                let mut sums = vec![0.0_f32; area];
                for from in 0..own {
                    let factor = weight.data[to * own + from];
                    let begin = (image * channels + first + from) * area;
                    for (sum, value) in sums.iter_mut().zip(&x.data[begin..begin + area]) {
                        *sum += factor * value;
                    }
                }
                all.extend(sums.into_iter().map(|sum| self.limited(scalar, sum)));
            }
        }
        all
    }
}

/// Tables end at the largest half, and have no entry for NaN: it is taken for that end, which is assumed.
fn table(value: f32) -> f32 {
    if value.is_nan() { f16::MAX.to_f32() } else { value }
}

fn from_end(axis: i64, rank: usize) -> usize {
    let axis = if axis < 0 { axis + rank as i64 } else { axis };
    usize::try_from(axis).unwrap_or(0)
}

fn of_type(ty: &Type, data: Vec<f32>) -> Tensor {
    let shape = ty.shape().iter().map(|size| usize::try_from(*size).unwrap_or(usize::MAX)).collect();
    Tensor { scalar: ty.scalar(), shape, data }
}

fn literal(ty: &Type, literal: &Literal) -> Tensor {
    fn leaves(literal: &Literal, into: &mut Vec<f32>) {
        match literal {
            Literal::Int(value) => into.push(*value as f32),
            Literal::Real(value) => into.push(*value as f32),
            Literal::Bool(value) => into.push(f32::from(u8::from(*value))),
            Literal::List(all) => all.iter().for_each(|one| leaves(one, into)),
            Literal::Text(_) | Literal::Blob { .. } => {}
        }
    }
    let mut data = Vec::new();
    leaves(literal, &mut data);
    let tensor = of_type(ty, Vec::new());
    Tensor { data: data.into_iter().map(|value| kept(tensor.scalar, value)).collect(), ..tensor }
}

fn constant(name: &str, value: &Value, files: &BTreeMap<String, Vec<u8>>) -> Result<Tensor, EmulatorError> {
    let Literal::Blob { path, offset } = &value.literal else {
        return Ok(literal(&value.ty, &value.literal));
    };
    let file = files.get(path).ok_or_else(|| EmulatorError::File(path.clone()))?;
    let blob = read_blob(file, *offset).map_err(|cause| EmulatorError::Blob { path: path.clone(), cause })?;
    let data: Option<Vec<f32>> = match (value.ty.scalar(), blob.kind) {
        (Scalar::Fp16, BlobType::Fp16) => Some(
            blob.data.chunks_exact(2).map(|pair| f16::from_le_bytes([pair[0], pair[1]]).to_f32()).collect(),
        ),
        (Scalar::Fp32, BlobType::Fp32) => {
            let single = |four: &[u8]| f32::from_le_bytes([four[0], four[1], four[2], four[3]]);
            Some(blob.data.chunks_exact(4).map(single).collect())
        }
        (Scalar::Int8, BlobType::Int8) => Some(blob.data.iter().map(|byte| f32::from(*byte as i8)).collect()),
        (Scalar::Uint8, BlobType::Uint8) => Some(blob.data.iter().map(|byte| f32::from(*byte)).collect()),
        _ => None,
    };
    let data = data.filter(|data| Some(data.len() as u64) == value.ty.count());
    let wrong = || EmulatorError::Weight {
        name: name.to_owned(),
        wanted: value.ty.to_string(),
        found: blob.data.len(),
        kind: blob.kind,
    };
    Ok(of_type(&value.ty, data.ok_or_else(wrong)?))
}

fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (0..shape.len().saturating_sub(1)).rev() {
        strides[axis] = strides[axis + 1] * shape[axis + 1];
    }
    strides
}

/// Strides of a shape within a larger one: axes that are missing or 1 stand still.
fn broadcast_strides(own: &[usize], shape: &[usize]) -> Vec<usize> {
    let missing = shape.len() - own.len();
    let steps = strides(own);
    (0..shape.len())
        .map(|axis| if axis < missing || own[axis - missing] == 1 { 0 } else { steps[axis - missing] })
        .collect()
}

/// Places of all numbers of a shape, row by row, with these strides.
fn places(shape: &[usize], strides: &[usize]) -> impl Iterator<Item = usize> + use<> {
    let count: usize = shape.iter().product();
    let (shape, strides) = (shape.to_vec(), strides.to_vec());
    (0..count).map(move |mut at| {
        let mut place = 0;
        for (size, stride) in shape.iter().zip(&strides).rev() {
            place += at % size * stride;
            at /= size;
        }
        place
    })
}

fn both<'a>(x: &'a Tensor, y: &'a Tensor, shape: &[usize]) -> impl Iterator<Item = (f32, f32)> + use<'a> {
    let left = places(shape, &broadcast_strides(&x.shape, shape));
    let right = places(shape, &broadcast_strides(&y.shape, shape));
    left.zip(right).map(|(a, b)| (x.data[a], y.data[b]))
}

fn transpose(x: &Tensor, order: &[i64]) -> Vec<f32> {
    let own = strides(&x.shape);
    let axes: Vec<usize> = order.iter().map(|axis| from_end(*axis, x.shape.len())).collect();
    let shape: Vec<usize> = axes.iter().map(|axis| x.shape[*axis]).collect();
    let steps: Vec<usize> = axes.iter().map(|axis| own[*axis]).collect();
    places(&shape, &steps).map(|at| x.data[at]).collect()
}

fn concat(parts: &[&Tensor], axis: usize) -> Vec<f32> {
    let Some(first) = parts.first() else { return Vec::new() };
    let before: usize = first.shape[..axis].iter().product();
    let mut all = Vec::new();
    for at in 0..before {
        for part in parts {
            let run: usize = part.shape[axis..].iter().product();
            all.extend_from_slice(&part.data[at * run..(at + 1) * run]);
        }
    }
    all
}

/// The numbers along an axis, for each place of the other axes.
fn lanes(shape: &[usize], axis: usize) -> impl Iterator<Item = (usize, usize)> + use<> {
    let (size, after) = (shape[axis], shape[axis + 1..].iter().product::<usize>());
    let before: usize = shape[..axis].iter().product();
    (0..before).flat_map(move |outer| (0..after).map(move |inner| (outer * size * after + inner, after)))
}

/// The largest is taken off first; sums are wide.
fn softmax(x: &Tensor, axis: usize) -> Vec<f32> {
    let mut out = vec![0.0; x.data.len()];
    for (begin, step) in lanes(&x.shape, axis) {
        let place = |at: usize| begin + at * step;
        let size = x.shape[axis];
        let most = (0..size).map(|at| x.data[place(at)]).fold(f32::NEG_INFINITY, f32::max);
        let sum: f32 = (0..size).map(|at| (x.data[place(at)] - most).exp()).sum();
        for at in 0..size {
            out[place(at)] = kept(x.scalar, (x.data[place(at)] - most).exp() / sum);
        }
    }
    out
}

/// Over axes, the last of them first; sums are narrow, each step a half.
fn reduce(x: &Tensor, axes: &[usize], op: &str) -> Vec<f32> {
    let mut sorted = axes.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let (mut data, mut shape) = (x.data.clone(), x.shape.clone());
    let mut count = 1;
    for axis in sorted.into_iter().rev() {
        let size = shape[axis];
        count *= size;
        data = lanes(&shape, axis)
            .map(|(begin, step)| {
                let values = (0..size).map(|at| data[begin + at * step]);
                match op {
                    "reduce_max" => values.fold(f32::NEG_INFINITY, f32::max),
                    _ => values.fold(0.0, |sum, value| kept(x.scalar, sum + value)),
                }
            })
            .collect();
        shape[axis] = 1;
    }
    if op == "reduce_mean" {
        data.iter_mut().for_each(|value| *value = kept(x.scalar, *value / count as f32));
    }
    data
}

#[cfg(test)]
mod tests;
