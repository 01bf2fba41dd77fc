//! `sprag probe`: what this machine really does.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::json;
use sprag_measure::machine;
use sprag_measure::probe::{Effort, Options, probe};

use super::{print_json, println_or_stop, write_whole};
use crate::context::Context;
use crate::exit_code::ExitCode;
use crate::machine::products::Products;
use crate::machine::{changes, file, page, words};
use crate::ui::live::Live;

/// Measure what this machine really does, beside what is presented
///
/// Memory bandwidth by kind and threads, latency and bandwidth over the working set, the peaks of arithmetic that are
/// reached, matrix products, floor costs, power and energy where they can be read, GPUs where this program was built for them
/// (features `wgpu`, `nvml`, `cuda`). Every figure has its spread and number of goes. The
/// result is kept as a machine file; a repeated probe says what changed.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: sprag probe --quick
         sprag probe --report probe.html")]
pub struct Args {
    /// End within 20 s
    #[arg(long, conflicts_with = "thorough")]
    quick: bool,
    /// More goes, larger memory, all numbers of threads; takes minutes
    #[arg(long)]
    thorough: bool,
    /// Machine file to write [default: one named after the machine, in ~/.local/share/sprag/machines]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Also write a page with the roofline and the steps of the caches
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Measures, shows, keeps.
pub fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    let effort = match (args.quick, args.thorough) {
        (true, _) => Effort::Quick,
        (_, true) => Effort::Thorough,
        _ => Effort::Normal,
    };
    let folder = match args.out.as_ref().and_then(|out| out.parent()) {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        Some(_) => PathBuf::from("."),
        None => file::folder(&context.environment)?,
    };
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let path = args.out.map_or_else(|| file::of(&machine::facts(), &context.environment), Ok)?;
    // What cannot be replaced is found out before minutes are spent.
    let earlier = file::read(&path)?;
    let products = Products::default();
    let multiply = |shape: [u32; 3], precision: &str, time: Duration| products.rate(shape, precision, time);
    let options = Options { effort, folder: folder.clone(), multiply: Some(&multiply) };
    let mut live = Live::new(context.terminal);
    let mut found = probe(&options, &mut |step| live.show(&format!("measuring {step} ...")));
    live.wipe();
    // Another command's, and not measured again here.
    found.neural_engine = earlier.as_ref().and_then(|earlier| earlier.neural_engine.clone());
    let changed = earlier.as_ref().map(|earlier| changes::changes(earlier, &found));
    file::write(&path, &found, earlier.as_ref())?;
    if let Some(report) = &args.report {
        write_whole(report, &page::render(&found))?;
    }
    if args.json {
        print_json(
            &json!({ "file": path, "probe": found, "changes": changed, "doubts": words::doubts(&found) }),
        )?;
        return Ok(ExitCode::Success);
    }
    for line in words::lines(&found) {
        println_or_stop(&line)?;
    }
    if let (Some(earlier), Some(changed)) = (&earlier, &changed) {
        for line in words::changed(changed, &earlier.at) {
            println_or_stop(&line)?;
        }
    }
    println_or_stop(&format!("kept      {} ({:.0} s)", path.display(), found.seconds))?;
    if let Some(report) = &args.report {
        println_or_stop(&format!("report    {}", report.display()))?;
    }
    Ok(ExitCode::Success)
}
