//! `sprag gate replay FILE`: what the keeps of a greedy loop prove.

use std::path::PathBuf;

use serde::Serialize;
use sprag_engine::gate::replay::{self, AtSigma, Class, Judged, Replay};

use crate::commands::{print_json, println_or_stop};
use crate::error::Failure;
use crate::exit_code::ExitCode;
use crate::numbers;
use crate::ui::tame;

/// Version of the JSON form.
const FORMAT: u32 = 1;

/// Noise of one run that re-runs of karpathy's script showed elsewhere, in bits per byte: about the median of many
/// configurations, each run again within one run and node (0.00018); one configuration over nodes (0.0005); and a
/// value between them.
const PUBLISHED: [f64; 3] = [0.00018, 0.00025, 0.0005];

/// Where [`PUBLISHED`] comes from.
const PUBLISHED_SOURCE: &str = "ferreirafabio/autoresearch-automl re-runs on H200";

/// The metric for which [`PUBLISHED`] holds.
const PUBLISHED_METRIC: &str = "val_bpb";

/// Judge the keeps that karpathy/autoresearch recorded: which of them are more than noise
///
/// FILE is its results.tsv: commit, val_bpb, memory_gb, status (keep, discard, crash) and description, separated
/// by tabs, with a header; lines that begin with # are skipped, and a lower metric is better. Such a loop runs
/// every candidate once and keeps what scores better than the best before. Each keep's gain is compared with the
/// noise of one run: could a single pair prove it (one-sided, 95 %), and how many pairs find a gain of that size
/// in 8 cases of 10.
///
/// The noise is not in the file, because nothing was run twice. It must come from repeats of one configuration
/// on the same machine; without --sigma the table shows values that re-runs of the script showed elsewhere.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: sprag gate replay results.tsv
         sprag gate replay results.tsv --sigma 0.00025 --json | jq '.sigmas[0].below'")]
pub struct ReplayArgs {
    /// The recorded results
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Standard deviation of one run, in units of the metric, from repeats; may be given several times
    #[arg(long, value_name = "S", value_parser = parse_sigma)]
    sigma: Vec<f64>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The JSON form; `docs/format.md` documents it.
#[derive(Debug, Serialize)]
struct View {
    format: u32,
    #[serde(flatten)]
    replay: Replay,
    /// Where the noise comes from: the command line, or a publication.
    sigma_source: &'static str,
    sigmas: Vec<AtSigma>,
}

/// Judges the file.
pub fn run(args: ReplayArgs) -> anyhow::Result<ExitCode> {
    let path = args.file.display();
    let text = std::fs::read_to_string(&args.file).map_err(|error| {
        Failure::new(format!("cannot read {path}: {error}")).hint("name the results.tsv that the loop wrote")
    })?;
    let replay = replay::parse(&text)
        .and_then(|results| Replay::of(&results))
        .map_err(|error| Failure::new(format!("cannot replay {path}: {error}")).hint(error.hint()))?;
    let view = view(replay, &args.sigma)?;
    if args.json {
        print_json(&view)?;
        return Ok(ExitCode::Success);
    }
    for line in lines(&view) {
        println_or_stop(&line)?;
    }
    Ok(ExitCode::Success)
}

fn parse_sigma(text: &str) -> Result<f64, String> {
    let sigma = text.parse::<f64>().ok().filter(|sigma| sigma.is_finite() && *sigma > 0.0);
    sigma.ok_or_else(|| "the noise of one run is a number above zero, such as 0.00025".to_owned())
}

fn view(replay: Replay, given: &[f64]) -> Result<View, Failure> {
    if given.is_empty() && replay.metric != PUBLISHED_METRIC {
        let failure = Failure::new(format!("the noise of one run is not known for {}", tame(&replay.metric)));
        return Err(failure.hint("run one configuration at least 5 times and pass --sigma SD"));
    }
    let (sigma_source, sigmas) =
        if given.is_empty() { (PUBLISHED_SOURCE, PUBLISHED.as_slice()) } else { ("--sigma", given) };
    let sigmas = sigmas.iter().map(|&sigma| replay.at(sigma)).collect();
    Ok(View { format: FORMAT, replay, sigma_source, sigmas })
}

fn lines(view: &View) -> Vec<String> {
    let replay = &view.replay;
    let decimals = 6;
    let metric = tame(&replay.metric);
    let mut lines = vec![
        format!(
            "rows      {}: the baseline, {} keeps after it, {} discarded, {} crashed",
            replay.rows,
            replay.keeps.len(),
            replay.discarded,
            replay.crashed
        ),
        format!(
            "recorded  {metric} {} to {}: a gain of {}, each from one run against one run",
            numbers::plain(replay.baseline, decimals),
            numbers::plain(replay.best, decimals),
            numbers::plain(replay.total_gain, decimals)
        ),
        format!(
            "chance    {:.1} keeps are expected among {} scored runs that do not differ at all",
            replay.chance.false_keeps, replay.chance.scored
        ),
        String::new(),
    ];
    lines.extend(totals(view));
    lines.push(String::new());
    lines.extend(table(view));
    lines.push(String::new());
    lines.extend(caveats(view));
    lines
}

/// One line for each sigma.
fn totals(view: &View) -> Vec<String> {
    let heading = format!(
        "{:>9}  {:>15}  {:>11}  {:>12}  {:>17}",
        "sigma", "one pair proves", "keeps below", "of the gain", "flattery, at most"
    );
    let line = |at: &AtSigma| {
        let share = at.below_share.map_or("-".to_owned(), |share| format!("{:.1} %", 100.0 * share));
        format!(
            "{:>9}  {:>15}  {:>11}  {share:>12}  {:>17}",
            at.sigma,
            numbers::plain(at.one_pair_proves, 6),
            format!("{} of {}", at.below, at.keeps.len()),
            numbers::plain(at.optimism_at_most, 6)
        )
    };
    std::iter::once(heading).chain(view.sigmas.iter().map(line)).collect()
}

/// One line for each keep, with a column for each sigma.
fn table(view: &View) -> Vec<String> {
    let (one, metric) = (view.sigmas.len() == 1, tame(&view.replay.metric));
    let width = if one { 34 } else { 18 };
    let mut heading = format!("{:>4}  {:<9}  {metric:>9}  {:>9}", "row", "commit", "gain");
    for at in &view.sigmas {
        heading += &format!("  {:<width$}", format!("at sigma {}", at.sigma));
    }
    let line = |(index, keep): (usize, &replay::Keep)| {
        let mut line = format!(
            "{:>4}  {:<9}  {:>9}  {:>9}",
            keep.row,
            tame(&keep.commit),
            numbers::plain(keep.value, 6),
            numbers::signed(keep.gain, 6)
        );
        for at in &view.sigmas {
            line += &format!("  {:<width$}", cell(&at.keeps[index], one));
        }
        format!("{line}  {}", tame(&keep.description)).trim_end().to_owned()
    };
    std::iter::once(heading + "  description").chain(view.replay.keeps.iter().enumerate().map(line)).collect()
}

/// `z 46.6 proven by one pair`, `z 0.4 within noise, 310 pairs`; shorter when there are several columns.
fn cell(judged: &Judged, whole: bool) -> String {
    let z = format!("z {:.1}", judged.z);
    match (judged.class, judged.pairs) {
        (Class::NoGain, _) | (_, None) => format!("{z} {}", Class::NoGain.words()),
        (Class::ProvenByOnePair, _) if whole => format!("{z} {}", judged.class.words()),
        (Class::ProvenByOnePair, _) => format!("{z} proven"),
        (_, Some(pairs)) if whole => format!("{z} {}, {}", judged.class.words(), numbers::pairs(pairs)),
        (_, Some(pairs)) => format!("{z} {}", numbers::pairs(pairs)),
    }
}

/// What the numbers do not say.
fn caveats(view: &View) -> Vec<String> {
    let mut lines = vec![
        "proven: one such comparison is 1.645 sd of a difference (√2 sigma) above zero, one-sided 95 %."
            .to_owned(),
        "pairs: how many fresh pairs find a true gain of that size in 8 cases of 10. Recorded gains were"
            .to_owned(),
        "selected for being large, so the truth needs more; and of 20 changes without any effect one passes."
            .to_owned(),
        "flattery: how much the last score owes to luck on average, at the most (all candidates equal)."
            .to_owned(),
    ];
    let published = view.sigma_source == PUBLISHED_SOURCE;
    if published {
        lines.push(format!("sigma: from {PUBLISHED_SOURCE}, not from this machine."));
    }
    lines.push(
        "The file holds no repeats, so it cannot say what its noise is: sigma must come from repeats."
            .to_owned(),
    );
    if published {
        lines.push(
            "Run the baseline at least 5 times and pass their standard deviation as --sigma.".to_owned(),
        );
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESULTS: &str = "commit\tval_bpb\tmemory_gb\tstatus\tdescription\n\
        a000000\t1.000000\t44.0\tkeep\tbaseline\n\
        a000001\t0.990000\t44.0\tkeep\ta large \u{1b}[2Jstep\n\
        a000002\t0.991000\t44.0\tdiscard\tnot better\n\
        a000003\t0.989800\t44.0\tkeep\ta small step\n\
        a000004\t0.989800\t44.0\tkeep\tthe same\n";

    fn shown(text: &str, sigmas: &[f64]) -> Result<Vec<String>, Failure> {
        let replay = Replay::of(&replay::parse(text).unwrap()).unwrap();
        view(replay, sigmas).map(|view| lines(&view))
    }

    fn has(lines: &[String], text: &str) -> bool {
        lines.iter().any(|line| line.contains(text))
    }

    #[test]
    fn one_sigma_is_shown_in_whole_words() {
        let lines = shown(RESULTS, &[0.001]).unwrap();
        let expect = [
            "   2  a000001     0.990000  +0.010000  z 7.1 proven by one pair            a large  [2Jstep",
            "   4  a000003     0.989800  +0.000200  z 0.1 within noise, 310 pairs       a small step",
            "   5  a000004     0.989800  +0.000000  z 0.0 no gain                       the same",
            "    0.001         0.002326       2 of 3         2.0 %           0.001163",
        ];
        for line in expect {
            assert!(lines.iter().any(|shown| shown == line), "{line}\n{}", lines.join("\n"));
        }
        assert!(!has(&lines, PUBLISHED_SOURCE) && has(&lines, "must come from repeats"));
    }

    #[test]
    fn without_a_sigma_several_are_shown_with_their_source() {
        let lines = shown(RESULTS, &[]).unwrap();
        assert!(has(&lines, "at sigma 0.00018") && has(&lines, "at sigma 0.0005"), "{}", lines.join("\n"));
        assert!(has(&lines, "z 39.3 proven") && has(&lines, "z 0.8 11 pairs"), "{}", lines.join("\n"));
        assert!(has(&lines, PUBLISHED_SOURCE) && has(&lines, "pass their standard deviation as --sigma"));
    }

    #[test]
    fn the_noise_of_another_metric_is_not_guessed() {
        let other = RESULTS.replace("val_bpb", "loss");
        assert!(shown(&other, &[]).unwrap_err().to_string().contains("not known for loss"));
        assert!(shown(&other, &[0.1]).is_ok());
    }

    #[test]
    fn a_sigma_is_a_number_above_zero() {
        assert_eq!(parse_sigma("2.5e-4"), Ok(0.00025));
        for text in ["0", "-1", "inf", "NaN", "small"] {
            assert!(parse_sigma(text).is_err(), "{text}");
        }
    }
}
