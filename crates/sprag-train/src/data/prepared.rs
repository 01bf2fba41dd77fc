//! An opened data folder: the one door for those who read prepared data.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::manifest::{Manifest, TOKENIZER_NAME};
use super::token_file::{TokenFile, sha256_of_file};
use super::{DataError, Vocabulary};

/// The three parts of the text; no package, file or shard is in two of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// Served to candidates.
    Train,
    /// Scores every trial.
    Val,
    /// Sealed: looked at only to check a finished run.
    Holdout,
}

impl Split {
    /// All of them.
    pub const ALL: [Split; 3] = [Split::Train, Split::Val, Split::Holdout];

    /// Name of its token file.
    pub fn file_name(self) -> String {
        format!("{self}.bin")
    }
}

impl fmt::Display for Split {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Split::Train => "train",
            Split::Val => "val",
            Split::Holdout => "holdout",
        })
    }
}

/// An opened data folder.
#[derive(Clone, Debug)]
pub struct Prepared {
    dir: PathBuf,
    manifest: Manifest,
    vocabulary: Vocabulary,
}

impl Prepared {
    /// Opens a folder made by `sprag data prepare`; token files are opened when asked for.
    pub fn open(dir: &Path) -> Result<Prepared, DataError> {
        let manifest = Manifest::read(dir)?;
        let path = dir.join(TOKENIZER_NAME);
        let vocabulary = Vocabulary::read(&path)?;
        if vocabulary.size() != manifest.tokenizer.vocab_size {
            let problem = format!(
                "it has {} ids, and the manifest says {}",
                vocabulary.size(),
                manifest.tokenizer.vocab_size
            );
            return Err(DataError::format(&path, problem));
        }
        let bos = manifest.tokenizer.bos;
        if !vocabulary.is_special(bos) {
            return Err(DataError::format(&path, format!("the manifest's BOS, {bos}, is not special in it")));
        }
        Ok(Prepared { dir: dir.to_owned(), manifest, vocabulary })
    }

    /// Number of token ids, specials included.
    pub fn vocab_size(&self) -> u32 {
        self.vocabulary.size()
    }

    /// Id that begins each document.
    pub fn bos(&self) -> u32 {
        self.manifest.tokenizer.bos
    }

    /// Raw bytes that each token id stands for; 0 for specials.
    pub fn byte_lengths(&self) -> &[u32] {
        self.vocabulary.byte_lengths()
    }

    /// Whether an id stands for no bytes.
    pub fn is_special(&self, id: u32) -> bool {
        self.vocabulary.is_special(id)
    }

    /// The vocabulary, for showing tokens.
    pub fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    /// What is known about the folder.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Opens the tokens of one split, after checking that they belong to this manifest.
    pub fn split(&self, split: Split) -> Result<TokenFile, DataError> {
        let path = self.dir.join(split.file_name());
        let file = TokenFile::open(&path)?;
        let facts = &self.manifest.splits[&split];
        let expected = (self.vocab_size(), self.bos(), facts.tokens, facts.documents);
        let found = (file.vocab_size(), file.bos(), file.token_count(), file.document_count());
        if found != expected {
            let problem = format!(
                "(vocabulary, BOS, tokens, documents) is {found:?}, and the manifest says {expected:?}"
            );
            return Err(DataError::format(&path, problem));
        }
        Ok(file)
    }

    /// Reads everything and compares it with the hashes of the manifest. After this, and only after this, every
    /// id in the files is known to be what `prepare` wrote.
    pub fn verify(&self) -> Result<(), DataError> {
        let files = Split::ALL
            .map(|split| (split.file_name(), self.manifest.splits[&split].sha256.clone()))
            .into_iter()
            .chain([(TOKENIZER_NAME.to_owned(), self.manifest.tokenizer.sha256.clone())]);
        for (name, expected) in files {
            let path = self.dir.join(name);
            let found = sha256_of_file(&path)?;
            if found != expected {
                let problem = format!("its SHA-256 is {found}, and the manifest says {expected}");
                return Err(DataError::format(&path, problem));
            }
        }
        Ok(())
    }
}
