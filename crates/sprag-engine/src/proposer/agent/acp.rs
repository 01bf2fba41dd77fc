//! The client's side of the Agent Client Protocol (agentclientprotocol.com, version 1): JSON-RPC 2.0, one message a
//! line. Pure: a line in, lines to answer with out.
//!
//! The agent may read and write files of its worktree through the client; writes go to mutable files and to the answer
//! beside the brief, nowhere else. A request for permission is granted when it is an edit of such files alone, and
//! refused otherwise. Terminals are not offered.

use std::path::{Component, Path, PathBuf};

use serde_json::{Value, json};

use super::stream::Heard;
use crate::proposer::{Brief, answer};
use crate::record::Spending;
use crate::task::Files;

/// Largest file that an agent reads or writes through the client.
const FILE_BYTES: usize = 16 << 20;

/// Where the conversation stands.
pub(super) struct Client {
    worktree: PathBuf,
    brief_dir: PathBuf,
    files: Files,
    prompt: String,
    session: Option<String>,
    ended: bool,
}

const INITIALIZE: u64 = 0;
const NEW_SESSION: u64 = 1;
const PROMPT: u64 = 2;

impl Client {
    /// The client, and the first line to say.
    pub(super) fn new(brief: &Brief<'_>, prompt: &str) -> (Client, String) {
        let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let client = Client {
            worktree: real(brief.worktree),
            brief_dir: real(brief.brief_dir),
            files: brief.task.files.clone(),
            prompt: prompt.to_owned(),
            session: None,
            ended: false,
        };
        let capabilities = json!({"fs": {"readTextFile": true, "writeTextFile": true}, "terminal": false});
        let first = request(
            INITIALIZE,
            "initialize",
            json!({
                "protocolVersion": 1,
                "clientCapabilities": capabilities,
                "clientInfo": {"name": "sprag", "version": env!("CARGO_PKG_VERSION")},
            }),
        );
        (client, first)
    }

    /// True when the agent's turn is over.
    pub(super) fn ended(&self) -> bool {
        self.ended
    }

    /// Takes a line in; the lines to answer with.
    pub(super) fn line(&mut self, line: &str, heard: &mut Heard) -> Vec<String> {
        let Ok(message) = serde_json::from_str::<Value>(line.trim()) else { return Vec::new() };
        match (message["method"].as_str(), message.get("id")) {
            (Some(method), Some(id)) => vec![self.answer(id, method, &message["params"])],
            (Some("session/update"), None) => {
                update(&message["params"]["update"], heard);
                Vec::new()
            }
            (Some(_), None) => Vec::new(),
            (None, Some(id)) => self.result(id.as_u64(), &message, heard),
            (None, None) => Vec::new(),
        }
    }

    /// An answer to what the client asked.
    fn result(&mut self, id: Option<u64>, message: &Value, heard: &mut Heard) -> Vec<String> {
        if let Some(error) = message.get("error") {
            let what = error["message"].as_str().unwrap_or("error");
            let detail = error["data"]["details"].as_str().or(error["data"].as_str()).unwrap_or_default();
            heard.failure = Some(format!("{what} {detail}").trim().to_owned());
            heard.complaint(&format!("{what} {detail}"));
            self.ended = true;
            return Vec::new();
        }
        let result = &message["result"];
        match id {
            Some(INITIALIZE) => {
                vec![request(NEW_SESSION, "session/new", json!({"cwd": self.worktree, "mcpServers": []}))]
            }
            Some(NEW_SESSION) => {
                let Some(session) = result["sessionId"].as_str() else {
                    heard.failure = Some("the agent made no session".into());
                    self.ended = true;
                    return Vec::new();
                };
                self.session = Some(session.to_owned());
                let text = json!([{"type": "text", "text": self.prompt}]);
                vec![request(PROMPT, "session/prompt", json!({"sessionId": session, "prompt": text}))]
            }
            Some(PROMPT) => {
                self.ended = true;
                let usage = &result["usage"];
                heard.spending = heard.spending.plus(Spending {
                    turns: Some(1),
                    input_tokens: usage["inputTokens"].as_u64(),
                    output_tokens: usage["outputTokens"].as_u64(),
                    ..Spending::default()
                });
                match result["stopReason"].as_str() {
                    Some("end_turn") => {}
                    Some(reason) => heard.failure = Some(format!("the turn ended with {reason}")),
                    None => heard.failure = Some("the turn ended without a reason".into()),
                }
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    /// An answer to what the agent asks.
    fn answer(&self, id: &Value, method: &str, params: &Value) -> String {
        let outcome = match method {
            "session/request_permission" => Ok(self.permission(params)),
            "fs/read_text_file" => self.read(params),
            "fs/write_text_file" => self.write(params),
            other => Err((-32601, format!("`{other}` is not offered"))),
        };
        match outcome {
            Ok(result) => json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string(),
            Err((code, message)) => {
                json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message}}).to_string()
            }
        }
    }

    /// Yes to edits of what may change, no to everything else.
    fn permission(&self, params: &Value) -> Value {
        let call = &params["toolCall"];
        let places = call["locations"].as_array().cloned().unwrap_or_default();
        let edits = matches!(call["kind"].as_str(), Some("edit"))
            && !places.is_empty()
            && places.iter().all(|place| {
                place["path"].as_str().is_some_and(|path| self.writable(Path::new(path)).is_some())
            });
        let wanted = if edits { "allow_once" } else { "reject_once" };
        let options = params["options"].as_array().cloned().unwrap_or_default();
        let option = options.iter().find(|option| option["kind"].as_str() == Some(wanted));
        match option.and_then(|option| option["optionId"].as_str()) {
            Some(option) => json!({"outcome": {"outcome": "selected", "optionId": option}}),
            None => json!({"outcome": {"outcome": "cancelled"}}),
        }
    }

    fn read(&self, params: &Value) -> Result<Value, (i64, String)> {
        let path = params["path"].as_str().unwrap_or_default();
        let inside = self.inside(Path::new(path)).filter(|path| path.is_file());
        let path = inside.ok_or((-32602, format!("{path} is no file of the worktree")))?;
        let size = path.metadata().map_or(0, |metadata| metadata.len());
        if size > FILE_BYTES as u64 {
            return Err((
                -32602,
                format!("{} has {size} bytes; at most {FILE_BYTES} are read", path.display()),
            ));
        }
        let text = std::fs::read(&path).map_err(|cause| (-32603, cause.to_string()))?;
        let text = String::from_utf8_lossy(&text);
        let from = params["line"].as_u64().map_or(0, |line| line.saturating_sub(1) as usize);
        let most = params["limit"].as_u64().map_or(usize::MAX, |most| most as usize);
        let content: String = match (from, most) {
            (0, usize::MAX) => text.into_owned(),
            _ => text.split_inclusive('\n').skip(from).take(most).collect(),
        };
        Ok(json!({"content": content}))
    }

    fn write(&self, params: &Value) -> Result<Value, (i64, String)> {
        let path = params["path"].as_str().unwrap_or_default();
        let place = self.writable(Path::new(path)).ok_or((-32602, format!("{path} may not change")))?;
        let content = params["content"].as_str().ok_or((-32602, "there is no content".to_owned()))?;
        if content.len() > FILE_BYTES {
            return Err((
                -32602,
                format!("{path} would have {} bytes; at most {FILE_BYTES} are written", content.len()),
            ));
        }
        let folder = place.parent().map_or(Ok(()), std::fs::create_dir_all);
        folder.and_then(|()| std::fs::write(&place, content)).map_err(|cause| (-32603, cause.to_string()))?;
        Ok(json!({}))
    }

    /// A path of the worktree or beside the brief, links resolved; `None` when it lies elsewhere.
    fn inside(&self, path: &Path) -> Option<PathBuf> {
        let joined = self.worktree.join(path);
        if joined.components().any(|component| component == Component::ParentDir) {
            return None;
        }
        // What does not exist yet lies where its nearest existing folder lies.
        let known = joined.ancestors().find(|folder| folder.symlink_metadata().is_ok())?;
        let real = known.canonicalize().ok()?.join(joined.strip_prefix(known).ok()?);
        let real = if joined == known { known.canonicalize().ok()? } else { real };
        (real.starts_with(&self.worktree) || real.starts_with(&self.brief_dir)).then_some(real)
    }

    /// The same, when it may be written.
    fn writable(&self, path: &Path) -> Option<PathBuf> {
        let real = self.inside(path)?;
        if real == self.brief_dir.join(answer::FILE) {
            return Some(real);
        }
        let relative = real.strip_prefix(&self.worktree).ok()?.to_str()?;
        self.files.is_mutable(relative).then_some(real)
    }
}

fn request(id: u64, method: &str, params: Value) -> String {
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).to_string()
}

fn update(update: &Value, heard: &mut Heard) {
    match update["sessionUpdate"].as_str() {
        Some("agent_message_chunk") => {
            let piece = update["content"]["text"].as_str().unwrap_or_default();
            heard.said.get_or_insert_default().push_str(piece);
        }
        Some("tool_call") => heard.said = None,
        // Not in every version: what a session cost so far.
        Some("usage_update") if update["cost"]["currency"].as_str() == Some("USD") => {
            heard.spending.usd = update["cost"]["amount"].as_f64();
        }
        _ => {}
    }
}
