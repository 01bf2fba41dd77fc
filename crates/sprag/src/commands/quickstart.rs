//! `sprag quickstart`: from nothing to a report, in one command.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use sprag_engine::proposer::{AskingLimits, ProposerSpec};
use sprag_engine::record::{Budget, Mix, Policy, TrialId};
use sprag_engine::runner;
use sprag_engine::sandbox::Capabilities;
use sprag_engine::state::State;
use sprag_engine::task::{FILE, Task};
use sprag_measure::machine::Machine;
use sprag_train::data::{Manifest, SourceName};

use super::run::{LimitArgs, Plan, SafetyArgs, carry_out, summary};
use super::{Recorded, TaskArgs, data, init, manifest_facts, parse_seconds, println_or_stop, quoted, status};
use crate::context::Context;
use crate::error::Failure;
use crate::exit_code::ExitCode;
use crate::numbers;
use crate::report::html;
use crate::template::{self, Device, Gpt};

/// Time for the loop after preparation, unless said otherwise.
const DEFAULT_SECONDS: f64 = 600.0;

/// Go from nothing to a report: train small GPTs on real text, keep what is better
///
/// Makes a folder with a task and data (from the packages that this program is built from: nothing is
/// downloaded), measures the noise of this machine, runs the loop with the built-in proposer, and ends with
/// a summary and report.html. Needs no key, no network, no Python, no GPU. A second call resumes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: sprag quickstart
         sprag quickstart --dir /tmp/try --budget 10s --for 5m")]
pub struct Args {
    /// Folder to make, or to resume
    #[arg(long, value_name = "DIR", default_value = "sprag-quickstart")]
    dir: PathBuf,
    /// Seconds of training a trial [default: 20s]
    #[arg(long, value_name = "TIME", value_parser = parse_seconds)]
    budget: Option<f64>,
    /// Time for the loop, from the end of the first build on [default: 10m]
    #[arg(long = "for", value_name = "TIME", value_parser = parse_seconds)]
    seconds: Option<f64>,
    /// Most trials, the baseline not counted
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    trials: Option<u32>,
    /// Seed of the run
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    safety: SafetyArgs,
    /// Print every event of the run as one JSON object a line
    #[arg(long)]
    json: bool,
}

/// From nothing to a report.
pub fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    let dir = std::path::absolute(&args.dir)?;
    let (task_dir, data_dir) = (dir.join("task"), dir.join("data"));
    let known = task_dir.join(FILE).is_file();
    // A run whose baseline has no score cannot go on, whatever was mended since: a new one begins.
    let failed = known && runner::load(&task_dir, None).is_ok_and(|(state, _)| failed(&state));
    if known
        && !failed
        && let Some(code) = finished(&args, &task_dir, context)?
    {
        return Ok(code);
    }
    // Before anything is made: a minute of preparation for nothing would be a poor answer.
    let capabilities = context.capabilities(args.safety.allow_unsandboxed)?;
    let made = known.then(|| context.task(&task_dir)).transpose()?;
    if let Some(task) = &made {
        same_budget(&args, task)?;
    }
    plan(&args, &dir, made.as_ref(), &capabilities)?;
    if !known {
        begin(&args, &dir, &task_dir, context)?;
    }
    prepare_data(&data_dir, context)?;
    let task = context.task(&task_dir)?;
    let plan = Plan {
        asking: AskingLimits::default(),
        run: None,
        new_run: failed,
        proposers: vec![ProposerSpec::Search],
        mix: Mix::default(),
        limits: LimitArgs {
            trials: args.trials,
            seconds: args.seconds.or_else(|| args.trials.is_none().then_some(DEFAULT_SECONDS)),
            seed: args.seed,
        },
        safety: args.safety.clone(),
        json: args.json,
        report: Some(dir.join("report.html")),
    };
    let code = carry_out(task, plan, context)?;
    if !args.json {
        next_steps(&task_dir, context)?;
    }
    Ok(code)
}

fn failed(state: &State) -> bool {
    state.finished.is_some() && state.baseline().is_none()
}

/// A finished quickstart is not run again unless it is told how far.
fn finished(args: &Args, task_dir: &Path, context: &Context) -> anyhow::Result<Option<ExitCode>> {
    let Ok((state, _)) = runner::load(task_dir, None) else { return Ok(None) };
    if state.finished.is_none() || args.seconds.is_some() || args.trials.is_some() {
        return Ok(None);
    }
    let task = TaskArgs { task: task_dir.to_owned(), run: None };
    if args.json {
        return status::run(status::Args { task, json: true }, context).map(Some);
    }
    let recorded = Recorded::load(context, &task)?;
    println_or_stop(&format!("{} holds a finished run:", args.dir.display()))?;
    summary(&recorded.page, context)?;
    let program = context.program_word();
    let dir = quoted(&args.dir.to_string_lossy());
    println_or_stop("")?;
    println_or_stop(&format!("report    {}", args.dir.join("report.html").display()))?;
    println_or_stop(&format!("go on     {program} quickstart --dir {dir} --for 10m"))?;
    println_or_stop(&format!("afresh    {program} quickstart --dir {dir}-2"))?;
    Ok(Some(ExitCode::Success))
}

/// What will happen, and on what, in a few lines.
fn plan(args: &Args, dir: &Path, made: Option<&Task>, capabilities: &Capabilities) -> anyhow::Result<()> {
    if args.json {
        return Ok(());
    }
    let machine = Machine::probe();
    let budget = html::budget(budget(args, made));
    let limit = match (args.seconds, args.trials) {
        (Some(seconds), _) => numbers::duration(seconds),
        (None, Some(trials)) => format!("{trials} trials"),
        (None, None) => numbers::duration(DEFAULT_SECONDS),
    };
    let cpu = machine.cpu.as_deref().unwrap_or("unknown processor");
    let cores = machine.usable_cores.map_or("?".to_owned(), |cores| cores.to_string());
    let memory = machine.usable_memory_bytes();
    let memory = memory.map_or("unknown".to_owned(), |bytes| numbers::bytes(bytes as f64));
    let sandbox = match (capabilities.complete(), capabilities.weaker.len()) {
        (true, 0) => format!("complete ({} parts): no network, files by list", capabilities.enforced.len()),
        (true, n) => format!("complete, without {n} second wall(s); `sprag doctor` names them"),
        (false, _) => "incomplete; `sprag doctor` says why".to_owned(),
    };
    let repeats = made.map_or_else(Policy::default, |task| task.gate).baseline_repeats;
    let verb = if made.is_some() { "resume" } else { "make" };
    eprintln!("machine   {cpu}, {cores} usable cores, {memory} memory, {}", machine.os);
    eprintln!("sandbox   {sandbox}");
    eprintln!(
        "plan      {verb} {}; data, then the baseline up to {repeats} times, then trials of {budget} for {limit}",
        dir.display()
    );
    if let Some([one, _, _]) = machine.load_average
        && let Some(cores) = machine.usable_cores
        && one > 0.5 * f64::from(cores)
    {
        eprintln!("warning: this machine is busy (load {one:.1} on {cores} cores), which adds noise");
        eprintln!("hint: close what else is running; Ctrl-C now costs nothing");
    }
    Ok(())
}

/// What a trial may spend: what the folder was made with, else what is asked for.
fn budget(args: &Args, made: Option<&Task>) -> Budget {
    let asked = || Budget::Seconds(args.budget.unwrap_or(init::DEFAULT_BUDGET_SECONDS));
    made.map_or_else(asked, |task| task.budget)
}

fn begin(args: &Args, dir: &Path, task_dir: &Path, context: &Context) -> anyhow::Result<()> {
    // A task is written beside and renamed when it is whole: one without its contract is not ours.
    let ours = |name: &OsStr| name == "data" || name == "task.partial";
    let occupied = std::fs::read_dir(dir)
        .is_ok_and(|mut entries| entries.any(|entry| entry.is_ok_and(|entry| !ours(&entry.file_name()))));
    if occupied {
        let failure = Failure::new(format!("{} holds something else", dir.display()));
        return Err(failure.hint("choose another folder with `--dir`; nothing was changed").into());
    }
    let budget = budget(args, None);
    let partial = dir.join("task.partial");
    if partial.exists() {
        std::fs::remove_dir_all(&partial)?;
    }
    let gpt = Gpt { dir: partial.clone(), data: "../data".to_owned(), budget, device: Device::Cpu };
    template::write(&gpt, context)?;
    std::fs::rename(&partial, task_dir)?;
    Ok(())
}

fn prepare_data(data_dir: &Path, context: &Context) -> anyhow::Result<()> {
    if Manifest::read(data_dir).is_ok() {
        return Ok(());
    }
    let source = data::source(SourceName::Cargo, data_dir, context)?;
    let options = data::options(source, data_dir.to_owned(), context);
    let manifest = data::prepare(&options, context)?;
    for (name, value) in manifest_facts(&manifest) {
        eprintln!("data      {name}: {value}");
    }
    Ok(())
}

/// A budget given again must be the one the folder was made with: scores of different budgets do not compare.
fn same_budget(args: &Args, task: &Task) -> anyhow::Result<()> {
    let asked = args.budget.map(Budget::Seconds);
    if asked.is_none_or(|asked| asked == task.budget) {
        return Ok(());
    }
    let made = html::budget(task.budget);
    let failure = Failure::new(format!("{} was made for {made} a trial", args.dir.display()));
    Err(failure.hint("leave `--budget` out, or choose another folder with `--dir`").into())
}

/// The commands that have something to do after what the run found.
fn next_steps(task_dir: &Path, context: &Context) -> anyhow::Result<()> {
    let (state, _) = runner::load(task_dir, None)?;
    let found = |trial: Option<TrialId>| trial.is_some_and(|trial| trial != 0);
    let program = context.program_word();
    let here = std::env::current_dir().unwrap_or_default();
    let task = quoted(&task_dir.strip_prefix(&here).unwrap_or(task_dir).to_string_lossy());
    let mut steps = Vec::new();
    if found(state.incumbent) {
        steps.push(("diff", "", "what the tip changed"));
    }
    if !state.uncertified().is_empty() {
        steps.push(("certify", "", "audit what was kept and not certified yet"));
    }
    if found(state.certified) {
        steps.push(("merge", "", "bring the certified champion to the task's main branch"));
    }
    steps.push(("noise", "", "how large the noise is, and how well that is known"));
    steps.push(("run", " --for 30m", "go on"));
    steps.push(("run", " --new --proposer 'command:YOUR-AGENT'", "let an agent propose"));
    println_or_stop("")?;
    println_or_stop("next")?;
    let lines =
        steps.iter().map(|(verb, options, what)| (format!("{program} {verb} --task {task}{options}"), what));
    let lines: Vec<_> = lines.collect();
    let width = lines.iter().map(|(line, _)| line.chars().count()).max().unwrap_or(0);
    for (line, what) in lines {
        println_or_stop(&format!("  {line:<width$}  {what}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn a_folder_that_was_made_keeps_its_budget() {
        let args = |words: &[&str]| Line::parse_from(["quickstart"].iter().chain(words)).args;
        let text = r#"
            format = 1
            name = "made"
            files.mutable = ["a"]
            run.command = ["a"]
            metric = { name = "loss", direction = "lower", pattern = "(.*)" }
            budget.seconds = 5
        "#;
        let made = Task::parse(text, Path::new("/nowhere")).unwrap();
        assert_eq!(budget(&args(&[]), Some(&made)), Budget::Seconds(5.0));
        assert_eq!(budget(&args(&["--budget", "10s"]), None), Budget::Seconds(10.0));
        assert_eq!(budget(&args(&[]), None), Budget::Seconds(init::DEFAULT_BUDGET_SECONDS));
        assert!(same_budget(&args(&["--budget", "10s"]), &made).is_err());
    }
}
