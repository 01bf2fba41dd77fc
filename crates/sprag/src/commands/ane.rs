//! `sprag ane`: Apple's Neural Engine, or an emulator of it: training, checks, predictions, probes.

mod judge;
mod probe;
mod train;

use std::path::PathBuf;

use anyhow::Context as _;
use serde_json::{Value, json};
use sprag_ane::config::Config;
use sprag_ane::emulator::Emulator;
use sprag_ane::emulator::cost::rows::{self, M4_MAX_HOST, step_time};
use sprag_ane::emulator::cost::{Rates, Work, fit};
use sprag_ane::mil::{Effect, Program, Shows, check_types, lint_for, rules};
use sprag_ane::profile::{PROFILES, Profile};
use sprag_ane::recipe::Recipe;
use sprag_ane::runtime::{DeviceOptions, Dispatch, Runtime, calls, device};
use sprag_ane::train::fastest;

use super::{print_json, println_or_stop};
use crate::context::Context;
use crate::error::Failure;
use crate::exit_code::ExitCode;
use crate::ui::tame;

/// Train on Apple's Neural Engine, or on an emulator of it
///
/// The emulator stands in for the device on any machine: its arithmetic, its limits, what it refuses. Its times are
/// predictions of a cost model and are always called so.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: sprag ane train --emulate --config tiny --data data")]
pub struct Args {
    #[command(subcommand)]
    command: AneCommand,
}

#[derive(Debug, clap::Subcommand)]
enum AneCommand {
    Train(Box<train::Args>),
    /// Say what a program breaks: each restriction with its source and what to do instead
    #[command(after_help = "Example: sprag ane check model.mil --chip M3\n         sprag ane check --rules")]
    Check(CheckArgs),
    /// Predict what a training step takes on a chip, kernel by kernel; nothing is measured
    #[command(after_help = "Example: sprag ane predict gpt_karpathy --chip M4")]
    Predict(PredictArgs),
    Probe(probe::Args),
    /// Say what is there, and what of this was never run on hardware
    Doctor(DoctorArgs),
    #[command(hide = true)]
    Judge(judge::Args),
}

/// Which device.
#[derive(Clone, Debug, clap::Args)]
struct DeviceArgs {
    /// Use the emulator instead of this machine's device
    #[arg(long)]
    emulate: bool,
    /// Chip that is emulated: M1 to M5, or a source's account of one (`sprag ane doctor` lists them)
    #[arg(long, value_name = "CHIP", default_value = "M4", value_parser = Profile::of)]
    chip: Profile,
    /// Evaluations go past the daemon
    #[arg(long, conflicts_with = "emulate")]
    direct: bool,
    /// Evaluations are made in real time
    #[arg(long, conflicts_with_all = ["emulate", "direct"])]
    real_time: bool,
}

impl DeviceArgs {
    /// The runtime, and the chip that programs are written for.
    fn open(&self, context: &Context) -> anyhow::Result<(Box<dyn Runtime>, Profile)> {
        if self.emulate {
            return Ok((Box::new(Emulator::new(self.chip)), self.chip));
        }
        let cache = context.environment.data_folder().map(|folder| folder.join("sprag").join("ane"));
        let dispatch = match (self.direct, self.real_time) {
            (true, _) => Dispatch::Direct,
            (_, true) => Dispatch::RealTime,
            _ => Dispatch::Standard,
        };
        let device = device(DeviceOptions { dispatch, cache }).map_err(|error| {
            Failure::new(error.to_string())
                .hint("`--emulate` runs the same on an emulator; its times are predictions")
        })?;
        let name = device.about().name;
        let chip = PROFILES.into_iter().find(|profile| name.contains(profile.name)).unwrap_or_else(|| {
            eprintln!(
                "note: nobody told the limits of {name}; programs are written as for {}",
                self.chip.name
            );
            self.chip
        });
        Ok((device, chip))
    }
}

#[derive(Debug, clap::Args)]
struct CheckArgs {
    /// A program's text
    #[arg(value_name = "FILE", required_unless_present = "rules")]
    file: Option<PathBuf>,
    /// Chip that it is for
    #[arg(long, value_name = "CHIP", default_value = "M4", value_parser = Profile::of)]
    chip: Profile,
    /// List all restrictions instead
    #[arg(long)]
    rules: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct PredictArgs {
    /// Configuration: tiny, small, gpt_karpathy, gpt_autoresearch, stories110m, qwen3_06b
    #[arg(value_name = "CONFIG", default_value = "gpt_karpathy")]
    config: String,
    /// Chip
    #[arg(long, value_name = "CHIP", default_value = "M4", value_parser = Profile::of)]
    chip: Profile,
    /// Tokens of a sequence instead of the configuration's
    #[arg(long, value_name = "TOKENS")]
    seq_len: Option<usize>,
    /// The public pipeline's programs instead of the fastest of ours
    #[arg(long)]
    published: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: sprag ane doctor")]
struct DoctorArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Does it.
pub fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    match args.command {
        AneCommand::Train(args) => train::run(*args, context),
        AneCommand::Check(args) => check(args),
        AneCommand::Predict(args) => predict(args),
        AneCommand::Probe(args) => probe::run(args, context),
        AneCommand::Doctor(args) => doctor(args),
        AneCommand::Judge(args) => judge::run(args, context),
    }
}

fn check(args: CheckArgs) -> anyhow::Result<ExitCode> {
    let Some(file) = args.file.filter(|_| !args.rules) else { return list_rules(args.json) };
    let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let program = Program::parse(&text).map_err(|error| {
        Failure::new(format!("{} is no program: {error}", file.display()))
            .hint("a program begins with `program(1.3)`; docs/ane.md shows one")
    })?;
    let mut types = None;
    for function in &program.functions {
        types = types.or(check_types(function).err());
    }
    let findings = lint_for(&program, &args.chip);
    let hard = types.is_some() || findings.iter().any(|finding| finding.effect > Effect::Warning);
    if args.json {
        let found: Vec<Value> = findings
            .iter()
            .map(|finding| {
                json!({ "rule": finding.rule.id, "effect": finding.effect.words(), "at": finding.at,
                    "detail": finding.detail, "source": finding.rule.source, "mend": finding.rule.mend })
            })
            .collect();
        let types = types.as_ref().map(ToString::to_string);
        print_json(&json!({ "chip": args.chip.name, "types": types, "findings": found }))?;
    } else {
        if let Some(error) = &types {
            println_or_stop(&format!("does not go together: {}", tame(&error.to_string())))?;
        }
        for finding in &findings {
            println_or_stop(&format!("{}: {}", finding.effect.words(), tame(&finding.to_string())))?;
        }
        if !hard {
            println_or_stop(&format!("{} takes it", args.chip.name))?;
        }
    }
    Ok(if hard { ExitCode::Problems } else { ExitCode::Success })
}

fn list_rules(json: bool) -> anyhow::Result<ExitCode> {
    if json {
        let all: Vec<Value> = rules()
            .into_iter()
            .map(|rule| {
                json!({ "id": rule.id, "effect": rule.effect.words(), "rule": rule.text, "chips": rule.chips,
                    "source": rule.source, "mend": rule.mend })
            })
            .collect();
        print_json(&all)?;
        return Ok(ExitCode::Success);
    }
    for rule in rules() {
        println_or_stop(&format!("{}  {} ({})", rule.id, rule.text, rule.effect.words()))?;
        println_or_stop(&format!("     {}; {}; {}", rule.chips, rule.source, rule.mend))?;
    }
    let seen = rules().iter().filter(|rule| rule.shows == Shows::Text).count();
    println_or_stop(&format!("{} restrictions; {seen} show in a program's text", rules().len()))?;
    Ok(ExitCode::Success)
}

fn config(name: &str) -> anyhow::Result<Config> {
    Ok(Config::of(name).map_err(|error| Failure::new(error.to_string()))?)
}

fn predict(args: PredictArgs) -> anyhow::Result<ExitCode> {
    let mut config = config(&args.config)?;
    config.seq_len = args.seq_len.unwrap_or(config.seq_len);
    config.check().map_err(|error| Failure::new(error.to_string()))?;
    let rates = Rates::of_chip(&args.chip);
    let recipe = match args.published {
        true => Recipe::published(&config).map_err(|error| Failure::new(error.to_string()))?,
        false => fastest(&config, &args.chip).map_err(|error| Failure::new(error.to_string()))?.0,
    };
    let time = step_time(&recipe, &config, &rates, &M4_MAX_HOST)?;
    let kernels: Vec<(String, Work, f64)> = recipe
        .kernels()
        .flat_map(|kernel| {
            kernel.graph.program.functions.iter().map(|function| {
                let work = Work::of(function);
                (kernel.graph.name.clone(), work, rates.seconds(&work))
            })
        })
        .collect();
    if args.json {
        let all: Vec<Value> = kernels
            .iter()
            .map(|(name, work, seconds)| {
                json!({ "kernel": name, "predicted_seconds": seconds, "flops": work.products + work.convolutions,
                    "surface_bytes": work.surfaces })
            })
            .collect();
        print_json(&json!({ "config": config.name, "chip": args.chip.name, "recipe": recipe.name,
            "predicted_step_seconds": time.seconds(), "predicted_device_seconds": time.device,
            "predicted_staging_seconds": time.staging, "predicted_head_seconds": time.head,
            "predicted_elements_seconds": time.elements, "predicted_copies_seconds": time.copies, "kernels": all }))?;
        return Ok(ExitCode::Success);
    }
    println_or_stop(&format!(
        "PREDICTED for {}, host of an M4 Max; nothing was measured here. {}: {} parameters, {} tokens, recipe {}",
        args.chip.name,
        config.name,
        config.parameters(),
        config.seq_len,
        recipe.name
    ))?;
    for (name, work, seconds) in &kernels {
        let flops = work.products + work.convolutions;
        println_or_stop(&format!(
            "  {name:12} {:7.3} ms  {:6.2} GFLOP  {:5.2} TFLOP/s  {:6.1} MB of surfaces",
            seconds * 1e3,
            flops / 1e9,
            flops / seconds / 1e12,
            work.surfaces / 1e6
        ))?;
    }
    let milliseconds = |seconds: f64| format!("{:.1}", seconds * 1e3);
    println_or_stop(&format!(
        "a step of one sequence: {} ms: device {} forth and {} back, surfaces {}, norms and SwiGLU {}, head {}, copies {}",
        milliseconds(time.seconds()),
        milliseconds(time.device[0]),
        milliseconds(time.device[1]),
        milliseconds(time.staging),
        milliseconds(time.elements),
        milliseconds(time.head),
        milliseconds(time.copies)
    ))?;
    let rows = rows::rows();
    println_or_stop(&format!(
        "of {} published rows of the M4 family each, left out of the fit, is predicted with a median error of {:.0} %; docs/ane.md",
        rows.len(),
        fit::median_error(&fit::left_out(&rows)) * 100.0
    ))?;
    Ok(ExitCode::Success)
}

fn doctor(args: DoctorArgs) -> anyhow::Result<ExitCode> {
    let found = device(DeviceOptions::default());
    let never =
        "the Mac's side was type-checked, linted and linked, and never run on hardware by who wrote it";
    if args.json {
        let device = found.as_ref().map(|device| device.about().name).map_err(ToString::to_string);
        let chips: Vec<Value> =
            PROFILES.iter().map(|profile| json!({ "name": profile.name, "about": profile.about })).collect();
        let (name, why) = (device.as_ref().ok(), device.as_ref().err());
        print_json(
            &json!({ "device": name, "why_not": why, "never_run_on_hardware": true, "emulated_chips": chips }),
        )?;
        return Ok(ExitCode::Success);
    }
    match &found {
        Ok(device) => println_or_stop(&format!("device    {}", device.about().name))?,
        Err(error) => println_or_stop(&format!("device    {error}"))?,
    }
    println_or_stop(&format!("note      {never}"))?;
    println_or_stop(&format!("framework {} ({} messages, docs/ane.md)", calls::FRAMEWORK, calls::ALL.len()))?;
    for profile in PROFILES {
        println_or_stop(&format!("emulated  {:10} {}", profile.name, profile.about))?;
    }
    match found {
        Ok(_) => println_or_stop("next: sprag ane probe")?,
        Err(_) => println_or_stop("next: sprag ane train --emulate --config tiny --data data")?,
    }
    Ok(ExitCode::Success)
}
