//! A program made ready to be executed: constants read, names turned into places, and what each operation does on views.

use std::collections::BTreeMap;

use half::f16;
use rayon::prelude::*;
use sprag_train::kernels::memory::Buffer;
use sprag_train::kernels::vector::vectorised;
use sprag_train::kernels::{Matrix, MatrixMut, Precision, matmul};

use super::arithmetic::{exp, half, kept, limited, relu, sigmoid, softplus, tanh};
use super::view::{self, View, row_major};
use crate::blob::{BlobType, read_blob};
use crate::mil::{Argument, Function, Literal, Operation, Scalar, Type, Value, check_types};
use crate::profile::Profile;
use crate::runtime::{CompileCode, Port, RuntimeError, Weights};

/// Most numbers of a tensor, and most multiplications of a program, that are emulated.
const MOST_NUMBERS: u64 = 1 << 30;
const MOST_WORK: f64 = 1e15;

/// What a parameter gets: a value's place, several, or a constant in place.
#[derive(Clone, Debug)]
enum Source {
    At(usize),
    All(Vec<usize>),
}

/// One operation: what it is, what it takes, which values nobody needs afterwards.
#[derive(Clone, Debug)]
struct Step {
    op: String,
    ty: Type,
    inputs: BTreeMap<String, Source>,
    result: usize,
    done_with: Vec<usize>,
}

/// A program with its weights.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Inputs in the alphabetical order of their names, with the places of their values.
    inputs: Vec<(Port, usize)>,
    outputs: Vec<(Port, usize)>,
    constants: Vec<(usize, View)>,
    steps: Vec<Step>,
    values: usize,
    profile: Profile,
}

/// What happened besides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Remarks {
    /// Attention masks that were ignored.
    pub masks_ignored: u32,
}

impl Plan {
    /// Checks a function, and reads its weights; files are named as the program names them.
    ///
    /// # Errors
    /// Types that do not go together, missing or wrong weight files, or more than is emulated.
    pub fn new(function: &Function, files: &Weights, profile: Profile) -> Result<Plan, RuntimeError> {
        check_types(function)?;
        let all = function.inputs.iter().map(|(ty, _)| ty).chain(function.body.iter().map(|one| &one.ty));
        for ty in all {
            if ty.count().is_none_or(|count| count > MOST_NUMBERS) {
                return Err(refused(format!("{ty} has more numbers than are emulated ({MOST_NUMBERS})")));
            }
        }
        let work = super::cost::Work::of(function);
        if work.products + work.convolutions > MOST_WORK {
            return Err(refused(format!("it computes {:.1e} times, which nobody waits for", work.products)));
        }
        let mut plan = Plan {
            inputs: Vec::new(),
            outputs: Vec::new(),
            constants: Vec::new(),
            steps: Vec::new(),
            values: 0,
            profile,
        };
        let mut names: BTreeMap<&str, (usize, &Type)> = BTreeMap::new();
        for (ty, name) in &function.inputs {
            names.insert(name, (plan.values, ty));
            plan.inputs.push((Port { name: name.clone(), ty: ty.clone() }, plan.values));
            plan.values += 1;
        }
        plan.inputs.sort_by(|a, b| a.0.name.cmp(&b.0.name));
        for operation in &function.body {
            let made = plan.constant(operation, files)?;
            let result = plan.values;
            plan.values += 1;
            match made {
                Some(constant) => plan.constants.push((result, constant)),
                None => {
                    let step = plan.step(operation, &names, result);
                    plan.steps.push(step);
                }
            }
            names.insert(&operation.result, (result, &operation.ty));
        }
        for name in &function.outputs {
            // The types were checked: every output is given.
            if let Some((at, ty)) = names.get(name.as_str()) {
                plan.outputs.push((Port { name: name.clone(), ty: (*ty).clone() }, *at));
            }
        }
        plan.outputs.sort_by(|a, b| a.0.name.cmp(&b.0.name));
        plan.free_early();
        Ok(plan)
    }

    /// Values go when their last reader is done.
    fn free_early(&mut self) {
        let kept: Vec<usize> =
            self.outputs.iter().map(|(_, at)| *at).chain(self.constants.iter().map(|(at, _)| *at)).collect();
        let mut last = BTreeMap::new();
        for (step, own) in self.steps.iter().enumerate() {
            let read = own.inputs.values().flat_map(|source| match source {
                Source::At(at) => vec![*at],
                Source::All(all) => all.clone(),
            });
            read.for_each(|value| {
                last.insert(value, step);
            });
        }
        for (value, step) in last {
            if !kept.contains(&value) {
                self.steps[step].done_with.push(value);
            }
        }
    }

    /// What it takes, in the order in which surfaces bind.
    pub fn inputs(&self) -> Vec<Port> {
        self.inputs.iter().map(|(port, _)| port.clone()).collect()
    }

    /// What it gives, in that order.
    pub fn outputs(&self) -> Vec<Port> {
        self.outputs.iter().map(|(port, _)| port.clone()).collect()
    }

    fn constant(&self, operation: &Operation, files: &Weights) -> Result<Option<View>, RuntimeError> {
        let attribute =
            |name: &str| operation.attributes.iter().find(|(own, _)| own == name).map(|(_, value)| value);
        let name = operation.result.as_str();
        match operation.op.as_str() {
            "const" => match attribute("val") {
                Some(value) => self.read(name, value, files).map(Some),
                None => Ok(None),
            },
            "constexpr_affine_dequantize" => {
                let part = |part: &str| {
                    let value = attribute(part)
                        .ok_or_else(|| refused(format!("`{name}` has no attribute `{part}`")))?;
                    self.read(name, value, files)
                };
                let (data, scale, zero) = (part("quantized_data")?, part("scale")?, part("zero_point")?);
                let axis = part("axis")?.to_vec().first().map_or(0, |axis| *axis as i64);
                let axis = from_end(axis, data.shape().len());
                let along = |one: &View| {
                    let mut shape = vec![1; data.shape().len()];
                    if one.count() > 1 {
                        shape[axis] = one.count();
                    }
                    one.reshaped(&shape)
                };
                let fits = |one: &View| one.count() == 1 || data.shape().get(axis) == Some(&one.count());
                if !fits(&scale) || !fits(&zero) {
                    return Err(refused(format!(
                        "`{name}` has scales that do not fit axis {axis} of {}",
                        operation.ty
                    )));
                }
                let scalar = operation.ty.scalar();
                let moved = view::both(&data, &along(&zero), data.shape(), Scalar::Fp32, |q, zero| q - zero);
                Ok(Some(view::both(&moved, &along(&scale), data.shape(), scalar, |q, scale| {
                    kept(scalar, q * scale)
                })))
            }
            _ => Ok(None),
        }
    }

    fn read(&self, name: &str, value: &Value, files: &Weights) -> Result<View, RuntimeError> {
        let shape = sizes(&value.ty);
        let scalar = value.ty.scalar();
        let Literal::Blob { path, offset } = &value.literal else {
            let mut numbers = Vec::new();
            leaves(&value.literal, scalar, &mut numbers);
            return Ok(View::of(scalar, shape, &numbers));
        };
        let wrong = |problem: String| RuntimeError::Weights { path: path.clone(), problem };
        let file = files.get(path).ok_or_else(|| wrong("it is not given".to_owned()))?;
        let blob = read_blob(file, *offset).map_err(|cause| wrong(cause.to_string()))?;
        let numbers: Option<Vec<f32>> = match (scalar, blob.kind) {
            (Scalar::Fp16, BlobType::Fp16) => {
                let half = |pair: &[u8]| f16::from_le_bytes([pair[0], pair[1]]).to_f32();
                Some(blob.data.chunks_exact(2).map(half).collect())
            }
            (Scalar::Fp32, BlobType::Fp32) => {
                let single = |four: &[u8]| f32::from_le_bytes([four[0], four[1], four[2], four[3]]);
                Some(blob.data.chunks_exact(4).map(single).collect())
            }
            (Scalar::Int8, BlobType::Int8) => {
                Some(blob.data.iter().map(|byte| f32::from(*byte as i8)).collect())
            }
            (Scalar::Uint8, BlobType::Uint8) => Some(blob.data.iter().map(|byte| f32::from(*byte)).collect()),
            _ => None,
        };
        let numbers = numbers.filter(|numbers| Some(numbers.len() as u64) == value.ty.count());
        let numbers = numbers.ok_or_else(|| {
            let found = format!("{} bytes of {:?}", blob.data.len(), blob.kind);
            let problem = format!("`{name}` is {}, and {found} are there", value.ty);
            match self.profile.checks_blob_sizes {
                true => refused(format!("R21: {path}: {problem}")),
                false => wrong(problem),
            }
        })?;
        Ok(View::of(scalar, shape, &numbers))
    }

    fn step(&mut self, operation: &Operation, names: &BTreeMap<&str, (usize, &Type)>, result: usize) -> Step {
        let mut inputs = BTreeMap::new();
        for (parameter, argument) in &operation.arguments {
            let source = match argument {
                Argument::Name(name) => names.get(name.as_str()).map(|(at, _)| Source::At(*at)),
                Argument::Names(all) => Some(Source::All(
                    all.iter().filter_map(|name| Some(names.get(name.as_str())?.0)).collect(),
                )),
                Argument::Value(value) => {
                    let mut numbers = Vec::new();
                    leaves(&value.literal, value.ty.scalar(), &mut numbers);
                    let at = self.values;
                    self.values += 1;
                    self.constants.push((at, View::of(value.ty.scalar(), sizes(&value.ty), &numbers)));
                    Some(Source::At(at))
                }
            };
            if let Some(source) = source {
                inputs.insert(parameter.clone(), source);
            }
        }
        Step { op: operation.op.clone(), ty: operation.ty.clone(), inputs, result, done_with: Vec::new() }
    }

    /// Executes it: inputs and outputs in the alphabetical order of their names.
    ///
    /// # Panics
    /// There are not as many inputs as the program takes, or one has another shape.
    pub fn run(&self, inputs: Vec<View>) -> (Vec<View>, Remarks) {
        assert!(inputs.len() == self.inputs.len(), "{} inputs of {}", inputs.len(), self.inputs.len());
        let mut values: Vec<Option<View>> = vec![None; self.values];
        for ((port, at), view) in self.inputs.iter().zip(inputs) {
            assert!(view.shape() == sizes(&port.ty), "`{}` is {}", port.name, port.ty);
            values[*at] = Some(view);
        }
        for (at, constant) in &self.constants {
            values[*at] = Some(constant.clone());
        }
        let mut remarks = Remarks::default();
        for step in &self.steps {
            let result = self.execute(step, &values, &mut remarks);
            values[step.result] = Some(result);
            for at in &step.done_with {
                values[*at] = None;
            }
        }
        let outputs = self.outputs.iter().filter_map(|(_, at)| values[*at].clone()).collect();
        (outputs, remarks)
    }

    /// Types were checked: what is missing here cannot be.
    fn execute(&self, step: &Step, values: &[Option<View>], remarks: &mut Remarks) -> View {
        let scalar = step.ty.scalar();
        let shape = sizes(&step.ty);
        let maybe = |parameter: &str| match step.inputs.get(parameter)? {
            Source::At(at) => values[*at].clone(),
            Source::All(_) => None,
        };
        let input = |parameter: &str| {
            maybe(parameter)
                .unwrap_or_else(|| View::new(scalar, shape.clone(), Buffer::zeros(shape.iter().product())))
        };
        let integers = |parameter: &str| -> Vec<i64> {
            maybe(parameter)
                .map(|view| view.to_vec().iter().map(|value| *value as i64).collect())
                .unwrap_or_default()
        };
        let flag = |parameter: &str| maybe(parameter).is_some_and(|view| view.to_vec().first() == Some(&1.0));
        let rank = shape.len();
        match step.op.as_str() {
            "add" => self.both(&input("x"), &input("y"), &shape, scalar, |a, b| a + b),
            "sub" => self.both(&input("x"), &input("y"), &shape, scalar, |a, b| a - b),
            "mul" => self.both(&input("x"), &input("y"), &shape, scalar, |a, b| a * b),
            "real_div" => self.both(&input("x"), &input("y"), &shape, scalar, |a, b| a / b),
            "pow" => self.both(&input("x"), &input("y"), &shape, scalar, f32::powf),
            "maximum" => self.both(&input("x"), &input("y"), &shape, scalar, f32::max),
            "minimum" => self.both(&input("x"), &input("y"), &shape, scalar, f32::min),
            "sigmoid" => each(&input("x"), scalar, sigmoid),
            "tanh" => each(&input("x"), scalar, tanh),
            "exp" => each(&input("x"), scalar, exp),
            "relu" => each(&input("x"), scalar, relu),
            "softplus" => each(&input("x"), scalar, softplus),
            "sqrt" => each(&input("x"), scalar, f32::sqrt),
            "rsqrt" => each(&input("x"), scalar, |value| 1.0 / value.sqrt()),
            "abs" => each(&input("x"), scalar, f32::abs),
            "identity" => input("x"),
            "cast" => match (input("x"), scalar) {
                (x, Scalar::Fp32) => x.called(scalar),
                (x, Scalar::Fp16) => view::map(&x, scalar, half),
                (x, _) => view::map(&x, scalar, f32::trunc),
            },
            "reshape" => input("x").reshaped(&shape),
            "transpose" => {
                let axes: Vec<usize> =
                    integers("perm").into_iter().map(|axis| from_end(axis, rank)).collect();
                input("x").transposed(&axes)
            }
            "slice_by_size" | "slice_by_index" => {
                let x = input("x");
                let begin: Vec<usize> =
                    integers("begin").iter().zip(x.shape()).map(|(at, size)| from_end(*at, *size)).collect();
                self.slice(&x, &begin, &shape)
            }
            "concat" => {
                let places = match step.inputs.get("values") {
                    Some(Source::All(places)) => places.as_slice(),
                    _ => &[],
                };
                let parts: Vec<&View> = places.iter().filter_map(|at| values[*at].as_ref()).collect();
                let axis = from_end(integers("axis").first().copied().unwrap_or(0), rank);
                concat(&parts, axis, scalar, &shape)
            }
            "tile" => {
                let mut x = input("x");
                for (axis, times) in integers("reps").into_iter().enumerate() {
                    let parts = vec![&x; usize::try_from(times).unwrap_or(1)];
                    let mut shape = x.shape().to_vec();
                    shape[axis] *= parts.len();
                    x = concat(&parts, axis, scalar, &shape);
                }
                x
            }
            "matmul" => self.matmul(
                &input("x"),
                &input("y"),
                [flag("transpose_x"), flag("transpose_y")],
                &shape,
                scalar,
            ),
            "conv" => {
                let groups = integers("groups").first().map_or(1, |groups| (*groups).max(1) as usize);
                self.conv(&input("x"), &input("weight"), groups, &shape, scalar)
            }
            "softmax" => {
                let axis = from_end(integers("axis").first().copied().unwrap_or(-1), rank);
                softmax(&input("x"), axis, scalar)
            }
            "scaled_dot_product_attention" => {
                let (query, key, value) = (input("query"), input("key"), input("value"));
                let dim = query.shape()[rank - 1];
                let mut scores = query.shape().to_vec();
                scores[rank - 1] = key.shape()[rank - 2];
                let scale = half(1.0 / (dim as f32).sqrt());
                let scores = self.matmul(&query, &key, [false, true], &scores, scalar);
                let mut scores = view::map(&scores, scalar, |value| kept(scalar, value * scale));
                if let Some(mask) = maybe("attn_mask") {
                    if self.profile.allows("R06") {
                        let shape = scores.shape().to_vec();
                        scores = self.both(&scores, &mask, &shape, scalar, |a, b| a + b);
                    } else {
                        remarks.masks_ignored += 1;
                    }
                }
                self.matmul(&softmax(&scores, rank - 1, scalar), &value, [false; 2], &shape, scalar)
            }
            "quantize" => {
                let (x, scale) = (input("input"), input("scale"));
                let zero = maybe("zero_point").map_or(0.0, |zero| zero.to_vec()[0]);
                let (least, most) = if scalar == Scalar::Int8 { (-128.0, 127.0) } else { (0.0, 255.0) };
                let shape = x.shape().to_vec();
                view::both(&x, &scale, &shape, scalar, |x, scale| {
                    ((x / scale).round_ties_even() + zero).clamp(least, most)
                })
            }
            "dequantize" => {
                let (x, scale) = (input("input"), input("scale"));
                let zero = maybe("zero_point").map_or(0.0, |zero| zero.to_vec()[0]);
                let shape = x.shape().to_vec();
                view::both(&x, &scale, &shape, scalar, |x, scale| kept(scalar, (x - zero) * scale))
            }
            _ => {
                let x = input("x");
                let own = x.shape().len();
                let axes: Vec<usize> = match maybe("axes") {
                    Some(_) => integers("axes").into_iter().map(|axis| from_end(axis, own)).collect(),
                    None => (0..own).collect(),
                };
                reduce(&x, &axes, &step.op, scalar).reshaped(&shape)
            }
        }
    }

    fn both(
        &self,
        x: &View,
        y: &View,
        shape: &[usize],
        scalar: Scalar,
        f: impl Fn(f32, f32) -> f32 + Sync,
    ) -> View {
        match scalar {
            Scalar::Fp16 => view::both(x, y, shape, scalar, |a, b| half(f(a, b))),
            _ => view::both(x, y, shape, scalar, f),
        }
    }

    fn slice(&self, x: &View, begin: &[usize], shape: &[usize]) -> View {
        let part = x.part(begin, shape);
        let late = begin.last().is_some_and(|begin| *begin > 0) && x.scalar == Scalar::Fp16;
        match self.profile.slice_limit.filter(|_| late) {
            Some(limit) => view::map(&part, x.scalar, |value| limited(value, limit)),
            None => part,
        }
    }

    fn limited(&self, scalar: Scalar, numbers: &mut [f32]) {
        if scalar != Scalar::Fp16 {
            return;
        }
        let limit = self.profile.product_limit;
        numbers.par_chunks_mut(16 * 1024).for_each(|numbers| {
            vectorised(
                #[inline(always)]
                || numbers.iter_mut().for_each(|value| *value = limited(*value, limit)),
            );
        });
    }

    /// Sums are wide: halves multiply exactly in singles, and are added up in singles.
    fn matmul(&self, x: &View, y: &View, turned: [bool; 2], shape: &[usize], scalar: Scalar) -> View {
        let rank = shape.len();
        let (rows, columns) = (shape[rank - 2], shape[rank - 1]);
        let batch = &shape[..rank - 2];
        let own = x.shape().len();
        let inner = x.shape()[own - if turned[0] { 2 } else { 1 }];
        let begins = |view: &View| -> Vec<usize> {
            let mut whole = batch.to_vec();
            whole.extend(&view.shape()[view.shape().len() - 2..]);
            let spread = view.spread(&whole);
            let count: usize = batch.iter().product();
            let steps = row_major(batch);
            let place = |at: usize| -> usize {
                (0..batch.len()).map(|axis| at / steps[axis] % batch[axis] * spread[axis]).sum()
            };
            (0..count).map(place).collect()
        };
        let (left, right) = (begins(x), begins(y));
        let mut data = Buffer::new(left.len() * rows * columns);
        for ((out, from_x), from_y) in data.chunks_exact_mut((rows * columns).max(1)).zip(left).zip(right) {
            let (a, b) = (matrix(x, from_x, turned[0]), matrix(y, from_y, turned[1]));
            if self.profile.rounded_products {
                rounded_product(out, a, b, inner);
            } else {
                matmul(MatrixMut::new(out, rows, columns), a, b, false, Precision::Fp32);
            }
        }
        self.limited(scalar, &mut data);
        View::new(scalar, shape.to_vec(), data)
    }

    /// Kernels of 1 x 1: a product of `[out, in]` and `[in, positions]` for each image and group.
    fn conv(&self, x: &View, weight: &View, groups: usize, shape: &[usize], scalar: Scalar) -> View {
        let (x, weight) = (x.packed(), weight.packed());
        let (images, channels) = (x.shape()[0], x.shape()[1]);
        let area = x.shape()[2] * x.shape()[3];
        let (out, own) = (weight.shape()[0] / groups, weight.shape()[1]);
        let mut data = Buffer::new(shape.iter().product());
        for image in 0..images {
            for group in 0..groups {
                let to = (image * groups + group) * out * area;
                let from = (image * channels + group * own) * area;
                let a = Matrix::new(&weight.from_first()[group * out * own..], out, own);
                let b = Matrix::new(&x.from_first()[from..], own, area);
                let out_part = &mut data[to..to + out * area];
                if self.profile.rounded_products {
                    rounded_product(out_part, a, b, own);
                } else {
                    matmul(MatrixMut::new(out_part, out, area), a, b, false, Precision::Fp32);
                }
            }
        }
        self.limited(scalar, &mut data);
        View::new(scalar, shape.to_vec(), data)
    }
}

fn refused(detail: String) -> RuntimeError {
    RuntimeError::Compile { code: CompileCode::CompilationFailure, detail }
}

/// The matrix of a view's last two axes, turned or not.
fn matrix(view: &View, from: usize, turned: bool) -> Matrix<'_> {
    let rank = view.shape().len();
    let (rows, columns) = (view.shape()[rank - 2], view.shape()[rank - 1]);
    let (down, along) = (view.strides()[rank - 2], view.strides()[rank - 1]);
    let matrix = Matrix::strided(&view.from_first()[from..], rows, columns, down, along);
    if turned { matrix.transposed() } else { matrix }
}

fn rounded_product(out: &mut [f32], a: Matrix<'_>, b: Matrix<'_>, inner: usize) {
    let columns = b.cols();
    let at = |matrix: &Matrix<'_>, row: usize, column: usize| {
        matrix.data()[row * matrix.row_stride() + column * matrix.col_stride()]
    };
    out.par_chunks_mut(columns.max(1)).enumerate().for_each(|(row, out)| {
        for (column, out) in out.iter_mut().enumerate() {
            *out = (0..inner).map(|k| half(at(&a, row, k) * at(&b, k, column))).sum();
        }
    });
}

fn from_end(axis: i64, rank: usize) -> usize {
    let axis = if axis < 0 { axis + rank as i64 } else { axis };
    usize::try_from(axis).unwrap_or(0)
}

fn sizes(ty: &Type) -> Vec<usize> {
    ty.shape().iter().map(|size| usize::try_from(*size).unwrap_or(usize::MAX)).collect()
}

fn leaves(literal: &Literal, scalar: Scalar, into: &mut Vec<f32>) {
    match literal {
        Literal::Int(value) => into.push(kept(scalar, *value as f32)),
        Literal::Real(value) => into.push(match scalar {
            // One rounding, from the decimal number.
            Scalar::Fp16 => f16::from_f64(*value).to_f32(),
            _ => *value as f32,
        }),
        Literal::Bool(value) => into.push(f32::from(u8::from(*value))),
        Literal::List(all) => all.iter().for_each(|one| leaves(one, scalar, into)),
        Literal::Text(_) | Literal::Blob { .. } => {}
    }
}

fn each(x: &View, scalar: Scalar, f: impl Fn(f32) -> f32 + Sync) -> View {
    match scalar {
        Scalar::Fp16 => view::map(x, scalar, |value| half(f(value))),
        _ => view::map(x, scalar, f),
    }
}

fn concat(parts: &[&View], axis: usize, scalar: Scalar, shape: &[usize]) -> View {
    let mut data = Buffer::new(shape.iter().product());
    let strides = row_major(shape);
    let mut begin = 0;
    for part in parts {
        view::copy(&mut data[begin * strides[axis]..], &strides, part);
        begin += part.shape()[axis];
    }
    View::new(scalar, shape.to_vec(), data)
}

/// The axis last, each of its rows together.
fn axis_last(x: &View, axis: usize) -> (View, Vec<usize>) {
    let mut order: Vec<usize> = (0..x.shape().len()).filter(|own| *own != axis).collect();
    order.push(axis);
    (x.transposed(&order).packed(), order)
}

/// The largest is taken off first; sums are wide.
fn softmax(x: &View, axis: usize, scalar: Scalar) -> View {
    let (rows, order) = axis_last(x, axis);
    let width = x.shape()[axis].max(1);
    let mut data = Buffer::new(rows.count());
    let numbers = rows.rows().unwrap_or_default();
    let share = (16 * 1024 / width).max(1) * width;
    data.par_chunks_mut(share).zip(numbers.par_chunks(share)).for_each(|(out, x)| {
        vectorised(
            #[inline(always)]
            || {
                for (out, x) in out.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
                    let most = x.iter().copied().fold(f32::NEG_INFINITY, |a, b| if b > a { b } else { a });
                    out.iter_mut()
                        .zip(x)
                        .for_each(|(out, x)| *out = sprag_train::kernels::vector::exp(x - most));
                    // What the exponential takes for its smallest is nothing in halves.
                    let sum: f32 = out.iter().sum();
                    let share = 1.0 / sum;
                    out.iter_mut().for_each(|out| *out = kept(scalar, *out * share));
                }
            },
        );
    });
    let mut back = vec![0; order.len()];
    order.iter().enumerate().for_each(|(at, axis)| back[*axis] = at);
    View::new(scalar, rows.shape().to_vec(), data).transposed(&back)
}

/// Over axes, the last of them first; sums are narrow, each step a half.
fn reduce(x: &View, axes: &[usize], op: &str, scalar: Scalar) -> View {
    let mut sorted = axes.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let mut view = x.clone();
    let mut count = 1;
    for axis in sorted.into_iter().rev() {
        let size = view.shape()[axis];
        count *= size;
        // One place of the axis after the other, for all others at once.
        let mut shape = view.shape().to_vec();
        shape[axis] = 1;
        let at = |place: usize| {
            let mut begin = vec![0; shape.len()];
            begin[axis] = place;
            view.part(&begin, &shape)
        };
        view = match op {
            "reduce_max" => fold(&view, axis, f32::max),
            "reduce_log_sum_exp" => {
                // Exponentials are not shifted, and their sum is a half that is limited: zero above about 7.63 for 32 channels
                // (coremltools, issue 2690).
                let sum = fold(&view::map(&view, Scalar::Fp32, exp), axis, |a, b| a + b);
                view::map(&sum, scalar, |sum| if sum > 65_504.0 { 0.0 } else { kept(scalar, sum.ln()) })
            }
            _ if size == 1 => at(0),
            _ => fold(&view, axis, |sum, value| kept(scalar, sum + value)),
        };
    }
    match op {
        "reduce_mean" => each(&view, scalar, |value| value / count as f32),
        _ => view.called(scalar),
    }
}

/// Adds up along an axis in order: lanes beside each other go together.
fn fold(x: &View, axis: usize, f: impl Fn(f32, f32) -> f32 + Sync) -> View {
    // The axis first, so that each step is one pass over the others.
    let mut order = vec![axis];
    order.extend((0..x.shape().len()).filter(|own| *own != axis));
    let turned = x.transposed(&order).packed();
    let size = x.shape()[axis];
    let lanes = turned.count() / size.max(1);
    let numbers = turned.rows().unwrap_or_default();
    let mut data = Buffer::new(lanes);
    data.par_chunks_mut(256).enumerate().for_each(|(at, out)| {
        let first = at * 256;
        vectorised(
            #[inline(always)]
            || {
                out.copy_from_slice(&numbers[first..first + out.len()]);
                for place in 1..size {
                    let from = &numbers[place * lanes + first..][..out.len()];
                    out.iter_mut().zip(from).for_each(|(out, value)| *out = f(*out, *value));
                }
            },
        );
    });
    let mut shape = x.shape().to_vec();
    shape[axis] = 1;
    View::new(x.scalar, shape, data)
}
