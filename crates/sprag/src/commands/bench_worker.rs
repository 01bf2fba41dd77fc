//! `sprag bench-worker`: one built-in runtime in a process of its own; started by `sprag bench`, never by people.

use std::io::Write as _;
use std::path::PathBuf;

use crate::bench::{self, Told};
use crate::exit_code::ExitCode;

/// Measure one runtime and print what it takes as JSON lines
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Its name
    runtime: String,
    /// The GGUF file
    model: PathBuf,
    /// The plan as JSON
    plan: String,
}

/// Runs the plan.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let plan = serde_json::from_str(&args.plan)?;
    let mut tell = |told: Told| {
        let mut out = std::io::stdout().lock();
        serde_json::to_writer(&mut out, &told)?;
        out.write_all(b"\n")?;
        Ok(out.flush()?)
    };
    let done = bench::load(&args.runtime, &args.model, &plan)
        .and_then(|(mut runtime, seconds)| bench::drive(runtime.as_mut(), &plan, Some(seconds), &mut tell));
    if let Err(error) = done {
        tell(Told::Failed(format!("{error:#}")))?;
    }
    Ok(ExitCode::Success)
}
