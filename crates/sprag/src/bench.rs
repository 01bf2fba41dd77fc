//! Runtimes compared on one model, one prompt and one machine: what `sprag bench` measures, and how.
//!
//! For each length of a prompt: the time until its first token (all of the prompt from an empty cache), then a number of
//! tokens after it. Decode is counted over all tokens but the first, which the prompt gave. Before each go memory is
//! measured on the same threads, so that every rate stands beside what the machine gave in the same minute.

#[cfg(feature = "candle")]
mod candle;
pub mod external;
#[cfg(feature = "llama")]
mod llama;
pub mod page;
pub mod server;
pub mod summary;

use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use sprag_measure::machine::{LoadMeter, Machine};
use sprag_measure::probe::{MemoryNow, Power, PowerMeter, memory_now, usable_cores};

use crate::error::Failure;
use crate::machine::products::Products;

/// What is to be measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BenchPlan {
    /// Lengths of prompts, in tokens.
    pub prompts: Vec<u32>,
    /// Tokens that are made after each.
    pub generate: u32,
    /// Goes of each.
    pub repeat: u32,
    /// Threads of runtimes that can be told.
    pub threads: u32,
}

/// One question to a runtime.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    /// Changes the prompt, so that no cache of prefixes knows it.
    pub seed: u64,
    /// Tokens of the prompt.
    pub prompt: u32,
    /// Tokens that are to be made.
    pub generate: u32,
}

/// What a runtime took.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// Tokens that the prompt really had.
    pub prompt: u32,
    /// Seconds until the first token was there.
    pub prompt_seconds: f64,
    /// Tokens that were made, the first included.
    pub generated: u32,
    /// Seconds from the first to the last.
    pub decode_seconds: f64,
}

impl Timing {
    /// Of an answer that was as long as asked, and whose first token was there at a moment, so long after the beginning.
    #[cfg(any(feature = "llama", feature = "candle"))]
    fn whole(ask: Ask, prompt_seconds: f64, first: Instant) -> Timing {
        Timing {
            prompt: ask.prompt,
            prompt_seconds,
            generated: ask.generate,
            decode_seconds: first.elapsed().as_secs_f64(),
        }
    }

    /// Tokens of the prompt a second.
    pub fn prefill(self) -> f64 {
        f64::from(self.prompt) / self.prompt_seconds
    }

    /// Tokens a second after the first; `None` where there was no second one.
    pub fn decode(self) -> Option<f64> {
        (self.generated > 1).then(|| f64::from(self.generated - 1) / self.decode_seconds)
    }
}

/// Something that answers.
pub trait Runtime {
    /// Its name and version.
    fn name(&self) -> String;

    /// Answers a prompt made from a seed, no token being the end.
    fn answer(&mut self, ask: Ask) -> anyhow::Result<Timing>;

    /// Its resident memory; `None` where it lives in a process that is not known.
    fn memory_bytes(&self) -> Option<u64>;
}

/// One go with what the machine did meanwhile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// The length that was asked for.
    pub asked: u32,
    /// What it took.
    pub timing: Timing,
    /// What memory gave just before; `None` where it could not be measured.
    pub memory: Option<MemoryNow>,
    /// Operations a second of a matrix product just before, in single precision or bf16, whichever is faster; `None` where
    /// the runtime has fewer threads than there are processors.
    pub flop_per_second: Option<f64>,
    /// What other processes used of the processors meanwhile, from 0 to 1; of a server its own work is among it.
    pub other_processes: Option<f64>,
    /// What a hypervisor gave to others meanwhile.
    pub steal: Option<f64>,
    /// Power meanwhile.
    pub power: Power,
}

/// What a worker tells, one JSON line each.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Told {
    /// The runtime is loaded and has answered once.
    Ready {
        /// Name and version.
        name: String,
        /// Seconds until the model was loaded; of servers and commands not known.
        load_seconds: Option<f64>,
        /// Resident memory after the first answer.
        memory_bytes: Option<u64>,
    },
    /// A go.
    Reading(Reading),
    /// It cannot go on.
    Failed(String),
}

/// Runs a plan: one answer for nothing, then all lengths in turn, as often as asked.
pub fn drive(
    runtime: &mut dyn Runtime,
    plan: &BenchPlan,
    load_seconds: Option<f64>,
    tell: &mut dyn FnMut(Told) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let machine = Machine::probe();
    let mut cores = usable_cores();
    cores.truncate(plan.threads.max(1) as usize);
    let products = Products::default();
    let all_cores = plan.threads as usize == usable_cores().len();
    let arithmetic = || {
        let rate = |precision| products.rate([1024; 3], precision, Duration::from_millis(50));
        ["fp32", "bf16"].into_iter().filter_map(rate).reduce(f64::max).filter(|_| all_cores)
    };
    let first = plan.prompts.first().copied().unwrap_or(32);
    runtime.answer(Ask { seed: 0, prompt: first, generate: plan.generate.min(8) })?;
    let memory_bytes = runtime.memory_bytes();
    tell(Told::Ready { name: runtime.name(), load_seconds, memory_bytes })?;
    for go in 0..plan.repeat {
        for (at, prompt) in plan.prompts.iter().enumerate() {
            let memory = memory_now(&cores, &machine);
            let flop_per_second = arithmetic();
            let (load, power) = (LoadMeter::start(), PowerMeter::start());
            let seed = 1 + u64::from(go) * 1000 + at as u64;
            let timing = runtime.answer(Ask { seed, prompt: *prompt, generate: plan.generate })?;
            let power = power.finish();
            let load = load.finish(Duration::ZERO).ok();
            tell(Told::Reading(Reading {
                asked: *prompt,
                timing,
                memory,
                flop_per_second,
                other_processes: load.map(|load| load.other_processes),
                steal: load.map(|load| load.steal),
                power,
            }))?;
        }
    }
    Ok(())
}

/// Runtimes that are built in, by the names that `--runtimes` takes.
pub fn built_in() -> Vec<&'static str> {
    let mut names = Vec::new();
    if cfg!(feature = "llama") {
        names.push("llama.cpp");
    }
    if cfg!(feature = "candle") {
        names.push("candle");
    }
    names
}

/// Loads a built-in runtime, with the seconds that it took.
pub fn load(name: &str, model: &Path, plan: &BenchPlan) -> anyhow::Result<(Box<dyn Runtime>, f64)> {
    let began = Instant::now();
    let runtime = open(name, model, plan)?;
    Ok((runtime, began.elapsed().as_secs_f64()))
}

#[cfg_attr(
    not(any(feature = "llama", feature = "candle")),
    expect(unused_variables, reason = "nothing is built in that could use them")
)]
fn open(name: &str, model: &Path, plan: &BenchPlan) -> anyhow::Result<Box<dyn Runtime>> {
    match name {
        #[cfg(feature = "llama")]
        "llama.cpp" => Ok(Box::new(llama::Llama::load(model, plan)?)),
        #[cfg(feature = "candle")]
        "candle" => Ok(Box::new(candle::Candle::load(model, plan)?)),
        _ => Err(not_built_in(name).into()),
    }
}

/// Why a name cannot be used here.
pub fn not_built_in(name: &str) -> Failure {
    let failure = Failure::new(format!("the runtime `{name}` is not built into this program"));
    match name {
        "llama.cpp" => failure.hint(
            "build it with `--features llama` (needs cmake, a C++ compiler and libclang), or name a llama-server by its \
             URL",
        ),
        "candle" => failure.hint("build it with `--features candle`"),
        _ => failure.hint("known are llama.cpp, candle, a server's URL, and NAME=command:COMMAND"),
    }
}

/// Token ids of a prompt, the same for every runtime: none of the first 300, where special tokens and bytes are.
#[cfg(any(feature = "llama", feature = "candle", test))]
fn tokens(ask: Ask, vocab: u32) -> Vec<u32> {
    let mut random = ask.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let low = if vocab > 600 { 300 } else { 3.min(vocab.saturating_sub(1)) };
    let mut next = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        low + ((random >> 33) % u64::from(vocab.saturating_sub(low).max(1))) as u32
    };
    (0..ask.prompt).map(|_| next()).collect()
}

/// The likeliest token that is not the end.
#[cfg(any(feature = "llama", feature = "candle", test))]
fn likeliest(logits: &[f32], end: Option<usize>) -> usize {
    let others = logits.iter().enumerate().filter(|(at, _)| Some(*at) != end);
    others.max_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(at, _)| at)
}

/// Resident memory of this process.
#[cfg(any(feature = "llama", feature = "candle"))]
fn own_memory_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Clockwork {
        asked: Vec<Ask>,
    }

    impl Runtime for Clockwork {
        fn name(&self) -> String {
            "clockwork 1".to_owned()
        }

        fn answer(&mut self, ask: Ask) -> anyhow::Result<Timing> {
            self.asked.push(ask);
            let prompt_seconds = f64::from(ask.prompt) / 100.0;
            let decode_seconds = f64::from(ask.generate - 1) / 10.0;
            Ok(Timing { prompt: ask.prompt, prompt_seconds, generated: ask.generate, decode_seconds })
        }

        fn memory_bytes(&self) -> Option<u64> {
            Some(1 << 30)
        }
    }

    #[test]
    fn a_plan_warms_up_takes_turns_and_never_repeats_a_prompt() {
        let plan = BenchPlan { prompts: vec![16, 64], generate: 5, repeat: 3, threads: 1 };
        let mut runtime = Clockwork { asked: Vec::new() };
        let mut told = Vec::new();
        drive(&mut runtime, &plan, Some(0.5), &mut |line| {
            told.push(line);
            Ok(())
        })
        .unwrap();
        assert!(matches!(&told[0], Told::Ready { memory_bytes: Some(_), .. }));
        let readings: Vec<&Reading> = told
            .iter()
            .filter_map(|line| if let Told::Reading(one) = line { Some(one) } else { None })
            .collect();
        let asked: Vec<u32> = readings.iter().map(|one| one.asked).collect();
        assert_eq!(asked, [16, 64, 16, 64, 16, 64]);
        assert!(
            readings
                .iter()
                .all(|one| one.memory.is_some_and(|memory| memory.read > 1e8 && memory.triad > 1e8))
        );
        let mut seeds: Vec<u64> = runtime.asked.iter().map(|ask| ask.seed).collect();
        seeds.dedup();
        assert_eq!(seeds.len(), 7);
        assert_eq!(readings[0].timing.decode(), Some(10.0));
        assert_eq!(readings[0].timing.prefill(), 100.0);
        let alone = Timing { prompt: 1, prompt_seconds: 1.0, generated: 1, decode_seconds: 0.0 };
        assert_eq!(alone.decode(), None);
    }

    #[test]
    fn prompts_differ_by_seed_and_keep_away_from_special_tokens() {
        let ask = |seed| Ask { seed, prompt: 50, generate: 1 };
        assert_eq!(tokens(ask(1), 32_000), tokens(ask(1), 32_000));
        assert_ne!(tokens(ask(1), 32_000)[..4], tokens(ask(2), 32_000)[..4]);
        assert!(tokens(ask(3), 32_000).iter().all(|token| (300..32_000).contains(token)));
        assert!(tokens(ask(3), 10).iter().all(|token| *token < 10));
    }

    #[test]
    fn the_end_is_never_chosen() {
        assert_eq!(likeliest(&[0.5, 3.0, 1.0], Some(1)), 2);
        assert_eq!((likeliest(&[0.5, 3.0, 1.0], None), likeliest(&[], None)), (1, 0));
    }

    #[test]
    fn what_is_not_built_in_is_named_with_what_helps() {
        let error = load(
            "abacus",
            Path::new("/x"),
            &BenchPlan { prompts: vec![], generate: 1, repeat: 1, threads: 1 },
        );
        assert!(error.err().unwrap().to_string().contains("`abacus` is not built into"));
    }
}
