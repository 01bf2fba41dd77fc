//! `sprag ane judge`: scores a recipe that a candidate wrote; started by the engine after the candidate has ended.

use std::path::PathBuf;
use std::time::Instant;

use serde_json::json;
use sprag_ane::judge::{Rejected, judge};
use sprag_ane::recipe::Recipe;
use sprag_ane::train::params::Params;
use sprag_ane::train::{Options, TrainError, Trainer};

use super::super::{parse_seconds, println_or_stop};
use super::DeviceArgs;
use super::train::Text;
use crate::context::Context;
use crate::exit_code::ExitCode;

/// Score a recipe: predicted time of a step where it is the same function, or bits per byte after training with it
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: sprag ane judge --emulate --config gpt_karpathy --recipe FOLDER --seed 1")]
pub struct Args {
    #[command(flatten)]
    device: DeviceArgs,
    /// Folder with `recipe.json`
    #[arg(long, value_name = "DIR")]
    recipe: PathBuf,
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

/// Sequences of a step.
const ROWS: usize = 4;
/// Sequences of a validation.
const SEQUENCES: u64 = 64;

/// Prints the score, or why there is none, as evaluators do.
pub fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    let config = super::config(&args.config)?;
    let invalid = |reason: &str, detail: String| {
        println_or_stop(&json!({ "type": "invalid", "reason": reason, "detail": detail }).to_string())?;
        Ok(ExitCode::Success)
    };
    let recipe = match Recipe::read(&args.recipe) {
        Ok(recipe) => recipe,
        Err(error) => return invalid("protocol", error.to_string()),
    };
    // Whatever is scored, it is the same function first.
    let found = match judge(&recipe, &config, &args.device.chip, args.seed) {
        Ok(found) => found,
        Err(Rejected::Another(detail)) => {
            return invalid("protocol", format!("it computes another function: {detail}"));
        }
        Err(rejected) => return invalid("protocol", rejected.to_string()),
    };
    let mut facts = json!({
        "gradients_apart": found.gradients_apart,
        "dispatches_a_layer": found.dispatches,
        "predicted_device_ms": found.time.device.iter().sum::<f64>() * 1e3,
        "predicted_step_ms_of_the_template": found.ours.seconds() * 1e3,
    });
    let (Some(data), Some(budget)) = (&args.data, args.budget) else {
        return score(found.time.seconds() * 1e3, &facts);
    };
    let (runtime, _) = args.device.open(context)?;
    let mut config = config;
    let mut text = Text::open(data, args.seed, config.seq_len)?;
    config.vocab = text.vocab();
    let params = Params::random(&config, args.seed);
    let mut options = Options { learning_rate: 2e-3, warmup: 20, ..Options::default() };
    let began = Instant::now();
    let mut trainer = match Trainer::new(runtime.as_ref(), &config, options.clone(), params, recipe) {
        Ok(trainer) => trainer,
        // The device may refuse what no source has told of.
        Err(error @ TrainError::Runtime(_)) => return invalid("protocol", error.to_string()),
        Err(error) => return Err(error.into()),
    };
    // Learning rates fall over as many steps as fit: a few are timed, which count.
    const TIMED: u64 = 4;
    let step = |trainer: &mut Trainer, text: &mut Text| -> anyhow::Result<Option<(&str, String)>> {
        match trainer.step(&text.batch(ROWS)?) {
            Ok(_) => Ok(None),
            Err(error @ (TrainError::Diverged { .. } | TrainError::Gradients(_))) => {
                Ok(Some(("diverged", error.to_string())))
            }
            Err(error @ TrainError::Runtime(_)) => Ok(Some(("protocol", error.to_string()))),
            Err(error) => Err(error.into()),
        }
    };
    for _ in 0..TIMED {
        if let Some((reason, why)) = step(&mut trainer, &mut text)? {
            return invalid(reason, why);
        }
    }
    let each = began.elapsed().as_secs_f64() / TIMED as f64;
    options.steps = ((budget / each) as u64).max(TIMED + 1);
    options.warmup = options.warmup.min(options.steps / 10);
    trainer.set_options(options);
    while began.elapsed().as_secs_f64() < budget {
        if let Some((reason, why)) = step(&mut trainer, &mut text)? {
            return invalid(reason, why);
        }
    }
    facts["steps"] = json!(trainer.progress().step);
    facts["skipped"] = json!(trainer.progress().skipped);
    score(text.bits_per_byte(&mut trainer, SEQUENCES)?, &facts)
}

fn score(value: f64, facts: &serde_json::Value) -> anyhow::Result<ExitCode> {
    println_or_stop(&json!({ "type": "score", "value": value, "facts": facts }).to_string())?;
    Ok(ExitCode::Success)
}
