//! Where text can come from, and how a person names it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::str::FromStr;

use crate::data::DataError;

/// The dataset that `hf` alone stands for: web text, already shuffled, as used by nanochat and autoresearch.
pub const DEFAULT_REPO: &str = "karpathy/climbmix-400b-shuffle";

/// A source, with all that is needed to read it.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// The packages this program is built from.
    Cargo {
        /// What `cargo metadata` printed for the manifest of `cargo_corpus_manifest`.
        metadata_json: String,
        /// Names of the packages that candidates link, for whatever device. Their builds can read them, so they are
        /// trained on, never scored on.
        linked: BTreeSet<String>,
    },
    /// A folder of text files.
    Dir(PathBuf),
    /// A parquet file, or a folder of them, with a column `text`.
    Parquet(PathBuf),
    /// A dataset on a Hugging Face hub.
    Hf {
        /// `OWNER/NAME`.
        repo: String,
        /// Shards to train on; 4 when not given.
        shards: Option<u32>,
        /// The hub, such as `https://huggingface.co`.
        endpoint: String,
    },
}

/// A source as named on the command line: `cargo`, `dir:PATH`, `parquet:PATH` or `hf[:OWNER/NAME[:N shards]]`.
#[derive(Clone, Debug, PartialEq)]
pub enum SourceName {
    /// The packages this program is built from.
    Cargo,
    /// A folder of text files.
    Dir(PathBuf),
    /// A parquet file, or a folder of them.
    Parquet(PathBuf),
    /// A dataset on a Hugging Face hub.
    Hf {
        /// `OWNER/NAME`.
        repo: String,
        /// Shards to train on.
        shards: Option<u32>,
    },
}

impl FromStr for SourceName {
    type Err = DataError;

    fn from_str(name: &str) -> Result<SourceName, DataError> {
        let (kind, rest) = match name.split_once(':') {
            Some((kind, rest)) => (kind, Some(rest)),
            None => (name, None),
        };
        match (kind, rest) {
            ("cargo", None) => Ok(SourceName::Cargo),
            ("dir", Some(path)) if !path.is_empty() => Ok(SourceName::Dir(path.into())),
            ("parquet", Some(path)) if !path.is_empty() => Ok(SourceName::Parquet(path.into())),
            ("hf", None) => Ok(SourceName::Hf { repo: DEFAULT_REPO.to_owned(), shards: None }),
            ("hf", Some(rest)) => repository(name, rest),
            _ => Err(unknown(name)),
        }
    }
}

fn repository(name: &str, rest: &str) -> Result<SourceName, DataError> {
    let (repo, shards) = match rest.split_once(':') {
        None => (rest, None),
        Some((repo, shards)) => {
            let number = shards.trim_end_matches("shards").trim_end_matches("shard").trim();
            let shards = number.parse().ok().filter(|&shards| shards > 0).ok_or_else(|| unknown(name))?;
            (repo, Some(shards))
        }
    };
    let is_name = |part: &str| {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        !part.is_empty() && !part.starts_with('.') && part.bytes().all(known)
    };
    match repo.split_once('/') {
        Some((owner, name)) if is_name(owner) && is_name(name) => {
            Ok(SourceName::Hf { repo: repo.to_owned(), shards })
        }
        _ => Err(unknown(name)),
    }
}

fn unknown(name: &str) -> DataError {
    DataError::Option(format!(
        "`{name}` is not a source; write cargo, dir:PATH, parquet:PATH or hf:OWNER/NAME[:N shards]"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hf(repo: &str, shards: Option<u32>) -> SourceName {
        SourceName::Hf { repo: repo.to_owned(), shards }
    }

    #[test]
    fn every_form_is_understood() {
        for (text, expected) in [
            ("cargo", SourceName::Cargo),
            ("dir:a/b:c", SourceName::Dir("a/b:c".into())),
            ("parquet:x.parquet", SourceName::Parquet("x.parquet".into())),
            ("hf", hf(DEFAULT_REPO, None)),
            ("hf:a/b", hf("a/b", None)),
            ("hf:a/b:3", hf("a/b", Some(3))),
            ("hf:a/b:3 shards", hf("a/b", Some(3))),
            ("hf:a/b:1 shard", hf("a/b", Some(1))),
        ] {
            assert_eq!(text.parse::<SourceName>().unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused_with_the_forms() {
        for text in [
            "",
            "cargo:x",
            "dir",
            "dir:",
            "hf:",
            "hf:name",
            "hf:a/b:0",
            "hf:a/b:many",
            "hf:a/../b",
            "hf:../b",
            "s3:x",
        ] {
            let error = text.parse::<SourceName>().unwrap_err().to_string();
            assert!(error.contains("dir:PATH"), "{text}: {error}");
        }
    }
}
