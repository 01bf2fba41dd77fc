//! `sprag certify`: audit what was kept.

use sprag_engine::record::AuditEnd;
use sprag_engine::runner;

use super::run::{SafetyArgs, recorded_before};
use super::{Recorded, TaskArgs, print_json, println_or_stop};
use crate::context::Context;
use crate::exit_code::ExitCode;
use crate::ui::console::{Console, Limits};
use crate::ui::words;

/// Audit the tip against the last certified champion, now
///
/// Both run under the same fresh seeds, taking turns, until the evidence is in: at most as many pairs as the
/// gate's section in task.toml allows. A tip that is borne out becomes the certified champion, which `sprag merge`
/// takes. One that is not is bisected: what carries the gain stays, the rest is taken back and stays reachable.
/// `sprag run` does the same every few keeps, and before it ends for another reason than its time. The exit status
/// is 0 when something was certified and 3 when not.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: sprag certify && sprag merge")]
pub struct Args {
    #[command(flatten)]
    task: TaskArgs,
    #[command(flatten)]
    safety: SafetyArgs,
    /// Print the audits as JSON
    #[arg(long)]
    json: bool,
}

/// Does it.
pub fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    let task = context.task(&args.task.task)?;
    let before = recorded_before(&task, args.task.run.as_deref());
    let known = before.audits.iter().filter(|audit| audit.end.is_some()).count();
    let mut setup = context.setup(task, args.task.run.clone())?;
    let interrupt = context.confine(&mut setup, args.safety.allow_unsandboxed)?;
    let state = if args.json {
        runner::certify(setup, &mut ())?
    } else {
        let mut console = Console::new(context.terminal, Limits::default(), before);
        let state = runner::certify(setup, &mut console);
        console.finish();
        state?
    };
    let new = &state.audits[known.min(state.audits.len())..];
    if args.json {
        print_json(&new)?;
    } else {
        println_or_stop("")?;
        let recorded = Recorded::load(context, &args.task)?;
        for line in
            recorded.page.headline.iter().flat_map(|headline| words::headline(headline, &recorded.page))
        {
            println_or_stop(&line)?;
        }
    }
    if interrupt.happened() {
        return Ok(ExitCode::Interrupted);
    }
    let certified = new.iter().any(|audit| audit.end == Some(AuditEnd::Certified));
    Ok(if certified { ExitCode::Success } else { ExitCode::NotBetter })
}
