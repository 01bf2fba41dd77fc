//! `sprag plan train`: what training a model takes.

use serde_json::json;
use sprag_measure::plan::{self, Optimiser, Precision, Training};
use sprag_measure::units::Seconds;

use super::{ModelArgs, TargetArgs, gigabytes};
use crate::commands::{parse_seconds, print_json, println_or_stop};
use crate::context::Context;
use crate::exit_code::ExitCode;
use crate::numbers;
use crate::ui::tame;

/// Tell what training a model takes: operations, memory, and the steps that a time budget buys
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example: sprag plan train llama-3.2-1b --machine 'RTX 4090' --for 5m --seq-len 2048 --micro-batch 4"
)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    target: TargetArgs,
    /// How long it trains
    #[arg(long = "for", value_name = "TIME", default_value = "5m", value_parser = parse_seconds)]
    time: f64,
    /// Positions of a sequence
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u64).range(1..=1 << 24))]
    seq_len: u64,
    /// Sequences that are in memory at once
    #[arg(long, value_name = "B", default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=1 << 16))]
    micro_batch: u64,
    /// Micro-batches of a step
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1 << 16))]
    grad_accum: u64,
    /// Numbers of the products
    #[arg(long, default_value = "bf16", value_parser = ["bf16", "fp32"])]
    precision: String,
    /// What is kept beside each weight
    #[arg(long, default_value = "adamw", value_parser = ["adamw", "muon", "sgd"])]
    optimiser: String,
    /// Compute activations again instead of keeping them
    #[arg(long)]
    recompute: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Plans it.
pub fn run(args: &Args, context: &Context) -> anyhow::Result<ExitCode> {
    let chosen = args.model.choose(&context.environment)?;
    let device = args.target.device(context)?;
    let training = Training {
        model: &chosen.architecture,
        precision: if args.precision == "bf16" { Precision::Bf16 } else { Precision::Fp32 },
        optimiser: match args.optimiser.as_str() {
            "adamw" => Optimiser::AdamW,
            "muon" => Optimiser::Muon,
            _ => Optimiser::Sgd,
        },
        seq_len: args.seq_len,
        batch: args.micro_batch,
        grad_accum: args.grad_accum,
        recompute: args.recompute,
        seconds: args.time,
    };
    let plan = plan::train(&training, &device);
    if args.json {
        let bytes: Vec<_> = plan
            .bytes
            .iter()
            .map(|line| json!({ "name": line.name, "value": line.value, "formula": line.formula }))
            .collect();
        print_json(&json!({
            "model": chosen.architecture.name, "machine": device.name, "flop_a_token": plan.flop_a_token,
            "fits": plan.fit.fits(), "needed_bytes": plan.fit.needed, "usable_bytes": plan.fit.usable, "bytes": bytes,
            "tokens_a_step": plan.tokens_a_step, "mfu": plan.mfu,
            "tokens_per_second": plan.tokens_per_second.map(|[low, expected, high, ceiling]| json!({ "low": low, "expected": expected, "high": high, "ceiling": ceiling })),
            "seconds": training.seconds,
            "steps": plan.steps.map(|[low, expected, high]| json!({ "low": low, "expected": expected, "high": high })),
        }))?;
        return Ok(ExitCode::Success);
    }
    let verdict = if plan.fit.fits() { "FITS" } else { "DOES NOT FIT" };
    println_or_stop(&format!(
        "{verdict:<13} {} of {} usable on {}{}",
        gigabytes(plan.fit.needed),
        gigabytes(plan.fit.usable),
        device.name,
        if device.is_projected() { " (PROJECTED: nobody sells it)" } else { "" }
    ))?;
    println_or_stop(&format!(
        "model         {}: {} parameters",
        tame(&chosen.architecture.name),
        numbers::count(chosen.architecture.params() as f64)
    ))?;
    for line in &plan.bytes {
        println_or_stop(&format!("{:<19} {:>10}   = {}", line.name, gigabytes(line.value), line.formula))?;
    }
    println_or_stop(&format!("a token       {:.4e} FLOP = {}", plan.flop_a_token, plan.flop_formula))?;
    match (plan.tokens_per_second, plan.steps) {
        (Some([low, usual, high, ceiling]), Some([few, steps, many])) => {
            println_or_stop(&format!(
                "training      {usual:.0} tokens/s expected [{low:.0}, {high:.0}], ceiling {ceiling:.0}; {:.0} % of the peak [{:.0}, {:.0}]",
                plan.mfu[1] * 100.0,
                plan.mfu[0] * 100.0,
                plan.mfu[2] * 100.0
            ))?;
            println_or_stop(&format!(
                "in {:<10} {steps:.0} steps of {} tokens expected [{few:.0}, {many:.0}]",
                Seconds(training.seconds).to_string(),
                plan.tokens_a_step
            ))?;
        }
        _ => println_or_stop(
            "training      not told: nobody says how many operations this machine does; `--tflops` gives them",
        )?,
    }
    println_or_stop(&format!("sources       {}; {}", tame(&chosen.source), tame(&device.source())))?;
    Ok(ExitCode::Success)
}
