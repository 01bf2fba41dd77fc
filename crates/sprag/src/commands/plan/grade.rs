//! `sprag plan grade`: the planner against published measurements.

use std::path::PathBuf;

use serde_json::json;
use sprag_measure::plan::{self, Table};

use crate::commands::{print_json, println_or_stop};
use crate::error::Failure;
use crate::exit_code::ExitCode;
use crate::ui::tame;

/// Grade the planner against published measurements of decode
///
/// FILE is a table with commas and the columns device, device_class, nodes, mem_bw_GBps, model, quant,
/// active_bytes_per_token_GB, kv_bytes_per_ctx_token, context and tg_tps. Each device is predicted from the rows of its class
/// on other devices; where there are fewer than eight, from the constants that ship.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: sprag plan grade published.csv")]
pub struct Args {
    /// The table
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Grades.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let shown = args.file.display();
    let unreadable = |cause: csv::Error| {
        Failure::new(format!("cannot read {shown}: {cause}")).hint("it is a table with commas and a header")
    };
    let mut reader = csv::ReaderBuilder::new().from_path(&args.file).map_err(unreadable)?;
    let header = reader.headers().map_err(unreadable)?.clone();
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(unreadable)?;
        let line = record.position().map_or(0, |position| position.line() as usize);
        rows.push((line, record.iter().map(str::to_owned).collect()));
    }
    let table = Table { header: header.iter().collect(), rows };
    let grade = plan::grade(&table).map_err(|error| {
        Failure::new(format!("cannot grade against {shown}: {error}"))
            .hint("`sprag plan grade --help` lists the columns")
    })?;
    if args.json {
        let by_class: serde_json::Map<String, serde_json::Value> = grade
            .by_class
            .iter()
            .map(|(class, (error, rows))| (class.clone(), json!({ "decode_mdape": error, "rows": rows })))
            .collect();
        let rows: Vec<_> = grade
            .rows
            .iter()
            .map(|row| {
                json!({ "line": row.line, "device": row.device, "model": row.model, "nodes": row.nodes, "measured": row.measured,
                    "predicted": row.predicted, "ceiling": row.ceiling, "error": row.error() })
            })
            .collect();
        print_json(&json!({
            "decode_mdape": grade.decode_mdape, "by_class": by_class, "above_roofline": grade.above_roofline,
            "measured_above_roofline": grade.measured_above, "rows": rows,
        }))?;
        return Ok(ExitCode::Success);
    }
    println_or_stop(&format!(
        "decode: median absolute error {:.1} % over {} rows, each device predicted without its own",
        grade.decode_mdape * 100.0,
        grade.rows.len()
    ))?;
    for (class, (error, rows)) in &grade.by_class {
        println_or_stop(&format!("  {:<16} {:.1} %, n={rows}", tame(class), error * 100.0))?;
    }
    println_or_stop(&format!("predictions above their roofline: {}", grade.above_roofline))?;
    if grade.measured_above > 0 {
        println_or_stop(&format!(
            "measurements above their roofline: {}; their rows contradict themselves",
            grade.measured_above
        ))?;
    }
    println_or_stop("worst")?;
    for row in grade.rows.iter().take(8) {
        println_or_stop(&format!(
            "  line {:>3}  {:<20} {:<24} x{:<2} predicted {:>7.1}, published {:>7.1} ({:+.0} %)",
            row.line,
            tame(&row.device),
            tame(&row.model),
            row.nodes,
            row.predicted,
            row.measured,
            (row.predicted / row.measured - 1.0) * 100.0
        ))?;
    }
    Ok(ExitCode::Success)
}
