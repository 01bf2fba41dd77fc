//! `sprag data prepare`: turn text into tokens.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use sprag_measure::process;
use sprag_train::data::{
    self, CorpusRoot, DEFAULT_VOCAB_SIZE, Manifest, PrepareOptions, PrepareProgress, Source, SourceName,
    Stage,
};

use super::{manifest_facts, print_json, println_or_stop};
use crate::context::Context;
use crate::environment::Environment;
use crate::error::Failure;
use crate::exit_code::ExitCode;
use crate::numbers;
use crate::template;
use crate::ui::live::{Live, bar};

/// The hub that `hf:` means unless `HF_ENDPOINT` says otherwise.
const HUB: &str = "https://huggingface.co";

/// Prepare data to train and to score on
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: DataCommand,
}

#[derive(Debug, clap::Subcommand)]
enum DataCommand {
    Prepare(PrepareArgs),
}

/// Clean text, train a tokenizer, write train, validation and holdout tokens
///
/// Sources: `cargo` is the sources and docs of the packages that this program is built from, as they lie in
/// cargo's registry folder (no download; split by package); `dir:PATH` a folder of text; `parquet:PATH` a
/// file or folder with a column `text`; `hf:OWNER/NAME[:N shards]` a dataset on a Hugging Face hub
/// (HF_ENDPOINT, HTTPS_PROXY and NO_PROXY are honoured; an interrupted download resumes).
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: sprag data prepare --out data
         sprag data prepare --source hf:karpathy/climbmix-400b-shuffle:4 --out data")]
pub struct PrepareArgs {
    /// Where the text comes from
    #[arg(long, value_name = "SOURCE", default_value = "cargo")]
    source: SourceName,
    /// Folder to write
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Token ids of the tokenizer; 256 means bytes alone
    #[arg(long, value_name = "N", default_value_t = DEFAULT_VOCAB_SIZE)]
    vocab_size: u32,
    /// Use at most this many bytes of text
    #[arg(long, value_name = "N")]
    max_bytes: Option<u64>,
    /// Print the manifest as JSON
    #[arg(long)]
    json: bool,
}

/// Prepares.
pub fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    let DataCommand::Prepare(args) = args.command;
    let source = source(args.source, &args.out, context)?;
    let mut options = options(source, args.out.clone(), context);
    options.vocab_size = args.vocab_size;
    options.max_bytes = args.max_bytes;
    let manifest = prepare(&options, context)?;
    if args.json {
        print_json(&manifest)?;
    } else {
        for (name, value) in manifest_facts(&manifest) {
            println_or_stop(&format!("{name:<13} {value}"))?;
        }
        println_or_stop(&format!("written to    {}", args.out.display()))?;
    }
    Ok(ExitCode::Success)
}

/// The usual options, with what the environment says.
pub fn options(source: Source, out: PathBuf, context: &Context) -> PrepareOptions {
    let mut options = PrepareOptions::new(source, out);
    (options.proxy, options.no_proxy) = proxy(&context.environment);
    options
}

/// The proxy that the environment names, and the hosts that it says are reached without one.
fn proxy(environment: &Environment) -> (Option<String>, Option<String>) {
    let first = |names: &[&str]| names.iter().find_map(|name| environment.text(name)).map(str::to_owned);
    let proxy = first(&["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]);
    (proxy, first(&["NO_PROXY", "no_proxy"]))
}

/// A source with all that is needed to read it.
pub fn source(name: SourceName, out: &Path, context: &Context) -> anyhow::Result<Source> {
    Ok(match name {
        SourceName::Cargo => Source::Cargo {
            metadata_json: ask_cargo(
                &[CorpusRoot::Program, CorpusRoot::Candidate],
                data::cargo_metadata_arguments,
                out,
                context,
            )?,
            linked: linked(out, context)?,
        },
        SourceName::Dir(path) => Source::Dir(path),
        SourceName::Parquet(path) => Source::Parquet(path),
        SourceName::Hf { repo, shards } => {
            let endpoint =
                context.environment.text("HF_ENDPOINT").unwrap_or(HUB).trim_end_matches('/').to_owned();
            Source::Hf { repo, shards, endpoint }
        }
    })
}

/// Names of the packages that candidates link, with every device: data outlive the choice of one.
fn linked(out: &Path, context: &Context) -> anyhow::Result<BTreeSet<String>> {
    let arguments = |manifest: &Path, platform: Option<&str>| {
        let mut arguments = data::cargo_tree_arguments(manifest, platform);
        arguments.push("--all-features".into());
        arguments
    };
    let printed = ask_cargo(&[CorpusRoot::Candidate], arguments, out, context)?;
    Ok(data::cargo_tree_packages(&printed).into_iter().map(|(name, _)| name).collect())
}

/// What cargo says about the packages that the program or its candidates are built from.
fn ask_cargo(
    roots: &[CorpusRoot],
    arguments: impl Fn(&Path, Option<&str>) -> Vec<OsString>,
    out: &Path,
    context: &Context,
) -> anyhow::Result<String> {
    let workspace = template::workspace()?;
    let cargo = context.environment.cargo();
    let variables = context.environment.without(&["CARGO_TARGET_DIR", "CARGO_BUILD_TARGET_DIR"]);
    let host = host(&template::rustc(&cargo), &context.environment);
    // Each process has its own: the folder is locked only when the sources are known.
    let scratch = scratch(out)?;
    let manifest = data::cargo_corpus_manifest(&workspace, roots, &scratch)?;
    let arguments = arguments(&manifest, host.as_deref());
    // A package that only a GPU's build needs was never fetched where none was built: then cargo fetches it now.
    let online: Vec<OsString> = arguments.iter().filter(|word| *word != "--offline").cloned().collect();
    let output = match process::output(&cargo, arguments, &scratch, &variables) {
        Ok(output) if !output.success() => {
            let fetched = process::output(&cargo, online, &scratch, &variables);
            fetched.map(|fetched| if fetched.success() { fetched } else { output })
        }
        output => output,
    };
    let _ = std::fs::remove_dir_all(&scratch);
    let output =
        output.with_context(|| Failure::new("cannot start cargo").hint("install Rust from rustup.rs"))?;
    if output.success() {
        return Ok(output.text());
    }
    let failure = Failure::new(format!("cargo cannot list the packages offline: {}", output.error_text()));
    Err(failure
        .hint("run `cargo fetch` in Sprag's own folder (it needs the network once), then try again")
        .into())
}

/// Where cargo is asked from; absolute, because cargo looks from there for the manifest that lies in it.
fn scratch(out: &Path) -> anyhow::Result<PathBuf> {
    let out = std::path::absolute(out).with_context(|| format!("cannot find {}", out.display()))?;
    Ok(out.join(format!(".corpus-{}", std::process::id())))
}

/// The platform of this machine as rustc names it: packages of other platforms need not be there.
fn host(rustc: &Path, environment: &Environment) -> Option<String> {
    let output = process::output(rustc, ["-vV"], Path::new("/"), &environment.variables).ok()?;
    let text = output.text();
    text.lines().find_map(|line| line.strip_prefix("host: ")).map(str::to_owned)
}

/// Prepares with a progress line; without a terminal, a line a stage.
pub fn prepare(options: &PrepareOptions, context: &Context) -> anyhow::Result<Manifest> {
    let mut live = Live::new(context.terminal);
    let mut stage: Option<(Stage, Instant)> = None;
    let mut drawn = Instant::now();
    let manifest = data::prepare(options, &mut |progress| {
        let fresh = stage.is_none_or(|(known, _)| known != progress.stage);
        if fresh {
            stage = Some((progress.stage, Instant::now()));
            if !context.terminal.live {
                eprintln!("data: {}", progress.stage);
            }
        }
        let done = progress.done >= progress.total;
        if fresh || done || drawn.elapsed() > Duration::from_millis(100) {
            drawn = Instant::now();
            let since = stage.map_or(Duration::ZERO, |(_, since)| since.elapsed());
            live.show(&line(progress, since.as_secs_f64()));
        }
    })?;
    Ok(manifest)
}

/// `data: clean      [####......]  212 of 412 packages  0:07`.
fn line(progress: PrepareProgress, seconds: f64) -> String {
    let part = if progress.total == 0 { 0.0 } else { progress.done as f64 / progress.total as f64 };
    let amount = |value: u64| match progress.unit {
        "bytes" => numbers::bytes(value as f64),
        _ => value.to_string(),
    };
    let unit = if progress.unit == "bytes" { "" } else { progress.unit };
    format!(
        "data: {:<10} {}  {} of {} {unit}  {}",
        progress.stage.to_string(),
        bar(part, 24),
        amount(progress.done),
        amount(progress.total),
        numbers::clock(seconds)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_is_asked_from_an_absolute_folder_wherever_data_go() {
        for out in ["data", "./a/b", "/tmp/data"] {
            assert!(scratch(Path::new(out)).unwrap().is_absolute(), "{out}");
        }
    }

    #[test]
    fn proxy_and_its_exceptions_come_from_the_environment() {
        let variables = [("https_proxy", "http://proxy:8080"), ("NO_PROXY", "127.0.0.1,localhost")];
        let variables = variables.map(|(name, value)| (name.into(), value.into())).into();
        let (proxy, no_proxy) = proxy(&Environment { variables });
        assert_eq!(proxy.as_deref(), Some("http://proxy:8080"));
        assert_eq!(no_proxy.as_deref(), Some("127.0.0.1,localhost"));
    }

    #[test]
    fn progress_counts_in_its_unit() {
        let progress = PrepareProgress { stage: Stage::Clean, done: 212, total: 412, unit: "packages" };
        assert_eq!(
            line(progress, 7.0),
            "data: clean      [############............]  212 of 412 packages  0:07"
        );
        let progress = PrepareProgress { stage: Stage::Encode, done: 0, total: 0, unit: "bytes" };
        assert!(line(progress, 0.0).contains("0 B of 0 B"));
    }
}
