//! `sprag ane train`: trains a GPT on prepared text, on the device or on the emulator.

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::json;
use sprag_ane::config::Config;
use sprag_ane::train::checkpoint::{self, Drawn, State};
use sprag_ane::train::params::Params;
use sprag_ane::train::vocabulary::Compact;
use sprag_ane::train::{Options, StepReport, TrainError, Trainer, fastest, public, weights};
use sprag_train::data::{Loader, Prepared, Split, TokenFile};

use super::super::println_or_stop;
use super::DeviceArgs;
use crate::context::Context;
use crate::error::Failure;
use crate::exit_code::ExitCode;
use crate::interrupt::Interrupt;

/// Train a GPT on the Neural Engine: programs compiled once, weights passed in beside activations
///
/// Prints the loss, and bits per byte on text that training never sees, by the same function that is trained. Stops after the
/// step under way on Ctrl-C, with a checkpoint where one is asked for.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: sprag data prepare --out data
         sprag ane train --emulate --config tiny --data data --steps 300
         sprag ane train --config gpt_karpathy --data data --compact --checkpoint gpt.safetensors")]
pub struct Args {
    #[command(flatten)]
    device: DeviceArgs,
    /// Configuration: tiny, small, gpt_karpathy, gpt_autoresearch, stories110m, qwen3_06b; the vocabulary is the data's
    #[arg(long, value_name = "CONFIG", default_value = "tiny")]
    config: String,
    /// Folder of prepared data
    #[arg(long, value_name = "DIR", default_value = "data")]
    data: PathBuf,
    /// Steps of the whole run; the learning rate falls over them
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    steps: u64,
    /// Sequences whose gradients are added up before a step
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..))]
    grad_accum: u16,
    /// Peak learning rate
    #[arg(long, value_name = "RATE", default_value_t = 2e-3, value_parser = positive)]
    lr: f64,
    /// Learning rate of matrices in units of the peak [0.05 in ncdrone/autoresearch-ANE]
    #[arg(long, value_name = "UNITS", default_value_t = 1.0, value_parser = positive)]
    matrix_lr: f64,
    /// Learning rate of the embedding in units of the peak
    #[arg(long, value_name = "UNITS", default_value_t = 5.0, value_parser = positive)]
    embedding_lr: f64,
    /// Steps over which the learning rate rises
    #[arg(long, value_name = "N", default_value_t = 20)]
    warmup: u64,
    /// Bound on logits in nats; 0 for none
    #[arg(long, value_name = "NATS", default_value_t = 15.0)]
    softcap: f32,
    /// Seed of initial weights and of the order of the text
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    seed: u64,
    /// Rows for the tokens that come up in the data alone
    #[arg(long)]
    compact: bool,
    /// Head and softmax on the device, too
    #[arg(long)]
    head_on_device: bool,
    /// Steps between validations
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    val_every: u64,
    /// Sequences of a validation, spread over the text that training never sees
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u64).range(1..))]
    val_sequences: u64,
    /// Checkpoint to write every --val-every steps and at the end, and to go on from where it exists
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// Begin with the weights of a checkpoint of maderix/ANE or ncdrone/autoresearch-ANE
    #[arg(long, value_name = "FILE", conflicts_with_all = ["compact"])]
    from_public: Option<PathBuf>,
    /// Write the weights at the end as safetensors with the names of Llama models
    #[arg(long, value_name = "FILE")]
    export: Option<PathBuf>,
    /// Print JSON lines
    #[arg(long)]
    json: bool,
}

fn positive(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| format!("`{text}` is no number"))?;
    (value > 0.0 && value.is_finite()).then_some(value).ok_or_else(|| format!("{value} is not above 0"))
}

/// Where tokens come from.
pub struct Text {
    prepared: Prepared,
    train: Loader,
    val: TokenFile,
    compact: Option<Compact>,
    seq_len: usize,
    /// Batches that were drawn.
    drawn: u64,
}

impl Text {
    /// Opens prepared data.
    pub fn open(dir: &Path, seed: u64, seq_len: usize) -> anyhow::Result<Text> {
        let prepared = Prepared::open(dir)?;
        let train = Loader::new(&prepared.split(Split::Train)?, seed);
        let val = prepared.split(Split::Val)?;
        Ok(Text { prepared, train, val, compact: None, seq_len, drawn: 0 })
    }

    /// Rows of the model's embedding.
    pub fn vocab(&self) -> usize {
        self.compact.as_ref().map_or(self.prepared.vocab_size() as usize, Compact::len)
    }

    /// Gives rows to the tokens of both splits alone.
    fn compact(&mut self) -> anyhow::Result<()> {
        let train = self.prepared.split(Split::Train)?;
        let all = train.tokens().iter().chain(self.val.tokens().iter()).chain([self.prepared.bos()]);
        // A bitmap first: texts have far more tokens than ids.
        let mut seen = vec![false; self.prepared.vocab_size() as usize];
        all.for_each(|id| {
            if let Some(seen) = seen.get_mut(id as usize) {
                *seen = true;
            }
        });
        let ids = seen.iter().enumerate().filter(|(_, seen)| **seen).map(|(id, _)| id as u32);
        self.compact = Some(Compact::from_ids(ids.collect()));
        Ok(())
    }

    fn rows(&self, ids: Vec<u32>) -> anyhow::Result<Vec<u32>> {
        let Some(compact) = &self.compact else { return Ok(ids) };
        let unknown = |id: u32| Failure::new(format!("token {id} is not in the checkpoint's vocabulary"));
        compact
            .rows(&ids)
            .map_err(|id| unknown(id).hint("train on the data that the checkpoint was made with").into())
    }

    /// The next batch.
    pub fn batch(&mut self, rows: usize) -> anyhow::Result<Vec<Vec<u32>>> {
        let ids = self.train.batch(rows, self.seq_len);
        self.drawn += 1;
        ids.chunks_exact(self.seq_len + 1).map(|row| self.rows(row.to_vec())).collect()
    }

    /// Bits per byte of the validation text: sequences spread over it, each token once, specials not counted.
    pub fn bits_per_byte(&self, trainer: &mut Trainer, sequences: u64) -> anyhow::Result<f64> {
        let count = self.val.token_count();
        let window = self.seq_len as u64 + 1;
        if count < window {
            let problem = format!("the validation text has {count} tokens, and a sequence takes {window}");
            return Err(Failure::new(problem)
                .hint("prepare more text, or take a configuration with shorter sequences")
                .into());
        }
        let sequences = sequences.min(count / window).max(1);
        let stride = (count - window) / sequences.max(2).saturating_sub(1).max(1);
        let (mut nats, mut bytes) = (0.0, 0_u64);
        for at in 0..sequences {
            let begin = (at * stride).min(count - window);
            let ids: Vec<u32> = self.val.tokens().slice(begin, begin + window).iter().collect();
            let losses = trainer.evaluate(&self.rows(ids.clone())?)?;
            for (loss, id) in losses.iter().zip(&ids[1..]) {
                let own = u64::from(self.prepared.byte_lengths().get(*id as usize).copied().unwrap_or(0));
                if own > 0 {
                    nats += f64::from(*loss);
                    bytes += own;
                }
            }
        }
        Ok(nats / std::f64::consts::LN_2 / bytes.max(1) as f64)
    }
}

/// Trains.
pub fn run(args: Args, context: &Context) -> anyhow::Result<ExitCode> {
    let interrupt = Interrupt::watch()?;
    let (runtime, chip) = args.device.open(context)?;
    let mut config = super::config(&args.config)?;
    let mut text = Text::open(&args.data, args.seed, config.seq_len)?;
    let options = Options {
        learning_rate: args.lr,
        matrix_rate: args.matrix_lr,
        embedding_rate: args.embedding_lr,
        warmup: args.warmup,
        steps: args.steps,
        softcap: if args.softcap > 0.0 { args.softcap } else { f32::INFINITY },
        head_on_device: args.head_on_device,
        ..Options::default()
    };
    let resumed = match &args.checkpoint {
        Some(path) if path.exists() => Some(checkpoint::load(path)?),
        _ => None,
    };
    if args.compact && resumed.is_none() {
        text.compact()?;
    }
    let (params, state) = match resumed {
        Some((params, state)) => (params, Some(state)),
        None => (begin(&args, &mut config, &text)?, None),
    };
    if let Some(state) = &state {
        agree(&args, state, &mut config, &mut text)?;
    }
    let (recipe, predicted) = fastest(&config, &chip)?;
    let about = runtime.about();
    let mut trainer = Trainer::new(runtime.as_ref(), &config, options, params, recipe)?;
    if let Some(state) = &state {
        trainer.resume(state.progress);
        // Batches that were served before come no more.
        for _ in 0..state.data.drawn {
            text.batch(usize::from(args.grad_accum))?;
        }
    }
    if args.json {
        line(
            json!({ "event": "begin", "device": about.name, "predicted_times": about.emulated, "config": config.name,
            "parameters": config.parameters(), "vocab": config.vocab, "recipe": trainer.recipe().name,
            "step": trainer.progress().step, "compiles": runtime.budget().spent }),
        )?;
    } else {
        println_or_stop(&format!(
            "{}: {} parameters, {} tokens a sequence, {} ids, recipe {}, {} programs of {} compiled",
            config.name,
            config.parameters(),
            config.seq_len,
            config.vocab,
            trainer.recipe().name,
            runtime.budget().spent,
            runtime.budget().limit
        ))?;
        let times = if about.emulated {
            format!("{}: device times are PREDICTED, {:.2} ms a layer", about.name, predicted * 1e3)
        } else {
            format!("{}: device times are measured", about.name)
        };
        println_or_stop(&times)?;
    }
    let mut saved = trainer.progress().step;
    let began = Instant::now();
    while trainer.progress().step < args.steps && !interrupt.happened() {
        let batch = text.batch(usize::from(args.grad_accum))?;
        let report = trainer.step(&batch)?;
        let whole = report.step.is_multiple_of(args.val_every) || report.step == args.steps;
        let bpb = match whole {
            true => Some(text.bits_per_byte(&mut trainer, args.val_sequences)?),
            false => None,
        };
        say(&args, &report, bpb, &trainer, began)?;
        if whole && let Some(path) = &args.checkpoint {
            save(path, &trainer, &text, &args)?;
            saved = report.step;
        }
    }
    if let Some(path) = &args.checkpoint
        && saved != trainer.progress().step
    {
        save(path, &trainer, &text, &args)?;
    }
    if let Some(path) = &args.export {
        weights::export(path, &config, trainer.params(), trainer.options().softcap)?;
        if !args.json {
            println_or_stop(&format!("exported  {}", path.display()))?;
        }
    }
    if !args.json {
        let progress = trainer.progress();
        println_or_stop(&format!(
            "{} steps, {} skipped, loss scale {}, {:.1} s by the clock",
            progress.step,
            progress.skipped,
            progress.loss_scale,
            began.elapsed().as_secs_f64()
        ))?;
        if let Some(path) = &args.checkpoint {
            println_or_stop(&format!("checkpoint {}; the same command goes on from it", path.display()))?;
        }
    }
    Ok(if interrupt.happened() { ExitCode::Interrupted } else { ExitCode::Success })
}

fn begin(args: &Args, config: &mut Config, text: &Text) -> anyhow::Result<Params> {
    let Some(path) = &args.from_public else {
        config.vocab = text.vocab();
        return Ok(Params::random(config, args.seed));
    };
    let found = public::read(path)?;
    if found.config.vocab < text.vocab() {
        let problem =
            format!("{} has {} ids, and the data {}", path.display(), found.config.vocab, text.vocab());
        return Err(Failure::new(problem).hint("prepare data with the checkpoint's vocabulary").into());
    }
    if found.config.seq_len != text.seq_len {
        let problem = format!(
            "{} has sequences of {} tokens, and `{}` of {}",
            path.display(),
            found.config.seq_len,
            config.name,
            text.seq_len
        );
        return Err(Failure::new(problem).hint("take the configuration that it was made with").into());
    }
    *config = found.config;
    Ok(found.params)
}

/// A checkpoint and the command line must mean the same run.
fn agree(args: &Args, state: &State, config: &mut Config, text: &mut Text) -> anyhow::Result<()> {
    let (own, data) = (state.config.clone(), &state.data);
    let compact =
        |is: bool| if is { "rows for its own tokens alone" } else { "rows for all tokens" }.to_owned();
    let pairs = [
        (
            "the configuration",
            own.name.clone(),
            if args.from_public.is_some() { own.name.clone() } else { config.name.clone() },
        ),
        ("the seed", data.seed.to_string(), args.seed.to_string()),
        ("a run of steps:", data.steps.to_string(), args.steps.to_string()),
        ("sequences a step:", data.rows.to_string(), args.grad_accum.to_string()),
        ("a vocabulary with", compact(!data.vocabulary.is_empty()), compact(args.compact)),
        ("tokens a sequence:", own.seq_len.to_string(), text.seq_len.to_string()),
    ];
    if let Some((what, own, asked)) = pairs.iter().find(|(_, own, asked)| own != asked) {
        return Err(Failure::new(format!("the checkpoint has {what} {own}, and {asked} is asked for"))
            .hint("give the options of the run that made it, or another --checkpoint")
            .into());
    }
    if !data.vocabulary.is_empty() {
        text.compact = Some(Compact::from_ids(data.vocabulary.clone()));
    }
    if own.vocab < text.vocab() {
        let problem = format!("the checkpoint has {} ids, and the data {}", own.vocab, text.vocab());
        return Err(Failure::new(problem).hint("give the data that it was made with").into());
    }
    *config = own;
    Ok(())
}

fn save(path: &Path, trainer: &Trainer, text: &Text, args: &Args) -> Result<(), TrainError> {
    let vocabulary = text.compact.as_ref().map(|compact| compact.ids().to_vec()).unwrap_or_default();
    let rows = usize::from(args.grad_accum);
    let data = Drawn { drawn: text.drawn, rows, seed: args.seed, steps: args.steps, vocabulary };
    checkpoint::save(path, trainer.params(), &State::new(trainer.config(), trainer.progress(), data))
}

fn line(value: serde_json::Value) -> anyhow::Result<()> {
    println_or_stop(&value.to_string())
}

fn say(
    args: &Args,
    report: &StepReport,
    bpb: Option<f64>,
    trainer: &Trainer,
    began: Instant,
) -> anyhow::Result<()> {
    if args.json {
        let device = if report.device.predicted { "predicted_device_seconds" } else { "device_seconds" };
        return line(json!({ "event": "step", "step": report.step, "loss": report.loss, "val_bpb": bpb,
            "gradient_norm": report.gradient_norm, "learning_rate": report.rate * args.lr, "loss_scale": report.loss_scale,
            "stream": report.stream, "skipped": report.skipped, (device): report.device.device,
            "seconds": began.elapsed().as_secs_f64() }));
    }
    if let Some(why) = &report.skipped {
        return println_or_stop(&format!(
            "step {:6}  skipped: {why} (loss scale {})",
            report.step, report.loss_scale
        ));
    }
    if bpb.is_none() && !report.step.is_multiple_of(10) && report.step != 1 {
        return Ok(());
    }
    let val = bpb
        .map_or_else(String::new, |bpb| format!("  val_bpb {bpb:.4} (n = {} sequences)", args.val_sequences));
    let how = if report.device.predicted { "predicted" } else { "measured" };
    let lost = if report.stream > 50.0 { "; the stream is lost, lower the learning rate" } else { "" };
    println_or_stop(&format!(
        "step {:6}  loss {:.4}{val}  |x| {:.1}{lost}  device {:.1} ms {how}, {:.2} s a step by the clock",
        report.step,
        report.loss,
        report.stream,
        report.device.device * 1e3,
        began.elapsed().as_secs_f64() / trainer.progress().step.max(1) as f64
    ))
}
