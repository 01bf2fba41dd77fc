//! The text a task trains on, as tokens on disk, and the batches drawn from it.
//!
//! Always here, and light because the evaluator and every candidate's build carry it: the manifest, the token
//! files, the vocabulary's byte lengths and the loader. Behind the feature `prepare`: where text comes from,
//! cleaning, tokenizer training and writing. The formats are described in `docs/data-format.md`.

mod error;
mod loader;
mod manifest;
mod permutation;
#[cfg(feature = "prepare")]
mod prepare;
mod prepared;
mod token_file;
mod vocabulary;

pub use error::DataError;
pub use loader::Loader;
pub use manifest::{
    CorpusFacts, Dropped, MANIFEST_FORMAT, MANIFEST_NAME, Manifest, Part, SourceFacts, SplitFacts,
    TOKENIZER_NAME, TokenizerFacts,
};
#[cfg(feature = "prepare")]
pub use prepare::{
    CorpusRoot, DEFAULT_REPO, DEFAULT_VOCAB_SIZE, PrepareOptions, PrepareProgress, Source, SourceName, Stage,
    cargo_corpus_manifest, cargo_metadata_arguments, cargo_tree_arguments, cargo_tree_packages, prepare,
};
pub use prepared::{Prepared, Split};
pub use token_file::{TOKEN_FILE_VERSION, TokenFile, TokenFileWriter, Tokens};
pub use vocabulary::Vocabulary;
