//! `sprag init`: write a task to begin with.

use std::path::{Path, PathBuf};

use serde_json::json;
use sprag_engine::record::{Budget, Direction};
use sprag_train::data::Manifest;

use super::{parse_seconds, print_json, println_or_stop, quoted};
use crate::context::Context;
use crate::exit_code::ExitCode;
use crate::template::ane::Ane;
use crate::template::command::Own;
use crate::template::{self, Device, Gpt};

/// Seconds of training a trial, unless said otherwise: on two cores a small model learns enough in it for
/// changes to show above the noise.
pub const DEFAULT_BUDGET_SECONDS: f64 = 20.0;

/// Tokens of training a trial of `gpt-tokens`.
const DEFAULT_BUDGET_TOKENS: u64 = 10_000_000;

/// Write a task to begin with, as a git repository of its own
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    template: Template,
}

#[derive(Debug, clap::Subcommand)]
enum Template {
    /// A small GPT on real text, a budget of seconds
    ///
    /// Writes Cargo.toml, src/main.rs (fixed), src/train.rs (the file to improve), program.md and task.toml,
    /// and commits them. Nothing is downloaded: the library is the clone that this program was built from.
    #[command(
        after_help = "Example: sprag init gpt my-gpt --budget 60s\n         sprag data prepare --out data"
    )]
    Gpt(GptArgs),
    /// The same, with a budget of tokens: speed does not count, learning per token does
    #[command(after_help = "Example: sprag init gpt-tokens my-gpt --budget 10000000")]
    GptTokens(TokenArgs),
    /// How one layer of a GPT is computed on Apple's Neural Engine: programs, packing, what stays on the host
    ///
    /// Candidates edit src/layer.rs. The evaluator executes what they wrote on the emulator, compares the loss and all gradients
    /// with a reference, and scores the predicted time of a step; with --data it trains with it for the budget and scores
    /// bits per byte instead.
    #[command(after_help = "Example: sprag init ane my-ane
         sprag run --task my-ane")]
    Ane(AneArgs),
    /// Any command that prints a number: no library, no language, no build
    ///
    /// Writes task.toml and a small program of shell and awk with a proposer beside it, and commits them, so that
    /// the loop runs at once; then put your own program in its place. With --run the folder's own files are taken
    /// instead, and task.toml is written for them. For a repository that exists there is `sprag adopt`.
    #[command(after_help = "Example: sprag init command my-task
         sprag run --task my-task --proposer 'command:sh propose.sh' --trials 8")]
    Command(CommandArgs),
}

#[derive(Debug, clap::Args)]
struct AneArgs {
    /// Folder to write, new or empty
    dir: PathBuf,
    /// Configuration of the model: tiny, small, gpt_karpathy, gpt_autoresearch, stories110m, qwen3_06b
    #[arg(long, value_name = "CONFIG", default_value = "gpt_karpathy", value_parser = known_config)]
    config: String,
    /// Chip
    #[arg(long, value_name = "CHIP", default_value = "M4", value_parser = known_chip)]
    chip: String,
    /// Train with each candidate on prepared data, relative to the task's folder, and score bits per byte
    #[arg(long, value_name = "DIR")]
    data: Option<String>,
    /// Training time a trial
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_seconds, requires = "data")]
    budget: f64,
    /// Train on this machine's device rather than on the emulator
    #[arg(long, requires = "data")]
    on_device: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn known_config(name: &str) -> Result<String, String> {
    sprag_ane::config::Config::of(name).map(|config| config.name).map_err(|error| error.to_string())
}

fn known_chip(name: &str) -> Result<String, String> {
    sprag_ane::profile::Profile::of(name).map(|profile| profile.name.to_owned())
}

#[derive(Debug, clap::Args)]
struct CommandArgs {
    /// Folder to write: new or empty, or with --run one that holds your files
    dir: PathBuf,
    /// Command that runs one experiment, started in a checkout; {seed} stands for the seed
    #[arg(long, value_name = "CMD", requires_all = ["metric", "direction", "mutable"])]
    run: Option<String>,
    /// Name of the metric, which the command prints as `NAME: number` or `NAME number`
    #[arg(long, value_name = "NAME", requires = "run")]
    metric: Option<String>,
    /// Which way is better: lower or higher
    #[arg(long, value_name = "WAY", requires = "run")]
    direction: Option<Direction>,
    /// Regular expression that finds the metric, the number in parentheses
    #[arg(long, value_name = "RE", requires = "run")]
    pattern: Option<String>,
    /// Files that may change; may be given several times
    #[arg(long, value_name = "GLOB", requires = "run")]
    mutable: Vec<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct GptArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// Seconds of training a trial
    #[arg(long, value_name = "TIME", default_value = "20s", value_parser = parse_seconds)]
    budget: f64,
}

#[derive(Debug, clap::Args)]
struct TokenArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// Tokens of training a trial
    #[arg(long, value_name = "TOKENS", default_value_t = DEFAULT_BUDGET_TOKENS, value_parser = clap::value_parser!(u64).range(1..))]
    budget: u64,
}

#[derive(Debug, clap::Args)]
struct PlaceArgs {
    /// Folder to write, new or empty
    dir: PathBuf,
    /// Folder of prepared data, relative to the task's folder
    #[arg(long, value_name = "DIR", default_value = "../data")]
    data: String,
    /// What candidates compute on; a GPU's packages must have been fetched once, by `cargo fetch` in Sprag's folder
    #[arg(long, value_name = "DEVICE", value_enum, default_value_t)]
    device: Device,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Writes it.
pub fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    let (place, budget) = match args.template {
        Template::Command(args) => return command(args, context),
        Template::Ane(args) => return ane(args, context),
        Template::Gpt(args) => (args.place, Budget::Seconds(args.budget)),
        Template::GptTokens(args) => (args.place, Budget::Tokens(args.budget)),
    };
    let dir = std::path::absolute(&place.dir)?;
    let gpt = Gpt { dir: dir.clone(), data: place.data, budget, device: place.device };
    template::write(&gpt, context)?;
    let data = dir.join(&gpt.data);
    let prepared = Manifest::read(&data).is_ok();
    if place.json {
        let (budget, device) = (gpt.budget, gpt.device);
        print_json(
            &json!({ "dir": dir, "data": data, "data_prepared": prepared, "budget": budget, "device": device }),
        )?;
        return Ok(ExitCode::Success);
    }
    println_or_stop(&format!("wrote the task to {}", dir.display()))?;
    let program = context.program_word();
    if !prepared {
        let data = tidy(&data);
        println_or_stop(&format!("next: {program} data prepare --out {}", quoted(&data.to_string_lossy())))?;
    }
    println_or_stop(&format!("next: {program} run --task {}", quoted(&place.dir.to_string_lossy())))?;
    Ok(ExitCode::Success)
}

/// Writes the task of the Neural Engine.
fn ane(args: AneArgs, context: &Context) -> anyhow::Result<ExitCode> {
    let dir = std::path::absolute(&args.dir)?;
    let train = args.data.map(|data| (data, args.budget));
    let ane =
        Ane { dir: dir.clone(), config: args.config, chip: args.chip, train, on_device: args.on_device };
    template::ane::write(&ane, context)?;
    let run = format!("{} run --task {}", context.program_word(), quoted(&args.dir.to_string_lossy()));
    written(&dir, &run, args.json)
}

/// Writes a task around a command: the example's own, or the person's.
fn command(args: CommandArgs, context: &Context) -> anyhow::Result<ExitCode> {
    let dir = std::path::absolute(&args.dir)?;
    let own = match (args.run, args.metric, args.direction) {
        (Some(run), Some(metric), Some(direction)) => {
            Some(Own { run, metric, direction, pattern: args.pattern, mutable: args.mutable })
        }
        _ => None,
    };
    template::command::write(&dir, own.as_ref(), context)?;
    let program = context.program_word();
    let task = quoted(&args.dir.to_string_lossy());
    let proposer = if own.is_some() { "command:YOUR-AGENT" } else { "command:sh propose.sh" };
    let run = format!("{program} run --task {task} --proposer '{proposer}' --trials 8");
    written(&dir, &run, args.json)
}

/// Says where a task is and what comes next.
fn written(dir: &Path, run: &str, json: bool) -> anyhow::Result<ExitCode> {
    if json {
        print_json(&json!({ "dir": dir, "next": [run] }))?;
        return Ok(ExitCode::Success);
    }
    println_or_stop(&format!("wrote the task to {}", dir.display()))?;
    println_or_stop(&format!("next: {run}"))?;
    Ok(ExitCode::Success)
}

/// A path without `x/..` in it, for people.
fn tidy(path: &Path) -> PathBuf {
    let mut tidy = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::ParentDir if tidy.file_name().is_some() => {
                tidy.pop();
            }
            part => tidy.push(part),
        }
    }
    tidy
}
