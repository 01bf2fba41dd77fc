//! A server that speaks OpenAI's completions: llama-server, MLX, Ollama, LM Studio, vLLM.

use std::io::{BufRead as _, BufReader};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use ureq::Agent;

use super::{Ask, Runtime, Timing};
use crate::error::Failure;

/// A server and the model that is asked there.
pub struct Server {
    agent: Agent,
    base: String,
    model: Option<String>,
    name: String,
    /// Tokens that a word of the prompt becomes, as learned from its answers.
    tokens_a_word: f64,
}

/// Words of which prompts are made: plain, so that most tokenizers have them.
const WORDS: [&str; 16] = [
    "river", "stone", "paper", "green", "seven", "house", "light", "music", "bread", "train", "cloud",
    "garden", "window", "letter", "winter", "market",
];

impl Server {
    /// Reaches the server at `url` (with or without `/v1`), and asks it what it has.
    pub fn connect(url: &str) -> anyhow::Result<Server> {
        let base = url.trim_end_matches('/').trim_end_matches("/v1").to_owned();
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .user_agent(concat!("sprag/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(Duration::from_secs(10)))
            .timeout_global(Some(Duration::from_secs(3600)));
        let local = ["//localhost", "//127.", "//[::1]"].iter().any(|host| base.contains(host));
        let agent = if local { config.proxy(None) } else { config }.build().new_agent();
        let unreachable = |cause: &dyn std::fmt::Display| {
            Failure::new(format!("cannot reach {base}: {cause}")).hint("is the server running?")
        };
        let response = agent.get(&format!("{base}/v1/models")).call().map_err(|cause| unreachable(&cause))?;
        if response.status().as_u16() != 200 {
            return Err(unreachable(&format!(
                "it answered {} to a question for its models",
                response.status()
            ))
            .into());
        }
        let text = response.into_body().read_to_string().map_err(|cause| unreachable(&cause))?;
        let models: Value = serde_json::from_str(&text).unwrap_or_default();
        let model = models["data"][0]["id"].as_str().map(str::to_owned);
        let name = match &model {
            Some(model) => format!("{base} ({model})"),
            None => base.clone(),
        };
        Ok(Server { agent, base, model, name, tokens_a_word: 1.3 })
    }

    /// The name by which it is shown.
    pub fn named(mut self, name: &str) -> Server {
        name.clone_into(&mut self.name);
        self
    }

    fn prompt(&self, ask: Ask) -> String {
        let words = (f64::from(ask.prompt) / self.tokens_a_word).round().max(1.0) as usize;
        let mut random = ask.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut text = format!("{:x}", random >> 40);
        for _ in 1..words {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            text.push(' ');
            text.push_str(WORDS[(random >> 33) as usize % WORDS.len()]);
        }
        text
    }
}

impl Runtime for Server {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn answer(&mut self, ask: Ask) -> anyhow::Result<Timing> {
        let prompt = self.prompt(ask);
        let words = prompt.split(' ').count();
        let body = json!({
            "model": self.model, "prompt": prompt, "max_tokens": ask.generate, "temperature": 0, "stream": true,
            "stream_options": { "include_usage": true },
            // Known to llama-server and vLLM; others ignore what they do not know.
            "ignore_eos": true, "cache_prompt": false,
        });
        let began = Instant::now();
        let response = self
            .agent
            .post(&format!("{}/v1/completions", self.base))
            .header("Content-Type", "application/json")
            .send(body.to_string())
            .with_context(|| format!("{} does not answer", self.base))?;
        let status = response.status();
        let mut lines = BufReader::new(response.into_body().into_reader()).lines();
        if status.as_u16() != 200 {
            let said = lines.next().and_then(Result::ok).unwrap_or_default();
            bail!("{} answered {status}: {}", self.base, said.chars().take(200).collect::<String>());
        }
        let (mut first, mut last) = (None, began);
        let mut usage = Value::Null;
        for line in lines {
            let line = line.with_context(|| format!("{} broke off", self.base))?;
            let Some(data) = line.strip_prefix("data:").map(str::trim) else { continue };
            if data == "[DONE]" {
                break;
            }
            let event: Value =
                serde_json::from_str(data).with_context(|| format!("{} sends no JSON", self.base))?;
            if event["usage"].is_object() {
                usage = event["usage"].clone();
            }
            if event["choices"][0]["text"].is_string() && event["choices"][0]["finish_reason"].is_null() {
                last = Instant::now();
                first.get_or_insert(last);
            }
        }
        let Some(first) = first else { bail!("{} made no token", self.base) };
        // A length that is guessed would be a rate that is made up.
        let count = |name: &str| {
            let told = usage[name].as_u64().and_then(|count| u32::try_from(count).ok());
            told.with_context(|| format!("{} does not tell `usage.{name}` at the end of a stream", self.base))
        };
        let prompt_tokens = count("prompt_tokens")?;
        if words > 8 {
            self.tokens_a_word = f64::from(prompt_tokens) / words as f64;
        }
        Ok(Timing {
            prompt: prompt_tokens,
            prompt_seconds: (first - began).as_secs_f64(),
            // A chunk may hold several tokens: the server's own count is right.
            generated: count("completion_tokens")?,
            decode_seconds: (last - first).as_secs_f64(),
        })
    }

    fn memory_bytes(&self) -> Option<u64> {
        None
    }
}
