//! `sprag plan sweep`: machines over the size of a model, and where one overtakes the other.

use std::path::PathBuf;

use serde_json::json;
use sprag_measure::plan::{self, Crossover, Workload, find_quant};
use sprag_measure::units::Seconds;

use super::{page, target};
use crate::commands::{print_json, println_or_stop, write_whole};
use crate::error::Failure;
use crate::exit_code::ExitCode;
use crate::numbers;

/// Compare machines over the size of a model, and find where one overtakes the other
///
/// Models are dense and of the shape of the Llamas. Who is best answers a prompt soonest, of those that the model fits.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example: sprag plan sweep --machines 'RTX 5090,M4 Max 40-core,M3 Ultra' --prompt 4096 --answer 512"
)]
pub struct Args {
    /// Names or files, with commas between
    #[arg(long, value_name = "A,B,...", value_delimiter = ',', required = true)]
    machines: Vec<String>,
    /// Format of the weights
    #[arg(long, value_name = "Q", default_value = "q4_k_m")]
    quant: String,
    /// Tokens of the prompt
    #[arg(long, value_name = "N", default_value_t = 2048, value_parser = clap::value_parser!(u64).range(1..=1 << 24))]
    prompt: u64,
    /// Tokens of the answer
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u64).range(1..=1 << 24))]
    answer: u64,
    /// Also write a page with the picture
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Sizes that are shown as text, in thousand millions; the nearest of the family is taken.
const SHOWN: [f64; 9] = [1.4, 4.0, 8.0, 14.0, 32.0, 70.0, 120.0, 235.0, 400.0];

/// Sweeps.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let devices = args.machines.iter().map(|name| target::named(name)).collect::<anyhow::Result<Vec<_>>>()?;
    let quant = find_quant(&args.quant).ok_or_else(|| {
        Failure::new(format!("`{}` is no format of weights that is known here", args.quant))
            .hint("`sprag plan list` shows them")
    })?;
    let workload = Workload { quant, prompt: args.prompt, answer: args.answer, cache_bytes: 2.0 };
    let (rows, changes) = plan::sweep(&devices, &workload);
    if let Some(report) = &args.report {
        write_whole(report, &page::swept(&devices, &workload, &rows, &changes))?;
    }
    if args.json {
        let names: Vec<&str> = devices.iter().map(|device| device.name.as_str()).collect();
        let rows: Vec<_> = rows
            .iter()
            .map(|row| {
                let points: Vec<_> = row
                    .points
                    .iter()
                    .map(|point| json!({ "fits": point.fits, "decode": point.decode, "seconds": point.seconds }))
                    .collect();
                json!({ "params": row.params, "machines": points })
            })
            .collect();
        let changes: Vec<_> = changes
            .iter()
            .map(|change| {
                json!({ "between": [change.between.0, change.between.1], "from": change.from.map(|at| names[at]),
                    "to": change.to.map(|at| names[at]), "because_of_memory": change.because_of_memory })
            })
            .collect();
        print_json(
            &json!({ "machines": names, "prompt": args.prompt, "answer": args.answer, "rows": rows, "crossovers": changes }),
        )?;
        return Ok(ExitCode::Success);
    }
    let with_prompt = rows.iter().flat_map(|row| &row.points).all(|point| point.with_prompt);
    println_or_stop(&format!(
        "dense models in {}, a prompt of {} tokens, an answer of {}: seconds until its end (tokens/s of decode)",
        quant.name, args.prompt, args.answer
    ))?;
    if !with_prompt {
        println_or_stop("the prompt is left out: nobody says how many operations one of the machines does")?;
    }
    let header: Vec<String> = devices
        .iter()
        .map(|device| {
            format!(
                "{:>26}",
                format!("{}{}", device.name, if device.is_projected() { " PROJECTED" } else { "" })
            )
        })
        .collect();
    println_or_stop(&format!("{:>10}{}", "size", header.join("")))?;
    for wanted in SHOWN {
        let nearest = rows.iter().min_by(|a, b| {
            let away = |params: u64| (params as f64 / 1e9 / wanted).ln().abs();
            away(a.params).total_cmp(&away(b.params))
        });
        let Some(row) = nearest else { continue };
        let cells: Vec<String> = row
            .points
            .iter()
            .map(|point| match point.fits {
                true => format!("{:>26}", format!("{} ({:.1})", Seconds(point.seconds), point.decode)),
                false => format!("{:>26}", "does not fit"),
            })
            .collect();
        println_or_stop(&format!("{:>10}{}", numbers::count(row.params as f64), cells.join("")))?;
    }
    for change in &changes {
        println_or_stop(&changed(change, &devices))?;
    }
    if let Some(report) = &args.report {
        println_or_stop(&format!("report {}", report.display()))?;
    }
    Ok(ExitCode::Success)
}

/// `from 38.2B on: M3 Ultra instead of RTX 5090, which it does not fit`.
pub fn changed(change: &Crossover, devices: &[plan::Device]) -> String {
    let name = |at: Option<usize>| at.map_or("none of them", |at| devices[at].name.as_str());
    let why = match (change.because_of_memory, change.from) {
        (true, Some(_)) => ", which it does not fit any more",
        _ => ", by speed",
    };
    format!(
        "from {} on: {} instead of {}{why}",
        numbers::count(change.between.1 as f64),
        name(change.to),
        name(change.from)
    )
}
