//! `sprag gate simulate`: what a policy risks, finds, spends and gains.

use std::path::PathBuf;

use anyhow::Context as _;
use serde::Serialize;
use sprag_engine::gate::simulate::{self, Figures, Kind, Request};
use sprag_engine::record::{Policy, Preset};

use crate::commands::{print_json, println_or_stop};
use crate::error::Failure;
use crate::exit_code::ExitCode;

/// Version of the JSON form.
const FORMAT: u32 = 1;

/// Measure a policy: false keeps, power, runs spent, optimism, gain against a loop without statistics
///
/// The functions that decide in a run are played against noise: normal, heavy-tailed, or recorded re-runs of
/// identical configurations in the order in which they were made (--reruns: a CSV file with the columns
/// group,order,val_bpb,num_steps,tokens_per_second). All effects are in standard deviations of one run. Everything
/// is drawn from the seed and comes out the same on every machine. docs/statistics.md explains each figure.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: sprag gate simulate --preset strict
         sprag gate simulate --reruns reruns.csv --json | jq .certified_false_keep")]
pub struct SimulateArgs {
    /// Recorded re-runs instead of invented noise
    #[arg(long, value_name = "FILE", conflicts_with = "noise")]
    reruns: Option<PathBuf>,
    /// Kind of invented noise
    #[arg(long, default_value = "gaussian", value_parser = ["gaussian", "heavy-tailed", "drifting"])]
    noise: String,
    /// The policy
    #[arg(long, default_value = "balanced", value_parser = ["explore", "balanced", "strict", "naive"])]
    preset: String,
    /// Draws of each figure; campaigns are a fiftieth of that
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(100..))]
    draws: u32,
    /// Seed of all draws
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    seed: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct View {
    format: u32,
    policy: Policy,
    draws: u32,
    seed: u64,
    /// Recorded configurations.
    #[serde(skip_serializing_if = "Option::is_none")]
    groups: Option<usize>,
    #[serde(flatten)]
    figures: Figures,
}

/// Does it.
pub fn run(args: SimulateArgs) -> anyhow::Result<ExitCode> {
    let preset = Preset::ALL.into_iter().find(|preset| preset.word() == args.preset).unwrap_or_default();
    let policy = preset.policy();
    let (kind, rates) = match (&args.reruns, args.noise.as_str()) {
        (Some(path), _) => recorded(path)?,
        (None, "heavy-tailed") => (Kind::HeavyTailed, Vec::new()),
        (None, "drifting") => (Kind::Drifting, Vec::new()),
        (None, _) => (Kind::Gaussian, Vec::new()),
    };
    let groups = match &kind {
        Kind::Recorded(groups) => Some(groups.len()),
        _ => None,
    };
    let request = Request { policy, draws: args.draws, seed: args.seed, rates };
    let figures = simulate::study(&kind, &request);
    if figures.candidates == 0 || figures.audits == 0 {
        return Err(Failure::new(format!(
            "there are too few re-runs: the figures need at least {} with a spread",
            simulate::least_runs(&policy)
        ))
        .hint("record more of them, or leave --reruns out")
        .into());
    }
    let view = View { format: FORMAT, policy, draws: args.draws, seed: args.seed, groups, figures };
    if args.json {
        print_json(&view)?;
    } else {
        say(&view)?;
    }
    Ok(ExitCode::Success)
}

/// Scores and, where they were recorded, throughputs, by configuration.
fn recorded(path: &std::path::Path) -> anyhow::Result<(Kind, Vec<Vec<f64>>)> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let reruns = simulate::parse_reruns(&text)
        .map_err(|error| Failure::new(format!("cannot use {}: {error}", path.display())))?;
    let groups = simulate::groups_of(&reruns);
    let scores = groups.values().map(|group| group.iter().map(|rerun| rerun.val_bpb).collect());
    let rates =
        groups.values().map(|group| group.iter().filter_map(|rerun| rerun.tokens_per_second).collect());
    Ok((Kind::Recorded(scores.collect()), rates.filter(|rates: &Vec<f64>| !rates.is_empty()).collect()))
}

fn say(view: &View) -> anyhow::Result<()> {
    let figures = &view.figures;
    let cases = match view.groups {
        Some(groups) => format!("{groups} configurations"),
        None => format!("{} draws", view.draws),
    };
    println_or_stop(&format!(
        "policy {}, {} noise, {cases}, seed {}",
        view.policy.preset, figures.noise, view.seed
    ))?;
    let percent = |share: f64| format!("{:.2} %", share * 100.0);
    for (value, what) in [
        (
            percent(figures.tentative_false_keep),
            format!("of {} candidates that are no better are kept", figures.candidates),
        ),
        (
            percent(figures.certified_false_keep),
            format!("of {} audits of a tip that is no better certify it", figures.audits),
        ),
        (percent(figures.power_2sigma), "of candidates 2 sigma better are kept".to_owned()),
        (percent(figures.power_3sigma), "of candidates 3 sigma better are kept".to_owned()),
        (percent(figures.audit_power_3sigma), "of audits of a tip 3 sigma better certify it".to_owned()),
        (
            format!("{:.2}", figures.runs_per_null),
            "runs are spent on a candidate that is no better".to_owned(),
        ),
        (
            format!("{:.2}", figures.pairs_per_null_audit),
            "pairs are spent on an audit of a tip that is no better".to_owned(),
        ),
        (
            format!("{:+.2} σ", figures.optimism_sigma),
            format!(
                "optimism of the final value (a loop without statistics: {:+.2})",
                figures.naive_optimism_sigma
            ),
        ),
    ] {
        println_or_stop(&format!("{value:>10}  {what}"))?;
    }
    if let (Some(found), Some(alarms)) = (figures.dips_found, figures.dip_false_alarms) {
        let what = format!("of planted 5 % dips of throughput are called ({} false alarms)", percent(alarms));
        println_or_stop(&format!("{:>10}  {what}", percent(found)))?;
    }
    println_or_stop("")?;
    println_or_stop(&format!(
        "searches of {} runs; true gains in sigma          ours  certified   naive   ratio  extra runs  false keeps (naive)",
        figures.campaigns.first().map_or(0, |campaign| campaign.runs)
    ))?;
    for campaign in &figures.campaigns {
        println_or_stop(&format!(
            "  {:<46} {:>7.2} {:>10.2} {:>7.2} {:>7} {:>10.0} % {:>8.0} % ({:.0} %)",
            format!("{}, effects {}", campaign.regime.words(), campaign.spread.words()),
            campaign.tip_gain_sigma,
            campaign.certified_gain_sigma,
            campaign.naive_gain_sigma,
            campaign.ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}")),
            campaign.extra_runs * 100.0,
            campaign.false_keeps * 100.0,
            campaign.naive_false_keeps * 100.0,
        ))?;
    }
    Ok(())
}
