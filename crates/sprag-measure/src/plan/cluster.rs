//! One model on several machines: layers in a row, every layer split, or the prompt on one and the answer on another.
//!
//! Each time has a closed form, and the same work is played by [`super::simulate`]; both are told, and tests hold them
//! together. Sources of the forms: Narayanan et al. 2021 (pipelines), Shoeybi et al. 2019 ("Megatron-LM": two reductions a
//! layer), Johnson 1954 (two machines one after the other, for the prompt whose layers are sent while the next is
//! computed).

use super::device::Device;
use super::efficiency::{Load, efficiency_of};
use super::estimate::{Fit, Job, Line, context_read, load_on, needed, weights_read};
use super::simulate::{Task, simulate};

/// What connects two machines.
#[derive(Clone, Debug, PartialEq)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// Bytes a second in one direction.
    pub bytes_per_second: f64,
    /// Seconds until the first byte arrives.
    pub seconds: f64,
    /// Who says so.
    pub source: &'static str,
}

const LINKS: [(&str, f64, f64, &str); 5] = [
    (
        "rdma",
        8e9,
        10e-6,
        "Thunderbolt 5 presents 80 Gbit/s; RDMA over it is told to take 3 to 50 us, 10 are assumed",
    ),
    (
        "tcp",
        4e9,
        300e-6,
        "TCP over Thunderbolt 5: 300 us are told by those who replaced it by RDMA; half of the rate is assumed",
    ),
    ("10gbe", 1.25e9, 50e-6, "10 Gbit/s by definition; 50 us through one switch are assumed"),
    ("100gbe", 12.5e9, 10e-6, "100 Gbit/s by definition; 10 us with RoCE are assumed"),
    (
        "nvlink4",
        450e9,
        2e-6,
        "NVIDIA, H100 datasheet: 900 GB/s in both directions together; 2 us are assumed",
    ),
];

/// The link of that name, or one by its numbers: `GB/S:MICROSECONDS`.
///
/// ```
/// use sprag_measure::plan::find_link;
/// assert_eq!(find_link("10gbe").unwrap().bytes_per_second, 1.25e9);
/// assert!((find_link("5:20").unwrap().seconds - 20e-6).abs() < 1e-12);
/// assert!(find_link("string").is_none() && find_link("0:1").is_none());
/// ```
pub fn find_link(text: &str) -> Option<Link> {
    let text = text.trim();
    if let Some((name, rate, seconds, source)) =
        LINKS.into_iter().find(|(name, ..)| name.eq_ignore_ascii_case(text))
    {
        return Some(Link { name: name.to_owned(), bytes_per_second: rate, seconds, source });
    }
    let (rate, micro) = text.split_once(':')?;
    let (rate, micro): (f64, f64) = (rate.parse().ok()?, micro.parse().ok()?);
    let sound = rate > 0.0 && rate.is_finite() && micro >= 0.0 && micro.is_finite();
    sound.then(|| Link {
        name: format!("{rate} GB/s, {micro} us"),
        bytes_per_second: rate * 1e9,
        seconds: micro * 1e-6,
        source: "as given",
    })
}

/// Names of the links that ship, with their sources.
pub fn links() -> Vec<Link> {
    LINKS.iter().filter_map(|(name, ..)| find_link(name)).collect()
}

/// How the work is split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// Layers in a row, as many on each node as its memory has part in all.
    Pipeline,
    /// Every layer over all nodes.
    Tensor,
    /// The prompt on the first node, the answer on the second, caches sent layer by layer while the next is computed.
    PrefillDecode,
}

impl Split {
    /// As people name it.
    pub fn word(self) -> &'static str {
        match self {
            Split::Pipeline => "pipeline",
            Split::Tensor => "tensor",
            Split::PrefillDecode => "prefill-decode",
        }
    }
}

/// A time by its formula and by simulation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timed {
    /// By the closed form, in seconds.
    pub closed: f64,
    /// As it was played, in seconds.
    pub played: f64,
}

/// Why it cannot be planned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClusterError {
    /// Too few machines, or too many for this split.
    #[error("{0}")]
    Nodes(String),
    /// Heads or widths do not divide.
    #[error("the layers cannot be split: {0}")]
    Divide(String),
    /// A machine's operations are not known.
    #[error("nobody says how many operations {0} does in a second")]
    Operations(String),
}

/// The plan.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterPlan {
    /// Layers of each node.
    pub layers: Vec<usize>,
    /// Whether each node's part fits.
    pub fits: Vec<Fit>,
    /// Seconds of one token of one sequence.
    pub token: Timed,
    /// Seconds until the first token; `None` where a machine's operations are not known.
    pub prompt: Option<Timed>,
    /// Seconds of the prompt on each machine alone, and of one token there, where the model fits.
    pub alone: Vec<Alone>,
    /// How the times were found.
    pub lines: Vec<Line>,
}

/// The same on one machine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Alone {
    /// The model fits there.
    pub fits: bool,
    /// Seconds until the first token.
    pub prompt: Option<f64>,
    /// Seconds of one token.
    pub token: f64,
}

impl ClusterPlan {
    /// Seconds of a whole answer of so many tokens.
    pub fn answer(&self, tokens: u64) -> Option<f64> {
        Some(self.prompt?.closed + tokens as f64 * self.token.closed)
    }
}

impl Alone {
    /// Seconds of a whole answer of so many tokens.
    pub fn answer(&self, tokens: u64) -> Option<f64> {
        Some(self.prompt? + tokens as f64 * self.token)
    }
}

/// Seconds for one token of a part of the model: so much of its weights and of its caches, so many of its layers.
fn token_seconds(job: &Job<'_>, device: &Device, [weights, caches]: [f64; 2], layers: f64) -> f64 {
    let whole = load_on(job, device, 1.0);
    let load = Load {
        bytes: weights_read(job, 1.0) * weights + context_read(job) * caches,
        packed_weights: whole.packed_weights * weights,
        layers,
        ..whole
    };
    1.0 / efficiency_of(device.class).decode(load)
}

/// Seconds of each layer for so many tokens of a prompt at once: computing them, or reading the layer's weights, whichever
/// is longer. The output matrix is needed once, and left out.
fn prompt_layers(job: &Job<'_>, device: &Device, tokens: f64) -> Option<Vec<f64>> {
    let rate = device.flop_per_second? * efficiency_of(device.class).prefill_share;
    let over = job.model.layer_mixing_flop(job.context / 2);
    let matrices = job.model.layer_active_params();
    let load = Load { bytes: weights_read(job, tokens), positions: 0.0, ..load_on(job, device, tokens) };
    let read = 1.0 / efficiency_of(device.class).decode(load) / over.len() as f64;
    let layer = |(params, over): (&f64, &f64)| (tokens * (2.0 * params + over) / rate).max(read);
    Some(matrices.iter().zip(&over).map(layer).collect())
}

fn alone(job: &Job<'_>, device: &Device) -> Alone {
    Alone {
        fits: needed(job).1 <= device.usable_memory(),
        prompt: prompt_layers(job, device, job.context as f64).map(|layers| layers.iter().sum()),
        token: token_seconds(job, device, [1.0; 2], job.model.blocks.len() as f64),
    }
}

/// Layers for each node by the part that its memory has in all.
fn share_layers(layers: usize, nodes: &[Device]) -> Vec<usize> {
    let all: f64 = nodes.iter().map(Device::usable_memory).sum();
    let mut ends = Vec::new();
    let mut sum = 0.0;
    for node in nodes {
        sum += node.usable_memory();
        ends.push((layers as f64 * sum / all).round() as usize);
    }
    let begins = std::iter::once(0).chain(ends.iter().copied());
    begins.zip(&ends).map(|(begin, end)| end - begin).collect()
}

/// Plans a job (its context is the prompt, its batch is ignored) over machines.
///
/// # Errors
/// See [`ClusterError`].
pub fn cluster(
    job: &Job<'_>,
    nodes: &[Device],
    link: &Link,
    split: Split,
) -> Result<ClusterPlan, ClusterError> {
    let job = &Job { batch: 1, ..job.clone() };
    if nodes.len() < 2 {
        return Err(ClusterError::Nodes("a cluster has at least two machines".to_owned()));
    }
    match split {
        Split::Pipeline => pipeline(job, nodes, link),
        Split::Tensor => tensor(job, nodes, link),
        Split::PrefillDecode => prefill_decode(job, nodes, link),
    }
}

/// Tokens of a part into which a prompt is cut, so that nodes of a row work at once, and most parts.
const CHUNK: u64 = 512;
const MOST_CHUNKS: u64 = 4096;

fn pipeline(job: &Job<'_>, nodes: &[Device], link: &Link) -> Result<ClusterPlan, ClusterError> {
    let model = job.model;
    let total = model.blocks.len();
    if total < nodes.len() {
        return Err(ClusterError::Nodes(format!(
            "{total} layers cannot be split over {} machines",
            nodes.len()
        )));
    }
    let layers = share_layers(total, nodes);
    let part = |own: usize| own as f64 / total as f64;
    let stages: Vec<f64> = layers
        .iter()
        .zip(nodes)
        .map(|(own, node)| token_seconds(job, node, [part(*own); 2], *own as f64))
        .collect();
    // The residual stream of one token, in half precision; the last node's choice goes back to the first.
    let hop = 2.0 * model.d_model as f64 / link.bytes_per_second;
    let hops = nodes.len() as f64;
    let token_closed = stages.iter().sum::<f64>() + hops * (hop + link.seconds);
    let token_tasks = row(&stages, hop, link.seconds, 1, true);
    let token = Timed { closed: token_closed, played: last(&simulate(&token_tasks)) };

    let mut at = 0;
    let chunks = job.context.div_ceil(CHUNK).clamp(1, MOST_CHUNKS);
    let tokens = job.context as f64 / chunks as f64;
    let mut prompt_stages = Vec::new();
    for (own, node) in layers.iter().zip(nodes) {
        let seconds = prompt_layers(job, node, tokens);
        prompt_stages.push(seconds.map(|all| all[at..at + own].iter().sum::<f64>()));
        at += own;
    }
    let prompt_stages: Option<Vec<f64>> = prompt_stages.into_iter().collect();
    let chunk_hop = hop * tokens;
    let prompt = prompt_stages.map(|stages| {
        // Equal parts through a row of stages and links: all stages once, and the slowest for each part more.
        let slowest = stages.iter().copied().fold(chunk_hop, f64::max);
        let through = stages.iter().sum::<f64>() + (hops - 1.0) * (chunk_hop + link.seconds);
        let closed = through + (chunks - 1) as f64 * slowest;
        let tasks = row(&stages, chunk_hop, link.seconds, chunks as usize, false);
        Timed { closed, played: last(&simulate(&tasks)) }
    });
    let (_, all) = needed(job);
    let fits = layers
        .iter()
        .zip(nodes)
        .map(|(own, node)| Fit { needed: all * part(*own), usable: node.usable_memory() })
        .collect();
    let lines = vec![
        Line {
            name: "stages",
            value: stages.iter().sum(),
            formula: stages.iter().map(|one| format!("{:.3} ms", one * 1e3)).collect::<Vec<_>>().join(" + "),
        },
        Line {
            name: "hops",
            value: hops * (hop + link.seconds),
            formula: format!("{hops} x ({:.1} us + {:.1} us)", link.seconds * 1e6, hop * 1e6),
        },
    ];
    let alone = nodes.iter().map(|node| alone(job, node)).collect();
    Ok(ClusterPlan { layers, fits, token, prompt, alone, lines })
}

/// Parts that go through a row of stages; between two a link that carries one part at a time. Where a token goes round, a
/// last hop returns it.
fn row(stages: &[f64], hop: f64, latency: f64, parts: usize, round: bool) -> Vec<Task> {
    let mut tasks: Vec<Task> = Vec::new();
    for _ in 0..parts {
        for (number, seconds) in stages.iter().enumerate() {
            let after = if number == 0 { Vec::new() } else { vec![(tasks.len() - 1, latency)] };
            tasks.push(Task { resource: 2 * number, seconds: *seconds, after });
            if number + 1 < stages.len() || round {
                tasks.push(Task {
                    resource: 2 * number + 1,
                    seconds: hop,
                    after: vec![(tasks.len() - 1, 0.0)],
                });
            }
        }
        if round {
            tasks.push(Task { resource: 0, seconds: 0.0, after: vec![(tasks.len() - 1, latency)] });
        }
    }
    tasks
}

fn last(ends: &[f64]) -> f64 {
    ends.iter().copied().fold(0.0, f64::max)
}

fn tensor(job: &Job<'_>, nodes: &[Device], link: &Link) -> Result<ClusterPlan, ClusterError> {
    let model = job.model;
    let count = nodes.len() as u64;
    let why = model.cannot_be_split(count);
    if !why.is_empty() {
        return Err(ClusterError::Divide(why.join(", ")));
    }
    let total = model.blocks.len();
    let context_share = model.context_share(count);
    let share = [1.0 / count as f64, context_share];
    let bytes = weights_read(job, 1.0) * share[0] + context_read(job) * share[1];
    let own: Vec<f64> = nodes.iter().map(|node| token_seconds(job, node, share, total as f64)).collect();
    let slowest = own.iter().copied().fold(0.0, f64::max);
    // Every node sends its part of the sum to every other: two reductions a layer.
    let message = 2.0 * model.d_model as f64 / link.bytes_per_second;
    let others = (count - 1) as f64;
    let reduction = |message: f64| others * message + link.seconds;
    let reductions = 2.0 * total as f64;
    let closed = slowest + reductions * reduction(message);
    let halves = |seconds: &[f64]| -> Vec<f64> { seconds.iter().map(|all| all / reductions).collect() };
    let played = last(&simulate(&reduce(&halves(&own), message, link.seconds, 2 * total)));
    let token = Timed { closed, played };
    let prompts: Option<Vec<f64>> = nodes
        .iter()
        .map(|node| Some(prompt_layers(job, node, job.context as f64)?.iter().sum::<f64>() / count as f64))
        .collect();
    let prompt = prompts.map(|own| {
        let message = message * job.context as f64;
        let slowest = own.iter().copied().fold(0.0, f64::max);
        let played = last(&simulate(&reduce(&halves(&own), message, link.seconds, 2 * total)));
        Timed { closed: slowest + reductions * reduction(message), played }
    });
    let (lines, _) = needed(job);
    let value = |name: &str| lines.iter().find(|line| line.name == name).map_or(0.0, |line| line.value);
    let own = value("weights") / count as f64
        + (value("KV cache") + value("recurrent state")) * context_share
        + value("buffers");
    let fits = nodes.iter().map(|node| Fit { needed: own, usable: node.usable_memory() }).collect();
    let lines = vec![
        Line {
            name: "slowest node",
            value: slowest,
            formula: format!("{bytes:.4e} bytes of weights and caches, {total} layers"),
        },
        Line {
            name: "reductions",
            value: reductions * reduction(message),
            formula: format!(
                "2 x {total} layers x ({:.1} us + {others} x {:.1} us)",
                link.seconds * 1e6,
                message * 1e6
            ),
        },
    ];
    let alone = nodes.iter().map(|node| alone(job, node)).collect();
    Ok(ClusterPlan { layers: vec![total; nodes.len()], fits, token, prompt, alone, lines })
}

/// All nodes compute, then each sends to all others, and nobody goes on before all that it waits for has come and all that
/// it sent has arrived: libraries of collectives end an operation so.
fn reduce(compute: &[f64], message: f64, latency: f64, times: usize) -> Vec<Task> {
    let nodes = compute.len();
    let mut tasks: Vec<Task> = Vec::new();
    // Of the last time: the task that sends from one node to another.
    let mut sent: Vec<Vec<usize>> = Vec::new();
    for _ in 0..times {
        let first = tasks.len();
        for (node, seconds) in compute.iter().enumerate() {
            let after = sent.get(node).into_iter().flatten().map(|task| (*task, latency)).collect();
            tasks.push(Task { resource: node, seconds: *seconds, after });
        }
        sent = vec![Vec::new(); nodes];
        for from in 0..nodes {
            for to in (0..nodes).filter(|to| *to != from) {
                sent[to].push(tasks.len());
                sent[from].push(tasks.len());
                tasks.push(Task {
                    resource: nodes + from,
                    seconds: message,
                    after: vec![(first + from, 0.0)],
                });
            }
        }
    }
    // The end is when the last sums are there.
    let all: Vec<(usize, f64)> = sent.into_iter().flatten().map(|task| (task, latency)).collect();
    tasks.push(Task { resource: 2 * nodes, seconds: 0.0, after: all });
    tasks
}

/// The end of two machines one after the other, the second beginning each part when the first has done it: the largest of
/// all ways to change over (Johnson 1954).
pub fn two_in_a_row(first: &[f64], second: &[f64]) -> f64 {
    let mut rest: f64 = second.iter().sum();
    let (mut done, mut end) = (0.0, 0.0_f64);
    for (one, two) in first.iter().zip(second) {
        done += one;
        end = end.max(done + rest);
        rest -= two;
    }
    end
}

fn prefill_decode(job: &Job<'_>, nodes: &[Device], link: &Link) -> Result<ClusterPlan, ClusterError> {
    let [first, second] = nodes else {
        return Err(ClusterError::Nodes(
            "the prompt on one and the answer on another are two machines".to_owned(),
        ));
    };
    let model = job.model;
    let compute = prompt_layers(job, first, job.context as f64)
        .ok_or_else(|| ClusterError::Operations(first.name.clone()))?;
    let held = model.layer_context_bytes(job.context, job.cache_bytes);
    let sent: Vec<f64> = held.iter().map(|bytes| bytes / link.bytes_per_second).collect();
    let closed = two_in_a_row(&compute, &sent) + link.seconds;
    let mut tasks: Vec<Task> = Vec::new();
    for (seconds, sending) in compute.iter().zip(&sent) {
        tasks.push(Task { resource: 0, seconds: *seconds, after: Vec::new() });
        let computed = tasks.len() - 1;
        tasks.push(Task { resource: 1, seconds: *sending, after: vec![(computed, 0.0)] });
    }
    let all = (0..tasks.len()).map(|task| (task, link.seconds)).collect();
    // The latency of a computed layer is that of its sending; the last sending decides.
    tasks.push(Task { resource: 2, seconds: 0.0, after: all });
    let played = last(&simulate(&tasks));
    let computing: f64 = compute.iter().sum();
    let sending: f64 = sent.iter().sum();
    let lines = vec![
        Line {
            name: "prompt",
            value: computing,
            formula: format!("{} layers on {}", compute.len(), first.name),
        },
        Line {
            name: "sent",
            value: sending,
            formula: format!(
                "{:.4e} bytes of cache and state / {:.3e} bytes/s; {:.0} % of it behind the computing",
                held.iter().sum::<f64>(),
                link.bytes_per_second,
                (1.0 - (closed - link.seconds - computing) / sending.max(1e-12)) * 100.0
            ),
        },
    ];
    let token = token_seconds(job, second, [1.0; 2], model.blocks.len() as f64);
    let (_, all) = needed(job);
    Ok(ClusterPlan {
        layers: vec![model.blocks.len(); 2],
        fits: nodes.iter().map(|node| Fit { needed: all, usable: node.usable_memory() }).collect(),
        token: Timed { closed: token, played: token },
        prompt: Some(Timed { closed, played }),
        alone: nodes.iter().map(|node| alone(job, node)).collect(),
        lines,
    })
}

/// The shortest prompt from which on the cluster answers sooner than the best machine alone, up to `most`; `None` where
/// there is none.
///
/// # Errors
/// See [`ClusterError`].
pub fn break_even(
    job: &Job<'_>,
    nodes: &[Device],
    link: &Link,
    split: Split,
    answer: u64,
    most: u64,
) -> Result<Option<u64>, ClusterError> {
    let wins = |prompt: u64| -> Result<bool, ClusterError> {
        let plan = cluster(&Job { context: prompt, ..job.clone() }, nodes, link, split)?;
        let best = plan.alone.iter().filter(|one| one.fits).filter_map(|one| one.answer(answer));
        let best = best.fold(f64::INFINITY, f64::min);
        Ok(plan.answer(answer).is_some_and(|own| own < best))
    };
    if wins(1)? {
        return Ok(Some(1));
    }
    let (mut low, mut high) = (1, 2);
    while !wins(high)? {
        if high >= most {
            return Ok(None);
        }
        (low, high) = (high, (high * 2).min(most));
    }
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if wins(middle)? { high = middle } else { low = middle }
    }
    Ok(Some(high))
}
