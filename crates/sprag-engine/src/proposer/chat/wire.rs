//! The two dialects: what is sent, and what the streams say. Pure.
//!
//! Sources: OpenAI's reference of `/v1/chat/completions` (chunks with `choices[].delta.content` and `finish_reason`, a
//! last one with `usage`, then `[DONE]`; `response_format` of type `json_schema`) and Anthropic's of `/v1/messages`
//! (`message_start`, `content_block_delta` with `text_delta` or `input_json_delta`, `message_delta` with `stop_reason`
//! and `usage`, `message_stop`, `error`; `tool_choice` of type `tool`).

use serde_json::{Value, json};

use super::answer::schema;
use crate::proposer::offer::Unusable;
use crate::record::Spending;

/// Which of the two is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// OpenAI's, spoken by most servers.
    Completions,
    /// Anthropic's.
    Messages,
}

impl Dialect {
    /// The path of an asking, after the base.
    pub(super) fn path(self) -> &'static str {
        match self {
            Dialect::Completions => "/chat/completions",
            Dialect::Messages => "/messages",
        }
    }
}

/// One side's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    role: &'static str,
    text: String,
}

impl Turn {
    pub(super) fn user(text: String) -> Turn {
        Turn { role: "user", text }
    }

    pub(super) fn assistant(text: String) -> Turn {
        Turn { role: "assistant", text }
    }
}

/// Most tokens of one answer, where the dialect wants a number.
const MAX_TOKENS: u32 = 16_000;
/// The tool whose input is the answer, in the dialect that has no schema for text.
const TOOL: &str = "propose";

const SYSTEM: &str = "You propose one change to a program; a loop around you carries your edits out, builds, runs and \
    judges. Answer with one JSON object. `edits` is a list of changes; each has the `path` of a file that may change, a \
    `search` text copied exactly from it, whole lines that occur in it once, and the `replace` text that stands there \
    afterwards. Keep `search` as short as it can be and still be found once. A new file has an empty `search`. One idea, \
    carried out completely. Nobody answers questions.";

/// The body of an asking.
///
/// `extras`: the schema of the answer and a count of tokens in the stream, which not every server knows.
pub(super) fn request(dialect: Dialect, model: &str, turns: &[Turn], extras: bool) -> Value {
    let turns = turns.iter().map(|turn| json!({ "role": turn.role, "content": turn.text }));
    match dialect {
        Dialect::Completions => {
            let system = format!("{SYSTEM} The object has this schema: {}", schema());
            let mut messages = vec![json!({ "role": "system", "content": system })];
            messages.extend(turns);
            let mut body = json!({ "model": model, "messages": messages, "stream": true });
            if extras {
                body["stream_options"] = json!({ "include_usage": true });
                body["response_format"] = json!({
                    "type": "json_schema",
                    "json_schema": { "name": "proposal", "strict": true, "schema": schema() },
                });
            }
            body
        }
        Dialect::Messages => json!({
            "model": model,
            "system": SYSTEM,
            "messages": turns.collect::<Vec<_>>(),
            "max_tokens": MAX_TOKENS,
            "stream": true,
            "tools": [{ "name": TOOL, "description": "Propose one change.", "input_schema": schema() }],
            "tool_choice": { "type": "tool", "name": TOOL },
        }),
    }
}

/// What was heard of an answer so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Reply {
    text: String,
    /// Input of the tool, where the answer is given in that way.
    input: String,
    /// Without its seconds and turns.
    pub(super) spending: Spending,
    /// Why the model stopped.
    stopped: Option<String>,
    /// The stream said that it is over.
    over: bool,
    /// What the server says went wrong, and whether it may go away.
    failure: Option<(String, bool)>,
}

impl Reply {
    /// One event of the stream, or all of an answer that is not streamed. False: it is not understood at all.
    pub(super) fn event(&mut self, dialect: Dialect, data: &str) -> bool {
        if data.trim() == "[DONE]" {
            self.over = true;
            return true;
        }
        let Ok(event) = serde_json::from_str::<Value>(data) else { return false };
        if !event["error"].is_null() {
            let kind = event["error"]["type"].as_str().unwrap_or_default();
            let passing =
                kind.contains("overloaded") || kind.contains("rate_limit") || kind.contains("api_error");
            self.failure = Some((message(&event), passing));
            return true;
        }
        match dialect {
            Dialect::Completions => self.completion(&event),
            Dialect::Messages => self.message(&event),
        }
    }

    fn completion(&mut self, event: &Value) -> bool {
        let usage = &event["usage"];
        if usage.is_object() {
            self.spending.input_tokens = usage["prompt_tokens"].as_u64();
            self.spending.output_tokens = usage["completion_tokens"].as_u64();
            self.spending.usd = usage["cost"].as_f64().filter(|usd| *usd >= 0.0);
        }
        let Some(choices) = event["choices"].as_array() else { return false };
        if let Some(choice) = choices.first() {
            for words in [&choice["delta"]["content"], &choice["message"]["content"]] {
                self.text.push_str(words.as_str().unwrap_or_default());
            }
            if let Some(refusal) =
                choice["delta"]["refusal"].as_str().or(choice["message"]["refusal"].as_str())
            {
                self.text.push_str(refusal);
            }
            if let Some(reason) = choice["finish_reason"].as_str() {
                self.stopped = Some(reason.to_owned());
            }
        }
        true
    }

    fn message(&mut self, event: &Value) -> bool {
        match event["type"].as_str() {
            Some("message_start") => self.usage(&event["message"]["usage"]),
            Some("content_block_delta") => {
                let delta = &event["delta"];
                self.text.push_str(delta["text"].as_str().unwrap_or_default());
                self.input.push_str(delta["partial_json"].as_str().unwrap_or_default());
            }
            Some("message_delta") => {
                self.usage(&event["usage"]);
                self.stopped = event["delta"]["stop_reason"].as_str().map(str::to_owned);
            }
            Some("message_stop") => self.over = true,
            // Not streamed.
            Some("message") => {
                self.usage(&event["usage"]);
                self.stopped = event["stop_reason"].as_str().map(str::to_owned);
                for block in event["content"].as_array().into_iter().flatten() {
                    self.text.push_str(block["text"].as_str().unwrap_or_default());
                    if block["input"].is_object() {
                        self.input = block["input"].to_string();
                    }
                }
            }
            Some(_) => {}
            None => return false,
        }
        true
    }

    /// Input is told at the beginning, output as a sum that grows.
    fn usage(&mut self, usage: &Value) {
        let cached = ["cache_creation_input_tokens", "cache_read_input_tokens"];
        if let Some(input) = usage["input_tokens"].as_u64() {
            let cached: u64 = cached.iter().filter_map(|name| usage[name].as_u64()).sum();
            self.spending.input_tokens = Some(input + cached);
        }
        if let Some(output) = usage["output_tokens"].as_u64() {
            self.spending.output_tokens = Some(output);
        }
    }

    /// What the model said.
    pub(super) fn text(&self) -> String {
        if self.input.is_empty() { self.text.clone() } else { self.input.clone() }
    }

    /// Whether it came to its end; if not, what is wrong and whether that may go away.
    pub(super) fn ended(&self) -> Result<(), (String, bool)> {
        match &self.failure {
            Some(failure) => Err(failure.clone()),
            None if self.over || self.stopped.is_some() => Ok(()),
            None => Err(("the answer broke off".to_owned(), true)),
        }
    }

    /// An answer that the server or a filter cut is not worth reading.
    pub(super) fn whole(&self) -> Result<(), Unusable> {
        match self.stopped.as_deref() {
            Some("length" | "max_tokens") => Err(Unusable::new(
                "the answer was cut because it was too long; change less, and keep each `search` short",
            )),
            Some(filter @ ("content_filter" | "refusal")) => {
                Err(Unusable::new(format!("the answer was stopped ({filter})")))
            }
            _ => Ok(()),
        }
    }
}

/// What a server says in the ways in which servers complain.
pub(super) fn message(body: &Value) -> String {
    let places = ["/error/message", "/message", "/detail", "/error"];
    let found = places.iter().find_map(|place| body.pointer(place)?.as_str());
    found.map_or_else(|| body.to_string(), str::to_owned)
}
