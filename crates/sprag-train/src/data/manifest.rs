//! `manifest.json`: where the text came from, what was done to it and what came out.
//!
//! It holds no time and no path of the machine, so that equal inputs give equal manifests.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::DataError;
use super::prepared::Split;

/// Version of the manifest's layout.
pub const MANIFEST_FORMAT: u32 = 1;
/// Its name in the data folder.
pub const MANIFEST_NAME: &str = "manifest.json";
/// The tokenizer's name in the data folder.
pub const TOKENIZER_NAME: &str = "tokenizer.json";

/// All that is known about a data folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// `MANIFEST_FORMAT`.
    pub format: u32,
    /// Where the text came from.
    pub source: SourceFacts,
    /// The text after cleaning.
    pub corpus: CorpusFacts,
    /// The vocabulary.
    pub tokenizer: TokenizerFacts,
    /// The three token files.
    pub splits: BTreeMap<Split, SplitFacts>,
}

/// Where the text came from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SourceFacts {
    /// `cargo`, `dir`, `parquet` or `hf`.
    pub kind: String,
    /// What was asked for, as on the command line but without machine paths.
    pub name: String,
    /// Commit of a repository, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// The packages, folders or shards, in order. None is in two splits, except `parquet` files (see `split_by`).
    pub parts: Vec<Part>,
    /// What decides the split of a document: `package`, `file`, `shard` or `text`.
    pub split_by: String,
}

/// A package, file or shard.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// Its name.
    pub name: String,
    /// Versions, for packages.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub versions: Vec<String>,
    /// The split it went to; none where its documents went to all three.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<Split>,
    /// Documents kept.
    pub documents: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// The text after cleaning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CorpusFacts {
    /// SHA-256 over every document in order: split, length and text.
    pub sha256: String,
    /// Documents before cleaning.
    pub raw_documents: u64,
    /// Bytes before cleaning.
    pub raw_bytes: u64,
    /// Documents kept.
    pub documents: u64,
    /// Bytes kept.
    pub bytes: u64,
    /// What cleaning left out, by reason.
    pub dropped: BTreeMap<String, Dropped>,
}

/// What cleaning left out for one reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Dropped {
    /// Documents.
    pub documents: u64,
    /// Bytes.
    pub bytes: u64,
}

/// The vocabulary.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenizerFacts {
    /// SHA-256 of `tokenizer.json`.
    pub sha256: String,
    /// Number of token ids, specials included.
    pub vocab_size: u32,
    /// Id that begins each document.
    pub bos: u32,
    /// Ids that stand for no bytes.
    pub specials: Vec<u32>,
    /// Bytes of the train split the merges were learnt from.
    pub trained_on_bytes: u64,
    /// True when that is a sample of the train split and not all of it.
    pub sampled: bool,
}

/// One token file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SplitFacts {
    /// SHA-256 of the file.
    pub sha256: String,
    /// Documents.
    pub documents: u64,
    /// Bytes of their text.
    pub bytes: u64,
    /// Token ids in the file, one BOS a document included.
    pub tokens: u64,
    /// Bytes of text per token, BOS excluded.
    pub bytes_per_token: f64,
}

impl Manifest {
    /// Reads the manifest of a data folder.
    pub fn read(dir: &Path) -> Result<Manifest, DataError> {
        let path = dir.join(MANIFEST_NAME);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(DataError::NotPrepared(dir.to_owned()));
            }
            Err(error) => return Err(DataError::io("read", &path)(error)),
        };
        /// The part that every version has.
        #[derive(Deserialize)]
        struct Versioned {
            format: u32,
        }
        let broken = |error: serde_json::Error| DataError::format(&path, error.to_string());
        let Versioned { format } = serde_json::from_str(&text).map_err(broken)?;
        if format != MANIFEST_FORMAT {
            let problem = format!("its format is {format}, and this program reads {MANIFEST_FORMAT}");
            return Err(DataError::format(&path, problem));
        }
        let manifest: Manifest = serde_json::from_str(&text).map_err(broken)?;
        match Split::ALL.into_iter().find(|split| !manifest.splits.contains_key(split)) {
            Some(split) => Err(DataError::format(&path, format!("it does not describe {split}.bin"))),
            None => Ok(manifest),
        }
    }
}
