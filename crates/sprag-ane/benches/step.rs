//! One training step of the same model: on the emulator, and on the CPU trainer in fp32 and in what it chooses itself. Both sides
//! in one go, by turns; prints medians, ranges and ratios.
//!
//! `cargo bench -p sprag-ane --bench step [-- CONFIG [ROUNDS [ROWS]]]`

#[path = "../tests/support/decoder.rs"]
mod decoder;

use std::time::Instant;

use sprag_ane::config::Config;
use sprag_ane::emulator::Emulator;
use sprag_ane::profile::Profile;
use sprag_ane::train::params::{Params, Random};
use sprag_ane::train::{Options, Trainer, fastest};
use sprag_train::burn::tensor::Device;
use sprag_train::ops::{self, Precision};

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let name = words.first().map_or("small", String::as_str);
    let number =
        |at: usize, default: usize| words.get(at).and_then(|word| word.parse().ok()).unwrap_or(default);
    let (rounds, rows) = (number(1, 7), number(2, 4));
    let config = match Config::of(name) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("{error}");
            std::process::exit(2);
        }
    };
    let options = Options::default();
    let params = Params::random(&config, 1);
    let emulator = Emulator::new(Profile::default());
    let (recipe, _) = fastest(&config, &Profile::default()).expect("a recipe that an M4 takes");
    println!(
        "{name}: {} parameters, {} tokens, {rows} rows a step, recipe {}",
        config.parameters(),
        config.seq_len,
        recipe.name
    );
    let mut ours =
        Trainer::new(&emulator, &config, options.clone(), params.clone(), recipe).expect("a trainer");
    let device = Device::default().autodiff();
    let mut theirs = decoder::decoder(&config, &params, options.softcap, &device);
    let mut random = Random(2);
    let mut sides = [Vec::new(), Vec::new(), Vec::new()];
    for round in 0..=rounds {
        let batch: Vec<Vec<u32>> = (0..rows)
            .map(|_| (0..=config.seq_len).map(|_| (random.bits() % config.vocab as u64) as u32).collect())
            .collect();
        let mut seconds = [0.0; 3];
        for (side, seconds) in seconds.iter_mut().enumerate() {
            let began = Instant::now();
            match side {
                0 => drop(ours.step(&batch).expect("a step")),
                _ => {
                    ops::set_precision(if side == 1 { Precision::Fp32 } else { Precision::Auto });
                    decoder::step(&mut theirs, &options, round as u64, &batch, &device);
                }
            }
            *seconds = began.elapsed().as_secs_f64();
        }
        // The first makes surfaces, pools and plans.
        if round > 0 {
            sides.iter_mut().zip(seconds).for_each(|(all, own)| all.push(own));
        }
    }
    let tokens = (rows * config.seq_len) as f64;
    let median = |all: &[f64]| {
        let mut sorted = all.to_vec();
        sorted.sort_by(f64::total_cmp);
        (sorted[sorted.len() / 2], sorted[0], sorted[sorted.len() - 1])
    };
    for (name, all) in ["emulator", "CPU trainer, fp32", "CPU trainer, auto"].iter().zip(&sides) {
        let (middle, least, most) = median(all);
        println!(
            "{name:18} {:8.1} tokens/s [{:.1}, {:.1}], {:.1} ms a step, n = {rounds}",
            tokens / middle,
            tokens / most,
            tokens / least,
            middle * 1e3
        );
    }
    for (name, at) in [("fp32", 1), ("auto", 2)] {
        let ratios: Vec<f64> = sides[at].iter().zip(&sides[0]).map(|(theirs, ours)| theirs / ours).collect();
        let (middle, least, most) = median(&ratios);
        println!("emulator over CPU trainer, {name}: x{middle:.2} [{least:.2}, {most:.2}]");
    }
}
