//! What runs programs: surfaces that hold their inputs and outputs, compiling, evaluating. The device stands behind it on a
//! Mac, the emulator on any machine; what uses it cannot tell them apart but for what is said of time.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::mil::{Program, Scalar, Type, TypeError};

#[cfg(all(target_os = "macos", feature = "run"))]
pub mod apple;
pub mod calls;
pub mod errors;

/// Weight files of a program, by the names that it gives them (`@model_path/weights/w.bin`).
pub type Weights = BTreeMap<String, Vec<u8>>;

/// What a program is known by: text and weight files together.
#[cfg(feature = "run")]
pub(crate) fn content(text: &str, weights: &Weights) -> [u8; 32] {
    use sha2::{Digest, Sha256};
    let mut hash = Sha256::new();
    hash.update(text);
    for (name, bytes) in weights {
        hash.update([0]);
        hash.update(name);
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    }
    hash.finalize().into()
}

/// What runs programs.
pub trait Runtime: Send {
    /// What it is.
    fn about(&self) -> About;

    /// Memory for an input or output.
    ///
    /// # Errors
    /// When there is no memory of that size.
    fn surface(&self, bytes: usize) -> Result<Arc<dyn Surface>, RuntimeError>;

    /// Compiles a program and loads it.
    ///
    /// # Errors
    /// What compiler or device refuse, or a spent budget of compiles.
    fn compile(&self, program: &Program, weights: &Weights) -> Result<Arc<dyn Kernel>, RuntimeError>;

    /// A program as this runtime's compiler reads it.
    fn dialect<'a>(&self, program: &'a Program) -> std::borrow::Cow<'a, Program>;

    /// Programs compiled so far, and how many one process can compile.
    fn budget(&self) -> Budget;
}

/// How evaluations reach the device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dispatch {
    /// Through the daemon.
    #[default]
    Standard,
    /// Past it.
    Direct,
    /// In real time.
    RealTime,
}

/// How the device is used, where there is one.
#[derive(Clone, Debug, Default)]
pub struct DeviceOptions {
    /// How evaluations reach it.
    pub dispatch: Dispatch,
    /// Folder of compiled programs that outlive the process; none for none.
    pub cache: Option<std::path::PathBuf>,
}

/// The device of this machine.
///
/// # Errors
/// When there is none: on any system but macOS, and on a Mac that has no such device.
pub fn device(options: DeviceOptions) -> Result<Box<dyn Runtime>, RuntimeError> {
    #[cfg(all(target_os = "macos", feature = "run"))]
    return Ok(Box::new(apple::Apple::open(options)?));
    #[cfg(not(all(target_os = "macos", feature = "run")))]
    {
        let DeviceOptions { .. } = options;
        let system = std::env::consts::OS;
        Err(RuntimeError::Absent(format!(
            "it is part of Apple's chips, and reached through macOS; this is {system}"
        )))
    }
}

/// What a runtime is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// `M4 Max`, or `emulated M4`.
    pub name: String,
    /// Whether its times are predictions.
    pub emulated: bool,
}

/// Compiles of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Done; programs that are the same were compiled once.
    pub spent: u32,
    /// After which compiling fails.
    pub limit: u32,
}

/// Memory that host and device share: bytes in the order of the declared shape, from the first on.
pub trait Surface: Send + Sync {
    /// Its size.
    fn bytes(&self) -> usize;

    /// Lends its bytes to be read.
    ///
    /// # Errors
    /// When it cannot be locked.
    fn read(&self, with: &mut dyn FnMut(&[u8])) -> Result<(), RuntimeError>;

    /// Lends its bytes to be written.
    ///
    /// # Errors
    /// When it cannot be locked.
    fn write(&self, with: &mut dyn FnMut(&mut [u8])) -> Result<(), RuntimeError>;

    /// What the runtime that made it knows it by.
    fn as_any(&self) -> &dyn std::any::Any;
}

/// A loaded program.
pub trait Kernel: Send + Sync {
    /// What it takes, in the order in which surfaces bind: the alphabetical one.
    fn inputs(&self) -> &[Port];

    /// What it gives, in that order.
    fn outputs(&self) -> &[Port];

    /// Binds surfaces, for many evaluations.
    ///
    /// # Errors
    /// When there are not as many as ports, or one is too small.
    fn bind(
        &self,
        inputs: &[Arc<dyn Surface>],
        outputs: &[Arc<dyn Surface>],
    ) -> Result<Box<dyn Request>, RuntimeError>;

    /// Reads changed weight files, where the device does; most keep what was compiled in.
    ///
    /// # Errors
    /// When it cannot be loaded again.
    fn reload(&self, weights: &Weights) -> Result<Reloaded, RuntimeError>;
}

/// What loading again did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reloaded {
    /// The old weights are still in use.
    Stale,
    /// The new ones are.
    Fresh,
}

/// Bound surfaces.
pub trait Request: Send {
    /// Runs the program once. When it fails outputs hold what they held.
    ///
    /// # Errors
    /// What the device says.
    fn evaluate(&mut self) -> Result<Spent, RuntimeError>;
}

/// Time of an evaluation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Spent {
    /// By a clock, in seconds.
    Measured(f64),
    /// By the cost model, in seconds: nothing of this was measured.
    Predicted(f64),
}

impl Spent {
    /// Seconds, whatever they are.
    pub fn seconds(self) -> f64 {
        match self {
            Spent::Measured(seconds) | Spent::Predicted(seconds) => seconds,
        }
    }
}

/// An input or output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its name in the program.
    pub name: String,
    /// Its type.
    pub ty: Type,
}

impl Port {
    /// Bytes of its numbers.
    pub fn bytes(&self) -> usize {
        let numbers = self.ty.count().and_then(|count| usize::try_from(count).ok()).unwrap_or(usize::MAX);
        numbers.saturating_mul(width(self.ty.scalar()))
    }
}

/// Bytes of a number.
pub fn width(scalar: Scalar) -> usize {
    match scalar {
        Scalar::Fp16 => 2,
        Scalar::Fp32 | Scalar::Int32 => 4,
        Scalar::Uint64 => 8,
        Scalar::Int8 | Scalar::Uint8 | Scalar::Bool | Scalar::String => 1,
    }
}

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RuntimeError {
    /// There is no Neural Engine, or this program cannot use it.
    #[error("no Neural Engine: {0}")]
    Absent(String),
    /// The program makes no sense.
    #[error(transparent)]
    Types(#[from] TypeError),
    /// The compiler refused it.
    #[error("the compiler refused the program ({code}): {detail}")]
    Compile {
        /// `CompilationFailure` or `InvalidMILProgram`.
        code: CompileCode,
        /// Why, with the restriction where it is known.
        detail: String,
    },
    /// A weight file is missing or wrong.
    #[error("the weight file `{path}`: {problem}")]
    Weights {
        /// Which.
        path: String,
        /// Why.
        problem: String,
    },
    /// The process has compiled as many programs as it can.
    #[error(
        "this process has compiled {spent} programs, and {limit} are what one can; use fewer programs, or start another process"
    )]
    Budget {
        /// Done.
        spent: u32,
        /// The limit.
        limit: u32,
    },
    /// It compiled and did not load.
    #[error("the program did not load ({code:#x}): {detail}")]
    Load {
        /// What the device said.
        code: i64,
        /// Why.
        detail: String,
    },
    /// Surfaces do not fit the program.
    #[error("surfaces do not fit: {0}")]
    Surfaces(String),
    /// The device failed on it.
    #[error("evaluating failed with status {status:#x}: {detail}")]
    Evaluate {
        /// 0x1d, most often.
        status: u32,
        /// Why, with the restriction where it is known.
        detail: String,
    },
    /// It was too much work for one evaluation.
    #[error("evaluating took too long (status 0xf): {0}")]
    Timeout(String),
    /// An output has numbers that are none.
    #[error("output `{port}` has {count} numbers that are not finite, the first at {first}")]
    NotFinite {
        /// Which.
        port: String,
        /// How many.
        count: usize,
        /// The first one's place.
        first: usize,
    },
    /// Anything else that the system said.
    #[error("{0}")]
    System(String),
}

/// What the compiler says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompileCode {
    /// It understood the program and could not build it.
    CompilationFailure,
    /// It did not understand it.
    InvalidMilProgram,
}

impl fmt::Display for CompileCode {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            CompileCode::CompilationFailure => "CompilationFailure",
            CompileCode::InvalidMilProgram => "InvalidMILProgram",
        })
    }
}

/// Checks that surfaces fit a program's ports.
///
/// # Errors
/// When there are not as many, or one is too small.
pub fn check_surfaces(
    kernel: &dyn Kernel,
    inputs: &[Arc<dyn Surface>],
    outputs: &[Arc<dyn Surface>],
) -> Result<(), RuntimeError> {
    for (what, ports, surfaces) in [("input", kernel.inputs(), inputs), ("output", kernel.outputs(), outputs)]
    {
        if ports.len() != surfaces.len() {
            return Err(RuntimeError::Surfaces(format!(
                "the program has {} {what}s, and {} surfaces are given",
                ports.len(),
                surfaces.len()
            )));
        }
        if let Some((port, surface)) =
            ports.iter().zip(surfaces).find(|(port, own)| own.bytes() < port.bytes())
        {
            return Err(RuntimeError::Surfaces(format!(
                "{what} `{}` is {} and takes {} bytes, and its surface has {}",
                port.name,
                port.ty,
                port.bytes(),
                surface.bytes()
            )));
        }
    }
    Ok(())
}

/// Finds numbers of a half-precision output that are not finite: the device reports none.
///
/// # Errors
/// [`RuntimeError::NotFinite`], or when the surface cannot be read.
pub fn check_finite(port: &Port, surface: &dyn Surface) -> Result<(), RuntimeError> {
    let (mut count, mut first) = (0, None);
    surface.read(&mut |bytes| {
        if port.ty.scalar() == Scalar::Fp16 {
            let numbers = bytes[..port.bytes().min(bytes.len())].chunks_exact(2);
            for (at, pair) in numbers.enumerate() {
                // All bits of the exponent: infinite, or no number.
                if pair[1] & 0x7C == 0x7C {
                    count += 1;
                    first.get_or_insert(at);
                }
            }
        }
    })?;
    match first {
        Some(first) => Err(RuntimeError::NotFinite { port: port.name.clone(), count, first }),
        None => Ok(()),
    }
}
