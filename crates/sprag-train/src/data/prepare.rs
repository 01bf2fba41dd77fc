//! From text to a data folder: source, cleaning, tokenizer, token files, manifest.
//!
//! Reads and writes files and, for `hf:`, talks to one server. Starts no process: what `cargo metadata` prints is
//! given as a value. Shows nothing: progress goes to a function of the caller.

mod cleaning;
mod corpus;
mod corpus_manifest;
mod duplicates;
mod folder;
mod hub;
mod packages;
mod shards;
mod shares;
mod source;
mod tokenizer;
mod transfer;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use self::corpus::{Corpus, Text};
use self::tokenizer::{SPECIALS, Trained, WordCounts};
use super::manifest::{CorpusFacts, SplitFacts, TokenizerFacts};
use super::token_file::{hexadecimal, partial_path};
use super::{
    DataError, MANIFEST_FORMAT, MANIFEST_NAME, Manifest, Split, TOKENIZER_NAME, TokenFileWriter, Vocabulary,
};

pub use self::corpus_manifest::{
    CorpusRoot, cargo_corpus_manifest, cargo_metadata_arguments, cargo_tree_arguments, cargo_tree_packages,
};
pub use self::source::{DEFAULT_REPO, Source, SourceName};

/// Token ids of a vocabulary when nothing else is said.
pub const DEFAULT_VOCAB_SIZE: u32 = 4096;

/// Bytes of the train split that merges are learnt from at most.
const SAMPLE_BYTES: u64 = 32 << 20;

/// What to prepare and where.
#[derive(Clone, Debug)]
pub struct PrepareOptions {
    /// Where the text comes from.
    pub source: Source,
    /// The data folder; made if it is not there.
    pub out: PathBuf,
    /// Token ids wanted, four specials included: 260 to 65 536. 256 stands for "bytes alone", which has 260.
    pub vocab_size: u32,
    /// At most this much text is used.
    pub max_bytes: Option<u64>,
    /// Where downloaded shards are kept.
    pub downloads: PathBuf,
    /// Proxy for downloads, such as `http://host:port`.
    pub proxy: Option<String>,
    /// Hosts that are reached without it, as in `NO_PROXY`: names or addresses with commas between them.
    pub no_proxy: Option<String>,
}

impl PrepareOptions {
    /// The usual options: 4096 token ids, all text, downloads kept in `shards` inside the data folder.
    pub fn new(source: Source, out: PathBuf) -> PrepareOptions {
        let downloads = out.join("shards");
        PrepareOptions {
            source,
            out,
            vocab_size: DEFAULT_VOCAB_SIZE,
            max_bytes: None,
            downloads,
            proxy: None,
            no_proxy: None,
        }
    }
}

/// A part of the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Fetching shards.
    Download,
    /// Reading and cleaning files.
    Clean,
    /// Learning the tokenizer's merges.
    Tokenizer,
    /// Turning text into tokens.
    Encode,
}

impl fmt::Display for Stage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Stage::Download => "download",
            Stage::Clean => "clean",
            Stage::Tokenizer => "tokenizer",
            Stage::Encode => "encode",
        })
    }
}

/// How far a stage is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PrepareProgress {
    /// Which stage.
    pub stage: Stage,
    /// Units done.
    pub done: u64,
    /// Units in all, as far as known.
    pub total: u64,
    /// What is counted: `packages`, `files` or `bytes`.
    pub unit: &'static str,
}

/// Tells the caller how far the work is.
pub(crate) type OnProgress<'a> = &'a mut dyn FnMut(PrepareProgress);

/// Makes a data folder. Until it succeeds, the folder has no manifest, so nobody can take half of it for all.
pub fn prepare(options: &PrepareOptions, on_progress: OnProgress<'_>) -> Result<Manifest, DataError> {
    let vocab_size = tokenizer::checked_vocab_size(options.vocab_size)?;
    fs::create_dir_all(&options.out).map_err(DataError::io("create", &options.out))?;
    let _lock = lock(&options.out)?;
    let corpus = Corpus::gather(options, on_progress)?;
    let trained = train_tokenizer(&corpus, vocab_size, on_progress)?;
    write_folder(&options.out, corpus, &trained, on_progress)
}

/// Keeps other preparations out of a folder until the file is dropped: two would write the same partial files.
fn lock(out: &Path) -> Result<File, DataError> {
    let folder = File::open(out).map_err(DataError::io("open", out))?;
    match folder.try_lock() {
        Ok(()) => Ok(folder),
        Err(TryLockError::WouldBlock) => Err(DataError::Busy(out.to_owned())),
        Err(TryLockError::Error(error)) => Err(DataError::io("lock", out)(error)),
    }
}

fn train_tokenizer(
    corpus: &Corpus,
    vocab_size: u32,
    on_progress: OnProgress<'_>,
) -> Result<Trained, DataError> {
    let total = corpus.bytes().min(SAMPLE_BYTES);
    let mut words = WordCounts::default();
    let mut report = |done: u64| {
        on_progress(PrepareProgress { stage: Stage::Tokenizer, done: done.min(total), total, unit: "bytes" });
    };
    report(0);
    let all = corpus.visit_sample(SAMPLE_BYTES, &mut |texts| {
        words.add(&texts)?;
        report(words.bytes());
        Ok(())
    })?;
    let trained = Trained::learn(&words, vocab_size, !all)?;
    report(total);
    Ok(trained)
}

/// Running totals of one split.
#[derive(Default)]
struct Counts {
    documents: u64,
    bytes: u64,
}

fn write_folder(
    out: &Path,
    corpus: Corpus,
    trained: &Trained,
    on_progress: OnProgress<'_>,
) -> Result<Manifest, DataError> {
    let vocabulary = Vocabulary::parse(trained.json()).map_err(DataError::Tokenizer)?;
    let create = |split: Split| {
        TokenFileWriter::create(&out.join(split.file_name()), vocabulary.size(), tokenizer::BOS)
    };
    let mut writers = [create(Split::Train)?, create(Split::Val)?, create(Split::Holdout)?];
    let mut counts: BTreeMap<Split, Counts> = BTreeMap::new();
    let mut hasher = Sha256::new();
    let (mut done, total) = (0, corpus.bytes());
    let facts = corpus.visit(&mut |texts| {
        let encoded: Result<Vec<Vec<u32>>, _> =
            texts.par_iter().map(|text| trained.encode(&text.text)).collect();
        for (Text { split, text }, ids) in texts.iter().zip(encoded?) {
            check_lengths(&vocabulary, text, &ids)?;
            let bytes = text.len() as u64;
            hasher.update([*split as u8]);
            hasher.update(bytes.to_le_bytes());
            hasher.update(text);
            writers[*split as usize].document(&ids)?;
            let count = counts.entry(*split).or_default();
            count.documents += 1;
            count.bytes += bytes;
            done += bytes;
        }
        on_progress(PrepareProgress { stage: Stage::Encode, done, total: total.max(done), unit: "bytes" });
        Ok(())
    })?;
    let (documents, bytes) =
        counts.values().fold((0, 0), |sum, count| (sum.0 + count.documents, sum.1 + count.bytes));
    if counts.len() < Split::ALL.len() {
        return Err(DataError::TooLittle { documents, bytes });
    }

    let mut splits = BTreeMap::new();
    for (split, writer) in Split::ALL.into_iter().zip(&mut writers) {
        let count = &counts[&split];
        let tokens = writer.token_count();
        let facts = SplitFacts {
            documents: count.documents,
            bytes: count.bytes,
            tokens,
            bytes_per_token: count.bytes as f64 / (tokens - count.documents) as f64,
            sha256: writer.complete()?,
        };
        splits.insert(split, facts);
    }
    let manifest = Manifest {
        format: MANIFEST_FORMAT,
        source: facts.source,
        corpus: CorpusFacts {
            sha256: hexadecimal(&hasher.finalize()),
            raw_documents: facts.raw_documents,
            raw_bytes: facts.raw_bytes,
            documents,
            bytes,
            dropped: facts.dropped,
        },
        tokenizer: TokenizerFacts {
            sha256: hexadecimal(&Sha256::digest(trained.json())),
            vocab_size: vocabulary.size(),
            bos: tokenizer::BOS,
            specials: (0..SPECIALS.len() as u32).collect(),
            trained_on_bytes: trained.bytes(),
            sampled: trained.sampled(),
        },
        splits,
    };
    let json = serde_json::to_string_pretty(&manifest)
        .map_err(|error| DataError::format(&out.join(MANIFEST_NAME), error.to_string()))?;
    publish(out, writers, trained.json(), &format!("{json}\n"))?;
    Ok(manifest)
}

/// Bits per byte stand on this sum, so it is checked for every document and not only in tests.
fn check_lengths(vocabulary: &Vocabulary, text: &str, ids: &[u32]) -> Result<(), DataError> {
    let lengths = vocabulary.byte_lengths();
    let sum: u64 = ids.iter().map(|&id| u64::from(lengths[id as usize])).sum();
    if sum == text.len() as u64 {
        return Ok(());
    }
    Err(DataError::Tokenizer(format!("a document of {} bytes came out as tokens of {sum} bytes", text.len())))
}

/// Gives all files their names. What can fail for lack of space is done before the old manifest is removed.
fn publish(
    out: &Path,
    writers: [TokenFileWriter; 3],
    tokenizer: &str,
    manifest: &str,
) -> Result<(), DataError> {
    let tokenizer = Staged::write(&out.join(TOKENIZER_NAME), tokenizer)?;
    let path = out.join(MANIFEST_NAME);
    let manifest = Staged::write(&path, manifest)?;
    match fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(DataError::io("replace", &path)(error));
        }
        _ => {}
    }
    for writer in writers {
        writer.publish()?;
    }
    tokenizer.publish()?;
    manifest.publish()
}

/// A small file that is written and durable, under another name.
struct Staged {
    path: PathBuf,
}

impl Staged {
    fn write(path: &Path, text: &str) -> Result<Staged, DataError> {
        let staged = Staged { path: path.to_owned() };
        let write = || {
            let mut file = File::create(partial_path(path))?;
            file.write_all(text.as_bytes())?;
            file.sync_all()
        };
        write().map_err(DataError::io("write", path))?;
        Ok(staged)
    }

    fn publish(self) -> Result<(), DataError> {
        fs::rename(partial_path(&self.path), &self.path).map_err(DataError::io("write", &self.path))
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // There is nothing under this name after `publish`.
        let _ = fs::remove_file(partial_path(&self.path));
    }
}

#[cfg(test)]
mod tests;
