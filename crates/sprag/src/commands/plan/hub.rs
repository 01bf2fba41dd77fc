//! Configurations and headers from Hugging Face, or from the server that `HF_ENDPOINT` names.

use std::io::Read as _;
use std::time::Duration;

use serde_json::Value;
use sprag_measure::plan::{SafetensorsModel, read_safetensors, safetensors_header_bytes};
use ureq::Agent;

use crate::environment::Environment;
use crate::error::Failure;

/// Longest configuration or index.
const MOST_TEXT: u64 = 64 << 20;

/// `ORGANISATION/NAME`, and a file in it.
#[derive(Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Organisation and name.
    pub repository: String,
    /// One of its files.
    pub file: Option<String>,
}

impl Wanted {
    /// Takes the name apart.
    pub fn parse(text: &str) -> anyhow::Result<Wanted> {
        let parts: Vec<&str> = text.split('/').collect();
        let plain = |part: &&str| {
            let allowed = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
            !part.is_empty() && part.chars().all(allowed) && !part.starts_with('.')
        };
        match parts.as_slice() {
            [organisation, name, rest @ ..] if parts.iter().all(plain) => Ok(Wanted {
                repository: format!("{organisation}/{name}"),
                file: (!rest.is_empty()).then(|| rest.join("/")),
            }),
            _ => Err(Failure::new(format!("`hf:{text}` names no repository"))
                .hint("write hf:ORGANISATION/NAME, as in hf:Qwen/Qwen3-8B")
                .into()),
        }
    }
}

/// The server.
pub struct Hub {
    agent: Agent,
    endpoint: String,
    token: Option<String>,
}

impl Hub {
    /// `HF_ENDPOINT` and `HF_TOKEN` are what that server's own tools read.
    pub fn new(environment: &Environment) -> Hub {
        let endpoint = environment.text("HF_ENDPOINT").unwrap_or("https://huggingface.co");
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .user_agent(concat!("sprag/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(Duration::from_secs(15)))
            .timeout_global(Some(Duration::from_secs(300)))
            .build()
            .new_agent();
        Hub {
            agent,
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            token: environment.text("HF_TOKEN").map(str::to_owned),
        }
    }

    /// A whole small file; `None` where it is not there.
    pub fn text(&self, repository: &str, file: &str) -> anyhow::Result<Option<String>> {
        let bytes = self.bytes(repository, file, None)?;
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// The first bytes of a file.
    pub fn beginning(&self, repository: &str, file: &str, length: u64) -> anyhow::Result<Vec<u8>> {
        let bytes = self.bytes(repository, file, Some(length))?;
        Ok(bytes.ok_or_else(|| {
            Failure::new(format!("hf:{repository}/{file} is not there")).hint("is the name right?")
        })?)
    }

    /// Exact sizes: by the index, else by the header of a single file; `None` where there are no safetensors.
    pub fn weights(&self, repository: &str) -> anyhow::Result<Option<SafetensorsModel>> {
        let names: Vec<String> = match self.text(repository, "model.safetensors.index.json")? {
            Some(index) => {
                let index: Value = serde_json::from_str(&index).unwrap_or_default();
                let files = index["weight_map"].as_object().ok_or_else(|| {
                    Failure::new(format!("the index of safetensors in hf:{repository} names no files"))
                        .hint("name a format with `--quant`: then its files are not asked for")
                })?;
                let files = files.iter().filter_map(|(_, file)| file.as_str());
                let files: std::collections::BTreeSet<&str> = files.collect();
                files.into_iter().map(str::to_owned).collect()
            }
            None => vec!["model.safetensors".to_owned()],
        };
        let mut all = SafetensorsModel::default();
        for name in &names {
            let Some(first) = self.bytes(repository, name, Some(8))? else { return Ok(None) };
            let wrong = |error| Failure::new(format!("cannot plan with hf:{repository}/{name}: {error}"));
            let length = safetensors_header_bytes(&first).map_err(wrong)?;
            all = all.and(read_safetensors(&self.beginning(repository, name, length)?).map_err(wrong)?);
        }
        Ok((all.params > 0).then_some(all))
    }

    fn bytes(&self, repository: &str, file: &str, length: Option<u64>) -> anyhow::Result<Option<Vec<u8>>> {
        let url = format!("{}/{repository}/resolve/main/{file}", self.endpoint);
        let mut request = self.agent.get(&url);
        if let Some(length) = length {
            request = request.header("Range", format!("bytes=0-{}", length.max(1) - 1));
        }
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        let unreachable = |cause: &dyn std::fmt::Display| {
            Failure::new(format!("cannot read {url}: {cause}"))
                .hint("without a connection give the model's `config.json` as a file")
        };
        let response = request.call().map_err(|cause| unreachable(&cause))?;
        match response.status().as_u16() {
            200 | 206 => {}
            404 => return Ok(None),
            401 | 403 => {
                return Err(Failure::new(format!("{url} asks for leave ({})", response.status()))
                    .hint("accept the model's licence there and set HF_TOKEN; or is the name right?")
                    .into());
            }
            _ => return Err(unreachable(&format!("the server answered {}", response.status())).into()),
        }
        let mut bytes = Vec::new();
        // A server that ignores the range sends all; only its beginning is read.
        let most = length.unwrap_or(MOST_TEXT);
        let mut body = response.into_body().into_reader().take(most);
        body.read_to_end(&mut bytes).map_err(|cause| unreachable(&cause))?;
        Ok(Some(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart_and_paths_that_climb_refused() {
        let wanted = Wanted::parse("Qwen/Qwen3-8B").unwrap();
        assert_eq!((wanted.repository.as_str(), wanted.file), ("Qwen/Qwen3-8B", None));
        let wanted = Wanted::parse("org/name-GGUF/sub/x-Q4_0.gguf").unwrap();
        assert_eq!(wanted.file.as_deref(), Some("sub/x-Q4_0.gguf"));
        for wrong in ["", "one", "a/", "/b", "a/../b", "a/b/..", "a/b?c", "a b/c", "a//b"] {
            assert!(Wanted::parse(wrong).is_err(), "{wrong}");
        }
    }
}
