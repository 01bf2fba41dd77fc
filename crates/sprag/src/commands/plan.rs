//! `sprag plan`: whether a model fits a machine, and how fast it can be there.

mod cluster;
mod compare;
mod grade;
mod hub;
mod list;
mod model;
mod page;
mod sweep;
mod target;
mod train;

use serde_json::{Value, json};
use sprag_measure::plan::{self, Cost, Device, Draft, Estimate, Prices, Rates, Speculation, cost, speculate};

pub use self::model::gguf_header;
use self::model::{Chosen, ModelArgs};
use self::target::TargetArgs;
use super::{print_json, println_or_stop};
use crate::context::Context;
use crate::exit_code::ExitCode;
use crate::numbers;
use crate::ui::tame;

/// Tell whether a model fits a machine, and how fast it can be there
///
/// MODEL is a name that `sprag plan list` knows, a `config.json` as on Hugging Face, a GGUF or safetensors file (of which
/// only the header is read), a folder with such files, or `hf:ORGANISATION/NAME` to read the same there. Whether it fits
/// comes first; rates have a ceiling that nothing can beat, an expected value, and a range in which nine of ten
/// measurements lie. Every formula is shown with its numbers.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "Example: sprag plan llama-3-70b --quant q4_k_m --context 8192 --machine 'RTX 4090'
         sprag plan compare qwen3.5-27b --machines 'M5 Max 40-core,RTX 5090,DGX Spark'
         sprag plan train llama-3.2-1b --machine 'RTX 4090' --for 5m"
)]
pub struct Args {
    #[command(subcommand)]
    command: Option<PlanCommand>,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    extra: ExtraArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum PlanCommand {
    Cluster(cluster::Args),
    Compare(compare::Args),
    Grade(grade::Args),
    List(list::Args),
    Sweep(sweep::Args),
    Train(train::Args),
}

/// What a plan can say besides.
#[derive(Clone, Debug, clap::Args)]
struct ExtraArgs {
    /// Power under load in watts [default: the machine's own, where it is known]
    #[arg(long, value_name = "W", value_parser = target::positive)]
    watts: Option<f64>,
    /// Price of a kilowatt-hour, in any currency
    #[arg(long, value_name = "PRICE", value_parser = target::positive)]
    kwh_price: Option<f64>,
    /// Price of the machine for an hour
    #[arg(long, value_name = "PRICE", value_parser = target::positive)]
    hour_price: Option<f64>,
    /// A small model that drafts tokens for MODEL to check (speculative decoding)
    #[arg(long, value_name = "MODEL", requires = "acceptance")]
    draft: Option<String>,
    /// Part of the drafted tokens that is accepted
    #[arg(long, value_name = "PART", requires = "draft", value_parser = part)]
    acceptance: Option<f64>,
    /// Tokens of a draft
    #[arg(long, value_name = "K", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    draft_tokens: u32,
}

fn part(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.0..=1.0).contains(&value) => Ok(value),
        _ => Err("write a number from 0 to 1".to_owned()),
    }
}

/// Plans one, or what the subcommand says.
pub fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    match &args.command {
        Some(PlanCommand::Cluster(args)) => cluster::run(args, context),
        Some(PlanCommand::Compare(args)) => compare::run(args, context),
        Some(PlanCommand::Grade(args)) => grade::run(args),
        Some(PlanCommand::List(args)) => list::run(args),
        Some(PlanCommand::Sweep(args)) => sweep::run(args),
        Some(PlanCommand::Train(args)) => train::run(args, context),
        None => one(&args, context),
    }
}

fn one(args: &Args, context: &Context) -> anyhow::Result<ExitCode> {
    let chosen = args.model.choose(&context.environment)?;
    let device = args.target.device(context)?;
    let job = args.model.job(&chosen);
    let plan = plan::estimate(&job, &device);
    let extra = Extra::of(&args.extra, &args.model, &job, &plan, &device, context)?;
    if args.json {
        let mut told = told(&chosen, &args.model, &device, &plan);
        told["cost_of_a_million_tokens"] = extra.cost_json();
        told["speculative"] = extra.speculation_json();
        print_json(&told)?;
    } else {
        let mut lines = lines(&chosen, &args.model, &device, &plan);
        let sources = lines.pop();
        lines.extend(extra.lines());
        lines.extend(sources);
        for line in lines {
            println_or_stop(&line)?;
        }
    }
    Ok(ExitCode::Success)
}

/// Cost and speculative decoding.
struct Extra {
    watts: Option<f64>,
    decode: Cost,
    prefill: Option<Cost>,
    speculation: Option<(String, f64, Speculation)>,
}

impl Extra {
    fn of(
        args: &ExtraArgs,
        model: &ModelArgs,
        job: &plan::Job<'_>,
        plan: &Estimate,
        device: &Device,
        context: &Context,
    ) -> anyhow::Result<Extra> {
        let watts = args.watts.or(device.watts);
        let prices = Prices { kilowatt_hour: args.kwh_price, hour: args.hour_price };
        let speculation = match (&args.draft, args.acceptance) {
            (Some(name), Some(acceptance)) => {
                let named = ModelArgs { model: Some(name.clone()), ..model.clone() };
                let chosen = named.choose(&context.environment)?;
                let draft = Draft { job: named.job(&chosen), tokens: args.draft_tokens, acceptance };
                Some((chosen.architecture.name.clone(), acceptance, speculate(job, &draft, device)))
            }
            _ => None,
        };
        Ok(Extra {
            watts,
            decode: cost(plan.decode.expected, watts, prices),
            prefill: plan.prefill.map(|prefill| cost(prefill.expected, watts, prices)),
            speculation,
        })
    }

    fn lines(&self) -> Vec<String> {
        let one = |name: &str, cost: &Cost| {
            let energy = match (cost.kilowatt_hours, self.watts) {
                (Some(amount), Some(watts)) => {
                    format!("{amount:.3} kWh = {watts:.0} W x {:.2} h", cost.hours)
                }
                _ => format!("{:.2} h; the power is not known, `--watts` gives it", cost.hours),
            };
            let money = cost.money.map(|money| format!("; costs {money:.3}")).unwrap_or_default();
            format!("{name:<14}a million tokens {energy}{money}")
        };
        let mut lines = vec![one("decode", &self.decode)];
        lines.extend(self.prefill.as_ref().map(|cost| one("prefill", cost)));
        if let Some((name, acceptance, found)) = &self.speculation {
            lines.push(format!(
                "drafted by    {}: {:.1} tokens/s expected, ceiling {:.1}; x{:.2} of without, if {:.0} % are accepted",
                tame(name),
                found.expected,
                found.ceiling,
                found.gain,
                acceptance * 100.0
            ));
            lines.push(format!(
                "a round       {:.2} tokens = (1 - a^(k+1)) / (1 - a), in {:.2} ms of drafts + {:.2} ms of checking",
                found.tokens_a_round,
                found.draft_seconds * 1e3,
                found.check_seconds * 1e3
            ));
        }
        lines
    }

    fn cost_json(&self) -> Value {
        let one = |cost: &Cost| json!({ "hours": cost.hours, "kilowatt_hours": cost.kilowatt_hours, "money": cost.money });
        json!({ "watts": self.watts, "decode": one(&self.decode), "prefill": self.prefill.as_ref().map(one) })
    }

    fn speculation_json(&self) -> Value {
        self.speculation.as_ref().map_or(Value::Null, |(draft, acceptance, found)| {
            json!({ "draft": draft, "acceptance": acceptance, "tokens_a_round": found.tokens_a_round,
                "draft_seconds": found.draft_seconds, "check_seconds": found.check_seconds,
                "expected": found.expected, "ceiling": found.ceiling, "gain": found.gain })
        })
    }
}

/// `42.8 GB` in thousand millions, `8.4 MB` in millions.
fn gigabytes(bytes: f64) -> String {
    if bytes < 0.1e9 { format!("{:.2} MB", bytes / 1e6) } else { format!("{:.2} GB", bytes / 1e9) }
}

/// `12.9 tokens/s expected of llama.cpp [10.6, 14.5], ceiling 14.5`.
fn rates(rates: &Rates) -> String {
    format!(
        "{:.1} tokens/s expected of llama.cpp [{:.1}, {:.1}], ceiling {:.1}",
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
        if device.is_projected() { " (PROJECTED: nobody sells it)" } else { "" }
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
        device.kind().word()
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
    lines.push(format!("sources       {}; {}", tame(&chosen.source), tame(&device.source())));
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
            "flop_per_second": device.flop_per_second, "memory_bytes": device.memory_bytes, "watts": device.watts,
            "kind": device.kind().word(), "sources": target::sources(device) },
        "fits": plan.fit.fits(), "needed_bytes": plan.fit.needed, "usable_bytes": plan.fit.usable, "would_fit": plan.remedies,
        "bytes": lines(&plan.bytes), "rates": lines(&plan.rates),
        "decode_tokens_per_second": rates(&plan.decode), "prefill_tokens_per_second": plan.prefill.as_ref().map(rates),
    })
}
