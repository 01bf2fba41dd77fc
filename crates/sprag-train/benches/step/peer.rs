//! PyTorch's side of the comparison: `step.py`, with and without compilation, under both settings of the
//! system's allocator.

use std::ffi::OsString;
use std::path::Path;

use sprag_measure::process::{self, Output};

use super::Sample;
use super::candidate::Config;

/// Keeps memory that was freed, so that it need not be faulted in again.
const TUNED: [(&str, &str); 3] =
    [("MALLOC_MMAP_MAX_", "0"), ("MALLOC_TRIM_THRESHOLD_", "34359738368"), ("MALLOC_TOP_PAD_", "67108864")];

/// One way to run it.
pub struct Peer {
    compile: bool,
    tuned: bool,
}

/// All ways, or none where there is no PyTorch.
pub fn settings() -> Vec<Peer> {
    if !python(&["-c", "import torch"], false).is_some_and(|output| output.success()) {
        return Vec::new();
    }
    let ways = [(false, false), (false, true), (true, false), (true, true)];
    ways.map(|(compile, tuned)| Peer { compile, tuned }).into()
}

impl Peer {
    /// As it is printed.
    pub fn name(&self) -> String {
        let compile = if self.compile { "compile" } else { "eager" };
        let allocator = if self.tuned { ", tuned allocator" } else { "" };
        format!("torch {compile}{allocator}")
    }

    /// Runs it; says on standard error why it could not.
    pub fn run(&self, config: &Config, threads: usize) -> Option<Sample> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/step/step.py").display().to_string();
        let sizes = [
            config.n_layer,
            config.d_model,
            config.n_head,
            config.seq_len,
            config.batch,
            config.vocab,
            threads,
        ];
        let mut arguments: Vec<String> = vec![script, config.name.clone()];
        arguments.extend(sizes.iter().map(ToString::to_string));
        arguments.extend(config.bf16.then(|| "--bf16".to_owned()));
        arguments.extend(self.compile.then(|| "--compile".to_owned()));
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let output = python(&arguments, self.tuned)?;
        let result = output.success().then(|| serde_json::from_str(&output.text()).ok()).flatten();
        if result.is_none() {
            eprintln!("{}: {}", self.name(), output.error_text());
        }
        result
    }
}

fn python(arguments: &[&str], tuned: bool) -> Option<Output> {
    #[expect(
        clippy::disallowed_methods,
        reason = "a benchmark is a program of its own, and hands all of it on"
    )]
    let mut environment: Vec<(OsString, OsString)> = std::env::vars_os().collect();
    if tuned {
        environment.extend(TUNED.map(|(name, value)| (name.into(), value.into())));
    }
    process::output("python3", arguments.iter().copied(), Path::new("/"), &environment).ok()
}
