//! The hub is a small server on loopback that serves parquet made here and fails on purpose.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::*;
use crate::data::prepare::shards::tests::parquet;
use crate::data::token_file::hexadecimal;
use crate::data::{PrepareOptions, Prepared, Source, prepare};

const REPO: &str = "someone/texts";

/// What the server does with one request for a file.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    /// Promises all and closes the connection after so many bytes.
    BreakAfter(usize),
    /// Says that the file is shorter than the listing said.
    Short(usize),
    /// Answers with the whole file although a range was asked for.
    IgnoreRange,
    /// Sends other bytes of the right number.
    Corrupt,
    Status(u16),
}

#[derive(Default)]
struct Shared {
    files: HashMap<String, Vec<u8>>,
    /// Taken one a request for a file.
    faults: Vec<Fault>,
    /// `PATH RANGE` of each request.
    requests: Vec<String>,
    listing: String,
}

struct Hub {
    endpoint: String,
    shared: Arc<Mutex<Shared>>,
    dir: tempfile::TempDir,
}

impl Hub {
    /// A hub with these files.
    fn new(files: &[(&str, Vec<u8>)], faults: &[Fault]) -> Hub {
        let siblings = files.iter().map(|(name, content)| {
            serde_json::json!({"rfilename": name, "size": content.len(),
                "lfs": {"sha256": hexadecimal(&Sha256::digest(content)), "size": content.len()}})
        });
        let siblings: Vec<_> =
            siblings.chain([serde_json::json!({"rfilename": "README.md", "size": 3})]).collect();
        let shared = Arc::new(Mutex::new(Shared {
            files: files.iter().map(|(name, content)| ((*name).to_owned(), content.clone())).collect(),
            faults: faults.iter().rev().copied().collect(),
            requests: vec![],
            listing: serde_json::json!({"sha": "abc123", "siblings": siblings}).to_string(),
        }));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let served = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that went away is not the server's problem.
                let _ = serve(stream, &served);
            }
        });
        Hub { endpoint, shared, dir: tempfile::tempdir().unwrap() }
    }

    fn download(&self) -> Result<Vec<Shard>, DataError> {
        self.download_repo(REPO, Some(2))
    }

    fn download_repo(&self, repo: &str, train_shards: Option<u32>) -> Result<Vec<Shard>, DataError> {
        self.download_through(repo, train_shards, None, "")
    }

    fn download_through(
        &self,
        repo: &str,
        train_shards: Option<u32>,
        proxy: Option<&str>,
        no_proxy: &str,
    ) -> Result<Vec<Shard>, DataError> {
        let mut client = Client::new(proxy, no_proxy)?;
        client.pause = Duration::ZERO;
        let dir = self.dir.path();
        let request = Request { endpoint: &self.endpoint, repo, train_shards, dir, proxy, no_proxy };
        download_with(&client, &request, &mut |_| {}).map(|(_, shards)| shards)
    }

    /// Where what arrives of a file, as the listing describes it now, is collected.
    fn partial(&self, name: &str) -> PathBuf {
        let dataset: Dataset = serde_json::from_str(&self.shared.lock().unwrap().listing).unwrap();
        let file = dataset.siblings.into_iter().find(|file| file.rfilename == name).unwrap();
        let sha256 = file.lfs.and_then(|lfs| lfs.sha256);
        let (url, dest) = (String::new(), self.path(name));
        Wanted { url, dest, bytes: None, sha256, revision: dataset.sha }.partial()
    }

    /// The dataset as a new commit: other content, of files whose hashes the listing does not state.
    fn commit(&self, sha: &str, files: &[(&str, Vec<u8>)]) {
        let siblings =
            files.iter().map(|(name, content)| serde_json::json!({"rfilename": name, "size": content.len()}));
        let siblings: Vec<_> = siblings.collect();
        let mut shared = self.shared.lock().unwrap();
        shared.files = files.iter().map(|(name, content)| ((*name).to_owned(), content.clone())).collect();
        shared.listing = serde_json::json!({"sha": sha, "siblings": siblings}).to_string();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("someone--texts").join(name)
    }

    /// Requests for files, so far.
    fn requests(&self) -> Vec<String> {
        self.shared.lock().unwrap().requests.clone()
    }
}

fn serve(mut stream: TcpStream, shared: &Mutex<Shared>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut start = None;
    for line in lines.by_ref().map_while(Result::ok).take_while(|line| !line.is_empty()) {
        if let Some(range) = line.to_ascii_lowercase().strip_prefix("range: bytes=") {
            start = range.trim_end_matches('-').parse::<usize>().ok();
        }
    }
    let mut shared = shared.lock().unwrap();
    if path.starts_with("/api/datasets/") {
        let listing = &shared.listing;
        return write!(
            stream,
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{listing}",
            listing.len()
        );
    }
    let file = path.split_once("/resolve/").and_then(|(_, file)| file.split_once('/'));
    let name = file.map_or("", |(_, name)| name).to_owned();
    shared.requests.push(format!("{name} {}", start.unwrap_or(0)));
    let fault = shared.faults.pop();
    let content = shared.files.get(&name).cloned();
    drop(shared);
    let (Some(mut content), false) = (content, matches!(fault, Some(Fault::Status(_)))) else {
        let status = if let Some(Fault::Status(status)) = fault { status } else { 404 };
        return write!(stream, "HTTP/1.1 {status} No\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    };
    match fault {
        Some(Fault::Corrupt) => content[100] ^= 1,
        Some(Fault::Short(length)) => content.truncate(length),
        Some(Fault::IgnoreRange) => start = None,
        _ => {}
    }
    let body = &content[start.unwrap_or(0).min(content.len())..];
    let status = match start {
        Some(start) => {
            let last = content.len() - 1;
            format!("206 Partial Content\r\nContent-Range: bytes {start}-{last}/{}", content.len())
        }
        None => "200 OK".to_owned(),
    };
    write!(stream, "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len())?;
    let sent = if let Some(Fault::BreakAfter(bytes)) = fault { bytes.min(body.len()) } else { body.len() };
    stream.write_all(&body[..sent])
}

/// Texts that are long enough to break a transfer in, and differ.
fn shard(number: usize) -> Vec<u8> {
    let text = |row| format!("Document {row} of shard {number}. {}", format!("word{row} ").repeat(40));
    parquet(&(0..200).map(text).collect::<Vec<_>>())
}

fn five_shards() -> Vec<(&'static str, Vec<u8>)> {
    let names =
        ["a_00000.parquet", "a_00001.parquet", "a_00002.parquet", "a_00003.parquet", "a_00004.parquet"];
    names.into_iter().enumerate().map(|(number, name)| (name, shard(number))).collect()
}

#[test]
fn last_shards_validate_and_seal_and_first_ones_train() {
    let hub = Hub::new(&five_shards(), &[]);
    let shards = hub.download().unwrap();
    let chosen: Vec<_> = shards.iter().map(|shard| (shard.name.as_str(), shard.split.unwrap())).collect();
    assert_eq!(
        chosen,
        [
            ("a_00004.parquet", Split::Val),
            ("a_00003.parquet", Split::Holdout),
            ("a_00000.parquet", Split::Train),
            ("a_00001.parquet", Split::Train),
        ]
    );
    for (name, content) in five_shards() {
        if name != "a_00002.parquet" {
            assert_eq!(fs::read(hub.path(name)).unwrap(), content, "{name}");
        }
    }
}

#[test]
fn what_is_there_is_not_fetched_again() {
    let hub = Hub::new(&five_shards(), &[]);
    hub.download().unwrap();
    hub.download().unwrap();
    assert_eq!(hub.requests().len(), 4);
}

/// After faults, the file is whole and the transfer went on where it had stopped.
fn check_recovers(faults: &[Fault], expected_first_requests: &[&str]) {
    let hub = Hub::new(&five_shards(), faults);
    hub.download().unwrap();
    assert_eq!(fs::read(hub.path("a_00004.parquet")).unwrap(), shard(4), "{faults:?}");
    assert_eq!(hub.requests()[..expected_first_requests.len()], *expected_first_requests);
    assert!(!hub.partial("a_00004.parquet").exists());
}

#[test]
fn a_broken_connection_is_resumed_at_its_last_byte() {
    check_recovers(
        &[Fault::BreakAfter(1000), Fault::BreakAfter(500)],
        &["a_00004.parquet 0", "a_00004.parquet 1000", "a_00004.parquet 1500"],
    );
}

#[test]
fn a_server_without_ranges_begins_anew() {
    check_recovers(
        &[Fault::BreakAfter(1000), Fault::IgnoreRange],
        &["a_00004.parquet 0", "a_00004.parquet 1000"],
    );
}

#[test]
fn a_busy_server_is_asked_again() {
    check_recovers(&[Fault::Status(503), Fault::Status(429)], &["a_00004.parquet 0"; 3]);
}

#[test]
fn many_breaks_are_no_failure_as_long_as_bytes_arrive() {
    check_recovers(&[Fault::BreakAfter(100); 12], &["a_00004.parquet 0", "a_00004.parquet 100"]);
}

/// An error, and nothing under the final name.
fn check_fails(faults: &[Fault], expected: &str, refused: bool) -> Hub {
    let hub = Hub::new(&five_shards(), faults);
    match hub.download().unwrap_err() {
        DataError::Download { url, problem, refused: found } => {
            assert!(url.ends_with("a_00004.parquet"), "{url}");
            assert!(problem.contains(expected), "{problem}");
            assert_eq!(found, refused);
        }
        error => panic!("{error}"),
    }
    assert!(!hub.path("a_00004.parquet").exists());
    hub
}

#[test]
fn a_body_that_stays_short_is_an_error_and_what_came_is_kept() {
    let hub = check_fails(&[Fault::Short(900); 9], "900 bytes arrived of", false);
    assert_eq!(fs::metadata(hub.partial("a_00004.parquet")).unwrap().len(), 900);
    hub.shared.lock().unwrap().faults.clear();
    hub.download().unwrap();
    assert_eq!(fs::read(hub.path("a_00004.parquet")).unwrap(), shard(4));
}

#[test]
fn what_arrived_of_another_revision_is_not_continued() {
    let hub = Hub::new(&[], &[Fault::BreakAfter(1000), Fault::Status(404)]);
    let only = |number| [("a.parquet", shard(number))];
    hub.commit("abc123", &only(1));
    hub.download().unwrap_err();
    let left = hub.partial("a.parquet");
    assert_eq!(fs::metadata(&left).unwrap().len(), 1000);
    hub.commit("def456", &only(2));
    hub.download().unwrap();
    assert_eq!(fs::read(hub.path("a.parquet")).unwrap(), shard(2));
    assert_eq!(hub.requests().last().unwrap(), "a.parquet 0");
    assert!(!left.exists(), "what nobody will continue takes space");
}

#[test]
fn a_hub_that_needs_no_proxy_is_reached_without_it() {
    let hub = Hub::new(&five_shards(), &[]);
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let proxy = format!("http://{closed}");
    assert!(hub.download_through(REPO, Some(2), Some(&proxy), "example.org").is_err());
    assert!(hub.requests().is_empty());
    hub.download_through(REPO, Some(2), Some(&proxy), "example.org, 127.0.0.1").unwrap();
}

#[test]
fn a_missing_file_is_an_error_at_once() {
    let hub = check_fails(&[Fault::Status(404)], "404", true);
    assert_eq!(hub.requests().len(), 1);
}

#[test]
fn wrong_bytes_are_thrown_away() {
    let hub = check_fails(&[Fault::Corrupt], "SHA-256", false);
    assert!(!hub.partial("a_00004.parquet").exists());
}

#[test]
fn a_server_that_only_fails_is_given_up_after_some_attempts() {
    let hub = check_fails(&[Fault::Status(500); 9], "5 attempts", false);
    assert_eq!(hub.requests().len(), 5);
}

/// Linux has a file that is always full.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_named_and_leaves_nothing_under_the_final_name() {
    let hub = Hub::new(&five_shards(), &[]);
    let path = hub.path("a_00004.parquet");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink("/dev/full", hub.partial("a_00004.parquet")).unwrap();
    let error = hub.download().unwrap_err();
    assert!(
        matches!(&error, DataError::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull)
    );
    assert!(error.hint().unwrap().contains("free some space"));
    assert!(!path.exists());
    assert_eq!(hub.requests().len(), 1, "a full disk is not a reason to try again");
}

#[test]
fn an_unreachable_hub_is_a_clear_error() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let hub = Hub { endpoint, shared: Arc::default(), dir: tempfile::tempdir().unwrap() };
    let error = hub.download().unwrap_err();
    assert!(error.hint().unwrap().contains("resumes"), "{error}");
}

#[test]
fn the_default_dataset_must_have_its_pinned_shard() {
    let hub = Hub::new(&five_shards(), &[]);
    let error = hub.download_repo(DEFAULT_REPO, None).unwrap_err().to_string();
    assert!(error.contains(DEFAULT_REPO_LAST), "{error}");
    let names = [
        "shard_00000.parquet",
        "shard_00001.parquet",
        "shard_06541.parquet",
        DEFAULT_REPO_LAST,
        "shard_06543.parquet",
    ];
    let files: Vec<_> = names.into_iter().enumerate().map(|(number, name)| (name, shard(number))).collect();
    let shards = Hub::new(&files, &[]).download_repo(DEFAULT_REPO, Some(1)).unwrap();
    let chosen: Vec<_> = shards.iter().map(|shard| shard.name.as_str()).collect();
    assert_eq!(chosen, [DEFAULT_REPO_LAST, "shard_06541.parquet", "shard_00000.parquet"]);
}

#[test]
fn names_that_leave_the_folder_are_not_shards() {
    for (name, expected) in [
        ("a.parquet", true),
        ("data/a.parquet", true),
        ("../a.parquet", false),
        ("/a.parquet", false),
        ("a.txt", false),
    ] {
        let sibling = Sibling { rfilename: name.to_owned(), size: None, lfs: None };
        assert_eq!(sibling.is_shard(), expected, "{name}");
    }
}

#[test]
fn a_dataset_becomes_a_data_folder() {
    let hub = Hub::new(&five_shards(), &[]);
    let out = hub.dir.path().join("out");
    let source = Source::Hf { repo: REPO.to_owned(), shards: Some(2), endpoint: hub.endpoint.clone() };
    let options = PrepareOptions { vocab_size: 300, ..PrepareOptions::new(source, out.clone()) };
    let manifest = prepare(&options, &mut |_| {}).unwrap();
    assert_eq!(manifest.source.revision.as_deref(), Some("abc123"));
    assert_eq!(manifest.source.split_by, "shard");
    let documents = |split| Prepared::open(&out).unwrap().split(split).unwrap().document_count();
    assert_eq!(Split::ALL.map(documents), [400, 200, 200]);
    assert!(Path::new(&out).join("shards/someone--texts/a_00004.parquet").is_file());
}
