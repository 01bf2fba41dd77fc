//! Executes a recipe on a runtime, layer after layer: surfaces, staging of weights, values forth and back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use half::f16;
use half::slice::HalfFloatSliceExt;
use rayon::prelude::*;
use sprag_train::kernels::memory::Buffer;
use sprag_train::kernels::{Matrix, MatrixMut, Precision, matmul};

use super::TrainError;
use super::host::{self, Angles};
use super::params::{Layer, Params};
use crate::config::Config;
use crate::recipe::{Host, Kernel, Node, Part, Recipe, Weight, What};
use crate::runtime::{Request, Runtime, RuntimeError, Spent, Surface};

/// A value: numbers of the host, or halves as a program gave them.
#[derive(Clone, Debug)]
pub enum Value {
    /// Single precision.
    Single(Arc<Buffer>),
    /// Some channels of an output.
    Half {
        /// The output, channel by channel.
        all: Arc<Vec<u16>>,
        /// First number.
        from: usize,
        /// How many.
        count: usize,
    },
}

impl Value {
    /// Of the host.
    pub fn single(numbers: Buffer) -> Value {
        Value::Single(Arc::new(numbers))
    }

    /// Its numbers in single precision.
    pub fn numbers(&self) -> Arc<Buffer> {
        match self {
            Value::Single(numbers) => numbers.clone(),
            Value::Half { all, from, count } => {
                let mut out = Buffer::new(*count);
                widen(&mut out, &all[*from..from + count]);
                Arc::new(out)
            }
        }
    }
}

/// Singles of halves.
pub fn widen(out: &mut [f32], bits: &[u16]) {
    out.par_chunks_mut(64 * 1024).zip(bits.par_chunks(64 * 1024)).for_each(|(out, bits)| {
        let halves: &[f16] = half::slice::HalfBitsSliceExt::reinterpret_cast(bits);
        halves.convert_to_f32_slice(out);
    });
}

/// Where time went, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Times {
    /// On the device, by its clock, or as predicted.
    pub device: f64,
    /// Whether the device's time is a prediction.
    pub predicted: bool,
    /// Dispatches.
    pub dispatches: u64,
}

impl Times {
    pub(super) fn add(&mut self, spent: Spent) {
        self.device += spent.seconds();
        self.predicted |= matches!(spent, Spent::Predicted(_));
        self.dispatches += 1;
    }
}

/// A kernel with its surfaces: one input a layer where it holds weights, else one for all.
struct Loaded {
    /// Inputs and their requests, by layer or alone.
    inputs: Vec<(Arc<dyn Surface>, Box<dyn Request>)>,
    output: Arc<dyn Surface>,
    /// Channels and places of the input, and channels of the output.
    sizes: [usize; 3],
}

/// All kernels of a recipe, for all layers.
pub struct Layers {
    recipe: Recipe,
    config: Config,
    /// By place in the recipe: forward nodes, then backward nodes.
    loaded: BTreeMap<usize, Loaded>,
    angles: Angles,
    /// Time of the device so far.
    pub times: Times,
}

/// Values of a layer by their names.
pub type Values = BTreeMap<String, Value>;

/// A gradient of a weight that is still to be added: `dy x^T`.
pub struct Owed {
    layer: usize,
    weight: Weight,
    dy: Arc<Buffer>,
    x: Arc<Buffer>,
}

impl Layers {
    /// Compiles and binds all kernels of a recipe.
    ///
    /// # Errors
    /// When the recipe does not fit the model, or the runtime refuses a program.
    pub fn new(runtime: &dyn Runtime, recipe: Recipe, config: &Config) -> Result<Layers, TrainError> {
        recipe.check(config)?;
        let mut loaded = BTreeMap::new();
        for (at, kernel) in nodes(&recipe) {
            let Node::Kernel(kernel) = kernel else { continue };
            let wrong =
                || RuntimeError::Surfaces(format!("`{}` has no one input and output", kernel.graph.name));
            let [channels, places, outputs, _] = kernel.sizes().ok_or_else(wrong)?;
            let program = runtime.compile(&runtime.dialect(&kernel.graph.program), &kernel.graph.weights)?;
            let bytes = |ports: &[crate::runtime::Port]| ports.first().map_or(0, crate::runtime::Port::bytes);
            let output = runtime.surface(bytes(program.outputs()))?;
            let own = kernel.parts.iter().any(|part| !matches!(part.what, What::Value(_)));
            let copies = if own { config.n_layer } else { 1 };
            let mut inputs = Vec::with_capacity(copies);
            for _ in 0..copies {
                let input = runtime.surface(bytes(program.inputs()))?;
                // What no part covers is zero.
                input.write(&mut |bytes| bytes.fill(0))?;
                let request = program.bind(std::slice::from_ref(&input), std::slice::from_ref(&output))?;
                inputs.push((input, request));
            }
            loaded.insert(at, Loaded { inputs, output, sizes: [channels, places, outputs] });
        }
        let angles = Angles::new(config.head_dim, config.seq_len);
        Ok(Layers { recipe, config: config.clone(), loaded, angles, times: Times::default() })
    }

    /// The recipe.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// Puts all weights into the inputs that hold them.
    ///
    /// # Errors
    /// When a surface cannot be written.
    pub fn stage(&self, params: &Params) -> Result<(), TrainError> {
        for (at, node) in nodes(&self.recipe) {
            let (Node::Kernel(kernel), Some(loaded)) = (node, self.loaded.get(&at)) else { continue };
            for part in &kernel.parts {
                let (weight, turned) = match part.what {
                    What::Value(_) => continue,
                    What::Weight(weight) => (weight, false),
                    What::Turned(weight) => (weight, true),
                };
                for (layer, (surface, _)) in params.layers.iter().zip(&loaded.inputs) {
                    let shape = weight.shape(&self.config);
                    let numbers = &layer.weight(weight).value;
                    match turned {
                        false => put(surface.as_ref(), loaded.sizes[1], part, numbers, shape)?,
                        true => {
                            let numbers = transposed(numbers, shape);
                            put(surface.as_ref(), loaded.sizes[1], part, &numbers, [shape[1], shape[0]])?;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Forth through one layer; `values` has `x`, and gets all else.
    ///
    /// # Errors
    /// What the runtime says, or numbers that are not finite.
    pub fn forward(&mut self, layer: usize, own: &Layer, values: &mut Values) -> Result<(), TrainError> {
        for at in 0..self.recipe.forward.len() {
            self.node(at, layer, own, values)?;
        }
        Ok(())
    }

    fn node(
        &mut self,
        at: usize,
        layer: usize,
        own: &Layer,
        values: &mut Values,
    ) -> Result<Option<Done>, TrainError> {
        let forward = self.recipe.forward.len();
        let node = if at < forward { &self.recipe.forward[at] } else { &self.recipe.backward[at - forward] };
        match node {
            Node::Kernel(kernel) => {
                if let Some(loaded) = self.loaded.get_mut(&at) {
                    let spent = dispatch(kernel, loaded, layer, &self.config, values, at >= forward)?;
                    self.times.add(spent);
                }
                Ok(None)
            }
            Node::Host(host) => Ok(Some(compute(host, &self.config, &self.angles, own, values)?)),
        }
    }

    /// Back through one layer; `values` has those of the way forth and `d_next`. Gradients of gains are added at once, those of
    /// matrices are owed.
    ///
    /// # Errors
    /// What the runtime says, or numbers that are not finite.
    pub fn backward(
        &mut self,
        layer: usize,
        params: &mut Layer,
        values: &mut Values,
        owed: &Sender<Owed>,
    ) -> Result<(), TrainError> {
        let forward = self.recipe.forward.len();
        for at in forward..forward + self.recipe.backward.len() {
            match self.node(at, layer, params, values)? {
                Some(Done::Gain(gain, by_gain)) => {
                    let gradient = &mut params.gain_mut(gain).gradient;
                    gradient.iter_mut().zip(&by_gain).for_each(|(sum, own)| *sum += own);
                }
                Some(Done::Owed(weight, dy, x)) => {
                    // Who pays hangs up only when it is done.
                    let _ = owed.send(Owed { layer, weight, dy, x });
                }
                Some(Done::Nothing) | None => {}
            }
        }
        Ok(())
    }
}

/// Where gradients are added while the device computes the next: `[layer][weight]`.
pub type Gradients = Vec<[Vec<f32>; 7]>;

/// Adds what is owed.
pub fn pay(config: &Config, gradients: &mut Gradients, owed: impl Iterator<Item = Owed>) {
    for Owed { layer, weight, dy, x } in owed {
        let [outputs, inputs] = weight.shape(config);
        let seq = config.seq_len;
        let place = Weight::ALL.iter().position(|own| *own == weight).unwrap_or(0);
        matmul(
            MatrixMut::new(&mut gradients[layer][place], outputs, inputs),
            Matrix::new(&dy, outputs, seq),
            Matrix::new(&x, inputs, seq).transposed(),
            true,
            Precision::Fp32,
        );
    }
}

fn nodes(recipe: &Recipe) -> impl Iterator<Item = (usize, &Node)> {
    recipe.forward.iter().chain(&recipe.backward).enumerate()
}

/// What the host's work gives besides values.
enum Done {
    Nothing,
    Gain(crate::recipe::Gain, Vec<f32>),
    Owed(Weight, Arc<Buffer>, Arc<Buffer>),
}

fn look<'a>(values: &'a Values, name: &str) -> Result<&'a Value, TrainError> {
    // The recipe was checked; a value that is missing was never given.
    values.get(name).ok_or_else(|| TrainError::Missing(name.to_owned()))
}

fn compute(
    host: &Host,
    config: &Config,
    angles: &Angles,
    layer: &Layer,
    values: &mut Values,
) -> Result<Done, TrainError> {
    let seq = config.seq_len;
    let numbers = |name: &String| look(values, name).map(Value::numbers);
    let (made, done): (Vec<(&String, Value)>, Done) = match host {
        Host::Norm { x, gain, out } => {
            let normed = host::norm(&numbers(x)?, &layer.gain(*gain).value, seq);
            (vec![(out, Value::single(normed))], Done::Nothing)
        }
        Host::NormBackward { x, gain, dy, out } => {
            let own = &layer.gain(*gain).value;
            let mut by_gain = vec![0.0; own.len()];
            let by_x = host::norm_backward(&numbers(x)?, own, &numbers(dy)?, &mut by_gain, seq);
            (vec![(out, Value::single(by_x))], Done::Gain(*gain, by_gain))
        }
        Host::Add { a, b, scaled, out } => {
            let scale = if *scaled { config.alpha() } else { 1.0 };
            (vec![(out, Value::single(host::add(&numbers(a)?, &numbers(b)?, scale)))], Done::Nothing)
        }
        Host::Scale { x, out } => {
            (vec![(out, Value::single(host::scale(&numbers(x)?, config.alpha())))], Done::Nothing)
        }
        Host::SwigluBackward { h1, h3, dgate, dh1, dh3 } => {
            let [by_h1, by_h3] = host::swiglu_backward(&numbers(h1)?, &numbers(h3)?, &numbers(dgate)?);
            (vec![(dh1, Value::single(by_h1)), (dh3, Value::single(by_h3))], Done::Nothing)
        }
        Host::Repeat { x, out } => {
            let head = config.head_dim * seq;
            let repeated = match look(values, x)? {
                Value::Half { all, from, count } => {
                    let all = host::repeat(&all[*from..from + count], head, config.group());
                    Value::Half { count: all.len(), all: Arc::new(all), from: 0 }
                }
                Value::Single(numbers) => {
                    let all = host::repeat(numbers, head, config.group());
                    let mut buffer = Buffer::new(all.len());
                    buffer.copy_from_slice(&all);
                    Value::single(buffer)
                }
            };
            (vec![(out, repeated)], Done::Nothing)
        }
        Host::Gather { x, out } => {
            let gathered = host::gather(&numbers(x)?, config.head_dim * seq, config.group());
            (vec![(out, Value::single(gathered))], Done::Nothing)
        }
        Host::TurnBack { x, out } => {
            (vec![(out, Value::single(host::turn_back(&numbers(x)?, angles)))], Done::Nothing)
        }
        Host::WeightGradient { weight, dy, x } => {
            (Vec::new(), Done::Owed(*weight, numbers(dy)?, numbers(x)?))
        }
    };
    let made: Vec<(String, Value)> = made.into_iter().map(|(name, value)| (name.clone(), value)).collect();
    values.extend(made);
    Ok(done)
}

fn dispatch(
    kernel: &Kernel,
    loaded: &mut Loaded,
    layer: usize,
    config: &Config,
    values: &mut Values,
    back: bool,
) -> Result<Spent, TrainError> {
    let at = if loaded.inputs.len() == 1 { 0 } else { layer };
    let (input, request) = &mut loaded.inputs[at];
    let [_, places, outputs] = loaded.sizes;
    for part in &kernel.parts {
        let What::Value(name) = &part.what else { continue };
        let value = look(values, name)?;
        let count = match value {
            Value::Single(numbers) => numbers.len(),
            Value::Half { count, .. } => *count,
        };
        let shape = [count / config.seq_len, config.seq_len];
        match value {
            Value::Single(numbers) => put(input.as_ref(), places, part, numbers, shape)?,
            Value::Half { all, from, count } => {
                put_bits(input.as_ref(), places, part, &all[*from..from + count], shape)?;
            }
        }
    }
    let spent = request.evaluate()?;
    let all = halves(loaded.output.as_ref(), outputs * config.seq_len)?;
    let all = all.ok_or_else(|| TrainError::NotFinite {
        kernel: kernel.graph.name.clone(),
        place: format!("layer {layer}"),
        back,
    })?;
    let all = Arc::new(all);
    let mut channel = 0;
    for (name, rows) in &kernel.outputs {
        if let Some(name) = name {
            let value = Value::Half {
                all: all.clone(),
                from: channel * config.seq_len,
                count: rows * config.seq_len,
            };
            values.insert(name.clone(), value);
        }
        channel += rows;
    }
    Ok(spent)
}

/// `[columns, rows]` of `[rows, columns]`.
pub fn transposed(numbers: &[f32], [rows, columns]: [usize; 2]) -> Buffer {
    const SQUARE: usize = 32;
    let mut out = Buffer::new(numbers.len());
    out.par_chunks_mut((SQUARE * rows).max(1)).enumerate().for_each(|(at, out)| {
        let first = at * SQUARE;
        for begin in (0..rows).step_by(SQUARE) {
            let end = (begin + SQUARE).min(rows);
            for (column, out) in out.chunks_exact_mut(rows).enumerate() {
                for row in begin..end {
                    out[row] = numbers[row * columns + first + column];
                }
            }
        }
    });
    out
}

/// The first numbers of a surface, as bits of halves; nothing where one is infinite or no number, of which the device says nothing.
pub fn halves(surface: &dyn Surface, count: usize) -> Result<Option<Vec<u16>>, RuntimeError> {
    let mut all = vec![0_u16; count];
    surface.read(&mut |bytes| {
        let to: &mut [u8] = bytemuck::cast_slice_mut(&mut all);
        let count = to.len();
        to.copy_from_slice(&bytes[..count]);
    })?;
    // All bits of the exponent.
    let lost = all.par_iter().any(|bits| bits & 0x7C00 == 0x7C00);
    Ok((!lost).then_some(all))
}

/// Writes the rows of a matrix to their places in a surface with rows of `places` halves.
fn fill<T: Sync>(
    surface: &dyn Surface,
    places: usize,
    part: &Part,
    numbers: &[T],
    [rows, columns]: [usize; 2],
    write: impl Fn(&mut [u8], &[T]) + Sync,
) -> Result<(), RuntimeError> {
    surface.write(&mut |bytes| {
        let own = &mut bytes[2 * part.channel * places..2 * (part.channel + rows) * places];
        own.par_chunks_mut(2 * places)
            .zip(numbers.par_chunks(columns))
            .for_each(|(row, numbers)| write(&mut row[2 * part.place..2 * (part.place + columns)], numbers));
    })
}

/// Writes a matrix of singles as halves to its place in a surface with rows of `places`.
pub fn put(
    surface: &dyn Surface,
    places: usize,
    part: &Part,
    numbers: &[f32],
    shape: [usize; 2],
) -> Result<(), RuntimeError> {
    fill(surface, places, part, numbers, shape, |bytes, numbers| match bytemuck::try_cast_slice_mut(bytes) {
        Ok(bits) => {
            let halves: &mut [f16] =
                half::slice::HalfBitsSliceExt::reinterpret_cast_mut::<f16>(bits as &mut [u16]);
            halves.convert_from_f32_slice(numbers);
        }
        Err(_) => bytes.chunks_exact_mut(2).zip(numbers).for_each(|(pair, number)| {
            pair.copy_from_slice(&f16::from_f32(*number).to_le_bytes());
        }),
    })
}

fn put_bits(
    surface: &dyn Surface,
    places: usize,
    part: &Part,
    bits: &[u16],
    shape: [usize; 2],
) -> Result<(), RuntimeError> {
    fill(surface, places, part, bits, shape, |bytes, bits| bytes.copy_from_slice(bytemuck::cast_slice(bits)))
}
