//! One request and its streamed answer. It runs on a thread of its own, so that a person who stops the run and a server
//! that says nothing are both noticed at once.

use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant, UNIX_EPOCH};

use serde_json::Value;
use sprag_measure::clock;
use sprag_measure::process::Cancel;
use ureq::Agent;
use ureq::http::{HeaderMap, StatusCode};

use super::ChatSpec;
use super::keys::Key;
use super::wire::{self, Dialect, Reply};

/// Longest answer.
const MOST_BYTES: u64 = 32 << 20;
/// Version of Anthropic's dialect that is spoken.
const ANTHROPIC_VERSION: &str = "2023-06-01";
/// Status with which Anthropic's servers say that they are overloaded.
const OVERLOADED: u16 = 529;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Another try may work.
    Passing(String),
    /// The server is busy; with the time that it told.
    Busy(Option<Duration>, String),
    /// The key is missing or refused.
    Refused(String),
    /// The server does not know what was asked of it.
    Unknown(String),
    /// Another try is of no use.
    Over(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Trouble::Passing(why)
        | Trouble::Busy(_, why)
        | Trouble::Refused(why)
        | Trouble::Unknown(why)
        | Trouble::Over(why)) = self;
        formatter.write_str(why)
    }
}

/// Talks to one server.
pub(super) struct Http {
    agent: Agent,
    dialect: Dialect,
    key: Option<Key>,
    stall: Duration,
}

/// What the thread hears.
enum Part {
    Head { status: StatusCode, retry_after: Option<Duration>, streamed: bool },
    Line(String),
    End,
    Broken(String),
}

impl Http {
    /// `stall`: the time without a word after which it is given up.
    pub(super) fn new(spec: &ChatSpec, key: Option<&Key>, stall: Duration) -> Http {
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .user_agent(concat!("sprag/", env!("CARGO_PKG_VERSION")))
            // A key goes to the server that was named, and to no other.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(Duration::from_secs(30).min(stall)))
            .timeout_per_read(Some(stall));
        if matches!(spec.host.as_str(), "localhost" | "[::1]") || spec.host.starts_with("127.") {
            config = config.proxy(None);
        }
        Http { agent: config.build().new_agent(), dialect: spec.dialect, key: key.cloned(), stall }
    }

    /// The models that it lists.
    pub(super) fn models(&self, base: &str) -> Result<Vec<String>, Trouble> {
        let body = self.whole(&format!("{base}/models"))?;
        let models = body["data"].as_array().ok_or_else(|| Trouble::Unknown("it lists no models".into()))?;
        Ok(models.iter().filter_map(|model| model["id"].as_str().map(str::to_owned)).collect())
    }

    fn whole(&self, url: &str) -> Result<Value, Trouble> {
        let mut parts = String::new();
        let cancel = Cancel::default();
        let streamed = self.hear(url, None, self.stall, &cancel, &mut |line| {
            parts.push_str(line);
            parts.push('\n');
            None
        });
        streamed?;
        serde_json::from_str(&parts).map_err(|_| Trouble::Unknown("its list of models is not JSON".into()))
    }

    /// Asks, and takes the answer in as it comes.
    pub(super) fn ask(
        &self,
        spec: &ChatSpec,
        body: &Value,
        most: Duration,
        cancel: &Cancel,
        reply: &mut Reply,
    ) -> Result<(), Trouble> {
        let url = format!("{}{}", spec.base, self.dialect.path());
        let (mut all, mut event, mut understood, mut events) = (String::new(), String::new(), true, 0);
        let streamed = self.hear(&url, Some(body.to_string()), most, cancel, &mut |line| {
            all.push_str(line);
            all.push('\n');
            // An empty line ends an event; other fields than `data` repeat what stands in it.
            if let Some(data) = line.strip_prefix("data:") {
                event.push_str(data.strip_prefix(' ').unwrap_or(data));
                event.push('\n');
                all.clear();
            } else if line.is_empty() && !event.is_empty() {
                events += 1;
                understood &= reply.event(self.dialect, event.trim_end());
                event.clear();
            }
            (!understood).then(|| Trouble::Passing("the stream is not of this dialect".into()))
        })?;
        if !event.is_empty() {
            events += 1;
            understood &= reply.event(self.dialect, event.trim_end());
        }
        if !streamed && events == 0 {
            understood = reply.event(self.dialect, &all);
        }
        if !understood {
            let beginning: String = all.split_whitespace().take(8).collect::<Vec<_>>().join(" ");
            let beginning = self.hide(&beginning.chars().take(80).collect::<String>());
            return Err(Trouble::Passing(format!("the answer is not of this dialect (\"{beginning}\")")));
        }
        reply.ended().map_err(|(why, passing)| {
            let why = self.hide(&why);
            if passing { Trouble::Passing(why) } else { Trouble::Unknown(why) }
        })
    }

    /// Sends, and gives each line to `line`, which may put an end to it. Whether it is a stream of events.
    fn hear(
        &self,
        url: &str,
        body: Option<String>,
        most: Duration,
        cancel: &Cancel,
        line: &mut dyn FnMut(&str) -> Option<Trouble>,
    ) -> Result<bool, Trouble> {
        let parts = self.send(url, body)?;
        let (began, mut last) = (Instant::now(), Instant::now());
        let (mut refusal, mut is_streamed) = (None, false);
        let mut complaint = String::new();
        loop {
            match parts.recv_timeout(Duration::from_millis(50)) {
                Ok(Part::Head { status, retry_after, streamed }) => {
                    is_streamed = streamed;
                    refusal = (!status.is_success()).then_some((status, retry_after));
                }
                Ok(Part::Line(text)) if refusal.is_some() => complaint.push_str(&text),
                Ok(Part::Line(text)) => {
                    if let Some(trouble) = line(&text) {
                        return Err(trouble);
                    }
                }
                Ok(Part::End) => {
                    return match refusal {
                        Some((status, retry_after)) => Err(self.refused(status, retry_after, &complaint)),
                        None => Ok(is_streamed),
                    };
                }
                Ok(Part::Broken(why)) => {
                    return Err(match refusal {
                        Some((status, retry_after)) => self.refused(status, retry_after, &complaint),
                        None => Trouble::Passing(self.hide(&why)),
                    });
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Trouble::Passing("the connection was lost".into()));
                }
                Err(RecvTimeoutError::Timeout) => {
                    if cancel.is_cancelled() {
                        return Err(Trouble::Over("stopped".into()));
                    }
                    if last.elapsed() >= self.stall {
                        return Err(Trouble::Passing(format!(
                            "nothing was said for {} s",
                            self.stall.as_secs()
                        )));
                    }
                    if began.elapsed() >= most {
                        return Err(Trouble::Over("it took too long".into()));
                    }
                    continue;
                }
            }
            last = Instant::now();
            if began.elapsed() >= most {
                return Err(Trouble::Over("it took too long".into()));
            }
        }
    }

    fn send(&self, url: &str, body: Option<String>) -> Result<Receiver<Part>, Trouble> {
        let (sender, receiver) = sync_channel(64);
        let (agent, url) = (self.agent.clone(), url.to_owned());
        let key = self.key.clone();
        let dialect = self.dialect;
        let work = move || {
            let mut headers = vec![("accept", "text/event-stream, application/json".to_owned())];
            match (dialect, key) {
                (Dialect::Completions, Some(key)) => {
                    headers.push(("authorization", format!("Bearer {}", key.reveal())));
                }
                (Dialect::Messages, key) => {
                    headers.push(("anthropic-version", ANTHROPIC_VERSION.to_owned()));
                    headers.extend(key.map(|key| ("x-api-key", key.reveal().to_owned())));
                }
                (Dialect::Completions, None) => {}
            }
            let sent = match body {
                None => headers
                    .into_iter()
                    .fold(agent.get(&url), |request, (name, value)| request.header(name, value))
                    .call(),
                Some(body) => headers
                    .into_iter()
                    .fold(agent.post(&url), |request, (name, value)| request.header(name, value))
                    .content_type("application/json")
                    .send(body),
            };
            // Who does not listen any more has given the answer up.
            let _ = match sent {
                Err(cause) => sender.send(Part::Broken(cause.to_string())),
                Ok(response) => read(response, &sender),
            };
        };
        std::thread::Builder::new()
            .name("chat".into())
            .spawn(work)
            .map_err(|cause| Trouble::Over(format!("start a thread: {cause}")))?;
        Ok(receiver)
    }

    fn refused(&self, status: StatusCode, told: Option<Duration>, body: &str) -> Trouble {
        let said = serde_json::from_str::<Value>(body).map(|body| wire::message(&body));
        let said = said.unwrap_or_else(|_| body.to_owned());
        let said: String = said.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(300).collect();
        let why = match said.is_empty() {
            true => format!("the server answered {status}"),
            false => format!("the server answered {status}: {}", self.hide(&said)),
        };
        match status.as_u16() {
            401 | 403 => Trouble::Refused(why),
            429 => Trouble::Busy(told, why),
            503 | OVERLOADED if told.is_some() => Trouble::Busy(told, why),
            408 | 409 | 500.. => Trouble::Passing(why),
            400 | 404 | 405 | 415 | 422 => Trouble::Unknown(why),
            300..400 => Trouble::Over(format!("{why}; name the address that it leads to")),
            _ => Trouble::Over(why),
        }
    }

    fn hide(&self, text: &str) -> String {
        self.key.as_ref().map_or_else(|| text.to_owned(), |key| key.hidden_in(text))
    }
}

/// The thread's part: gives on what comes. `Err`: nobody listens any more.
fn read(
    response: ureq::http::Response<ureq::Body>,
    sender: &SyncSender<Part>,
) -> Result<(), std::sync::mpsc::SendError<Part>> {
    let headers = response.headers();
    let kind = headers.get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let streamed = kind.starts_with("text/event-stream");
    let (status, retry_after) = (response.status(), retry_after(headers));
    sender.send(Part::Head { status, retry_after, streamed })?;
    let body = response.into_body().into_with_config().limit(MOST_BYTES).reader();
    let mut reader = BufReader::new(body).take(MOST_BYTES);
    let mut line = Vec::new();
    loop {
        line.clear();
        match reader.read_until(b'\n', &mut line) {
            Ok(0) => return sender.send(Part::End),
            Ok(_) => {
                let text = String::from_utf8_lossy(&line);
                sender.send(Part::Line(text.trim_end_matches(['\n', '\r']).to_owned()))?;
            }
            Err(cause) => return sender.send(Part::Broken(cause.to_string())),
        }
    }
}

/// `retry-after` in seconds or as a date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let told = headers.get("retry-after")?.to_str().ok()?.trim();
    if let Ok(seconds) = told.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let at = httpdate::parse_http_date(told).ok()?;
    let now = UNIX_EPOCH + Duration::from_secs(clock::seconds_since_epoch().try_into().ok()?);
    Some(at.duration_since(now).unwrap_or_default())
}
