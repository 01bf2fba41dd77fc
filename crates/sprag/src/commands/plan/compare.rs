//! `sprag plan compare`: one model on several machines.

use std::path::PathBuf;

use serde_json::{Value, json};
use sprag_measure::plan;

use super::{ModelArgs, gigabytes, page, target, told};
use crate::commands::{print_json, println_or_stop, write_whole};
use crate::context::Context;
use crate::exit_code::ExitCode;

/// Compare machines for one model
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example: sprag plan compare llama-3-70b --machines 'RTX 5090,M4 Max 40-core,DGX Spark'"
)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Names or machine files, with commas between
    #[arg(long, value_name = "A,B,C", value_delimiter = ',', required = true)]
    machines: Vec<String>,
    /// Also write a page with the rates over the context as a picture
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Plans for each.
pub fn run(args: &Args, context: &Context) -> anyhow::Result<ExitCode> {
    let chosen = args.model.choose(&context.environment)?;
    let devices = args.machines.iter().map(|name| target::named(name)).collect::<anyhow::Result<Vec<_>>>()?;
    let plans: Vec<_> =
        devices.iter().map(|device| plan::estimate(&args.model.job(&chosen), device)).collect();
    if let Some(report) = &args.report {
        write_whole(report, &page::compared(&chosen, &args.model, &devices, &plans))?;
    }
    if args.json {
        let all: Vec<Value> = devices
            .iter()
            .zip(&plans)
            .map(|(device, plan)| told(&chosen, &args.model, device, plan))
            .collect();
        print_json(&json!({ "plans": all }))?;
        return Ok(ExitCode::Success);
    }
    println_or_stop(&format!(
        "{} in {}, {} positions, {} sequences",
        chosen.architecture.name, chosen.quant.name, args.model.context, args.model.batch
    ))?;
    println_or_stop(
        "machine                    fits              decode, tokens/s (ceiling)     prefill, tokens/s",
    )?;
    for (device, plan) in devices.iter().zip(&plans) {
        let fits = if plan.fit.fits() { "yes" } else { "NO" };
        let decode = match plan.fit.fits() {
            true => format!(
                "{:.1} [{:.1}, {:.1}] ({:.1})",
                plan.decode.expected, plan.decode.low, plan.decode.high, plan.decode.ceiling
            ),
            false => "-".to_owned(),
        };
        let prefill = plan.prefill.filter(|_| plan.fit.fits());
        let prefill =
            prefill.map_or("-".to_owned(), |one| format!("{:.0} ({:.0})", one.expected, one.ceiling));
        let projected = if device.is_projected() { "  PROJECTED" } else { "" };
        let room = format!("{fits:<4}{} of {}", gigabytes(plan.fit.needed), gigabytes(plan.fit.usable));
        println_or_stop(&format!("{:<26} {room:<26} {decode:<30} {prefill}{projected}", device.name))?;
    }
    if let Some(report) = &args.report {
        println_or_stop(&format!("report {}", report.display()))?;
    }
    Ok(ExitCode::Success)
}
