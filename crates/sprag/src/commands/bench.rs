//! `sprag bench`: runtimes compared on one model and this machine.

use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::{Value, json};
use sprag_measure::machine::Machine;
use sprag_measure::plan::{self, GgufModel, Job, Quant, SyntheticFormat, find_model, write_synthetic};
use sprag_measure::probe::{Sample, usable_cores};
use sprag_measure::process::{Cancel, Command, End, Limits, Stream, run as run_child};

use super::plan::gguf_header;
use super::{print_json, println_or_stop, write_whole};
use crate::bench::external::External;
use crate::bench::server::Server;
use crate::bench::summary::{Measured, Needs, Row, Worth, rows, worth};
use crate::bench::{self, BenchPlan, Runtime, Told};
use crate::context::Context;
use crate::error::Failure;
use crate::exit_code::ExitCode;
use crate::numbers;
use crate::ui::live::Live;
use crate::ui::tame;

/// Part of what memory gave above which a rate is called impossible: less may be the machine's own scatter.
const IMPOSSIBLE: f64 = 1.25;

/// Compare runtimes on one model: prefill, time to the first token, decode, beside what memory gives in the same minute
///
/// Runtimes that are built in run in a process of their own; a server that speaks OpenAI's completions is named by its URL
/// (llama-server, MLX, Ollama, LM Studio), any other by a command. Prompts are random and never repeated, the end token is
/// banned, decode is counted over all tokens but the first, the first answer is for nothing, figures are medians.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: sprag bench --synthetic llama-1b --quant q4_0
         sprag bench llama-1b-q4_0.gguf --runtimes llama.cpp,candle
         sprag bench model.gguf --runtimes http://127.0.0.1:8080 --prompts 128,2048 --report bench.html")]
pub struct Args {
    /// A GGUF file
    #[arg(value_name = "MODEL", required_unless_present = "synthetic", conflicts_with = "synthetic")]
    model: Option<PathBuf>,
    /// llama.cpp, candle, a server's URL, or NAME=URL, with commas between [default: all that are built in]
    #[arg(long, value_name = "A,B,...", value_delimiter = ',')]
    runtimes: Vec<String>,
    /// Another runtime: NAME=COMMAND, with {model}, {prompt}, {generate}, {threads} and {seed} replaced; its last line is
    /// JSON with `prompt_seconds` and `decode_seconds`
    #[arg(long, value_name = "NAME=COMMAND")]
    command: Vec<String>,
    /// Lengths of prompts in tokens, with commas between
    #[arg(long, value_name = "N,N,...", value_delimiter = ',', default_values_t = [128, 512], value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    prompts: Vec<u32>,
    /// Tokens that are made after each
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(2..=1 << 16))]
    generate: u32,
    /// Goes of each length
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(5..=1000))]
    repeat: u32,
    /// Threads of runtimes that can be told [default: all processors]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    threads: Option<u32>,
    /// Write a GGUF file of that model's shape with random weights, and measure nothing
    #[arg(long, value_name = "NAME")]
    synthetic: Option<String>,
    /// Format of the weights of such a file: f16, q8_0, q4_0, q4_k_m, q6_k
    #[arg(long, value_name = "Q", default_value = "q4_0", requires = "synthetic")]
    quant: String,
    /// Where to write it [default: NAME-Q.gguf here]
    #[arg(long, value_name = "FILE", requires = "synthetic")]
    out: Option<PathBuf>,
    /// Also write a page
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Measures, or writes a file.
pub fn run(args: &Args, context: &Context) -> anyhow::Result<ExitCode> {
    if let Some(name) = &args.synthetic {
        return synthetic(name, args);
    }
    let model = args.model.as_deref().context("no model is named")?;
    let model = model.canonicalize().with_context(|| format!("cannot open {}", model.display()))?;
    let header = gguf_header(&model)?;
    let machine = Machine::probe();
    let room = machine.usable_memory_bytes();
    if let Some(room) = room.filter(|room| header.weight_bytes > *room) {
        let (need, room) = (numbers::bytes(header.weight_bytes as f64), numbers::bytes(room as f64));
        return Err(Failure::new(format!("the model does not fit: {need} of {room}"))
            .hint("`sprag plan` says what would fit")
            .into());
    }
    let cores = u32::try_from(usable_cores().len()).unwrap_or(1);
    let mut prompts = args.prompts.clone();
    prompts.sort_unstable();
    prompts.dedup();
    let plan = BenchPlan {
        prompts,
        generate: args.generate,
        repeat: args.repeat,
        threads: args.threads.unwrap_or(cores),
    };
    let wanted = wanted(args)?;
    let mut measured = Vec::new();
    let mut failures = Vec::new();
    let mut live = Live::new(context.terminal);
    for one in &wanted {
        live.show(&format!("measuring {} ...", one.shown()));
        match measure(one, &model, &plan, context) {
            Ok(found) => measured.push(found),
            Err(error) => failures.push((one.shown(), format!("{error:#}"), error)),
        }
    }
    live.wipe();
    // With nothing to show, the first reason is the answer.
    if measured.is_empty()
        && let Some((_, _, error)) = failures.pop()
    {
        return Err(error);
    }
    let needs = Needs {
        bytes: &|position| bytes_read(&header, u64::from(position)),
        prompt_flop: &|prompt| header.architecture.prompt_flop_a_token(u64::from(prompt)),
    };
    let all: Vec<(Measured, Vec<Row>)> = measured
        .into_iter()
        .map(|one| {
            let rows = rows(&one, &plan.prompts, plan.generate, &needs);
            (one, rows)
        })
        .collect();
    let failed: Vec<(String, String)> = failures.into_iter().map(|(name, why, _)| (name, why)).collect();
    let lines = lines(&header, &model, &plan, cores, &all, &failed);
    if let Some(report) = &args.report {
        let named: Vec<(String, Vec<Row>)> =
            all.iter().map(|(one, rows)| (one.name.clone(), rows.clone())).collect();
        let name = &header.architecture.name;
        let subtitle = format!("{} threads, {} goes of each length", plan.threads, plan.repeat);
        write_whole(report, &bench::page::render(name, &subtitle, &named, &lines))?;
    }
    if args.json {
        print_json(&told(&header, &model, &plan, &all, &failed))?;
    } else {
        for line in &lines {
            println_or_stop(line)?;
        }
        if let Some(report) = &args.report {
            println_or_stop(&format!("report    {}", report.display()))?;
        }
    }
    Ok(if failed.is_empty() { ExitCode::Success } else { ExitCode::Failure })
}

fn synthetic(name: &str, args: &Args) -> anyhow::Result<ExitCode> {
    let model = find_model(name).ok_or_else(|| {
        Failure::new(format!("`{name}` is no model that is known here, or several are"))
            .hint("`sprag plan list` shows them")
    })?;
    let format = SyntheticFormat::ALL.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(&args.quant));
    let (word, format) = format.ok_or_else(|| {
        let known: Vec<&str> = SyntheticFormat::ALL.iter().map(|(known, _)| *known).collect();
        Failure::new(format!("`{}` cannot be written", args.quant))
            .hint(format!("known are {}", known.join(", ")))
    })?;
    let path = args.out.clone().unwrap_or_else(|| PathBuf::from(format!("{name}-{word}.gguf")));
    let shown = path.display().to_string();
    // A file that is there may be a model that took hours to fetch.
    let file = std::fs::File::create_new(&path).map_err(|cause| match cause.kind() {
        std::io::ErrorKind::AlreadyExists => anyhow::Error::from(
            Failure::new(format!("{shown} is there already")).hint("name another with `--out`"),
        ),
        _ => anyhow::Error::from(cause).context(format!("cannot create {shown}")),
    })?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    let written = write_synthetic(&model.architecture, format, &mut out)
        .map_err(anyhow::Error::from)
        .and_then(|()| Ok(out.flush()?));
    if let Err(error) = written {
        // What is not whole would look like a model.
        let _ = std::fs::remove_file(&path);
        return Err(error.context(format!("cannot write {shown}")));
    }
    let size = std::fs::metadata(&path).map(|about| about.len()).unwrap_or(0);
    if args.json {
        print_json(&json!({ "file": path, "bytes": size, "model": model.architecture.name }))?;
        return Ok(ExitCode::Success);
    }
    println_or_stop(&format!(
        "wrote     {shown}: {} of the shape of {}, weights random",
        numbers::bytes(size as f64),
        model.architecture.name
    ))?;
    println_or_stop(&format!("next      sprag bench {shown}"))?;
    Ok(ExitCode::Success)
}

/// Bytes that are read for a token after so many positions.
fn bytes_read(header: &GgufModel, position: u64) -> f64 {
    plan::bytes_a_token(&Job {
        model: &header.architecture,
        quant: Quant::of_file(header.weight_bytes, header.params),
        exact: Some((header.weight_bytes, header.embedding_bytes)),
        context: position,
        batch: 1,
        cache_bytes: 2.0,
    })
}

/// A runtime as it was asked for.
enum Wanted {
    BuiltIn(String),
    Server { name: Option<String>, url: String },
    External { name: String, command: String },
}

impl Wanted {
    fn shown(&self) -> String {
        match self {
            Wanted::BuiltIn(name) | Wanted::External { name, .. } => name.clone(),
            Wanted::Server { name, url } => name.clone().unwrap_or_else(|| url.clone()),
        }
    }
}

fn wanted(args: &Args) -> anyhow::Result<Vec<Wanted>> {
    let is_url = |text: &str| text.starts_with("http://") || text.starts_with("https://");
    let mut all = Vec::new();
    for word in &args.runtimes {
        all.push(match word.split_once('=') {
            _ if is_url(word) => Wanted::Server { name: None, url: word.clone() },
            Some((name, url)) if is_url(url) => {
                Wanted::Server { name: Some(name.to_owned()), url: url.to_owned() }
            }
            _ if bench::built_in().contains(&word.as_str()) => Wanted::BuiltIn(word.clone()),
            _ => return Err(bench::not_built_in(word).into()),
        });
    }
    for word in &args.command {
        let (name, command) = word
            .split_once('=')
            .ok_or_else(|| Failure::new(format!("`{word}` has no name")).hint("write NAME=COMMAND"))?;
        all.push(Wanted::External { name: name.to_owned(), command: command.to_owned() });
    }
    if all.is_empty() {
        all = bench::built_in().into_iter().map(|name| Wanted::BuiltIn(name.to_owned())).collect();
    }
    if all.is_empty() {
        return Err(Failure::new("no runtime is built into this program, and none is named")
            .hint(
                "name a server with `--runtimes URL`, a command with `--command`, or build with `--features llama` or \
                 `--features candle`",
            )
            .into());
    }
    Ok(all)
}

fn measure(wanted: &Wanted, model: &Path, plan: &BenchPlan, context: &Context) -> anyhow::Result<Measured> {
    let mut found = Measured {
        asked: wanted.shown(),
        name: wanted.shown(),
        load_seconds: None,
        memory_bytes: None,
        readings: Vec::new(),
    };
    let mut failed = None;
    let mut take = |told: Told| match told {
        Told::Ready { name, load_seconds, memory_bytes } => {
            found.name = name;
            (found.load_seconds, found.memory_bytes) = (load_seconds, memory_bytes);
        }
        Told::Reading(reading) => found.readings.push(reading),
        Told::Failed(why) => failed = Some(why),
    };
    match wanted {
        Wanted::BuiltIn(name) => in_a_worker(name, model, plan, context, &mut take)?,
        Wanted::Server { name, url } => {
            let server = Server::connect(url)?;
            let mut server = match name {
                Some(name) => server.named(name),
                None => server,
            };
            here(&mut server, plan, &mut take)?;
        }
        Wanted::External { name, command } => {
            let variables = &context.environment.variables;
            here(&mut External::new(name, command, model, plan.threads, variables), plan, &mut take)?;
        }
    }
    match failed {
        Some(why) => Err(Failure::new(format!("{} failed: {why}", wanted.shown())).into()),
        None => Ok(found),
    }
}

fn here(runtime: &mut dyn Runtime, plan: &BenchPlan, take: &mut dyn FnMut(Told)) -> anyhow::Result<()> {
    bench::drive(runtime, plan, None, &mut |told| {
        take(told);
        Ok(())
    })
}

/// A process of its own: its memory is its own, and what kills it does not kill the others.
fn in_a_worker(
    name: &str,
    model: &Path,
    plan: &BenchPlan,
    context: &Context,
    take: &mut dyn FnMut(Told),
) -> anyhow::Result<()> {
    let dir = std::env::current_dir().context("this folder is gone")?;
    let mut command = Command::new(context.program()?, &dir).args(["bench-worker", name]);
    command = command.args([model.as_os_str()]).args([serde_json::to_string(plan)?]);
    command.env.clone_from(&context.environment.variables);
    let finished = run_child(command, &Limits::default(), &Cancel::default(), &mut |stream, line| {
        if stream == Stream::Stdout
            && let Ok(told) = serde_json::from_str(line)
        {
            take(told);
        }
    })?;
    match finished.end {
        End::Exited(0) => Ok(()),
        end => {
            let said = finished.stderr.text();
            let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
            Err(Failure::new(format!("{name} {end} {}", tame(last))).into())
        }
    }
}

/// What the runtime is worth in decode and prefill, for each length.
fn worths(plan: &BenchPlan, all: &[(Measured, Vec<Row>)]) -> Vec<(u32, [Option<Worth>; 2])> {
    let of = |prompt: u32, rate: &dyn Fn(&Row) -> Option<f64>| {
        let rates = all.iter().filter_map(|(one, rows)| {
            Some((one.name.clone(), rate(rows.iter().find(|row| row.prompt == prompt)?)?))
        });
        worth(&rates.collect::<Vec<_>>())
    };
    let both = |prompt: &u32| {
        let decode = of(*prompt, &|row| Some(row.decode?.median));
        (*prompt, [decode, of(*prompt, &|row| Some(row.prefill.median))])
    };
    plan.prompts.iter().map(both).collect()
}

/// First of all, what the choice of the runtime is worth.
fn headline(plan: &BenchPlan, all: &[(Measured, Vec<Row>)]) -> Vec<String> {
    let mut lines = Vec::new();
    for (prompt, both) in worths(plan, all) {
        for (what, found) in ["decode", "prefill"].into_iter().zip(both) {
            lines.extend(found.map(|found| {
                format!(
                    "the runtime is worth x{:.2} here in {what} (a prompt of {prompt}): {} over {}",
                    found.times,
                    tame(&found.best),
                    tame(&found.worst)
                )
            }));
        }
    }
    lines
}

fn spread(sample: Sample, decimals: usize) -> String {
    format!("{:.decimals$} [{:.decimals$}, {:.decimals$}]", sample.median, sample.low, sample.high)
}

fn lines(
    header: &GgufModel,
    model: &Path,
    plan: &BenchPlan,
    cores: u32,
    all: &[(Measured, Vec<Row>)],
    failed: &[(String, String)],
) -> Vec<String> {
    let mut lines = headline(plan, all);
    lines.push(format!(
        "model     {}: {} parameters, {} of weights ({})",
        tame(&header.architecture.name),
        numbers::count(header.params as f64),
        numbers::bytes(header.weight_bytes as f64),
        model.display()
    ));
    lines.push(format!(
        "machine   {} threads of {cores} processors; figures are medians of {} goes [least, most]",
        plan.threads, plan.repeat
    ));
    let memory: Vec<_> = all.iter().flat_map(|(one, _)| &one.readings).filter_map(|one| one.memory).collect();
    let of = |pick: &dyn Fn(&sprag_measure::probe::MemoryNow) -> f64| {
        Sample::of(&memory.iter().map(|now| pick(now) / 1e9).collect::<Vec<_>>())
    };
    match (of(&|now| now.triad), of(&|now| now.read), of(&|now| now.read_one_stream)) {
        (Some(triad), Some(read), Some(stream)) => lines.push(format!(
            "memory    before each go, GB/s: Triad, all traffic counted, {}; read {}; in one stream a core {}",
            spread(triad, 1),
            spread(read, 1),
            spread(stream, 1)
        )),
        _ => lines.push("memory    not measured: there was no room for it".to_owned()),
    }
    for prompt in &plan.prompts {
        lines.push(String::new());
        lines.push(format!("a prompt of {prompt}, then {} tokens", plan.generate));
        for (one, rows) in all {
            let Some(row) = rows.iter().find(|row| row.prompt == *prompt) else { continue };
            lines.push(format!(
                "  {}: prefill {} tokens/s{}, first token after {} s",
                tame(&one.name),
                spread(row.prefill, 1),
                row.of_product
                    .map(|share| format!(" (x{} of what a matrix product computes)", spread(share, 2)))
                    .unwrap_or_default(),
                spread(row.first_token_seconds, 2)
            ));
            if let Some(decode) = row.decode {
                let share =
                    row.of_triad.map(|share| format!("; x{} of Triad", spread(share, 2))).unwrap_or_default();
                let other = |share: Option<Sample>, what: &str| {
                    share.map(|share| format!(", x{:.2} of {what}", share.median)).unwrap_or_default()
                };
                let read = other(row.of_read, "read") + &other(row.of_one_stream, "one stream a core");
                lines.push(format!("    decode {} tokens/s{share}{read}", spread(decode, 2)));
            }
            if let Some(token) = row.token {
                lines.push(format!(
                    "    a token takes {:.1} ms: {:.1} to read what it must at the Triad's rate ({:.1} in one stream a core), {:.1} \
                     to compute (as in prefill, behind the reading), {:.1} more than the longest of these",
                    token.seconds * 1e3,
                    token.reading * 1e3,
                    token.one_stream * 1e3,
                    token.computing * 1e3,
                    token.rest * 1e3
                ));
            }
            let beyond = |share: Option<Sample>| share.is_some_and(|share| share.median > IMPOSSIBLE);
            if beyond(row.of_triad) && beyond(row.of_read) {
                lines.push(
                    "    NOTE that is more than memory gave just before: its clock or its count is wrong, or the machine changed"
                        .to_owned(),
                );
            }
            if row.ended_early > 0 {
                lines.push(format!("    NOTE {} goes ended before all tokens were made", row.ended_early));
            }
            if row.prompt_tokens != row.prompt {
                lines.push(format!("    the prompt had {} tokens", row.prompt_tokens));
            }
        }
    }
    lines.push(String::new());
    for (one, rows) in all {
        let memory =
            one.memory_bytes.map_or("memory not readable: it is another's process".to_owned(), |bytes| {
                format!("{} resident", numbers::bytes(bytes as f64))
            });
        let loaded =
            one.load_seconds.map(|seconds| format!(", loaded in {seconds:.1} s")).unwrap_or_default();
        let energy = match rows.first().map(|row| &row.joules_a_token) {
            Some(Ok(joules)) => format!("; {} J a token", spread(*joules, 3)),
            Some(Err(why)) => format!("; energy not readable: {why}"),
            None => String::new(),
        };
        lines.push(format!("{}: {memory}{loaded}{energy}", tame(&one.name)));
        let busy = rows.iter().filter_map(|row| row.other_processes).fold(0.0, f64::max);
        // A server is another process, and its own work among what others use.
        if busy > 0.1 && one.load_seconds.is_some() {
            lines.push(format!(
                "  NOTE other processes used up to {:.0} % of the processors meanwhile",
                busy * 100.0
            ));
        }
        let steal = rows.iter().filter_map(|row| row.steal).fold(0.0, f64::max);
        if steal > 0.02 {
            lines.push(format!(
                "  NOTE a hypervisor gave up to {:.0} % of the processors to others",
                steal * 100.0
            ));
        }
    }
    if plan.threads > cores {
        lines.push(format!("NOTE oversubscribed: {} threads on {cores} processors", plan.threads));
    }
    for (name, why) in failed {
        lines.push(format!("FAILED {}: {}", tame(name), tame(why)));
    }
    lines
}

fn told(
    header: &GgufModel,
    model: &Path,
    plan: &BenchPlan,
    all: &[(Measured, Vec<Row>)],
    failed: &[(String, String)],
) -> Value {
    let runtimes: Vec<Value> = all
        .iter()
        .map(|(one, rows)| {
            json!({ "asked": one.asked, "name": one.name, "load_seconds": one.load_seconds, "memory_bytes": one.memory_bytes,
                "rows": rows, "readings": one.readings })
        })
        .collect();
    let worth: Vec<Value> = worths(plan, all)
        .into_iter()
        .map(|(prompt, [decode, prefill])| json!({ "prompt": prompt, "decode": decode, "prefill": prefill }))
        .collect();
    let failed: Vec<Value> =
        failed.iter().map(|(name, why)| json!({ "runtime": name, "why": why })).collect();
    json!({ "model": { "name": header.architecture.name, "file": model, "params": header.params, "weight_bytes": header.weight_bytes },
        "plan": plan, "runtimes": runtimes, "worth": worth, "failed": failed })
}
