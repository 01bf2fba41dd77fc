//! What can go wrong with data, with the cause and the next step.

use std::io;
use std::path::{Path, PathBuf};

/// Data could not be prepared, opened or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// The file system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A file that is not what its name promises.
    #[error("{} is not valid: {problem}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A folder without prepared data.
    #[error("{} holds no prepared data (no manifest.json)", .0.display())]
    NotPrepared(PathBuf),
    /// Somebody else prepares data into the same folder.
    #[error("another preparation writes to {}", .0.display())]
    Busy(PathBuf),
    /// An option that cannot be honoured.
    #[error("{0}")]
    Option(String),
    /// `cargo metadata` said something unexpected.
    #[error("cannot read what `cargo metadata` printed: {0}")]
    CargoMetadata(String),
    /// Sources of packages are not on this machine.
    #[error("the sources of {} package(s) are missing, among them {}", missing.len(), missing.iter().take(3).cloned().collect::<Vec<_>>().join(", "))]
    MissingPackages {
        /// Names with versions.
        missing: Vec<String>,
    },
    /// Too little text is left to make three splits of.
    #[error(
        "only {documents} document(s) of {bytes} bytes are left after cleaning, too few to split three ways"
    )]
    TooLittle {
        /// Documents left.
        documents: u64,
        /// Their bytes.
        bytes: u64,
    },
    /// The tokenizer could not be trained or used.
    #[error("the tokenizer failed: {0}")]
    Tokenizer(String),
    /// A transfer that will not succeed by trying again.
    #[error("cannot download {url}: {problem}")]
    Download {
        /// What was asked for.
        url: String,
        /// Why it failed.
        problem: String,
        /// True when the server said that it does not exist or is not for everyone.
        refused: bool,
    },
}

impl DataError {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DataError {
        move |source| DataError::Io { action, path: path.to_owned(), source }
    }

    pub(crate) fn format(path: &Path, problem: impl Into<String>) -> DataError {
        DataError::Format { path: path.to_owned(), problem: problem.into() }
    }

    /// What to do about it, where that is known.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            DataError::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                Some("free some space, or choose another folder with `--out`, and run the same command again")
            }
            DataError::Io { .. } | DataError::Option(_) | DataError::CargoMetadata(_) => None,
            DataError::Format { .. } => Some("prepare the data again with `sprag data prepare`"),
            DataError::NotPrepared(_) => Some("make it with `sprag data prepare --out <that folder>`"),
            DataError::Busy(_) => Some("wait until it is done, or choose another folder with `--out`"),
            DataError::MissingPackages { .. } => {
                Some("run `cargo fetch` in Sprag's own folder (it needs the network once), then try again")
            }
            DataError::TooLittle { .. } => Some("give a larger source"),
            DataError::Tokenizer(_) => Some("try another `--vocab-size`"),
            DataError::Download { refused: true, .. } => {
                Some("check the repository's name, and `HF_ENDPOINT` if you set it")
            }
            DataError::Download { .. } => {
                Some("run the same command again: what has arrived is kept and the transfer resumes")
            }
        }
    }
}
