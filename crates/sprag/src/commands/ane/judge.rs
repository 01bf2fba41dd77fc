//! `sprag ane judge`: scores a schedule that a candidate wrote; started by the engine after the candidate has ended.

use std::path::PathBuf;
use std::time::Instant;

use sprag_ane::judge::judge;
use sprag_ane::schedule::Schedule;
use sprag_ane::train::params::Params;
use sprag_ane::train::{Options, Trainer};

use super::super::{parse_seconds, println_or_stop};
use super::DeviceArgs;
use super::train::Text;
use crate::context::Context;
use crate::error::Failure;
use crate::exit_code::ExitCode;

/// Score a schedule: predicted time of a step where it is the same function, or bits per byte after training with it
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    device: DeviceArgs,
    /// Folder with `schedule.json`
    #[arg(long, value_name = "DIR")]
    schedule: PathBuf,
    /// Configuration
    #[arg(long, value_name = "CONFIG")]
    config: String,
    /// Seed of what it is tried on
    #[arg(long)]
    seed: u64,
    /// Train with it on this data for as long as the budget says, and score the text that training never saw
    #[arg(long, value_name = "DIR", requires = "budget")]
    data: Option<PathBuf>,
    /// Training time
    #[arg(long, value_name = "TIME", value_parser = parse_seconds)]
    budget: Option<f64>,
}

/// Sequences of a validation.
const SEQUENCES: u64 = 64;

/// Prints the score as `name: number`.
pub fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    let config = super::config(&args.config)?;
    let schedule = Schedule::read(&args.schedule).map_err(|error| Failure::new(error.to_string()))?;
    // Whatever is scored, it is the same function first.
    let found = judge(&schedule, &config, &args.device.chip, args.seed)
        .map_err(|error| Failure::new(format!("the schedule has no score: {error}")))?;
    println_or_stop(&format!("gradients_apart: {:e}", found.gradients_apart))?;
    println_or_stop(&format!("dispatches: {}", found.dispatches))?;
    println_or_stop(&format!("predicted_device_ms: {:.6}", found.time.device.iter().sum::<f64>() * 1e3))?;
    let (Some(data), Some(budget)) = (&args.data, args.budget) else {
        println_or_stop(&format!("predicted_step_ms: {:.6}", found.time.seconds() * 1e3))?;
        return Ok(ExitCode::Success);
    };
    let (runtime, _) = args.device.open(context)?;
    let mut config = config;
    let mut text = Text::open(data, args.seed, config.seq_len)?;
    config.vocab = text.vocab();
    // The schedule of learning rates is as long as the steps that fit: a few are timed, which count.
    let params = Params::random(&config, args.seed);
    let mut options = Options { learning_rate: 2e-3, warmup: 20, ..Options::default() };
    let began = Instant::now();
    let mut trainer = Trainer::new(runtime.as_ref(), &config, options.clone(), params, schedule)?;
    const TIMED: u64 = 4;
    for _ in 0..TIMED {
        trainer.step(&text.batch(4)?)?;
    }
    let each = began.elapsed().as_secs_f64() / TIMED as f64;
    options.steps = ((budget / each) as u64).max(TIMED + 1);
    options.warmup = options.warmup.min(options.steps / 10);
    trainer.set_options(options);
    while began.elapsed().as_secs_f64() < budget {
        trainer.step(&text.batch(4)?)?;
    }
    println_or_stop(&format!("steps: {}", trainer.progress().step))?;
    println_or_stop(&format!("val_bpb: {:.6}", text.bits_per_byte(&mut trainer, SEQUENCES)?))?;
    Ok(ExitCode::Success)
}
