//! `sprag noise`: how large the noise of a run is, and what it is made of.

use serde_json::json;
use sprag_engine::noise::{self, Noise};
use sprag_engine::record::Direction;
use sprag_engine::runner;
use sprag_engine::state::State;

use super::{TaskArgs, empty, print_json, println_or_stop};
use crate::context::Context;
use crate::exit_code::ExitCode;
use crate::numbers;
use crate::ui::tame;

/// Version of the JSON form.
const FORMAT: u32 = 1;

/// From this p-value down something is said to be seen.
const SEEN: f64 = 0.05;

/// Show a run's noise: its size and how well that is known, tails, drift, speed against score
///
/// Everything comes from code that was executed more than once: the baseline, repeats, anchors, audits. Screening
/// runs are left out, because those that were followed by others had been selected for being good. Reads the
/// ledger alone: it disturbs no run that is under way.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example: sprag noise --task sprag-quickstart/task\n         sprag noise --json | jq .sigma"
)]
pub struct Args {
    #[command(flatten)]
    task: TaskArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Prints it.
pub fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    let task = context.task(&args.task.task)?;
    let (state, lines) = runner::load(&task.dir, args.task.run.as_deref())?;
    let Some(run) = &state.run else { return Err(empty(&task).into()) };
    let noise =
        noise::of(&state, &noise::ended_at(lines.iter().map(|line| (line.at.as_str(), &line.record))));
    if args.json {
        let mut view = json!({ "format": FORMAT, "task": run.task, "run": run.run, "metric": run.metric });
        if let (Some(view), serde_json::Value::Object(noise)) =
            (view.as_object_mut(), serde_json::to_value(&noise)?)
        {
            view.extend(noise);
        }
        print_json(&view)?;
        return Ok(ExitCode::Success);
    }
    for line in words(&noise, &state) {
        println_or_stop(&line)?;
    }
    Ok(ExitCode::Success)
}

fn words(noise: &Noise, state: &State) -> Vec<String> {
    // One digit more than a score deserves: here the spread itself is looked at.
    let decimals = numbers::decimals(noise.sigma.map(|sigma| sigma.sd.estimate)) + 1;
    let mut lines = vec![format!("floor     {}", floor(noise, decimals))];
    if let Some(run) = &state.run {
        let better = match noise.direction {
            Direction::Lower => "lower",
            Direction::Higher => "higher",
        };
        lines.push(format!("run       {} of task {}: {}, {better} is better", run.run, run.task, run.metric));
    }
    lines.extend(noise.arms.iter().map(|arm| {
        let title = match arm.trial {
            0 => "the code as it was",
            trial => state.trial(trial).map_or("", |trial| trial.title()),
        };
        format!(
            "arm       trial {:>3}  {} ± {} (sd, n={})  {}",
            arm.trial,
            numbers::plain(arm.mean, decimals),
            numbers::plain(arm.sd, decimals),
            arm.n,
            tame(title)
        )
    }));
    if noise.single > 0 {
        let arms = if noise.single == 1 { "1 arm" } else { &format!("{} arms", noise.single) };
        lines.push(format!(
            "left out  {arms} with one score or a screening run alone: one run shows no noise"
        ));
    }
    lines.push(format!("sigma     {}", sigma(noise, decimals)));
    lines.push(format!("tails     {}", farthest(noise)));
    lines.push(format!("          {}", kurtosis(noise)));
    lines.push(format!("drift     {}", drift(noise, decimals)));
    lines.push(format!("speed     {}", speed(noise)));
    lines
}

fn sigma(noise: &Noise, decimals: usize) -> String {
    let Some(sigma) = noise.sigma else {
        return "unknown: no code was executed twice; `sprag run` measures the baseline several times"
            .to_owned();
    };
    let [sd, low, high] =
        [sigma.sd.estimate, sigma.sd.low, sigma.sd.high].map(|value| numbers::plain(value, decimals));
    format!(
        "{sd} [{low}, {high}] at {:.0} % for one run, from {} degrees of freedom",
        100.0 * sigma.sd.level,
        sigma.degrees_of_freedom
    )
}

fn farthest(noise: &Noise) -> String {
    let Some(farthest) = noise.farthest else {
        return match noise.sigma {
            Some(sigma) if sigma.sd.estimate == 0.0 => "unknown: all repeats have the same score".to_owned(),
            _ => format!("unknown: needs {} degrees of freedom", noise::FREEDOM),
        };
    };
    let so = if farthest.p <= SEEN { "an outlier" } else { "no outlier" };
    format!(
        "run {} of trial {} lies farthest off, {} sd: {so} ({})",
        farthest.measure,
        farthest.arm,
        numbers::signed(farthest.studentised, 1),
        p_value(farthest.p)
    )
}

fn kurtosis(noise: &Noise) -> String {
    let Some(kurtosis) = noise.kurtosis else {
        let runs = noise.sigma.map_or(0, |sigma| sigma.sd.n);
        return match noise.sigma {
            Some(sigma) if sigma.sd.estimate == 0.0 => "excess kurtosis unknown: no spread".to_owned(),
            _ => format!("excess kurtosis unknown: needs {} runs, has {runs}", noise::KURTOSIS_RUNS),
        };
    };
    let heavy =
        if kurtosis.excess > 2.0 * kurtosis.standard_error { "heavy" } else { "not shown to be heavy" };
    format!(
        "excess kurtosis {} ± {} (standard error, n={}): {heavy}",
        numbers::signed(kurtosis.excess, 1),
        numbers::plain(kurtosis.standard_error, 1),
        kurtosis.n
    )
}

fn drift(noise: &Noise, decimals: usize) -> String {
    let Some(drift) = noise.drift else {
        return match noise.sigma {
            Some(sigma) if sigma.sd.estimate == 0.0 => "unknown: no spread".to_owned(),
            _ => format!("unknown: needs {} runs of one incumbent", noise::DRIFT_RUNS),
        };
    };
    let so = if drift.p <= SEEN { "the scores drift" } else { "none is seen" };
    format!(
        "{} an hour in {} runs of trial {} over {}: {so} ({})",
        numbers::signed(drift.slope_per_hour, decimals),
        drift.n,
        drift.arm,
        numbers::duration(3600.0 * drift.hours),
        p_value(drift.p)
    )
}

fn speed(noise: &Noise) -> String {
    let Some(throughput) = noise.throughput else {
        return "unknown: no code was executed twice with its tokens a second recorded".to_owned();
    };
    let spread = format!(
        "tokens a second vary by {:.2} % within arms (sd, n={})",
        100.0 * throughput.relative_sd,
        throughput.n
    );
    match (throughput.correlation, throughput.p) {
        (Some(r), Some(p)) => {
            let better = (r < 0.0) == (noise.direction == Direction::Lower);
            let so = match (p <= SEEN, better) {
                (true, true) => "faster runs score better",
                (true, false) => "faster runs score worse",
                (false, _) => "no tie to the score is seen",
            };
            format!("{spread}; {so} (r {}, {})", numbers::signed(r, 2), p_value(p))
        }
        _ => format!("{spread}; too few runs or no spread to compare with the score"),
    }
}

fn floor(noise: &Noise, decimals: usize) -> String {
    match noise.detectable {
        Some(gain) => {
            format!(
                "a true gain of {} is found {:.0} times in 10",
                numbers::plain(gain, decimals),
                10.0 * noise::POWER
            )
        }
        None => "unknown: it needs repeats of the incumbent".to_owned(),
    }
}

fn p_value(p: f64) -> String {
    if p < 0.001 { "p < 0.001".to_owned() } else { format!("p {p:.3}") }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use sprag_engine::record::{Measure, MeasureId, Outcome, Purpose, Record, RunStarted, Score};

    use super::*;
    use crate::report::fixture;

    fn shown(state: &State) -> String {
        // The fixture's executions end one after another.
        let runs = state.trials.iter().flat_map(|trial| &trial.runs);
        let ends: BTreeMap<MeasureId, i64> =
            runs.map(|run| (run.measure.measure, 30 * i64::from(run.measure.measure))).collect();
        words(&noise::of(state, &ends), state).join("\n")
    }

    #[track_caller]
    fn says(text: &str, parts: &[&str]) {
        for part in parts {
            assert!(text.contains(part), "`{part}` is not in\n{text}");
        }
    }

    #[test]
    fn a_whole_run_shows_every_part_of_its_noise() {
        let text = shown(&fixture::state());
        says(
            &text,
            &[
                "run       one of task gpt: val_bpb, lower is better",
                "arm       trial   0  2.4",
                "(sd, n=",
                "left out  ",
                "at 95 % for one run, from ",
                "lies farthest off",
                "excess kurtosis ",
                "drift     ",
                "tokens a second vary by ",
                "a true gain of 0.0",
            ],
        );
        assert!(!text.contains("unknown") && !text.contains("NaN"), "{text}");
    }

    #[test]
    fn what_is_missing_is_said() {
        let mut state = State::default();
        state.apply("", &Record::RunStarted(Box::default()));
        let text = shown(&state);
        says(
            &text,
            &["sigma     unknown: no code was executed twice", "drift     unknown", "floor     unknown"],
        );
        assert!(!text.contains("left out"));
    }

    #[test]
    fn a_tie_of_speed_and_score_is_read_in_the_metrics_direction() {
        for (direction, word) in [(Direction::Lower, "worse"), (Direction::Higher, "better")] {
            let mut state = State::default();
            let run = RunStarted { direction, ..RunStarted::default() };
            state.apply("", &Record::RunStarted(Box::new(run)));
            for n in 0..6u32 {
                let measure = Measure {
                    measure: n,
                    trial: 0,
                    arm: 0,
                    seed: u64::from(n),
                    purpose: Purpose::Baseline,
                    budget: None,
                };
                state.apply("", &Record::MeasureStarted(measure.clone()));
                let facts = BTreeMap::from([(noise::THROUGHPUT.to_owned(), 1000.0 + f64::from(n))]);
                let value = 1.0 + 0.1 * f64::from(n) + 0.01 * f64::from(n % 2);
                let outcome = Outcome::Scored(Score { value, facts, ..Score::default() });
                state.apply("", &Record::Measured { measure, outcome, seconds: 1.0 });
            }
            says(&shown(&state), &[&format!("faster runs score {word} (r +1.00, p < 0.001)")]);
        }
    }
}
