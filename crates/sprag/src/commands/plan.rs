//! `sprag plan`: whether a model fits a machine, and how fast it can be there.

mod compare;
mod grade;
mod list;
mod target;

use std::io::Read as _;
use std::path::Path;

use anyhow::Context as _;
use serde_json::{Value, json};
use sprag_measure::plan::{
    self, Architecture, Device, Estimate, GgufError, Job, Kind, Quant, Rates, find_model, find_quant,
    from_config, read_gguf,
};

use self::target::TargetArgs;
use super::{print_json, println_or_stop};
use crate::context::Context;
use crate::error::Failure;
use crate::exit_code::ExitCode;
use crate::numbers;
use crate::ui::tame;

/// Tell whether a model fits a machine, and how fast it can be there
///
/// MODEL is a name that `sprag plan list` knows, a `config.json` as on Hugging Face, or a GGUF file, of which only the
/// header is read. Whether it fits comes first; rates have a ceiling that nothing can beat, an expected value, and a range
/// in which nine of ten measurements lie. Every formula is shown with its numbers.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "Example: sprag plan llama-3-70b --quant q4_k_m --context 8192 --machine 'RTX 4090'
         sprag plan compare qwen3.5-27b --machines 'M5 Max 40-core,RTX 5090,DGX Spark'"
)]
pub struct Args {
    #[command(subcommand)]
    command: Option<PlanCommand>,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    target: TargetArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum PlanCommand {
    Compare(compare::Args),
    Grade(grade::Args),
    List(list::Args),
}

/// Which model, and how it is used.
#[derive(Clone, Debug, clap::Args)]
struct ModelArgs {
    /// A name, a `config.json`, or a GGUF file
    #[arg(value_name = "MODEL")]
    model: Option<String>,
    /// Format of the weights; of a GGUF file what it holds [default: Q4_K_M]
    #[arg(long, value_name = "Q")]
    quant: Option<String>,
    /// Positions, of prompt and answer together
    #[arg(long, value_name = "N", default_value_t = 8192, value_parser = clap::value_parser!(u64).range(1..=1 << 30))]
    context: u64,
    /// Sequences at once
    #[arg(long, value_name = "B", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1 << 16))]
    batch: u64,
    /// Format of the numbers in the KV cache
    #[arg(long, value_name = "TYPE", default_value = "f16", value_parser = ["f32", "f16", "q8_0", "q4_0"])]
    cache_type: String,
}

/// A model as it was named.
struct Chosen {
    architecture: Architecture,
    quant: Quant,
    exact: Option<(u64, u64)>,
    source: String,
}

/// Plans one, or what the subcommand says.
pub fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    match &args.command {
        Some(PlanCommand::Compare(args)) => compare::run(args),
        Some(PlanCommand::Grade(args)) => grade::run(args),
        Some(PlanCommand::List(args)) => list::run(args),
        None => one(&args, context),
    }
}

fn one(args: &Args, context: &Context) -> anyhow::Result<ExitCode> {
    let chosen = args.model.choose()?;
    let device = args.target.device(context)?;
    let plan = plan::estimate(&args.model.job(&chosen), &device);
    if args.json {
        print_json(&told(&chosen, &args.model, &device, &plan))?;
    } else {
        for line in lines(&chosen, &args.model, &device, &plan) {
            println_or_stop(&line)?;
        }
    }
    Ok(ExitCode::Success)
}

impl ModelArgs {
    fn choose(&self) -> anyhow::Result<Chosen> {
        let quant = match &self.quant {
            None => None,
            Some(name) => Some(find_quant(name).ok_or_else(|| {
                let known: Vec<&str> = plan::quants().iter().map(|quant| quant.name).collect();
                Failure::new(format!("`{name}` is no format of weights that is known here"))
                    .hint(format!("known are {}", known.join(", ")))
            })?),
        };
        let model = self.model.as_ref();
        let model =
            model.ok_or_else(|| Failure::new("no model is named").hint("`sprag plan list` shows some"))?;
        let path = Path::new(model);
        if !path.is_file() {
            let found = find_model(model).ok_or_else(|| {
                Failure::new(format!("`{}` is no file, and no model that is known here", model))
                    .hint("`sprag plan list` shows the names; of any other model give its `config.json` or GGUF file")
            })?;
            let quant = quant.or_else(|| find_quant("Q4_K_M")).context("a default format")?;
            return Ok(Chosen { architecture: found.architecture, quant, exact: None, source: found.source });
        }
        let shown = path.display();
        if path.extension().is_some_and(|extension| extension == "gguf") {
            let model = header(path)?;
            let bits = model.weight_bytes as f64 * 8.0 / model.params.max(1) as f64;
            let own = Quant { name: "as in the file", bits, source: "the sizes of its tensors" };
            if quant.is_some() {
                return Err(Failure::new("a GGUF file has its format already")
                    .hint("leave `--quant` out")
                    .into());
            }
            let exact = Some((model.weight_bytes, model.embedding_bytes));
            return Ok(Chosen {
                architecture: model.architecture,
                quant: own,
                exact,
                source: format!("header of {shown}"),
            });
        }
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {shown}"))?;
        let name = path
            .parent()
            .and_then(Path::file_name)
            .map_or_else(|| model.clone(), |name| name.to_string_lossy().into_owned());
        let architecture = from_config(&text, &name).map_err(|error| {
            Failure::new(format!("cannot plan with {shown}: {error}"))
                .hint("give the model's own `config.json`")
        })?;
        let quant = quant.or_else(|| find_quant("Q4_K_M")).context("a default format")?;
        Ok(Chosen { architecture, quant, exact: None, source: shown.to_string() })
    }

    fn job<'a>(&self, chosen: &'a Chosen) -> Job<'a> {
        let bits = find_quant(&self.cache_type).map_or(16.0, |quant| quant.bits);
        Job {
            model: &chosen.architecture,
            quant: chosen.quant,
            exact: chosen.exact,
            context: self.context,
            batch: self.batch,
            cache_bytes: bits / 8.0,
        }
    }
}

/// Reads a file's beginning, and more of it as long as its header goes on.
fn header(path: &Path) -> anyhow::Result<plan::GgufModel> {
    const FIRST: u64 = 16 << 20;
    const MOST: u64 = 1 << 30;
    let mut length = FIRST;
    loop {
        let file = std::fs::File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        let mut bytes = Vec::new();
        file.take(length)
            .read_to_end(&mut bytes)
            .with_context(|| format!("cannot read {}", path.display()))?;
        match read_gguf(&bytes) {
            Ok(model) => return Ok(model),
            Err(GgufError::Broken(_)) if bytes.len() as u64 == length && length < MOST => length *= 4,
            Err(error) => {
                return Err(Failure::new(format!("cannot plan with {}: {error}", path.display()))
                    .hint("give the model's `config.json` instead")
                    .into());
            }
        }
    }
}

/// `42.8 GB` in thousand millions, `8.4 MB` in millions.
fn gigabytes(bytes: f64) -> String {
    if bytes < 0.1e9 { format!("{:.2} MB", bytes / 1e6) } else { format!("{:.2} GB", bytes / 1e9) }
}

/// `12.9 tokens/s (10.6 to 14.5), ceiling 14.5`.
fn rates(rates: &Rates) -> String {
    format!(
        "{:.1} tokens/s expected [{:.1}, {:.1}], ceiling {:.1}",
        rates.expected, rates.low, rates.high, rates.ceiling
    )
}

fn lines(chosen: &Chosen, args: &ModelArgs, device: &Device, plan: &Estimate) -> Vec<String> {
    let model = &chosen.architecture;
    let mut lines = Vec::new();
    let (verdict, if_it_fitted) =
        if plan.fit.fits() { ("FITS", "") } else { ("DOES NOT FIT", "if it fitted: ") };
    lines.push(format!(
        "{verdict:<13} {} of {} usable on {}{}",
        gigabytes(plan.fit.needed),
        gigabytes(plan.fit.usable),
        device.name,
        if device.kind == Kind::Projected { " (PROJECTED: nobody sells it)" } else { "" }
    ));
    lines.extend(plan.remedies.iter().map(|remedy| format!("would fit     {remedy}")));
    lines.push(format!(
        "model         {}: {} parameters, {} active; {} layers, d_model {}",
        tame(&model.name),
        numbers::count(model.params() as f64),
        numbers::count(model.active_params() as f64),
        model.blocks.len(),
        model.d_model
    ));
    lines.push(format!(
        "weights in    {} ({:.2} bits; {})",
        chosen.quant.name, chosen.quant.bits, chosen.quant.source
    ));
    lines.push(format!(
        "machine       {:.0} GB/s, {} ({})",
        device.bytes_per_second / 1e9,
        device
            .flop_per_second
            .map_or("operations not told".to_owned(), |flop| format!("{:.1} TFLOP/s", flop / 1e12)),
        device.kind.word()
    ));
    lines.push(String::new());
    for line in &plan.bytes {
        lines.push(format!("{:<16} {:>12}   = {}", line.name, gigabytes(line.value), line.formula));
    }
    lines.push(String::new());
    lines.push(format!("decode        {}{}", if_it_fitted, rates(&plan.decode)));
    lines.push(match &plan.prefill {
        Some(prefill) => format!("prefill       {if_it_fitted}{}", rates(prefill)),
        None => {
            "prefill       not told: nobody says how many operations this machine does; `--tflops` gives them"
                .to_owned()
        }
    });
    for line in &plan.rates {
        let value = if line.name.ends_with("ceiling") {
            format!("{:.2} tokens/s", line.value)
        } else {
            gigabytes(line.value)
        };
        lines.push(format!("{:<16} {value:>16}   = {}", line.name, line.formula));
    }
    if args.batch > 1 {
        lines.push(format!("rates are over all {} sequences", args.batch));
    }
    lines.push(format!("sources       {}; {}", tame(&chosen.source), tame(&device.source)));
    lines
}

fn told(chosen: &Chosen, args: &ModelArgs, device: &Device, plan: &Estimate) -> Value {
    let rates = |rates: &Rates| json!({ "ceiling": rates.ceiling, "expected": rates.expected, "low": rates.low, "high": rates.high });
    let lines = |lines: &[plan::Line]| {
        lines
            .iter()
            .map(|line| json!({ "name": line.name, "value": line.value, "formula": line.formula }))
            .collect::<Vec<_>>()
    };
    json!({
        "model": { "name": chosen.architecture.name, "params": chosen.architecture.params(),
            "active_params": chosen.architecture.active_params(), "layers": chosen.architecture.blocks.len(), "source": chosen.source },
        "quant": { "name": chosen.quant.name, "bits": chosen.quant.bits, "source": chosen.quant.source },
        "context": args.context, "batch": args.batch, "cache_type": args.cache_type,
        "machine": { "name": device.name, "class": device.class.word(), "bytes_per_second": device.bytes_per_second,
            "flop_per_second": device.flop_per_second, "memory_bytes": device.memory_bytes, "kind": device.kind.word(),
            "source": device.source },
        "fits": plan.fit.fits(), "needed_bytes": plan.fit.needed, "usable_bytes": plan.fit.usable, "would_fit": plan.remedies,
        "bytes": lines(&plan.bytes), "rates": lines(&plan.rates),
        "decode_tokens_per_second": rates(&plan.decode), "prefill_tokens_per_second": plan.prefill.as_ref().map(rates),
    })
}
