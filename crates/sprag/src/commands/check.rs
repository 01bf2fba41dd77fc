//! `sprag check`: score the working tree, commit nothing.

use sprag_engine::record::Outcome;
use sprag_engine::runner::{self, CheckReport};

use super::run::{SafetyArgs, recorded_before};
use super::{TaskArgs, print_json, println_or_stop};
use crate::context::Context;
use crate::exit_code::ExitCode;
use crate::numbers;
use crate::ui::console::{Console, Limits};
use crate::ui::tame;
use sprag_engine::state::State;

/// Score the working tree against the incumbent; commit nothing
///
/// Your uncommitted changes to the mutable files are built, smoke-tested and run once, in the sandbox, as a
/// trial would be. One run screens: it tells a bad idea from a promising one, and proves nothing. The exit
/// status says which: 0 promising, 3 not better, 4 without a score.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: sprag check && git commit -am 'try a deeper model'")]
pub struct Args {
    #[command(flatten)]
    task: TaskArgs,
    #[command(flatten)]
    safety: SafetyArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Does it.
pub fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    let task = context.task(&args.task.task)?;
    let before = recorded_before(&task, args.task.run.as_deref());
    let mut setup = context.setup(task, args.task.run)?;
    let interrupt = context.confine(&mut setup, args.safety.allow_unsandboxed)?;
    let report = if args.json {
        runner::check(setup, &mut ())?
    } else {
        let mut console = Console::new(context.terminal, Limits::default(), before);
        let report = runner::check(setup, &mut console);
        let _: State = console.finish();
        report?
    };
    let code = match &report.outcome {
        Outcome::Interrupted => ExitCode::Interrupted,
        Outcome::Invalid(_) | Outcome::Stopped(_) => ExitCode::Invalid,
        Outcome::Scored(_) | Outcome::Passed if report.incumbent.is_some() && !report.promising => {
            ExitCode::NotBetter
        }
        Outcome::Scored(_) | Outcome::Passed => ExitCode::Success,
    };
    if args.json {
        print_json(&report)?;
        return Ok(if interrupt.happened() { ExitCode::Interrupted } else { code });
    }
    for line in lines(&report) {
        println_or_stop(&line)?;
    }
    Ok(code)
}

/// What a check found, as people read it.
pub fn lines(report: &CheckReport) -> Vec<String> {
    let changed = if report.changed.is_empty() { "nothing".to_owned() } else { report.changed.join(", ") };
    let mut lines = vec![format!("changed   {}", tame(&changed))];
    let sigma = report.incumbent.as_ref().map(|incumbent| incumbent.sigma);
    let decimals = numbers::decimals(sigma);
    match &report.outcome {
        Outcome::Scored(score) => {
            lines.push(format!(
                "score     {} {} (n=1, seed {})",
                report.metric,
                numbers::plain(score.value, decimals),
                report.seed
            ));
        }
        Outcome::Invalid(invalid) => {
            // Its first line says what happened, the others are the last words of the program.
            lines.push(format!("no score  {}", tame(&invalid.to_string())));
            for line in invalid.detail.lines().skip(1) {
                lines.push(format!("          {}", tame(line)));
            }
        }
        Outcome::Passed => lines.push("passed, without a score".to_owned()),
        Outcome::Interrupted => lines.push("interrupted".to_owned()),
        Outcome::Stopped(_) => lines.push("stopped early, without a score".to_owned()),
    }
    if let Some(incumbent) = &report.incumbent {
        lines.push(format!(
            "incumbent trial {}: {} ± {} (sd of one run, mean of n={})",
            incumbent.trial,
            numbers::plain(incumbent.mean, decimals),
            numbers::plain(incumbent.sigma, decimals),
            incumbent.n
        ));
    }
    if let Some(effect) = &report.effect {
        let [gain, low, high] =
            [effect.gain, effect.low, effect.high].map(|value| numbers::signed(value, decimals));
        let so = if report.promising {
            "promising: the loop would run it again"
        } else {
            "not worth running again"
        };
        lines.push(format!("gain      {gain} [{low}, {high}] from 1 run; {so}"));
    }
    lines
}
