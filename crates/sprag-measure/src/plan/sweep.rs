//! How machines compare over the size of a model, and where one overtakes the other.

use super::architecture::Architecture;
use super::device::Device;
use super::estimate::{Job, estimate};
use super::quant::Quant;

/// What is asked of each size.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    /// Format of the weights.
    pub quant: Quant,
    /// Tokens of the prompt.
    pub prompt: u64,
    /// Tokens of the answer.
    pub answer: u64,
    /// Bytes of a number in the cache.
    pub cache_bytes: f64,
}

/// One size on one machine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SweepPoint {
    /// It fits.
    pub fits: bool,
    /// Expected tokens a second of decode.
    pub decode: f64,
    /// Seconds of prompt and answer; of the answer alone where the machine's operations are not known.
    pub seconds: f64,
    /// The prompt is in it.
    pub with_prompt: bool,
}

/// One size.
#[derive(Clone, Debug, PartialEq)]
pub struct SweepRow {
    /// Parameters.
    pub params: u64,
    /// In the order of the machines.
    pub points: Vec<SweepPoint>,
}

/// A change of who is best.
#[derive(Clone, Debug, PartialEq)]
pub struct Crossover {
    /// Parameters of the last size at which the first was best, and of the first at which the second is.
    pub between: (u64, u64),
    /// Who was best; `None` where nothing fitted.
    pub from: Option<usize>,
    /// Who is best then; `None` where nothing fits.
    pub to: Option<usize>,
    /// The first does not fit any more.
    pub because_of_memory: bool,
}

/// Sizes by their layers, about 0.1 to 1,000 thousand millions.
const LAYERS: std::ops::RangeInclusive<u64> = 6..=172;

fn point(layers: u64, device: &Device, workload: &Workload) -> (u64, SweepPoint) {
    let model = Architecture::dense(layers);
    let job = Job {
        model: &model,
        quant: workload.quant,
        exact: None,
        context: workload.prompt + workload.answer,
        batch: 1,
        cache_bytes: workload.cache_bytes,
    };
    let plan = estimate(&job, device);
    let prompt = plan.prefill.map(|prefill| workload.prompt as f64 / prefill.expected);
    let seconds = prompt.unwrap_or(0.0) + workload.answer as f64 / plan.decode.expected;
    let point = SweepPoint {
        fits: plan.fit.fits(),
        decode: plan.decode.expected,
        seconds,
        with_prompt: prompt.is_some(),
    };
    (model.params(), point)
}

/// All sizes on all machines, and where the fastest changes. Prompts count only where every machine's operations are
/// known.
pub fn sweep(devices: &[Device], workload: &Workload) -> (Vec<SweepRow>, Vec<Crossover>) {
    let mut rows = Vec::new();
    for layers in LAYERS {
        let mut params = 0;
        let mut points = Vec::new();
        for device in devices {
            let (count, point) = point(layers, device, workload);
            params = count;
            points.push(point);
        }
        rows.push(SweepRow { params, points });
    }
    let with_prompt = devices.iter().all(|device| device.flop_per_second.is_some());
    if !with_prompt {
        for point in rows.iter_mut().flat_map(|row| &mut row.points) {
            point.seconds = workload.answer as f64 / point.decode;
            point.with_prompt = false;
        }
    }
    let best = |row: &SweepRow| {
        let fitting = row.points.iter().enumerate().filter(|(_, point)| point.fits);
        fitting.min_by(|(_, a), (_, b)| a.seconds.total_cmp(&b.seconds)).map(|(at, _)| at)
    };
    let mut changes = Vec::new();
    for pair in rows.windows(2) {
        let (from, to) = (best(&pair[0]), best(&pair[1]));
        if from != to {
            let because_of_memory = from.is_some_and(|at| !pair[1].points[at].fits);
            changes.push(Crossover {
                between: (pair[0].params, pair[1].params),
                from,
                to,
                because_of_memory,
            });
        }
    }
    (rows, changes)
}
