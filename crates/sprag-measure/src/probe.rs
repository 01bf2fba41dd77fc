//! What this machine really does: memory, arithmetic, floor costs, power. Measured here and now, with spread, beside
//! what is presented.
//!
//! Every figure is a [`Sample`]: the median of several goes with the smallest and the largest. What cannot be measured
//! is a typed answer with its reason. Sources of methods: STREAM (McCalpin 1995) for what is counted of a transfer,
//! lat_mem_rd (McVoy, Staelin 1996, "lmbench") for latency over the working set, the roofline model (Williams, Waterman,
//! Patterson 2009).

mod clock_rate;
mod compute;
#[cfg(feature = "cuda")]
mod cuda;
mod energy;
mod floor;
mod gpu;
mod ladder;
mod memory;
#[cfg(any(feature = "wgpu", feature = "nvml"))]
mod nvml;
mod power;
mod presented;
mod threads;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

pub use compute::{Arithmetic, Unit};
pub use energy::Energy;
pub use floor::Floor;
pub use gpu::{Gpu, GpuFigures, Gpus};
pub use ladder::Rung;
pub use memory::{Bandwidth, MemoryNow, Transfer, memory_now};
pub use power::{Meter as PowerMeter, Power};
pub use presented::{Cache, Presented};
pub use threads::usable as usable_cores;

use crate::clock;
use crate::machine::{LoadMeter, Machine};
use crate::stats;

/// Version of the file that a [`Probe`] is kept in.
pub const FORMAT: u32 = 1;

/// A measured figure: the median of `n` goes, the smallest and the largest.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// The median.
    pub median: f64,
    /// The smallest.
    pub low: f64,
    /// The largest.
    pub high: f64,
    /// Goes.
    pub n: u32,
}

impl Sample {
    /// Of some values; `None` without any.
    ///
    /// ```
    /// use sprag_measure::probe::Sample;
    /// let sample = Sample::of(&[3.0, 1.0, 2.0]).unwrap();
    /// assert_eq!((sample.median, sample.low, sample.high, sample.n), (2.0, 1.0, 3.0, 3));
    /// assert_eq!(Sample::of(&[]), None);
    /// ```
    pub fn of(values: &[f64]) -> Option<Sample> {
        let ends = |pick: fn(f64, f64) -> f64| values.iter().copied().reduce(pick);
        Some(Sample {
            median: stats::median(values)?,
            low: ends(f64::min)?,
            high: ends(f64::max)?,
            n: values.len() as u32,
        })
    }

    /// The same in other units, in which more is more.
    #[must_use]
    pub fn times(self, factor: f64) -> Sample {
        Sample { median: self.median * factor, low: self.low * factor, high: self.high * factor, n: self.n }
    }

    /// Half of the distance between the ends, as a part of the median.
    pub fn spread(self) -> f64 {
        (self.high - self.low) / 2.0 / self.median
    }
}

/// How long it may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effort {
    /// Within 20 s.
    Quick,
    /// About a minute.
    Normal,
    /// Several minutes: more goes, larger memory, all numbers of threads.
    Thorough,
}

impl Effort {
    /// Goes of each figure.
    fn goes(self) -> u32 {
        match self {
            Effort::Quick => 5,
            Effort::Normal => 11,
            Effort::Thorough => 31,
        }
    }

    /// Time of one go of something that can be made as long as one likes.
    fn go(self) -> Duration {
        match self {
            Effort::Quick => Duration::from_millis(20),
            Effort::Normal => Duration::from_millis(50),
            Effort::Thorough => Duration::from_millis(100),
        }
    }
}

/// One size of a matrix product.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Product {
    /// Rows of the left factor and of the result.
    pub m: u32,
    /// Columns of the right factor and of the result.
    pub n: u32,
    /// Columns of the left factor.
    pub k: u32,
    /// What the factors are rounded to, `fp32` or `bf16`.
    pub precision: String,
    /// Operations a second, a multiplication and an addition being two.
    pub flop_per_second: Sample,
}

/// Something other crates know how to multiply with: operations a second of `m`, `n`, `k` in a precision, for about as
/// long as asked; `None` for a precision that it does not have.
pub type Multiply<'a> = &'a dyn Fn([u32; 3], &str, Duration) -> Option<f64>;

/// What is to be measured, and how.
pub struct Options<'a> {
    /// How long it may take.
    pub effort: Effort,
    /// A folder on the disk whose `fsync` is timed.
    pub folder: PathBuf,
    /// The fastest matrix product at hand, if there is one.
    pub multiply: Option<Multiply<'a>>,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    /// Version of this form.
    pub format: u32,
    /// When, RFC 3339.
    pub at: String,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// How much effort was made.
    pub effort: Effort,
    /// What the machine says of itself.
    pub machine: BTreeMap<String, String>,
    /// What is presented by it.
    pub presented: Presented,
    /// Clock of the first core under load at the beginning and at the end, in Hz; absent where it cannot be told.
    #[serde(default)]
    pub clock_hz: Option<[Sample; 2]>,
    /// Temperature at the beginning and at the end, in degrees Celsius, of the warmest sensor that can be read.
    #[serde(default)]
    pub temperature_celsius: Option<[f64; 2]>,
    /// What other processes used of the processors meanwhile, from 0 to 1.
    #[serde(default)]
    pub other_processes: Option<f64>,
    /// What a hypervisor gave to others meanwhile, from 0 to 1.
    #[serde(default)]
    pub steal: Option<f64>,
    /// Power.
    pub power: Power,
    /// Joules of a byte and of an operation.
    #[serde(default)]
    pub energy: Energy,
    /// Floor costs.
    pub floor: Floor,
    /// Bandwidth of main memory.
    pub memory: Vec<Bandwidth>,
    /// Latency and bandwidth of one core over the working set.
    pub ladder: Vec<Rung>,
    /// Peaks of arithmetic that were reached.
    pub compute: Vec<Arithmetic>,
    /// Matrix products.
    #[serde(default)]
    pub products: Vec<Product>,
    /// GPUs.
    #[serde(default)]
    pub gpus: Gpus,
    /// Apple's Neural Engine, as `sprag ane probe` found it last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub neural_engine: Option<NeuralEngine>,
}

/// What a Neural Engine does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NeuralEngine {
    /// Its chip; `emulated M4` where there is none.
    pub name: String,
    /// Whether times are predictions of the emulator's cost model, and nothing was measured.
    pub predicted: bool,
    /// When, RFC 3339.
    pub at: String,
    /// Figures.
    pub figures: Vec<NeuralEngineFigure>,
}

/// One figure of a Neural Engine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NeuralEngineFigure {
    /// What was tried.
    pub kind: String,
    /// The size that was varied.
    pub size: u64,
    /// Median, least and most, in seconds.
    pub seconds: [f64; 3],
    /// How often.
    pub goes: u32,
    /// FLOP/s by the median; absent where that says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flops: Option<f64>,
}

/// The point of a roofline at which memory stops being what limits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ridge {
    /// Most operations a second.
    pub flop_per_second: f64,
    /// Most bytes a second.
    pub bytes_per_second: f64,
}

impl Ridge {
    /// Operations a byte: below, memory limits; above, arithmetic.
    pub fn flop_per_byte(self) -> f64 {
        self.flop_per_second / self.bytes_per_second
    }

    /// Most operations a second at an intensity in operations a byte.
    ///
    /// ```
    /// use sprag_measure::probe::Ridge;
    /// let ridge = Ridge { flop_per_second: 100.0, bytes_per_second: 10.0 };
    /// assert_eq!((ridge.flop_per_byte(), ridge.at(1.0), ridge.at(50.0)), (10.0, 10.0, 100.0));
    /// ```
    pub fn at(self, flop_per_byte: f64) -> f64 {
        self.flop_per_second.min(self.bytes_per_second * flop_per_byte)
    }
}

impl Probe {
    /// The best median that a transfer reached on any number of threads, and on how many.
    pub fn best(&self, transfer: Transfer) -> Option<&Bandwidth> {
        let own = self.memory.iter().filter(|one| one.transfer == transfer);
        own.max_by(|a, b| a.bytes_per_second.median.total_cmp(&b.bytes_per_second.median))
    }

    /// The most bytes a second that surely crossed to memory, whatever the transfer: as counted, because whether a plain
    /// store reads its line first is the processor's secret.
    pub fn memory_ceiling(&self) -> Option<f64> {
        self.memory.iter().map(|one| one.bytes_per_second.median).max_by(f64::total_cmp)
    }

    /// The highest peak that was reached in a precision, by a kernel or by a product.
    pub fn peak(&self, precision: &str) -> Option<f64> {
        let kernels = self.compute.iter().filter(|one| one.precision == precision);
        let kernels = kernels.map(|one| one.operations_per_second.median);
        let products = self.products.iter().filter(|one| one.precision == precision);
        kernels.chain(products.map(|one| one.flop_per_second.median)).max_by(f64::total_cmp)
    }

    /// The roofline of a precision.
    pub fn ridge(&self, precision: &str) -> Option<Ridge> {
        let (flop_per_second, bytes_per_second) = (self.peak(precision)?, self.memory_ceiling()?);
        Some(Ridge { flop_per_second, bytes_per_second })
    }
}

/// Measures this machine. `on_step` hears what is measured next.
pub fn probe(options: &Options<'_>, on_step: &mut dyn FnMut(&str)) -> Probe {
    let began = Instant::now();
    let machine = Machine::probe();
    let cores = threads::usable();
    let load = LoadMeter::start();
    let warmth = power::temperature_celsius();
    on_step("clock");
    let clock_before = clock_rate::hertz(options.effort);
    on_step("floor costs");
    let floor = floor::measure(options.effort, &options.folder);
    on_step("memory bandwidth");
    let memory = memory::measure(options.effort, &machine, &cores);
    on_step("latency over the working set");
    let presented = presented::read();
    let ladder = ladder::measure(options.effort, &machine, &presented);
    on_step("arithmetic");
    let power_before = power::Meter::start();
    let compute = compute::measure(options.effort, &cores);
    on_step("matrix products");
    let products = options.multiply.map(|multiply| products(options.effort, multiply)).unwrap_or_default();
    let power = power_before.finish();
    on_step("energy");
    let energy = energy::measure(options.effort, &machine, &cores, options.multiply);
    on_step("GPUs");
    let gpus = gpu::measure(options.effort);
    let clock_after = clock_rate::hertz(options.effort);
    let load = load.finish(Duration::ZERO).ok();
    Probe {
        format: FORMAT,
        at: clock::now_rfc3339(),
        seconds: began.elapsed().as_secs_f64(),
        effort: options.effort,
        machine: machine.facts(),
        presented,
        clock_hz: clock_before.zip(clock_after).map(|(before, after)| [before, after]),
        temperature_celsius: warmth.zip(power::temperature_celsius()).map(|(before, after)| [before, after]),
        other_processes: load.map(|load| load.other_processes),
        steal: load.map(|load| load.steal),
        power,
        energy,
        floor,
        memory,
        ladder,
        compute,
        products,
        gpus,
        neural_engine: None,
    }
}

/// Square products of growing size, and the shapes of a small model's layers.
fn products(effort: Effort, multiply: Multiply<'_>) -> Vec<Product> {
    let squares: &[u32] = match effort {
        Effort::Quick => &[256, 1024],
        Effort::Normal => &[128, 256, 512, 1024, 2048],
        Effort::Thorough => &[64, 128, 256, 512, 1024, 2048, 4096],
    };
    let mut shapes: Vec<[u32; 3]> = squares.iter().map(|n| [*n, *n, *n]).collect();
    if effort != Effort::Quick {
        // One token, a few, and many against the weights of a layer.
        shapes.extend([[1, 2048, 2048], [16, 2048, 2048], [2048, 256, 256]]);
    }
    let mut products = Vec::new();
    for precision in ["fp32", "bf16"] {
        for shape in &shapes {
            let goes = (0..effort.goes()).filter_map(|_| multiply(*shape, precision, effort.go()));
            let rates: Vec<f64> = goes.collect();
            let [m, n, k] = *shape;
            products.extend(Sample::of(&rates).map(|flop_per_second| Product {
                m,
                n,
                k,
                precision: precision.to_owned(),
                flop_per_second,
            }));
        }
    }
    products
}

#[cfg(test)]
mod tests;
