//! The template with its knobs set, built as a candidate and run beside a stand-in for the evaluator.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Instant;

use sprag_measure::process::{self, Cancel, Command, Limits, Stdin};
use sprag_train::ops;
use sprag_train::protocol::{self, Budget, FromCandidate, Start, ToCandidate};

use super::Sample;

/// Steps before the clock counts, and steps that count.
const WARMUP: usize = 3;
const STEPS: usize = 15;

/// Sizes of a model and its batch.
#[derive(Clone, Debug)]
pub struct Config {
    pub name: String,
    pub n_layer: usize,
    pub d_model: usize,
    pub n_head: usize,
    pub seq_len: usize,
    pub batch: usize,
    pub vocab: usize,
    pub bf16: bool,
    pub mlp: Mlp,
}

/// How the template's MLP is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mlp {
    /// As it is: one operation.
    Fused,
    /// Two linear layers with Burn's operations between them.
    SquaredRelu,
    /// The same with another activation.
    Gelu,
    /// The same with the library's operation for it.
    FusedGelu,
}

impl Mlp {
    fn edited(self, text: &str) -> String {
        const FUSED: &str = "ops::mlp(x, self.up.get(), self.down.get())";
        assert!(text.contains(FUSED), "the template has no `{FUSED}`");
        let between = match self {
            Mlp::Fused => return text.to_owned(),
            Mlp::SquaredRelu => "sprag_train::burn::tensor::activation::relu(hidden).powi_scalar(2)",
            Mlp::Gelu => "sprag_train::burn::tensor::activation::gelu(hidden)",
            Mlp::FusedGelu => "ops::gelu(hidden)",
        };
        let plain = format!(
            "{{ let hidden = ops::linear(x, self.up.get()); \
             ops::linear({between}, self.down.get()) }}"
        );
        text.replace(FUSED, &plain)
    }
}

impl Config {
    /// The small one (`S`) or the middle one (`M`) of docs/performance.md.
    pub fn named(name: &str, bf16: bool) -> Config {
        let (n_layer, d_model, n_head, seq_len, batch, vocab) =
            if name == "M" { (6, 512, 8, 512, 4, 8192) } else { (4, 256, 4, 256, 8, 4096) };
        Config {
            name: name.to_owned(),
            n_layer,
            d_model,
            n_head,
            seq_len,
            batch,
            vocab,
            bf16,
            mlp: Mlp::Fused,
        }
    }

    /// Weights that a token is multiplied with: what counts for the operations.
    fn matrix_parameters(&self) -> usize {
        self.n_layer * 12 * self.d_model * self.d_model + self.d_model * self.vocab
    }

    /// Operations of one token's training; attention looks back over half of its window on average.
    pub fn flops_per_token(&self) -> f64 {
        ops::flops_per_token(self.matrix_parameters(), self.n_layer, self.d_model, self.seq_len / 2)
    }

    /// What an agent would have written into the template: the same model, batch and optimiser as the peer.
    fn knobs(&self) -> Vec<(&'static str, String)> {
        let precision = if self.bf16 { "Precision::Bf16" } else { "Precision::Fp32" };
        vec![
            ("N_LAYER", self.n_layer.to_string()),
            ("D_MODEL", self.d_model.to_string()),
            ("N_HEAD", self.n_head.to_string()),
            ("SEQ_LEN", self.seq_len.to_string()),
            ("BATCH_SIZE", self.batch.to_string()),
            ("MUON", "false".to_owned()),
            ("PRECISION", precision.to_owned()),
        ]
    }
}

/// A built candidate.
pub struct Candidate {
    program: PathBuf,
    config: Config,
}

impl Candidate {
    /// Builds it; cargo's words go to standard error.
    pub fn build(config: &Config) -> Candidate {
        let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
        let template = crate_dir.join("../../templates/gpt");
        let name = format!(
            "step-{}-{}-{}-{}-{:?}",
            config.name,
            config.n_layer,
            config.batch,
            if config.bf16 { "bf16" } else { "fp32" },
            config.mlp
        )
        .to_lowercase();
        let root = crate_dir.join("../../target/step-bench");
        let folder = root.join(&name);
        fs::create_dir_all(folder.join("src")).expect("a folder for the candidate");
        let read = |path: &str| fs::read_to_string(template.join(path)).expect("the template");
        let train = config
            .knobs()
            .into_iter()
            .fold(read("src/train.rs"), |text, (knob, value)| set(&text, knob, &value));
        let train = config.mlp.edited(&train);
        let manifest = read("Cargo.toml").replace("name = \"gpt\"", &format!("name = \"{name}\""));
        let library = crate_dir.display().to_string();
        let manifest = manifest.replace("../../crates/sprag-train", &library)
            + "\n[workspace]\n"
            + &read("profile.toml");
        write(&folder.join("src/train.rs"), &train);
        write(&folder.join("src/main.rs"), &read("src/main.rs"));
        write(&folder.join("Cargo.toml"), &manifest);
        fs::copy(crate_dir.join("../../Cargo.lock"), folder.join("Cargo.lock")).expect("the lock file");
        let arguments = ["build", "--release", "--quiet", "--target-dir", "../target"];
        let built = process::output("cargo", arguments, &folder, &environment(None)).expect("cargo starts");
        assert!(built.success(), "{}", built.error_text());
        Candidate { program: root.join("target/release").join(name), config: config.clone() }
    }

    /// Trains for some steps on random tokens.
    pub fn run(&self, threads: usize) -> Sample {
        let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
        let command = Command::new(&self.program, "/").stdin(Stdin::Socket(theirs.into()));
        let command = Command { env: environment(Some(threads)), ..command };
        let (observed, finished) = std::thread::scope(|scope| {
            let served = scope.spawn(|| self.serve(ours));
            let finished = process::run(command, &Limits::default(), &Cancel::default(), &mut |_, _| {});
            (
                served.join().expect("the candidate keeps to the protocol"),
                finished.expect("the candidate starts"),
            )
        });
        let mut milliseconds: Vec<f64> = observed.seconds.iter().map(|seconds| seconds * 1e3).collect();
        milliseconds.sort_by(f64::total_cmp);
        let median = milliseconds[milliseconds.len() / 2];
        Sample {
            engine: "sprag".to_owned(),
            config: self.config.name.clone(),
            compile: false,
            bf16: self.config.bf16,
            threads,
            params: observed.parameters,
            loss: observed.loss,
            tokens_per_second: ((self.config.batch * self.config.seq_len) as f64 / median * 1e3).round(),
            median_ms: median,
            min_ms: milliseconds[0],
            max_ms: milliseconds[milliseconds.len() - 1],
            warmup_seconds: observed.warmup_seconds,
            peak_rss_mib: finished.peak_memory_bytes as f64 / f64::from(1 << 20),
        }
    }

    /// Serves batches and notes when steps are done.
    fn serve(&self, mut socket: UnixStream) -> Observed {
        let mut state = 1_u32;
        let mut observed = Observed::default();
        let start = Start {
            seed: 1,
            vocab_size: self.config.vocab as u32,
            max_seq_len: self.config.seq_len as u32,
            bos: 0,
            budget: Budget::Steps((WARMUP + STEPS) as u64),
        };
        let began = Instant::now();
        let mut last = began;
        let mut steps = 0;
        loop {
            let answer = match protocol::receive(&mut socket, protocol::MAX_PAYLOAD_BYTES).expect("a message")
            {
                FromCandidate::Hello { .. } => ToCandidate::Start(start),
                FromCandidate::NextBatch { .. } if steps == WARMUP + STEPS => ToCandidate::Stop,
                FromCandidate::NextBatch { rows, seq_len } => {
                    let tokens =
                        (0..rows * (seq_len + 1)).map(|_| random(&mut state) % start.vocab_size).collect();
                    ToCandidate::Batch { progress: 0.5, tokens }
                }
                FromCandidate::Fact { name, value } => {
                    if name == "parameters" {
                        observed.parameters = value;
                    }
                    continue;
                }
                FromCandidate::Step { loss } => {
                    steps += 1;
                    observed.loss = loss;
                    match steps {
                        WARMUP => observed.warmup_seconds = began.elapsed().as_secs_f64(),
                        steps if steps > WARMUP => observed.seconds.push(last.elapsed().as_secs_f64()),
                        _ => {}
                    }
                    last = Instant::now();
                    continue;
                }
                FromCandidate::Trained => ToCandidate::Finish,
                other => panic!("the candidate said {other:?}"),
            };
            protocol::send(&mut socket, &answer).expect("the candidate listens");
            if answer == ToCandidate::Finish {
                return observed;
            }
        }
    }
}

#[derive(Default)]
struct Observed {
    parameters: f64,
    loss: f32,
    warmup_seconds: f64,
    seconds: Vec<f64>,
}

fn random(state: &mut u32) -> u32 {
    *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
    *state >> 8
}

/// Replaces the value of a constant.
fn set(text: &str, knob: &str, value: &str) -> String {
    let start = text.find(&format!("const {knob}: ")).unwrap_or_else(|| panic!("the template has no {knob}"));
    let equals = start + text[start..].find(" = ").expect("a constant has a value") + 3;
    let end = equals + text[equals..].find(';').expect("a constant ends");
    format!("{}{value}{}", &text[..equals], &text[end..])
}

/// Writes only what changes, so that cargo does not build again for nothing.
fn write(path: &Path, text: &str) {
    if fs::read_to_string(path).is_ok_and(|there| there == text) {
        return;
    }
    fs::write(path, text).expect("a file of the candidate");
}

/// This process's environment, with a number of threads.
fn environment(threads: Option<usize>) -> Vec<(OsString, OsString)> {
    #[expect(
        clippy::disallowed_methods,
        reason = "a benchmark is a program of its own, and hands all of it on"
    )]
    let mut environment: HashMap<OsString, OsString> = std::env::vars_os().collect();
    if let Some(threads) = threads {
        environment.insert("RAYON_NUM_THREADS".into(), threads.to_string().into());
    }
    environment.into_iter().collect()
}
