//! Any command that answers a prompt and says how long it took.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use sprag_measure::process;

use super::{Ask, Runtime, Timing};

/// A command line with places for what is asked.
pub struct External {
    name: String,
    command: String,
    model: PathBuf,
    threads: u32,
    environment: Vec<(OsString, OsString)>,
}

impl External {
    /// `{model}`, `{prompt}`, `{generate}`, `{threads}` and `{seed}` are replaced; the last line that it prints is JSON with
    /// `prompt_seconds`, `decode_seconds`, and where they differ from what was asked `prompt` and `generated`.
    pub fn new(
        name: &str,
        command: &str,
        model: &Path,
        threads: u32,
        environment: &[(OsString, OsString)],
    ) -> External {
        External {
            name: name.to_owned(),
            command: command.to_owned(),
            model: model.to_owned(),
            threads,
            environment: environment.to_vec(),
        }
    }
}

impl Runtime for External {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn answer(&mut self, ask: Ask) -> anyhow::Result<Timing> {
        let line = self
            .command
            .replace("{model}", &self.model.to_string_lossy())
            .replace("{prompt}", &ask.prompt.to_string())
            .replace("{generate}", &ask.generate.to_string())
            .replace("{threads}", &self.threads.to_string())
            .replace("{seed}", &ask.seed.to_string());
        let dir = std::env::current_dir().context("this folder is gone")?;
        let output = process::output("/bin/sh", ["-c", &line], &dir, &self.environment)
            .with_context(|| format!("start `{}`", self.name))?;
        if !output.success() {
            bail!(
                "`{}` {}: {}",
                self.name,
                output.end,
                output.error_text().lines().last().unwrap_or_default()
            );
        }
        let text = output.text();
        let last = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
        let told: serde_json::Value = serde_json::from_str(last).unwrap_or_default();
        let seconds =
            |name: &str| told[name].as_f64().filter(|seconds| *seconds > 0.0 && seconds.is_finite());
        let (Some(prompt_seconds), Some(decode_seconds)) =
            (seconds("prompt_seconds"), seconds("decode_seconds"))
        else {
            bail!(
                "the last line of `{}` is no JSON with `prompt_seconds` and `decode_seconds` above 0",
                self.name
            );
        };
        let count = |name: &str, asked: u32| match told[name].as_u64() {
            Some(count) => u32::try_from(count).unwrap_or(asked),
            None => asked,
        };
        Ok(Timing {
            prompt: count("prompt", ask.prompt),
            prompt_seconds,
            generated: count("generated", ask.generate),
            decode_seconds,
        })
    }

    fn memory_bytes(&self) -> Option<u64> {
        None
    }
}
