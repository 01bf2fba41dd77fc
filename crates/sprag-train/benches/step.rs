//! Optimiser steps of the template's `train.rs` against PyTorch's, interleaved on the same machine.
//!
//! `cargo bench -p sprag-train --bench step [-- S|M] [fp32|bf16] [--rounds N]` runs what is named, or all, and prints the
//! ratio to the best of PyTorch's settings where `python3` has it. Our side is the template as an agent would
//! edit it: its knobs are set, it is built as candidates are, and steps are timed from outside, from one step
//! message to the next. `-- --json S bf16` runs our side alone and prints one line. `-- --scaling` prints how the
//! time grows with threads, layers and batch, and `-- --swap` what it costs to write one operation out.

#[path = "step/candidate.rs"]
mod candidate;
#[path = "step/limit.rs"]
mod limit;
#[path = "step/peer.rs"]
mod peer;

use candidate::{Candidate, Config, Mlp};

/// Times that every side of a comparison is run, in turn, unless `--rounds` says otherwise.
const ROUNDS: usize = 3;

/// What one run of either side came to.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Sample {
    engine: String,
    config: String,
    compile: bool,
    bf16: bool,
    threads: usize,
    params: f64,
    loss: f32,
    tokens_per_second: f64,
    median_ms: f64,
    min_ms: f64,
    max_ms: f64,
    warmup_seconds: f64,
    peak_rss_mib: f64,
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let has = |word: &str| words.iter().any(|given| given == word);
    let named = |all: [&'static str; 2]| {
        let chosen: Vec<_> = all.into_iter().filter(|name| has(name)).collect();
        if chosen.is_empty() { all.to_vec() } else { chosen }
    };
    let (configs, precisions) = (named(["S", "M"]), named(["fp32", "bf16"]));
    let rounds = words.iter().skip_while(|word| *word != "--rounds").nth(1);
    let rounds = rounds.map_or(ROUNDS, |count| count.parse().expect("`--rounds` takes a number"));
    if has("--scaling") {
        return scaling(rounds);
    }
    if has("--swap") {
        return swap(rounds);
    }
    for config in configs {
        for precision in &precisions {
            let config = Config::named(config, precision == &"bf16");
            if has("--json") {
                let result = Candidate::build(&config).run(threads());
                println!("{}", serde_json::to_string(&result).expect("numbers"));
            } else {
                compare(&config, rounds);
            }
        }
    }
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Runs both sides in turn and prints what came of it.
fn compare(config: &Config, rounds: usize) {
    let threads = threads();
    let ours = Candidate::build(config);
    let peers = peer::settings();
    let mut rates = Vec::new();
    // A list a setting, ours first; a list has a place for every round, so that rounds are compared with themselves.
    let mut all: Vec<Vec<Option<Sample>>> = vec![Vec::new(); peers.len() + 1];
    for _ in 0..rounds {
        rates.push(limit::flops_per_second(config));
        all[0].push(Some(ours.run(threads)));
        for (peer, samples) in peers.iter().zip(&mut all[1..]) {
            samples.push(peer.run(config, threads));
        }
    }
    let limit = median(rates);
    let precision = if config.bf16 { "bf16" } else { "fp32" };
    println!(
        "\n{} {precision}: {threads} threads, matrix products reach {:.0} GFLOP/s here, {rounds} rounds",
        config.name,
        limit / 1e9
    );
    println!(
        "{:<34} {:>9} {:>15} {:>7} {:>9} {:>8}",
        "", "tokens/s", "range", "limit", "peak MiB", "first s"
    );
    let names = std::iter::once("sprag".to_owned()).chain(peers.iter().map(peer::Peer::name));
    for (name, samples) in names.clone().zip(&all) {
        print_row(&name, samples, config.flops_per_token() / limit);
    }
    // The best setting of PyTorch counts; the ratio is of each round, because the machine changes between rounds.
    let Some((name, best)) = names.zip(&all).skip(1).max_by(|a, b| speed(a.1).total_cmp(&speed(b.1))) else {
        println!("no ratio: `python3 -c 'import torch'` fails here");
        return;
    };
    let pairs = all[0].iter().zip(best).filter_map(|(ours, theirs)| Some((ours.as_ref()?, theirs.as_ref()?)));
    let ratios: Vec<f64> =
        pairs.map(|(ours, theirs)| ours.tokens_per_second / theirs.tokens_per_second).collect();
    let (low, high) = range(&ratios);
    println!("ratio to {name}: {:.2} ({low:.2}..{high:.2}, n={})", median(ratios.clone()), ratios.len());
}

fn print_row(name: &str, samples: &[Option<Sample>], limit_a_token: f64) {
    let of = |field: fn(&Sample) -> f64| samples.iter().flatten().map(field).collect::<Vec<f64>>();
    let speeds = of(|sample| sample.tokens_per_second);
    let (low, high) = range(&speeds);
    println!(
        "{name:<34} {:>9.0} {:>15} {:>6.0}% {:>9.0} {:>8.1}",
        speed(samples),
        format!("{low:.0}..{high:.0}"),
        100.0 * speed(samples) * limit_a_token,
        median(of(|sample| sample.peak_rss_mib)),
        median(of(|sample| sample.warmup_seconds)),
    );
}

fn speed(samples: &[Option<Sample>]) -> f64 {
    median(samples.iter().flatten().map(|sample| sample.tokens_per_second).collect())
}

/// Tokens/s by threads, layers and batch, against what the count of operations predicts.
fn scaling(rounds: usize) {
    println!("{:<32} {:>9} {:>12} {:>10}", "", "tokens/s", "GFLOP/token", "GFLOP/s");
    let base = Config::named("S", true);
    let print = |what: &str, config: &Config, threads: usize| {
        let candidate = Candidate::build(config);
        let speeds = (0..rounds).map(|_| candidate.run(threads).tokens_per_second).collect();
        let speed = median(speeds);
        let flops = config.flops_per_token();
        println!("{what:<32} {speed:>9.0} {:>12.4} {:>10.0}", flops / 1e9, speed * flops / 1e9);
    };
    for threads in 1..=threads() {
        print(&format!("S, {threads} threads"), &base, threads);
    }
    for n_layer in [2, 4, 8] {
        print(&format!("S, {n_layer} layers"), &Config { n_layer, ..base.clone() }, threads());
    }
    for batch in [4, 8, 16] {
        print(&format!("S, batch {batch}"), &Config { batch, ..base.clone() }, threads());
    }
}

/// Milliseconds a step when the MLP is written with operations of Burn, as an agent would that tries another
/// activation.
fn swap(rounds: usize) {
    let all = [Mlp::Fused, Mlp::SquaredRelu, Mlp::Gelu, Mlp::FusedGelu];
    let candidates = all.map(|mlp| Candidate::build(&Config { mlp, ..Config::named("S", true) }));
    let mut times = all.map(|_| Vec::new());
    for _ in 0..rounds {
        for (candidate, times) in candidates.iter().zip(&mut times) {
            times.push(candidate.run(threads()).median_ms);
        }
    }
    for (mlp, times) in all.into_iter().zip(times) {
        let (low, high) = range(&times);
        println!("S bf16, {:<12} {:>6.1} ms a step ({low:.1}..{high:.1})", format!("{mlp:?}"), median(times));
    }
}

/// NaN for no numbers.
fn median(numbers: Vec<f64>) -> f64 {
    sprag_measure::stats::median(&numbers).unwrap_or(f64::NAN)
}

fn range(numbers: &[f64]) -> (f64, f64) {
    numbers.iter().fold((f64::MAX, f64::MIN), |(low, high), number| (low.min(*number), high.max(*number)))
}
