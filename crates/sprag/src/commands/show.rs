//! `sprag show N`: all about one trial.

use sprag_engine::record::TrialId;

use super::{Recorded, TaskArgs, print_json, println_or_stop};
use crate::context::Context;
use crate::error::Failure;
use crate::exit_code::ExitCode;
use crate::numbers;
use crate::report::html;
use crate::report::model::{Page, TrialView};
use crate::ui::{tame, words};

/// Show all about one trial: decision, hypothesis, measurements with seeds, facts
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: sprag show 12")]
pub struct Args {
    /// Number of the trial; 0 is the baseline
    #[arg(value_name = "N")]
    trial: TrialId,
    #[command(flatten)]
    task: TaskArgs,
    /// Print JSON, diff and curves included
    #[arg(long)]
    json: bool,
}

/// Prints it.
pub fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    let recorded = if args.json {
        Recorded::load_whole(context, &args.task)?
    } else {
        Recorded::load(context, &args.task)?
    };
    let page = &recorded.page;
    let Some(trial) = page.trials.get(args.trial as usize) else {
        return Err(no_trial(args.trial, page).into());
    };
    if args.json {
        print_json(trial)?;
        return Ok(ExitCode::Success);
    }
    for line in lines(trial, page, context.terminal.colour_out) {
        println_or_stop(&line)?;
    }
    Ok(ExitCode::Success)
}

/// The trial as people read it.
pub fn lines(trial: &TrialView, page: &Page, colour: bool) -> Vec<String> {
    let mut lines = vec![words::floor(page), words::trial_line(trial, page, colour)];
    lines.extend(rows(trial, page).into_iter().map(|(name, value)| format!("  {name:<12} {}", tame(&value))));
    measurements(trial, page, &mut lines);
    facts(trial, &mut lines);
    if let Some(error) = &trial.build_error {
        lines.push("\n  build error".to_owned());
        lines.extend(error.lines().map(|line| format!("    {}", tame(line))));
    }
    lines
}

/// There is no such trial.
pub fn no_trial(trial: TrialId, page: &Page) -> Failure {
    let last = page.trials.len().saturating_sub(1);
    Failure::new(format!("run {} has no trial {trial}; its trials are 0 to {last}", page.run))
        .hint("`sprag log` lists them")
}

fn rows(trial: &TrialView, page: &Page) -> Vec<(&'static str, String)> {
    let mut rows = vec![("proposer", trial.proposer.clone())];
    let mut row = |name, value: Option<String>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            rows.push((name, value));
        }
    };
    row("decision", trial.reason.clone());
    row("why better", trial.second.as_ref().map(|second| words::second(second, page.budget, page.decimals)));
    row("hypothesis", trial.hypothesis.clone());
    row("family", trial.family.clone());
    row("against", trial.parent_trial.map(|parent| format!("trial {parent}")));
    row(
        "changes",
        (!trial.paths.is_empty()).then(|| {
            format!(
                "{} (+{} -{} lines); `sprag diff {}`",
                trial.paths.join(", "),
                trial.insertions,
                trial.deletions,
                trial.id
            )
        }),
    );
    row("commit", trial.commit.clone());
    row(
        "build",
        (trial.builds > 0)
            .then(|| format!("{} in {} attempt(s)", numbers::duration(trial.build_seconds), trial.builds)),
    );
    row("runs", (!trial.measurements.is_empty()).then(|| numbers::duration(trial.run_seconds)));
    row("started", Some(trial.started_at.clone()));
    row("decided", trial.decided_at.clone());
    rows
}

fn measurements(trial: &TrialView, page: &Page, lines: &mut Vec<String>) {
    for measurement in &trial.measurements {
        let measure = &measurement.measure;
        let code =
            if measure.arm == trial.id { "this trial".to_owned() } else { format!("trial {}", measure.arm) };
        let value = match measurement.value {
            Some(value) => format!("{} {}", page.metric, numbers::plain(value, page.decimals + 1)),
            None => measurement.outcome.clone(),
        };
        let own = if measurement.self_reported { " (said by the candidate)" } else { "" };
        let within = measure.budget.map_or(String::new(), |other| format!(" within {}", html::budget(other)));
        let purpose = format!("{:?}", measure.purpose).to_lowercase();
        lines.push(format!(
            "  run {:>4}     {purpose:<9} {code:<11} seed {:<17} {:>12}  {value}{within}{own}",
            measure.measure,
            measure.seed,
            numbers::duration(measurement.seconds)
        ));
        if let Some(line) = measurement.detail.as_deref().and_then(|detail| detail.lines().next()) {
            lines.push(format!("               {}", tame(line)));
        }
    }
}

fn facts(trial: &TrialView, lines: &mut Vec<String>) {
    for fact in &trial.facts {
        let candidate = fact.candidate.map_or("-".to_owned(), |value| numbers::quantity(&fact.name, value));
        let beside = fact.incumbent.map_or(String::new(), |value| {
            format!("   (incumbent {})", numbers::quantity(&fact.name, value))
        });
        lines.push(format!("  {:<32} {candidate}{beside}", tame(&numbers::fact_name(&fact.name))));
    }
}
