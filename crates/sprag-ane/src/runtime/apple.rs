//! The device itself, through the private framework, loaded at run time: in-memory compile, load, evaluate, unload.
//!
//! It was type-checked, linted and linked for macOS, and has never been run on hardware by those who wrote it. Sources of the call
//! sequence: see [`super::calls`].
//!
//! Unsafe code is here and in `apple/objects.rs` alone; each block says what it relies on.

mod cache;
mod objects;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use self::cache::{Cache, Folder};
use self::objects::{Client, Framework, IoSurface, Model};
use super::errors::Phase;
use super::{
    About, Budget, DeviceOptions, Dispatch, Kernel, Port, Reloaded, Request, Runtime, RuntimeError, Spent,
    Surface, Weights, check_surfaces, content,
};
use crate::mil::{Program, check_types};

/// Programs that a process compiles before the compiler fails or is unstable: 119 to 132 were seen (maderix/ANE, Orion).
const COMPILES: u32 = 119;
/// Surfaces are multiples of this (h3.c-ane); pull request 35 of maderix/ANE says 128.
const SURFACE_STEP: usize = 16_384;
/// Before loading is tried once more (maderix/ANE, bridge).
const LOAD_AGAIN: Duration = Duration::from_millis(100);

/// The device.
pub struct Apple {
    shared: Arc<Shared>,
    name: String,
}

struct Shared {
    framework: Framework,
    options: DeviceOptions,
    client: Option<Client>,
    cache: Option<Cache>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Loaded programs by the hash of text and weights: programs that are the same share a folder, so they share a model.
    loaded: BTreeMap<[u8; 32], Weak<Loaded>>,
    spent: u32,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing between two of its changes can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Apple {
    /// Finds the device.
    ///
    /// # Errors
    /// When the framework or one of its classes is not there.
    pub fn open(options: DeviceOptions) -> Result<Apple, RuntimeError> {
        let framework = Framework::load()?;
        let client = match options.dispatch {
            Dispatch::Standard => None,
            Dispatch::Direct | Dispatch::RealTime => Some(Client::new(&framework)?),
        };
        let cache = options.cache.clone().map(Cache::new);
        let shared = Shared { framework, options, client, cache, state: Mutex::default() };
        Ok(Apple { shared: Arc::new(shared), name: objects::chip() })
    }
}

impl Runtime for Apple {
    fn about(&self) -> About {
        About { name: self.name.clone(), emulated: false }
    }

    fn surface(&self, bytes: usize) -> Result<Arc<dyn Surface>, RuntimeError> {
        let bytes = bytes.max(1).next_multiple_of(SURFACE_STEP);
        Ok(Arc::new(IoSurface::new(bytes)?))
    }

    fn compile(&self, program: &Program, weights: &Weights) -> Result<Arc<dyn Kernel>, RuntimeError> {
        for function in &program.functions {
            check_types(function)?;
        }
        let text = program.to_string();
        let key = content(&text, weights);
        if let Some(there) = self.shared.state().loaded.get(&key).and_then(Weak::upgrade) {
            return Ok(there);
        }
        let (inputs, outputs) = ports(program)?;
        let model = Model::new(&self.shared.framework, &text, weights)?;
        let folder = Folder::write(&model.identifier(), &text, weights)?;
        let kept = match &self.shared.cache {
            Some(cache) => cache.restore(&key, &folder)? && model.is_compiled(),
            None => model.is_compiled(),
        };
        if !kept {
            let spent = self.shared.state().spent;
            if spent >= COMPILES {
                return Err(RuntimeError::Budget { spent, limit: COMPILES });
            }
            self.shared.state().spent += 1;
            model.compile()?;
            if let Some(cache) = &self.shared.cache {
                cache.keep(&key, &folder)?;
            }
        }
        if model.load().is_err() {
            std::thread::sleep(LOAD_AGAIN);
            model.load()?;
        }
        let loaded = Arc::new(Loaded {
            inputs,
            outputs,
            held: Arc::new(Held { model, _folder: folder }),
            shared: self.shared.clone(),
        });
        self.shared.state().loaded.insert(key, Arc::downgrade(&loaded));
        Ok(loaded)
    }

    fn dialect<'a>(&self, program: &'a Program) -> std::borrow::Cow<'a, Program> {
        // M1 and M2 read the longer form alone (maderix/ANE, pull request 6).
        match self.name.contains("M1") || self.name.contains("M2") {
            true => std::borrow::Cow::Owned(program.for_old_compilers()),
            false => std::borrow::Cow::Borrowed(program),
        }
    }

    fn budget(&self) -> Budget {
        Budget { spent: self.shared.state().spent, limit: COMPILES }
    }
}

/// Inputs and outputs, each in the alphabetical order of their names, in which they bind.
fn ports(program: &Program) -> Result<(Vec<Port>, Vec<Port>), RuntimeError> {
    let [function] = program.functions.as_slice() else {
        let problem = format!("the program has {} functions, and one is taken", program.functions.len());
        return Err(RuntimeError::System(problem));
    };
    let mut inputs: Vec<Port> =
        function.inputs.iter().map(|(ty, name)| Port { name: name.clone(), ty: ty.clone() }).collect();
    let given = |name: &String| {
        let result = function.body.iter().rev().find(|one| one.result == *name).map(|one| &one.ty);
        let input = || function.inputs.iter().find(|(_, own)| own == name).map(|(ty, _)| ty);
        let ty = result.or_else(input)?.clone();
        Some(Port { name: name.clone(), ty })
    };
    let mut outputs: Vec<Port> = function.outputs.iter().filter_map(given).collect();
    inputs.sort_by(|a, b| a.name.cmp(&b.name));
    outputs.sort_by(|a, b| a.name.cmp(&b.name));
    Ok((inputs, outputs))
}

struct Loaded {
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    held: Arc<Held>,
    shared: Arc<Shared>,
}

/// A model on the device and its folder, for as long as anything is bound to it. The model goes first.
struct Held {
    model: Model,
    _folder: Folder,
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
        let own = |surfaces: &[Arc<dyn Surface>]| -> Result<Vec<objects::Wrapped>, RuntimeError> {
            surfaces
                .iter()
                .map(|surface| {
                    let surface = surface.as_any().downcast_ref::<IoSurface>();
                    let surface = surface
                        .ok_or_else(|| RuntimeError::Surfaces("a surface of another runtime".to_owned()))?;
                    surface.wrapped(&self.shared.framework)
                })
                .collect()
        };
        let (wrapped_inputs, wrapped_outputs) = (own(inputs)?, own(outputs)?);
        let request = objects::Bound::new(&self.shared.framework, &wrapped_inputs, &wrapped_outputs)?;
        Ok(Box::new(AppleRequest {
            request,
            held: self.held.clone(),
            shared: self.shared.clone(),
            // Surfaces live as long as what is bound to them.
            _surfaces: inputs.iter().chain(outputs).cloned().collect(),
        }))
    }

    fn reload(&self, _weights: &Weights) -> Result<Reloaded, RuntimeError> {
        // What was compiled in stays (m5result.md); whoever wants other weights compiles another program.
        self.held.model.unload()?;
        self.held.model.load()?;
        Ok(Reloaded::Stale)
    }
}

struct AppleRequest {
    request: objects::Bound,
    held: Arc<Held>,
    shared: Arc<Shared>,
    _surfaces: Vec<Arc<dyn Surface>>,
}

impl Request for AppleRequest {
    fn evaluate(&mut self) -> Result<Spent, RuntimeError> {
        let began = Instant::now();
        match (self.shared.options.dispatch, &self.shared.client) {
            (Dispatch::Standard, _) | (_, None) => self.held.model.evaluate(&self.request)?,
            (dispatch, Some(client)) => {
                client.evaluate(&self.held.model, &self.request, dispatch == Dispatch::RealTime)?
            }
        }
        Ok(Spent::Measured(began.elapsed().as_secs_f64()))
    }
}

/// The phase's error of a failure that said nothing.
fn silent(phase: Phase) -> RuntimeError {
    super::errors::of(phase, "the framework", 0, "it failed and said nothing")
}
