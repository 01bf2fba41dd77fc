//! Stands in for the device on any machine: compiles what it would compile, refuses what it would refuse, and evaluates with its
//! arithmetic as far as it was measured: halves between operations, wide sums in products that end at half of the largest half,
//! narrow sums in reductions, slices along the last axis that lose large numbers on older chips, tables for activations that know
//! no NaN. Ports bind in the alphabetical order of their names; weights are read when a program is compiled. Its times are
//! predictions.
//!
//! Sources: ANEForge (numeric cliffs, measured on M1 to M5), the guide to the Neural Engine (chapter 3), and those that each
//! restriction names. What nobody measured is said where it is assumed.

pub mod arithmetic;
pub mod cost;
mod plan;
mod view;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use half::f16;
use half::slice::HalfFloatSliceExt;
use rayon::prelude::*;
use sprag_train::kernels::memory::Buffer;

pub use self::plan::{Plan, Remarks};
pub use self::view::View;
use crate::mil::{Effect, Finding, Function, Program, Scalar, lint_for};
use crate::profile::{Profile, Sizes};
use crate::runtime::{
    About, Budget, CompileCode, Kernel, Port, Reloaded, Request, Runtime, RuntimeError, Spent, Surface,
    Weights, check_surfaces, content,
};
use cost::{Rates, Warmth, Work};

/// A device that is not there.
#[derive(Clone, Debug)]
pub struct Emulator {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    profile: Profile,
    rates: Rates,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Programs by the hash of text and weights: the same program is compiled once.
    compiled: BTreeMap<[u8; 32], Arc<Plan>>,
    spent: u32,
    warmth: Warmth,
    remarks: Remarks,
}

impl Emulator {
    /// A device of a chip that has compiled nothing.
    pub fn new(profile: Profile) -> Emulator {
        let shared = Shared { profile, rates: Rates::of_chip(&profile), state: Mutex::default() };
        Emulator { shared: Arc::new(shared) }
    }

    /// What happened besides, so far.
    pub fn remarks(&self) -> Remarks {
        self.shared.state().remarks
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing between two of its changes can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn plan(
        &self,
        function: &Function,
        program: &Program,
        weights: &Weights,
    ) -> Result<Arc<Plan>, RuntimeError> {
        let key = content(&program.to_string(), weights);
        if let Some(there) = self.state().compiled.get(&key) {
            return Ok(there.clone());
        }
        let spent = self.state().spent;
        if spent >= self.profile.compiles {
            return Err(RuntimeError::Budget { spent, limit: self.profile.compiles });
        }
        let plan = Arc::new(Plan::new(function, weights, self.profile)?);
        let mut state = self.state();
        state.spent += 1;
        state.compiled.insert(key, plan.clone());
        Ok(plan)
    }
}

impl Runtime for Emulator {
    fn about(&self) -> About {
        About { name: format!("emulated {}", self.shared.profile.name), emulated: true }
    }

    fn surface(&self, bytes: usize) -> Result<Arc<dyn Surface>, RuntimeError> {
        let bytes = bytes.next_multiple_of(self.shared.profile.surface_step);
        if bytes == 0 || bytes > 1 << 34 {
            return Err(RuntimeError::Surfaces(format!("there are no surfaces of {bytes} bytes")));
        }
        Ok(Arc::new(Memory { words: Mutex::new(vec![0; bytes.div_ceil(8)]), bytes }))
    }

    fn compile(&self, program: &Program, weights: &Weights) -> Result<Arc<dyn Kernel>, RuntimeError> {
        let [function] = program.functions.as_slice() else {
            let detail = format!("the program has {} functions, and one is taken", program.functions.len());
            return Err(RuntimeError::Compile { code: CompileCode::InvalidMilProgram, detail });
        };
        let findings = lint_for(program, &self.shared.profile);
        if let Some(refused) = findings.iter().find(|finding| finding.effect == Effect::Compile) {
            let code = match refused.rule.id {
                "R17" | "R41" | "R42" | "R52" => CompileCode::InvalidMilProgram,
                _ => CompileCode::CompilationFailure,
            };
            return Err(RuntimeError::Compile { code, detail: refused.to_string() });
        }
        let plan = self.shared.plan(function, program, weights)?;
        let work = Work::of(function);
        Ok(Arc::new(Loaded {
            inputs: plan.inputs(),
            outputs: plan.outputs(),
            inner: Arc::new(Inner {
                plan: Mutex::new(plan),
                program: program.clone(),
                work,
                fails: findings.into_iter().find(|finding| finding.effect == Effect::Evaluation),
                shared: self.shared.clone(),
            }),
        }))
    }

    fn dialect<'a>(&self, program: &'a Program) -> std::borrow::Cow<'a, Program> {
        self.shared.profile.dialect(program)
    }

    fn budget(&self) -> Budget {
        Budget { spent: self.shared.state().spent, limit: self.shared.profile.compiles }
    }
}

/// A surface of the emulator.
#[derive(Debug)]
struct Memory {
    words: Mutex<Vec<u64>>,
    bytes: usize,
}

impl Memory {
    fn words(&self) -> MutexGuard<'_, Vec<u64>> {
        self.words.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Surface for Memory {
    fn bytes(&self) -> usize {
        self.bytes
    }

    fn read(&self, with: &mut dyn FnMut(&[u8])) -> Result<(), RuntimeError> {
        with(&bytemuck::cast_slice(&self.words())[..self.bytes]);
        Ok(())
    }

    fn write(&self, with: &mut dyn FnMut(&mut [u8])) -> Result<(), RuntimeError> {
        with(&mut bytemuck::cast_slice_mut(&mut self.words())[..self.bytes]);
        Ok(())
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}

struct Loaded {
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    inner: Arc<Inner>,
}

struct Inner {
    /// Another after loading again, where the device reads weights then.
    plan: Mutex<Arc<Plan>>,
    program: Program,
    work: Work,
    /// A restriction that makes every evaluation fail.
    fails: Option<Finding>,
    shared: Arc<Shared>,
}

impl Inner {
    fn plan(&self) -> MutexGuard<'_, Arc<Plan>> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kernel for Loaded {
    fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    fn bind(
        &self,
        inputs: &[Arc<dyn Surface>],
        outputs: &[Arc<dyn Surface>],
    ) -> Result<Box<dyn Request>, RuntimeError> {
        check_surfaces(self, inputs, outputs)?;
        let ports = |ports: &[Port], surfaces: &[Arc<dyn Surface>]| {
            ports.iter().cloned().zip(surfaces.iter().cloned()).collect()
        };
        Ok(Box::new(Bound {
            inner: self.inner.clone(),
            inputs: ports(&self.inputs, inputs),
            outputs: ports(&self.outputs, outputs),
        }))
    }

    fn reload(&self, weights: &Weights) -> Result<Reloaded, RuntimeError> {
        let shared = &self.inner.shared;
        if !shared.profile.reload_reads_weights {
            return Ok(Reloaded::Stale);
        }
        let [function] = self.inner.program.functions.as_slice() else { return Ok(Reloaded::Stale) };
        *self.inner.plan() = Arc::new(Plan::new(function, weights, shared.profile)?);
        Ok(Reloaded::Fresh)
    }
}

struct Bound {
    inner: Arc<Inner>,
    inputs: Vec<(Port, Arc<dyn Surface>)>,
    outputs: Vec<(Port, Arc<dyn Surface>)>,
}

/// What unfit surfaces do.
enum Unfit {
    Fail(String),
    /// The results are zeros, without a word.
    Zeros,
}

impl Bound {
    fn unfit(&self) -> Option<Unfit> {
        let profile = &self.inner.shared.profile;
        if let Some(finding) = &self.inner.fails {
            return Some(Unfit::Fail(finding.to_string()));
        }
        let sizes = |ports: &[(Port, Arc<dyn Surface>)]| -> Vec<usize> {
            ports.iter().map(|(_, surface)| surface.bytes()).collect()
        };
        let (inputs, outputs) = (sizes(&self.inputs), sizes(&self.outputs));
        if let Some(small) = inputs.iter().chain(&outputs).find(|bytes| **bytes < profile.least_surface) {
            let least = profile.least_surface;
            return Some(Unfit::Fail(format!("R04: a surface has {small} bytes, and {least} are the least")));
        }
        match profile.sizes {
            Sizes::Equal => {
                let differ = |all: &[usize]| all.windows(2).any(|pair| pair[0] != pair[1]);
                match (differ(&inputs), differ(&outputs)) {
                    (true, _) => {
                        Some(Unfit::Fail(format!("R12: surfaces of inputs differ in size: {inputs:?}")))
                    }
                    (_, true) => {
                        Some(Unfit::Fail(format!("R02: surfaces of outputs differ in size: {outputs:?}")))
                    }
                    _ => None,
                }
            }
            Sizes::Sorted => {
                let sorted = inputs.windows(2).all(|pair| pair[0] <= pair[1])
                    && outputs.windows(2).all(|pair| pair[0] >= pair[1]);
                (!sorted).then_some(Unfit::Zeros)
            }
        }
        .or_else(|| {
            let ragged = |ports: &[(Port, Arc<dyn Surface>)]| ports.iter().any(|(port, _)| !whole_rows(port));
            (ragged(&self.inputs) || ragged(&self.outputs)).then_some(Unfit::Zeros)
        })
    }
}

/// Whether rows of a port are multiples of 64 bytes (R25).
fn whole_rows(port: &Port) -> bool {
    let row = port.ty.shape().last().copied().unwrap_or(1);
    row.saturating_mul(crate::runtime::width(port.ty.scalar()) as u64).is_multiple_of(64)
}

impl Request for Bound {
    fn evaluate(&mut self) -> Result<Spent, RuntimeError> {
        let zeros = match self.unfit() {
            Some(Unfit::Fail(detail)) => return Err(RuntimeError::Evaluate { status: 0x1d, detail }),
            Some(Unfit::Zeros) => true,
            None => false,
        };
        let shared = &self.inner.shared;
        if zeros {
            for (_, surface) in &self.outputs {
                surface.write(&mut |bytes| bytes.fill(0))?;
            }
        } else {
            let mut inputs = Vec::with_capacity(self.inputs.len());
            for (port, surface) in &self.inputs {
                let mut view = None;
                surface.read(&mut |bytes| view = Some(decode(port, bytes)))?;
                inputs.extend(view);
            }
            let plan = self.inner.plan().clone();
            let (outputs, remarks) = plan.run(inputs);
            for ((port, surface), view) in self.outputs.iter().zip(outputs) {
                let view = view.packed();
                surface.write(&mut |bytes| encode(port, view.rows().unwrap_or_default(), bytes))?;
            }
            shared.state().remarks.masks_ignored += remarks.masks_ignored;
        }
        let warm = shared.rates.seconds(&self.inner.work);
        Ok(Spent::Predicted(shared.state().warmth.take(warm)))
    }
}

/// Numbers that a thread converts at a time.
const SHARE: usize = 64 * 1024;

fn decode(port: &Port, bytes: &[u8]) -> View {
    let shape: Vec<usize> = port.ty.shape().iter().map(|size| *size as usize).collect();
    let count: usize = shape.iter().product();
    let scalar = port.ty.scalar();
    let mut data = Buffer::new(count);
    let bytes = &bytes[..port.bytes()];
    match scalar {
        Scalar::Fp16 => {
            data.par_chunks_mut(SHARE).zip(bytes.par_chunks(2 * SHARE)).for_each(|(out, bytes)| {
                match bytemuck::try_cast_slice::<u8, u16>(bytes) {
                    Ok(bits) => {
                        let halves: &[f16] = half::slice::HalfBitsSliceExt::reinterpret_cast(bits);
                        halves.convert_to_f32_slice(out);
                    }
                    Err(_) => out.iter_mut().zip(bytes.chunks_exact(2)).for_each(|(out, pair)| {
                        *out = f16::from_le_bytes([pair[0], pair[1]]).to_f32();
                    }),
                }
            });
        }
        Scalar::Fp32 => data.iter_mut().zip(bytes.chunks_exact(4)).for_each(|(out, four)| {
            *out = f32::from_le_bytes([four[0], four[1], four[2], four[3]]);
        }),
        Scalar::Int8 => data.iter_mut().zip(bytes).for_each(|(out, byte)| *out = f32::from(*byte as i8)),
        _ => data.iter_mut().zip(bytes).for_each(|(out, byte)| *out = f32::from(*byte)),
    }
    View::new(scalar, shape, data)
}

fn encode(port: &Port, numbers: &[f32], bytes: &mut [u8]) {
    match port.ty.scalar() {
        Scalar::Fp16 => {
            let bytes = &mut bytes[..2 * numbers.len()];
            bytes.par_chunks_mut(2 * SHARE).zip(numbers.par_chunks(SHARE)).for_each(|(bytes, numbers)| {
                match bytemuck::try_cast_slice_mut::<u8, u16>(bytes) {
                    Ok(bits) => {
                        let halves: &mut [f16] = half::slice::HalfBitsSliceExt::reinterpret_cast_mut(bits);
                        halves.convert_from_f32_slice(numbers);
                    }
                    Err(_) => bytes.chunks_exact_mut(2).zip(numbers).for_each(|(pair, number)| {
                        pair.copy_from_slice(&f16::from_f32(*number).to_le_bytes());
                    }),
                }
            });
        }
        Scalar::Fp32 => bytes.chunks_exact_mut(4).zip(numbers).for_each(|(four, number)| {
            four.copy_from_slice(&number.to_le_bytes());
        }),
        Scalar::Int8 => bytes.iter_mut().zip(numbers).for_each(|(byte, number)| *byte = *number as i8 as u8),
        _ => bytes.iter_mut().zip(numbers).for_each(|(byte, number)| *byte = *number as u8),
    }
}

#[cfg(test)]
mod tests;
