//! `sprag plan cluster`: one model on several machines.

use serde_json::json;
use sprag_measure::plan::{self, ClusterPlan, Device, Link, Split, Timed, find_link, links};
use sprag_measure::units::Seconds;

use super::{ModelArgs, gigabytes, target};
use crate::commands::{print_json, println_or_stop};
use crate::context::Context;
use crate::error::Failure;
use crate::exit_code::ExitCode;
use crate::ui::tame;

/// Longest prompt of a break-even.
const MOST_PROMPT: u64 = 1 << 20;

/// Plan one model on several machines: layers in a row, every layer split, or the prompt on one and the answer on another
///
/// Every time is told by its closed form and as a discrete-event simulation plays it. `--context` is the prompt.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example: sprag plan cluster qwen3-235b-a22b --machines 'M3 Ultra,M3 Ultra,M3 Ultra,M3 Ultra' --link rdma --split tensor
         sprag plan cluster llama-3.1-8b --quant f16 --machines 'DGX Spark,M3 Ultra' --link 10gbe --split prefill-decode"
)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Names or files, with commas between; of `prefill-decode` first who reads the prompt
    #[arg(long, value_name = "A,B,...", value_delimiter = ',', required = true)]
    machines: Vec<String>,
    /// What connects them: rdma, tcp, 10gbe, 100gbe, nvlink4, or GB/S:MICROSECONDS
    #[arg(long, value_name = "LINK", default_value = "10gbe")]
    link: String,
    /// How the work is split; all that are possible where nothing is said
    #[arg(long, value_parser = ["pipeline", "tensor", "prefill-decode"])]
    split: Option<String>,
    /// Tokens of the answer
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..=1 << 24))]
    answer: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// One split: its plan with the break-even, or why there is none.
type Found = (Split, Result<(ClusterPlan, Option<u64>), String>);

/// Plans it.
pub fn run(args: &Args, context: &Context) -> anyhow::Result<ExitCode> {
    let chosen = args.model.choose(&context.environment)?;
    let job = args.model.job(&chosen);
    let devices = args.machines.iter().map(|name| target::named(name)).collect::<anyhow::Result<Vec<_>>>()?;
    let link = find_link(&args.link).ok_or_else(|| {
        let known: Vec<String> = links().into_iter().map(|link| link.name).collect();
        Failure::new(format!("`{}` is no link that is known here", args.link))
            .hint(format!("known are {}; or write GB/S:MICROSECONDS", known.join(", ")))
    })?;
    let all = [Split::Pipeline, Split::Tensor, Split::PrefillDecode];
    let splits: Vec<Split> =
        all.into_iter().filter(|split| args.split.as_ref().is_none_or(|word| split.word() == word)).collect();
    let found: Vec<Found> = splits
        .iter()
        .map(|split| {
            let plan = plan::cluster(&job, &devices, &link, *split).map_err(|error| error.to_string());
            let even =
                || plan::break_even(&job, &devices, &link, *split, args.answer, MOST_PROMPT).ok().flatten();
            (*split, plan.map(|plan| (plan, even())))
        })
        .collect();
    if let (Some(_), [(split, Err(why))]) = (&args.split, found.as_slice()) {
        return Err(Failure::new(format!("cannot split `{}` over these machines: {why}", split.word()))
            .hint("`sprag plan cluster` without `--split` shows what can be done")
            .into());
    }
    if args.json {
        let all: Vec<_> = found.iter().map(|one| told(one, &devices, args.answer)).collect();
        return print_json(&json!({
            "model": chosen.architecture.name, "quant": chosen.quant.name, "prompt": job.context, "answer": args.answer,
            "link": { "name": link.name, "bytes_per_second": link.bytes_per_second, "seconds": link.seconds, "source": link.source },
            "splits": all,
        }))
        .map(|()| ExitCode::Success);
    }
    println_or_stop(&format!(
        "{} in {}, a prompt of {} tokens, an answer of {}; {} ({:.2} GB/s, {:.0} us: {})",
        tame(&chosen.architecture.name),
        chosen.quant.name,
        job.context,
        args.answer,
        link.name,
        link.bytes_per_second / 1e9,
        link.seconds * 1e6,
        link.source
    ))?;
    for one in &found {
        for line in lines(one, &devices, &link, args.answer) {
            println_or_stop(&line)?;
        }
    }
    Ok(ExitCode::Success)
}

fn seconds(timed: Timed) -> String {
    format!("{} (simulated {})", Seconds(timed.closed), Seconds(timed.played))
}

fn lines((split, found): &Found, devices: &[Device], link: &Link, answer: u64) -> Vec<String> {
    let (plan, even) = match found {
        Ok(found) => found,
        Err(why) => return vec![format!("\n{}: cannot be: {why}", split.word())],
    };
    let mut lines = vec![format!("\n{}", split.word())];
    for ((device, fit), layers) in devices.iter().zip(&plan.fits).zip(&plan.layers) {
        let verdict = if fit.fits() { "fits" } else { "DOES NOT FIT" };
        let projected = if device.is_projected() { "  PROJECTED" } else { "" };
        lines.push(format!(
            "  {:<20} {layers} layers, {verdict}: {} of {}{projected}",
            device.name,
            gigabytes(fit.needed),
            gigabytes(fit.usable)
        ));
    }
    for line in &plan.lines {
        lines.push(format!("  {:<20} {} = {}", line.name, Seconds(line.value), line.formula));
    }
    lines.push(format!(
        "  decode               {:.1} tokens/s; a token takes {}",
        1.0 / plan.token.closed,
        seconds(plan.token)
    ));
    lines.push(match plan.prompt {
        Some(prompt) => format!("  first token after    {}", seconds(prompt)),
        None => "  first token after    not told: nobody says how many operations one of the machines does"
            .to_owned(),
    });
    for (device, alone) in devices.iter().zip(&plan.alone) {
        let whole = match (plan.answer(answer), alone.answer(answer)) {
            (Some(together), Some(own)) => {
                format!("; all of the answer x{:.2} as fast together", own / together)
            }
            _ => String::new(),
        };
        let fits = if alone.fits { "" } else { " (would not fit)" };
        lines.push(format!(
            "  {:<20} alone {:.1} tokens/s{fits}, first token after {}{whole}",
            device.name,
            1.0 / alone.token,
            alone.prompt.map_or("?".to_owned(), |prompt| Seconds(prompt).to_string())
        ));
    }
    lines.push(match even {
        _ if plan.alone.iter().all(|one| !one.fits) => "  break-even           it fits no machine alone".to_owned(),
        Some(prompt) => format!("  break-even           from a prompt of {prompt} tokens on it answers sooner than the best machine alone"),
        None => format!("  break-even           none up to {MOST_PROMPT} tokens over {}", link.name),
    });
    lines
}

fn told((split, found): &Found, devices: &[Device], answer: u64) -> serde_json::Value {
    let timed = |timed: Timed| json!({ "closed_seconds": timed.closed, "simulated_seconds": timed.played });
    match found {
        Err(why) => json!({ "split": split.word(), "impossible": why }),
        Ok((plan, even)) => {
            let nodes: Vec<_> = devices
                .iter()
                .enumerate()
                .map(|(at, device)| {
                    json!({ "name": device.name, "kind": device.kind().word(), "layers": plan.layers[at],
                        "fits": plan.fits[at].fits(), "needed_bytes": plan.fits[at].needed, "usable_bytes": plan.fits[at].usable,
                        "alone": { "fits": plan.alone[at].fits, "prompt_seconds": plan.alone[at].prompt,
                            "token_seconds": plan.alone[at].token, "answer_seconds": plan.alone[at].answer(answer) } })
                })
                .collect();
            json!({ "split": split.word(), "nodes": nodes, "token": timed(plan.token), "prompt": plan.prompt.map(timed),
                "answer_seconds": plan.answer(answer), "break_even_prompt": even })
        }
    }
}
