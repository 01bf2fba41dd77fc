//! The append-only ledger: one JSON object a line, synced before the effect it announces.
//!
//! A line ends in a checksum chained over all lines before it, so a torn tail is told from a changed middle.
//! What lines mean belongs to `state`; the format is documented in `docs/format.md`.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::record::{FORMAT, Record};

/// One line of the ledger.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Format version of the line.
    pub v: u32,
    /// Position, from 0.
    pub seq: u64,
    /// When it was written, RFC 3339 UTC.
    pub at: String,
    /// The fact.
    #[serde(flatten)]
    pub record: Record,
}

/// The ledger cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The file cannot be opened, read or written. What was recorded before is intact.
    #[error("access the ledger {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// A line other than the last is damaged.
    #[error("read line {line} of the ledger {path}: {why}; restore the file from a copy, or begin a new run")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Line number, from 1.
        line: usize,
        /// What is wrong with it.
        why: String,
    },
    /// The line was written by a newer program.
    #[error(
        "read line {line} of the ledger {path}: it has format {found}, this program knows up to {FORMAT}; use a newer sprag"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Line number, from 1.
        line: usize,
        /// Its format version.
        found: u64,
    },
}

/// A ledger open for writing. One writer at a time: the caller holds the task's lock.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    file: File,
    length_bytes: u64,
    next_seq: u64,
    chain: String,
    /// Appends that may still succeed; tests use it to die at every line.
    #[cfg(test)]
    pub(crate) fuse: Option<(u64, Dies)>,
}

/// On which side of a line a test dies.
#[cfg(test)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dies {
    /// After an effect, before its line.
    BeforeTheLine,
    /// After an intent, before its effect.
    AfterTheLine,
}

/// What [`read`] found.
#[derive(Debug, Default)]
pub struct Contents {
    /// The whole lines.
    pub lines: Vec<Line>,
    /// Bytes of the whole lines.
    pub length_bytes: u64,
    /// Bytes after them: a torn last line.
    pub torn_bytes: u64,
    chain: String,
}

/// Reads a ledger without changing it; a torn last line is left out and counted.
///
/// # Errors
/// The file cannot be read, a line other than the last is damaged, or its format is newer.
pub fn read(path: &Path) -> Result<Contents, LedgerError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|mut file| file.read_to_end(&mut bytes))
        .map_err(|source| io_error(path, source))?;
    let mut contents = Contents { chain: genesis(), ..Contents::default() };
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        let end = rest.iter().position(|&byte| byte == b'\n');
        let whole = end.and_then(|end| parse_line(&rest[..end], &contents.chain).map(|parsed| (end, parsed)));
        let Some((end, (value, chain))) = whole else {
            // Only the very last line may be torn: nothing whole may follow it.
            if end.is_some_and(|end| end + 1 < rest.len()) {
                let why = "its checksum does not match".to_owned();
                return Err(LedgerError::Damaged { path: path.into(), line: contents.lines.len() + 1, why });
            }
            contents.torn_bytes = rest.len() as u64;
            break;
        };
        let line = contents.lines.len() + 1;
        let version = value.get("v").and_then(serde_json::Value::as_u64).unwrap_or(0);
        if version > u64::from(FORMAT) {
            return Err(LedgerError::Newer { path: path.into(), line, found: version });
        }
        let damaged = |why: String| LedgerError::Damaged { path: path.into(), line, why };
        let parsed: Line = serde_json::from_value(value).map_err(|error| damaged(error.to_string()))?;
        if parsed.seq != contents.lines.len() as u64 {
            return Err(damaged(format!(
                "it has number {} where {} is due",
                parsed.seq,
                contents.lines.len()
            )));
        }
        contents.lines.push(parsed);
        contents.chain = chain;
        contents.length_bytes += end as u64 + 1;
        rest = &rest[end + 1..];
    }
    Ok(contents)
}

/// When a ledger's first line was written, RFC 3339; `None` before there is one. The line is not checked.
pub fn began_at(path: &Path) -> Option<String> {
    let mut first = String::new();
    BufReader::new(File::open(path).ok()?).read_line(&mut first).ok()?;
    let line: serde_json::Value = serde_json::from_str(&first).ok()?;
    Some(line.get("at")?.as_str()?.to_owned())
}

impl Ledger {
    /// Opens or creates a ledger. A torn last line is cut off; the caller records that.
    ///
    /// # Errors
    /// As [`read`], and when the file cannot be created or cut.
    pub fn open(path: &Path) -> Result<(Ledger, Contents), LedgerError> {
        let fail = |source| io_error(path, source);
        let fresh = !path.exists();
        if let Some(parent) = path.parent().filter(|_| fresh) {
            std::fs::create_dir_all(parent).map_err(fail)?;
        }
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(fail)?;
        if fresh {
            sync_parent(path).map_err(fail)?;
        }
        let contents = read(path)?;
        if contents.torn_bytes > 0 {
            file.set_len(contents.length_bytes).and_then(|()| file.sync_all()).map_err(fail)?;
        }
        file.seek(SeekFrom::Start(contents.length_bytes)).map_err(fail)?;
        let ledger = Ledger {
            path: path.into(),
            file,
            length_bytes: contents.length_bytes,
            next_seq: contents.lines.len() as u64,
            chain: contents.chain.clone(),
            #[cfg(test)]
            fuse: None,
        };
        Ok((ledger, contents))
    }

    /// Appends one record and syncs it to the disk. On failure the file is as it was before.
    ///
    /// # Errors
    /// The line cannot be written: disk full, read-only folder.
    pub fn append(&mut self, at: &str, record: &Record) -> Result<Line, LedgerError> {
        #[cfg(test)]
        if let Some((0, Dies::BeforeTheLine)) = self.fuse {
            return Err(self.blown());
        }
        let line = Line { v: FORMAT, seq: self.next_seq, at: at.to_owned(), record: record.clone() };
        let body = serde_json::to_string(&line).map_err(|error| io_error(&self.path, error.into()))?;
        let chain = link(&self.chain, &body);
        let text = format!("{},\"sum\":\"{chain}\"}}\n", &body[..body.len() - 1]);
        let written = self.file.write_all(text.as_bytes()).and_then(|()| self.file.sync_data());
        if let Err(source) = written {
            // Half a line may be on the disk: take it back, so that the next append starts clean.
            let undone = self.file.set_len(self.length_bytes);
            let _ = undone.and_then(|()| self.file.seek(SeekFrom::Start(self.length_bytes)));
            return Err(io_error(&self.path, source));
        }
        self.length_bytes += text.len() as u64;
        self.next_seq += 1;
        self.chain = chain;
        #[cfg(test)]
        match &mut self.fuse {
            Some((0, _)) => return Err(self.blown()),
            Some((left, _)) => *left -= 1,
            None => {}
        }
        Ok(line)
    }

    #[cfg(test)]
    fn blown(&self) -> LedgerError {
        io_error(&self.path, io::Error::other("the fuse of this test blew"))
    }

    /// Number that the next line will have.
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn io_error(path: &Path, source: io::Error) -> LedgerError {
    LedgerError::Io { path: path.into(), source }
}

fn sync_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

fn genesis() -> String {
    link("", "")
}

/// The next checksum: 16 hexadecimal digits of SHA-256 over the one before and the line without its sum.
fn link(chain: &str, body: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(chain.as_bytes());
    hash.update(b"\n");
    hash.update(body.as_bytes());
    hash.finalize()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The line's object and its checksum, if the checksum continues the chain.
fn parse_line(bytes: &[u8], chain: &str) -> Option<(serde_json::Value, String)> {
    const TAIL: usize = ",\"sum\":\"0123456789abcdef\"}".len();
    let text = std::str::from_utf8(bytes).ok()?;
    let (head, tail) = text.split_at_checked(text.len().checked_sub(TAIL)?)?;
    let sum = tail.strip_prefix(",\"sum\":\"")?.strip_suffix("\"}")?;
    let body = format!("{head}}}");
    let value = serde_json::from_str(&body).ok()?;
    (link(chain, &body) == sum).then(|| (value, sum.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(n: u32) -> Record {
        Record::BuildStarted { trial: n, attempt: 0 }
    }

    fn written(lines: u32) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/ledger.jsonl");
        let (mut ledger, _) = Ledger::open(&path).unwrap();
        for n in 0..lines {
            ledger.append("2026-01-01T00:00:00Z", &record(n)).unwrap();
        }
        (folder, path)
    }

    #[test]
    fn what_is_appended_is_read_back_in_order() {
        let (_folder, path) = written(3);
        let (mut ledger, contents) = Ledger::open(&path).unwrap();
        let records: Vec<_> = contents.lines.iter().map(|line| line.record.clone()).collect();
        assert_eq!(records, [record(0), record(1), record(2)]);
        ledger.append("2026-01-01T00:00:01Z", &record(3)).unwrap();
        assert_eq!(read(&path).unwrap().lines.len(), 4);
    }

    #[test]
    fn a_line_torn_at_any_byte_is_cut_off_and_counted() {
        let (_folder, path) = written(3);
        let whole = std::fs::read(&path).unwrap();
        let second_end = whole.iter().enumerate().filter(|(_, byte)| **byte == b'\n').nth(1).unwrap().0 + 1;
        for cut in second_end + 1..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let (mut ledger, contents) = Ledger::open(&path).unwrap();
            assert_eq!((contents.lines.len(), contents.torn_bytes), (2, (cut - second_end) as u64));
            ledger.append("2026-01-01T00:00:02Z", &record(2)).unwrap();
            assert_eq!(read(&path).unwrap().lines.len(), 3);
        }
    }

    #[test]
    fn a_changed_middle_line_is_an_error_that_names_it() {
        let (_folder, path) = written(3);
        let text = std::fs::read_to_string(&path).unwrap().replacen("\"trial\":1", "\"trial\":7", 1);
        std::fs::write(&path, text).unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains("checksum"), "{error}");
    }

    #[test]
    fn a_newer_format_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.jsonl");
        let body = r#"{"v":99,"seq":0,"at":"x","type":"from_the_future"}"#;
        let sum = link(&genesis(), body);
        std::fs::write(&path, format!("{},\"sum\":\"{sum}\"}}\n", &body[..body.len() - 1])).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("format 99"));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_an_error_and_the_ledger_stays_usable() {
        let (_folder, path) = written(1);
        let (mut ledger, _) = Ledger::open(&path).unwrap();
        let real =
            std::mem::replace(&mut ledger.file, OpenOptions::new().write(true).open("/dev/full").unwrap());
        assert!(
            ledger.append("2026-01-01T00:00:00Z", &record(1)).unwrap_err().to_string().contains("No space")
        );
        ledger.file = real;
        ledger.append("2026-01-01T00:00:00Z", &record(1)).unwrap();
        assert_eq!(read(&path).unwrap().lines.len(), 2);
    }
}
