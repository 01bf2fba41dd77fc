//! `train.bin`, `val.bin`, `holdout.bin`: a header, token ids, and where each document starts.
//!
//! The layout is in `docs/data-format.md`. Readers map the file, so opening costs nothing and several processes
//! share one copy. A file is never changed after it has its name: writers make a new one and rename it.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::Mmap;
use sha2::{Digest, Sha256};

use super::DataError;

/// Version of the layout.
pub const TOKEN_FILE_VERSION: u32 = 1;

const MAGIC: [u8; 8] = *b"SPRAGTOK";
const HEADER_BYTES: usize = 64;
const START_BYTES: usize = 8;

/// The first 64 bytes, little-endian.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Header {
    bytes_per_token: u32,
    vocab_size: u32,
    bos: u32,
    tokens: u64,
    documents: u64,
}

impl Header {
    fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        let words = [TOKEN_FILE_VERSION, self.bytes_per_token, self.vocab_size, self.bos];
        for (at, word) in words.into_iter().enumerate() {
            bytes[8 + 4 * at..12 + 4 * at].copy_from_slice(&word.to_le_bytes());
        }
        bytes[24..32].copy_from_slice(&self.tokens.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.documents.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Header, String> {
        let header = bytes
            .first_chunk::<HEADER_BYTES>()
            .ok_or_else(|| format!("it ends after {} bytes, inside the header", bytes.len()))?;
        if header[..8] != MAGIC {
            return Err("it does not begin with SPRAGTOK".to_owned());
        }
        let word =
            |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
        if word(8) != TOKEN_FILE_VERSION {
            return Err(format!("its version is {}, and this program reads {TOKEN_FILE_VERSION}", word(8)));
        }
        let header = Header {
            bytes_per_token: word(12),
            vocab_size: word(16),
            bos: word(20),
            tokens: long(24),
            documents: long(32),
        };
        if !matches!(header.bytes_per_token, 2 | 4) {
            return Err(format!(
                "its tokens have {} bytes, and only 2 or 4 are known",
                header.bytes_per_token
            ));
        }
        if header.bos >= header.vocab_size {
            return Err(format!("its BOS {} is outside its vocabulary of {}", header.bos, header.vocab_size));
        }
        Ok(header)
    }

    /// Where the token ids lie, if such a file can exist at all.
    fn tokens_range(&self) -> Option<Range<usize>> {
        let bytes = self.tokens.checked_mul(u64::from(self.bytes_per_token))?;
        Some(HEADER_BYTES..HEADER_BYTES.checked_add(usize::try_from(bytes).ok()?)?)
    }

    /// Length of the whole file.
    fn file_bytes(&self) -> Option<usize> {
        let starts = usize::try_from(self.documents).ok()?.checked_mul(START_BYTES)?;
        self.tokens_range()?.end.checked_add(starts)
    }
}

/// A mapped token file; clones share the mapping.
#[derive(Clone, Debug)]
pub struct TokenFile {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    map: Mmap,
    header: Header,
    tokens: Range<usize>,
}

impl TokenFile {
    /// Maps a file after checking its header, its length and its table of documents.
    pub fn open(path: &Path) -> Result<TokenFile, DataError> {
        let file = File::open(path).map_err(DataError::io("open", path))?;
        // SAFETY: the map is read-only, and files of a data folder are never written or shortened under their
        // final name (`TokenFileWriter` renames a finished file over an old one, which leaves the old inode as
        // it was). Someone who truncates the file by hand stops this process with SIGBUS, as documented.
        let map = unsafe { Mmap::map(&file) }.map_err(DataError::io("map", path))?;
        let header = Header::decode(&map).map_err(|problem| DataError::format(path, problem))?;
        let (Some(tokens), Some(bytes)) = (header.tokens_range(), header.file_bytes()) else {
            return Err(DataError::format(path, "its header promises more than any file can hold"));
        };
        if map.len() != bytes {
            let problem = format!("it has {} bytes, and its header promises {bytes}", map.len());
            return Err(DataError::format(path, problem));
        }
        let file = TokenFile { inner: Arc::new(Inner { map, header, tokens }) };
        file.check_documents().map_err(|problem| DataError::format(path, problem))?;
        Ok(file)
    }

    fn check_documents(&self) -> Result<(), String> {
        if self.document_count() == 0 {
            return Err("it holds no document".to_owned());
        }
        let mut expected_least = 0;
        for document in 0..self.document_count() {
            let start = self.start(document);
            // Every document is a BOS and at least one more token.
            if start < expected_least || start >= self.token_count() || (document == 0 && start != 0) {
                return Err(format!("document {document} cannot start at token {start}"));
            }
            expected_least = start + 2;
        }
        if self.token_count() < expected_least {
            return Err("its last document is empty".to_owned());
        }
        Ok(())
    }

    /// Token ids in the file, one BOS a document included.
    pub fn token_count(&self) -> u64 {
        self.inner.header.tokens
    }

    /// Documents in the file; at least one, and none is empty.
    pub fn document_count(&self) -> u64 {
        self.inner.header.documents
    }

    /// Number of token ids there are.
    pub fn vocab_size(&self) -> u32 {
        self.inner.header.vocab_size
    }

    /// Id that begins each document.
    pub fn bos(&self) -> u32 {
        self.inner.header.bos
    }

    /// All tokens.
    pub fn tokens(&self) -> Tokens<'_> {
        let bytes = &self.inner.map[self.inner.tokens.clone()];
        match self.inner.header.bytes_per_token {
            2 => Tokens::U16(bytes.as_chunks().0),
            _ => Tokens::U32(bytes.as_chunks().0),
        }
    }

    /// Where a document's BOS stands among the tokens; the token count for an index past the end.
    pub fn start(&self, document: u64) -> u64 {
        let table = self.inner.map[self.inner.tokens.end..].as_chunks::<START_BYTES>().0;
        let entry = usize::try_from(document).ok().and_then(|document| table.get(document));
        entry.map_or(self.token_count(), |entry| u64::from_le_bytes(*entry))
    }

    /// The tokens of one document, BOS first; empty for an index past the end.
    pub fn document(&self, document: u64) -> Tokens<'_> {
        self.tokens().slice(self.start(document), self.start(document.saturating_add(1)))
    }
}

/// A view of token ids, as stored.
#[derive(Clone, Copy, Debug)]
pub enum Tokens<'a> {
    /// Two bytes each.
    U16(&'a [[u8; 2]]),
    /// Four bytes each.
    U32(&'a [[u8; 4]]),
}

impl<'a> Tokens<'a> {
    /// Number of tokens.
    pub fn len(&self) -> usize {
        match self {
            Tokens::U16(ids) => ids.len(),
            Tokens::U32(ids) => ids.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The token at `index`, counted from 0.
    pub fn get(&self, index: usize) -> Option<u32> {
        match self {
            Tokens::U16(ids) => ids.get(index).map(|id| u32::from(u16::from_le_bytes(*id))),
            Tokens::U32(ids) => ids.get(index).map(|id| u32::from_le_bytes(*id)),
        }
    }

    /// The tokens from `start` to before `end`, as far as they exist.
    pub fn slice(&self, start: u64, end: u64) -> Tokens<'a> {
        let bound = |at: u64| usize::try_from(at).map_or(self.len(), |at| at.min(self.len()));
        let range = bound(start).min(bound(end))..bound(end);
        match self {
            Tokens::U16(ids) => Tokens::U16(&ids[range]),
            Tokens::U32(ids) => Tokens::U32(&ids[range]),
        }
    }

    /// All tokens, one by one.
    pub fn iter(&self) -> impl Iterator<Item = u32> + use<'a> {
        let tokens = *self;
        (0..tokens.len()).filter_map(move |index| tokens.get(index))
    }

    /// Appends all tokens to `ids`.
    pub fn extend(&self, ids: &mut Vec<u32>) {
        match self {
            Tokens::U16(from) => ids.extend(from.iter().map(|id| u32::from(u16::from_le_bytes(*id)))),
            Tokens::U32(from) => ids.extend(from.iter().map(|id| u32::from_le_bytes(*id))),
        }
    }
}

/// Writes a token file document by document. Nothing has the final name until `finish` succeeds.
#[derive(Debug)]
pub struct TokenFileWriter {
    path: PathBuf,
    partial: PathBuf,
    writer: BufWriter<File>,
    header: Header,
    starts: Vec<u64>,
    finished: bool,
}

impl TokenFileWriter {
    /// Starts the file that will be `path`.
    pub fn create(path: &Path, vocab_size: u32, bos: u32) -> Result<TokenFileWriter, DataError> {
        if bos >= vocab_size {
            return Err(DataError::Option(format!("BOS {bos} is outside a vocabulary of {vocab_size}")));
        }
        let bytes_per_token = if vocab_size <= 1 << 16 { 2 } else { 4 };
        let partial = partial_path(path);
        let file = File::create(&partial).map_err(DataError::io("create", &partial))?;
        let header = Header { bytes_per_token, vocab_size, bos, tokens: 0, documents: 0 };
        let mut writer = TokenFileWriter {
            path: path.to_owned(),
            partial,
            writer: BufWriter::with_capacity(1 << 18, file),
            header,
            starts: vec![],
            finished: false,
        };
        writer.write(&[0; HEADER_BYTES])?;
        Ok(writer)
    }

    /// Appends one document, without its BOS. An empty one is left out, because nothing can be learnt from it.
    pub fn document(&mut self, ids: &[u32]) -> Result<(), DataError> {
        if ids.is_empty() {
            return Ok(());
        }
        if let Some(id) = ids.iter().find(|&&id| id >= self.header.vocab_size) {
            let problem = format!("id {id} is outside a vocabulary of {}", self.header.vocab_size);
            return Err(DataError::Tokenizer(problem));
        }
        self.starts.push(self.header.tokens);
        self.header.tokens += 1 + ids.len() as u64;
        self.header.documents += 1;
        let all = std::iter::once(&self.header.bos).chain(ids);
        let bytes: Vec<u8> = match self.header.bytes_per_token {
            2 => all.flat_map(|id| (*id as u16).to_le_bytes()).collect(),
            _ => all.flat_map(|id| id.to_le_bytes()).collect(),
        };
        self.write(&bytes)
    }

    /// Tokens written so far, one BOS a document included.
    pub fn token_count(&self) -> u64 {
        self.header.tokens
    }

    /// Documents written so far.
    pub fn document_count(&self) -> u64 {
        self.header.documents
    }

    /// Completes the file, gives it its name and returns its SHA-256.
    pub fn finish(mut self) -> Result<String, DataError> {
        let sha256 = self.complete()?;
        self.publish()?;
        Ok(sha256)
    }

    /// Writes all that is missing, still under the other name, and returns the SHA-256.
    pub(crate) fn complete(&mut self) -> Result<String, DataError> {
        let starts: Vec<u8> = self.starts.iter().flat_map(|start| start.to_le_bytes()).collect();
        self.write(&starts)?;
        self.writer.seek(SeekFrom::Start(0)).map_err(DataError::io("write", &self.partial))?;
        let header = self.header.encode();
        self.write(&header)?;
        self.writer.flush().map_err(DataError::io("write", &self.partial))?;
        self.writer.get_ref().sync_all().map_err(DataError::io("write", &self.partial))?;
        sha256_of_file(&self.partial)
    }

    /// Gives a completed file its name.
    pub(crate) fn publish(mut self) -> Result<(), DataError> {
        std::fs::rename(&self.partial, &self.path).map_err(DataError::io("write", &self.path))?;
        self.finished = true;
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), DataError> {
        self.writer.write_all(bytes).map_err(DataError::io("write", &self.partial))
    }
}

impl Drop for TokenFileWriter {
    fn drop(&mut self) {
        if !self.finished {
            // What is left of a failed attempt only takes space, perhaps the space whose lack made it fail.
            let _ = std::fs::remove_file(&self.partial);
        }
    }
}

/// The name of a file that is not finished.
pub(crate) fn partial_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".partial");
    PathBuf::from(name)
}

/// SHA-256 of a file, in hexadecimal.
pub(crate) fn sha256_of_file(path: &Path) -> Result<String, DataError> {
    let mut file = File::open(path).map_err(DataError::io("open", path))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hexadecimal(&hasher.finalize())),
            Ok(read) => hasher.update(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(DataError::io("read", path)(error)),
        }
    }
}

/// Bytes as lower-case hexadecimal digits.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests;
