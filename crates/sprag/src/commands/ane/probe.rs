//! `sprag ane probe`: what the Neural Engine does; on the emulator what is predicted of it.

use std::path::PathBuf;

use serde_json::json;
use sprag_ane::probe::{Effort, Figure, Probed, probe};
use sprag_measure::probe::{NeuralEngine, NeuralEngineFigure};
use sprag_measure::{clock, machine};

use super::super::{print_json, println_or_stop, write_whole};
use super::DeviceArgs;
use crate::context::Context;
use crate::exit_code::ExitCode;
use crate::machine::file;
use crate::report::html::begin;
use crate::report::plot::{escape, machine as pictures};
use crate::ui::live::Live;

/// Probe the Neural Engine: floor of a dispatch, peaks, chains by depth, where fast memory ends, bytes, widths
///
/// Figures join the machine file of `sprag probe`. On the emulator the same programs run, and times are what its cost model
/// predicts; they are called so everywhere.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: sprag ane probe --emulate --chip M4 --quick")]
pub struct Args {
    #[command(flatten)]
    device: DeviceArgs,
    /// Small sizes, few goes
    #[arg(long)]
    quick: bool,
    /// Machine file to add to [default: this machine's, where `sprag probe` made one]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Also write a page with pictures
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Probes, shows, keeps.
pub fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    let (runtime, _) = args.device.open(context)?;
    let effort = if args.quick { Effort::Quick } else { Effort::Normal };
    let mut live = Live::new(context.terminal);
    let found = probe(runtime.as_ref(), effort, &mut |step| live.show(&format!("measuring {step} ...")))?;
    live.wipe();
    let kept = NeuralEngine {
        name: found.name.clone(),
        predicted: found.predicted,
        at: clock::now_rfc3339(),
        figures: found.figures.iter().map(figure).collect(),
    };
    let path = match args.out {
        Some(path) => path,
        None => file::of(&machine::facts(), &context.environment)?,
    };
    let joined = match file::read(&path)? {
        Some(mut machine) => {
            machine.neural_engine = Some(kept.clone());
            file::write(&path, &machine, None)?;
            true
        }
        None => false,
    };
    if let Some(report) = &args.report {
        write_whole(report, &page(&found))?;
    }
    if args.json {
        let file = joined.then_some(&path);
        print_json(&json!({ "neural_engine": kept, "file": file }))?;
        return Ok(ExitCode::Success);
    }
    for line in lines(&found) {
        println_or_stop(&line)?;
    }
    match joined {
        true => println_or_stop(&format!("kept      {}", path.display()))?,
        false => println_or_stop("not kept: there is no machine file yet; `sprag probe`, then this again")?,
    }
    if let Some(report) = &args.report {
        println_or_stop(&format!("report    {}", report.display()))?;
    }
    Ok(ExitCode::Success)
}

fn figure(figure: &Figure) -> NeuralEngineFigure {
    let flops = (figure.flops > 0.0).then(|| figure.rate());
    let Figure { kind, size, seconds, goes, .. } = figure;
    NeuralEngineFigure { kind: (*kind).to_owned(), size: *size, seconds: *seconds, goes: *goes, flops }
}

fn words(kind: &str) -> &'static str {
    match kind {
        "floor" => "a dispatch of next to nothing",
        "conv" => "one convolution, 64 places, by channels",
        "depth" => "a chain of convolutions, 512 channels, by length",
        "product" => "a square product, by size",
        "halves" => "a chain of convolutions in halves",
        "bytes" => "the same in bytes",
        "compile" => "compiling",
        _ => "places on the last axis",
    }
}

fn lines(found: &Probed) -> Vec<String> {
    let how = if found.predicted {
        "PREDICTED by the emulator's cost model, nothing was measured"
    } else {
        "measured"
    };
    let mut lines = vec![format!("{}: {how}; medians [least, most]", found.name)];
    let mut last = "";
    for figure in &found.figures {
        if figure.kind != last {
            lines.push(words(figure.kind).to_owned());
            last = figure.kind;
        }
        let size = if figure.size > 0 { figure.size.to_string() } else { String::new() };
        if figure.kind == "width" {
            let taken = if figure.seconds[0] > 0.0 { "compiles" } else { "does not compile" };
            lines.push(format!("  {size:>6}  {taken}"));
            continue;
        }
        let [middle, least, most] = figure.seconds.map(|seconds| seconds * 1e3);
        let rate =
            if figure.flops > 0.0 { format!("  {:.2} TFLOP/s", figure.rate() / 1e12) } else { String::new() };
        lines.push(format!("  {size:>6}  {middle:.3} ms [{least:.3}, {most:.3}] n = {}{rate}", figure.goes));
    }
    lines
}

fn page(found: &Probed) -> String {
    let mut html = begin(&format!("{} - Sprag probe", found.name));
    let how = if found.predicted {
        "predicted by the emulator's cost model; nothing was measured"
    } else {
        "measured"
    };
    html.push_str(&format!(
        "<header>\n<h1>{}</h1>\n<p class=\"sub\">{how}</p>\n</header>\n",
        escape(&found.name)
    ));
    for (kind, title, across) in [
        ("conv", "One convolution by its channels", "channels"),
        ("depth", "A chain of convolutions by its length", "convolutions"),
        ("product", "A square product by its size", "rows"),
    ] {
        let points: Vec<(f64, f64)> = found
            .figures
            .iter()
            .filter(|figure| figure.kind == kind)
            .map(|figure| (figure.size as f64, figure.seconds[0] * 1e3))
            .collect();
        html.push_str(&format!("<section>\n<h2>{title}</h2>\n<figure>\n"));
        html.push_str(&pictures::steps(&points, across, "ms", how));
        html.push_str("</figure>\n</section>\n");
    }
    html.push_str("<section>\n<h2>Figures</h2>\n<div class=\"scroll\"><pre style=\"max-height: none\">");
    html.push_str(&escape(&lines(found).join("\n")));
    html.push_str("</pre></div>\n</section>\n</main>\n</body>\n</html>\n");
    html
}
