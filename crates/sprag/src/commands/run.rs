//! `sprag run`: start or resume a run.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use sprag_engine::event::{Event, Observer};
use sprag_engine::proposer::{AskingLimits, ProposerSpec, SpecError};
use sprag_engine::record::Mix;
use sprag_engine::runner::{self, Layout};
use sprag_engine::state::State;
use sprag_engine::task::Task;

use super::{Recorded, TaskArgs, parse_seconds, println_or_stop};
use crate::context::Context;
use crate::error::Failure;
use crate::exit_code::ExitCode;
use crate::numbers;
use crate::report::model::{Mark, Page};
use crate::ui::console::{Console, Limits};
use crate::ui::{Tone, tame, toned, words};

/// Start a run, or resume the one that was stopped
///
/// The baseline is measured first, several times, to learn the noise. Then each proposal is built, tried on
/// a few steps, run on the full budget and scored by the evaluator; what looks better is run again, and what is
/// better advances the branch `sprag/<run>`. Every few keeps, and before a run ends for another reason than its
/// time, the tip is audited against the last certified champion with fresh seeds; what is not borne out is taken
/// back. Your checkout is not touched. Ctrl-C once stops after recording, twice kills; the same command resumes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: sprag run --for 30m
         sprag run --new --proposer 'command:my-agent --once' --trials 20")]
pub struct Args {
    #[command(flatten)]
    task: TaskArgs,
    #[command(flatten)]
    limits: LimitArgs,
    /// Begin a new run, even if there is an unfinished one
    #[arg(long)]
    new: bool,
    /// Who proposes: search, optuna, inbox, patches:DIR, command:CMD, claude, codex, gemini, opencode, aider (each also as NAME:MODEL),
    /// acp:COMMAND for any agent that speaks the Agent Client Protocol, or chat:MODEL@URL for a model behind HTTP; several take
    /// turns, as often as the number says that may stand before each (`2:claude`)
    #[arg(long, value_name = "[WEIGHT:]PROPOSER", default_value = "search")]
    proposer: Vec<Weighted>,
    /// How several share the trials: by their weights (each is 1 where none is given), or by the certified gain that each
    /// brings for what its trials cost
    #[arg(long, value_enum, default_value_t = MixName::Weights)]
    mix: MixName,
    /// What an hour of this machine costs, in US dollars, where `--mix bandit` adds time and money up
    #[arg(long, value_name = "USD", value_parser = parse_usd, default_value = "1")]
    usd_per_hour: f64,
    #[command(flatten)]
    asking: AskingArgs,
    #[command(flatten)]
    safety: SafetyArgs,
    /// Print every event as one JSON object a line
    #[arg(long)]
    json: bool,
}

/// A proposer and its share.
#[derive(Clone, Debug)]
struct Weighted {
    weight: Option<f64>,
    spec: ProposerSpec,
}

impl std::str::FromStr for Weighted {
    type Err = String;

    /// `2:claude`: no proposer's name begins with a digit.
    fn from_str(text: &str) -> Result<Weighted, String> {
        let weight = text
            .split_once(':')
            .filter(|(weight, _)| weight.starts_with(|c: char| c.is_ascii_digit() || c == '.'));
        let (weight, spec) = match weight {
            None => (None, text),
            Some((weight, spec)) => match weight.parse::<f64>() {
                Ok(weight) if weight > 0.0 && weight.is_finite() => (Some(weight), spec),
                _ => {
                    return Err(format!("`{weight}` is no weight; write a number above 0, as in `2:claude`"));
                }
            },
        };
        let spec = spec.parse().map_err(|error: SpecError| error.to_string())?;
        Ok(Weighted { weight, spec })
    }
}

/// How several proposers share the trials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum MixName {
    /// In turns, as often as their weights say
    Weights,
    /// By certified gain per dollar and hour
    Bandit,
}

/// The rule, from what was asked for.
fn mix_of(proposers: &[Weighted], name: MixName, usd_per_hour: f64) -> anyhow::Result<Mix> {
    let mut weights = BTreeMap::new();
    for proposer in proposers {
        let name = proposer.spec.to_string();
        if weights.insert(name.clone(), proposer.weight.unwrap_or(1.0)).is_some() {
            return Err(Failure::new(format!("the proposer `{name}` is named twice"))
                .hint(format!("give it a weight instead: `--proposer 2:{name}`"))
                .into());
        }
    }
    if name == MixName::Weights {
        return Ok(Mix::Weights(weights));
    }
    if proposers.iter().any(|proposer| proposer.weight.is_some()) {
        return Err(Failure::new("`--mix bandit` and weights exclude each other")
            .hint("leave the weights out: the bandit finds them, or leave `--mix bandit` out")
            .into());
    }
    Ok(Mix::Bandit { usd_per_hour })
}

/// When a run ends, and what its chance depends on.
#[derive(Clone, Debug, clap::Args)]
pub struct LimitArgs {
    /// Most trials in the whole run, the baseline not counted
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub trials: Option<u32>,
    /// Begin no trial that would end later than this from now: 90s, 10m, 1.5h
    #[arg(long = "for", value_name = "TIME", value_parser = parse_seconds)]
    pub seconds: Option<f64>,
    /// Seed of a new run: all its seeds are derived from it
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    pub seed: u64,
}

/// What proposers may spend; counted over the whole run, also when it is resumed.
#[derive(Clone, Debug, clap::Args)]
pub struct AskingArgs {
    /// End the run when proposers have cost so many US dollars, as far as they tell
    #[arg(long, value_name = "USD", value_parser = parse_usd)]
    pub max_usd: Option<f64>,
    /// End the run when proposers' models have read and written so many tokens
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub max_tokens: Option<u64>,
    /// Longest time of one asking of an agent [default: 30m]
    #[arg(long, value_name = "TIME", value_parser = parse_seconds)]
    pub agent_timeout: Option<f64>,
}

impl AskingArgs {
    fn limits(&self) -> AskingLimits {
        let default = AskingLimits::default();
        let agent_timeout = self.agent_timeout.map_or(default.agent_timeout, Duration::from_secs_f64);
        AskingLimits { max_usd: self.max_usd, max_tokens: self.max_tokens, agent_timeout, ..default }
    }
}

fn parse_usd(text: &str) -> Result<f64, String> {
    match text.trim_start_matches('$').parse::<f64>() {
        Ok(usd) if usd > 0.0 && usd.is_finite() => Ok(usd),
        _ => Err("write an amount such as 2.50".to_owned()),
    }
}

/// Whether code may run unconfined.
#[derive(Clone, Debug, clap::Args)]
pub struct SafetyArgs {
    /// Go on where the sandbox lacks a part here; the ledger and every report will say so
    #[arg(long)]
    pub allow_unsandboxed: bool,
}

/// Runs, then prints a summary and writes the report.
pub fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    let mix = mix_of(&args.proposer, args.mix, args.usd_per_hour)?;
    let task = context.task(&args.task.task)?;
    let plan = Plan {
        run: args.task.run,
        new_run: args.new,
        proposers: args.proposer.into_iter().map(|proposer| proposer.spec).collect(),
        mix,
        limits: args.limits,
        asking: args.asking.limits(),
        safety: args.safety,
        json: args.json,
        report: None,
    };
    carry_out(task, plan, context)
}

/// A run as asked for.
pub struct Plan {
    /// Its name.
    pub run: Option<String>,
    /// Begin a new one.
    pub new_run: bool,
    /// Who proposes.
    pub proposers: Vec<ProposerSpec>,
    /// How several share the trials.
    pub mix: Mix,
    /// When it ends.
    pub limits: LimitArgs,
    /// What proposers may spend.
    pub asking: AskingLimits,
    /// How it is confined.
    pub safety: SafetyArgs,
    /// JSON instead of words.
    pub json: bool,
    /// A second place for the report.
    pub report: Option<PathBuf>,
}

/// Carries a run on to its end or a stop.
pub fn carry_out(task: Task, plan: Plan, context: &Context) -> anyhow::Result<ExitCode> {
    for proposer in &plan.proposers {
        proposer.check(&context.environment.variables, &plan.asking)?;
    }
    let dir = task.dir.clone();
    let before = if plan.new_run { State::default() } else { recorded_before(&task, plan.run.as_deref()) };
    let mut setup = context.setup(task, plan.run.clone())?;
    setup.new_run = plan.new_run;
    setup.proposers = plan.proposers;
    setup.mix = plan.mix;
    setup.asking = plan.asking;
    setup.seed = plan.limits.seed;
    setup.max_trials = plan.limits.trials;
    setup.max_seconds = plan.limits.seconds;
    let interrupt = context.confine(&mut setup, plan.safety.allow_unsandboxed)?;
    let limits = Limits { seconds: plan.limits.seconds, trials: plan.limits.trials };
    let state = if plan.json {
        runner::run(setup, &mut JsonLines)?
    } else {
        let mut console = Console::new(context.terminal, limits, before);
        let state = runner::run(setup, &mut console);
        console.finish();
        state?
    };
    let name = state.run.as_ref().map(|run| run.run.clone());
    let args = TaskArgs { task: dir, run: name };
    let reports = write_reports(&args, plan.report, context);
    if !plan.json {
        let recorded = Recorded::load(context, &args)?;
        summary(&recorded.page, context)?;
        if let Some(path) = reports.last() {
            println_or_stop(&format!("report    {}", path.display()))?;
        }
    }
    if interrupt.happened() {
        if !plan.json {
            eprintln!("stopped; the same command resumes");
        }
        return Ok(ExitCode::Interrupted);
    }
    Ok(if state.baseline().is_none() { ExitCode::Invalid } else { ExitCode::Success })
}

/// What was recorded of a run so far; nothing of one that is about to begin.
pub(super) fn recorded_before(task: &Task, run: Option<&str>) -> State {
    runner::load(&task.dir, run).map(|(state, _)| state).unwrap_or_default()
}

/// A report that cannot be written is a warning: the run is recorded.
fn write_reports(args: &TaskArgs, also: Option<PathBuf>, context: &Context) -> Vec<PathBuf> {
    let mut written = Vec::new();
    let recorded = match Recorded::load_whole(context, args) {
        Ok(recorded) => recorded,
        Err(error) => {
            eprintln!(
                "warning: cannot write the report: {error:#}\nhint: try `sprag report`, or `sprag doctor`"
            );
            return written;
        }
    };
    let own = Layout::of(&recorded.task.dir).run(&recorded.page.run).join("report.html");
    for path in std::iter::once(own).chain(also) {
        match super::report::write(&recorded.page, &path) {
            Ok(()) => written.push(path),
            Err(error) => {
                eprintln!("warning: {error:#}\nhint: write it elsewhere with `sprag report --out FILE`")
            }
        }
    }
    written
}

/// The run in a few lines: what is certified, the tip, wins, invalid trials by reason, where the time went.
pub fn summary(page: &Page, context: &Context) -> anyhow::Result<()> {
    println_or_stop("")?;
    let Some(headline) = &page.headline else {
        let why = page
            .trials
            .first()
            .and_then(|trial| trial.reason.clone())
            .unwrap_or_else(|| "it is not measured yet".to_owned());
        return println_or_stop(&format!("baseline  has no noise floor: {}", tame(&why)));
    };
    for line in words::headline(headline, page) {
        println_or_stop(&line)?;
    }
    if page.tentative > 0 {
        println_or_stop(
            "next      `sprag certify` audits what is tentative; `sprag merge` takes what is certified",
        )?;
    }
    println_or_stop(&format!("trials    {}", words::counts(&page.counts)))?;
    if page.yields.len() > 1 {
        for line in words::yields(page) {
            println_or_stop(&line)?;
        }
    }
    let wins = || page.trials.iter().filter(|trial| trial.mark == Mark::Win);
    for trial in wins() {
        if let Some(effect) = &trial.effect {
            let word = toned("win", Tone::Good, context.terminal.colour_out);
            let effect = words::effect(effect, page.decimals);
            println_or_stop(&format!("{word}       trial {:<3} {effect}  {}", trial.id, tame(&trial.title)))?;
        }
    }
    if wins().filter_map(|trial| trial.effect.as_ref()).any(|effect| effect.low <= 0.0) {
        println_or_stop("note      a gain is of the repeats alone, a win of all runs of its trial together")?;
    }
    if page.counts.invalid_total() > 0 {
        println_or_stop(&format!("invalid   {}", words::reasons(&page.counts)))?;
    }
    let time = &page.time;
    println_or_stop(&format!(
        "time      {}: training {}, evaluation {}, builds {}, smoke tests {}, other running {}, sprag itself {}",
        numbers::duration(time.total_seconds),
        numbers::duration(time.train_seconds),
        numbers::duration(time.evaluation_seconds),
        numbers::duration(time.build_seconds),
        numbers::duration(time.smoke_seconds),
        numbers::duration(time.other_run_seconds),
        numbers::duration(time.engine_seconds)
    ))?;
    match &page.scoring {
        Some(scoring) => println_or_stop(&format!("scoring   {scoring}")),
        None => Ok(()),
    }
}

/// Every event on a line of its own.
struct JsonLines;

impl Observer for JsonLines {
    fn observe(&mut self, event: &Event) {
        // A view may fail: the loop goes on.
        if let Ok(line) = serde_json::to_string(event) {
            let _ = writeln!(std::io::stdout().lock(), "{line}");
        }
    }
}
