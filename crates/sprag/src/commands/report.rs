//! `sprag report`: the run as one HTML file.

use std::path::{Path, PathBuf};

use sprag_engine::runner::Layout;

use super::{Recorded, TaskArgs, print_json, println_or_stop, write_whole};
use crate::context::Context;
use crate::exit_code::ExitCode;
use crate::report::html;
use crate::report::model::Page;

/// Write the run as one self-contained HTML file and print its path
///
/// It works offline and without scripts: the staircase of trials with intervals, the noise floor, every
/// trial with diff, measurements and curves, and what it was measured on.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: sprag report --out report.html\n         sprag report --json > report.json")]
pub struct Args {
    #[command(flatten)]
    task: TaskArgs,
    /// File to write [default: report.html in the run's folder]
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print the same content as JSON instead
    #[arg(long, conflicts_with = "out")]
    json: bool,
}

/// Writes it.
pub fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    let recorded = Recorded::load_whole(context, &args.task)?;
    if args.json {
        print_json(&recorded.page)?;
        return Ok(ExitCode::Success);
    }
    let default = Layout::of(&recorded.task.dir).run(&recorded.page.run).join("report.html");
    let path = args.out.unwrap_or(default);
    write(&recorded.page, &path)?;
    println_or_stop(&path.display().to_string())?;
    Ok(ExitCode::Success)
}

/// Writes it.
pub fn write(page: &Page, path: &Path) -> anyhow::Result<()> {
    write_whole(path, &html::render(page))
}
