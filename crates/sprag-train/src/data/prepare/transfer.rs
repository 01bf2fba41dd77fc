//! Downloads one file: resumed where it broke off, checked, and only then given its name.
//!
//! Done here and not by the crate `hf-hub`, for reasons given in `docs/decisions/0003-data-crates.md`.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use ureq::Agent;
use ureq::http::{Response, StatusCode};

use super::shares::stable_hash;
use crate::data::DataError;
use crate::data::token_file::{partial_path, sha256_of_file};

/// Attempts that may fail one after the other without a byte between them.
const ATTEMPTS: u32 = 5;
/// Longest answer kept in memory.
const MAX_TEXT_BYTES: u64 = 64 << 20;

/// Talks to one server.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    agent: Agent,
    /// Wait after the first failure; doubled after each.
    pub(crate) pause: Duration,
}

/// A file to fetch and what is known of it.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) url: String,
    pub(crate) dest: PathBuf,
    pub(crate) bytes: Option<u64>,
    pub(crate) sha256: Option<String>,
    /// The commit that it is taken from.
    pub(crate) revision: Option<String>,
}

impl Wanted {
    /// Where it is collected. What arrived of one content is not continued with another, so the name holds what
    /// tells them apart: the file's hash, else the commit.
    pub(crate) fn partial(&self) -> PathBuf {
        let content = self.sha256.as_ref().or(self.revision.as_ref());
        let mut name = self.dest.as_os_str().to_owned();
        name.push(format!(".{:016x}", stable_hash(content.map_or(&b""[..], |content| content.as_bytes()))));
        partial_path(Path::new(&name))
    }

    /// Removes what arrived of other contents: nobody will continue it. Without anything to tell contents apart,
    /// that is all there is.
    fn remove_stale_partials(&self) -> Result<(), DataError> {
        let (Some(folder), Some(name)) = (self.dest.parent(), self.dest.file_name()) else { return Ok(()) };
        let own = (self.sha256.is_some() || self.revision.is_some()).then(|| self.partial());
        let beginning = format!("{}.", name.to_string_lossy());
        for entry in fs::read_dir(folder).map_err(DataError::io("list", folder))? {
            let path = entry.map_err(DataError::io("list", folder))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with(&beginning) && name.ends_with(".partial") && Some(&path) != own.as_ref() {
                remove(&path)?;
            }
        }
        Ok(())
    }
}

/// A proxy for all servers but those of a list as in `NO_PROXY`: a name stands for itself and all below it.
fn proxy(url: &str, without: &str) -> Result<ureq::Proxy, ureq::Error> {
    let parsed = ureq::Proxy::new(url)?;
    let mut builder = ureq::Proxy::builder(parsed.protocol()).host(parsed.host()).port(parsed.port());
    if let Some(username) = parsed.username() {
        builder = builder.username(username);
    }
    if let Some(password) = parsed.password() {
        builder = builder.password(password);
    }
    for name in without.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        let name = name.trim_start_matches("*.").trim_start_matches('.');
        builder = builder.no_proxy(name).no_proxy(&format!(".{name}"));
    }
    builder.build()
}

/// How an attempt ended, if not well.
enum Failure {
    /// Worth another attempt.
    Passing(String),
    Final(DataError),
}

impl Client {
    /// A client that reaches servers through a proxy, if there is one, except those that `no_proxy` lists.
    pub(crate) fn new(proxy_url: Option<&str>, no_proxy: &str) -> Result<Client, DataError> {
        let proxy = proxy_url.map(|url| proxy(url, no_proxy)).transpose();
        let proxy = proxy.map_err(|error| DataError::Option(format!("the proxy is not usable: {error}")))?;
        let agent = Agent::config_builder()
            .proxy(proxy)
            .http_status_as_error(false)
            .user_agent(concat!("sprag/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(Duration::from_secs(30)))
            .timeout_recv_response(Some(Duration::from_secs(60)))
            // A stalled transfer is cut and resumed; a slow one loses nothing by that.
            .timeout_recv_body(Some(Duration::from_secs(300)))
            .build()
            .new_agent();
        Ok(Client { agent, pause: Duration::from_secs(1) })
    }

    /// The text at `url`.
    pub(crate) fn text(&self, url: &str) -> Result<String, DataError> {
        self.retry(url, &mut |_| {
            let mut response = self.get(url, 0)?;
            let body = response.body_mut().with_config().limit(MAX_TEXT_BYTES).read_to_string();
            body.map_err(|error| Failure::Passing(error.to_string()))
        })
    }

    /// Makes sure that `wanted.dest` is there. `on_bytes` hears how many bytes of it are.
    pub(crate) fn fetch(&self, wanted: &Wanted, on_bytes: &mut dyn FnMut(u64)) -> Result<(), DataError> {
        if is_complete(wanted)? {
            on_bytes(length(&wanted.dest));
            return Ok(());
        }
        wanted.remove_stale_partials()?;
        let partial = wanted.partial();
        self.retry(&wanted.url, &mut |progressed| {
            let before = length(&partial);
            let result = self.attempt(wanted, &partial, on_bytes);
            *progressed = length(&partial) > before;
            result
        })?;
        if let Some(expected) = &wanted.sha256 {
            let found = sha256_of_file(&partial)?;
            if found != *expected {
                remove(&partial)?;
                let problem = format!("its SHA-256 is {found}, and the server promised {expected}");
                return Err(failed(&wanted.url, problem, false));
            }
        }
        fs::rename(&partial, &wanted.dest).map_err(DataError::io("write", &wanted.dest))
    }

    /// Repeats an action until it works, fails for good, or fails too often without progress.
    fn retry<T>(
        &self,
        url: &str,
        action: &mut dyn FnMut(&mut bool) -> Result<T, Failure>,
    ) -> Result<T, DataError> {
        let mut failures = 0;
        loop {
            let mut progressed = false;
            match action(&mut progressed) {
                Ok(value) => return Ok(value),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Passing(problem)) => {
                    failures = if progressed { 1 } else { failures + 1 };
                    if failures >= ATTEMPTS {
                        let problem = format!("{problem} (after {ATTEMPTS} attempts)");
                        return Err(failed(url, problem, false));
                    }
                    sleep(self.pause * (1 << (failures - 1)));
                }
            }
        }
    }

    /// Asks for what lies behind `url`, from byte `start` on.
    fn get(&self, url: &str, start: u64) -> Result<Response<ureq::Body>, Failure> {
        let mut request = self.agent.get(url);
        if start > 0 {
            request = request.header("Range", format!("bytes={start}-"));
        }
        let response = request.call().map_err(|error| Failure::Passing(error.to_string()))?;
        let status = response.status();
        if status.is_success() || status == StatusCode::RANGE_NOT_SATISFIABLE {
            return Ok(response);
        }
        let problem = format!("the server answered {status}");
        let passing = status.is_server_error()
            || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT);
        Err(if passing { Failure::Passing(problem) } else { Failure::Final(failed(url, problem, true)) })
    }

    /// Adds to the partial file until it is complete.
    fn attempt(&self, wanted: &Wanted, partial: &Path, on_bytes: &mut dyn FnMut(u64)) -> Result<(), Failure> {
        let in_final = |error: io::Error| Failure::Final(DataError::io("write", partial)(error));
        let mut have = length(partial);
        if wanted.bytes.is_some_and(|bytes| have > bytes) {
            remove(partial).map_err(Failure::Final)?;
            have = 0;
        }
        if have > 0 && wanted.bytes == Some(have) {
            return Ok(());
        }
        let response = self.get(&wanted.url, have)?;
        let continued =
            response.status() == StatusCode::PARTIAL_CONTENT && range_start(&response) == Some(have);
        if have > 0 && !continued {
            // The server begins anew, or offers another part than was asked for: what is here is of no use.
            remove(partial).map_err(Failure::Final)?;
            have = 0;
        }
        if !continued && response.status() != StatusCode::OK {
            return Err(Failure::Passing(format!(
                "the server answered {} with a wrong range",
                response.status()
            )));
        }
        let announced = header_number(&response, "content-length").map(|rest| have + rest);
        let Some(expected) = wanted.bytes.or(announced) else {
            let problem = "the server does not say how long the file is".to_owned();
            return Err(Failure::Final(failed(&wanted.url, problem, false)));
        };
        let mut file = OpenOptions::new().append(true).create(true).open(partial).map_err(in_final)?;
        let mut reader = response.into_body().into_reader();
        let mut buffer = vec![0; 1 << 16];
        on_bytes(have);
        loop {
            let read = match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Failure::Passing(format!("the connection broke: {error}"))),
            };
            file.write_all(&buffer[..read]).map_err(in_final)?;
            have += read as u64;
            on_bytes(have);
        }
        if have > expected {
            remove(partial).map_err(Failure::Final)?;
        }
        if have != expected {
            return Err(Failure::Passing(format!("{have} bytes arrived of {expected}")));
        }
        file.sync_all().map_err(in_final)
    }
}

/// Whether the file is there already. One of another length or content is taken away.
fn is_complete(wanted: &Wanted) -> Result<bool, DataError> {
    if !wanted.dest.is_file() {
        return Ok(false);
    }
    let same_length = wanted.bytes.is_none_or(|bytes| bytes == length(&wanted.dest));
    let same = same_length
        && match &wanted.sha256 {
            Some(expected) => sha256_of_file(&wanted.dest)? == *expected,
            None => true,
        };
    if !same {
        remove(&wanted.dest)?;
    }
    Ok(same)
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |facts| facts.len())
}

fn remove(path: &Path) -> Result<(), DataError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(DataError::io("replace", path)(error)),
        _ => Ok(()),
    }
}

fn failed(url: &str, problem: String, refused: bool) -> DataError {
    DataError::Download { url: url.to_owned(), problem, refused }
}

fn header_number(response: &Response<ureq::Body>, name: &str) -> Option<u64> {
    response.headers().get(name)?.to_str().ok()?.parse().ok()
}

/// The first byte of `Content-Range: bytes START-END/TOTAL`.
fn range_start(response: &Response<ureq::Body>) -> Option<u64> {
    let range = response.headers().get("content-range")?.to_str().ok()?;
    range.strip_prefix("bytes ")?.split_once('-')?.0.trim().parse().ok()
}
