//! What agents print while they work: one reader for each of their formats, pure.
//!
//! Sources, all read in the packages themselves or in their documentation: Claude Code 2.1 (`stream-json`: `system`
//! with `session_id`, `assistant` with `message.usage`, `result` with `subtype`, `is_error`, `num_turns`,
//! `total_cost_usd`, `usage`); Codex 0.171 (`exec --json`: `thread.started`, `turn.completed` with `usage`,
//! `turn.failed`, `error`, `item.completed`); Gemini CLI 0.61 (`stream-json`: `init`, `message`, `tool_use`, `result`
//! with `status`, `stats`, `error`); OpenCode 1.18 (`run --format json`: `step_finish` with `part.cost` and
//! `part.tokens`, `text`, `error`); Aider 0.86 (lines `Tokens: 2.5k sent, 1.2k received. Cost: $0.01 message`).

use std::collections::BTreeMap;

use serde_json::Value;

use super::AgentKind;
use crate::record::Spending;

/// What was heard of an agent so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Heard {
    /// Without its seconds.
    pub(super) spending: Spending,
    /// Its last words.
    pub(super) said: Option<String>,
    /// What it says went wrong.
    pub(super) failure: Option<String>,
    /// Tokens of messages that no sum was told of yet, by the message's id: each is told once or more often.
    messages: BTreeMap<String, [u64; 2]>,
    /// Set when the model behind it is busy: it may work later. Seconds where they are told.
    pub(super) busy: Option<Option<u64>>,
}

impl Heard {
    /// Takes one line of its standard output in. Lines that are not understood are passed over: formats grow.
    pub(super) fn line(&mut self, kind: &AgentKind, line: &str) {
        if *kind == AgentKind::Aider {
            return self.aider(line);
        }
        let Ok(event) = serde_json::from_str::<Value>(line.trim()) else { return };
        match kind {
            AgentKind::Claude => self.claude(&event),
            AgentKind::Codex => self.codex(&event),
            AgentKind::Gemini => self.gemini(&event),
            AgentKind::OpenCode => self.opencode(&event),
            AgentKind::Aider | AgentKind::Acp(_) => {}
        }
    }

    /// What it cost so far, without its seconds: sums where they are told, and messages since.
    pub(super) fn spent(&self) -> Spending {
        let since = self.messages.values().fold([0, 0], |sum, one| [sum[0] + one[0], sum[1] + one[1]]);
        let [input, output] = since.map(|tokens| (tokens > 0).then_some(tokens));
        self.spending.plus(Spending { input_tokens: input, output_tokens: output, ..Spending::default() })
    }

    /// Takes a line of its standard error in: complaints of the model's host stand there, too.
    pub(super) fn complaint(&mut self, line: &str) {
        if is_busy(line) {
            self.busy = Some(seconds_told(line));
        }
    }

    fn claude(&mut self, event: &Value) {
        match text(event, "/type") {
            Some("assistant") => {
                let message = &event["message"];
                if let Some(id) = message["id"].as_str() {
                    let output = message["usage"]["output_tokens"].as_u64().unwrap_or(0);
                    let tokens = [claude_input(&message["usage"]).unwrap_or(0), output];
                    self.messages.insert(id.to_owned(), tokens);
                }
                if let Some(said) = content_text(&event["message"]["content"]) {
                    self.said = Some(said);
                }
            }
            Some("result") => {
                let usage = &event["usage"];
                // It sums up what its messages told.
                self.messages.clear();
                self.spending = self.spending.plus(Spending {
                    turns: event["num_turns"].as_u64(),
                    input_tokens: claude_input(usage),
                    output_tokens: usage["output_tokens"].as_u64(),
                    usd: event["total_cost_usd"].as_f64().filter(|usd| *usd >= 0.0),
                    ..Spending::default()
                });
                if let Some(said) = text(event, "/result") {
                    self.said = Some(said.to_owned());
                }
                if event["is_error"].as_bool() == Some(true) {
                    let what = text(event, "/result").or(text(event, "/subtype")).unwrap_or("error");
                    self.fail(what);
                }
            }
            _ => {}
        }
    }

    fn codex(&mut self, event: &Value) {
        match text(event, "/type") {
            Some("turn.completed") => {
                // A connection that broke and was made again is told as an error, too.
                (self.failure, self.busy) = (None, None);
                let usage = &event["usage"];
                self.spending = self.spending.plus(Spending {
                    turns: Some(1),
                    input_tokens: usage["input_tokens"].as_u64(),
                    output_tokens: usage["output_tokens"].as_u64(),
                    ..Spending::default()
                });
            }
            Some("turn.failed") => self.fail(text(event, "/error/message").unwrap_or("the turn failed")),
            Some("error") => self.fail(text(event, "/message").unwrap_or("error")),
            Some("item.completed") if text(event, "/item/type") == Some("agent_message") => {
                self.said = text(event, "/item/text").map(str::to_owned);
            }
            _ => {}
        }
    }

    fn gemini(&mut self, event: &Value) {
        match text(event, "/type") {
            Some("message") if text(event, "/role") == Some("assistant") => {
                let piece = text(event, "/content").unwrap_or_default();
                match (event["delta"].as_bool(), &mut self.said) {
                    (Some(true), Some(said)) => said.push_str(piece),
                    _ => self.said = Some(piece.to_owned()),
                }
            }
            Some("tool_use") => self.said = None,
            Some("result") => {
                let stats = &event["stats"];
                self.spending = self.spending.plus(Spending {
                    input_tokens: stats["input_tokens"].as_u64(),
                    output_tokens: stats["output_tokens"].as_u64(),
                    ..Spending::default()
                });
                if text(event, "/status") == Some("error") {
                    self.fail(text(event, "/error/message").unwrap_or("error"));
                }
            }
            _ => {}
        }
    }

    fn opencode(&mut self, event: &Value) {
        match text(event, "/type") {
            Some("step_finish") => {
                (self.failure, self.busy) = (None, None);
                let part = &event["part"];
                let input = [&part["tokens"]["input"], &part["tokens"]["cache"]["read"]];
                let input: Vec<u64> = input.iter().filter_map(|tokens| tokens.as_u64()).collect();
                self.spending = self.spending.plus(Spending {
                    turns: Some(1),
                    input_tokens: (!input.is_empty()).then(|| input.iter().sum()),
                    output_tokens: part["tokens"]["output"].as_u64(),
                    usd: part["cost"].as_f64().filter(|usd| *usd >= 0.0),
                    ..Spending::default()
                });
            }
            Some("text") => self.said = text(event, "/part/text").map(str::to_owned),
            Some("error") => {
                let paths = ["/error/data/message", "/error/message", "/message", "/error/name"];
                self.fail(paths.iter().find_map(|path| text(event, path)).unwrap_or("error"));
            }
            _ => {}
        }
    }

    fn aider(&mut self, line: &str) {
        let line = line.trim();
        if let Some(rest) = line.strip_prefix("Tokens: ") {
            let tokens = |what: &str| thousands(rest.split(what).next()?.split([' ', ',']).next_back()?);
            let usd = rest.split_once("Cost: $").and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
            self.spending = self.spending.plus(Spending {
                turns: Some(1),
                input_tokens: tokens(" sent"),
                output_tokens: tokens(" received"),
                usd,
                ..Spending::default()
            });
        } else if line.starts_with("litellm.") {
            self.fail(line);
        } else if !line.is_empty() {
            self.said = Some(line.to_owned());
        }
    }

    fn fail(&mut self, what: &str) {
        if is_busy(what) {
            self.busy = Some(seconds_told(what));
        }
        self.failure = Some(what.to_owned());
    }
}

/// Tokens that a model of Claude Code's read, cached ones included.
fn claude_input(usage: &Value) -> Option<u64> {
    let parts = ["input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"];
    let parts: Vec<u64> = parts.iter().filter_map(|name| usage[name].as_u64()).collect();
    (!parts.is_empty()).then(|| parts.iter().sum())
}

fn text<'e>(event: &'e Value, pointer: &str) -> Option<&'e str> {
    event.pointer(pointer)?.as_str()
}

/// The texts in a list of content blocks.
fn content_text(content: &Value) -> Option<String> {
    let texts = content.as_array()?.iter().filter_map(|block| block["text"].as_str());
    let texts: Vec<&str> = texts.collect();
    (!texts.is_empty()).then(|| texts.join("\n"))
}

/// `2.5k`, `1.2M`, `980`.
fn thousands(text: &str) -> Option<u64> {
    let (number, factor) = match text.trim_end_matches(|c: char| c.is_ascii_alphabetic()) {
        number if text.ends_with('k') => (number, 1e3),
        number if text.ends_with('M') => (number, 1e6),
        number => (number, 1.0),
    };
    let value = number.parse::<f64>().ok().filter(|value| *value >= 0.0)? * factor;
    Some(value.round() as u64)
}

/// Words by which hosts of models say that it may work later.
fn is_busy(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    [
        "rate limit",
        "rate_limit",
        "ratelimit",
        "too many requests",
        "overloaded",
        "resource_exhausted",
        "status 529",
    ]
    .iter()
    .any(|words| lower.contains(words))
}

/// `try again in 20s`, `retry after 20 seconds`.
fn seconds_told(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let rest = ["again in ", "retry after ", "retry-after: ", "retry in "]
        .iter()
        .find_map(|words| lower.split_once(words).map(|(_, rest)| rest.to_owned()))?;
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    let number: f64 = rest[..end].parse().ok()?;
    let unit = rest[end..].trim_start();
    let factor = match unit {
        unit if unit.starts_with("ms") => 0.001,
        unit if unit.starts_with('m') => 60.0,
        unit if unit.starts_with('h') => 3600.0,
        _ => 1.0,
    };
    Some((number * factor).ceil().clamp(0.0, 86_400.0) as u64)
}
