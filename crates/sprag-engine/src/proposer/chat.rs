//! `chat:MODEL@URL`: a model behind HTTP, without an agent around it.
//!
//! It is given the brief with the files in it and answers with search-and-replace edits, which are carried out here,
//! all of them or none. An answer that cannot be carried out gets one precise complaint back. Two dialects are spoken:
//! OpenAI's `/v1/chat/completions` (llama-server, LM Studio, Ollama, vLLM, MLX and many hosts) and Anthropic's
//! `/v1/messages`.

mod answer;
mod http;
mod keys;
mod wire;

use std::ffi::OsString;
use std::fmt;
use std::io::Write;
use std::str::FromStr;
use std::time::{Duration, Instant};

use self::http::{Http, Trouble};
use self::keys::Key;
use self::wire::{Dialect, Reply, Turn};
use super::{AskingLimits, Brief, Declined, Proposal, Proposer, brief};
use crate::record::Spending;

/// Beside the brief: what the model was asked and answered, a line each.
pub const LOG: &str = "chat.jsonl";
/// Answers that may fail one after the other before the asking is given up.
const ATTEMPTS: u32 = 5;
/// First wait after a failed answer; it doubles.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// Longest wait where no time is told.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// The host that tells what an answer cost, when it is asked to.
const TELLS_COST: &str = "openrouter.ai";
/// How long a server may take to say which models it has.
const GREETING: Duration = Duration::from_secs(15);

/// A model behind HTTP, as a person names it: `chat:URL`, `chat:MODEL@URL`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChatSpec {
    /// The model; `None` is the first that the server lists.
    pub model: Option<String>,
    /// As written, without a closing slash.
    url: String,
    dialect: Dialect,
    /// What `/models` and the dialect's own path are appended to.
    base: String,
    host: String,
}

impl FromStr for ChatSpec {
    type Err = String;

    fn from_str(spec: &str) -> Result<ChatSpec, String> {
        let example = "as in `chat:http://localhost:8080` or `chat:MODEL@https://api.anthropic.com`";
        let start = ["http://", "https://"].iter().filter_map(|scheme| spec.rfind(scheme)).max();
        let Some(start) = start else { return Err(format!("name a server by its address, {example}")) };
        let (model, url) = spec.split_at(start);
        let model = match model.strip_suffix('@') {
            Some("") => return Err(format!("name a model before `@`, {example}")),
            Some(model) => Some(model.trim().to_owned()),
            None if model.is_empty() => None,
            None => return Err(format!("write `@` between model and address, {example}")),
        };
        let url = url.trim_end_matches('/').to_owned();
        let address: ureq::http::Uri =
            url.parse().map_err(|cause| format!("`{url}` is no address: {cause}"))?;
        let authority = address.scheme().and(address.authority());
        let authority = authority.ok_or_else(|| format!("`{url}` names no server, {example}"))?;
        if authority.as_str().contains('@') || address.query().is_some() {
            // It would stand in the ledger.
            return Err("an address may hold no key: keys come from the environment or the key file".into());
        }
        let host = authority.host().to_owned();
        let (base, dialect) = if let Some(base) = url.strip_suffix("/chat/completions") {
            (base.to_owned(), Dialect::Completions)
        } else if let Some(base) = url.strip_suffix("/messages") {
            (base.to_owned(), Dialect::Messages)
        } else {
            let base = if address.path() == "/" { format!("{url}/v1") } else { url.clone() };
            (base, if host == "api.anthropic.com" { Dialect::Messages } else { Dialect::Completions })
        };
        Ok(ChatSpec { model, url, dialect, base, host })
    }
}

impl fmt::Display for ChatSpec {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.model {
            Some(model) => write!(formatter, "chat:{model}@{}", self.url),
            None => write!(formatter, "chat:{}", self.url),
        }
    }
}

impl ChatSpec {
    /// Whether it can be asked at all, found out before a baseline is paid for.
    ///
    /// # Errors
    /// Cause and next step: nobody listens, the key is missing or refused, a limit cannot be kept.
    pub fn check(&self, environment: &[(OsString, OsString)], limits: &AskingLimits) -> Result<(), String> {
        if limits.max_usd.is_some() && self.host != TELLS_COST {
            return Err(
                "a server does not tell what it costs; limit it with `--max-tokens` instead of `--max-usd`"
                    .into(),
            );
        }
        let key = Key::find(&self.host, environment)?;
        let http = Http::new(self, key.as_ref(), GREETING);
        match http.models(&self.base) {
            // A host that lists no models may answer all the same.
            Ok(_) | Err(Trouble::Unknown(_)) if self.model.is_some() => Ok(()),
            Ok(models) if models.is_empty() => {
                Err(format!("it lists no model; name one, as in `chat:MODEL@{}`", self.url))
            }
            Ok(_) => Ok(()),
            Err(Trouble::Unknown(why)) => {
                Err(format!("it does not list its models ({why}); name one, as in `chat:MODEL@{}`", self.url))
            }
            Err(Trouble::Refused(why)) => Err(format!("{why}; {}", keys::hint(&self.host))),
            Err(Trouble::Busy(..)) => Ok(()),
            Err(Trouble::Passing(why) | Trouble::Over(why)) => Err(format!("{why}; is the server running?")),
        }
    }
}

/// The proposer.
pub struct ChatProposer {
    pub(super) name: String,
    pub(super) spec: ChatSpec,
    pub(super) environment: Vec<(OsString, OsString)>,
    pub(super) limits: AskingLimits,
    pub(super) spent: Option<Spending>,
    /// First wait after a failed answer.
    pub(super) pause: Duration,
}

impl ChatProposer {
    pub(super) fn new(
        spec: &ChatSpec,
        environment: &[(OsString, OsString)],
        limits: &AskingLimits,
    ) -> ChatProposer {
        ChatProposer {
            name: spec.to_string(),
            spec: spec.clone(),
            environment: environment.to_vec(),
            limits: limits.clone(),
            spent: None,
            pause: FIRST_WAIT,
        }
    }
}

impl Proposer for ChatProposer {
    fn name(&self) -> &str {
        &self.name
    }

    fn can_repair(&self) -> bool {
        true
    }

    fn can_reconsider(&self) -> bool {
        true
    }

    fn spent(&mut self) -> Option<Spending> {
        self.spent.take()
    }

    fn propose(&mut self, brief: &Brief<'_>) -> Result<Proposal, Declined> {
        let began = Instant::now();
        let mut spent = Spending::default();
        let result = self.ask(brief, began, &mut spent);
        spent.seconds = began.elapsed().as_secs_f64();
        self.spent = Some(spent);
        result
    }
}

/// One asking: what was said so far, and to whom.
struct Talk<'a> {
    http: Http,
    model: String,
    began: Instant,
    turns: Vec<Turn>,
    /// False once the server refused the schema and what else not every server knows.
    extras: bool,
    brief: &'a Brief<'a>,
}

impl ChatProposer {
    fn ask(&self, brief: &Brief<'_>, began: Instant, spent: &mut Spending) -> Result<Proposal, Declined> {
        let told = brief::tell(brief, brief::Reader::Text)?;
        let key = Key::find(&self.spec.host, &self.environment).map_err(Declined::Failed)?;
        let http = Http::new(&self.spec, key.as_ref(), self.limits.stall);
        let model = match &self.spec.model {
            Some(model) => model.clone(),
            None => {
                let models =
                    http.models(&self.spec.base).map_err(|trouble| Declined::Failed(trouble.to_string()))?;
                models
                    .into_iter()
                    .next()
                    .ok_or_else(|| Declined::Failed("the server lists no model".into()))?
            }
        };
        let turns = vec![Turn::user(told.text)];
        let mut talk = Talk { http, model, began, turns, extras: true, brief };
        let mut complained = false;
        loop {
            let reply = self.answer(&mut talk, spent)?;
            let offer = answer::read(&reply).and_then(|offer| {
                offer.gives_up()?;
                offer.carry_out(brief)?;
                Ok(offer)
            });
            let problem = match offer {
                Ok(offer) => return offer.into_answer().into_proposal(brief, &told.open),
                Err(problem) => problem,
            };
            if complained {
                return Err(Declined::Failed(format!("after one complaint: {}", problem.first_line())));
            }
            if let Some(limit) = self.limits.reached(brief.state.spent.plus(*spent)) {
                return Err(Declined::Failed(format!("{}; {limit}", problem.first_line())));
            }
            complained = true;
            talk.turns.push(Turn::assistant(reply.text()));
            talk.turns.push(Turn::user(answer::complaint(&problem)));
        }
    }

    /// One answer, asked for as often as it takes and is worth.
    fn answer(&self, talk: &mut Talk<'_>, spent: &mut Spending) -> Result<Reply, Declined> {
        let (mut failures, mut wait) = (0, self.pause);
        loop {
            let left =
                self.limits.agent_timeout.checked_sub(talk.began.elapsed()).filter(|left| !left.is_zero());
            let Some(left) = left else {
                return Err(Declined::Failed(format!(
                    "it took longer than {} s",
                    self.limits.agent_timeout.as_secs()
                )));
            };
            let mut body = wire::request(self.spec.dialect, &talk.model, &talk.turns, talk.extras);
            if self.spec.host == TELLS_COST {
                body["usage"] = serde_json::json!({ "include": true });
            }
            let mut reply = Reply::default();
            let result = talk.http.ask(&self.spec, &body, left, talk.brief.cancel, &mut reply);
            *spent = spent.plus(Spending { turns: Some(1), ..reply.spending });
            log(talk, &body, &reply, result.as_ref().err());
            let (told, why) = match result {
                Ok(()) => return Ok(reply),
                Err(Trouble::Refused(why)) => {
                    return Err(Declined::Failed(format!("{why}; {}", keys::hint(&self.spec.host))));
                }
                Err(Trouble::Unknown(_)) if talk.extras && self.spec.dialect == Dialect::Completions => {
                    talk.extras = false;
                    continue;
                }
                Err(Trouble::Unknown(why) | Trouble::Over(why)) => return Err(Declined::Failed(why)),
                Err(Trouble::Busy(told, why)) => (told, why),
                Err(Trouble::Passing(why)) => {
                    failures += 1;
                    if failures >= ATTEMPTS {
                        return Err(Declined::Failed(format!("{why} (after {failures} attempts)")));
                    }
                    (None, why)
                }
            };
            let pause = told.unwrap_or(wait);
            wait = (wait * 2).min(LONGEST_WAIT);
            if pause >= self.limits.agent_timeout.saturating_sub(talk.began.elapsed()) {
                return Err(Declined::Failed(format!(
                    "{why}, and there is no time to wait {} s",
                    pause.as_secs()
                )));
            }
            if talk.brief.cancel.sleep(pause) {
                return Err(Declined::Failed("stopped while waiting for its server".into()));
            }
        }
    }
}

/// What was said goes beside the brief, for people; that it cannot be written costs no proposal. The headers, and with
/// them the key, are no part of it.
fn log(talk: &Talk<'_>, body: &serde_json::Value, reply: &Reply, trouble: Option<&Trouble>) {
    let path = talk.brief.brief_dir.join(LOG);
    let line = serde_json::json!({
        "request": body, "answer": reply.text(), "spending": reply.spending,
        "trouble": trouble.map(ToString::to_string),
    });
    let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
    let _ = file.and_then(|mut file| writeln!(file, "{line}"));
}

#[cfg(test)]
mod tests;
