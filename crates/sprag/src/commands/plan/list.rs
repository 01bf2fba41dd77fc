//! `sprag plan list`: models, machines and formats that are known.

use serde_json::json;
use sprag_measure::plan::{self, devices, links, models, quants};

use super::target;
use crate::commands::{print_json, println_or_stop};
use crate::exit_code::ExitCode;
use crate::numbers;

/// List the models, machines and formats that are known, with their sources
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: sprag plan list")]
pub struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Lists them.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if args.json {
        let models: Vec<_> = models()
            .iter()
            .map(|model| json!({ "name": model.architecture.name, "params": model.architecture.params(), "source": model.source }))
            .collect();
        let machines: Vec<_> = devices()
            .iter()
            .map(|device| {
                json!({ "name": device.name, "class": device.class.word(), "bytes_per_second": device.bytes_per_second,
                    "flop_per_second": device.flop_per_second, "memory_bytes": device.memory_bytes, "watts": device.watts,
                    "gpu_cores": device.gpu_cores, "neural_engine_ops": device.neural_engine_ops,
                    "kind": device.kind().word(), "sources": target::sources(device) })
            })
            .collect();
        let links: Vec<_> = links()
            .iter()
            .map(|link| json!({ "name": link.name, "bytes_per_second": link.bytes_per_second, "seconds": link.seconds, "source": link.source }))
            .collect();
        let quants: Vec<_> = quants()
            .iter()
            .map(|quant| json!({ "name": quant.name, "bits": quant.bits, "source": quant.source }))
            .collect();
        print_json(
            &json!({ "models": models, "machines": machines, "quants": quants, "links": links, "architectures": plan::supported() }),
        )?;
        return Ok(ExitCode::Success);
    }
    println_or_stop("models")?;
    for model in models() {
        let params = numbers::count(model.architecture.params() as f64);
        println_or_stop(&format!(
            "  {:<22} {params:>8} parameters   {}",
            model.architecture.name, model.source
        ))?;
    }
    println_or_stop("\nmachines")?;
    for device in devices() {
        let memory: Vec<String> =
            device.memory_bytes.iter().map(|bytes| format!("{:.0}", bytes / 1e9)).collect();
        let flop = device.flop_per_second.map_or("?".to_owned(), |flop| format!("{:.1}", flop / 1e12));
        println_or_stop(&format!(
            "  {:<32} {:>7.1} GB/s {flop:>7} TFLOP/s   {} GB   {}: {}",
            device.name,
            device.bytes_per_second / 1e9,
            memory.join("/"),
            device.kind().word(),
            device.source()
        ))?;
    }
    println_or_stop("\nlinks of clusters")?;
    for link in links() {
        println_or_stop(&format!(
            "  {:<8} {:>7.2} GB/s {:>6.0} us   {}",
            link.name,
            link.bytes_per_second / 1e9,
            link.seconds * 1e6,
            link.source
        ))?;
    }
    println_or_stop("\nformats of weights")?;
    for quant in quants() {
        println_or_stop(&format!("  {:<8} {:>7.4} bits   {}", quant.name, quant.bits, quant.source))?;
    }
    println_or_stop(&format!(
        "\n`config.json` with one of the `model_type`s {}",
        plan::supported().join(", ")
    ))?;
    Ok(ExitCode::Success)
}
