//! What claims are compared with: the planner's functions, and arithmetic over them, as data.

use serde::Deserialize;

use super::Claim;
use crate::plan::{
    self, Architecture, Device, Feed, Job, Quant, Split, cluster, find_device, find_link, find_model,
    find_quant,
};
use crate::units::{Bytes, Count};

/// From the least to the most.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// Least.
    pub low: f64,
    /// Most.
    pub high: f64,
}

impl Interval {
    /// Around some numbers; one number is an interval without width.
    pub fn of(numbers: &[f64]) -> Interval {
        let low = numbers.iter().copied().fold(f64::INFINITY, f64::min);
        Interval { low, high: numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max) }
    }

    /// Times a number above 0.
    pub fn scaled(self, factor: f64) -> Interval {
        Interval { low: self.low * factor, high: self.high * factor }
    }

    fn from_ends(ends: [f64; 4]) -> Interval {
        Interval::of(&ends)
    }

    fn times(self, other: Interval) -> Interval {
        let (a, b) = (self, other);
        Interval::from_ends([a.low * b.low, a.low * b.high, a.high * b.low, a.high * b.high])
    }

    fn over(self, other: Interval) -> Interval {
        let (a, b) = (self, other);
        Interval::from_ends([a.low / b.low, a.low / b.high, a.high / b.low, a.high / b.high])
    }
}

/// A quantity with how it was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Computed {
    /// Its value, in units without prefixes.
    pub value: Interval,
    /// The formula with its numbers.
    pub formula: String,
    /// A machine that nobody sells is part of it.
    pub projected: bool,
}

impl Computed {
    fn new(value: Interval, formula: String) -> Computed {
        Computed { value, formula, projected: false }
    }

    /// Its value as people write numbers.
    pub fn shown(&self) -> String {
        let one = |value: f64| match value.abs() {
            size if (0.01..10_000.0).contains(&size) => format!("{value:.2}"),
            _ => format!("{value:.4e}"),
        };
        match self.value.low == self.value.high {
            true => one(self.value.low),
            false => format!("{} to {}", one(self.value.low), one(self.value.high)),
        }
    }
}

/// Why a quantity cannot be computed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// A model that is not known here.
    #[error("`{0}` is no model that is known here (`sprag plan list`)")]
    Model(String),
    /// A machine that is not known here.
    #[error("`{0}` is no machine that is known here (`sprag plan list`)")]
    Machine(String),
    /// A format that is not known here.
    #[error("`{0}` is no format of weights that is known here (`sprag plan list`)")]
    Format(String),
    /// A figure that nobody tells.
    #[error("nobody says {0}")]
    Unknown(String),
    /// A claim that is not in the file.
    #[error("there is no claim {0}")]
    Claim(u32),
    /// Numbers that make no sense.
    #[error("{0}")]
    Numbers(String),
}

/// A model: one that is known by name, or a bare number of parameters that are all read for a token.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Subject {
    /// By name.
    Named(String),
    /// By its parameters.
    Params(f64),
}

/// A quantity as it is written in a file of claims.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Quantity {
    /// A number that somebody tells.
    Number {
        /// One, or least and most.
        value: Vec<f64>,
        /// What it is.
        what: String,
    },
    /// A number of another claim.
    Claimed(u32),
    /// One over the other.
    Ratio(Box<Quantity>, Box<Quantity>),
    /// One over the other, less 1.
    Gain(Box<Quantity>, Box<Quantity>),
    /// All multiplied.
    Product(Vec<Quantity>),
    /// All added.
    Sum(Vec<Quantity>),
    /// Bytes of the weights, from the smallest to the largest of the formats.
    Weights {
        /// The model.
        model: Subject,
        /// Formats; a number of bits is one too.
        quants: Vec<String>,
    },
    /// Bytes that are read for one token.
    ReadAToken {
        /// The model.
        model: Subject,
        /// Formats of the weights.
        quants: Vec<String>,
        /// Positions in the cache.
        #[serde(default)]
        context: u64,
    },
    /// Bytes of the KV cache in half precision.
    KvCache {
        /// The model.
        model: String,
        /// Positions.
        context: u64,
    },
    /// The same of a shape.
    KvShape {
        /// Layers with attention.
        layers: u64,
        /// Heads of keys and of values.
        kv_heads: u64,
        /// Width of a head.
        head_dim: u64,
        /// Positions.
        context: u64,
    },
    /// Bytes of the recurrent state as it is kept.
    State {
        /// The model.
        model: String,
    },
    /// Bytes of one head's state.
    StateAHead {
        /// Width of a key.
        k_dim: u64,
        /// Width of a value.
        v_dim: u64,
        /// Bits of a number.
        bits: u64,
    },
    /// Bytes of all that must lie in memory.
    Needed {
        /// The model.
        model: Subject,
        /// Formats of the weights.
        quants: Vec<String>,
        /// Positions.
        #[serde(default)]
        context: u64,
    },
    /// The part of a machine's memory that is needed.
    MemoryPart {
        /// The model.
        model: Subject,
        /// Formats of the weights.
        quants: Vec<String>,
        /// Positions.
        #[serde(default)]
        context: u64,
        /// The machine; its largest memory, where nothing else is said.
        machine: String,
        /// Gigabytes.
        memory: Option<f64>,
        /// Machines of the kind that share the model.
        #[serde(default = "one")]
        nodes: u64,
    },
    /// Tokens a second of one sequence at most, over the formats.
    DecodeCeiling {
        /// The machine.
        machine: String,
        /// The model.
        model: Subject,
        /// Formats of the weights.
        quants: Vec<String>,
        /// Positions.
        #[serde(default)]
        context: u64,
    },
    /// Tokens a second of prefill at most: operations over those of a token of a short prompt.
    PrefillCeiling {
        /// Operations a second.
        flop: Box<Quantity>,
        /// The model.
        model: Subject,
    },
    /// Bytes a second of a machine's memory.
    Bandwidth(String),
    /// Operations a second of a machine in half precision.
    Peak(String),
    /// Watts of a machine.
    Watts(String),
    /// Bytes of three square matrices of 16 bits.
    WorkingSet(u64),
    /// Operations of a training step: six for each parameter and token.
    TrainingFlop {
        /// Parameters.
        params: f64,
        /// Tokens.
        tokens: f64,
    },
    /// Seconds of the reductions of one token: two a layer, one latency each.
    Reductions {
        /// The model.
        model: String,
        /// The link.
        link: String,
    },
    /// How many times as fast a cluster answers as one of its machines alone, within the range of what is expected.
    ClusterGain {
        /// The model.
        model: String,
        /// The format of its weights.
        quant: String,
        /// The machines.
        machines: Vec<String>,
        /// What connects them.
        link: String,
        /// How the work is split.
        split: SplitWord,
        /// Tokens of the prompt.
        prompt: u64,
        /// Tokens of the answer; where there are none, one token is compared.
        #[serde(default)]
        answer: u64,
        /// The machine that it is compared with, from 0.
        over: usize,
    },
    /// Experts that a model uses for a token, those that are always used counted as one.
    ExpertsUsed(String),
    /// Experts that a model chooses from.
    Experts(String),
}

/// As files write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SplitWord {
    /// Layers in a row.
    Pipeline,
    /// Every layer split.
    Tensor,
    /// Prompt and answer apart.
    PrefillDecode,
}

fn one() -> u64 {
    1
}

fn model(name: &str) -> Result<Architecture, QuantityError> {
    find_model(name).map(|model| model.architecture).ok_or_else(|| QuantityError::Model(name.to_owned()))
}

fn device(name: &str) -> Result<Device, QuantityError> {
    find_device(name).map_err(|_| QuantityError::Machine(name.to_owned()))
}

/// A known format, or a bare number of bits.
fn format(name: &str) -> Result<Quant, QuantityError> {
    let bits = name.parse::<f64>().ok().filter(|bits| *bits > 0.0 && bits.is_finite());
    let bare = bits.map(|bits| Quant { name: "bits", bits, source: "as given" });
    find_quant(name).or(bare).ok_or_else(|| QuantityError::Format(name.to_owned()))
}

/// The value over some formats, and the formats in words.
fn over_formats(
    quants: &[String],
    of: impl Fn(Quant) -> Result<f64, QuantityError>,
) -> Result<(Interval, String), QuantityError> {
    let formats: Vec<Quant> = quants.iter().map(|name| format(name)).collect::<Result<_, _>>()?;
    if formats.is_empty() {
        return Err(QuantityError::Numbers("`quants` is empty".to_owned()));
    }
    let values: Vec<f64> = formats.iter().map(|quant| of(*quant)).collect::<Result<_, _>>()?;
    let words: Vec<String> = formats.iter().map(|quant| format!("{} bits", quant.bits)).collect();
    Ok((Interval::of(&values), words.join(" or ")))
}

fn read(subject: &Subject, quant: Quant, context: u64) -> Result<f64, QuantityError> {
    with_job(subject, quant, context, plan::bytes_a_token)
}

fn needed(subject: &Subject, quant: Quant, context: u64) -> Result<f64, QuantityError> {
    with_job(subject, quant, context, plan::bytes_needed)
}

/// Something of one sequence of a known model; of bare parameters their bytes.
fn with_job(
    subject: &Subject,
    quant: Quant,
    context: u64,
    of: impl Fn(&Job<'_>) -> f64,
) -> Result<f64, QuantityError> {
    Ok(match subject {
        Subject::Named(name) => {
            let model = model(name)?;
            of(&Job { model: &model, quant, exact: None, context, batch: 1, cache_bytes: 2.0 })
        }
        Subject::Params(params) => params * quant.bits / 8.0,
    })
}

fn weights(subject: &Subject, quant: Quant) -> Result<f64, QuantityError> {
    Ok(quant.bits / 8.0
        * match subject {
            Subject::Named(name) => model(name)?.params() as f64,
            Subject::Params(params) => *params,
        })
}

fn said(subject: &Subject) -> String {
    match subject {
        Subject::Named(name) => name.clone(),
        Subject::Params(params) => format!("{} parameters", Count(*params)),
    }
}

impl Quantity {
    /// Its value and how it was found.
    ///
    /// # Errors
    /// See [`QuantityError`].
    pub fn compute(&self, claims: &[Claim]) -> Result<Computed, QuantityError> {
        let bytes = |count: f64| format!("{:.4e} bytes", count);
        Ok(match self {
            Quantity::Number { value, what } => {
                if value.is_empty() || !value.iter().all(|number| number.is_finite()) {
                    return Err(QuantityError::Numbers(format!("`{what}` is no number")));
                }
                Computed::new(Interval::of(value), what.clone())
            }
            Quantity::Claimed(id) => {
                let claim = claims.iter().find(|claim| claim.id == *id).ok_or(QuantityError::Claim(*id))?;
                let value = Interval::of(&claim.claimed).scaled(claim.unit.parts().0);
                Computed::new(value, format!("claim {id}"))
            }
            Quantity::Ratio(of, to) => {
                let (of, to) = (of.compute(claims)?, to.compute(claims)?);
                Computed {
                    value: of.value.over(to.value),
                    formula: format!("({} = {}) / ({} = {})", of.formula, of.shown(), to.formula, to.shown()),
                    projected: of.projected || to.projected,
                }
            }
            Quantity::Gain(of, to) => {
                let (of, to) = (of.compute(claims)?, to.compute(claims)?);
                let ratio = of.value.over(to.value);
                Computed {
                    value: Interval { low: ratio.low - 1.0, high: ratio.high - 1.0 },
                    formula: format!(
                        "({} = {}) / ({} = {}) - 1",
                        of.formula,
                        of.shown(),
                        to.formula,
                        to.shown()
                    ),
                    projected: of.projected || to.projected,
                }
            }
            Quantity::Product(parts) => {
                all(parts, claims, " x ", Interval { low: 1.0, high: 1.0 }, Interval::times)?
            }
            Quantity::Sum(parts) => all(parts, claims, " + ", Interval { low: 0.0, high: 0.0 }, |a, b| {
                Interval { low: a.low + b.low, high: a.high + b.high }
            })?,
            Quantity::Weights { model, quants } => {
                let (value, words) = over_formats(quants, |quant| weights(model, quant))?;
                Computed::new(value, format!("{} x {words} / 8", said(model)))
            }
            Quantity::ReadAToken { model, quants, context } => {
                let (value, words) = over_formats(quants, |quant| read(model, quant, *context))?;
                Computed::new(
                    value,
                    format!("what {} reads for a token, {words}, {context} positions", said(model)),
                )
            }
            Quantity::KvCache { model: name, context } => {
                let model = model(name)?;
                let value = model.cache_bytes(*context, 2.0);
                let a_position = value / (*context).max(1) as f64;
                Computed::new(Interval::of(&[value]), format!("{a_position} bytes a position x {context}"))
            }
            Quantity::KvShape { layers, kv_heads, head_dim, context } => {
                let real = |count: &u64| *count as f64;
                let value = 4.0 * real(layers) * real(kv_heads) * real(head_dim) * real(context);
                let formula =
                    format!("2 x {layers} layers x {kv_heads} heads x {head_dim} x 2 bytes x {context}");
                Computed::new(Interval::of(&[value]), formula)
            }
            Quantity::State { model: name } => {
                let value = model(name)?.state_bytes();
                Computed::new(
                    Interval::of(&[value]),
                    format!("states of {name} in fp32 and convolution inputs in bf16"),
                )
            }
            Quantity::StateAHead { k_dim, v_dim, bits } => {
                let value = *k_dim as f64 * *v_dim as f64 * *bits as f64 / 8.0;
                Computed::new(Interval::of(&[value]), format!("{k_dim} x {v_dim} x {bits} bits / 8"))
            }
            Quantity::Needed { model, quants, context } => {
                let (value, words) = over_formats(quants, |quant| needed(model, quant, *context))?;
                Computed::new(value, format!("{} in {words} with {context} positions", said(model)))
            }
            Quantity::MemoryPart { model, quants, context, machine, memory, nodes } => {
                let device = device(machine)?;
                let memory = memory.map_or(device.most_memory(), |giga| giga * 1e9) * *nodes as f64;
                let (value, words) = over_formats(quants, |quant| needed(model, quant, *context))?;
                let formula = format!(
                    "{} in {words} with {context} positions needs {} to {}; {nodes} x {machine} {}",
                    said(model),
                    bytes(value.low),
                    bytes(value.high),
                    Bytes((memory / *nodes as f64) as u64)
                );
                Computed { value: value.scaled(1.0 / memory), formula, projected: device.is_projected() }
            }
            Quantity::DecodeCeiling { machine, model, quants, context } => {
                let device = device(machine)?;
                let (value, words) = over_formats(quants, |quant| read(model, quant, *context))?;
                let formula = format!(
                    "{:.4e} bytes/s / {} to {} of {}, {words}, {context} positions",
                    device.bytes_per_second,
                    bytes(value.low),
                    bytes(value.high),
                    said(model)
                );
                let rate = Interval::of(&[device.bytes_per_second]).over(value);
                Computed { value: rate, formula, projected: device.is_projected() }
            }
            Quantity::PrefillCeiling { flop, model: subject } => {
                let flop = flop.compute(claims)?;
                // Of a short prompt: what it looks back at costs next to nothing, the output matrix is needed once.
                let a_token = match subject {
                    Subject::Named(name) => model(name)?.prompt_flop_a_token(512),
                    Subject::Params(params) => 2.0 * params,
                };
                Computed {
                    value: flop.value.scaled(1.0 / a_token),
                    formula: format!(
                        "({} = {}) / {a_token:.4e} FLOP a token of {}",
                        flop.formula,
                        flop.shown(),
                        said(subject)
                    ),
                    projected: flop.projected,
                }
            }
            Quantity::Bandwidth(name) => told(name, "bandwidth", |device| Some(device.bytes_per_second))?,
            Quantity::Peak(name) => told(name, "operations a second", |device| device.flop_per_second)?,
            Quantity::Watts(name) => told(name, "power", |device| device.watts)?,
            Quantity::WorkingSet(size) => {
                let value = 3.0 * (*size as f64).powi(2) * 2.0;
                Computed::new(Interval::of(&[value]), format!("3 x {size}^2 x 2 bytes"))
            }
            Quantity::TrainingFlop { params, tokens } => {
                let formula = format!("6 x {} parameters x {tokens} tokens", Count(*params));
                Computed::new(Interval::of(&[6.0 * params * tokens]), formula)
            }
            Quantity::Reductions { model: name, link } => {
                let layers = model(name)?.blocks.len() as f64;
                let link = find_link(link)
                    .ok_or_else(|| QuantityError::Unknown(format!("what the link `{link}` is")))?;
                let formula = format!("2 x {layers} layers x {:.0} us", link.seconds * 1e6);
                Computed::new(Interval::of(&[2.0 * layers * link.seconds]), formula)
            }
            Quantity::ClusterGain { model: name, quant, machines, link, split, prompt, answer, over } => {
                let model = model(name)?;
                let devices: Vec<Device> =
                    machines.iter().map(|name| device(name)).collect::<Result<_, _>>()?;
                let link = find_link(link)
                    .ok_or_else(|| QuantityError::Unknown(format!("what the link `{link}` is")))?;
                let split = match split {
                    SplitWord::Pipeline => Split::Pipeline,
                    SplitWord::Tensor => Split::Tensor,
                    SplitWord::PrefillDecode => Split::PrefillDecode,
                };
                let job = Job {
                    model: &model,
                    quant: format(quant)?,
                    exact: None,
                    context: *prompt,
                    batch: 1,
                    cache_bytes: 2.0,
                };
                let plan = cluster(&job, &devices, &link, split)
                    .map_err(|error| QuantityError::Numbers(error.to_string()))?;
                let unknown = || {
                    QuantityError::Unknown(format!(
                        "how long a prompt takes on one of {}",
                        machines.join(", ")
                    ))
                };
                let alone = plan
                    .alone
                    .get(*over)
                    .ok_or_else(|| QuantityError::Numbers(format!("there is no machine {over}")))?;
                let gain = match answer {
                    0 => alone.token / plan.token.closed,
                    answer => {
                        let (own, together) = (alone.answer(*answer), plan.answer(*answer));
                        own.ok_or_else(unknown)? / together.ok_or_else(unknown)?
                    }
                };
                // Both sides come from expected values; a ratio of two is no surer than one.
                let spread = plan::efficiency_of(devices[*over].class).spread.exp();
                Computed {
                    value: Interval { low: gain / spread, high: gain * spread },
                    formula: format!(
                        "{} over {} with {name}: x{gain:.2} expected against {} alone",
                        split.word(),
                        link.name,
                        devices[*over].name
                    ),
                    projected: devices.iter().any(Device::is_projected),
                }
            }
            Quantity::ExpertsUsed(name) => {
                let (used, _) = experts(name)?;
                Computed::new(
                    Interval::of(&[used]),
                    format!("experts that {name} uses for a token, the shared one included"),
                )
            }
            Quantity::Experts(name) => {
                let (_, count) = experts(name)?;
                Computed::new(Interval::of(&[count]), format!("experts of {name} to choose from"))
            }
        })
    }
}

fn all(
    parts: &[Quantity],
    claims: &[Claim],
    sign: &str,
    begin: Interval,
    join: impl Fn(Interval, Interval) -> Interval,
) -> Result<Computed, QuantityError> {
    let parts: Vec<Computed> = parts.iter().map(|part| part.compute(claims)).collect::<Result<_, _>>()?;
    let words: Vec<String> =
        parts.iter().map(|part| format!("{} ({})", part.shown(), part.formula)).collect();
    Ok(Computed {
        value: parts.iter().fold(begin, |sum, part| join(sum, part.value)),
        formula: words.join(sign),
        projected: parts.iter().any(|part| part.projected),
    })
}

fn told(name: &str, what: &str, of: impl Fn(&Device) -> Option<f64>) -> Result<Computed, QuantityError> {
    let device = device(name)?;
    let value = of(&device).ok_or_else(|| QuantityError::Unknown(format!("the {what} of {name}")))?;
    Ok(Computed {
        value: Interval::of(&[value]),
        formula: format!("{what} of {}", device.name),
        projected: device.is_projected(),
    })
}

/// Experts used for a token and experts in all, of the last layer that has some.
fn experts(name: &str) -> Result<(f64, f64), QuantityError> {
    let model = model(name)?;
    let found = model.blocks.iter().rev().find_map(|block| match block.feed {
        Feed::Experts { experts, top_k, shared_ff, .. } => {
            Some((top_k as f64 + f64::from(u8::from(shared_ff > 0)), experts as f64))
        }
        _ => None,
    });
    found.ok_or_else(|| QuantityError::Numbers(format!("{name} has no experts")))
}
