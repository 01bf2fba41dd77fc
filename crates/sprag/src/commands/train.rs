//! `sprag train eval`: the evaluator of a training candidate; started by the engine beside the candidate.

use std::io::{Write, stdin};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use sprag_train::data::Split;
use sprag_train::eval::{self, EvalEvent, Options, Precision};
use sprag_train::protocol::Budget;

use super::parse_seconds;
use crate::exit_code::ExitCode;

/// The training side's own programs
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: TrainCommand,
}

#[derive(Debug, clap::Subcommand)]
enum TrainCommand {
    /// Judge a candidate over the Unix socket that is the standard input; print JSON lines
    Eval(EvalArgs),
}

#[derive(Debug, clap::Args)]
struct EvalArgs {
    /// Folder of prepared data
    #[arg(long)]
    data: PathBuf,
    /// Seed of all randomness
    #[arg(long)]
    seed: u64,
    /// What training may spend: `20s`, `10000000tokens`, or `500steps`, which are batches served
    #[arg(long)]
    budget: Budget,
    /// `run`; `smoke` for a few steps without a score; `holdout` to score the sealed holdout instead
    #[arg(long, default_value = "run", value_parser = ["run", "smoke", "holdout"])]
    phase: String,
    /// Most tokens in one batch. Under a budget of steps nothing else bounds the text that is trained on
    #[arg(long, value_name = "TOKENS", default_value_t = eval::DEFAULT_BATCH_TOKENS, value_parser = clap::value_parser!(u64).range(1..))]
    batch_tokens: u64,
    /// Validation tokens to score
    #[arg(long)]
    val_tokens: Option<u64>,
    /// Arithmetic of the candidate, which sets how far its answers may differ: `reduced` is bf16 or TF32
    #[arg(long, default_value = "single", value_parser = ["single", "reduced"])]
    precision: String,
    /// Longest window asked for, in tokens
    #[arg(long, default_value_t = eval::DEFAULT_MAX_SEQ_LEN)]
    max_seq_len: u32,
    /// Start-up that is free: what is beyond it spends a budget in seconds. More for devices that start slowly
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = parse_seconds)]
    startup_grace: f64,
    /// How long a candidate may say nothing before it is given up. More for devices whose first step takes long
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_seconds)]
    silence: f64,
    /// How much longer than usual all answers together may take before they count as training. More for
    /// devices that compile kernels for their first answer
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_seconds)]
    answer_grace: f64,
}

/// Speaks with the candidate to the end.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let TrainCommand::Eval(args) = args.command;
    let channel =
        stdin().as_fd().try_clone_to_owned().context("cannot take the channel from standard input")?;
    let options = options(args);
    let mut print = |event: EvalEvent| say(&event.to_json_line());
    let outcome = eval::evaluate(UnixStream::from(channel), &options, &mut print)?;
    say(&outcome.to_json_line());
    Ok(ExitCode::Success)
}

fn options(args: EvalArgs) -> Options {
    let mut options = Options::new(args.data, args.seed, args.budget);
    options.smoke = args.phase == "smoke";
    if args.phase == "holdout" {
        options.split = Split::Holdout;
    }
    options.limits.silence = duration(args.silence);
    options.val_tokens = args.val_tokens;
    options.max_seq_len = args.max_seq_len;
    options.limits.batch_tokens = args.batch_tokens;
    options.limits.startup_grace = duration(args.startup_grace);
    options.limits.answer_grace = duration(args.answer_grace);
    if args.precision == "reduced" {
        options.precision = Precision::Reduced;
    }
    options
}

/// So many seconds; what no clock counts to is all the time there is.
fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

/// One line to the engine. When it does not listen any more there is nobody to tell.
fn say(line: &str) {
    let mut stream = std::io::stdout().lock();
    let _ = writeln!(stream, "{line}").and_then(|()| stream.flush());
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use sprag_train::eval::Limits;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: EvalArgs,
    }

    fn read(more: &[&str]) -> Result<Options, clap::Error> {
        let usual = ["eval", "--data", "data", "--seed", "1"];
        Ok(options(Line::try_parse_from(usual.iter().chain(more))?.args))
    }

    #[test]
    fn each_budget_of_training_is_taken_and_evaluations_are_refused() {
        for (text, budget) in [
            ("20s", Budget::Seconds(20.0)),
            ("10000000tokens", Budget::Tokens(10_000_000)),
            ("500steps", Budget::Steps(500)),
        ] {
            assert_eq!(read(&["--budget", text]).unwrap().budget, budget);
        }
        let refused = read(&["--budget", "200evaluations"]).unwrap_err().to_string();
        assert!(refused.contains("evaluations are for tasks whose own command counts them"), "{refused}");
    }

    #[test]
    fn limits_are_as_usual_unless_said() {
        assert_eq!(read(&["--budget", "1s"]).unwrap().limits, Limits::default());
        let said = ["--startup-grace", "1m", "--answer-grace", "5s", "--batch-tokens", "4096"];
        let limits = read(&[&["--budget", "1s"], &said[..]].concat()).unwrap().limits;
        let expected = Limits {
            startup_grace: Duration::from_secs(60),
            answer_grace: Duration::from_secs(5),
            batch_tokens: 4096,
            ..Limits::default()
        };
        assert_eq!(limits, expected);
    }
}
